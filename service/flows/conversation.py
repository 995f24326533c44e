"""Hold a conversation with an upstream, and name its failures by what may be done next."""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlsplit

import orjson

from service.domain.errors import AnotherJob, NotSent, Unavailable, Uncertain, Unreadable, UpstreamError
from service.domain.operator_events import excerpt
from service.domain.redaction import Redactor
from service.domain.task import State, Task, Update
from service.flows.context import Context, Upstream, log
from service.flows.metrics.process import status_class
from service.flows.signals.live import LiveAnswer
from service.http import form
from service.http.client import CONNECT_TIMEOUT, WRITE_TIMEOUT, Answer, build, send
from service.http.network_errors import named
from service.providers.capabilities import SendsCallbackKey, SignsCalls, Streams
from service.providers.charges import with_charges
from service.providers.dialect import Dialect
from service.providers.outputs import completed, is_internal
from service.providers.stream import Parser, charged_document
from service.providers.wire import Call, File, Form, Reply

Outcome = TypeVar("Outcome")
_DOMAIN_LABELS = 2
_MAX_LOGGED = 300


async def run_exchange(
    context: Context,
    upstream: Upstream,
    dialect: Dialect,
    exchange: Generator[Call, Reply, Outcome],
    *,
    hidden: Sequence[str] = (),
    send_before: float | None = None,
    sending: Callable[[Call], None] = lambda _: None,
    heard: Callable[[Call, Reply], None] | None = None,
    live: LiveAnswer | None = None,
) -> Outcome:
    """Send the calls of an exchange until it returns. A fault of ours in reading an answer is an error of the upstream, too.

    :param hidden: secrets besides the key that the upstream may repeat in its answers; they are not read
    :param send_before: the time on the monotonic clock after which a creating call is not sent any more
    :param sending: is told of every call before it is sent
    :param heard: is told of every answer before it is read
    :param live: gets the pieces of the answer to a creating call while they come, where the dialect can stream
    :raises UpstreamError: by what may be done next; after a creating call that may have arrived always Uncertain
    """
    redactor, buys = Redactor(context.tokens, [*secrets_of(upstream), *hidden]), False
    try:
        call = _first(exchange)
        while True:
            if call.creates and send_before is not None and context.monotonic() > send_before:
                raise NotSent  # noqa: TRY301 - as an upstream's own error
            buys = buys or call.creates
            sending(call)
            reply = await _ask(context, upstream, dialect, call, redactor, live=live)
            if heard is not None:
                heard(call, reply)
            read = functools.partial(_next, exchange, reply, redactor, upstream)
            following, outcome = await context.large.run(len(reply.body), read)
            if following is None:
                return cast("Outcome", outcome)
            call = following
    except StopIteration as done:  # it had nothing to ask
        return cast("Outcome", redactor.value(_completed(done.value, upstream)))
    except UpstreamError as error:
        redactor.error(error)
        if isinstance(error, AnotherJob):
            _log_once(context, upstream, dialect, error)
        raise
    except Exception as error:  # noqa: BLE001 - any fault of ours
        log.exception("answer cannot be read upstream=%s dialect=%s", upstream.name, dialect.facts.key)
        misread = redactor.error(_misread(error, buys=buys))
    raise misread  # here, because with its context it would keep a large request in memory


def _misread(error: Exception, *, buys: bool) -> UpstreamError:
    """Return the error for a fault of ours in reading an answer.

    :param buys: whether a creating call was sent: then its job may run all the same
    """
    words = f"the answer could not be read: {error!r}"[:_MAX_LOGGED]
    return Uncertain("unreadable", words) if buys else Unreadable(words)


def _log_once(context: Context, upstream: Upstream, dialect: Dialect, error: AnotherJob) -> None:
    """Log that an upstream answers about other jobs, the first time in this process. Each task shows its own case."""
    key = (upstream.name, dialect.facts.key)
    if key not in context.answers_about_other_jobs:
        context.answers_about_other_jobs.add(key)
        log.warning("answer about another job ignored upstream=%s dialect=%s error=%s", *key, error.message)


def _next(
    exchange: Generator[Call, Reply, Outcome], reply: Reply, redactor: Redactor, upstream: Upstream
) -> tuple[Call | None, Outcome | None]:
    """Send a reply to an exchange; return its next call, or its outcome."""
    try:
        return exchange.send(reply), None
    except StopIteration as done:
        stated = done.value
        if isinstance(stated, Update):
            stated = with_charges(stated, charged_document(reply), reply.headers)
        outcome: Outcome = redactor.value(_completed(stated, upstream, reply.body))
        return None, outcome


