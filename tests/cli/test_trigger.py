"""The callbacks that ``dovecote trigger`` writes are read by every dialect that can have them."""

import dataclasses

import pytest

from service.cli.trigger import callback_of
from service.domain.task import Outcome, State, Submission
from service.providers.registry import DIALECTS
from service.providers.wire import Callback
from service.sandbox import Sandbox
from service.settings.model import Settings
from tests.support.operations import NOW, task
from tests.support.values import new_id

ABLE = sorted(
    name
    for name in Sandbox.base_paths()
    if name in DIALECTS and DIALECTS[name].facts.callbacks and not DIALECTS[name].facts.signs
)


@pytest.mark.parametrize("name", ABLE)
@pytest.mark.parametrize(("kind", "state"), [("succeeded", State.SUCCEEDED), ("failed", State.FAILED)])
async def test_callback_of_every_played_dialect_is_read(name: str, kind: str, state: State) -> None:
    dialect = DIALECTS[name]
    ordered = task(name)
    if name == "any/elk-task":  # the host needs the name of a model
        ordered = dataclasses.replace(ordered, input={**ordered.input, "model": "wan-2.6"})
    if ordered.operation in dialect.facts.synchronous:
        pytest.skip("it answers with its result")
    submission = Submission(
        id=new_id(),
        task_id=ordered.id,
        upstream="x",
        dialect=name,
        sent_at=NOW,
        outcome=Outcome.TAKEN,
        external_id="job-77",
    )
    body = await callback_of(Settings(), ordered, submission, kind)
    updates = dialect.read_callback(Callback({"content-type": "application/json"}, body, NOW.timestamp()))
    assert updates[-1].state is state or updates[-1].incomplete
    assert updates[-1].external_id in {"job-77", None}
