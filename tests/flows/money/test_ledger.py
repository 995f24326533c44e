"""The ledger agrees with the records of every provider after every fault, on both databases and beside a running server."""

import asyncio
import contextlib
import datetime as dt
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from service.cli import exits, main
from service.flows.money import ledger as ledger_module
from service.sandbox import Faults
from service.store import ledger, submissions
from service.store.database import Database
from tests.support.routes import Route, three_upstreams
from tests.support.values import a_submission, a_task, keep, opened
from tests.support.world import JOB_SECONDS, World


async def command(url: str, *arguments: str) -> Result:
    environment = {"DOVECOTE_DATABASE_URL": url}
    return await asyncio.to_thread(CliRunner().invoke, main, ["ledger", *arguments], env=environment)


async def written(url: str, *arguments: str) -> dict[str, Any]:
    result = await command(url, *arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return dict(json.loads(result.stdout))


def counts(account: dict[str, Any]) -> tuple[int, ...]:
    paid, refunded = account["paid"], account["refunded"]
    return (
        account["submissions"],
        paid["known"],
        paid["probable"],
        refunded["known"],
        refunded["probable"],
        account["unpaid"],
    )


@contextlib.asynccontextmanager
async def tasks_of_every_outcome(url: str) -> AsyncIterator[Route]:
    """Submit tasks of every outcome, paid and free. The sandboxes record the paid jobs."""
    async with three_upstreams(url, DOVECOTE_ROUTES__RUNWAY="elkapi,cometapi,runwayml") as three:
        world = three.world
        request: dict[str, Any] = {"callback_url": None}
        three.elk.faults = Faults.named(["cut", "late=300"])
        again = {"on_uncertain": "resubmit_once", "route": ["elkapi", "runwayml"]}
        twice = await world.submit("bought twice", **request, **again)
        await world.work()
        three.elk.faults = Faults()
        await world.submit("[drop] plain", **request)
        await world.submit("[drop][fail] given back", **request)
        await world.submit("[drop] of another client", **request, upstream="runwayml")
        await world.submit_as("shop", "[fail] credits given back", **request, upstream="runwayml")
        await world.submit_as("shop", "[moderate] credits kept", **request, upstream="runwayml")
        await world.submit("[refuse] refused", **request)
        await world.submit("[429=2] busy", **request)
        await world.submit("[cut][drop] lost", **request)
        await world.work()
        await world.until(700)
        assert (await world.task(twice)).upstream == "runwayml"
        yield three


async def test_ledger_counts_each_submission_once(database_url: str) -> None:
    async with tasks_of_every_outcome(database_url) as three:
        told = await written(database_url)
        rows = {row["upstream"]: row for row in told["rows"]}
        #                                       submissions, paid, perhaps, refunded, perhaps, unpaid
        assert counts(rows["elkapi"]) == (8, 2, 2, 1, 0, 3)
        assert counts(rows["runwayml"]) == (4, 3, 0, 1, 0, 0)
        assert counts(told["total"]) == (12, 5, 2, 2, 0, 3)
        taken = {name: sum(counts(row)[1:5]) for name, row in rows.items()}
        assert taken == {"elkapi": len(three.elk.ledger.jobs), "runwayml": len(three.runway.ledger.jobs)}
        assert rows["runwayml"]["cost"] == {"credits": 75.0}
        assert rows["elkapi"]["cost"].keys() == {"points"}
        assert told["total"]["cost"].keys() == {"credits", "points"}


async def test_ledger_groups_and_filters_by_time(database_url: str) -> None:
    async with tasks_of_every_outcome(database_url) as three:
        by = await written(database_url, "--by", "client,upstream")
        assert [(row["client"], row["upstream"], row["submissions"]) for row in by["rows"]] == [
            ("default", "elkapi", 8),
            ("default", "runwayml", 2),
            ("shop", "runwayml", 2),
        ]
        days = await written(database_url, "--by", "day,family")
        sent = {each.sent_at.date().isoformat() for task in await all_tasks(three.world) for each in task}
        assert [row["day"] for row in days["rows"]] == sorted(sent)
        assert {row["family"] for row in days["rows"]} == {"runway"}
        moments = sorted(each.sent_at for task in await all_tasks(three.world) for each in task)
        last = moments[-1].isoformat()
        assert (await written(database_url, "--since", last))["total"]["submissions"] == 1
        assert (await written(database_url, "--until", last))["total"]["submissions"] == 11
        assert (await written(database_url, "--until", last, "--since", last))["rows"] == []


async def all_tasks(world: World) -> list[list[Any]]:
    listed = (await world.client.get("/v1/tasks", params={"limit": 100})).json()["tasks"]
    async with world.context.database.reading() as connection:
        from uuid import UUID

        found = await submissions.of_tasks(connection, [UUID(task["id"]) for task in listed])
        others = await connection.exec_driver_sql("SELECT id FROM tasks WHERE client = 'shop'")
        ids = [row[0] if isinstance(row[0], UUID) else UUID(row[0]) for row in others]
        found |= await submissions.of_tasks(connection, ids)
    return list(found.values())


async def test_ledger_day_is_utc(database_url: str) -> None:
    async with opened(database_url) as database:
        midnight = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
        moments = [midnight - dt.timedelta(microseconds=1), midnight]
        tasks = [a_task() for _ in moments]
        await keep(database, *tasks)
        async with database.writing() as connection:
            begun = [a_submission(task, sent_at=at) for task, at in zip(tasks, moments, strict=True)]
            await submissions.begin(connection, begun)
        async with database.reading() as connection:
            found = await ledger.entries(connection, by=["day"])
    assert sorted((entry.group, entry.count) for entry in found) == [(("2026-03-01",), 1), (("2026-03-02",), 1)]


async def test_failed_gateway_jobs_count_as_perhaps_refunded(database_url: str) -> None:
    async with World.opened(database_url) as world:
        world.sandbox.faults = Faults.named(["fail"])
        for operation, given in (("music", {"prompt": "a dove"}), ("lyrics", {"prompt": "a dove"})):
            await world.submit(family="suno", operation=operation, input=given, callback_url=None)
        await world.submit(family="midjourney", operation="imagine", input={"prompt": "a dove"}, callback_url=None)
        await world.until(JOB_SECONDS * 6)
        told = await written(database_url, "--by", "family")
        assert {row["family"]: counts(row) for row in told["rows"]} == {
            "suno": (2, 0, 0, 0, 2, 0),
            "midjourney": (1, 0, 0, 0, 1, 0),
        }


async def test_free_operations_cost_nothing(database_url: str) -> None:
    async with World.opened(database_url) as world:
        song = await world.submit(family="suno", operation="music", input={"prompt": "a dove"}, callback_url=None)
        await world.until(JOB_SECONDS * 6)
        for operation in ("wav", "timing"):
            await world.submit(family="suno", operation=operation, input={}, parent_id=str(song.id), callback_url=None)
        await world.until(JOB_SECONDS * 6)
        assert counts((await written(database_url))["total"]) == (3, 1, 0, 0, 0, 2)


ENTRY = ledger.Entry(
    group=("x",), dialect="runway/aggregator", operation="text_to_video", outcome="taken", serves=True,
    succeeded=False, came_to_nothing=False, refunded=None, count=1, cost=10.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({}, "paid"),
        ({"refunded": False}, "paid"),
        ({"refunded": True}, "refunded"),
        ({"came_to_nothing": True}, "perhaps_refunded"),
        ({"came_to_nothing": True, "refunded": False}, "paid"),
        ({"came_to_nothing": True, "dialect": "runway/official"}, "paid"),
        ({"came_to_nothing": True, "dialect": "gone/for-good"}, "paid"),
        ({"succeeded": True, "refunded": True}, "paid"),
        ({"succeeded": True, "came_to_nothing": True}, "paid"),
        ({"succeeded": True, "serves": False, "refunded": True}, "perhaps_paid"),
        ({"serves": False}, "perhaps_paid"),
        ({"serves": False, "refunded": True}, "refunded"),
        ({"serves": False, "came_to_nothing": True}, "perhaps_refunded"),
        ({"outcome": "uncertain"}, "perhaps_paid"),
        ({"outcome": "sending"}, "perhaps_paid"),
        ({"outcome": "refused"}, "unpaid"),
        ({"outcome": "account"}, "unpaid"),
        ({"outcome": "unavailable"}, "unpaid"),
        ({"dialect": "suno/newapi", "operation": "wav"}, "unpaid"),
        ({"dialect": "suno/sunoapi", "operation": "wav"}, "paid"),
    ],
)
def test_submission_is_classified_by_outcome_and_refund(more: dict[str, Any], kind: str) -> None:
    import dataclasses

    entry = dataclasses.replace(ENTRY, **more)
    assert ledger_module.kind_of(entry) == kind
    _, total = ledger_module.summarize([entry, dataclasses.replace(entry, group=("y",), count=3)])
    assert (getattr(total, kind), total.submissions) == (4, 4)
    assert bool(total.cost) is (kind not in {"refunded", "unpaid"})


