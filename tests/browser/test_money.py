"""The pages about money in a real browser: budgets and claims without scripts, and no fault of accessibility."""

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from service.cli.demo.stage import Stage
from tests.browser.chromium import LIMIT, Watched

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("browser")]
Visit = Callable[..., Watched]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
PAGES = ("/ui/money", "/ui/money?by=label&label=project&period=90d", "/ui/money/budgets", "/ui/money/claims?show=all")
expect.set_options(timeout=LIMIT)


def submit(stage: Stage, prompt: str) -> str:
    document = {"family": "suno", "operation": "music", "input": {"prompt": prompt}, "labels": {"project": "intro"}}
    answer = httpx.post(f"{stage.dovecote.url}/v1/tasks", json=document, timeout=30)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_budget_is_set_changed_and_removed_without_scripts(visit: Visit) -> None:
    page = visit(java_script_enabled=False).open("/ui/money/budgets")
    page.get_by_label("Name").fill("day-of-all")
    page.get_by_label("Limit").fill("12.50")
    page.get_by_label("Period").select_option("day")
    page.get_by_role("button", name="Set the budget").click()
    row = page.locator("tr", has_text="day-of-all")
    expect(row).to_contain_text("12.5 USD")
    row.get_by_role("link", name="Change").click()
    page.get_by_label("Limit").fill("20")
    page.get_by_role("button", name="Set the budget").click()
    expect(row).to_contain_text("20 USD")
    row.get_by_label("sure").check()
    row.get_by_role("button", name="Remove").click()
    expect(page.locator("tr", has_text="day-of-all")).to_have_count(0)


def test_failed_job_is_claimed_without_scripts(visit: Visit, stage: Stage) -> None:
    task = submit(stage, "[fail] no song")
    opened = visit(java_script_enabled=False)
    page = opened.open(f"/ui/tasks/{task}")
    while "Failed" not in page.locator("#where").inner_text():
        page.wait_for_timeout(200)
        page.reload()
    expect(page.locator("#money")).to_contain_text(re.compile("probably (charged|refunded)"))
    page = opened.open("/ui/money/claims?show=all")
    row = page.locator("tr", has=page.locator(f"a[href$='{task}']"))
    row.get_by_label("New state").select_option("filed")
    row.get_by_label("Note").fill("ticket 4711")
    row.get_by_role("button", name="Mark").click()
    expect(row).to_contain_text("ticket 4711")


@pytest.mark.parametrize("options", [{}, PHONE, {"color_scheme": "dark"}], ids=["desk", "phone", "dark"])
def test_no_page_about_money_has_a_fault_of_accessibility_or_overflows(
    visit: Visit, stage: Stage, options: dict[str, Any]
) -> None:
    submit(stage, "[fail] a song")
    document = {"limit": "900", "client": "*", "unpriced": "allow"}
    httpx.put(f"{stage.dovecote.url}/v1/budgets/each-client", json=document, timeout=30)
    opened = visit(**options)
    found = {}
    for path in PAGES:
        page = opened.open(path)
        results = Axe().run(page).response["violations"]
        found[path] = [
            (each["id"], each["nodes"][0]["html"][:120])
            for each in results
            if each["impact"] in {"serious", "critical"}
        ]
        width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert width <= 0, f"{path} is {width} px too wide"
    assert {path: faults for path, faults in found.items() if faults} == {}
