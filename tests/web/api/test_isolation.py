"""No client reads or changes another client's objects: every route with every existing id is tried."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import itertools
import re
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from sqlalchemy import select

from service.app import application
from service.domain.api_key import Scope
from service.domain.media_references import upload_name
from service.providers.registry import FAMILIES
from service.store import tables
from service.web.api import ENDPOINTS
from service.web.api.openapi import document
from service.web.api.route import ApiRequest, Endpoint, ResponseSpec, json_response
from tests.support.clients import ALICE, BOB, MARK, submit_as_alice
from tests.support.waiting import LIMIT, until
from tests.support.world import JOB_SECONDS, TASK_REQUEST, World

DOCUMENT = document()
WITH_IDS = [
    endpoint
    for endpoint in ENDPOINTS
    if "{" in endpoint.path and "{name}" not in endpoint.path and endpoint.scope is not Scope.ADMIN
]
"""The routes of one object. An upstream has a name, and belongs to the installation; an administrator reaches every client's."""
STREAM_SECONDS = 0.2
"""Seconds for which a stream is read after it has begun: it does not end by itself."""


KEYS = f"alice={ALICE},bob={BOB}"
STORAGE = "file:///tmp/not-opened-by-a-world"


async def populate(opened: World) -> None:
    """Create every kind of object for Alice, in as many states as possible. Bob has none."""
    for words in ("[drop]", "[fail]", "[refuse]", "[cut][drop]", "[stuck]"):
        await submit_as_alice(opened, f"{words} {MARK}")
    await submit_as_alice(opened, f"[modal] {MARK}", family="midjourney", operation="imagine")
    endpoint = {"url": f"http://receiver.test/{MARK}", "description": MARK}
    answer = await opened.client.post("/v1/endpoints", json=endpoint, headers={"Authorization": f"Bearer {ALICE}"})
    assert answer.status_code == 201, answer.text
    alice = {"Authorization": f"Bearer {ALICE}"}
    uploaded = await opened.client.post(f"/v1/uploads?name={MARK}", content=b"\x89PNG\r\n\x1a\n", headers=alice)
    assert uploaded.status_code == 201, uploaded.text
    erased = (await opened.client.post("/v1/tasks", json=TASK_REQUEST, headers=alice)).json()["id"]
    await opened.until(JOB_SECONDS * 3)
    await opened.client.delete(f"/v1/tasks/{erased}", headers=alice)
    await submit_as_alice(opened, MARK)  # waits in the queue


@dataclasses.dataclass(frozen=True, slots=True)
class Populated:
    """A database with the objects of Alice."""

    file: Path
    at: dt.datetime
    files: Mapping[str, bytes]
    """The content of the stored files, by their names."""


async def once(content: bytes) -> AsyncIterator[bytes]:
    yield content


@pytest.fixture(scope="module")
def populated(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Populated:
    """Return a SQLite database with the objects of Alice, made once, with the time in it and the stored files."""
    file = tmp_path_factory.mktemp("populated") / "dovecote.db"
    shutil.copy(sqlite_template, file)

    async def fill() -> Populated:
        async with World.opened(
            f"sqlite:///{file}", DOVECOTE_API_KEYS=KEYS, DOVECOTE_RESULTS__KEEP="all", DOVECOTE_STORAGE__URL=STORAGE
        ) as opened:
            await populate(opened)
            assert opened.context.objects is not None
            stored = opened.context.objects
            files = {
                each.name: b"".join([part async for part in stored.read(each.name)]) async for each in stored.list()
            }
            return Populated(file, opened.clock.now, files)

    return asyncio.run(fill())


@pytest.fixture
async def world(database_url: str, populated: Populated) -> AsyncIterator[World]:
    if database_url.startswith("sqlite"):
        shutil.copy(populated.file, database_url.removeprefix("sqlite:///"))
    async with World.opened(
        database_url, DOVECOTE_API_KEYS=KEYS, DOVECOTE_RESULTS__KEEP="all", DOVECOTE_STORAGE__URL=STORAGE
    ) as opened:
        if database_url.startswith("sqlite"):
            opened.clock.now = populated.at
            assert opened.context.objects is not None
            for name, content in populated.files.items():
                await opened.context.objects.put(name, once(content), limit=len(content))
        else:
            await populate(opened)
        yield opened


@dataclasses.dataclass(frozen=True, slots=True)
class Said:
    """A response. A stream is cut off after a while."""

    status: int
    body: bytes


async def ask(world: World, key: str, method: str, path: str, body: Any = None) -> Said:
    """Send a request to the application itself. A client library would wait for the end of a stream."""
    pieces: list[bytes] = []
    status: list[int] = []
    given = orjson.dumps({} if body is None else body)
    asked = iter([{"type": "http.request", "body": given, "more_body": False}])

    async def receive() -> Any:
        return next(asked, None) or await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])
        pieces.append(message.get("body", b""))

    headers = {"host": "localhost", "authorization": f"Bearer {key}", "content-type": "application/json"}
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asking = asyncio.create_task(application_of(world)(scope, receive, send))
    if path.endswith("/stream"):
        await until(lambda: asking.done() or status)
        await asyncio.wait({asking}, timeout=STREAM_SECONDS)
    else:
        await asyncio.wait({asking}, timeout=LIMIT)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    return Said(status[0], b"".join(pieces))


