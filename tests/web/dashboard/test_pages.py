"""The pages: who sees what, what they offer, hostile texts, and the acts behind the buttons."""

import html
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.domain.api_key import Scope
from service.domain.task import State
from service.providers.registry import FAMILIES
from service.web.dashboard import tasks as list_page
from service.web.dashboard.schema_form import fields_of, input_from
from tests.support.clients import ALICE, BOB, MARK, add_key, submit_as_alice
from tests.support.pages import OPERATOR, Page, inline_code, visitor
from tests.support.world import RECEIVER_URL, World

HOSTILE = "<script>alert(1)</script> \"onload=alert(2)' {{7*7}} <img src=x onerror=alert(3)> </textarea></pre>"


@pytest.fixture
async def keyed(database_url: str) -> AsyncIterator[World]:
    settings = {"DOVECOTE_API_KEYS": f"alice={ALICE},bob={BOB},ops={OPERATOR}", "DOVECOTE_OPERATORS": "ops"}
    async with World.opened(database_url, **settings) as world:
        yield world


async def every_page(world: World, key: str | None = OPERATOR) -> list[str]:
    """Return the address of every page that shows something."""
    async with visitor(world, key) as someone:
        found = await someone.get("/ui/tasks")
    tasks = [str(each["href"]) for each in found.attributes("a") if "/ui/tasks/0" in str(each.get("href"))]
    return ["/ui/tasks", "/ui/tasks?view=attention", "/ui/tasks?view=twice", "/ui/start", "/ui/submit", *tasks]


# Who sees what ---------------------------------------------------------------------------------------------------


async def test_client_sees_its_own_tasks_only(keyed: World) -> None:
    await submit_as_alice(keyed, MARK)
    await keyed.pass_time(15)
    addresses = await every_page(keyed)
    async with visitor(keyed, BOB) as bob:
        for address in [*addresses, "/ui/tasks.csv", f"/ui/tasks?label=project={MARK}", "/ui/tasks?client=alice"]:
            page = await bob.get(address)
            assert MARK not in page.response.text.replace(html.escape(f"project={MARK}"), "").replace(f"%3D{MARK}", "")
            assert page.status == (404 if "/ui/tasks/0" in address else 200), address


async def test_operator_sees_every_client_and_selects_one(keyed: World) -> None:
    await submit_as_alice(keyed, MARK)
    async with visitor(keyed, OPERATOR) as ops:
        everything = await ops.get("/ui/tasks")
        others = await ops.get("/ui/tasks?client=bob")
    assert MARK in everything.text
    assert "alice" in everything.text
    assert MARK not in others.text


async def test_read_key_sees_no_buttons_and_can_change_nothing(keyed: World) -> None:
    key = await add_key(keyed, client="alice", scopes=frozenset({Scope.READ}))
    await submit_as_alice(keyed, f"{MARK} [modal]")
    task = (await every_page(keyed))[-1]
    async with visitor(keyed, key) as reader:
        pages = [await reader.get(address) for address in ("/ui/tasks", task, "/ui/start")]
        acts = [f"{task}/cancel", f"{task}/refresh", f"{task}/retry", f"{task}/input", f"{task}/follow"]
        answers = [await reader.post(address) for address in [*acts, "/ui/submit", "/ui/tasks/bulk"]]
        form = await reader.get("/ui/submit")
    assert [page.has_button() for page in pages] == [False] * 3
    assert [page.attributes("button") for page in pages] != []
    assert not any(each.get("class", "") == "pickone" for page in pages for each in page.attributes("input"))
    assert {answer.status for answer in answers} == {403}
    assert form.status == 403


async def test_act_on_another_clients_task_is_refused(keyed: World) -> None:
    await submit_as_alice(keyed, MARK)
    task = (await every_page(keyed))[-1]
    async with visitor(keyed, BOB) as bob:
        for act in ("cancel", "refresh", "retry", "input", "follow"):
            page = await bob.post(f"{task}/{act}", confirm_double_payment="true")
            assert page.status == 404
            assert MARK not in page.response.text


# Hostile texts ---------------------------------------------------------------------------------------------------


