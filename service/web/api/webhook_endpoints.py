"""Register endpoints for messages, change, rotate, try and delete them."""

from uuid import UUID

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.validation import Invalid
from service.flows.webhooks import endpoints as endpoints_flow
from service.store.webhooks import attempts as attempt_store
from service.store.webhooks import endpoints as endpoint_store
from service.store.webhooks import messages as message_store
from service.store.webhooks.endpoints import Endpoint as Registered
from service.web.api.models import ref
from service.web.api.route import Answers, Asked, Endpoint, Parameter, answer_json, invalid
from service.web.api.webhook_models import show_endpoint, show_whole_message
from service.web.problems import Problem
from service.web.request_body import read_json

BODY_CAP = 64 * 1024


async def register(asked: Asked) -> Response:
    """Register an endpoint, and show its secret once."""
    document = await read_json(asked.request, BODY_CAP)
    try:
        endpoint = await endpoints_flow.register(asked.context, document, client=asked.client)
    except Invalid as error:
        raise invalid(error.mistakes) from None
    except endpoints_flow.TooMany as error:
        raise Problem(409, "too_many_endpoints", str(error)) from None
    return _with_secret(endpoint, 201)


async def listing(asked: Asked) -> Response:
    """List the client's endpoints."""
    async with asked.context.database.reading() as connection:
        found = await endpoint_store.of_client(connection, asked.client)
    return answer_json({"endpoints": [show_endpoint(each) for each in found]})


async def get(asked: Asked) -> Response:
    """Show an endpoint."""
    return answer_json(show_endpoint(await _find(asked)))


async def change(asked: Asked) -> Response:
    """Change an endpoint."""
    endpoint = await _find(asked)
    document = await read_json(asked.request, BODY_CAP)
    try:
        changed = await endpoints_flow.change(asked.context, endpoint, document)
    except Invalid as error:
        raise invalid(error.mistakes) from None
    return answer_json(show_endpoint(_there(changed)))


async def rotate(asked: Asked) -> Response:
    """Give an endpoint a new secret."""
    return _with_secret(_there(await endpoints_flow.rotate(asked.context, await _find(asked))))


async def remove(asked: Asked) -> Response:
    """Delete an endpoint."""
    return answer_json(show_endpoint(_there(await endpoints_flow.remove(asked.context, await _find(asked)))))


async def try_out(asked: Asked) -> Response:
    """Send a message to try an endpoint with, and say how it went."""
    sent = await endpoints_flow.send_test(asked.context, await _find(asked))
    async with asked.context.database.reading() as connection:
        message = await message_store.find(connection, sent.id, asked.client) or sent
        made = await attempt_store.of_message(connection, sent.id)
    return answer_json(show_whole_message(message, made), 202 if message.state == "pending" else 200)


async def _find(asked: Asked) -> Registered:
    try:
        endpoint_id = UUID(asked.request.path_params["id"])
    except ValueError:
        return _there(None)
    async with asked.context.database.reading() as connection:
        return _there(await endpoint_store.find(connection, endpoint_id, asked.client))


def _there(endpoint: Registered | None) -> Registered:
    if endpoint is None:
        raise Problem(404, "not_found", "there is no endpoint with this id")
    return endpoint


def _with_secret(endpoint: Registered, status: int = 200) -> Response:
    headers = {"Location": f"/v1/endpoints/{endpoint.id}"} if status == 201 else {}  # noqa: PLR2004 - Created
    return answer_json({**show_endpoint(endpoint), "secret": endpoint.secret}, status, headers)


_ID = Parameter(name="id", place="path", schema={"type": "string", "format": "uuid"}, description="The endpoint's id.")
_SHOWN = Answers(description="The endpoint as it is now.", schema=ref("Endpoint"))
_TAG = "Endpoints"

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/endpoints",
        handler=register,
        name="registerEndpoint",
        scope=Scope.SUBMIT,
        tag=_TAG,
        summary="Register an endpoint",
        description=f"For the messages of all tasks from now on. At most {endpoints_flow.MAX_ENDPOINTS} for a client.",
        body=ref("EndpointWish"),
        answers={
            201: Answers(
                description="Registered. The secret is shown here, and never again.",
                schema=ref("EndpointWithSecret"),
                headers={"Location": "The endpoint's address."},
            )
        },
        problems=(400, 409, 413, 415, 422),
    ),
    Endpoint(
        method="GET",
        path="/v1/endpoints",
        handler=listing,
        name="listEndpoints",
        scope=Scope.READ,
        tag=_TAG,
        summary="List endpoints",
        answers={
            200: Answers(
                description="All of them, oldest first.",
                schema={
                    "type": "object",
                    "required": ["endpoints"],
                    "properties": {"endpoints": {"type": "array", "items": ref("Endpoint")}},
                },
            )
        },
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
        answers={200: _SHOWN},
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
        description="Messages that wait for it go where it is then. To enable it makes it forget its failures.",
        parameters=(_ID,),
        body=ref("EndpointChange"),
        answers={200: _SHOWN},
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
        description="Messages that wait for it are discarded when their time comes.",
        parameters=(_ID,),
        answers={200: Answers(description="The endpoint as it was.", schema=ref("Endpoint"))},
        problems=(404, 422),
    ),
    Endpoint(
        method="POST",
        path="/v1/endpoints/{id}/rotate",
        handler=rotate,
        name="rotateEndpointSecret",
        scope=Scope.SUBMIT,
        tag=_TAG,
        summary="Give an endpoint a new secret",
        description="For 24 hours every message has two signatures: by the new secret, and by the one before.",
        parameters=(_ID,),
        answers={
            200: Answers(description="The new secret is shown here, and never again.", schema=ref("EndpointWithSecret"))
        },
        problems=(404, 422),
    ),
    Endpoint(
        method="POST",
        path="/v1/endpoints/{id}/test",
        handler=try_out,
        name="testEndpoint",
        scope=Scope.SUBMIT,
        tag=_TAG,
        summary="Send a test message",
        description=(
            "An `endpoint.test`, tried once, also where the endpoint is disabled. How it goes says nothing about the "
            "endpoint's health."
        ),
        parameters=(_ID,),
        answers={
            200: Answers(description="How it went.", schema=ref("MessageWithDeliveries")),
            202: Answers(
                description="Many messages are under way to it: this one waits. Look at it under its id.",
                schema=ref("MessageWithDeliveries"),
            ),
        },
        problems=(404, 422),
    ),
)
