"""Connecting to PostgreSQL: one reader of URLs with libpq's parameters, and one function that opens a session.

The pool and the listener both connect here, so that they agree on hosts, TLS, time-outs and keep-alive.
"""

import asyncio
import contextlib
import dataclasses
import errno
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import asyncpg

CONNECT_TIMEOUT: Final = 4.0
"""Seconds for connecting to a server, unless the URL has ``connect_timeout``."""
LOCK_TIMEOUT: Final = 1.5
"""Seconds that a transaction waits for a row that another transaction has locked."""
IDLE_IN_TRANSACTION_TIMEOUT: Final = 10
"""Seconds after which the server ends a transaction of a process that has stopped in the middle of it."""
RETRY_FULL: Final = 0.2
"""Seconds between attempts while the server has no connection left for this role."""

_BEGIN: Final = (
    f"; SET LOCAL lock_timeout = '{LOCK_TIMEOUT * 1000:.0f}ms'"
    f"; SET LOCAL idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_TIMEOUT}s'"
)
"""Goes with BEGIN in one round trip. Settings of a session would not survive a pooler like PgBouncer."""

_BY_DRIVER: Final = frozenset(
    [
        "passfile",
        "sslmode",
        "sslcert",
        "sslkey",
        "sslrootcert",
        "sslcrl",
        "sslpassword",
        "sslnegotiation",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "krbsrvname",
        "gsslib",
        "service",
    ]
)
"""Parameters that asyncpg reads from a URL."""
_SESSION: Final = frozenset({"application_name", "options"})
"""Parameters that the server gets when a session starts."""
_SECONDS: Final = {
    "connect_timeout": 1.0,
    "keepalives_idle": 1.0,
    "keepalives_interval": 1.0,
    "tcp_user_timeout": 0.001,
}
_COUNTS: Final = frozenset({"keepalives", "keepalives_count"})
_ADDRESS: Final = frozenset({"host", "hostaddr", "port", "user", "password", "dbname", "target_session_attrs"})
_WITHOUT_EFFECT: Final[Mapping[str, frozenset[str]]] = {
    "channel_binding": frozenset({"disable", "prefer", "require"}),
    "gssencmode": frozenset({"disable", "prefer"}),
    "sslcompression": frozenset({"0"}),
    "sslsni": frozenset({"1"}),
    "client_encoding": frozenset({"utf8", "utf-8", "auto"}),
    "load_balance_hosts": frozenset({"disable", "random"}),
    "fallback_application_name": frozenset(),
}
"""Parameters that change nothing here, and the values that they may have; an empty set allows any."""
_ATTRIBUTES: Final = frozenset({"any", "read-write", "primary"})
_MAX_PORT: Final = 65_535


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The hosts and options of a connection, from a database URL."""

    hosts: tuple[tuple[str, int], ...]
    user: str | None
    password: str | None = dataclasses.field(repr=False)
    database: str | None
    driver: Mapping[str, str]
    """Parameters for the driver."""
    session: Mapping[str, str]
    """Parameters for the server."""
    connect_timeout: float = CONNECT_TIMEOUT
    keepalives: bool = True
    keepalives_idle: float = 5
    keepalives_interval: float = 2
    keepalives_count: int = 3
    tcp_user_timeout: float = 8

    def dsn(self, host: str, port: int) -> str:
        """Return the URL of one of the hosts, for asyncpg."""
        login = "" if self.user is None else quote(self.user, safe="")
        if self.password is not None:
            login += f":{quote(self.password, safe='')}"
        place = f"[{host}]" if ":" in host and not host.startswith(("/", "@")) else host
        parameters = {**self.driver, "host": place, "port": str(port)}
        name = "" if self.database is None else quote(self.database, safe="")
        return f"postgresql://{login + '@' if login else ''}/{name}?{urlencode(parameters, quote_via=quote)}"


def parse(url: str) -> Target:
    """Parse a PostgreSQL URL as libpq does, with several hosts and any of its parameters.

    :raises ValueError: with a sentence that names the parameter and never the password
    """
    parts = urlsplit(url)
    given = {name: value for name, value in parse_qsl(parts.query, keep_blank_values=True) if value}
    _check(given)
    login, _, places = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    seconds = {name: float(given[name]) * factor for name, factor in _SECONDS.items() if name in given}
    if seconds.get("connect_timeout") == 0:  # libpq: wait without limit
        del seconds["connect_timeout"]
    counts = {name: int(given[name]) for name in _COUNTS if name in given}
    numbers: dict[str, Any] = {name: value for name, value in {**seconds, **counts}.items() if value}
    if counts.get("keepalives") == 0:
        numbers["keepalives"] = False
    return Target(
        hosts=_hosts(unquote(places), given),
        user=given.get("user", unquote(user)) or None,
        password=given.get("password", unquote(password)) or None,
        database=given.get("dbname", unquote(parts.path.removeprefix("/"))) or None,
        driver={name: value for name, value in given.items() if name in _BY_DRIVER},
        session={"application_name": "dovecote", **{name: given[name] for name in _SESSION if name in given}},
        **{name: bool(value) if name == "keepalives" else value for name, value in numbers.items()},
    )


_FILES = frozenset({"sslcert", "sslkey", "sslrootcert", "sslcrl"})
"""Parameters that name a file. The driver reports a missing one like a missing socket."""


def check_files(url: str) -> None:
    """Refuse a URL with a certificate or key that cannot be read.

    :raises ValueError: with the parameter's name
    """
    for name, path in parse_qsl(urlsplit(url).query):
        if name in _FILES:
            try:
                Path(path).expanduser().open("rb").close()
            except OSError as error:
                raise ValueError(f"{name}: the file cannot be read ({error.strerror})") from None


def _check(given: Mapping[str, str]) -> None:
    known = _BY_DRIVER | _SESSION | _COUNTS | _ADDRESS | _SECONDS.keys() | _WITHOUT_EFFECT.keys()
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"unknown parameter {name[:80]!r} in the database URL: use the parameters of libpq")
        if name in _SECONDS.keys() | _COUNTS and not value.isdecimal():
            raise ValueError(f"{name} in the database URL must be a whole number")
        allowed = _WITHOUT_EFFECT.get(name)
        if allowed and value.lower() not in allowed:
            raise ValueError(f"{name} in the database URL may only be {' or '.join(sorted(allowed))}")
    attributes = given.get("target_session_attrs", "any")
    if attributes not in _ATTRIBUTES:
        raise ValueError("target_session_attrs in the database URL may only be any, read-write or primary")


def _hosts(places: str, given: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    named = given.get("hostaddr") or given.get("host") or ""
    listed = (places or named or "localhost").split(",")
    ports = given.get("port", "").split(",")
    found = []
    for number, place in enumerate(listed):
        host, port = _split(place)
        fallback = ports[number] if len(ports) == len(listed) else ports[0]
        found.append((host or "localhost", _port(port or fallback or "5432")))
    return tuple(found)


def _split(place: str) -> tuple[str, str]:
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        return host, port.removeprefix(":")
    if place.startswith(("/", "@")):  # a Unix socket
        return place, ""
    host, _, port = place.rpartition(":") if place.count(":") == 1 else (place, "", "")
    return host, port


def _port(words: str) -> int:
    if not words.isdecimal() or not 0 < int(words) <= _MAX_PORT:
        raise ValueError("a port in the database URL must be a number between 1 and 65535")
    return int(words)


class Session(asyncpg.Connection):  # type: ignore[misc]
    """A connection whose transactions wait for locks a short time only, and end when their process stops."""

    async def execute(self, query: str, *arguments: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 - as asyncpg has it
        """Execute a statement; a BEGIN carries the settings of the transaction."""
        if query.startswith("BEGIN") and not arguments:
            query = query.rstrip("; ") + _BEGIN
        status: str = await super().execute(query, *arguments, timeout=timeout)
        return status


class NotWritable(OSError):
    """Every host that answered refuses writes."""


async def connect(target: Target, *, command_timeout: float | None, cached_statements: bool) -> Session:
    """Open a session on the host that accepts writes. All hosts are tried at once, so that a frozen one does not delay the others.

    :param command_timeout: seconds for each statement
    :param cached_statements: whether the driver may keep prepared statements; no, behind a pooler
    :raises OSError: when no host can be reached
    :raises asyncpg.PostgresError: when a host refuses the login
    """
    attempts = [
        asyncio.create_task(_connect_to(target, host, port, command_timeout, cached_statements=cached_statements))
        for host, port in target.hosts
    ]
    pending, errors = set(attempts), list[BaseException]()
    winner: asyncio.Task[Session] | None = None
    try:
        while pending and winner is None:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            winner = next((task for task in done if task.exception() is None), None)
            errors += [error for task in done if (error := task.exception()) is not None]
    finally:
        others = [task for task in attempts if task is not winner]
        for task in others:
            task.cancel()
        for result in await asyncio.gather(*others, return_exceptions=True):
            if isinstance(result, Session):
                result.terminate()
    if winner is not None:
        return winner.result()
    # The answer of a server is more useful than an unreachable host.
    raise next((error for error in errors if isinstance(error, asyncpg.PostgresError)), errors[0])


async def _connect_to(
    target: Target, host: str, port: int, command_timeout: float | None, *, cached_statements: bool
) -> Session:
    async with asyncio.timeout(target.connect_timeout):
        session = await _open(target, host, port, command_timeout, cached_statements=cached_statements)
        try:
            _set_keep_alive(session, target)
            if len(target.hosts) > 1:
                await _require_writable(session, host, port)
        except BaseException:
            session.terminate()
            raise
        return session


async def _require_writable(session: Session, host: str, port: int) -> None:
    async with session.transaction():
        if await session.fetchval("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'"):
            raise NotWritable(errno.EROFS, f"{host}:{port} is read-only")


async def _open(
    target: Target, host: str, port: int, command_timeout: float | None, *, cached_statements: bool
) -> Session:
    cache = {} if cached_statements else {"statement_cache_size": 0}
    while True:
        try:
            session: Session = await asyncpg.connect(
                target.dsn(host, port),
                connection_class=Session,
                timeout=target.connect_timeout,
                command_timeout=command_timeout,
                server_settings=dict(target.session),
                **cache,
            )
        except asyncpg.TooManyConnectionsError:
            # The limit of this role or server: another connection may end within the time-out.
            await asyncio.sleep(RETRY_FULL)
        else:
            return session


def _set_keep_alive(session: Session, target: Target) -> None:
    """Make the kernel detect a dead server within seconds instead of minutes."""
    found = session._transport.get_extra_info("socket")  # noqa: SLF001 - asyncpg has no other way to the socket
    if found is None or found.family == socket.AF_UNIX or not target.keepalives:
        return
    options = {
        "SO_KEEPALIVE": (socket.SOL_SOCKET, 1),
        "TCP_KEEPIDLE": (socket.IPPROTO_TCP, int(target.keepalives_idle)),
        "TCP_KEEPINTVL": (socket.IPPROTO_TCP, int(target.keepalives_interval)),
        "TCP_KEEPCNT": (socket.IPPROTO_TCP, target.keepalives_count),
        "TCP_USER_TIMEOUT": (socket.IPPROTO_TCP, int(target.tcp_user_timeout * 1000)),
    }
    for name, (level, value) in options.items():
        if (number := getattr(socket, name, None)) is not None:  # not every platform has each
            with contextlib.suppress(OSError):
                found.setsockopt(level, number, value)


async def is_pooled(target: Target, *, command_timeout: float | None) -> bool:
    """Return whether a pooler such as PgBouncer is before the server: it announces another process than the server's.

    Behind one, a session may change between two transactions, so that prepared statements have no names and LISTEN
    needs a URL of its own.
    """
    session = await connect(target, command_timeout=command_timeout, cached_statements=False)
    try:
        async with session.transaction():
            backend = await session.fetchval("SELECT pg_backend_pid()")
        return bool(backend != session.get_server_pid())
    finally:
        session.terminate()