async def test_hostile_texts_are_shown_and_never_run(world: World) -> None:
    fields: dict[str, Any] = {"labels": {"project": HOSTILE[:200]}, "options": {"x": HOSTILE}}
    await world.submit(HOSTILE, **fields)
    await world.submit(f"{HOSTILE} [fail]", **fields)
    await world.pass_time(15)
    async with visitor(world) as someone:
        for address in [*await every_page(world, None), f"/ui/tasks?label=project={HOSTILE}", f"/ui/tasks?q={HOSTILE}"]:
            page = await someone.get(address)
            assert inline_code(page) == [], address
            assert not [each for each in page.attributes("img") if each.get("src") == "x"]
            assert "<script>alert" not in page.response.text
            assert "49" not in [part.strip() for part in page.text.split() if part == "49"]


async def test_address_that_means_nothing_shows_a_page(world: World) -> None:
    await world.submit("a dove")
    wrong = ["state=nothing", "before=x", "since=9y", "view=x", "label=x", "label==", "q=%00", "before=" + "0" * 32]
    async with visitor(world) as someone:
        for query in wrong:
            assert (await someone.get(f"/ui/tasks?{query}")).status == 200, query


async def test_cell_that_a_spreadsheet_would_run_is_written_as_a_text(world: World) -> None:
    await world.submit("a dove", input={"prompt": "x", "model": "=HYPERLINK(1)"})
    async with visitor(world) as someone:
        answer = await someone.client.get("/ui/tasks.csv")
    assert ",'=HYPERLINK(1)," in answer.text
    assert answer.headers["content-disposition"] == 'attachment; filename="tasks.csv"'


# The list --------------------------------------------------------------------------------------------------------


async def listed(page: Page) -> list[str]:
    return [str(each["id"])[2:] for each in page.attributes("tr") if str(each.get("id", "")).startswith("t-")]


async def test_list_is_read_by_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_page, "PAGE", 2)
    ids = [str((await world.submit(f"dove {number}")).id) for number in range(5)]
    seen: list[str] = []
    address: str | None = "/ui/tasks"
    async with visitor(world) as someone:
        while address is not None:
            page = await someone.get(address)
            seen += await listed(page)
            address = next((str(each["href"]) for each in page.attributes("a") if each.get("rel") == "next"), None)
    assert seen == ids[::-1]


async def test_filters_are_in_the_address(world: World) -> None:
    first = await world.submit("a dove", labels={"project": "intro"})
    await world.submit("[fail] a dove")
    await world.pass_time(15)
    async with visitor(world) as someone:
        for query, number in [
            ("state=succeeded", 1), ("state=succeeded&state=failed", 2), ("family=kling", 0), ("upstream=elkapi", 2),
            ("label=project=intro", 1), ("since=1h", 2), ("view=open", 0), ("view=attention", 0), ("view=twice", 0),
        ]:  # fmt: skip
            assert len(await listed(await someone.get(f"/ui/tasks?{query}"))) == number, query
        world.clock.forward(7200)
        assert len(await listed(await someone.get("/ui/tasks?since=1h"))) == 0
        assert (await someone.get(f"/ui/tasks?q={first.id}")).response.url.path == f"/ui/tasks/{first.id}"


async def test_task_is_found_by_its_external_id_and_label(world: World) -> None:
    task = await world.submit("a dove", labels={"project": "intro"})
    await world.submit("another")
    await world.work()
    job = (await world.task(task)).external_id
    async with visitor(world) as someone:
        assert (await someone.get(f"/ui/tasks?q={job}")).response.url.path == f"/ui/tasks/{task.id}"
        assert await listed(await someone.get("/ui/tasks?q=project=intro")) == [str(task.id)]
        assert "No task has this id" in (await someone.get("/ui/tasks?q=nothing")).text


async def test_view_names_the_tasks_that_need_somebody(world: World) -> None:
    waits = await world.submit("[stuck] a dove")
    await world.pass_time(5)
    async with visitor(world) as someone:
        assert await listed(await someone.get("/ui/tasks?view=attention")) == []
        world.clock.forward(1200)
        page = await someone.get("/ui/tasks?view=attention")
    assert await listed(page) == [str(waits.id)]
    assert "stuck" in page.text


