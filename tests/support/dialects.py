"""Every dialect of the registry, a world with an upstream of only this dialect, and a task for it."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from service.domain.task import Task
from service.providers.dialect import Dialect
from service.providers.registry import DIALECTS as REGISTERED
from service.providers.registry import FAMILIES
from service.sandbox import Sandbox
from tests.support.values import a_task
from tests.support.world import World

_PLAYED = {name: dialect for name, dialect in REGISTERED.items() if name in Sandbox.base_paths()}
SYNCHRONOUS = {
    name: dialect for name, dialect in _PLAYED.items() if dialect.facts.operations.keys() <= dialect.facts.synchronous
}
"""The dialects that the sandbox plays and that have no jobs: every answer is the result."""
DIALECTS = {name: dialect for name, dialect in _PLAYED.items() if name not in SYNCHRONOUS}
"""The other dialects that the sandbox plays. The conformance suite covers those that it does not."""


@contextlib.asynccontextmanager
async def world_of(dialect: str, database_url: str) -> AsyncIterator[World]:
    """Open a world with one upstream of one dialect."""
    base_url = f"http://sandbox.test{Sandbox.base_paths()[dialect]}"
    upstream = {"DOVECOTE_UPSTREAMS__ELKAPI__DIALECTS": dialect, "DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": base_url}
    async with World.opened(database_url, **upstream) as world:
        yield world


def example_of(dialect: Dialect) -> Mapping[str, Any]:
    """Return the first example of the published schemas that a dialect serves as a job of its own."""
    for task in _examples(dialect):
        if dialect.validate(task) == []:
            return {"family": task.family, "operation": task.operation, "input": task.input}
    raise AssertionError(f"no schema has an example that {dialect} serves")


def _examples(dialect: Dialect) -> Iterator[Task]:
    for family in FAMILIES.values():
        for operation in family.operations.values():
            jobless = dialect.facts.key not in SYNCHRONOUS and operation.name in dialect.facts.synchronous
            served = dialect.offers(family.name, operation.name) and not jobless
            if served and operation.parent != "required":
                for example in operation.input["examples"]:
                    yield a_task(family=family.name, operation=operation.name, input=example)


__all__ = ["DIALECTS", "SYNCHRONOUS", "example_of", "world_of"]
