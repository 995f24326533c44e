"""One browser and one Dovecote with a sandbox for all tests of a file.

Playwright's loop counts as running until the browser is closed, so that no test of another file may run meanwhile.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from service.cli.demo.stage import Stage
from service.cli.processes import ProcessGroup
from tests.browser.chromium import CHROMIUM, Watched, launched

SECONDS = 2.0
"""Duration of a job."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def stage(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("stage"), seconds=SECONDS)
    kept = {"DOVECOTE_STORAGE__URL": f"file://{stage.folder / 'kept'}"}
    stage.dovecote.environment = {**stage.dovecote.environment, **kept}
    with ProcessGroup() as group:
        stage.open(group)
        yield stage


@pytest.fixture
def visit(browser: Browser, stage: Stage) -> Iterator[Callable[..., Watched]]:
    """Open pages; at the end no page may have complained."""
    opened: list[Watched] = []
    contexts = []

    def open_one(**options: Any) -> Watched:
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 1000}, **options})
        contexts.append(context)
        opened.append(Watched(context, stage.dovecote.url))
        return opened[-1]

    yield open_one
    complaints = [each for watched in opened for each in watched.complaints]
    for context in contexts:
        context.close()
    assert complaints == [], complaints
