"""Hold a conversation with an upstream, and name its failures by what may be done next."""

import contextlib
from collections.abc import Generator, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

import orjson

from service.domain.errors import Unavailable, UpstreamError
from service.flows.failures import named
from service.flows.http import CONNECT_TIMEOUT, WRITE_TIMEOUT, send
from service.flows.runtime import Runtime, Upstream
from service.providers.dialect import Call, Dialect, Reply

Outcome = TypeVar("Outcome")


async def converse(
    runtime: Runtime,
    upstream: Upstream,
    dialect: Dialect,
    exchange: Generator[Call, Reply, Outcome],
    *,
    hidden: Sequence[str] = (),
) -> Outcome:
    """Send what the exchange yields until it returns.

    :param hidden: secrets besides the key that the upstream may repeat in its answers; they are not read
    :raises UpstreamError: by what may be done next; after a creating call that may have arrived always Uncertain
    """
    try:
        call = _first(exchange)
        while True:
            call = exchange.send(await _ask(runtime, upstream, dialect, call, hidden))
    except StopIteration as done:
        outcome: Outcome = done.value
        return outcome


def _first(exchange: Generator[Call, Reply, Outcome]) -> Call:
    try:
        return next(exchange)
    except (UpstreamError, StopIteration):
        raise
    except Exception as error:  # a mistake of ours, and nothing has been sent
        raise Unavailable("unknown", f"the request cannot be made: {error!r}"[:300]) from error


async def _ask(runtime: Runtime, upstream: Upstream, dialect: Dialect, call: Call, hidden: Sequence[str]) -> Reply:
    key = upstream.settings.key.get_secret_value()
    client = runtime.http.purchases if call.creates else runtime.http.questions
    try:
        authorized = dialect.authorize(call, key)
        content = None if authorized.json is None else orjson.dumps(authorized.json)
        declared = {} if content is None else {"Content-Type": "application/json"}
        headers = {**declared, **authorized.headers}
        url = upstream.settings.base_url + authorized.path
        client.build_request(authorized.method, url, headers=headers)
    except Exception as error:  # noqa: BLE001 - nothing has been sent, and the text may hold the key
        raise Unavailable("unknown", f"the request cannot be made: {type(error).__name__}") from None
    try:
        async with contextlib.nullcontext() if call.creates else upstream.questions:
            answer = await send(
                client,
                authorized.method,
                url,
                headers=headers,
                content=content,
                read_timeout=call.read_timeout,
                total_timeout=CONNECT_TIMEOUT + WRITE_TIMEOUT + call.read_timeout,
            )
    except Exception as error:  # whatever it is: the table's last row assumes the worst
        host = urlsplit(upstream.settings.base_url).hostname
        raise named(error, creating=call.creates, host=host) from error
    return Reply(answer.status, answer.headers, _without(answer.body, [key, *hidden]))


def _without(body: bytes, secrets: Sequence[str]) -> bytes:
    """Leave out what an upstream repeats of our secrets: error messages of gateways quote keys and addresses."""
    for secret in secrets:
        if secret:
            body = body.replace(secret.encode(), b"[redacted]")
    return body