def _completed(outcome: Any, upstream: Upstream, body: bytes = b"") -> Any:
    """Return the outcome of an exchange, with every update completed.

    :param body: the last answer of the exchange
    """
    if isinstance(outcome, Update):
        return complete(outcome, upstream, body)
    if isinstance(outcome, dict):
        return {
            name: complete(each, upstream, body) if isinstance(each, Update) else each for name, each in outcome.items()
        }
    return outcome


def complete(update: Update, upstream: Upstream, body: bytes) -> Update:
    """Return an update with absolute addresses, a bounded number of results, and the context of an unknown word.

    An internal address is logged.

    :param body: the message that was read
    """
    base_url = upstream.settings.base_url
    whole = completed(update, base_url)
    if whole.unknown_word is not None:
        whole = dataclasses.replace(whole, unknown_in=excerpt(body, whole.unknown_word))
    own = urlsplit(base_url).hostname
    internal = (urlsplit(each.url).hostname for each in whole.results if each.url is not None and is_internal(each.url))
    host = next((name for name in internal if name != own), None)
    if host is not None and update.state is State.SUCCEEDED:
        log.warning("result has an internal address upstream=%s host=%s", upstream.name, host)
    return whole


def _first(exchange: Generator[Call, Reply, Outcome]) -> Call:
    try:
        return next(exchange)
    except (UpstreamError, StopIteration):
        raise
    except Exception as error:  # a mistake of ours, and nothing has been sent
        raise Unavailable("unknown", f"the request cannot be made: {error!r}"[:300]) from error


async def _ask(
    context: Context, upstream: Upstream, dialect: Dialect, call: Call, redactor: Redactor, *, live: LiveAnswer | None
) -> Reply:
    client = context.http.purchases if call.creates else context.http.questions
    listener: _Listener | None = None
    try:
        if live is not None and call.creates and isinstance(dialect, Streams):
            call, listener = dialect.streamed(call), _Listener(live, dialect, redactor)
        call = _with_callback_key(upstream, dialect, call)
        content, content_type = _body(call)
        base, secret_query, authorized = _authorized(upstream, dialect, call, content or b"", context.now().timestamp())
        headers = {**content_type, **authorized.headers}
        url = base + authorized.path
        request = build(
            client,
            authorized.method,
            url,
            headers=headers,
            content=content,
            read_timeout=call.read_timeout,
            secret_query=secret_query,
            tls=upstream.tls,
        )
    except Exception as error:  # noqa: BLE001 - nothing has been sent, and the text may hold the key
        raise Unavailable("unknown", f"the request cannot be made: {type(error).__name__}") from None
    began = context.monotonic()
    try:
        async with contextlib.nullcontext() if call.creates else upstream.questions:
            answer = _usable(
                await send(
                    client,
                    request,
                    total_timeout=CONNECT_TIMEOUT + WRITE_TIMEOUT + call.read_timeout,
                    limit=call.max_answer,
                    heard=None if listener is None else listener.receive,
                )
            )
    except Exception as error:  # any exception: the table's last row assumes the worst
        words = f"{type(error).__name__} {error}".strip()[:_MAX_LOGGED]
        _record_call(
            context,
            upstream,
            call,
            context.monotonic() - began,
            error=redactor.text(words),
            host=urlsplit(base).hostname,
        )
        raise named(error, creating=call.creates) from error
    _record_call(context, upstream, call, context.monotonic() - began, status=answer.status)
    headers = {name: redactor.text(value) for name, value in answer.headers.items()}
    body = await context.large.run(len(answer.body), functools.partial(redactor.body, answer.body))
    return Reply(answer.status, headers, body, call.endpoint, redactor.secrets)


class _Listener:
    """Reads the pieces of an answer while they come. They are for readers only: the answer itself is read when it is whole."""

    def __init__(self, live: LiveAnswer, dialect: Streams, redactor: Redactor) -> None:
        self._live, self._dialect, self._redactor = live, dialect, redactor
        self._parser = Parser()
        self._failed = False

    def receive(self, status: int, headers: Mapping[str, str], chunk: bytes) -> None:
        """Add the pieces that a chunk of the body completes. Nothing that is wrong in them may fail the submission."""
        is_plain = headers.get("content-encoding", "identity") == "identity"
        if self._failed or not is_plain or not Reply(status).ok:
            return
        try:
            for event in self._parser.feed(chunk):
                for piece in self._dialect.read_pieces(event):
                    self._live.add(dataclasses.replace(piece, text=self._redactor.text(piece.text)))
        except Exception as error:  # noqa: BLE001 - any exception
            self._failed = True
            log.warning("pieces of an answer cannot be read error=%r", error)


def _with_callback_key(upstream: Upstream, dialect: Dialect, call: Call) -> Call:
    """Return a creating call with the key by which the provider is to sign its callbacks, where it takes one."""
    key = upstream.settings.callback_key
    if key is None or not call.creates or not isinstance(dialect, SendsCallbackKey):
        return call
    return dialect.with_callback_key(call, key.get_secret_value())