async def test_ledger_only_reads(database_url: str) -> None:
    async with opened(database_url) as database:
        await keep(database, a_task())
        with pytest.raises(Exception, match=r"(?i)read.?only|cannot be written|query_only"):
            await _write_after_only_read(database)
        async with database.reading() as connection:
            assert (await connection.exec_driver_sql("SELECT count(*) FROM tasks")).scalar() == 1


async def _write_after_only_read(database: Database) -> None:
    async with database.reading() as connection:
        await ledger.make_read_only(connection)
        await connection.exec_driver_sql("DELETE FROM tasks")


async def test_ledger_reports_a_missing_or_outdated_database(empty_postgresql_url: str, tmp_path: Any) -> None:
    for url, words in (
        (f"sqlite:///{tmp_path / 'none.db'}", "there is no database yet"),
        (empty_postgresql_url, "run `dovecote migrate`"),
        ("postgresql://me:hunter2@127.0.0.1:1/none", "nothing listens at the database's address"),
    ):
        result = await command(url)
        assert (result.exit_code, result.stdout) == (exits.UNAVAILABLE, "")
        assert words in result.stderr
        assert "hunter2" not in result.output
    assert list(tmp_path.iterdir()) == []


async def test_ledger_prints_a_table(sqlite_url: str) -> None:
    async with tasks_of_every_outcome(sqlite_url):
        said = (await command(sqlite_url, "--by", "upstream,client")).stdout.splitlines()
    assert said[0].split() == [
        "upstream",
        "client",
        "submissions",
        "paid",
        "perhaps",
        "paid",
        "refunded",
        "perhaps",
        "refunded",
        "unpaid",
        "adopted",
        "cost",
    ]
    assert said[1].split()[:8] == ["elkapi", "default", "8", "2", "2", "1", "0", "3"]
    assert said[-1].split()[:7] == ["total", "12", "5", "2", "2", "0", "3"]
    assert said[-1].count("credits") == said[-1].count("points") == 1


@pytest.mark.parametrize("groups", ["", "upstream,upstream", "model", ","])
def test_unknown_ledger_group_is_rejected(groups: str) -> None:
    result = CliRunner().invoke(main, ["ledger", "--by", groups])
    assert result.exit_code == exits.USAGE
    assert "upstream, family, day, client" in result.stderr


def test_every_ledger_group_is_offered() -> None:
    from service.cli.ledger import _CHOICES

    assert _CHOICES == ledger.GROUPS
