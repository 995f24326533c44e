"""The only table of database errors: a sentence, the remedy, and whether the error may pass by itself."""

import dataclasses
import errno
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Final

UNAVAILABLE: Final = 69
"""Exit code of sysexits.h: a service is not available. It may be tried again."""
MISCONFIGURED: Final = 78
"""Exit code of sysexits.h: somebody has to change the configuration."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """The description of a database's fault, in words for people."""

    sentence: str
    advice: str
    exit_code: int = MISCONFIGURED

    def __str__(self) -> str:
        """Return the sentence with the advice."""
        return f"{self.sentence}: {self.advice}"


_BY_SQLSTATE: Final[Mapping[str, Fault]] = {
    "28P01": Fault("the database refuses the password", "check the user and the password in DOVECOTE_DATABASE_URL"),
    "28000": Fault(
        "the database refuses this user", "check the user in DOVECOTE_DATABASE_URL, TLS (sslmode) and pg_hba.conf"
    ),
    "3D000": Fault("the database does not exist", "create it (createdb), or check its name in DOVECOTE_DATABASE_URL"),
    "3F000": Fault("the schema does not exist", "create it, or check search_path of the role"),
    "42501": Fault(
        "the role lacks a privilege", "GRANT CREATE ON SCHEMA public, or make the role the owner of the database"
    ),
    "42P01": Fault("a table is missing", "run `dovecote migrate`"),
    "42703": Fault("a column is missing", "run `dovecote migrate`"),
    "42P07": Fault(
        "a table of another program has the name of one of ours", "give Dovecote a database or a schema of its own"
    ),
    "42P05": Fault("a pooler mixes prepared statements of several clients", "use its session mode, or report this"),
    "08P01": Fault(
        "a pooler has no connection to the database", "check the database and the pooler's log", UNAVAILABLE
    ),
    "25006": Fault("the database is read-only", "connect to the primary server", UNAVAILABLE),
    "53100": Fault("the database's disk is full", "free space on the database server", UNAVAILABLE),
    "53200": Fault("the database is out of memory", "check the database server", UNAVAILABLE),
    "53300": Fault(
        "the database has too many connections",
        "lower DOVECOTE_DATABASE_POOL_SIZE, or raise max_connections or the limit of the role",
        UNAVAILABLE,
    ),
    "55000": Fault(
        "the database takes no connections", "allow them (ALTER DATABASE … ALLOW_CONNECTIONS true)", UNAVAILABLE
    ),
    "55P03": Fault("a row is locked by another transaction", "end the transaction that holds the lock", UNAVAILABLE),
    "57P01": Fault("the database ended the connection", "wait until it is up again", UNAVAILABLE),
    "57P02": Fault("the database is recovering from a crash", "wait until it is up again", UNAVAILABLE),
    "57P03": Fault("the database is starting or stopping", "wait until it is up", UNAVAILABLE),
    "57P05": Fault("the database ended an idle session", "none: a new connection is opened", UNAVAILABLE),
    "25P03": Fault("the database ended a transaction that stood still", "check the load of this process", UNAVAILABLE),
}
_BY_CLASS: Final[Mapping[str, Fault]] = {
    "08": Fault("the connection to the database broke", "check the database server and the network", UNAVAILABLE),
    "28": _BY_SQLSTATE["28000"],
    "53": Fault("the database is out of a resource", "check the database server", UNAVAILABLE),
    "57": Fault("the database interrupted the statement", "check the database server", UNAVAILABLE),
    "58": Fault("the database server has a system error", "check its disk and its log", UNAVAILABLE),
    "XX": Fault("the database server has an internal error", "check its log", UNAVAILABLE),
}
_BY_POOLER: Final[Mapping[str, Fault]] = {
    "unsupported startup parameter": Fault(
        "a pooler refuses a parameter of the session", "remove `options` from DOVECOTE_DATABASE_URL"
    ),
    "statement pooling": Fault(
        "a pooler is in statement mode, which has no transactions", "use its transaction or session mode"
    ),
    "no such database": Fault(
        "the pooler does not know the database", "add it to the pooler, or check its name in DOVECOTE_DATABASE_URL"
    ),
    "no such user": Fault(
        "the pooler does not know the user", "add it to the pooler, or check the user in DOVECOTE_DATABASE_URL"
    ),
    "bouncer config error": Fault(
        "the pooler does not know the database or the user", "add them to the pooler, or check DOVECOTE_DATABASE_URL"
    ),
    "no more connections": Fault(
        "the pooler has too many connections",
        "raise its max_client_conn, or lower DOVECOTE_DATABASE_POOL_SIZE",
        UNAVAILABLE,
    ),
    "query_wait_timeout": Fault(
        "the pooler has no free connection to the database",
        "raise its pool_size, or its query_wait_timeout",
        UNAVAILABLE,
    ),
}
"""By words of PgBouncer's: it gives most of its errors the same SQLSTATE, and ends the connection with them."""
SQLITE_DISK_FULL: Final = Fault("the disk with the database is full", "free space on it", UNAVAILABLE)
_BY_SQLITE: Final[Mapping[int, Fault]] = {
    sqlite3.SQLITE_BUSY: Fault("the database file is locked by another program", "end that program", UNAVAILABLE),
    sqlite3.SQLITE_LOCKED: Fault("the database file is locked", "end the program that holds the lock", UNAVAILABLE),
    sqlite3.SQLITE_FULL: SQLITE_DISK_FULL,
    sqlite3.SQLITE_READONLY: Fault(
        "the database file cannot be written",
        "check its owner, its permissions and the mount (a volume of another user?)",
    ),
    sqlite3.SQLITE_CANTOPEN: Fault(
        "the database file cannot be opened", "check that its folder exists and that this user may write in it"
    ),
    sqlite3.SQLITE_NOTADB: Fault("the file is not a SQLite database", "check the path in DOVECOTE_DATABASE_URL"),
    sqlite3.SQLITE_CORRUPT: Fault("the database file is damaged", "restore a backup (`dovecote backup` makes one)"),
    sqlite3.SQLITE_IOERR: Fault("the disk with the database has an error", "check the disk", UNAVAILABLE),
    sqlite3.SQLITE_PERM: Fault("this user may not use the database file", "check its owner and its permissions"),
    sqlite3.SQLITE_AUTH: Fault("this user may not use the database file", "check its owner and its permissions"),
}
_BY_ERRNO: Final[Mapping[int, Fault]] = {
    errno.ECONNREFUSED: Fault(
        "nothing listens at the database's address", "start the database, or check host and port", UNAVAILABLE
    ),
    errno.ENOENT: Fault("the folder or socket of the database does not exist", "create it, or check the path"),
    errno.ENOTDIR: Fault("the folder of the database does not exist", "create it, or check the path"),
    errno.EISDIR: Fault("the path of the database is a folder", "name a file in DOVECOTE_DATABASE_URL"),
    errno.EACCES: Fault(
        "this user may not use the database file", "check the owner and permissions of file and folder"
    ),
    errno.EPERM: Fault("this user may not use the database file", "check the owner and permissions of file and folder"),
    errno.EROFS: Fault("the database is on a read-only disk", "mount it for writing, or choose another path"),
    errno.ENOSPC: Fault("the disk with the database is full", "free space on it", UNAVAILABLE),
    errno.EDQUOT: Fault("the disk quota of this user is used up", "free space", UNAVAILABLE),
    errno.EHOSTUNREACH: Fault("the host of the database cannot be reached", "check host and network", UNAVAILABLE),
    errno.ENETUNREACH: Fault("the network of the database cannot be reached", "check host and network", UNAVAILABLE),
    errno.ECONNRESET: Fault("the connection to the database broke", "check the database server", UNAVAILABLE),
    errno.EPIPE: Fault("the connection to the database broke", "check the database server", UNAVAILABLE),
    errno.EMFILE: Fault("this process has too many open files", "raise the limit (ulimit -n)", UNAVAILABLE),
    errno.ENFILE: Fault("this machine has too many open files", "raise fs.file-max", UNAVAILABLE),
}
TIMED_OUT: Final = Fault("the database does not answer", "check the database server and the network", UNAVAILABLE)
NO_NAME: Final = Fault("the name of the database's host is unknown", "check the host in DOVECOTE_DATABASE_URL")
TLS: Final = Fault("TLS with the database fails", "check sslmode and the certificates in DOVECOTE_DATABASE_URL")
UNKNOWN: Final = Fault("the database does not answer", "check the database server", UNAVAILABLE)


