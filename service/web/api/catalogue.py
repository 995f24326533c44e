"""List the families, and the upstreams that serve them."""

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.circuit_breaker import Circuit
from service.domain.events import rfc3339
from service.domain.validation import MAX_NAME, nearest
from service.flows.context import Context, Upstream
from service.flows.upstreams import hold as holding
from service.flows.upstreams import models as models_of
from service.flows.upstreams import status as upstream_status
from service.flows.upstreams.credit import is_low
from service.providers.capabilities import CanCancel, CanPollMany
from service.providers.dialect import Dialect
from service.providers.operation import Family
from service.providers.registry import DIALECTS, FAMILIES
from service.store import upstreams as upstream_store
from service.store.held import Held, Mode
from service.web.api import catalogue_models as models
from service.web.api.models import ref
from service.web.api.route import ApiRequest, Endpoint, Handler, Parameter, ResponseSpec, json_response
from service.web.problems import Problem


async def list_families(request: ApiRequest) -> Response:
    """Return all families."""
    return json_response({"families": [_family(request.context, family) for family in FAMILIES.values()]})


async def list_upstreams(request: ApiRequest) -> Response:
    """Return the configured upstreams."""
    standings = await upstream_status.snapshot(request.context)
    shown = [_upstream(request.context, each, standings[name]) for name, each in request.context.upstreams.items()]
    return json_response({"upstreams": shown})


async def pause(request: ApiRequest) -> Response:
    """Pause an upstream: tasks wait for it."""
    return await _hold(request, "paused")


async def drain(request: ApiRequest) -> Response:
    """Drain an upstream: the next upstream of each route serves its tasks."""
    return await _hold(request, "draining")


async def resume(request: ApiRequest) -> Response:
    """Resume an upstream."""
    upstream = _named(request)
    await holding.resume(request.context, upstream.name, by=request.client)
    return await _one(request, upstream)


async def _hold(request: ApiRequest, mode: Mode) -> Response:
    upstream = _named(request)
    await holding.hold(request.context, upstream.name, mode, by=request.client)
    return await _one(request, upstream)


async def _one(request: ApiRequest, upstream: Upstream) -> Response:
    standings = await upstream_status.snapshot(request.context)
    return json_response(_upstream(request.context, upstream, standings[upstream.name]))


def _named(request: ApiRequest) -> Upstream:
    """Return the upstream that the path names.

    :raises Problem: 404 when none is configured by this name
    """
    name = str(request.http.path_params["name"])
    upstream = request.context.upstreams.get(name)
    if upstream is None:
        hint = nearest(name, request.context.upstreams)
        raise Problem(404, "not_found", f"no upstream with this name is configured{hint}")
    return upstream


async def list_models(request: ApiRequest) -> Response:
    """Return the models that an upstream offers."""
    upstream = _named(request)
    name = upstream.name
    known = await models_of.current(request.context, upstream)
    if known is None:
        detail = (
            f"{name} has no list of models that Dovecote knows; if it has one in OpenAI's form, set its models_path"
        )
        raise Problem(404, "not_found", detail)
    if known.models is None:
        headers = {"Retry-After": str(round(models_of.AFTER_ERROR))}
        raise Problem(503, "upstream_unavailable", f"{name} does not list its models: {known.error}", headers=headers)
    shown: models.ModelList = {
        "upstream": name,
        "models": list(known.models.names),
        "complete": known.models.complete,
        "at": rfc3339(known.at),
        "error": known.error,
    }
    return json_response(shown)


def _family(context: Context, family: Family) -> models.Family:
    return {
        "name": family.name,
        "title": family.title,
        "operations": [
            {
                "name": operation.name,
                "title": operation.title,
                "aliases": list(operation.aliases),
                "produces": operation.produces,
                "deadline_seconds": operation.deadline,
                "parent": operation.parent,
                "answer": operation.answer,
                "upstreams": [
                    name
                    for name, upstream in context.upstreams.items()
                    if upstream.dialect_for(family.name, operation.name) is not None
                ],
                "dialects": _dialects(context, family.name, operation.name),
                "input": operation.input,
            }
            for operation in family.operations.values()
        ],
    }


def _dialects(context: Context, family: str, operation: str) -> list[models.OperationDialect]:
    chosen = {name: upstream.dialect_for(family, operation) for name, upstream in context.upstreams.items()}
    return [
        _dialect(dialect, operation, [name for name, found in chosen.items() if found is dialect])
        for dialect in DIALECTS.values()
        if dialect.offers(family, operation)
    ]


def _dialect(dialect: Dialect, operation: str, upstreams: list[str]) -> models.OperationDialect:
    facts, at_once = dialect.facts, operation in dialect.facts.synchronous
    return {
        "name": facts.key,
        "upstreams": upstreams,
        "callbacks": facts.callbacks and not at_once,
        "signs": facts.signs and not at_once,
        "synchronous": at_once,
        "poll_batch": facts.batch_size if isinstance(dialect, CanPollMany) and not at_once else 1,
        "cancel": isinstance(dialect, CanCancel) and not at_once,
        "typical_seconds": facts.typical(operation),
        "result_lifetime_seconds": facts.lifetime(operation),
        "cost_unit": facts.cost_unit,
        "experimental": facts.experimental,
    }


