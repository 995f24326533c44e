"""The access log: the fields of a line, and the data that it never contains."""

import logging

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.flows.metrics.process import Metrics
from service.logs import request_id
from service.web.access_log import AccessLog, shown_path
from tests.support.world import World

TOKEN = "t" * 60


async def _ok(_: Request) -> Response:
    logging.getLogger("dovecote").info("inside request=%s", request_id.get())
    return Response("ok")


async def _broken(_: Request) -> Response:
    return Response("no", 503)


@pytest.fixture
def app() -> AccessLog:
    paths = ("/v1/tasks/{id}", "/callbacks/{token}", "/healthz")
    app = Starlette(routes=[*(Route(path, _ok) for path in paths), Route("/broken", _broken)])
    return AccessLog(app, Metrics())


@pytest.fixture
def _all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "dovecote")


@pytest.mark.parametrize(
    ("path", "level", "shown"),
    [
        ("/v1/tasks/0198c0de-0000-7000-8000-000000000001", "INFO", "/v1/tasks/0198c0de-0000-7000-8000-000000000001"),
        (f"/callbacks/{TOKEN}", "INFO", "/callbacks/…"),
        ("/healthz", "DEBUG", "/healthz"),
        ("/broken", "WARNING", "/broken"),
        ("/nothing?key=secret-key-in-a-query", "INFO", "/nothing"),
    ],
    ids=["task", "callback", "health", "server-error", "query"],
)
@pytest.mark.usefixtures("_all")
async def test_request_is_one_line_without_secrets(
    app: AccessLog, caplog: pytest.LogCaptureFixture, path: str, level: str, shown: str
) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        await client.get(path)
    [line] = [each for each in caplog.records if each.message.startswith("request ")]
    assert line.levelname == level
    assert f"path={shown} " in line.message
    assert TOKEN not in caplog.text
    assert "secret-key" not in caplog.text


@pytest.mark.usefixtures("_all")
async def test_lines_of_a_request_have_its_id(app: AccessLog, caplog: pytest.LogCaptureFixture) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        for _ in range(2):
            await client.get("/healthz")
    ids = [each.message.rpartition("=")[2] for each in caplog.records if each.message.startswith("inside")]
    assert len(set(ids)) == 2
    assert request_id.get() is None


def test_long_segment_is_left_out() -> None:
    assert shown_path(f"/a/{'b' * 40}/{'c' * 41}/") == f"/a/{'b' * 40}/…/"


@pytest.mark.usefixtures("_all")
async def test_each_step_of_a_task_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    created = await world.client.post(
        "/v1/tasks",
        json={
            "family": "runway",
            "operation": "text_to_video",
            "input": {"prompt": "a dove that nobody may read of", "duration": 5},
            "callback_url": "http://receiver.test/done",
        },
    )
    task_id = created.json()["id"]
    await world.until(60)
    lines = [each.message for each in caplog.records if each.name == "dovecote"]
    changes = [line for line in lines if line.startswith("task changed") and task_id in line]
    assert [line.partition("event=")[2].split()[0] for line in changes if " event=progress " not in line][:2] == [
        "submitting",
        "submitted",
    ]
    assert any(" state=succeeded " in line for line in changes)
    for start in ("upstream called upstream=elkapi", "callback stored", "callback processed", "webhook delivered"):
        assert any(line.startswith(start) for line in lines), start
    assert "nobody may read" not in caplog.text