def explain(error: BaseException) -> Fault:
    """Return what an error of a database means, by its SQLSTATE, its SQLite code or its errno."""
    for each in _chain(error):
        if (fault := _known(each)) is not None:
            return fault
    for each in _chain(error):
        if isinstance(each, TimeoutError):
            return TIMED_OUT
    return dataclasses.replace(UNKNOWN, sentence=f"{UNKNOWN.sentence} ({type(error).__name__})")


def _known(error: BaseException) -> Fault | None:
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str):
        if state.startswith("08"):
            text = str(error)
            told = next((fault for words, fault in _BY_POOLER.items() if words in text), None)
            if told is not None:
                return told
        return _BY_SQLSTATE.get(state) or _BY_CLASS.get(state[:2])
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(code, int):
        return _BY_SQLITE.get(code & 0xFF)
    if type(error).__name__ in {"SSLError", "SSLCertVerificationError", "CertificateError", "ClientConfigurationError"}:
        return TLS
    if type(error).__name__ == "gaierror":
        return NO_NAME
    number = getattr(error, "errno", None)
    return _BY_ERRNO.get(number) if isinstance(number, int) else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, the driver's error below it, and the causes of each."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, BaseExceptionGroup):
            waiting.extend(each.exceptions)
        waiting.extend(
            below for below in (getattr(each, "orig", None), each.__cause__, each.__context__) if below is not None
        )