def _body(call: Call) -> tuple[bytes | None, dict[str, str]]:
    """Return the body of a call and the header that states its type."""
    if call.form is not None:
        content, content_type = form.encode(_parts(call.form))
        return content, {"Content-Type": content_type}
    if call.json is not None:
        return orjson.dumps(call.json), {"Content-Type": "application/json"}
    return None, {}


def _parts(fields: Form) -> Iterator[tuple[str, form.Part]]:
    """Yield the parts of a form: a list is a field that is repeated."""
    for name, value in fields.items():
        for each in [value] if isinstance(value, str | File) else value:
            yield name, each if isinstance(each, str) else (each.name, each.content, each.content_type)


def _record_call(
    context: Context,
    upstream: Upstream,
    call: Call,
    seconds: float,
    *,
    status: int | None = None,
    host: str | None = None,
    error: str | None = None,
) -> None:
    """Count and log one call. Its path stays out: some protocols name jobs, prompts or tokens in it.

    :param host: the host of a call that failed, for the operator: the task names the upstream only
    """
    purpose = "create" if call.creates else "query"
    context.metrics.calls.labels(upstream.name, purpose, status_class(status)).inc()
    context.metrics.call_seconds.labels(upstream.name, purpose).observe(seconds)
    log.log(
        logging.INFO if call.creates or error is not None else logging.DEBUG,
        "upstream called upstream=%s method=%s creates=%s status=%s seconds=%.3f host=%s error=%s",
        upstream.name,
        call.method,
        call.creates,
        status,
        seconds,
        host,
        error,
    )


def _usable(answer: Answer) -> Answer:
    """Return an answer that is complete, or that broke off after a complete JSON document.

    :raises httpx.TransportError: the failure by which it broke off, when the document is not complete
    """
    if answer.failure is not None:
        try:
            complete = isinstance(orjson.loads(answer.body), dict | list)
        except orjson.JSONDecodeError:
            complete = False
        if not complete:
            raise answer.failure
    return answer


def _authorized(
    upstream: Upstream, dialect: Dialect, call: Call, content: bytes, now: float
) -> tuple[str, str | None, Call]:
    """Return the base URL of a call, and the call with its credentials: a secret query string, or headers.

    :param content: the body as it is sent, for a provider that requires a signature
    :param now: Unix seconds
    """
    settings = upstream.settings
    if call.asks_quota and settings.query_key is not None:
        return settings.query_url, f"key={quote(settings.query_key.get_secret_value(), safe='')}", call
    if call.account and settings.account_token is not None:
        token = settings.account_token.get_secret_value()
        owner = {"New-Api-User": settings.account_user or ""}  # new-api's dashboard needs the account of the token
        return settings.base_url, None, dataclasses.replace(call, headers={**call.headers, **owner, **_bearer(token)})
    if call.asks_quota or call.account:
        raise Unavailable("unknown", "there is no key for this call")
    key, base_url = settings.key.get_secret_value(), base_url_of(settings.base_url, call)
    if isinstance(dialect, SignsCalls):
        host = urlsplit(base_url).netloc
        return base_url, None, dialect.sign(call, key, host=host, content=content, now=now)
    return base_url, None, dialect.authorize(call, key)


def authorized_get(upstream: Upstream, dialect: Dialect, path: str, *, now: float) -> tuple[str, Mapping[str, str]]:
    """Return the URL and the headers, with the key, of a GET at the upstream's own host.

    :param path: the path below the base URL, with its query
    :param now: Unix seconds
    """
    base, _, call = _authorized(upstream, dialect, Call(method="GET", path=path), b"", now)
    return base + call.path, call.headers


def base_url_of(base_url: str, call: Call) -> str:
    """Return where a call goes: to the upstream, or to another host of the provider's of the same domain.

    The upstream may be a proxy or a test server: then an answer leads its key to no other host.
    """
    own = urlsplit(base_url)
    domain = (own.hostname or "").lower().split(".")[-2:]
    if call.host is None or own.scheme != "https" or len(domain) < _DOMAIN_LABELS or not domain[-1].isalpha():
        return base_url
    return f"https://{call.host}" if call.host.lower().split(".")[-2:] == domain else base_url


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def tokens_of(context: Context, task: Task) -> list[str]:
    """Return the callback token of a task's submission, which an upstream may repeat in any spelling."""
    return [] if task.submission_id is None else [context.tokens.make(task.submission_id)]


def secrets_of(upstream: Upstream) -> tuple[str, ...]:
    """Return the upstream's credentials, which its answers may repeat."""
    settings = upstream.settings
    keys = (settings.key, settings.query_key, settings.account_token, settings.callback_key)
    return tuple(key.get_secret_value() for key in keys if key is not None)
