"""Journeys of Kling tasks on a held clock: callbacks without results, key pairs, and a lost answer that is found by its reference."""

import base64
import json

from service.domain.task import Source, State
from tests.support.dialects import world_of
from tests.support.world import World

SHOT = {
    "family": "kling",
    "operation": "text_to_video",
    "input": {"prompt": "[drop] a fox", "duration": 5, "aspect_ratio": "16:9"},
}
ROUTE = "/klingai/v1/videos/text2video"


def submitted(world: World) -> dict[str, str]:
    """Return the body of the only submit."""
    [request] = [each for each in world.edge.requests if each.method == "POST" and each.url.path == ROUTE]
    found: dict[str, str] = json.loads(request.content)
    return found


def asked(world: World) -> int:
    return sum(1 for each in world.edge.requests if each.method == "GET" and each.url.path.startswith(ROUTE))


async def test_callback_without_its_output_is_followed_by_a_poll(database_url: str) -> None:
    async with world_of("kling/official", database_url) as world:
        task = await world.submit(**SHOT)
        await world.work()
        job = world.sandbox.ledger.jobs[0]
        await world.pass_time(job.life.ended_at - world.clock.seconds() + 0.5, step=0.25)
        before = asked(world)
        assert (await world.task(task)).state in {State.SUBMITTED, State.RUNNING}
        thin = {"task_id": job.id, "task_status": "succeed", "task_status_msg": ""}
        await world.client.post(submitted(world)["callback_url"], json=thin)
        await world.work()
        assert asked(world) == before + 1
        ended = await world.task(task)
        assert (ended.state, ended.outcome_source) == (State.SUCCEEDED, Source.POLL)
        assert [each.item for each in ended.results] == [f"{job.id}-video"]


async def test_lost_answer_is_looked_up_by_our_reference(database_url: str) -> None:
    async with world_of("kling/official", database_url) as world:
        task = await world.submit(**{**SHOT, "input": {"prompt": "[cut][drop] a fox"}})
        await world.work()
        [submission] = await world.submissions(task)
        assert submitted(world)["external_task_id"] == str(submission.id)
        assert (await world.task(task)).state is State.UNCONFIRMED
        await world.until(120)
        ended = await world.task(task)
        assert (ended.state, ended.external_id) == (State.SUCCEEDED, world.sandbox.ledger.jobs[0].id)
        assert world.sandbox.ledger.paid() == 1


async def test_key_pair_signs_each_call_by_the_clock(sqlite_url: str) -> None:
    pair = {
        "DOVECOTE_UPSTREAMS__ELKAPI__DIALECTS": "kling/official",
        "DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": "http://sandbox.test/klingai",
        "DOVECOTE_UPSTREAMS__ELKAPI__KEY": "the-access-key:the-secret-key",
    }
    async with World.opened(sqlite_url, **pair) as world:
        await world.submit(**SHOT)
        await world.work()
        [request] = [each for each in world.edge.requests if each.method == "POST" and each.url.path == ROUTE]
        _, claims, _ = request.headers["Authorization"].removeprefix("Bearer ").split(".")
        said = json.loads(base64.urlsafe_b64decode(claims + "=="))
        assert said["iss"] == "the-access-key"
        assert 0 <= said["exp"] - 1800 - world.clock.seconds() + 60 <= 120