def application_of(world: World) -> Any:
    return world.client._transport.app  # type: ignore[attr-defined]


async def dump(world: World) -> dict[str, list[str]]:
    """Return every row of every table as text."""
    async with world.context.database.reading() as connection:
        return {
            table.name: sorted(str(tuple(row)) for row in await connection.execute(select(table)))
            for table in tables.metadata.sorted_tables
        }


async def ids_of_everything(world: World) -> list[str]:
    """Return every id in the database, of every kind, so that a new kind of object is included by itself."""
    found: set[str] = set()
    async with world.context.database.reading() as connection:
        for table in tables.metadata.sorted_tables:
            for row in await connection.execute(select(*table.primary_key.columns)):
                found |= {str(value) for value in row if isinstance(value, UUID | int)}
        found |= {upload_name(each) for each in (await connection.execute(select(tables.uploads.c.id))).scalars()}
    return sorted(found)


def minimal(schema: Mapping[str, Any]) -> Any:
    """Return the smallest document that a schema accepts, so that the body is not the reason of a refusal."""
    while "$ref" in schema or "anyOf" in schema:
        name = schema.get("$ref", "").rpartition("/")[2]
        schema = DOCUMENT["components"]["schemas"][name] if name else schema["anyOf"][0]
    stated = [
        *schema.get("examples", ()),
        *schema.get("enum", ()),
        *(schema[word] for word in ("const", "default") if word in schema),
    ]
    kind = schema.get("type", "object")
    texts = {"uuid": str(uuid4()), "uri": "https://example.com/", "date-time": "2999-01-01T00:00:00Z"}
    plain = {
        "object": {name: minimal(schema["properties"][name]) for name in _needed(schema)},
        "string": texts.get(schema.get("format", ""), "x" * max(schema.get("minLength", 1), 1)),
        "array": [],
        "boolean": True,
        "null": None,
    }
    return stated[0] if stated else plain.get(kind if isinstance(kind, str) else kind[0], schema.get("minimum", 1))


def _needed(schema: Mapping[str, Any]) -> list[str]:
    """Return the fields that an object must have."""
    at_least = list(schema.get("properties", {}))[: schema.get("minProperties", 0)]
    return list(schema.get("required", ())) or at_least


def body_of(endpoint: Endpoint) -> Any:
    return None if endpoint.body is None else minimal(endpoint.body)


def paths_of(endpoint: Endpoint, ids: Sequence[str]) -> list[str]:
    """Return the paths of a route with every id in every place."""
    places = re.findall(r"\{\w+(?::\w+)?\}", endpoint.path)
    filled = []
    for chosen in itertools.product(ids, repeat=len(places)):
        path = endpoint.path
        for place, each in zip(places, chosen, strict=True):
            path = path.replace(place, each, 1)
        filled.append(path)
    return filled


async def check_isolation(world: World, endpoint: Endpoint) -> None:
    """Send a request to every object of Alice as Bob, and then as Alice to prove that the object exists."""
    ids, before = await ids_of_everything(world), await dump(world)
    nowhere = [str(uuid4()), "0", "x", str(UUID(int=0)), "%00", "a%2Fb", ids[0].upper()]
    answers: dict[bytes, list[str]] = {}
    several = [*ids[:12], "0", nowhere[0]]  # "0" numbers the first result of a task
    for path in paths_of(endpoint, [*ids, *nowhere] if endpoint.path.count("{") == 1 else several):
        said = await ask(world, BOB, endpoint.method, path, body_of(endpoint))
        assert said.status == 404, (endpoint.name, path, said)
        assert MARK.encode() not in said.body
        if "%" not in path:
            answers.setdefault(said.body, []).append(path)
    assert len(answers) == 1, f"{endpoint.name} tells what is another's from what is nowhere: {answers}"
    assert await dump(world) == before, f"{endpoint.name} has changed what is another's"
    # Otherwise this would only prove that an id of the wrong kind is not found.
    for path in paths_of(endpoint, [*ids, "0"]):
        if (await ask(world, ALICE, endpoint.method, path, body_of(endpoint))).status not in {404, 401, 403, 405, 422}:
            return
    raise AssertionError(
        f"{endpoint.name}: none of the ids in the database is one that its own client finds under {endpoint.path}; "
        "give the world of this test a row that it is about"
    )