def _upstream(context: Context, upstream: Upstream, stands: upstream_status.Status) -> models.Upstream:
    dialects = [dialect.facts.key for dialect in upstream.dialects]
    can_call = any(dialect.facts.callbacks for dialect in upstream.dialects) and upstream.settings.callbacks != "off"
    share = min((context.statistics.callback_share(upstream.name, dialect) for dialect in dialects), default=None)
    return {
        "name": upstream.name,
        "base_url": upstream.settings.base_url,
        "dialects": dialects,
        "callbacks": can_call and context.settings.public_url is not None,
        "callback_share": share,
        "circuits": [_circuit(context, circuit) for circuit in stands.circuits],
        "open_tasks": stands.open_tasks,
        "waiting": stands.waiting,
        "limits": {
            "open_tasks": upstream.settings.open_tasks,
            "submits_per_second": upstream.settings.submits_per_second,
            "polls_per_second": upstream.settings.polls_per_second,
        },
        "credit": _credit(upstream, stands.kept),
        "held": None if stands.held is None else held_by(stands.held),
    }


def held_by(held: Held) -> models.Held:
    """Return how an operator holds an upstream."""
    return {"mode": held.mode, "by": held.by, "since": rfc3339(held.since) or ""}


def _circuit(context: Context, circuit: Circuit) -> models.Circuit:
    return {
        "dialect": circuit.dialect,
        "state": circuit.state(context.now()),
        "failures": upstream_status.recent_failures(context, circuit),
        "opened_at": rfc3339(circuit.opened_at),
        "open_until": rfc3339(circuit.open_until),
    }


def _credit(upstream: Upstream, kept: upstream_store.Upstream) -> models.Credit | None:
    if kept.credit_unit is None and kept.credit_error is None:
        return None  # not queried yet, or not answered
    return {
        "left": kept.credit,
        "unit": kept.credit_unit,
        "low": is_low(upstream, kept.credit),
        "error": kept.credit_error,
        "at": rfc3339(kept.credit_at),
    }


_UPSTREAM = Parameter(
    name="name",
    place="path",
    schema={"type": "string", "maxLength": MAX_NAME, "examples": ["elkapi"]},
    description="The upstream's name.",
)


def _act(name: str, handler: Handler, summary: str, description: str) -> Endpoint:
    """Return an endpoint by which an operator holds an upstream, or resumes it."""
    return Endpoint(
        method="POST",
        path=f"/v1/upstreams/{{name}}/{name}",
        handler=handler,
        scope=Scope.ADMIN,
        name=f"{name}Upstream",
        tag="Catalogue",
        summary=summary,
        description=description,
        parameters=(_UPSTREAM,),
        responses={200: ResponseSpec(description="The upstream.", schema=ref("Upstream"))},
        problems=(404,),
    )


_OPEN = "Its open tasks continue, and are polled. Every process follows with its next round of submissions."
ENDPOINTS = (
    _act("pause", pause, "Pause an upstream", f"It gets no tasks: they wait until it is resumed. {_OPEN}"),
    _act(
        "drain",
        drain,
        "Drain an upstream",
        f"It gets no tasks: the next upstream of a task's route serves the task, or the task waits where there is none. {_OPEN}",
    ),
    _act("resume", resume, "Resume an upstream", "It gets tasks again: first those that wait for it."),
    Endpoint(
        method="GET",
        path="/v1/families",
        handler=list_families,
        scope=Scope.READ,
        name="listFamilies",
        tag="Catalogue",
        summary="List families and operations",
        description="Each operation has the JSON Schema of its input.",
        responses={200: ResponseSpec(description="All families.", schema=ref("FamilyList"))},
        problems=(422,),
    ),
    Endpoint(
        method="GET",
        path="/v1/upstreams",
        handler=list_upstreams,
        scope=Scope.READ,
        name="listUpstreams",
        tag="Catalogue",
        summary="List the configured upstreams",
        responses={200: ResponseSpec(description="Upstreams, in routing order.", schema=ref("UpstreamList"))},
        problems=(422,),
    ),
    Endpoint(
        method="GET",
        path="/v1/upstreams/{name}/models",
        handler=list_models,
        scope=Scope.READ,
        name="listModels",
        tag="Catalogue",
        summary="List the models of an upstream",
        description=(
            "The models that the upstream offers now to its account, at most ten minutes old. A task with a model that is not "
            "among them is submitted nevertheless, and has a warning (`warnings`)."
        ),
        parameters=(
            Parameter(
                name="name",
                place="path",
                schema={"type": "string", "maxLength": MAX_NAME, "examples": ["elkapi"]},
                description="The upstream's name.",
            ),
        ),
        responses={200: ResponseSpec(description="The models.", schema=ref("ModelList"))},
        problems=(404, 422, 503),
    ),
)
