"""What can be asked for, and who serves it."""

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.circuit_breaker import Circuit
from service.domain.events import rfc3339
from service.flows.context import Context, Upstream
from service.flows.upstreams import status as upstream_status
from service.flows.upstreams.credit import is_low
from service.providers import FAMILIES
from service.providers.dialect import Family
from service.store import upstreams as upstream_store
from service.web.api.models import ref
from service.web.api.route import Answers, Asked, Endpoint, answer_json


async def families(asked: Asked) -> Response:
    """List what can be asked for."""
    return answer_json({"families": [_family(asked.context, family) for family in FAMILIES.values()]})


async def upstreams(asked: Asked) -> Response:
    """List who serves."""
    standings = await upstream_status.snapshot(asked.context)
    shown = [_upstream(asked.context, each, standings[name]) for name, each in asked.context.upstreams.items()]
    return answer_json({"upstreams": shown})


def _family(context: Context, family: Family) -> dict[str, object]:
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
                "input": operation.input,
            }
            for operation in family.operations.values()
        ],
    }


def _upstream(context: Context, upstream: Upstream, stands: upstream_status.Status) -> dict[str, object]:
    dialects = [dialect.key for dialect in upstream.dialects]
    can_call = any(dialect.callbacks for dialect in upstream.dialects) and upstream.settings.callbacks != "off"
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
    }


def _circuit(context: Context, circuit: Circuit) -> dict[str, object]:
    return {
        "dialect": circuit.dialect,
        "state": circuit.standing(context.now()),
        "failures": upstream_status.recent_failures(context, circuit),
        "opened_at": rfc3339(circuit.opened_at),
        "open_until": rfc3339(circuit.open_until),
    }


def _credit(upstream: Upstream, kept: upstream_store.Upstream) -> dict[str, object] | None:
    if kept.credit_unit is None and kept.credit_error is None:
        return None  # nobody has asked, or there is no answer yet
    return {
        "left": kept.credit,
        "unit": kept.credit_unit,
        "low": is_low(upstream, kept.credit),
        "error": kept.credit_error,
        "at": rfc3339(kept.credit_at),
    }


def _list_of(name: str, component: str) -> dict[str, object]:
    return {"type": "object", "required": [name], "properties": {name: {"type": "array", "items": ref(component)}}}


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/families",
        handler=families,
        scope=Scope.READ,
        name="listFamilies",
        tag="Catalogue",
        summary="List families and operations",
        description="With the input schema of every operation.",
        answers={200: Answers(description="Families.", schema=_list_of("families", "Family"))},
        problems=(422,),
    ),
    Endpoint(
        method="GET",
        path="/v1/upstreams",
        handler=upstreams,
        scope=Scope.READ,
        name="listUpstreams",
        tag="Catalogue",
        summary="List the configured upstreams",
        answers={
            200: Answers(
                description="Upstreams, in the order in which they serve.", schema=_list_of("upstreams", "Upstream")
            )
        },
        problems=(422,),
    ),
)
