"""Show and rotate the client's webhook secret."""

from typing import Final

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.validation import Invalid
from service.domain.webhook_secret import DEFAULT_OVERLAP, MAX_OVERLAP, SecretVersion, derive_secret
from service.flows.webhooks import secrets
from service.web.api.models import ref
from service.web.api.route import MAX_SMALL_BODY, ApiRequest, Endpoint, ResponseSpec, invalid, json_response
from service.web.api.webhook_rendering import render_secret


async def get(request: ApiRequest) -> Response:
    """Return the client's secret."""
    return _response(request, await secrets.current(request.context, request.client))


async def rotate(request: ApiRequest) -> Response:
    """Replace the client's secret."""
    document = await request.read_json(MAX_SMALL_BODY)
    try:
        rotated = await secrets.rotate(request.context, document, client=request.client)
    except Invalid as error:
        raise invalid(error.mistakes) from None
    return _response(request, rotated)


def _response(request: ApiRequest, version: SecretVersion) -> Response:
    context = request.context
    secret = derive_secret(context.webhook_secret, version.client, version.version)
    return json_response(render_secret(secret, version, now=context.now()))


_TAG: Final = "Endpoints"

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/webhook-secret",
        handler=get,
        name="getWebhookSecret",
        scope=Scope.SUBMIT,
        tag=_TAG,
        summary="Get your webhook secret",
        description="It signs the messages to the `callback_url` of your tasks. Every client has its own. Endpoints have theirs.",
        responses={200: ResponseSpec(description="The secret.", schema=ref("WebhookSecret"))},
        problems=(422,),
    ),
    Endpoint(
        method="POST",
        path="/v1/webhook-secret/rotate",
        handler=rotate,
        name="rotateWebhookSecret",
        scope=Scope.SUBMIT,
        tag=_TAG,
        summary="Replace your webhook secret",
        description=(
            "During the overlap every message has two signatures, one by the new secret and one by the previous. The overlap is "
            f"{DEFAULT_OVERLAP // 3600} hours unless `overlap` says otherwise, and at most {MAX_OVERLAP // 86_400} days."
        ),
        body=ref("WebhookSecretRotation"),
        example={"overlap": 86400},
        responses={200: ResponseSpec(description="The new secret.", schema=ref("WebhookSecret"))},
        problems=(400, 413, 415, 422),
    ),
)
