"""The ceiling: a Starlette application that parses JSON, keeps nothing and answers. Nothing durable can be faster."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def _parse(request: Request) -> JSONResponse:
    await request.json()
    return JSONResponse({"received": True})


async def _alive(_: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


app = Starlette(
    routes=[
        Route("/callbacks/{token}", _parse, methods=["POST"]),
        Route("/v1/tasks", _parse, methods=["POST"]),
        Route("/healthz", _alive),
    ]
)
