"""OpenAI's list of models: those that the upstreams list, and the families of Dovecote."""

import asyncio
from typing import Any, Final

from starlette.responses import Response

from service.domain.api_key import Scope
from service.flows.upstreams import models as upstream_models
from service.providers.registry import FAMILIES
from service.web.facades.door import DoorRequest, DoorRoute, shown
from service.web.facades.models import is_served
from service.web.problems import Problem

_WITHIN: Final = 3.0
"""Seconds that a list of an upstream is waited for; it is at most ten minutes old."""
_EPOCH: Final = 1_700_000_000
"""The ``created`` of every model: it is required, and nobody states it."""


def model_document(name: str, owner: str) -> dict[str, Any]:
    """Return a model as OpenAI shows it."""
    return {"id": name, "object": "model", "created": _EPOCH, "owned_by": owner}


async def names_of(request: DoorRequest) -> dict[str, str]:
    """Return the models with their upstream, and the families by which any of them can be reached."""
    found: dict[str, str] = {}
    context = request.context
    asked = (upstream_models.current(context, each, within=_WITHIN) for each in context.upstreams.values())
    for name, known in zip(context.upstreams, await asyncio.gather(*asked), strict=True):
        if known is not None and known.models is not None:
            found |= {model: name for model in known.models.names if model not in found}
    served = [
        family.name
        for family in FAMILIES.values()
        if any(is_served(request.context, family.name, operation) for operation in family.operations)
    ]
    return found | {name: "dovecote" for name in served if name not in found}


async def list_models(request: DoorRequest) -> Response:
    """Return the models."""
    found = await names_of(request)
    return shown({"object": "list", "data": [model_document(name, owner) for name, owner in found.items()]})


async def retrieve_model(request: DoorRequest) -> Response:
    """Return one model."""
    name, found = str(request.http.path_params["name"]), await names_of(request)
    if name not in found:
        raise Problem(404, "model_not_found", "no upstream lists a model with this name")
    return shown(model_document(name, found[name]))


ROUTES: Final = (
    DoorRoute(method="GET", path="/v1/models", handler=list_models, scope=Scope.READ),
    DoorRoute(method="GET", path="/v1/models/{name:path}", handler=retrieve_model, scope=Scope.READ),
)
