"""Health checks for load balancers."""

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.flows.context import Context
from service.store.database import StoreUnavailable
from service.store.migrate import newest, revision


async def alive(_: Request) -> Response:
    """Answer 200 while the event loop runs."""
    return Response(b'{"status":"ok"}', media_type="application/json")


async def ready(request: Request) -> Response:
    """Answer 200 when the database answers and has this version's schema, else 503 with the reason."""
    context: Context = request.app.state.context
    try:
        found = await revision(context.database)
        problem = (
            None if found == newest() else f"the schema is {found}, this version needs {newest()}: run dovecote migrate"
        )
    except StoreUnavailable as error:
        problem = str(error)
    document = {"status": "ok"} if problem is None else {"status": "unavailable", "detail": problem}
    return Response(orjson.dumps(document), 200 if problem is None else 503, media_type="application/json")


ROUTES = [Route("/healthz", alive), Route("/readyz", ready)]
