"""The fields of a task agree in all places, and every rendered value has its declared type."""

import dataclasses
import datetime as dt
import typing
from decimal import Decimal
from uuid import uuid4

import pytest
from pydantic import ConfigDict, TypeAdapter

from service.domain.kept import Kept
from service.domain.money.amounts import Amount
from service.domain.money.quotes import Quote
from service.domain.money.terms import Terms
from service.domain.task import Action, Failure, Result, Source, State, Task
from service.flows.render import show_event, show_task
from service.store.events import Event
from service.store.tables import tasks
from service.web.api import models
from service.web.api.models import all_components

NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
HIDDEN = {
    "answered_at",
    "attempts",
    "callback_expected",
    "cancel_requested_at",
    "client",
    "decided_by",
    "idempotency_key",
    "inherited",
    "job_host",
    "large_input",
    "last_error",
    "missing_since",
    "request_hash",
    "submission_id",
    "terms",
    "traceparent",
    "unconfirmed_since",
}
COMPUTED = {
    "billing_differences",
    "explanation",
    "awaits",
    "max_cost",
    "prefer",
    "when_over_budget",
    "on_moderated",
    "moderated_retries",
}
RENAMED = {"due_at": "next_check_at", "quotes": "quote"}
COPY = Kept(
    asset=uuid4(),
    state="kept",
    sha256="0" * 64,
    size=1,
    media_type="video/mp4",
    width=1,
    height=1,
    duration=1.5,
    marked=True,
    lost_because="-",
)
FULL = Task(
    id=uuid4(),
    client="alice",
    family="runway",
    operation="text_to_video",
    input={"prompt": "a dove"},
    options={"style": 1},
    labels={"a": "b"},
    parent_id=uuid4(),
    callback_url="https://example.com/",
    callback_events=("task.succeeded",),
    callback_format="replicate",
    route=("elkapi",),
    skipped_upstreams={"other": "no such field"},
    terms=Terms(max_cost=Amount(Decimal("0.5"), "USD"), prefer="cheapest"),
    quotes=(Quote(upstream="elkapi", bound="exact", high=Decimal(60), unit="credits", usd=Decimal("0.01")),),
    state=State.SUCCEEDED,
    upstream="elkapi",
    dialect="runway/aggregator",
    external_id="1",
    progress=100,
    results=(
        Result("video", "https://example.com/1.mp4", expires_at=NOW, kept=COPY),
        Result("text", text="words", role="extra", item="1"),
    ),
    failure=Failure("provider_error", "message", retryable=True),
    next_actions=(Action("up", "Upscale"),),
    cost=1.5,
    refunded=False,
    decided_by="provider",
    outcome_source=Source.POLL,
    sequence=3,
    created_at=NOW,
    updated_at=NOW,
    submitted_at=NOW,
    finished_at=NOW,
    deadline_at=NOW,
    input_removed_at=NOW,
    results_removed_at=NOW,
    erased_at=NOW,
    due_at=NOW,
)
EMPTY = Task(
    id=uuid4(),
    client="alice",
    family="runway",
    operation="text_to_video",
    input={},
    created_at=NOW,
    updated_at=NOW,
    deadline_at=NOW,
)


def names(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def test_every_field_of_a_task_is_a_column() -> None:
    assert names(Task) == {column.name for column in tasks.columns}


def test_every_field_of_a_task_is_rendered_or_hidden() -> None:
    rendered = set(show_task(FULL, now=NOW))
    assert rendered == {RENAMED.get(name, name) for name in names(Task) - HIDDEN} | COMPUTED


def test_every_rendered_field_of_a_task_is_in_the_response_model() -> None:
    assert set(show_task(FULL, now=NOW)) == models.Task.__required_keys__
    assert set(all_components()["Task"]["required"]) == models.Task.__required_keys__
    assert set(all_components()["Task"]["properties"]) == models.Task.__required_keys__ | models.Task.__optional_keys__


@pytest.mark.parametrize(
    "task",
    [FULL, EMPTY, dataclasses.replace(EMPTY, state=State.AWAITING_INPUT)],
    ids=["full", "empty", "awaiting input"],
)
def test_a_rendered_task_has_the_types_of_the_response_model(task: Task) -> None:
    models.Task.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[attr-defined]
    try:
        TypeAdapter(models.Task).validate_python(show_task(task, now=NOW))
    finally:
        del models.Task.__pydantic_config__  # type: ignore[attr-defined]


def test_a_rendered_event_has_the_fields_of_the_response_model() -> None:
    event = Event(task_id=FULL.id, client="alice", sequence=1, type="accepted", source=Source.CLIENT, at=NOW, data={})
    assert set(show_event(event)) == models.Event.__required_keys__


def test_every_field_of_a_response_model_is_documented_by_a_schema() -> None:
    for name, schema in all_components().items():
        assert schema["type"] == "object", name
        assert typing.cast("dict", schema.get("properties", {})), name
