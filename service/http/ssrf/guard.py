"""The guard of every URL that comes from outside: read once, looked up once, and connected to as it was checked."""

import asyncio
import contextlib
import contextvars
import dataclasses
import functools
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from service.http.ssrf.addresses import address_of
from service.http.ssrf.policy import Rules
from service.http.ssrf.url import Destination, Unreadable, read_url

RESOLVING_THREADS = 32
"""Look-ups under way at once. A name server that is silent keeps one of them for each name, for as long as the system's
resolver waits."""

Found = Sequence[tuple[Any, Any, int, str, Any]]
LookUp = Callable[..., Found]
"""What :func:`socket.getaddrinfo` is; tests give their own."""


class ForbiddenAddress(OSError):
    """A URL given by a client leads where messages may not go; trying again would change nothing."""


def forbidden(error: BaseException | None) -> ForbiddenAddress | None:
    """Find out whether a failure to connect was our own refusal."""
    while error is not None:
        inner = getattr(error, "os_error", None)
        for candidate in (error, inner, *getattr(inner, "exceptions", ())):
            if isinstance(candidate, ForbiddenAddress):
                return candidate
        error = error.__cause__
    return None


_bound_for: contextvars.ContextVar[str] = contextvars.ContextVar("host of the request under way", default="")


class Guard:
    """The gates that a request to a URL from outside passes: the URL, what its name leads to, the socket."""

    def __init__(self, rules: Rules, look_up: LookUp | None = None) -> None:
        """Prepare; threads start on first use.

        :param look_up: resolves names, default :func:`socket.getaddrinfo`
        """
        self._rules = rules
        self.resolver = CheckedResolver(rules, look_up or socket.getaddrinfo)

    def admit(self, url: str) -> Destination:
        """Read a URL and refuse what can be refused without looking its name up.

        :raises ForbiddenAddress: with every reason
        """
        try:
            destination = read_url(url)
        except Unreadable as error:
            raise ForbiddenAddress(f"the URL {error}") from None
        objections = self._rules.objections(destination)
        if objections:
            raise ForbiddenAddress("; ".join(each.reason for each in objections))
        return destination

    @contextlib.contextmanager
    def towards(self, url: str) -> Iterator[None]:
        """Bind what is done meanwhile, and the sockets that it opens, to the host of a URL.

        :raises ForbiddenAddress: see :meth:`admit`
        """
        token = _bound_for.set(self.admit(url).host)
        try:
            yield
        finally:
            _bound_for.reset(token)

    def open_socket(self, information: Any) -> socket.socket:
        """Open a socket for an address, if it may be connected to. Literal addresses pass by the resolver, none by here.

        :param information: as :func:`socket.getaddrinfo` gives it
        :raises ForbiddenAddress: with the reason
        """
        family, kind, protocol, _, where = information
        _refuse(self._rules, str(where[0]), _bound_for.get())
        return socket.socket(family, kind, protocol)


def _refuse(rules: Rules, address: str, host: str) -> None:
    objection = rules.objection_to(address_of(address), host or address)
    if objection is not None:
        raise ForbiddenAddress(objection.reason)


@dataclasses.dataclass(slots=True)
class _Question:
    answer: "asyncio.Future[Found]"
    waiting: int = 0


class CheckedResolver(AbstractResolver):
    """Looks a name up once for a connection, and refuses it when any of its addresses may not be connected to."""

    def __init__(self, rules: Rules, look_up: LookUp) -> None:
        """Take threads of its own: names that never resolve must not keep those that purchases resolve by."""
        self._rules = rules
        self._ask = look_up
        self._threads = ThreadPoolExecutor(RESOLVING_THREADS, thread_name_prefix="resolve")
        self._under_way: dict[tuple[str, int], _Question] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Give the addresses that will be connected to.

        :raises ForbiddenAddress: when any of them is refused
        :raises OSError: when there are none
        """
        if _bound_for.get() not in {"", host}:
            raise ForbiddenAddress(f"{host} is not the host that was checked")
        found = await self._look_up(host, family)
        for *_, where in found:
            _refuse(self._rules, str(where[0]), host)
        literal = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(hostname=host, host=str(where[0]), port=port, family=kind, proto=protocol, flags=literal)
            for kind, _, protocol, _, where in found
        ]

    async def _look_up(self, host: str, family: int) -> Found:
        """Ask; who asks for a name that is being looked up waits for the same answer, and takes no further thread."""
        question = self._under_way.get((host, family))
        if question is None or question.answer.done():
            call = functools.partial(
                self._ask, host, None, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
            )
            question = _Question(asyncio.get_running_loop().run_in_executor(self._threads, call))
            self._under_way[host, family] = question
        question.waiting += 1
        try:
            return await asyncio.shield(question.answer)
        finally:
            question.waiting -= 1
            if not question.waiting:
                question.answer.cancel()  # it need not start any more; does nothing to one that is answered
                if self._under_way.get((host, family)) is question:
                    del self._under_way[host, family]

    async def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)
