"""Two clients of the API, their keys, and their tasks."""

import secrets
from typing import Any

from service.domain.api_key import ApiKey, Scope, hash_key, prefix_of, write_key
from service.store import api_keys
from tests.support.values import NOW, new_id
from tests.support.world import TASK_REQUEST, World

ALICE, BOB = "alice-key-that-is-long-enough", "bob-key-that-is-long-enough"
MARK = "only-alice-knows"
"""A text that no answer to another client may contain."""
A_KEY = write_key(bytes(4), bytes(32))


def bearer(key: str) -> dict[str, str]:
    """Return the header that presents a key."""
    return {"Authorization": f"Bearer {key}"}


def a_key(text: str = A_KEY, **more: Any) -> ApiKey:
    """Return a valid API key of Alice, as the database stores it."""
    plain = {"id": new_id(), "client": "alice", "name": "", "prefix": prefix_of(text), "hash": hash_key(text)}
    return ApiKey(**{**plain, "scopes": frozenset({Scope.READ, Scope.SUBMIT}), "created_at": NOW, **more})


async def add_key(world: World, **more: Any) -> str:
    """Create a key in the database, as the command does beside a running server."""
    text = write_key(secrets.token_bytes(4), secrets.token_bytes(32))
    async with world.context.database.writing() as connection:
        await api_keys.add(connection, a_key(text, **more))
    return text


async def submit_as_alice(world: World, prompt: str, **more: Any) -> None:
    """Submit a task of Alice with MARK in every field that a client may write."""
    document = {**TASK_REQUEST, "input": {"prompt": prompt}, "labels": {"project": MARK}, **more}
    document["callback_url"] = f"http://receiver.test/{MARK}"
    answer = await world.client.post("/v1/tasks", json=document, headers=bearer(ALICE))
    assert answer.status_code == 202, answer.text
