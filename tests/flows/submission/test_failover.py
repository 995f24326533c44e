"""Routes, retries, circuits, limits and lost answers, on a clock that the test holds."""

import datetime as dt
from collections import Counter

import httpx
import pytest

from service.domain.task import State, WaitingFor
from service.sandbox import Faults
from tests.support.routes import WITHOUT_WEBHOOK, three_upstreams
from tests.support.world import JOB_SECONDS


async def test_next_upstream_is_used_after_three_tries(database_url: str) -> None:
    async with three_upstreams(database_url) as three:
        three.elk.faults = three.comet.faults = Faults.named(["503=99"])
        task = await three.world.submit(**WITHOUT_WEBHOOK)
        await three.world.until(60)
        assert await three.history(task) == [
            *[("elkapi", "unavailable")] * 3,
            *[("cometapi", "unavailable")] * 3,
            ("runwayml", "taken"),
        ]
        assert three.jobs == [0, 0, 1]
        assert (await three.world.task(task)).state is State.SUCCEEDED
        events = Counter(event.type for event in await three.world.events(task))
        assert events["upstream_unavailable"] == 6


async def test_account_problem_fails_over_and_refusal_does_not(database_url: str) -> None:
    async with three_upstreams(database_url) as three:
        three.elk.faults = Faults.named(["nocredit"])
        task = await three.world.submit(**WITHOUT_WEBHOOK)
        await three.world.work()
        assert await three.history(task) == [("elkapi", "account"), ("cometapi", "taken")]
        three.comet.faults = Faults.named(["refuse"])
        refused = await three.world.submit(**WITHOUT_WEBHOOK)
        await three.world.work()
        assert await three.history(refused) == [("elkapi", "account"), ("cometapi", "refused")]
        assert (await three.world.task(refused)).state is State.FAILED


async def test_route_defines_the_upstreams_and_their_order(database_url: str) -> None:
    async with three_upstreams(database_url, DOVECOTE_ROUTES__RUNWAY="runwayml,elkapi") as three:
        assert (await three.world.submit(**WITHOUT_WEBHOOK)).route == ("runwayml", "elkapi")
        assert (await three.world.submit(**WITHOUT_WEBHOOK, route=["cometapi", "runwayml"])).route == (
            "cometapi",
            "runwayml",
        )
        assert (await three.world.submit(**WITHOUT_WEBHOOK, upstream="cometapi")).route == ("cometapi",)
        answer = await three.world.client.post(
            "/v1/tasks",
            json={"family": "runway", "operation": "text_to_video", "input": {"prompt": "a"}, "route": ["elk"]},
        )
        assert answer.status_code == 422
        assert "did you mean 'elkapi'" in answer.text


async def test_upstream_that_cannot_express_the_input_is_skipped_with_the_reason(database_url: str) -> None:
    async with three_upstreams(database_url) as three:
        task = await three.world.submit(**WITHOUT_WEBHOOK, input={"prompt": "a dove", "seed": 7})
        assert task.route == ("runwayml",)
        assert set(task.skipped_upstreams) == {"elkapi", "cometapi"}
        [accepted] = await three.world.events(task)
        assert "input.seed" in accepted.data["skipped_upstreams"]["elkapi"]
        shown = (await three.world.client.get(f"/v1/tasks/{task.id}")).json()
        assert shown["skipped_upstreams"] == dict(task.skipped_upstreams)


