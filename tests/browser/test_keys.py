"""The dashboard with API keys in a real browser: sign-in, a read-only key, a session that ends with its key, hostile texts."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from service.cli.demo.stage import Stage
from service.cli.processes import ProcessGroup
from tests.browser.chromium import LIMIT, Watched

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("browser")]
Visit = Callable[..., Watched]
expect.set_options(timeout=LIMIT)
OPERATOR = "operator-key-that-is-long-enough"
HOSTILE = """</title></textarea></script><script>window.broken=1</script><img src=x onerror="window.broken=1">\u202e&quot;' """


@pytest.fixture(scope="module")
def stage(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("keyed"), seconds=1.0)
    keys = {"DOVECOTE_API_KEYS": f"ops={OPERATOR}", "DOVECOTE_OPERATORS": "ops"}
    stage.dovecote.environment = {**stage.dovecote.environment, **keys}
    with ProcessGroup() as group:
        stage.open(group)
        yield stage


def command(stage: Stage, *arguments: str) -> Any:
    """Run a command beside the server, as an operator does."""
    line = [sys.executable, "-m", "service.cli", *arguments, "--json"]
    done = subprocess.run(  # noqa: S603 - a command of ours
        line, env=dict(stage.dovecote.environment), cwd=stage.folder, check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def submit(stage: Stage, key: str, **more: Any) -> str:
    document = {"family": "runway", "operation": "text_to_video", "input": {"prompt": "a dove"}, **more}
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx.post(f"{stage.dovecote.url}/v1/tasks", json=document, headers=headers, timeout=60)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_read_only_key_sees_its_tasks_and_no_button(visit: Visit, stage: Stage) -> None:
    submitting = command(stage, "keys", "create", "shop")["key"]
    reading = command(stage, "keys", "create", "shop", "--scope", "read")["key"]
    task = submit(stage, submitting)
    page = visit().open(f"/ui/tasks/{task}")
    sign_in(page, reading)
    expect(page.locator("h1").first).to_have_text("Runway text_to_video")
    for path in (f"/ui/tasks/{task}", "/ui/tasks", "/ui/upstreams", "/ui/webhooks"):
        page.goto(stage.dovecote.url + path)
        names = page.locator("main button").all_inner_texts()
        assert [
            name for name in names if name.strip() not in {"Filter", "Find", "Show", "Save it in this browser"}
        ] == []
        expect(page.get_by_role("link", name="Submit a task")).to_have_count(0)


def test_session_ends_with_its_key_and_says_so(visit: Visit, stage: Stage) -> None:
    made = command(stage, "keys", "create", "studio")
    watched = visit()
    page = watched.open("/ui/tasks")
    sign_in(page, made["key"])
    expect(page).to_have_url(re.compile("/ui/(tasks|start)"))
    command(stage, "keys", "revoke", made["key"][:13])
    for _ in range(60):  # a process remembers a valid key for some seconds
        page.goto(f"{stage.dovecote.url}/ui/upstreams")
        if "/ui/sign-in" in page.url:
            break
        page.wait_for_timeout(500)
    expect(page).to_have_url(re.compile("/ui/sign-in"))
    expect(page.locator("main")).to_contain_text(re.compile("revoked", re.IGNORECASE))


def test_texts_of_others_run_no_code_on_any_page(visit: Visit, stage: Stage) -> None:
    client = command(stage, "keys", "create", "hostile")["key"]
    task = submit(
        stage,
        client,
        input={"prompt": f"{HOSTILE}[fail]"},
        labels={"project": HOSTILE[:60]},
        callback_url=f"{stage.receiver.url}/done",
    )
    watched = visit()
    page = watched.open("/ui/tasks")
    sign_in(page, OPERATOR)
    for path in (
        "/ui/tasks",
        f"/ui/tasks/{task}",
        "/ui/callbacks",
        "/ui/webhooks?client=hostile",
        "/ui/upstreams",
        "/ui/ledger",
        f"/ui/submit?copy={task}",
    ):
        page.goto(stage.dovecote.url + path)
        expect(page.locator("h1").first).to_be_visible()
        assert page.evaluate("window.broken") is None, path
        assert page.locator("img[src=x]").count() == 0, path
