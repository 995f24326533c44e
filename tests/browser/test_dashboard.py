"""The dashboard in a real browser: live, by keyboard, without scripts, in both themes, and for screen readers."""

import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from service.cli.demo.stage import Stage
from tests.browser.chromium import LIMIT, Watched

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("browser")]
Visit = Callable[..., Watched]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
expect.set_options(timeout=LIMIT)


def submit(stage: Stage, prompt: str, **more: Any) -> str:
    """Submit a task by the API, and return its id."""
    document = {"family": "runway", "operation": "text_to_video", "input": {"prompt": prompt}, **more}
    answer = httpx.post(f"{stage.dovecote.url}/v1/tasks", json=document, timeout=30)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def reload_until(page: Page, part: Locator, words: re.Pattern[str]) -> None:
    """Reload a page until a part of it has some words: no event of the task announces them."""
    end = time.monotonic() + LIMIT / 1000
    while words.search(part.inner_text()) is None:
        assert time.monotonic() < end, part.inner_text()
        page.wait_for_timeout(200)
        page.reload()


def state_of(page: Page) -> Any:
    return page.locator("#where .say b").first


def test_first_task_is_submitted_and_followed_to_its_result_without_a_reload(visit: Visit) -> None:
    page = visit().open("/ui/start")
    page.get_by_label("Prompt").fill("a dove comes home at dusk")
    page.get_by_role("button", name="Submit it").click()
    expect(page).to_have_url(re.compile(r"/ui/tasks/[0-9a-f-]{36}$"))
    expect(state_of(page)).to_have_text("Succeeded")
    expect(page.locator("#timeline")).to_contain_text("Submission 1 to elkapi")
    expect(page.locator("#result")).to_contain_text("video")
    reload_until(page, page.locator("#result"), re.compile("kept"))  # the copy is made after the end
    player = page.locator("#result video")
    expect(player).to_be_visible()
    player.evaluate("video => video.play()")
    page.wait_for_function("document.querySelector('#result video').currentTime > 0")


def test_list_shows_changes_and_announces_new_tasks_without_moving_rows(visit: Visit, stage: Stage) -> None:
    first = submit(stage, "[stuck] stays")
    page = visit().open("/ui/tasks")
    row = page.locator(f"#t-{first}")
    expect(row).to_contain_text("stays")
    submit(stage, "a newer one")
    expect(page.locator("#news")).to_contain_text("new task")
    expect(row).to_contain_text("running")
    page.locator("#news").click()
    expect(page.locator("tbody tr").first).to_contain_text("a newer one")


def test_many_changes_are_few_updates_and_rows_without_a_change_stay(visit: Visit, stage: Stage) -> None:
    ended = submit(stage, "has ended", labels={"burst": "1"})
    page = visit().open(f"/ui/tasks/{ended}")
    expect(state_of(page)).to_have_text("Succeeded")
    page.goto(f"{stage.dovecote.url}/ui/tasks?state=succeeded&label=burst=1")
    expect(page.locator("#live")).to_have_text("Live")
    page.evaluate(
        """() => {
            window.counted = {hints: 0, changed: 0};
            document.addEventListener("htmx:sseMessage", () => counted.hints++);
            new MutationObserver((records) => counted.changed += records.length).observe(
                document.querySelector("tbody"), {childList: true, subtree: true, characterData: true});
        }"""
    )
    changes = [submit(stage, f"burst {number}", labels={"burst": "1"}) for number in range(12)]
    expect(page.locator("#news")).to_contain_text("new task")
    expect(page.locator("#news")).to_contain_text(f"{len(changes)} new tasks")
    counted = page.evaluate("counted")
    assert 0 < counted["hints"] < len(changes) * 4, "each task changes at least four times"
    assert counted["changed"] == 0, "a row without a change was replaced"


