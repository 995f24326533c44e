"""The metrics over HTTP: behind a key on the API's port, and without one on a port of their own."""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.domain.api_key import Scope
from service.flows.context import Context
from service.flows.metrics.rows import RowMetrics
from service.web.auth.bearer import Authenticator
from service.web.health import alive
from service.web.problems import Problem


class _All(Collector):
    """The counters of this process, and the numbers of the database."""

    def __init__(self, counted: CollectorRegistry, rows: Sequence[Metric]) -> None:
        self._counted = counted
        self._rows = rows

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from self._counted.collect()
        yield from self._rows


async def metrics(request: Request) -> Response:
    """Answer with every metric, in the format that the scraper prefers."""
    context: Context = request.app.state.context
    rows: RowMetrics = request.app.state.row_metrics
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    text = encode(_All(context.metrics.registry, await rows.families()))
    return Response(text, headers={"Content-Type": media_type, "Cache-Control": "no-store"})


def behind_a_key(authenticator: Authenticator) -> Route:
    """Return the route of the API's port: it needs a key with the scope ``metrics``."""

    async def answer(request: Request) -> Response:
        caller = await authenticator.authorize(request, Scope.METRICS)
        request.state.client_name = caller.client  # for the access log
        return await metrics(request)

    return Route("/metrics", answer)


async def _nothing_else(_: Request) -> Response:
    return Problem(404, "not_found", "only /metrics and /healthz are served on this port").response()


ALONE = [Route("/metrics", metrics), Route("/healthz", alive), Route("/{path:path}", _nothing_else)]
"""The routes of the port of its own."""
