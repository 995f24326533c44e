"""The OpenAPI document and its page: valid, complete, built from the same values as the routes, and readable offline."""

import asyncio
import html.parser
import re

import httpx
import jsonschema_rs
import orjson
import pytest
from starlette.routing import Route

from service.app import routes
from service.flows.render import show_task
from service.providers.registry import FAMILIES
from service.settings.model import Settings
from service.web.api import ENDPOINTS
from service.web.api.openapi import document
from service.web.docs import render
from service.web.problems import TITLES
from tests.support.contract import CONTRACT, DOCUMENT
from tests.support.waiting import until
from tests.support.world import INSTALLATION_SECRET, JOB_SECONDS, RECEIVER_URL, TASK_REQUEST, WEBHOOK_SECRET, World

OPERATIONS = [
    (path, method, operation) for path, methods in DOCUMENT["paths"].items() for method, operation in methods.items()
]


def test_openapi_document_is_valid() -> None:
    from openapi_spec_validator import OpenAPIV31SpecValidator  # slow to import

    assert DOCUMENT["openapi"] == "3.1.0"
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []
    for name, schema in DOCUMENT["components"]["schemas"].items():
        jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]})
        assert jsonschema_rs.meta.is_valid(schema), name


def test_every_reference_resolves() -> None:
    references = set(re.findall(r'"\$ref":"#/([^"]+)"', orjson.dumps(DOCUMENT).decode()))
    assert references
    for reference in references:
        found = DOCUMENT
        for part in reference.split("/"):
            found = found[part]
        assert found


def test_routes_and_documented_operations_match() -> None:
    served = {
        (route.path, method.lower())
        for route in routes(Settings())
        if isinstance(route, Route) and route.path.startswith("/v1/")
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert served == {(path, method) for path, method, _ in OPERATIONS}
    assert len(OPERATIONS) == len(ENDPOINTS)


def test_operations_are_named_described_and_list_problems() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(names)) == len(names)
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    for path, _, operation in OPERATIONS:
        assert operation["summary"]
        assert set(operation["tags"]) <= tags
        assert {"401", "421", "503"} <= set(operation["responses"])
        assert any(status.startswith("2") for status in operation["responses"])
        inside = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
        assert inside == set(re.findall(r"\{(\w+)\}", path))
        assert all(parameter["description"] for parameter in operation["parameters"])


def test_every_json_body_has_an_example_that_its_schema_allows() -> None:
    bodies = {
        operation["operationId"]: operation["requestBody"]["content"].get("application/json")
        for _, _, operation in OPERATIONS
        if "requestBody" in operation
    }
    for name, body in bodies.items():
        if body is not None:
            schema = jsonschema_rs.Draft202012Validator({**body["schema"], "components": DOCUMENT["components"]})
            assert [error.message for error in schema.iter_errors(body["example"])] == [], name


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/quote", "/v1/endpoints", "/v1/messages/replay", "/v1/erasures"])
async def test_example_of_a_body_is_accepted(api: httpx.AsyncClient, path: str) -> None:
    body = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
    answer = await api.post(path, json=body)
    assert answer.is_success, answer.text


async def stored_callbacks(world: World, api: httpx.AsyncClient) -> None:
    """Read the callbacks of a task, and run them again."""
    task = await world.submit("a dove")
    await world.until(JOB_SECONDS * 2)
    listed = (await api.get(f"/v1/callbacks?task={task.id}&decision=applied")).json()["callbacks"]
    assert {each["task_id"] for each in listed} == {str(task.id)}
    whole = (await api.get(f"/v1/callbacks/{listed[0]['id']}")).json()
    assert "succeeded" in whole["reads_as"]
    assert (await api.post(f"/v1/callbacks/{whole['id']}/rerun")).status_code == 202
    assert (await api.post("/v1/callbacks/rerun", json={"decision": ["applied"]})).json()["rerun"] >= 1
    await world.work()