def test_stream_that_goes_down_is_said_and_recovers(visit: Visit, stage: Stage) -> None:
    watched = visit()
    page = watched.open("/ui/tasks")
    expect(page.locator("#live")).to_have_text("Live")
    watched.page.context.set_offline(True)
    page.evaluate("document.querySelector('[sse-connect]')['htmx-internal-data'].sseEventSource.close()")
    page.evaluate(
        "document.querySelector('[sse-connect]')['htmx-internal-data'].sseEventSource.onerror(new Event('error'))"
    )
    expect(page.locator("#live")).to_contain_text("Paused, since")
    submit(stage, "meanwhile")
    watched.page.context.set_offline(False)
    expect(page.locator("#live")).to_have_text("Live")
    expect(page.locator("#news")).to_contain_text("new task")
    watched.complaints[:] = [
        each for each in watched.complaints if not re.search(r"INTERNET_DISCONNECTED|\[object Event\]", each)
    ]


def test_all_that_fit_are_cancelled_round_by_round_from_the_page(visit: Visit, stage: Stage) -> None:
    tasks = [submit(stage, f"[stuck] {number}", labels={"round": "1"}) for number in range(3)]
    page = visit().open("/ui/tasks?label=round=1")
    page.get_by_text("Act on all tasks that fit").click()
    page.get_by_role("link", name="Cancel…").click()
    expect(page.get_by_role("link", name="Leave them as they are")).to_be_focused()
    page.get_by_role("button", name="Cancel: 3 tasks").click()
    expect(page.locator("h1")).to_have_text("Cancel: 3 of 3 done")
    page.goto(f"{stage.dovecote.url}/ui/tasks/{tasks[0]}")
    expect(state_of(page)).to_have_text("Cancelled")


def test_lost_callback_is_explained(visit: Visit, stage: Stage) -> None:
    page = visit().open(f"/ui/tasks/{submit(stage, '[drop] nobody calls back')}")
    expect(state_of(page)).to_have_text("Succeeded")
    expect(page.locator("#where")).to_contain_text("found by a poll")
    expect(page.locator("#timeline")).to_contain_text("said succeeded")


def test_awaited_input_is_sent_from_the_page(visit: Visit, stage: Stage) -> None:
    task = submit(stage, "[modal] fox", family="midjourney", operation="imagine")
    page = visit().open(f"/ui/tasks/{task}")
    expect(state_of(page)).to_have_text("Awaiting input.")
    page.reload()
    page.get_by_label("prompt").fill("a fox in the snow")
    page.get_by_role("button", name="Send the input").click()
    expect(state_of(page)).to_have_text("Succeeded")


