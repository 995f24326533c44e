"""Providers that delete an ended job with its outputs: the call, and the reading of its answer."""

import json
from typing import Any

import pytest

from service.domain.errors import NotFound, Unavailable, UpstreamError
from service.providers.capabilities import CanDelete
from service.providers.registry import DIALECTS
from service.providers.wire import Call, Reply
from tests.support.operations import task

ABLE = sorted(name for name, dialect in DIALECTS.items() if isinstance(dialect, CanDelete))
PATHS = {
    "luma/official": "/dream-machine/v1/generations/job-1",
    "minimax/official-v2": "/v2/video_generation/job-1",
    "openai/responses": "/v1/responses/job-1",
    "openai/videos": "/v1/videos/job-1",
    "runway/official": "/v1/tasks/job-1",
    "seedance/modelark": "/api/v3/contents/generations/tasks/job-1",
    "seedance/ark": "/api/v3/contents/generations/tasks/job-1",
}
ANSWERS: dict[str, tuple[int, Any]] = {
    "luma/official": (204, None),
    "minimax/official-v2": (200, {"task_id": "job-1", "action": "deleted"}),
    "openai/responses": (200, {"id": "job-1", "object": "response", "deleted": True}),
    "openai/videos": (200, {"id": "job-1", "object": "video.deleted", "deleted": True}),
    "runway/official": (204, None),
    "seedance/ark": (200, {}),
    "seedance/modelark": (200, {}),
}


def conversation(name: str, status: int, document: Any) -> Call:
    """Run the deletion of a job against one answer, and return the call."""
    dialect = DIALECTS[name]
    assert isinstance(dialect, CanDelete)
    exchange = dialect.delete(task(name))
    call = next(exchange)
    body = b"" if document is None else json.dumps(document).encode()
    with pytest.raises(StopIteration):
        exchange.send(Reply(status, {"content-type": "application/json"}, body, call.endpoint))
    return call


def test_dialects_that_delete_are_listed_here() -> None:
    assert sorted(PATHS) == ABLE


@pytest.mark.parametrize("name", ABLE)
def test_job_is_deleted_by_its_id(name: str) -> None:
    call = conversation(name, *ANSWERS[name])
    assert (call.method, call.path, call.creates) == ("DELETE", PATHS[name], False)


@pytest.mark.parametrize("name", ABLE)
@pytest.mark.parametrize(
    ("status", "error"), [(404, NotFound), (503, Unavailable), (500, UpstreamError), (401, UpstreamError)]
)
def test_refused_deletion_is_an_error_by_its_kind(name: str, status: int, error: type[UpstreamError]) -> None:
    with pytest.raises(error):
        conversation(name, status, {"error": {"message": "no", "code": "x", "type": "x"}, "detail": "no"})
