"""Receive the providers' callbacks: store each one and answer after the commit. They are read later."""

import re
from typing import Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from service.flows.callbacks import account_events
from service.flows.callbacks.receive import store_callback
from service.flows.context import Context, log
from service.providers.signatures import challenge_in
from service.store.database import StoreUnavailable
from service.web import media_links
from service.web.health import alive
from service.web.problems import Problem, unavailable
from service.web.request_body import read_body

MAX_BODY: Final = 1024 * 1024
"""Bytes of a callback."""
NONCE: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
"""The challenge that `dovecote doctor` sends. No token has this form."""


async def receive(request: Request) -> Response:
    """Store one callback.

    404 for a token that Dovecote did not issue, without a query; 413 above the size limit; 429 for too many; else 200, or 503 when it could
    not be stored and the provider must send it again. A challenge is answered with itself. A body that is not valid is stored too: it is evidence.
    """
    context: Context = request.app.state.context
    token = request.path_params["token"]
    submission_id = context.tokens.read(token)
    if submission_id is None:
        return Problem(404, "not_found", "this is not a callback URL of this Dovecote").response()
    try:
        with request.app.state.bodies.lease("callbacks") as lease:
            body = await read_body(request, MAX_BODY, lease)
            await request.app.state.callback_limits.check(submission_id, len(body))
            if (challenge := challenge_in(bytes(body))) is not None:
                log.info("callback challenge answered submission=%s", submission_id)
                return Response(orjson.dumps({"challenge": challenge}), media_type="application/json")
            await store_callback(context, token, submission_id, request.headers, bytes(body))
    except Problem as problem:
        return problem.response()
    except ClientDisconnect:
        return Response(status_code=400)  # nothing reads it
    except Exception as error:  # noqa: BLE001 - after a 4xx the provider would not send it again
        log.warning("callback not stored error=%s", _reason(error), exc_info=not isinstance(error, StoreUnavailable))
        return unavailable("the callback could not be stored; send it again").response()
    return Response(b'{"received":true}', media_type="application/json")


def _reason(error: Exception) -> str:
    """Return what may be logged of an error: another one than the store's may quote the body."""
    return str(error) if isinstance(error, StoreUnavailable) else type(error).__name__


async def receive_account_event(request: Request) -> Response:
    """Receive an event of a whole account, such as OpenAI's webhooks.

    404 where the upstream has no such events or no `callback_key`, and 401 for a wrong signature, both without a query;
    else 200 after the commit, or 503 when the provider must send it again.
    """
    context: Context = request.app.state.context
    found = account_events.reader_of(context, request.path_params["upstream"])
    if found is None:
        return Problem(404, "not_found", "this is not a callback URL of this Dovecote").response()
    try:
        with request.app.state.bodies.lease("callbacks") as lease:
            body = bytes(await read_body(request, MAX_BODY, lease))
            is_right = await account_events.receive(context, *found, request.headers, body)
    except Problem as problem:
        return problem.response()
    except ClientDisconnect:
        return Response(status_code=400)  # nothing reads it
    except Exception as error:  # noqa: BLE001 - after a 4xx the provider would not send it again
        log.warning(
            "account event not received error=%s", _reason(error), exc_info=not isinstance(error, StoreUnavailable)
        )
        return unavailable("the event could not be received; send it again").response()
    if not is_right:
        return Problem(401, "unauthorized", "the signature is not the provider's").response()
    return Response(b'{"received":true}', media_type="application/json")


async def prove(request: Request) -> Response:
    """Answer the challenge of `dovecote doctor`: only a holder of the callback secret can.

    The route is beside the callbacks because a proxy often forwards nothing else.
    """
    context: Context = request.app.state.context
    nonce = request.path_params["nonce"]
    if not NONCE.fullmatch(nonce):
        raise HTTPException(405, headers={"Allow": "POST, PUT"})  # a callback URL cannot be read
    proof = context.tokens.prove(nonce)
    return Response(f'{{"dovecote":"{proof}"}}', media_type="application/json", headers={"Cache-Control": "no-store"})


async def nothing_else(_: Request) -> Response:
    """Answer 404 on the callback port to any other request."""
    return Problem(404, "not_found", "only callbacks are served on this port").response()


ROUTES = [
    Route("/callbacks/accounts/{upstream}", receive_account_event, methods=["POST"]),
    Route("/callbacks/{token}", receive, methods=["POST", "PUT"]),
    Route("/callbacks/{token}/", receive, methods=["POST", "PUT"]),
    Route("/callbacks/{nonce}", prove, methods=["GET"]),
    *media_links.ROUTES,
]
_ALL_METHODS = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]
ALONE = [*ROUTES, Route("/healthz", alive), Route("/{path:path}", nothing_else, methods=_ALL_METHODS)]
"""The routes of the callback port."""
