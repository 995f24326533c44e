"""The client and the OpenAPI document agree. The client reaches every operation, parameter and property, and no other."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import httpx
import jsonschema_rs
import pytest

from dovecote import (
    Action,
    AdoptFields,
    BudgetRow,
    CallbackFilters,
    Circuit,
    Claim,
    Client,
    Credit,
    Delivery,
    Endpoint,
    EndpointChanges,
    EndpointFields,
    Erasure,
    Event,
    Failure,
    Family,
    Limits,
    Message,
    MessageFilters,
    ModelList,
    Operation,
    OperationDialect,
    Quote,
    QuoteList,
    ReplayFilters,
    Result,
    ResultLink,
    Settlement,
    SubmitFields,
    Task,
    TaskEvent,
    TaskFilters,
    TaskWarning,
    Upload,
    Upstream,
    WebhookSecret,
)
from tests.support.openapi import COMPONENTS, ID, operations, request_schema, sample, success

OPERATIONS = {f"{method} {path}": operation for method, path, operation in operations()}
UPLOAD = "upl_aghltqmk3nzhfd5a2sywqjfxqm"
Query = dict[str, Any]
Body = dict[str, Any]
CALLS: dict[str, Callable[[Client, Query, Body], Any]] = {
    "POST /v1/tasks": lambda client, _, body: client.submit(
        body.pop("family"), body.pop("operation"), **body, idempotency_key="mine"
    ),
    "POST /v1/quote": lambda client, _, body: client.quote(body.pop("family"), body.pop("operation"), **body),
    "GET /v1/budgets": lambda client, *_: client.budgets(),
    "PUT /v1/budgets/{name}": lambda client, _, body: client.set_budget("elkapi", body.pop("limit"), **body),
    "DELETE /v1/budgets/{name}": lambda client, *_: client.remove_budget("elkapi"),
    "GET /v1/usage": lambda client, query, _: client.usage(
        since=query.pop("from"), until=query.pop("to"), group=query["group"], client=query["client"]
    ),
    "GET /v1/claims": lambda client, query, _: client.claims_page(**query),
    "POST /v1/claims/{id}": lambda client, _, body: client.mark_claim(ID, body.pop("state"), **body),
    "GET /v1/tasks": lambda client, query, _: client.page(**query, labels={"text": "text"}),
    "GET /v1/tasks/{id}": lambda client, query, _: client.get(ID, **query),
    "GET /v1/tasks/{id}/events": lambda client, query, _: client.history(ID, **query),
    "DELETE /v1/tasks/{id}": lambda client, *_: client.erase(ID, cancel=True),
    "POST /v1/erasures": lambda client, _, body: client.erase_labelled(body.pop("labels"), **body),
    "GET /v1/erasures/{id}": lambda client, *_: client.erasure(ID),
    "POST /v1/tasks/{id}/cancel": lambda client, *_: client.cancel(ID),
    "POST /v1/tasks/{id}/input": lambda client, _, body: client.send_input(ID, body),
    "POST /v1/tasks/{id}/retry": lambda client, _, body: client.retry(ID, **body),
    "POST /v1/tasks/{id}/refresh": lambda client, *_: client.refresh(ID),
    "GET /v1/events": lambda client, query, _: next(client.events(query["after"], types=query["type"], follow=True)),
    "GET /v1/events/stream": lambda client, query, _: list(client.stream(after=query["after"], types=query["type"])),
    "GET /v1/tasks/{id}/stream": lambda client, query, _: list(client.stream(ID, after=query["after"])),
    "POST /v1/endpoints": lambda client, _, body: client.endpoints.create(body.pop("url"), **body),
    "GET /v1/endpoints": lambda client, *_: client.endpoints.list(),
    "GET /v1/endpoints/{id}": lambda client, *_: client.endpoints.get(ID),
    "PATCH /v1/endpoints/{id}": lambda client, _, body: client.endpoints.update(ID, **body),
    "DELETE /v1/endpoints/{id}": lambda client, *_: client.endpoints.delete(ID),
    "POST /v1/endpoints/{id}/rotate": lambda client, *_: client.endpoints.rotate_secret(ID),
    "POST /v1/endpoints/{id}/test": lambda client, *_: client.endpoints.test(ID),
    "GET /v1/webhook-secret": lambda client, *_: client.webhook_secret.get(),
    "POST /v1/webhook-secret/rotate": lambda client, _, body: client.webhook_secret.rotate(**body),
    "GET /v1/messages": lambda client, query, _: client.messages.page(**query),
    "POST /v1/messages/replay": lambda client, _, body: client.messages.replay_all(
        **{name: value for name, value in body.items() if name != "cursor"}
    ),
    "GET /v1/messages/{id}": lambda client, *_: client.messages.get(ID),
    "POST /v1/messages/{id}/replay": lambda client, *_: client.messages.replay(ID),
    "GET /v1/callbacks": lambda client, query, _: client.callbacks.page(**query),
    "POST /v1/callbacks/rerun": lambda client, _, body: client.callbacks.rerun_all(
        *body["decision"], limit=body.get("limit")
    ),
    "GET /v1/callbacks/{id}": lambda client, *_: client.callbacks.get(ID),
    "POST /v1/callbacks/{id}/rerun": lambda client, *_: client.callbacks.rerun(ID),
    "GET /v1/tasks/{id}/results/{n}/link": lambda client, query, _: client.results.link(ID, 0, **query),
    "GET /v1/tasks/{id}/results/{n}/provenance": lambda client, *_: client.results.provenance(ID, 0),
    "DELETE /v1/tasks/{id}/results": lambda client, *_: client.results.delete(ID),
    "POST /v1/uploads": lambda client, query, _: client.upload(b"content", **query),
    "GET /v1/uploads": lambda client, query, _: client.uploads.page(**query),
    "GET /v1/uploads/{id}": lambda client, *_: client.uploads.get(UPLOAD),
    "DELETE /v1/uploads/{id}": lambda client, *_: client.uploads.delete(UPLOAD),
    "GET /v1/families": lambda client, *_: client.families(),
    "POST /v1/upstreams/{name}/pause": lambda client, *_: client.hold("elkapi"),
    "POST /v1/upstreams/{name}/drain": lambda client, *_: client.hold("elkapi", "drain"),
    "POST /v1/upstreams/{name}/resume": lambda client, *_: client.resume("elkapi"),
    "GET /v1/upstreams": lambda client, *_: client.upstreams(),
    "GET /v1/upstreams/{name}/models": lambda client, *_: client.models("elkapi"),
}
"""The call of every operation, with all documented query parameters and body properties."""

BYTES = {"GET /v1/tasks/{id}/results/{n}/content"}
"""Operations that return a file: see ``test_downloads.py``."""

OTHERWISE = {
    "Prefer": "`get(task, wait=…)` waits instead",
    "after of a stream": "the client sends it as `Last-Event-ID`",
    "label": "is written as `labels`",
    "cursor of a replay": "the client follows `next` by itself",
}
"""Parameters that the client sends in another form, and why."""


class Server:
    """Responds to an operation as documented, and records the requests."""

    def __init__(self, operation: dict[str, Any]) -> None:
        self.operation = operation
        self.requests: list[httpx.Request] = []

    def respond(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        status, schema = success(self.operation)
        if schema is None:
            return httpx.Response(200, text="event: end\ndata: {}\n\n", headers={"content-type": "text/event-stream"})
        page = sample(schema)
        if "next" in page and len(self.requests) > 1:
            page["next"] = None
        return httpx.Response(status, json=page)


def call(name: str) -> tuple[Any, list[httpx.Request]]:
    """Call an operation; return the result and the requests."""
    operation = OPERATIONS[name]
    server = Server(operation)
    query = {
        each["name"]: sample(each["schema"])
        for each in operation["parameters"]
        if each["in"] == "query" and each["name"] != "label"
    }
    body_schema = request_schema(operation)
    body = {} if body_schema is None else sample(body_schema)
    with Client("http://dovecote.test", "key", retry_for=0, transport=httpx.MockTransport(server.respond)) as client:
        result = CALLS[name](client, query, body)
    return result, server.requests


def test_every_operation_of_the_document_has_a_call() -> None:
    assert CALLS.keys() | BYTES == OPERATIONS.keys()


@pytest.mark.parametrize("name", CALLS)
def test_call_sends_the_documented_request(name: str) -> None:
    _, requests = call(name)
    method, path = name.split()
    for request in requests:
        assert request.method == method
        assert re.fullmatch(
            path.replace("{id}", UPLOAD if "/uploads/" in path else ID).replace("{name}", "elkapi").replace("{n}", "0"),
            request.url.path,
        )
    sent = requests[-1]
    parameters = OPERATIONS[name]["parameters"]
    query = {each["name"]: each for each in parameters if each["in"] == "query"}
    if path.endswith("/stream"):
        del query["after"]
    query.pop("format", None)  # the client reads JSON
    assert {*sent.url.params} == {*query}
    for parameter, value in sent.url.params.multi_items():
        schema = query[parameter]["schema"]
        assert jsonschema_rs.is_valid(schema.get("items", schema) | {"type": "string"}, value) or value.isdecimal()
    headers = {each["name"] for each in parameters if each["in"] == "header"} - {"Prefer"}
    assert all(header in sent.headers for header in headers)


@pytest.mark.parametrize("name", [name for name in CALLS if request_schema(OPERATIONS[name]) is not None])
def test_call_sends_every_documented_property(name: str) -> None:
    _, requests = call(name)
    schema = request_schema(OPERATIONS[name])
    assert schema is not None
    body = httpx.Response(200, content=requests[-1].content).json()
    assert jsonschema_rs.is_valid({**schema, "components": {"schemas": COMPONENTS}}, body)
    documented = sample(schema)
    assert body.keys() == documented.keys()
    assert {**body, "cursor": None} == {**documented, "cursor": None}


VALUES: dict[type, tuple[str, ...]] = {
    Action: ("Action",),
    BudgetRow: ("BudgetRow",),
    Claim: ("Claim",),
    Settlement: ("Settlement",),
    Circuit: ("Circuit",),
    Credit: ("Credit",),
    Delivery: ("Delivery",),
    Endpoint: ("Endpoint", "EndpointWithSecret"),
    Erasure: ("Erasure",),
    Event: ("FeedEvent",),
    Failure: ("Failure",),
    Family: ("Family",),
    Limits: ("Limits",),
    ModelList: ("ModelList",),
    Message: ("Message", "MessageWithDeliveries"),
    Operation: ("Operation",),
    OperationDialect: ("OperationDialect",),
    Quote: ("Quote",),
    QuoteList: ("QuoteList",),
    Result: ("Result",),
    Task: ("Task",),
    TaskEvent: ("Event",),
    TaskWarning: ("TaskWarning",),
    Upload: ("Upload",),
    Upstream: ("Upstream",),
    ResultLink: ("ResultLink",),
    WebhookSecret: ("WebhookSecret",),
}
OF_THE_CLIENT = {"document", "replayed"}
"""Fields that the API does not have."""


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
def test_value_has_the_documented_properties_as_attributes(kind: type) -> None:
    documented = set().union(*(COMPONENTS[name]["properties"] for name in VALUES[kind]))
    assert {field.name for field in dataclasses.fields(kind)} - OF_THE_CLIENT == documented


FIELDS: dict[type, set[str]] = {
    SubmitFields: {*COMPONENTS["TaskRequest"]["properties"]} - {"family", "operation", "input"},
    AdoptFields: {*COMPONENTS["TaskRequest"]["properties"]} - {"family", "operation", "upstream", "external_id"},
    EndpointFields: {*COMPONENTS["EndpointRequest"]["properties"]} - {"url"},
    EndpointChanges: {*COMPONENTS["EndpointChange"]["properties"]},
    ReplayFilters: {*COMPONENTS["ReplayRequest"]["properties"]} - {"cursor"},
    TaskFilters: {each["name"].replace("label", "labels") for each in OPERATIONS["GET /v1/tasks"]["parameters"]}
    - {"limit", "cursor"},
    CallbackFilters: {each["name"] for each in OPERATIONS["GET /v1/callbacks"]["parameters"]} - {"limit", "cursor"},
    MessageFilters: {each["name"] for each in OPERATIONS["GET /v1/messages"]["parameters"]} - {"limit", "cursor"},
}


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
def test_typed_arguments_are_documented(kind: type) -> None:
    assert set(getattr(kind, "__optional_keys__", ())) <= FIELDS[kind]


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
def test_field_without_default_is_always_sent(kind: type) -> None:
    needed = {
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    assert needed <= set(COMPONENTS[VALUES[kind][0]]["required"])


@pytest.mark.parametrize("name", CALLS)
def test_call_reads_the_documented_response(name: str) -> None:
    result, _ = call(name)
    status, schema = success(OPERATIONS[name])
    if schema is None:
        assert result == []
    elif hasattr(result, "document"):
        assert result.document == sample(schema), status
    else:
        assert result is not None