async def test_live_part_has_the_shown_rows_and_the_number_of_new_tasks(world: World) -> None:
    first = await world.submit("a dove")
    await world.submit("another")
    async with visitor(world) as someone:
        answer = await someone.client.get(f"/ui/tasks/live?shown={first.id},x,&newest={first.id}")
    assert f'id="t-{first.id}" hx-swap-oob="true"' in answer.text
    assert "1 new task: show it" in answer.text
    assert inline_code(Page(answer)) == []


# The page of a task ----------------------------------------------------------------------------------------------


async def test_page_of_a_task_tells_its_story(world: World) -> None:
    task = await world.submit("a dove")
    await world.pass_time(15)
    async with visitor(world) as someone:
        page = await someone.get(f"/ui/tasks/{task.id}")
        document = (await someone.client.get(f"/ui/tasks/{task.id}.json")).json()
    for words in (
        "Succeeded at elkapi; reported by a callback.",
        "Paid Once 160 points",
        "Accepted, queued",
        "Submission 1 to elkapi taken",
        "Reports: succeeded, 1 video",
        "task.succeeded to receiver.test delivered",
        "HTTP 200",
    ):
        assert words in page.text
    assert document["id"] == str(task.id)


async def test_polls_of_one_outcome_are_one_line(world: World) -> None:
    task = await world.submit("[drop] a dove")
    await world.pass_time(30)
    async with visitor(world) as someone:
        page = await someone.get(f"/ui/tasks/{task.id}")
    assert "Poll said succeeded" in page.text
    assert "found by a poll" in page.text
    assert "no callback came; decided by the provider" in page.text


async def test_a_pruned_callback_is_not_called_missing(world: World) -> None:
    task = await world.submit("[drop] a dove")
    await world.pass_time(30)
    world.clock.forward(91 * 86400)
    async with visitor(world) as someone:
        page = await someone.get(f"/ui/tasks/{task.id}")
    assert "found by a poll" in page.text
    assert "no callback came" not in page.text


async def test_secrets_are_on_no_page(world: World) -> None:
    task = await world.submit("a dove")
    await world.pass_time(15)
    async with visitor(world) as someone:
        page = await someone.get(f"/ui/tasks/{task.id}")
    token = world.context.tokens.make((await world.submissions(task))[0].id)
    assert token not in page.response.text
    assert "sandbox-key" not in page.response.text
    assert "callbacks/[redacted]" in page.text


async def test_cancel_and_poll_now_do_what_the_api_does(world: World) -> None:
    task = await world.submit("[stuck] a dove")
    await world.work()
    async with visitor(world) as someone:
        polled = await someone.post(f"/ui/tasks/{task.id}/refresh")
        page = await someone.post(f"/ui/tasks/{task.id}/cancel")
        again = await someone.post(f"/ui/tasks/{task.id}/cancel")
    assert polled.status == page.status == again.status == 200
    assert (await world.task(task)).state is State.CANCELLED
    assert "Cancelled" in page.text


async def test_submit_again_needs_the_tick(world: World) -> None:
    task = await world.submit("[hang] a dove")
    world.edge.down.add("sandbox.test")
    async with visitor(world) as someone:
        page = await someone.post(f"/ui/tasks/{task.id}/retry")
        assert page.status == 422
        assert "second charge" in page.text
        queued = await someone.post(f"/ui/tasks/{task.id}/retry", confirm_double_payment="true")
    assert queued.status == 409


async def test_picked_tasks_are_cancelled_after_a_question(world: World) -> None:
    tasks = [await world.submit(f"[stuck] {number}") for number in range(3)]
    await world.work()
    picked = [str(task.id) for task in tasks[:2]]
    async with visitor(world) as someone:
        question = await someone.post("/ui/tasks/bulk", task=picked, act="cancel", next="/ui/tasks?state=running")
        assert [(await world.task(task)).state for task in tasks] == [State.SUBMITTED] * 3
        done = await someone.post(
            "/ui/tasks/bulk", task=picked, act="cancel", confirmed="true", next="/ui/tasks?state=running"
        )
    assert "Cancel 2 tasks?" in question.text
    assert [(await world.task(task)).state for task in tasks] == [State.CANCELLED] * 2 + [State.SUBMITTED]
    assert "state=running" in str(done.response.url)


