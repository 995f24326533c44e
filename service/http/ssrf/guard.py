"""Guard requests to URLs from clients: parse and resolve each once, and connect only to the checked addresses."""

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

from service.http.ssrf.addresses import address_of, is_public
from service.http.ssrf.policy import Rules
from service.http.ssrf.url import Destination, Unreadable, read_url

RESOLVING_THREADS = 32
"""Concurrent look-ups. A silent name server occupies one for each name until the system's resolver gives up."""

Found = Sequence[tuple[Any, Any, int, str, Any]]
LookUp = Callable[..., Found]
"""A function like :func:`socket.getaddrinfo`."""


class ForbiddenAddress(OSError):
    """A URL of a client leads to a destination that is not allowed."""

    def __init__(self, reason: str, detail: str = "") -> None:
        """Keep the reason, which clients may see, and the detail, which is for the operator's log."""
        super().__init__(reason)
        self.detail = detail


def forbidden(error: BaseException | None) -> ForbiddenAddress | None:
    """Return the refusal that caused a failure to connect, or None."""
    while error is not None:
        inner = getattr(error, "os_error", None)
        for candidate in (error, inner, *getattr(inner, "exceptions", ())):
            if isinstance(candidate, ForbiddenAddress):
                return candidate
        error = error.__cause__
    return None


@dataclasses.dataclass(slots=True)
class Bound:
    """The request that sockets are opened for."""

    host: str = ""
    """Empty: no request, and every host is checked by the rules alone."""
    private: bool = False
    """Whether a socket was opened for an address that is not public."""


_bound: contextvars.ContextVar[Bound] = contextvars.ContextVar("the request that sockets are opened for")


class Guard:
    """Checks a request to a URL from a client three times: its URL, the addresses of its host, and each socket."""

    def __init__(self, rules: Rules, look_up: LookUp | None = None) -> None:
        """Create the guard. Its threads start on first use.

        :param look_up: resolves names, default :func:`socket.getaddrinfo`
        """
        self._rules = rules
        self.resolver = CheckedResolver(rules, look_up or socket.getaddrinfo)

    def admit(self, url: str) -> Destination:
        """Parse a URL and check it without resolving its host.

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
    def towards(self, url: str) -> Iterator[Bound]:
        """Limit the sockets that are opened in this context to the host of a URL.

        :raises ForbiddenAddress: see :meth:`admit`
        """
        bound = Bound(self.admit(url).host)
        token = _bound.set(bound)
        try:
            yield bound
        finally:
            _bound.reset(token)

    async def addresses(self, host: str, port: int) -> Found:
        """Return the allowed addresses of a host, as :func:`socket.getaddrinfo` does.

        :raises ForbiddenAddress: when any of them is refused
        :raises OSError: when there are none
        """
        try:
            address = address_of(host)
        except ValueError:
            found = await self.resolver.resolve(host, port)
            return [
                (each["family"], socket.SOCK_STREAM, each["proto"], "", (each["host"], each["port"])) for each in found
            ]
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET  # noqa: PLR2004 - IPv6
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (str(address), port))]

    def open_socket(self, information: Any) -> socket.socket:
        """Open a socket for an allowed address. Literal addresses are checked only here, because they are not resolved.

        :param information: an entry of :func:`socket.getaddrinfo`
        :raises ForbiddenAddress: with the reason
        """
        family, kind, protocol, _, where = information
        bound = _bound.get(Bound())
        _refuse(self._rules, str(where[0]), bound.host)
        bound.private = bound.private or not is_public(address_of(str(where[0])))
        return socket.socket(family, kind, protocol)


def _refuse(rules: Rules, address: str, host: str) -> None:
    read = address_of(address)
    objection = rules.objection_to(read, host or str(read))
    if objection is not None:
        raise ForbiddenAddress(objection.reason, objection.detail)


@dataclasses.dataclass(slots=True)
class _LookUp:
    answer: "asyncio.Future[Found]"
    waiting: int = 0


class CheckedResolver(AbstractResolver):
    """Resolves a name once for each connection, and refuses it when any of its addresses is not allowed."""

    def __init__(self, rules: Rules, look_up: LookUp) -> None:
        """Use threads of its own, so that names that never resolve do not occupy those of other look-ups."""
        self._rules = rules
        self._ask = look_up
        self._threads = ThreadPoolExecutor(RESOLVING_THREADS, thread_name_prefix="resolve")
        self._running: dict[tuple[str, int], _LookUp] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host.

        :raises ForbiddenAddress: when any of them is refused
        :raises OSError: when there are none
        """
        if _bound.get(Bound()).host not in {"", host}:
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
        """Resolve a name. Concurrent look-ups of one name share one thread and one answer."""
        look_up = self._running.get((host, family))
        if look_up is None or look_up.answer.done():
            call = functools.partial(
                self._ask, host, None, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
            )
            look_up = _LookUp(asyncio.get_running_loop().run_in_executor(self._threads, call))
            self._running[host, family] = look_up
        look_up.waiting += 1
        try:
            return await asyncio.shield(look_up.answer)
        finally:
            look_up.waiting -= 1
            if not look_up.waiting:
                look_up.answer.cancel()  # it need not start any more; no effect on a finished one
                if self._running.get((host, family)) is look_up:
                    del self._running[host, family]

    async def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
