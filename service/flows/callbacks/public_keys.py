"""Fetch and keep the public keys by which providers sign their callbacks."""

import datetime as dt
from collections.abc import Iterable

import httpx
import orjson

from service.flows.context import Context, Upstream, log
from service.http.client import build, send
from service.http.ssrf.guard import ForbiddenAddress

KEPT = dt.timedelta(hours=24)
"""How long a set of keys is used until it is fetched again. Providers change their keys without notice."""
PAUSE = dt.timedelta(seconds=60)
"""The time between two requests: also for a signature that no known key has made, so that a forger causes few of them."""
_TIMEOUT = 5.0
_MAX_KEY_SET = 64 * 1024


def needs_keys(context: Context, upstream: Upstream) -> bool:
    """Return whether the public keys of an upstream are to be fetched now."""
    keys, now = upstream.public_keys, context.now()
    if not upstream.fetches_keys or (keys.asked_at is not None and abs(now - keys.asked_at) < PAUSE):
        return False
    return keys.doubted or keys.text is None or keys.read_at is None or abs(now - keys.read_at) >= KEPT


async def refresh(context: Context, names: Iterable[str]) -> None:
    """Fetch the public keys of upstreams that need them. Where that fails, the last good set stays in use."""
    for name in names:
        upstream = context.upstreams.get(name)
        if upstream is None:
            continue
        async with upstream.public_keys.lock:
            if needs_keys(context, upstream):
                await _fetch(context, upstream)


async def _fetch(context: Context, upstream: Upstream) -> None:
    keys, now = upstream.public_keys, context.now()
    keys.asked_at = now
    try:
        found = await _read_key_set(context, upstream)
    except Exception as error:  # noqa: BLE001 - any failure: callbacks of other upstreams wait for this
        why = str(error) if isinstance(error, ForbiddenAddress) else type(error).__name__
        log.warning("public keys cannot be fetched upstream=%s error=%s", upstream.name, why[:200])
        return
    if isinstance(found, int):
        log.warning("public keys cannot be fetched upstream=%s status=%d", upstream.name, found)
    else:
        keys.text, keys.read_at, keys.doubted = found.decode("utf-8", "replace"), now, False


async def _read_key_set(context: Context, upstream: Upstream) -> bytes | int:
    """Return the key set that a host publishes, or the HTTP status of an answer that holds none."""
    client = context.http.messages
    request = build(client, "GET", upstream.settings.callback_keys_url, headers={}, read_timeout=_TIMEOUT)
    answer = await send(client, request, total_timeout=_TIMEOUT, limit=_MAX_KEY_SET)
    complete = answer.failure is None and answer.status == httpx.codes.OK and _is_key_set(answer.body)
    return answer.body if complete else answer.status


def _is_key_set(body: bytes) -> bool:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(document, dict) and isinstance(document.get("keys"), list) and bool(document["keys"])