async def test_follow_up_is_submitted_once(world: World) -> None:
    parent = await world.submit("fox", family="midjourney", operation="imagine", callback_url=None)
    await world.pass_time(15)
    action = (await world.task(parent)).next_actions[0].id
    async with visitor(world) as someone:
        page = await someone.post(f"/ui/tasks/{parent.id}/follow", action=action, idempotency_key="k")
        again = await someone.post(f"/ui/tasks/{parent.id}/follow", action=action, idempotency_key="k")
        other = await someone.post(f"/ui/tasks/{parent.id}/follow", action="made-up", idempotency_key="k")
    assert page.response.url == again.response.url
    assert "the one before" in page.text
    assert other.status == 409


async def test_awaited_input_is_sent_from_the_page(world: World) -> None:
    task = await world.submit("[modal] fox", family="midjourney", operation="imagine", callback_url=None)
    await world.pass_time(5)
    assert (await world.task(task)).state is State.AWAITING_INPUT
    async with visitor(world) as someone:
        page = await someone.get(f"/ui/tasks/{task.id}")
        await someone.post(f"/ui/tasks/{task.id}/input", **{"input.prompt": "a fox in the snow"})
    assert "waits for input" in page.text
    assert (await world.task(task)).answered_at is not None


# Submitting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "operation"), [(name, each) for name in FAMILIES for each in FAMILIES[name].operations]
)
def test_form_has_a_field_for_every_input(family: str, operation: str) -> None:
    schema = FAMILIES[family].operations[operation].input
    given = schema["examples"][0]
    fields = fields_of(schema, given)
    assert {field.title for field in fields} == set(schema["properties"])
    written = {field.name: [field.value] for field in fields if field.value}
    assert input_from(schema, written) == given


async def test_form_of_every_family_is_shown(world: World) -> None:
    async with visitor(world) as someone:
        for family in FAMILIES:
            page = await someone.get(f"/ui/submit?family={family}")
            assert page.status == 200
            assert inline_code(page) == []


async def test_task_is_submitted_by_the_form_once(world: World) -> None:
    fields = {
        "family": "runway", "operation": "text_to_video", "idempotency_key": "form-1", "input.prompt": "a dove\nat dusk",
        "input.duration": "5", "input.seed": "", "labels": "project=intro\nshot=1", "callback_url": RECEIVER_URL,
    }  # fmt: skip
    async with visitor(world) as someone:
        page = await someone.post("/ui/submit", **fields)
        again = await someone.post("/ui/submit", **fields)
        other = await someone.post("/ui/submit", **{**fields, "input.prompt": "another"})
    task = await world.task(list_page.as_id(page.response.url.path.rpartition("/")[2]))  # type: ignore[arg-type]
    assert page.response.url == again.response.url
    assert task.input == {"prompt": "a dove\nat dusk", "duration": 5}
    assert task.labels == {"project": "intro", "shot": "1"}
    assert other.status == 422
    assert "submitted before with other values" in other.text


async def test_form_returns_every_mistake_at_its_field_and_keeps_what_was_typed(world: World) -> None:
    async with visitor(world) as someone:
        page = await someone.post(
            "/ui/submit",
            **{"family": "runway", "operation": "text_to_video", "input.prompt": HOSTILE, "input.duration": "long",
               "input.aspect_ratio": "wide", "labels": "nothing", "options": "{", "callback_url": "ftp://x"},
        )  # fmt: skip
    assert page.status == 422
    assert "Nothing has been paid" in page.text
    for name in ("input.duration", "input.aspect_ratio"):
        field = next(each for each in page.attributes("input") if each.get("name") == name)
        assert field["aria-invalid"] == "true"
        assert field["value"] in {"long", "wide"}
    assert "must have the form name=value" in page.text
    assert inline_code(page) == []


async def test_copy_of_a_task_fills_the_form(world: World) -> None:
    task = await world.submit("a dove", labels={"project": "intro"})
    async with visitor(world) as someone:
        page = await someone.get(f"/ui/submit?from={task.id}")
    assert "a dove" in page.text
    assert "project=intro" in page.text
