"""The matrix of the doors: success, failure, a slow job, a gateway that is down, a lost callback and a lost answer, at each."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from service.store.tables import repeats
from tests.support.asgi import scope_of
from tests.support.cases import share
from tests.support.clients import ALICE
from tests.support.door_matrix import ROWS, Row, is_held, outcome, table
from tests.support.doors import DOORS, upstreams
from tests.support.world import World

KEY = {"Authorization": f"Bearer {ALICE}"}
HOST = "sandbox.test"
DOCUMENT = Path(__file__).parents[3] / "docs" / "doors.md"


@pytest.fixture
async def world(sqlite_url: str) -> AsyncIterator[World]:
    switches = {f"DOVECOTE_DOORS__{name}": "true" for name in DOORS}
    keys = {"DOVECOTE_API_KEYS": f"alice={ALICE}"}
    async with World.opened(sqlite_url, **switches, **keys, **upstreams(f"http://{HOST}")) as opened:
        yield opened


class Submit:
    """A submit under way, and what its client reads of it."""

    def __init__(self, world: World, row: Row, prompt: str) -> None:
        self.world, self.row, self.prompt = world, row, prompt
        self._sent = asyncio.create_task(world.client.post(row.path, json=row.body(prompt), headers=KEY))

    async def read(self) -> str:
        """Return what the client reads now; empty while a held request has no answer."""
        if is_held(self.row):
            await asyncio.wait({self._sent}, timeout=0.05)
            return outcome(self.row, self._sent.result()) if self._sent.done() else ""
        answer = await self._sent
        assert answer.status_code < 300, answer.text
        assert self.row.poll is not None
        method, path, body = self.row.poll(answer.json())
        return outcome(self.row, await self.world.client.request(method, path, json=body, headers=KEY))

    async def answered(self) -> httpx.Response:
        return await self._sent

    async def stored(self) -> None:
        """Wait until the task of the submit exists."""
        while self.prompt not in (await self.world.client.get("/v1/tasks", headers=KEY)).text:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    def is_open(self, word: str) -> bool:
        return word == "" if is_held(self.row) else word in self.row.waiting

    def paid(self) -> int:
        return sum(self.prompt in str(job.order.document) for job in self.world.sandbox.ledger.jobs)


async def pass_until_ended(submit: Submit, seconds: float = 900) -> str:
    """Let time pass until the client reads an end; return what it reads."""
    for _ in range(int(seconds / 15)):
        await submit.world.pass_time(15, step=5)
        if not submit.is_open(word := await submit.read()):
            return word
    return await submit.read()


async def succeeds(world: World, row: Row) -> None:
    submit = Submit(world, row, "a plain dove")
    await submit.stored()
    assert await pass_until_ended(submit) == row.success
    assert submit.paid() == 1


async def fails(world: World, row: Row) -> None:
    submit = Submit(world, row, f"{row.fails_by} a dove")
    await submit.stored()
    assert await pass_until_ended(submit) == row.failure
    if is_held(row):
        assert (await submit.answered()).headers["x-should-retry"] == "false"


async def is_slow(world: World, row: Row) -> None:
    submit = Submit(world, row, f"{row.slow_by} a dove")
    await submit.stored()
    await world.pass_time(10, step=5)
    assert submit.is_open(await submit.read())
    assert await pass_until_ended(submit) == row.success


async def waits_for_the_gateway(world: World, row: Row) -> None:
    world.edge.down.add(HOST)
    submit = Submit(world, row, "a patient dove")
    await submit.stored()
    await world.pass_time(60, step=5)
    assert submit.is_open(await submit.read())
    assert submit.paid() == 0
    world.edge.down.discard(HOST)
    assert await pass_until_ended(submit) == row.success
    assert submit.paid() == 1


async def loses_its_callback(world: World, row: Row) -> None:
    submit = Submit(world, row, "[drop] a dove")
    await submit.stored()
    assert await pass_until_ended(submit, 3600) == row.success
    assert submit.paid() == 1


async def loses_its_answer(world: World, row: Row) -> None:
    prompt = "a lost dove"
    await break_off(world, row, prompt)
    assert await cut_off(world)
    repeat = Submit(world, row, prompt)
    while await cut_off(world):  # noqa: ASYNC110 - until the repeat has got the task
        await asyncio.sleep(0.005)
    assert await pass_until_ended(repeat) == row.success
    answer = await repeat.answered()
    assert answer.headers["idempotency-replayed"] == "true"
    assert repeat.paid() == 1


async def cut_off(world: World) -> bool:
    """Return whether a task waits for the repeat of a request that broke off."""
    async with world.context.database.reading() as connection:
        return bool((await connection.execute(select(repeats.c.task_id).where(repeats.c.cut_off))).all())


async def break_off(world: World, row: Row, prompt: str) -> None:
    """Send a submit, and close the connection before its answer."""
    request = httpx.Request("POST", f"http://localhost{row.path}", json=row.body(prompt), headers=KEY)
    parts = [{"type": "http.request", "body": request.content, "more_body": False}]
    scope = scope_of(request)

    async def receive() -> dict[str, Any]:
        return parts.pop() if parts else {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        pass

    await world.app(scope, receive, send)


CELLS = (succeeds, fails, is_slow, waits_for_the_gateway, loses_its_callback, loses_its_answer)


@pytest.mark.parametrize("parts", [2, pytest.param(1, marks=pytest.mark.long)], ids=["some columns", "all columns"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_submit_survives_every_column_of_the_matrix(world: World, row: Row, parts: int) -> None:
    for cell in share(CELLS, parts, row.name):
        await cell(world, row)


def test_documentation_has_the_matrix() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    found = re.search(r"<!-- matrix -->\n(.*?)<!-- end matrix -->", text, re.DOTALL)
    assert found is not None
    assert found[1] == table(), "write the table of tests/support/door_matrix.py there"
