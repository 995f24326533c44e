"""The API reference that sends requests, in a real browser: a key is entered, a request is sent, its answer is shown."""

import secrets
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from service.cli.demo.stage import Stage
from service.cli.processes import ProcessGroup
from tests.browser.chromium import LIMIT, Watched

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("browser")]
expect.set_options(timeout=LIMIT)
KEY = "dove_" + secrets.token_hex(24)
LOOKS = {"light": {}, "dark": {"color_scheme": "dark"}, "phone": {"viewport": {"width": 390, "height": 844}}}


@pytest.fixture(scope="module")
def stage(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("keyed"), seconds=1.0)
    stage.dovecote.environment = {**stage.dovecote.environment, "DOVECOTE_API_KEYS": f"studio={KEY}"}
    with ProcessGroup() as group:
        stage.open(group)
        yield stage


def authorize(page: Page, key: str) -> None:
    page.get_by_role("button", name="Authorize").first.click()
    page.locator(".auth-container input").fill(key)
    page.locator(".auth-btn-wrapper button[type=submit]").click()
    page.locator(".btn-done").click()


def send(page: Page, operation: str) -> str:
    """Send an operation's example, and return the answer that the page shows."""
    block = page.locator(f"#operations-{operation}")
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    block.locator(".execute").click()
    answer = block.locator(".live-responses-table")
    expect(answer).to_be_visible()
    return answer.inner_text()


def test_request_is_sent_with_the_key_that_was_entered(visit: Callable[..., Watched]) -> None:
    page = visit().open("/docs/try")
    authorize(page, KEY)
    submitted = send(page, "Tasks-submitTask")
    assert "202" in submitted
    assert '"family": "runway"' in submitted
    assert '"a dove comes home at dusk"' in send(page, "Tasks-listTasks")


def test_request_without_a_key_shows_the_refusal(browser: Browser, stage: Stage) -> None:
    watched = Watched(browser.new_context(), stage.dovecote.url)
    assert '"code": "unauthorized"' in send(watched.open("/docs/try"), "Tasks-listTasks")
    assert [each for each in watched.complaints if "status of 401" not in each] == []


def test_key_is_forgotten_when_the_page_is_reloaded(visit: Callable[..., Watched]) -> None:
    page = visit().open("/docs/try")
    authorize(page, KEY)
    stored = "() => JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    assert page.evaluate(stored) == '[{},{},""]'
    page.reload()
    expect(page.locator("button.authorize.unlocked")).to_be_visible()


@pytest.mark.parametrize("look", LOOKS)
def test_page_fits_its_screen(visit: Callable[..., Watched], look: str) -> None:
    page = visit(**LOOKS[look]).open("/docs/try")
    expect(page.locator(".opblock").first).to_be_visible()
    assert page.evaluate("() => document.documentElement.classList.contains('dark-mode')") == (look == "dark")
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")


def test_page_without_scripts_leads_to_the_other_reference(visit: Callable[..., Watched]) -> None:
    page = visit(java_script_enabled=False).open("/docs/try")
    page.locator("noscript a, .above a").first.click()
    expect(page.get_by_role("heading", name="Dovecote API")).to_be_visible()