@pytest.mark.parametrize("date", [False, True])
async def test_retry_after_is_honoured_unless_it_is_too_long(database_url: str, *, date: bool) -> None:
    async with three_upstreams(database_url, DOVECOTE_ROUTES__RUNWAY="elkapi,cometapi") as three:
        asked = 90
        now = three.world.clock()

        class Busy(httpx.AsyncBaseTransport):
            async def handle_async_request(self, _: httpx.Request) -> httpx.Response:
                until = (now + dt.timedelta(seconds=asked)).strftime("%a, %d %b %Y %H:%M:%S GMT")
                headers = {
                    "Retry-After": until if date else str(asked),
                    "Date": now.strftime("%a, %d %b %Y %H:%M:%S GMT"),
                }
                stream = httpx.ByteStream(b'{"error":{"message":"too many requests"}}')
                return httpx.Response(429, headers=headers, stream=stream)

        three.world.edge.hosts["sandbox.test"] = Busy()
        task = await three.world.submit(**WITHOUT_WEBHOOK)
        await three.world.work()
        waits = (await three.world.task(task)).due_at
        assert waits == now + dt.timedelta(seconds=90)
        asked = 121
        await three.world.until(95)
        assert await three.history(task) == [("elkapi", "unavailable")] * 2 + [("cometapi", "taken")]


async def test_open_circuit_recovers_after_one_answer(database_url: str) -> None:
    async with three_upstreams(database_url, DOVECOTE_ROUTES__RUNWAY="elkapi") as three:
        world = three.world
        world.edge.down.add("sandbox.test")
        first = [await world.submit(**WITHOUT_WEBHOOK) for _ in range(5)]
        await world.work()
        [upstream, *_] = (await world.client.get("/v1/upstreams")).json()["upstreams"]
        assert [(each["dialect"], each["state"]) for each in upstream["circuits"]] == [("runway/aggregator", "open")]
        sent = len(world.edge.requests)
        await world.pass_time(29)
        assert len(world.edge.requests) == sent, "it is left alone"
        waiting = [await world.task(task) for task in first]
        assert {task.waits_for for task in waiting} == {WaitingFor("elkapi", "runway/aggregator")}
        await world.pass_time(2)
        assert len(world.edge.requests) == sent + 1, "one task tries"
        world.edge.down.clear()
        await world.pass_time(31)
        assert three.jobs == [5, 0, 0]
        [upstream, *_] = (await world.client.get("/v1/upstreams")).json()["upstreams"]
        assert upstream["circuits"] == []


async def test_open_circuit_is_skipped_and_refusals_do_not_open_one(database_url: str) -> None:
    async with three_upstreams(database_url) as three:
        world = three.world
        three.elk.faults = Faults.named(["refuse"])
        for _ in range(6):
            await world.submit(**WITHOUT_WEBHOOK)
        await world.work()
        three.elk.faults = Faults()
        world.edge.down.add("sandbox.test")
        for _ in range(5):
            await world.submit(**WITHOUT_WEBHOOK)
        await world.work()
        task = await world.submit(**WITHOUT_WEBHOOK)
        await world.work()
        assert await three.history(task) == [("cometapi", "taken")]


async def test_slots_are_shared_fairly_between_clients(database_url: str) -> None:
    more = {"DOVECOTE_UPSTREAMS__ELKAPI__OPEN_TASKS": "2", "DOVECOTE_ROUTES__RUNWAY": "elkapi"}
    async with three_upstreams(database_url, **more) as three:
        world = three.world
        greedy = [await world.submit(**WITHOUT_WEBHOOK, prompt=f"[drop] greedy {n}") for n in range(5)]
        await world.work()
        assert three.jobs == [2, 0, 0]
        shown = (await world.client.get(f"/v1/tasks/{greedy[4].id}")).json()
        assert (shown["state"], shown["waits_for"], shown["queue_position"]) == ("queued", "elkapi", 3)
        assert "may be given 2 tasks at once" in shown["explanation"]
        modest = await world.submit_as("modest", "[drop] modest", **WITHOUT_WEBHOOK)
        await world.work()
        await world.until(JOB_SECONDS * 1.6)
        assert (await world.task(modest)).state is not State.QUEUED, "it has fewer places, so its turn comes first"
        [upstream, *_] = (await world.client.get("/v1/upstreams")).json()["upstreams"]
        assert (upstream["open_tasks"], upstream["limits"]["open_tasks"]) == (2, 2)
        await world.until(200)
        assert three.jobs == [6, 0, 0]
        assert {(await world.task(task)).state for task in (*greedy, modest)} == {State.SUCCEEDED}