@pytest.mark.parametrize("endpoint", WITH_IDS, ids=lambda endpoint: endpoint.name)
async def test_resource_of_another_client_is_404(world: World, endpoint: Endpoint) -> None:
    await check_isolation(world, endpoint)


@pytest.mark.parametrize(
    "endpoint", [each for each in ENDPOINTS if each not in WITH_IDS], ids=lambda endpoint: endpoint.name
)
async def test_lists_contain_no_foreign_rows(world: World, endpoint: Endpoint) -> None:
    ids, before = await ids_of_everything(world), await dump(world)
    path = endpoint.path.replace("{name}", "elkapi")
    said = await ask(world, BOB, endpoint.method, path, body_of(endpoint))
    assert said.status < 500
    told = said.body.decode()
    assert MARK not in told
    assert [each for each in ids if len(each) > 12 and each in told] == []
    after = await dump(world)
    for table, rows in before.items():
        assert set(rows) <= set(after[table]), f"{endpoint.name} has changed {table}"


@pytest.mark.parametrize("query", ["cursor={id}", "label=project=" + MARK, "state=succeeded", "client=alice"])
async def test_filters_do_not_reach_foreign_rows(world: World, query: str) -> None:
    for each in [each for each in await ids_of_everything(world) if "-" in each]:
        said = await ask(world, BOB, "GET", f"/v1/tasks?{query.replace('{id}', each)}")
        assert said.status == (403 if query.startswith("client") else 200)
        assert MARK.encode() not in said.body
        if said.status == 200:
            assert orjson.loads(said.body) == {"tasks": [], "next": None}


async def test_follow_up_of_a_foreign_task_is_rejected(world: World) -> None:
    before = await dump(world)
    follow_ups = [
        (family.name, operation.name)
        for family in FAMILIES.values()
        for operation in family.operations.values()
        if operation.parent is not None
    ]
    assert follow_ups
    async with world.context.database.reading() as connection:
        parents = [str(each) for each in (await connection.execute(select(tables.tasks.c.id))).scalars()]
    for family, operation in follow_ups[:6]:
        told = set()
        for parent in (*parents, str(uuid4())):
            document = {"family": family, "operation": operation, "input": {}, "parent_id": parent}
            said = await ask(world, BOB, "POST", "/v1/tasks", document)
            assert said.status == 422
            told.add(said.body)
        assert len(told) == 1
        assert b"there is no task with this id" in told.pop()
    assert await dump(world) == before


async def test_foreign_idempotency_key_creates_a_new_task(world: World) -> None:
    ids = []
    for key in (ALICE, BOB, ALICE):
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "same"}
        answer = await world.client.post("/v1/tasks", json=TASK_REQUEST, headers=headers)
        ids.append(answer.json()["id"])
    assert ids[0] == ids[2] != ids[1]


# ── the test itself ────────────────────────────────────────────────────────────────────────────────────────────────


async def _careless(request: ApiRequest) -> Any:
    async with request.context.database.reading() as connection:
        found = await connection.execute(
            select(tables.tasks.c.id).where(tables.tasks.c.id == UUID(request.http.path_params["id"]))
        )
    return json_response({"id": str(found.scalar())})


async def _of_nothing(request: ApiRequest) -> Any:
    del request
    return json_response({}, 404)


@pytest.mark.parametrize(
    ("handler", "words"),
    [(_careless, "_careless"), (_of_nothing, "none of the ids in the database is one that its own client finds")],
)
async def test_isolation_check_detects_a_leaking_endpoint(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, handler: Any, words: str
) -> None:
    endpoint = Endpoint(
        method="GET",
        path="/v1/things/{id}",
        handler=handler,
        scope=Scope.READ,
        name=handler.__name__,
        tag="Tasks",
        summary="Something new",
        responses={200: ResponseSpec(description="It.", schema={})},
    )
    monkeypatch.setattr("service.app.ENDPOINTS", (*ENDPOINTS, endpoint))
    async with World.opened(sqlite_url, DOVECOTE_API_KEYS=KEYS) as opened:
        assert application(opened.context) is not None
        await submit_as_alice(opened, MARK)
        with pytest.raises(AssertionError, match=words):
            await check_isolation(opened, endpoint)
