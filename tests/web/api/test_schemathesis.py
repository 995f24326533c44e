"""Generated requests, valid and invalid by the document, with the keys of two clients. No 5xx and no undocumented response.

schemathesis makes the requests from the document and checks the responses against it. Half of the ids belong to existing
tasks, and half of the requests concern existing objects.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.providers.registry import FAMILIES
from service.web.docs import _example
from tests.support.clients import ALICE, BOB, MARK, submit_as_alice
from tests.support.contract import DOCUMENT
from tests.support.world import JOB_SECONDS, TASK_REQUEST, Hasty, World

pytestmark = pytest.mark.long

SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [operation.ok() for operation in SCHEMA.get_all_operations()]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CHECKS_OF_STREAMS = [check for check in CHECKS if check is not response_schema_conformance]
"""The library takes each event for a document; what is in them is shown by the tests of streams."""
WANTED = [
    {"family": family.name, "operation": operation.name, "input": _example(operation.input)}
    for family in FAMILIES.values()
    for operation in family.operations.values()
] + [TASK_REQUEST] * 20
EXAMPLES = 80
"""Of each operation and each kind, allowed and not."""


@pytest.fixture
async def world(sqlite_url: str) -> AsyncIterator[World]:
    async with World.opened(sqlite_url, DOVECOTE_API_KEYS=f"alice={ALICE},bob={BOB}") as opened:
        for words in ("[drop]", "[fail]", "[drop][stuck]"):
            await submit_as_alice(opened, f"{words} {MARK}")
        await submit_as_alice(opened, f"[modal] {MARK}", family="midjourney", operation="imagine")
        await opened.until(JOB_SECONDS * 3)
        opened.client._transport = Hasty(opened.client._transport.app)  # type: ignore[attr-defined]
        yield opened


def as_sent(case: Any, key: str | None) -> httpx.Request:
    """Return a case as the bytes of the wire, including requests that no client library would send."""
    prepared = requests.Request(**case.as_transport_kwargs(base_url="http://localhost")).prepare()
    headers = [
        (name.encode("latin-1", "replace"), value if isinstance(value, bytes) else value.encode("latin-1", "replace"))
        for name, value in prepared.headers.items()
        if name.lower() != "authorization"
    ]
    if key is not None:
        headers.append((b"authorization", f"Bearer {key}".encode()))
    body = prepared.body.encode() if isinstance(prepared.body, str) else prepared.body
    return httpx.Request(prepared.method or "", prepared.url or "", headers=headers, content=body)


def asking(world: World, operation: Any, mode: GenerationMode, ids: list[str]) -> Callable[[], None]:
    """Return the test that hypothesis runs in a thread. It sends its requests in the loop of the world."""
    loop = asyncio.get_running_loop()

    @hypothesis.settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @hypothesis.given(
        case=operation.as_strategy(generation_mode=mode),
        key=st.sampled_from([ALICE, ALICE, BOB, "nobody's", None]),
        known=st.none() | st.sampled_from(ids),
        wanted=st.none() | st.sampled_from(WANTED),
    )
    def ask(case: Any, key: str | None, known: str | None, wanted: dict[str, Any] | None) -> None:
        if known is not None and "id" in (case.path_parameters or {}):
            case.path_parameters["id"] = known
        if wanted is not None and operation.path == "/v1/tasks" and isinstance(case.body, dict):
            case.body |= wanted
        if "wait" in (case.query or {}):
            case.query["wait"] = 0  # as good as any, and quicker
        request = as_sent(case, key)
        request.headers.pop("prefer", None)
        answer = asyncio.run_coroutine_threadsafe(world.client.send(request), loop).result(20)
        case.validate_response(answer, checks=CHECKS_OF_STREAMS if operation.path.endswith("/stream") else CHECKS)
        if key != ALICE:
            assert MARK not in answer.text
        if key not in {ALICE, BOB}:
            assert answer.status_code == 401

    return ask


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "not allowed"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.definition.raw["operationId"])
async def test_generated_request_is_answered_as_documented(world: World, operation: Any, mode: GenerationMode) -> None:
    tasks = (await world.client.get("/v1/tasks", headers={"Authorization": f"Bearer {ALICE}"})).json()["tasks"]
    try:
        await asyncio.to_thread(asking(world, operation, mode, [task["id"] for task in tasks]))
    except hypothesis.errors.Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # without parameters and body everything is allowed


def test_every_operation_is_covered() -> None:
    assert len(OPERATIONS) == sum(len(methods) for methods in DOCUMENT["paths"].values())
