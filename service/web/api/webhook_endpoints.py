"""Register, change, rotate, test and delete webhook endpoints."""

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.validation import Invalid
from service.flows.webhooks import endpoints as endpoints_flow
from service.store.webhooks import attempts as attempt_store
from service.store.webhooks import endpoints as endpoint_store
from service.store.webhooks import messages as message_store
from service.store.webhooks.endpoints import Endpoint as Registered
from service.web.api.lookup import existing, path_id
from service.web.api.models import ref
from service.web.api.route import (
    ID_SCHEMA,
    MAX_SMALL_BODY,
    ApiRequest,
    Endpoint,
    Parameter,
    ResponseSpec,
    address_of,
    invalid,
    json_response,
)
from service.web.api.webhook_rendering import render_endpoint, render_whole_message
from service.web.problems import Problem


async def register(request: ApiRequest) -> Response:
    """Register an endpoint. Only this response shows its secret."""
    document = await request.read_json(MAX_SMALL_BODY)
    try:
        endpoint = await endpoints_flow.register(
            request.context, document, client=request.client, is_operator=Scope.ADMIN in request.caller.scopes
        )
    except Invalid as error:
        raise invalid(error.mistakes) from None
    except endpoints_flow.NotAllowed as error:
        raise Problem(403, "forbidden", str(error)) from None
    except endpoints_flow.TooMany as error:
        raise Problem(409, "too_many_endpoints", str(error)) from None
    return _with_secret(endpoint, 201, {"Location": address_of(request, f"endpoints/{endpoint.id}")})


async def list_endpoints(request: ApiRequest) -> Response:
    """Return the client's endpoints."""
    async with request.context.database.reading() as connection:
        found = await endpoint_store.of_client(connection, request.client)
    return json_response({"endpoints": [render_endpoint(each) for each in found]})


async def get(request: ApiRequest) -> Response:
    """Return an endpoint."""
    return json_response(render_endpoint(await _find(request)))


async def change(request: ApiRequest) -> Response:
    """Change an endpoint."""
    endpoint = await _find_to_change(request)
    document = await request.read_json(MAX_SMALL_BODY)
    try:
        changed = await endpoints_flow.change(request.context, endpoint, document)
    except Invalid as error:
        raise invalid(error.mistakes) from None
    return json_response(render_endpoint(_existing(changed)))


async def rotate(request: ApiRequest) -> Response:
    """Replace an endpoint's secret."""
    endpoint = await _find_to_change(request)
    return _with_secret(_existing(await endpoints_flow.rotate(request.context, endpoint)))


async def remove(request: ApiRequest) -> Response:
    """Delete an endpoint."""
    endpoint = await _find_to_change(request)
    return json_response(render_endpoint(_existing(await endpoints_flow.remove(request.context, endpoint))))


async def test(request: ApiRequest) -> Response:
    """Send a test message to an endpoint, and return the outcome."""
    sent = await endpoints_flow.send_test(request.context, await _find_to_change(request))
    async with request.context.database.reading() as connection:
        message = await message_store.find(connection, sent.id, request.client) or sent
        made = await attempt_store.of_message(connection, sent.id)
    return json_response(render_whole_message(message, made), 202 if message.state == "pending" else 200)


async def _find(request: ApiRequest) -> Registered:
    endpoint_id = path_id(request, "endpoint")
    async with request.context.database.reading() as connection:
        return _existing(await endpoint_store.find(connection, endpoint_id, request.client))


async def _find_to_change(request: ApiRequest) -> Registered:
    """Return the endpoint that the path names, if the key may change it.

    :raises Problem: 404 where there is none; 403 for an endpoint for operators, where the key is none of an operator
    """
    endpoint = await _find(request)
    if not endpoints_flow.may_change(endpoint, is_operator=Scope.ADMIN in request.caller.scopes):
        raise Problem(403, "forbidden", endpoints_flow.FOR_OPERATORS)
    return endpoint


def _existing(endpoint: Registered | None) -> Registered:
    return existing(endpoint, "endpoint")


