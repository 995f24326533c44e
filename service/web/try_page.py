"""The API reference that sends requests: Swagger UI from the files of the package, beside the page without scripts."""

from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.web.problems import Problem
from service.web.static_files import static_files

FILES: Final = Path(__file__).parent / "swagger_ui"
"""Swagger UI as published, with its licences, and what starts it."""

_POLICY: Final = {
    # Scripts and styles of this server alone; requests go to this server alone. Swagger UI's icons are data: images.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}
_PAGE: Final = """<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>Try the Dovecote API</title><link rel=icon href="{icon}" type="image/svg+xml">
<link rel=stylesheet href="{style}"><link rel=stylesheet href="{page}">
<script src="{bundle}" defer></script><script src="{start}" defer></script>
<div class=above><b>Try the Dovecote API</b> <span>“Authorize” takes an API key.
A request that you send here is a real one: a submitted task can cost credit.</span>
<a href="{docs}">The same reference without scripts</a></div>
<noscript><p class=above>This page needs scripts. <a href="{docs}">The reference without scripts</a> has the same content.</noscript>
<div id=try data-openapi="{openapi}"></div></html>"""


async def serve_page(request: Request) -> Response:
    """Return the page. Its addresses are relative, so that a path prefix of a proxy is kept."""
    up = "../" * (1 + getattr(request.state, "trailing_slash", False))
    files = {
        name: f"{up}docs/static/{file}?v={static_files(FILES)[file].version}"
        for name, file in {
            "style": "swagger-ui.css",
            "page": "page.css",
            "bundle": "swagger-ui-bundle.js",
            "start": "start.js",
        }.items()
    }
    page = _PAGE.format(icon=f"{up}ui/static/favicon.svg", docs=f"{up}docs", openapi=f"{up}openapi.json", **files)
    return Response(page, headers=_POLICY, media_type="text/html; charset=utf-8")


async def serve_file(request: Request) -> Response:
    """Return one of the files that the page loads."""
    found = static_files(FILES).get(request.path_params["name"])
    return Problem(404, "not_found", "there is no such file").response() if found is None else found.response(request)


ROUTES: Final = [Route("/docs/try", serve_page), Route("/docs/static/{name}", serve_file)]