async def test_submits_per_second_are_limited(database_url: str) -> None:
    more = {"DOVECOTE_UPSTREAMS__ELKAPI__SUBMITS_PER_SECOND": "2", "DOVECOTE_ROUTES__RUNWAY": "elkapi"}
    async with three_upstreams(database_url, **more) as three:
        for _ in range(9):
            await three.world.submit(**WITHOUT_WEBHOOK)
        seen = []
        for _ in range(5):
            await three.world.work()
            seen.append(three.jobs[0])
            three.world.clock.forward(1)
        assert seen == [2, 4, 6, 8, 9]


@pytest.mark.parametrize(("policy", "state", "jobs"), [("hold", "unconfirmed", 1), ("fail", "failed", 1)])
async def test_lost_answer_is_settled_by_policy(database_url: str, policy: str, state: str, jobs: int) -> None:
    async with three_upstreams(database_url, DOVECOTE_ROUTES__RUNWAY="elkapi") as three:
        three.elk.faults = Faults.named(["cut", "drop"])
        task = await three.world.submit(**WITHOUT_WEBHOOK, on_uncertain=policy)
        await three.world.until(200)
        assert (await three.world.task(task)).state == state
        assert three.jobs == [jobs, 0, 0]


async def test_resubmit_once_submits_again_and_records_the_first_job(database_url: str) -> None:
    async with three_upstreams(database_url, DOVECOTE_ROUTES__RUNWAY="elkapi,runwayml") as three:
        three.elk.faults = Faults.named(["cut", "late=300"])
        task = await three.world.submit(**WITHOUT_WEBHOOK, on_uncertain="resubmit_once")
        await three.world.until(130)
        assert await three.history(task) == [("elkapi", "uncertain"), ("runwayml", "taken")]
        await three.world.until(400)
        after = await three.world.task(task)
        assert (after.state, after.upstream) == (State.SUCCEEDED, "runwayml")
        first, second = await three.world.submissions(task)
        assert (first.outcome, first.job_state) == ("taken", "succeeded")
        assert first.superseded_at is not None
        assert second.superseded_at is None
        types = [event.type for event in await three.world.events(task)]
        assert types.count("duplicate_job") == 1
        assert types.count("resubmitted") == 1
        assert three.jobs == [1, 0, 1]


async def test_late_job_is_adopted_while_nothing_serves_the_task(database_url: str) -> None:
    async with three_upstreams(database_url, DOVECOTE_ROUTES__RUNWAY="elkapi,cometapi") as three:
        three.elk.faults = Faults.named(["cut", "late=150"])
        three.comet.faults = Faults.named(["cut"])
        task = await three.world.submit(**WITHOUT_WEBHOOK, on_uncertain="resubmit_once")
        await three.world.until(400)
        after = await three.world.task(task)
        assert (after.state, after.upstream) == (State.SUCCEEDED, "elkapi")
        first, second = await three.world.submissions(task)
        assert (first.outcome, first.superseded_at) == ("taken", None)
        assert (second.outcome, second.superseded_at is None) == ("uncertain", False)


async def test_admin_can_retry_an_unconfirmed_task_only(database_url: str) -> None:
    async with three_upstreams(database_url, DOVECOTE_ROUTES__RUNWAY="elkapi") as three:
        three.elk.faults = Faults.named(["cut", "drop"])
        task = await three.world.submit(**WITHOUT_WEBHOOK)
        await three.world.work()
        path = f"/v1/tasks/{task.id}/retry"
        assert (await three.world.client.post(path, json={})).status_code == 422
        three.elk.faults = Faults()
        answer = await three.world.client.post(path, json={"confirm_double_payment": True})
        assert (answer.status_code, answer.json()["state"]) == (202, "queued")
        assert "may have been paid" in answer.json()["explanation"]
        await three.world.until(60)
        assert (await three.world.task(task)).state is State.SUCCEEDED
        assert three.jobs == [2, 0, 0]
        assert (await three.world.client.post(path, json={"confirm_double_payment": True})).status_code == 409
