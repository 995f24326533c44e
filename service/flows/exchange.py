"""Hold a conversation with an upstream, and name its failures by what may be done next."""

from collections.abc import Generator
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import orjson

from service.domain.errors import Unavailable, Uncertain
from service.flows.http import NEVER_SENT, Answer, AnswerTooLarge, send
from service.flows.runtime import Runtime, Upstream
from service.providers.dialect import Call, Dialect, Reply

Outcome = TypeVar("Outcome")


async def converse(
    runtime: Runtime, upstream: Upstream, dialect: Dialect, exchange: Generator[Call, Reply, Outcome]
) -> Outcome:
    """Send what the exchange yields until it returns.

    :raises UpstreamError: by what may be done next; after a creating call that may have arrived always Uncertain
    """
    try:
        call = next(exchange)
        while True:
            call = exchange.send(await _ask(runtime, upstream, dialect, call))
    except StopIteration as done:
        outcome: Outcome = done.value
        return outcome


async def _ask(runtime: Runtime, upstream: Upstream, dialect: Dialect, call: Call) -> Reply:
    authorized = dialect.authorize(call, upstream.settings.key.get_secret_value())
    headers = {**authorized.headers}
    content = None
    if authorized.json is not None:
        content = orjson.dumps(authorized.json)
        headers.setdefault("Content-Type", "application/json")
    client = runtime.http.purchases if call.creates else runtime.http.questions
    url = upstream.settings.base_url + authorized.path
    try:
        async with upstream.gate:
            answer = await send(
                client, authorized.method, url, headers=headers, content=content, read_timeout=call.read_timeout
            )
    except NEVER_SENT as error:
        raise Unavailable("overloaded", f"no connection to {_host(upstream)}: {_words(error)}") from error
    except (httpx.HTTPError, AnswerTooLarge) as error:
        raise _broken(call, upstream, error) from error
    return _reply(answer)


def _broken(call: Call, upstream: Upstream, error: Exception) -> Exception:
    """Name a failure after which nobody knows whether the request arrived."""
    code = "provider_timeout" if isinstance(error, httpx.TimeoutException) else "unreadable"
    message = f"the request to {_host(upstream)} went out and no usable answer came: {_words(error)}"
    return Uncertain(code, message) if call.creates else Unavailable(code, message)


def _reply(answer: Answer) -> Reply:
    return Reply(answer.status, answer.headers, answer.body)


def _host(upstream: Upstream) -> Any:
    return urlsplit(upstream.settings.base_url).hostname


def _words(error: Exception) -> str:
    """Say a transport error shortly. Its text holds hosts and reasons, never headers or bodies."""
    return f"{type(error).__name__} {error}".strip()[:300]