def test_cancel_asks_first_and_the_safe_answer_has_the_focus(visit: Visit, stage: Stage) -> None:
    page = visit().open(f"/ui/tasks/{submit(stage, '[stuck] waits')}")
    expect(state_of(page)).to_have_text("Running.")
    page.get_by_role("button", name="Cancel…").click()
    expect(page.get_by_role("button", name="Keep it as it is")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#ask-cancel")).to_be_hidden()
    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("button", name="Cancel the task").click()
    expect(state_of(page)).to_have_text("Cancelled")


def test_kind_of_item_is_hidden_by_its_tick(visit: Visit, stage: Stage) -> None:
    page = visit().open(f"/ui/tasks/{submit(stage, 'ticks')}")
    expect(state_of(page)).to_have_text("Succeeded")
    callback = page.locator(".ev-callback").first
    expect(callback).to_be_visible()
    page.get_by_label("Callbacks").uncheck()
    expect(callback).to_be_hidden()


def test_callback_is_run_again_and_message_is_replayed(visit: Visit, stage: Stage) -> None:
    task = submit(stage, "twice", callback_url=f"{stage.receiver.url}/done")
    page = visit().open(f"/ui/tasks/{task}")
    expect(page.locator("#timeline")).to_contain_text("delivered")
    page.locator(".ev-callback summary").last.click()
    page.locator(".ev-callback").last.get_by_role("button", name="Process again").click()
    reload_until(page, page.locator(".ev-callback").last, re.compile("duplicate|stale|ignored"))
    page.goto(f"{stage.dovecote.url}/ui/webhooks?q={task}")
    page.get_by_role("button", name="Replay", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("1 message is due now")


def test_upstream_is_paused_and_resumed_and_its_tasks_wait(visit: Visit, stage: Stage) -> None:
    page = visit().open("/ui/upstreams")
    box = page.locator("section.box", has=page.get_by_role("heading", name="elkapi", exact=True))
    box.get_by_role("button", name="Pause").click()
    expect(box).to_contain_text("Paused: tasks wait for it")
    task = submit(stage, "waits for its upstream")
    page.goto(f"{stage.dovecote.url}/ui/tasks/{task}")
    expect(page.locator("#where")).to_contain_text(re.compile("paused|held", re.IGNORECASE))
    page.goto(f"{stage.dovecote.url}/ui/upstreams")
    box.get_by_role("button", name="Resume").click()
    expect(box.get_by_role("button", name="Pause")).to_be_visible()
    page.goto(f"{stage.dovecote.url}/ui/tasks/{task}")
    expect(state_of(page)).to_have_text("Succeeded")


def test_task_is_found_opened_and_cancelled_by_keyboard_alone(visit: Visit, stage: Stage) -> None:
    task = submit(stage, "[stuck] by keyboard")
    page = visit().open("/ui/tasks")
    page.get_by_role("searchbox").focus()
    page.keyboard.type(task)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(task))
    expect(state_of(page)).to_have_text("Running.")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == "Cancel…":
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Keep it as it is")).to_be_focused()
    for _ in range(5):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == "Cancel the task":
            break
    page.keyboard.press("Enter")
    expect(state_of(page)).to_have_text("Cancelled")


def test_first_key_press_leads_to_the_content(visit: Visit) -> None:
    page = visit().open("/ui/submit")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#main$"))


def test_every_step_works_without_scripts(visit: Visit) -> None:
    page = visit(java_script_enabled=False).open("/ui/submit?family=runway&operation=text_to_video")
    page.get_by_label("prompt").first.fill("no scripts")
    page.get_by_role("button", name=re.compile("Submit: ")).click()
    expect(page.locator("h1")).to_have_text("Runway text_to_video")
    page.goto(page.url.replace("/tasks/", "/tasks?q="))
    expect(page.locator("h1")).to_have_text("Runway text_to_video")


def test_theme_follows_the_choice(visit: Visit) -> None:
    page = visit(color_scheme="light").open("/ui/tasks")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator(".me summary").click()
    page.get_by_label("Dark").check()
    page.get_by_role("button", name="Keep this theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


PAGES = (
    "/ui/start",
    "/ui/tasks",
    "/ui/tasks?view=attention",
    "/ui/submit",
    "/ui/callbacks",
    "/ui/upstreams",
    "/ui/webhooks",
    "/ui/webhooks/endpoints/new",
    "/ui/tasks/all?act=retry",
    "/ui/tasks?state=expired&family=veo",
    "/ui/ledger",
    "/ui/nothing",
)


@pytest.mark.parametrize("options", [{}, PHONE, {"color_scheme": "dark"}], ids=["desk", "phone", "dark"])
def test_no_page_has_a_fault_of_accessibility_or_overflows(visit: Visit, stage: Stage, options: dict[str, Any]) -> None:
    task = submit(stage, "a dove " * 40, labels={"project": "intro" * 20})
    opened = visit(**options)
    found = {}
    for path in (*PAGES, f"/ui/tasks/{task}"):
        page = opened.open(path)
        results = Axe().run(page).response["violations"]
        found[path] = [
            (each["id"], each["nodes"][0]["html"][:120])
            for each in results
            if each["impact"] in {"serious", "critical"}
        ]
        width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert width <= 0, f"{path} is {width} px too wide"
    opened.complaints[:] = [each for each in opened.complaints if "404" not in each]  # /ui/nothing
    assert {path: faults for path, faults in found.items() if faults} == {}
