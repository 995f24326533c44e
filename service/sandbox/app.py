"""The whole sandbox: the providers' routes over one desk, and its own routes, such as the ledger."""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.sandbox import account, midjourney, play, suno
from service.sandbox.callbacks import Courier, HttpSender, Send
from service.sandbox.desk import Desk
from service.sandbox.faults import FAULTS, NO_FAULTS, Faults
from service.sandbox.files import FILES
from service.sandbox.gateway import relay_error
from service.sandbox.inputs import Fetch, fetch_by_http
from service.sandbox.jobs import Ledger
from service.sandbox.lazy_routes import LazyRoutes
from service.sandbox.protocol import Protocol, load


class Sandbox:
    """Simulated providers: their protocols, a ledger of the paid jobs, and faults on demand.

    `seconds` is the duration of a job, and `key` the key that a client must send as Bearer. `clock` returns Unix seconds and
    advances every job. `faults` hold for every job (see FAULTS for the words in prompts). `send` posts a callback: it gets a
    URL and JSON bytes, and returns the HTTP status of the answer. `fetch` gets the files that an order names. `protocols` are added to the packaged ones.

    Served by `serve` or `running`, the sandbox sends its callbacks. In-process, where no lifespan runs, call `deliver_due`; the
    in-process transport is `InProcessTransport(sandbox.app)`.
    """

    def __init__(
        self,
        seconds: float = 2.0,
        key: str = "sandbox-key",
        clock: Callable[[], float] = time.time,
        faults: Faults = NO_FAULTS,
        send: Send | None = None,
        *,
        fetch: Fetch = fetch_by_http,
        protocols: Iterable[Protocol] = (),
    ) -> None:
        self.ledger = Ledger(clock)
        self._sender = HttpSender()
        courier = Courier(self.ledger, clock, send or self._sender)
        self._desk = Desk(
            ledger=self.ledger, courier=courier, clock=clock, seconds=seconds, key=key, faults=faults, fetch=fetch
        )
        self.app = Starlette(
            routes=[
                *(play.routes(self._desk, each) for each in load().values()),
                *(route for each in protocols for route in play.routes(self._desk, each).routes),
                LazyRoutes(midjourney.STARTS, functools.partial(midjourney.routes, self._desk)),
                LazyRoutes(suno.STARTS, functools.partial(suno.routes, self._desk)),
                *account.routes(self._desk),
                *self._own_routes(),
            ],
            exception_handlers={404: _no_such_route, 405: _no_such_route},
            lifespan=self._lifespan,
        )

    @staticmethod
    def base_paths() -> Mapping[str, str]:
        """Return the dialects that the sandbox implements, each with the path that ends the base URL of its upstream."""
        played = {dialect: each.prefix for each in load().values() for dialect in each.dialects}
        return dict.fromkeys((*midjourney.DIALECTS, *suno.DIALECTS), "") | played

    @property
    def faults(self) -> Faults:
        """The faults of every job taken from now on; may be set at any time."""
        return self._desk.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._desk.faults = faults

    async def deliver_due(self) -> None:
        """Send every callback that is due by the clock, and wait for the answers."""
        await self._desk.courier.deliver_due()

    async def run(self) -> None:
        """Deliver callbacks as they become due, until cancelled."""
        await self._desk.courier.run()

    async def aclose(self) -> None:
        """Close the connections that callbacks went out by (the lifespan does it too)."""
        await self._sender.aclose()

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        deliveries = asyncio.create_task(self.run())
        try:
            yield
        finally:
            deliveries.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await deliveries
            await self.aclose()

    def _own_routes(self) -> list[Route]:
        return [
            Route("/sandbox/ledger", self._show_ledger),
            Route("/sandbox/ledger", self._clear_ledger, methods=["DELETE"]),
            Route("/sandbox/faults", self._show_faults),
            Route("/sandbox/files/{name}", self._give_file),
            Route("/healthz", _healthy),
        ]

    async def _show_ledger(self, _request: Request) -> Response:
        return JSONResponse(self.ledger.as_document())

    async def _clear_ledger(self, _request: Request) -> Response:
        self._desk.clear()
        return Response(status_code=204)

    async def _show_faults(self, _request: Request) -> Response:
        return JSONResponse({"words": FAULTS, "set": self.faults.as_words()})

    async def _give_file(self, request: Request) -> Response:
        job_id, _, ending = request.path_params["name"].partition(".")
        job = self.ledger.find(job_id)
        if job is None or ending.rpartition(".")[2] not in FILES:
            return Response("no such file", 404, media_type="text/plain")
        return self._desk.files.answer(request, job, ending.rpartition(".")[2])


async def _healthy(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _no_such_route(request: Request, _error: Exception) -> Response:
    """Answer as new-api answers a path that it does not serve."""
    message = f"Invalid URL ({request.method} {request.url.path})"
    return relay_error(404, message, kind="invalid_request_error").response()
