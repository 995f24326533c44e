"""Erasure: a task without its content, and the effect of a later report on it. Pure."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from service.domain.effects import Effect
from service.domain.task import Failure, Task, Update

CONTENT: Mapping[str, Any] = {
    "input": {},
    "options": {},
    "large_input": False,
    "labels": {},
    "inherited": {},
    "callback_url": None,
    "request_hash": "",
    "skipped_upstreams": {},
    "warnings": (),
    "results": (),
    "next_actions": (),
    "last_error": None,
}
"""The fields that contain what the client or the provider said, and their values after an erasure."""


def without_content(task: Task) -> Task:
    """Return a task without what the client or the provider said. State, times, ids and costs stay."""
    return task.changed(**CONTENT, failure=_without_words(task.failure))


def effect_without_content(effect: Effect) -> Effect:
    """Return the effect of a change on an erased task: only states, ids and costs count."""
    settles = None if effect.settles is None else dataclasses.replace(effect.settles, message=None)
    fields = {name: value for name, value in effect.fields.items() if name not in CONTENT}
    return dataclasses.replace(
        effect, update=_update_without_content(effect.update), fields=fields, details={}, settles=settles
    )


def _update_without_content(update: Update) -> Update:
    return dataclasses.replace(
        update, results=(), actions=(), failure=_without_words(update.failure), omitted=0, unknown_word=None
    )


def _without_words(failure: Failure | None) -> Failure | None:
    return None if failure is None else dataclasses.replace(failure, message=None)