async def test_successful_responses_match_their_schemas(world: World, api: httpx.AsyncClient) -> None:
    """The test calls the whole API with tasks of every outcome. The contract is checked at every response."""
    settings = world.context.settings
    world.context.settings = settings.model_copy(
        update={"results": settings.results.model_copy(update={"keep": "all"})}
    )
    for words in ("[drop]", "[drop][fail]", "[drop][stuck]", "[cut]", "[cut][drop]", "[refuse]"):
        await api.post("/v1/tasks", json={**TASK_REQUEST, "input": {"prompt": f"{words} a dove"}, "labels": {"a": "b"}})
    await api.post("/v1/quote", json=TASK_REQUEST)
    for path in ("budgets", "usage", "claims"):
        await api.get(f"/v1/{path}")
    for _ in range(3):
        for task in (await api.get("/v1/tasks")).json()["tasks"]:
            for path in ("", "/events"):
                assert (await api.get(f"/v1/tasks/{task['id']}{path}")).status_code == 200
            assert (await api.post(f"/v1/tasks/{task['id']}/refresh")).status_code == 200
        await world.until(JOB_SECONDS)
    for task in (await api.get("/v1/tasks")).json()["tasks"]:
        for part in ("content", "link", "provenance"):
            await api.get(f"/v1/tasks/{task['id']}/results/0/{part}")
        await api.get(f"/v1/tasks/{task['id']}/results/0/content", headers={"Range": "bytes=0-0"})
        await api.delete(f"/v1/tasks/{task['id']}/results")
        await api.post(f"/v1/tasks/{task['id']}/retry", json={"confirm_double_payment": True})
        await api.post(f"/v1/tasks/{task['id']}/cancel")
        await api.post(f"/v1/tasks/{task['id']}/input", json={})
    for task in (await api.get("/v1/events")).json()["events"]:
        assert (await api.get(f"/v1/tasks/{task['task_id']}/stream")).status_code == 200
    assert (
        await api.get(f"/v1/tasks/{task['task_id']}/stream", headers={"Last-Event-ID": task["id"]})
    ).status_code in {
        200,
        204,
    }
    stream = asyncio.create_task(api.get("/v1/events/stream"))
    await until(lambda: world.context.signals.watched)
    await messages_and_endpoints(world, api)
    await erasures(api, task["task_id"])
    await stored_callbacks(world, api)
    for act, mode in (("pause", "paused"), ("drain", "draining"), ("resume", None)):
        held = (await api.post(f"/v1/upstreams/elkapi/{act}")).json()["held"]
        assert (held and held["mode"]) == mode
    await upload_and_delete(api)
    families = (await api.get("/v1/families")).json()["families"]
    assert {family["name"] for family in families} == set(FAMILIES)
    [upstream] = (await api.get("/v1/upstreams")).json()["upstreams"]
    assert (upstream["name"], upstream["callbacks"]) == ("elkapi", True)
    assert (await api.get("/v1/upstreams/elkapi/models")).json()["models"] != []
    world.context.signals.close()  # only that ends the feed's stream
    assert (await stream).status_code == 200
    [claim, *_] = (await api.get("/v1/claims")).json()["claims"]
    await api.post(f"/v1/claims/{claim['submission']}", json={"state": "filed"})
    assert (await api.put("/v1/budgets/all", json={"limit": "5", "client": "*"})).status_code == 200
    assert (await api.delete("/v1/budgets/all")).status_code == 200
    succeeded = {(method, path) for method, path, status in CONTRACT.kept if status < 300}
    assert {(each.method, each.path) for each in ENDPOINTS} - succeeded == {("POST", "/v1/tasks/{id}/input")}


async def erasures(api: httpx.AsyncClient, task_id: str) -> None:
    """Call every operation on erasures."""
    assert (await api.delete(f"/v1/tasks/{task_id}", params={"cancel": "true"})).status_code in {200, 202}
    assert (await api.get(f"/v1/erasures/{task_id}")).status_code == 200
    for more in ({"dry_run": True}, {}):
        assert (await api.post("/v1/erasures", json={"labels": {"a": "b"}, **more})).status_code in {200, 202}


async def upload_and_delete(api: httpx.AsyncClient) -> None:
    """Call every operation on uploads."""
    upload = (await api.post("/v1/uploads", params={"name": "dove.png"}, content=b"\x89PNG\r\n\x1a\n")).json()
    assert [each["id"] for each in (await api.get("/v1/uploads")).json()["uploads"]] == [upload["id"]]
    assert (await api.get(f"/v1/uploads/{upload['id']}")).json() == upload
    assert (await api.delete(f"/v1/uploads/{upload['id']}")).status_code < 300


