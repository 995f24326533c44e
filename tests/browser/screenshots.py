"""Write pictures of the main pages, with real tasks of the sandbox: ``make screenshots``."""

import sys
import tempfile
import time
from pathlib import Path

import httpx
from playwright.sync_api import Browser

from service.cli.demo.stage import Stage
from service.cli.processes import ProcessGroup
from tests.browser.chromium import CHROMIUM, launched

TASKS = (
    ("runway", "text_to_video", "a dove comes home at dusk, slow dolly in, film grain"),
    ("runway", "text_to_video", "the lighthouse keeper turns around and waves, wind in the coat [drop]"),
    ("kling", "text_to_video", "城市夜景，霓虹灯在雨中闪烁，镜头缓慢推进，一只白鸽飞过屋顶 [stuck]"),
    ("midjourney", "imagine", "watercolour fox in the snow, loose brushwork, white space"),
    ("midjourney", "imagine", "a paper boat on calm water [modal]"),
    ("suno", "music", "古い鳩小屋の歌、アコースティックギター、静かな夕暮れ"),
    ("runway", "text_to_video", "حمامة بيضاء تعود إلى برج الحمام عند الغروب، لقطة واسعة"),
    ("runway", "text_to_video", "two dancers in a mirror hall [refuse]"),
    ("runway", "text_to_video", "slow pan across a desert at noon, heat shimmer [fail]"),
    ("runway", "text_to_video", "drone shot over terraced rice fields, morning fog [twice]"),
    ("runway", "text_to_video", "a swarm of starlings over the harbour [moderate]"),
    ("runway", "text_to_video", "a train through autumn woods, seen from a hill [cut] [drop]"),
    ("runway", "text_to_video", '<b>hostile</b> "quotes" & a very long prompt ' * 12),
)
MANY = 490
"""Further tasks, for a list of several pages."""
LOOKS = {
    "light": {"viewport": {"width": 1440, "height": 1000}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1440, "height": 1000}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "has_touch": True},
}
MAX_HEIGHT = 2400
SETTLING = 400
"""Milliseconds for fonts and pictures."""

MAX_WAIT = 180_000
"""Milliseconds: the machine may be busy."""


def main(folder: str) -> None:
    """Write the pictures into a folder.

    :param folder: is created where it does not exist
    """
    if CHROMIUM is None:
        sys.exit("there is no Chromium here: apt-get install chromium")
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as files, ProcessGroup() as group, launched() as browser:
        stage = Stage(Path(files), seconds=4)
        stage.open(group)
        pages = {"first-start": "/ui/start", **_filled(stage)}
        for name, path in pages.items():
            _shoot(browser, stage.dovecote.url + path, name, target)
        _submit_many(stage)
        _shoot(browser, f"{stage.dovecote.url}/ui/tasks", "tasks-many", target)


def _filled(stage: Stage) -> dict[str, str]:
    """Submit tasks, wait for most of them, and return the pages by the name of their picture."""
    ids = []
    with httpx.Client(base_url=stage.dovecote.url, timeout=60) as client:
        budget = {"limit": "4000", "unit": "points", "period": "month", "unpriced": "allow"}
        client.put("/v1/budgets/studio-month", json=budget).raise_for_status()
        endpoint = {"url": f"{stage.receiver.url}/events", "events": ["task.succeeded", "task.failed"]}
        client.post("/v1/endpoints", json=endpoint).raise_for_status()
        for family, operation, prompt in TASKS:
            document = {
                "family": family, "operation": operation, "input": {"prompt": prompt}, "labels": {"project": "intro"},
                "callback_url": f"{stage.receiver.url}/done",
            }  # fmt: skip
            ids.append(client.post("/v1/tasks", json=document).json()["id"])
        while client.get(f"/v1/tasks/{ids[0]}").json()["state"] != "succeeded":
            time.sleep(0.2)
        time.sleep(4)  # results are fetched, messages are delivered
    return {
        "tasks": "/ui/tasks",
        "task": f"/ui/tasks/{ids[0]}",
        "task-lost-callback": f"/ui/tasks/{ids[1]}",
        "task-running": f"/ui/tasks/{ids[2]}",
        "task-follow-ups": f"/ui/tasks/{ids[3]}",
        "task-input": f"/ui/tasks/{ids[4]}",
        "task-failed": f"/ui/tasks/{ids[8]}",
        "task-unconfirmed": f"/ui/tasks/{ids[11]}",
        "tasks-none": "/ui/tasks?state=expired&family=veo",
        "submit": "/ui/submit?family=runway&operation=text_to_video",
        "callbacks": "/ui/callbacks",
        "upstreams": "/ui/upstreams",
        "webhooks": "/ui/webhooks",
        "ledger": "/ui/ledger",
        "money": "/ui/money?by=model",
        "budgets": "/ui/money/budgets",
        "claims": "/ui/money/claims?show=all",
        "error": "/ui/tasks/01a1fdfb-6590-78b2-9217-c49a4ce509c1",
    }


def _submit_many(stage: Stage) -> None:
    with httpx.Client(base_url=stage.dovecote.url, timeout=60) as client:
        for number in range(MANY):
            _, operation, prompt = TASKS[0]
            document = {"family": "kling", "operation": operation, "input": {"prompt": f"{prompt}, take {number}"}}
            client.post("/v1/tasks", json=document).raise_for_status()


def _shoot(browser: Browser, url: str, name: str, target: Path) -> None:
    for look, options in LOOKS.items():
        page = browser.new_page(**options)  # type: ignore[arg-type]
        page.set_default_timeout(MAX_WAIT)
        page.goto(url)
        page.wait_for_timeout(SETTLING)
        height = page.evaluate("document.documentElement.scrollHeight")
        page.set_viewport_size({**options["viewport"], "height": min(height, MAX_HEIGHT)})  # type: ignore[dict-item]
        page.screenshot(path=target / f"{name}-{look}.png")
        page.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "screenshots")