def _with_secret(endpoint: Registered, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return json_response({**render_endpoint(endpoint), "secret": endpoint.secret}, status, headers)


_ID: Final = Parameter(name="id", place="path", schema=ID_SCHEMA, description="The endpoint's id.")
_LATEST: Final = ResponseSpec(description="The endpoint in its latest version.", schema=ref("Endpoint"))
_TAG: Final = "Endpoints"

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/endpoints",
        handler=register,
        name="registerEndpoint",
        scope=Scope.SUBMIT,
        tag=_TAG,
        summary="Register an endpoint",
        description=(
            f"It receives the messages of all later events. A client has at most {endpoints_flow.MAX_ENDPOINTS} endpoints."
        ),
        body=ref("EndpointRequest"),
        example={"url": "https://app.example.com/hooks/dovecote", "events": ["task.succeeded", "task.failed"]},
        responses={
            201: ResponseSpec(
                description="Registered. Only this response shows the secret.",
                schema=ref("EndpointWithSecret"),
                headers={"Location": "The endpoint's address."},
            )
        },
        problems=(400, 409, 413, 415, 422),
    ),
    Endpoint(
        method="GET",
        path="/v1/endpoints",
        handler=list_endpoints,
        name="listEndpoints",
        scope=Scope.READ,
        tag=_TAG,
        summary="List endpoints",
        responses={200: ResponseSpec(description="All endpoints, oldest first.", schema=ref("EndpointList"))},
        problems=(422,),
    ),
    Endpoint(
        method="GET",
        path="/v1/endpoints/{id}",
        handler=get,
        name="getEndpoint",
        scope=Scope.READ,
        tag=_TAG,
        summary="Get an endpoint",
        parameters=(_ID,),
        responses={200: _LATEST},
        problems=(404, 422),
    ),
    Endpoint(
        method="PATCH",
        path="/v1/endpoints/{id}",
        handler=change,
        name="changeEndpoint",
        scope=Scope.SUBMIT,
        tag=_TAG,
        summary="Change, disable or enable an endpoint",
        description="Pending messages go to the new address. Enabling an endpoint resets its record of failures.",
        parameters=(_ID,),
        body=ref("EndpointChange"),
        example={"enabled": True},
        responses={200: _LATEST},
        problems=(400, 404, 413, 415, 422),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/endpoints/{id}",
        handler=remove,
        name="deleteEndpoint",
        scope=Scope.SUBMIT,
        tag=_TAG,
        summary="Delete an endpoint",
        description="Pending messages are discarded when they become due.",
        parameters=(_ID,),
        responses={200: ResponseSpec(description="The deleted endpoint.", schema=ref("Endpoint"))},
        problems=(404, 422),
    ),
    Endpoint(
        method="POST",
        path="/v1/endpoints/{id}/rotate",
        handler=rotate,
        name="rotateEndpointSecret",
        scope=Scope.SUBMIT,
        tag=_TAG,
        summary="Replace an endpoint's secret",
        description="For 24 hours every message has two signatures, one by the new secret and one by the previous.",
        parameters=(_ID,),
        responses={
            200: ResponseSpec(description="Only this response shows the new secret.", schema=ref("EndpointWithSecret"))
        },
        problems=(404, 422),
    ),
    Endpoint(
        method="POST",
        path="/v1/endpoints/{id}/test",
        handler=test,
        name="testEndpoint",
        scope=Scope.SUBMIT,
        tag=_TAG,
        summary="Send a test message",
        description=(
            "Sends an `endpoint.test` once, to a disabled endpoint as well. The outcome does not change the endpoint's record "
            "of failures."
        ),
        parameters=(_ID,),
        responses={
            200: ResponseSpec(description="The message with its delivery.", schema=ref("MessageWithDeliveries")),
            202: ResponseSpec(
                description="Many messages to the endpoint are in delivery, so this one waits. Get it by its id.",
                schema=ref("MessageWithDeliveries"),
            ),
        },
        problems=(404, 422),
    ),
)