async def messages_and_endpoints(world: World, api: httpx.AsyncClient) -> None:
    """Call every operation on endpoints and messages."""
    made = (await api.post("/v1/endpoints", json={"url": RECEIVER_URL})).json()
    where = f"/v1/endpoints/{made['id']}"
    await api.post("/v1/tasks", json=TASK_REQUEST)
    await world.until(JOB_SECONDS * 3)
    for method, path in (("GET", ""), ("PATCH", ""), ("POST", "/rotate"), ("POST", "/test")):
        assert (await api.request(method, f"{where}{path}", json={"events": []})).status_code == 200
    assert (await api.get("/v1/endpoints")).json()["endpoints"]
    assert (await api.get("/v1/webhook-secret")).status_code == 200
    assert (await api.post("/v1/webhook-secret/rotate", json={"overlap": 60})).status_code == 200
    messages = (await api.get("/v1/messages", params={"endpoint": made["id"], "type": "task.succeeded"})).json()[
        "messages"
    ]
    [message] = messages
    assert (await api.get(f"/v1/messages/{message['id']}")).status_code == 200
    assert (await api.post(f"/v1/messages/{message['id']}/replay")).status_code == 202
    assert (await api.post("/v1/messages/replay", json={})).status_code == 202
    assert (await api.delete(where)).status_code == 200


@pytest.mark.parametrize("bulk", [{}, {"image": "A" * 30_000}], ids=["whole", "truncated"])
async def test_webhook_message_matches_its_schema(world: World, bulk: dict[str, str]) -> None:
    task = await world.submit(options=bulk)
    await world.until(JOB_SECONDS * 2)
    [message] = await world.messages(task)
    assert orjson.loads(message.body)["data"].get("truncated", False) == bool(bulk)
    hook = DOCUMENT["webhooks"]["taskChanged"]
    schema = hook["post"]["requestBody"]["content"]["application/json"]["schema"]
    validator = jsonschema_rs.Draft202012Validator(
        {**schema, "components": DOCUMENT["components"]}, validate_formats=True
    )
    assert [error.message for error in validator.iter_errors(orjson.loads(message.body))] == []
    assert orjson.loads(message.body)["data"]["id"] == str(task.id)


async def test_document_contains_no_secret(world: World, api: httpx.AsyncClient) -> None:
    task = await world.submit()
    await world.until(JOB_SECONDS * 2)
    [submission] = await world.submissions(task)
    token = world.context.tokens.make(submission.id)
    shown = str(show_task(await world.task(task), now=world.clock()))
    paths = (
        f"/v1/tasks/{task.id}",
        f"/v1/tasks/{task.id}/events",
        "/v1/upstreams",
        "/v1/families",
        "/openapi.json",
        "/docs",
    )
    shown += "".join([(await api.get(path)).text for path in paths])
    for secret in ("sandbox-key", WEBHOOK_SECRET, INSTALLATION_SECRET, "callback-secret-of-the-tests", token):
        assert secret not in shown


# ── the page ───────────────────────────────────────────────────────────────────────────────────────────────────────


class _Links(html.parser.HTMLParser):
    """Collects the resources and links of a page, its anchors, and whether its elements are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name in {"src", "href", "action", "srcset", "data", "poster"}:
                self.loads.append(value or "")
            if name == "id":
                self.anchors.add(value or "")


async def test_docs_page_lists_every_operation_offline(api: httpx.AsyncClient) -> None:
    answer = await api.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    links = _Links()
    links.feed(answer.text)
    operations = {operation["operationId"] for _, _, operation in OPERATIONS}
    offered = {f"{family.name}-{name}" for family in FAMILIES.values() for name in family.operations}
    assert operations | offered | set(DOCUMENT["components"]["schemas"]) <= links.anchors
    assert all(f"<code>{code}</code>" in answer.text for code in TITLES)
    assert {each for each in links.loads if not each.startswith("#")} == {"openapi.json", "docs/try"}
    assert {each.removeprefix("#") for each in links.loads if each.startswith("#")} <= links.anchors
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(links.tags)
    assert "url(" not in answer.text
    assert "@import" not in answer.text


def test_docs_page_escapes_its_content() -> None:
    changed = document()
    changed["paths"]["/v1/tasks"]["get"]["summary"] = "<script>alert(1)</script>"
    assert "<script>" not in render(changed)


async def test_document_and_page_are_served_without_a_key(api: httpx.AsyncClient) -> None:
    assert (await api.get("/openapi.json")).json() == orjson.loads(orjson.dumps(DOCUMENT))
    root = await api.get("/")
    assert (root.status_code, root.headers["location"]) == (307, "ui/tasks")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/v1/nothing", 404, "not_found"), ("PUT", "/v1/tasks", 405, "method_not_allowed")],
)
async def test_unknown_path_is_a_problem(
    api: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    answer = await api.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
