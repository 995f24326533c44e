"""The door for providers: store what came and answer after the commit. Understanding it comes later."""

import re

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from service.flows import callbacks as callbacks_flow
from service.flows.context import Context, log
from service.store.database import StoreUnavailable
from service.web.health import alive
from service.web.problems import Problem, unavailable
from service.web.request_body import read_body

BODY_CAP = 1024 * 1024
"""Bytes of a callback that are taken."""
NONCE = re.compile(r"[0-9a-f]{32}", re.ASCII)
"""A question of `dovecote doctor`. No token is of this form."""


async def receive(request: Request) -> Response:
    """Take one callback.

    404 for a token that is not ours, without asking the database; 413 above the cap; else 200, or 503 when it could not
    be stored, and then the provider may come again. Broken bodies are stored too: they are evidence.
    """
    context: Context = request.app.state.context
    token = request.path_params["token"]
    submission_id = context.tokens.read(token)
    if submission_id is None:
        return Problem(404, "not_found", "this is not a callback address of this Dovecote").response()
    try:
        body = await read_body(request, BODY_CAP)
        await callbacks_flow.receive(context, token, submission_id, request.headers, body)
    except Problem as problem:
        return problem.response()
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is there to read it
    except Exception as error:  # noqa: BLE001 - whatever it is: a 4xx would tell the provider not to come again
        log.warning("a callback could not be stored: %s", error, exc_info=not isinstance(error, StoreUnavailable))
        return unavailable("the callback could not be stored; send it again").response()
    return Response(b'{"received":true}', media_type="application/json")


async def prove(request: Request) -> Response:
    """Say who answers here, to somebody who knows the secret of the callback addresses; `dovecote doctor` asks it.

    It stands behind this door because a proxy often passes on nothing else.
    """
    context: Context = request.app.state.context
    nonce = request.path_params["nonce"]
    if not NONCE.fullmatch(nonce):
        raise HTTPException(405, headers={"Allow": "POST"})  # of a callback's address it is no use to ask
    proof = context.tokens.prove(nonce)
    return Response(f'{{"dovecote":"{proof}"}}', media_type="application/json", headers={"Cache-Control": "no-store"})


async def nothing_else(_: Request) -> Response:
    """Answer on the callbacks' own port what is none."""
    return Problem(404, "not_found", "only callbacks are served here").response()


ROUTES = [
    Route("/callbacks/{token}", receive, methods=["POST"]),
    Route("/callbacks/{nonce}", prove, methods=["GET"]),
]
_OTHER_METHODS = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]
ALONE = [*ROUTES, Route("/healthz", alive), Route("/{path:path}", nothing_else, methods=_OTHER_METHODS)]
"""For a port of their own."""
