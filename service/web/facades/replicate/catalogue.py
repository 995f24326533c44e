"""Replicate's models, versions, deployments, and what its SDKs read about the account.

Dovecote names a model to its upstreams as the client names it, and knows no more of it: a model that is asked for is shown
with the fields that the SDKs need, so that a prediction can be made with it.
"""

from typing import Any, Final

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.webhook_secret import derive_secret
from service.flows.upstreams import models as upstream_models
from service.flows.webhooks import secrets
from service.web.facades.door import DoorRequest, DoorRoute, shown
from service.web.facades.models import is_served
from service.web.facades.replicate.predictions import FAMILY
from service.web.problems import Problem

_WITHIN: Final = 3.0
"""Seconds that a list of an upstream is waited for; it is at most ten minutes old."""
_CREATED: Final = "2026-01-01T00:00:00Z"
"""The time of every version: it is required, and nobody states it."""


def model_document(owner: str, name: str) -> dict[str, Any]:
    """Return a model as Replicate shows it. Its latest version is not known."""
    unknown = (
        "description",
        "github_url",
        "paper_url",
        "license_url",
        "cover_image_url",
        "default_example",
        "latest_version",
    )
    about = {"url": f"https://replicate.com/{owner}/{name}", "owner": owner, "name": name, "visibility": "public"}
    return {**about, "run_count": 0, "is_official": False, **dict.fromkeys(unknown)}


def version_document(named: str) -> dict[str, Any]:
    """Return a version of a model. Dovecote does not know its schema: the output is none that streams."""
    schema = {"components": {"schemas": {"Input": {"type": "object"}, "Output": {"title": "Output"}}}}
    return {"id": named, "created_at": _CREATED, "cog_version": "0.9.0", "openapi_schema": schema}


async def model(request: DoorRequest) -> Response:
    """Return a model."""
    _require_upstream(request)
    parts = request.http.path_params
    return shown(model_document(parts["owner"], parts["name"]))


async def list_models(request: DoorRequest) -> Response:
    """Return the models that the upstreams of this API list. Those that list none serve any model by its name."""
    found: set[tuple[str, str]] = set()
    for upstream in request.context.upstreams.values():
        if upstream.dialect_for(FAMILY, "run") is None:
            continue
        known = await upstream_models.current(request.context, upstream, within=_WITHIN)
        names = () if known is None or known.models is None else known.models.names
        found |= {
            (owner, name) for owner, slash, name in (each.partition("/") for each in names) if slash and owner and name
        }
    return shown(_page([model_document(*each) for each in sorted(found)]))


async def version(request: DoorRequest) -> Response:
    """Return a version of a model."""
    _require_upstream(request)
    return shown(version_document(request.http.path_params["version"]))


async def list_versions(request: DoorRequest) -> Response:
    """Refuse the list of a model's versions."""
    parts = request.http.path_params
    named = f"{parts['owner']}/{parts['name']}"[:80]
    detail = f"the versions of {named} are not known here: run it by its name, or name a version as {named}:<version>"
    raise Problem(404, "not_found", detail)


async def deployment(request: DoorRequest) -> Response:
    """Return a deployment, so that predictions can be made with it. Its release is not known."""
    _require_upstream(request)
    parts = request.http.path_params
    return shown({"owner": parts["owner"], "name": parts["name"], "current_release": None})


async def list_deployments(_: DoorRequest) -> Response:
    """Return no deployments: Dovecote has none of its own."""
    return shown(_page([]))


def _page(results: list[dict[str, Any]]) -> dict[str, Any]:
    return {"previous": None, "next": None, "results": results}


def _require_upstream(request: DoorRequest) -> None:
    """Check that an upstream serves this API's models.

    :raises Problem: 404
    """
    if not is_served(request.context, FAMILY, "run"):
        raise Problem(404, "not_found", "no upstream serves Replicate's models: name one in the settings")


async def webhook_secret(request: DoorRequest) -> Response:
    """Return the secret that signs the webhooks of the client."""
    found = await secrets.current(request.context, request.client)
    return shown({"key": derive_secret(request.context.webhook_secret, found.client, found.version)})


async def account(request: DoorRequest) -> Response:
    """Return the client as an account."""
    return shown({"type": "organization", "username": request.client, "name": request.client, "github_url": None})


_MODEL: Final = "/v1/models/{owner}/{name}"
ROUTES: Final = (
    DoorRoute(method="GET", path="/v1/models", handler=list_models, scope=Scope.READ),
    DoorRoute(method="GET", path=_MODEL, handler=model, scope=Scope.READ),
    DoorRoute(method="GET", path=f"{_MODEL}/versions", handler=list_versions, scope=Scope.READ),
    DoorRoute(method="GET", path=f"{_MODEL}/versions/{{version}}", handler=version, scope=Scope.READ),
    DoorRoute(method="GET", path="/v1/deployments", handler=list_deployments, scope=Scope.READ),
    DoorRoute(method="GET", path="/v1/deployments/{owner}/{name}", handler=deployment, scope=Scope.READ),
    DoorRoute(method="GET", path="/v1/webhooks/default/secret", handler=webhook_secret),
    DoorRoute(method="GET", path="/v1/account", handler=account, scope=Scope.READ),
)
