"""Health checks for load balancers: liveness and readiness."""

import asyncio
import os
import socket
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.flows.context import Context
from service.flows.webhooks.watch import missing_flows, sentence_of
from service.store import health
from service.store.database import StoreUnavailable
from service.store.migrate import newest, revision

ANSWER_WITHIN: Final = 2.5
"""Seconds after which readiness is answered, whatever the database does."""
MAX_COMMIT_WAIT: Final = 10.0
"""Seconds that a write may have been waiting for its commit."""
PROCESS: Final = f"{socket.gethostname()}:{os.getpid()}"


async def alive(_: Request) -> Response:
    """Answer 200 while the event loop runs."""
    return Response(b'{"status":"ok"}', media_type="application/json")


async def ready(request: Request) -> Response:
    """Answer 200 when a write can be made, writes commit and a worker of each flow is alive, else 503 with every reason.

    A queue that is not worked off is a warning: this process serves all the same.
    """
    context: Context = request.app.state.context
    problems, warnings = list[str](), list[str]()
    waited = context.writers.waited()
    if waited > MAX_COMMIT_WAIT:
        problems.append(f"no commit for {waited:.0f} s")
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            problems += await _problems_of_database(context)
            if not problems:
                async with context.database.reading() as connection:
                    warnings = health.queue_warnings(await health.queue_ages(connection, now=context.now()))
    except StoreUnavailable as error:
        problems.append(str(error))
    except TimeoutError:
        problems.append(f"the database does not answer within {ANSWER_WITHIN} s")
    document: dict[str, Any] = (
        {"status": "unavailable", "detail": "; ".join(problems)} if problems else {"status": "ok"}
    )
    if warnings:
        document["warnings"] = warnings
    return Response(orjson.dumps(document), 503 if problems else 200, media_type="application/json")


async def _problems_of_database(context: Context) -> list[str]:
    found = await revision(context.database)
    if found != newest():
        return [f"the schema is {found}, this version needs {newest()}: run dovecote migrate"]
    now = context.now()
    async with context.database.writing() as connection:
        await health.beat(connection, f"web {PROCESS}", "web", now=now)
        seen = await health.last_workers(connection)
    missing = missing_flows(context, seen)
    return [sentence_of(missing)] if missing else []


ROUTES = [Route("/healthz", alive), Route("/readyz", ready)]
