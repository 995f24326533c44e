"""A worker is killed with -9 while it delivers 1,000 messages. Each arrives at least once and ends in exactly one state."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest

from service.cli.processes import LOOPBACK, ProcessGroup, Served, clean_environment, free_ports
from service.domain.task import State
from service.flows.webhooks.enqueue import callback_destination, endpoint_destination
from service.sandbox import Receiver, running
from service.store.database import Database
from service.store.webhooks import endpoints
from service.store.webhooks import messages as message_store
from service.store.webhooks.endpoints import Endpoint
from service.store.webhooks.messages import Message
from tests.conftest import migrated
from tests.support.values import a_message, a_task, keep, new_id
from tests.support.waiting import LIMIT
from tests.support.world import INSTALLATION_SECRET, WEBHOOK_SECRET

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("demo")]

MANY = 1000


def dovecote(folder: Path) -> Served:
    (port,) = free_ports(1)
    settings = {
        "DOVECOTE_DATABASE_URL": f"sqlite:///{folder / 'dovecote.db'}",
        "DOVECOTE_HOST": LOOPBACK,
        "DOVECOTE_PORT": str(port),
        "DOVECOTE_WEBHOOK_SECRET": INSTALLATION_SECRET,
        "DOVECOTE_ALLOW_PRIVATE_WEBHOOKS": "true",
    }
    return Served("dovecote", ("serve",), {**clean_environment(), **settings}, port, folder, "/readyz")


async def enqueue(url: str, hook: str) -> list[Message]:
    """Enqueue 1,000 messages: to a receiver, to its endpoint, to a closed port at the last attempt, and to a deleted endpoint."""
    database, now = Database(url), dt.datetime.now(dt.UTC)
    task = a_task(state=State.SUCCEEDED, created_at=now, updated_at=now, finished_at=now)
    (nowhere,) = free_ports(1)
    endpoint = Endpoint(
        id=new_id(), client="default", url=f"{hook}/endpoint", secret=WEBHOOK_SECRET, created_at=now, updated_at=now
    )
    body = f'{{"type":"task.succeeded","data":{{"id":"{task.id}","state":"succeeded"}}}}'
    messages = []
    for number in range(MANY):
        message = a_message(task, sequence=number + 2, url=f"{hook}/done", due_at=now, created_at=now, body=body)
        match number % 20:
            case 0 | 1 | 2 | 3 | 4 | 5:
                more = {"endpoint_id": endpoint.id, "destination": endpoint_destination(endpoint.id)}
            case 6:  # no receiver, and the schedule is at its end
                where = f"http://127.0.0.1:{nowhere}/"
                more = {"url": where, "destination": callback_destination(where), "attempts": 9}
            case 7:  # its endpoint was deleted
                gone = new_id()
                more = {"endpoint_id": gone, "destination": endpoint_destination(gone)}
            case _:
                more = {}
        messages.append(dataclasses.replace(message, **more))
    await keep(database, task)
    async with database.writing() as connection:
        await endpoints.register(connection, endpoint, most=9)
        await message_store.insert(connection, messages)
    await database.close()
    return messages


async def test_server_killed_during_delivery_loses_no_message(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'dovecote.db'}"
    await migrated(url)
    receiver = Receiver(WEBHOOK_SECRET)
    async with running(receiver) as hook:
        messages = await enqueue(url, hook)
        server = dovecote(tmp_path)
        until = time.monotonic() + LIMIT
        with ProcessGroup() as group:
            group.start(server)
            for killed_at in (150, 400):
                async with asyncio.timeout(LIMIT):
                    while len(receiver.received) < killed_at:  # noqa: ASYNC110 - it comes from another process
                        await asyncio.sleep(0.002)
                server.kill()
                assert len(receiver.received) < MANY * 0.8, "it was too quick to be killed in the middle"
                server.start()
            await asyncio.to_thread(server.wait_ready)
            while pending(tmp_path):
                assert time.monotonic() < until, pending(tmp_path)
                await asyncio.sleep(0.05)
    judge(tmp_path, messages, receiver)


def rows(folder: Path, query: str) -> list[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(folder / "dovecote.db")) as database:
        return database.execute(query).fetchall()


def pending(folder: Path) -> int:
    return len(rows(folder, "SELECT id FROM webhook_messages WHERE state = 'pending'"))


def judge(folder: Path, messages: list[Message], receiver: Receiver) -> None:
    """Compare the database with the receiver's record."""
    states = dict(rows(folder, "SELECT id, state FROM webhook_messages"))
    assert len(states) == MANY
    groups = {"delivered": set[str](), "exhausted": set[str](), "discarded": set[str]()}
    for number, message in enumerate(messages):
        group = {6: "exhausted", 7: "discarded"}.get(number % 20, "delivered")
        groups[group].add(message.id.hex)
    for state, ids in groups.items():
        assert {each for each, found in states.items() if found == state} == ids, state
    ledger = {each.id.replace("-", ""): each for each in receiver.received}
    assert all(each.verified for each in receiver.received)
    assert set(ledger) == groups["delivered"]
    # At least once: only the messages in flight at a kill arrived again.
    copies = Counter(each.attempts for each in ledger.values())
    assert sum(copies.values()) == len(groups["delivered"])
    assert sum(count for attempts, count in copies.items() if attempts > 1) <= 2 * 100
    attempts = dict(rows(folder, "SELECT id, attempts FROM webhook_messages"))
    succeeded = Counter(row[0] for row in rows(folder, "SELECT message_id FROM webhook_attempts WHERE status = 204"))
    for each, received in ledger.items():
        assert succeeded[each] == 1
        assert received.attempts <= int(attempts[each])
