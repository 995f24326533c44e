"""Tasks for every operation of every dialect, made of the examples of their schemas."""

import datetime as dt
from uuid import UUID

from service.domain.task import Task
from service.providers.registry import DIALECTS, FAMILIES

NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
OPERATIONS = [
    (name, f"{family.name} {operation}")
    for name, dialect in DIALECTS.items()
    for family in FAMILIES.values()
    for operation in family.operations
    if dialect.offers(family.name, operation)
]
"""A dialect, with a family and operation that it serves."""


def schema_of(wanted):
    family, operation = wanted.split()
    return FAMILIES[family].operations[operation].input


def task(name, wanted=None, *, given=None, options=None):
    wanted = wanted or next(operation for dialect, operation in OPERATIONS if dialect == name)
    example = schema_of(wanted)["examples"][0]
    family, operation = wanted.split()
    return Task(
        id=UUID(int=1),
        client="c",
        family=family,
        operation=operation,
        input=example if given is None else given,
        options=options or {},
        external_id="job-1",
        created_at=NOW,
        updated_at=NOW,
        deadline_at=NOW,
    )
