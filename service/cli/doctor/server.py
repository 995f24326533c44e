"""Check whether a server answers at the address of the settings."""

from typing import Final

import httpx

from service.cli.doctor.finding import Finding, error, ok, warning
from service.settings.model import Settings

TIMEOUT: Final = 5.0
_OK, _UNAVAILABLE = 200, 503


def local_url(settings: Settings) -> str:
    """Return the URL at which this machine reaches the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - read, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


async def check_server(settings: Settings) -> Finding:
    """Return whether the server is ready."""
    if settings.port == 0:
        return warning("server", "takes any free port (port = 0), so it cannot be checked")
    url = local_url(settings)
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as client:
            answer = await client.get(f"{url}/readyz")
        document = answer.json() if answer.status_code in {_OK, _UNAVAILABLE} else None
    except httpx.HTTPError:
        return warning("server", f"none answers at {url}", "start `dovecote serve` here, unless it runs elsewhere")
    except ValueError:
        document = None
    if not isinstance(document, dict) or "status" not in document:
        return error("server", f"another program answers at {url}", "set DOVECOTE_PORT to a free port")
    if answer.status_code == _UNAVAILABLE:
        return error("server", f"is not ready: {str(document.get('detail'))[:200]}")
    warnings = document.get("warnings")
    if isinstance(warnings, list) and warnings:
        return warning("server", f"answers at {url}, and warns: {'; '.join(map(str, warnings))[:300]}")
    return ok("server", f"answers at {url}")
