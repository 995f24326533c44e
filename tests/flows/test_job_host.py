"""The provider's host that knows a job: the key goes there only where it is of the upstream's own domain."""

import pytest

from service.domain.task import Source, State, Update
from service.domain.transitions import advance
from service.flows.conversation import base_url_of
from service.providers.wire import Call
from service.sandbox import Faults
from tests.support.dialects import DIALECTS, example_of, world_of
from tests.support.values import a_task

HOST = "api.us3.bfl.ai"


@pytest.mark.parametrize(
    ("base_url", "host", "expected"),
    [
        ("https://api.bfl.ai", HOST, f"https://{HOST}"),
        ("https://api.bfl.ai", None, "https://api.bfl.ai"),
        ("https://api.bfl.ai", "evil.test", "https://api.bfl.ai"),
        ("https://api.bfl.ai", "bfl.ai.evil.test", "https://api.bfl.ai"),
        ("https://proxy.example.com/bfl", HOST, "https://proxy.example.com/bfl"),
        ("http://api.bfl.ai", HOST, "http://api.bfl.ai"),
        ("http://127.0.0.1:9/bfl", HOST, "http://127.0.0.1:9/bfl"),
        ("https://127.0.0.1", "10.0.0.1", "https://127.0.0.1"),
        ("https://localhost", "localhost", "https://localhost"),
    ],
)
def test_call_leaves_the_upstream_for_a_host_of_its_own_domain_only(
    base_url: str, host: str | None, expected: str
) -> None:
    assert base_url_of(base_url, Call(method="GET", path="/", host=host)) == expected


def test_host_of_a_job_is_kept_until_the_task_has_another_job() -> None:
    task = a_task(state=State.SUBMITTING)
    now = task.created_at
    taken = advance(task, Update(state=State.SUBMITTED, external_id="j1", job_host=HOST), now=now, source=Source.SUBMIT)
    assert taken is not None
    assert taken.job_host == HOST
    running = advance(taken, Update(state=State.RUNNING, external_id="j1"), now=now, source=Source.POLL)
    assert running is not None
    assert running.job_host == HOST
    other = advance(running, Update(state=State.RUNNING, external_id="j2"), now=now, source=Source.SUBMIT)
    assert other is not None
    assert (other.external_id, other.job_host) == ("j2", None)


async def test_host_of_a_job_is_stored_and_an_upstream_elsewhere_is_polled_itself(database_url: str) -> None:
    async with world_of("flux/official", database_url) as world:
        world.sandbox.faults = Faults.named(("drop",))
        task = await world.submit(**example_of(DIALECTS["flux/official"]))
        await world.work()
        assert (await world.task(task)).job_host == "api.us1.bfl.ai"
        await world.until(60)
        assert (await world.task(task)).state is State.SUCCEEDED
