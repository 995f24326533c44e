"""Automatic checks of which module may import, write and send what. A planted breach proves each rule."""

import ast
import functools
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BREACHES = {
    "service/domain/schedules.py": "import service.store.tables",
    "service/domain/explanation.py": "import os",
    "service/providers/runway/official.py": "import httpx",
    "service/providers/elk_task.py": "import service.providers.midjourney.record",
    "service/providers/newapi/errors.py": "import service.store.tasks",
    "service/store/tasks.py": "import service.flows.apply",
    "service/store/queue.py": "import aiohttp",
    "service/flows/apply.py": "import service.web.auth.bearer",
    "service/flows/upstreams/credit.py": "import service.flows.polling",
    "service/flows/feed.py": "import obstore",
    "service/web/auth/bearer.py": "import service.app",
    "service/web/docs.py": "import httpx",
    "service/sandbox/jobs.py": "import service.domain.task",
    "dovecote/values.py": "import service.domain.task",
    "service/sandbox/faults.py": "import dovecote",
}


def lint_imports(folder: Path) -> str:
    tool = Path(sys.executable).with_name("lint-imports")
    command = [tool, "--no-cache"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603
    return done.stdout + done.stderr


def test_layers_hold_and_planted_breaches_are_detected(tmp_path: Path) -> None:
    assert ", 0 broken" in lint_imports(ROOT)
    shutil.copytree(ROOT / "service", tmp_path / "service", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "clients/python/dovecote", tmp_path / "dovecote")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, breach in BREACHES.items():
        with (tmp_path / name).open("a") as file:
            file.write(f"\n{breach}\n")
    found = lint_imports(tmp_path)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert f"0 kept, {len(contracts)} broken" in found
    for name, breach in BREACHES.items():
        who = name.removesuffix(".py").replace("/", ".")
        for what in breach.replace("import ", "").splitlines():
            assert f"{who} -> {what}" in found or f"{who} is not allowed to import {what}" in found, (who, what, found)


# ── who may do what ────────────────────────────────────────────────────────────────────────────────────────────────

Act = Callable[[ast.AST], bool]


def calls(name: str) -> Act:
    """Match a call of a function of this name, directly or as an attribute."""

    def match(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and _name(node.func) == name

    return match


def calls_on_tasks(name: str) -> Act:
    """Match a statement on the table of tasks: ``update(tasks)`` or ``tasks.update()``."""

    def match(node: ast.AST) -> bool:
        if not isinstance(node, ast.Call) or _name(node.func) != name:
            return False
        method_of = node.func.value if isinstance(node.func, ast.Attribute) else None
        return any(each is not None and _name(each) == "tasks" for each in (*node.args, method_of))

    return match


def replaces(field: str) -> Act:
    """Match a copy of a value with another value of a field."""

    def match(node: ast.AST) -> bool:
        copies = calls("replace")(node) or calls("changed")(node)
        return copies and field in {each.arg for each in node.keywords}  # type: ignore[attr-defined]

    return match


def imports(*packages: str) -> Act:
    """Match an import of some packages, or from within them."""

    def match(node: ast.AST) -> bool:
        if isinstance(node, ast.ImportFrom):
            return (node.module or "").partition(".")[0] in packages
        return isinstance(node, ast.Import) and any(each.name.partition(".")[0] in packages for each in node.names)

    return match


def uses(of: str, *names: str) -> Act:
    """Match ``….of.name`` for some names."""

    def match(node: ast.AST) -> bool:
        return isinstance(node, ast.Attribute) and node.attr in names and _name(node.value) == of

    return match


def opens_connections(node: ast.AST) -> bool:
    """Match every expression that creates a client, connects, or resolves a name."""
    if isinstance(node, ast.ImportFrom):
        return node.module in _NETWORK or any(f"{node.module}.{each.name}" in _NETWORK for each in node.names)
    if isinstance(node, ast.Import):
        return any(each.name in _NETWORK for each in node.names)
    if not isinstance(node, ast.Call):
        return False
    of = _name(node.func.value) if isinstance(node.func, ast.Attribute) else ""
    return _name(node.func) in _OPENING or (of == "httpx" and _name(node.func) in _VERBS)


_NETWORK = {
    "socket",
    "urllib.request",
    "http.client",
    "ftplib",
    "smtplib",
    "requests",
    "urllib3",
    "httpcore",
    "websockets",
}
_OPENING = {"AsyncClient", "Client", "ClientSession", "TCPConnector", "AsyncHTTPTransport", "HTTPTransport"}
_OPENING |= {
    "SingleTransport",
    "PooledTransport",
    "open_connection",
    "start_connection",
    "create_connection",
    "sock_connect",
    "getaddrinfo",
}
_VERBS = {"get", "post", "put", "patch", "delete", "head", "options", "request", "stream"}


def writes(column: str) -> Act:
    """Match a statement that writes a column of existing rows: ``.values(column=…)``, ``set_={"column": …}``."""

    def match(node: ast.AST) -> bool:
        if not isinstance(node, ast.Call):
            return False
        named = {each.arg for each in node.keywords} if _name(node.func) == "values" else set()
        dictionaries = [each.value for each in node.keywords if each.arg == "set_" and isinstance(each.value, ast.Dict)]
        if _name(node.func) == "values":
            dictionaries += [each for each in node.args if isinstance(each, ast.Dict)]
        keys = (key for each in dictionaries for key in each.keys if isinstance(key, ast.Constant))
        return column in named | {key.value for key in keys}

    return match


def waits_for_nobody(node: ast.AST) -> bool:
    """Match a synchronous function with a connection as argument. It would block the event loop, or do nothing."""
    return isinstance(node, ast.FunctionDef) and any(
        _name(each.annotation) == "AsyncConnection" for each in node.args.args if each.annotation is not None
    )


def swallows(node: ast.AST) -> bool:
    """Match ``except …: pass``, which hides a failure. A failure that is ignored on purpose is written with ``suppress``."""
    return isinstance(node, ast.ExceptHandler) and all(
        isinstance(each, ast.Pass) or (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
        for each in node.body
    )


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


RULES: dict[str, tuple[Act, str, set[str]]] = {
    "advances a task": (calls("advance"), "", {"domain/decision.py"}),
    "decides a change": (calls("decide"), "", {"flows/apply.py"}),
    "writes changed tasks": (calls("settle_tasks"), "", {"flows/apply.py"}),
    # Retention and erasure remove content and ended tasks; they never change the state of a task.
    "updates rows of tasks": (
        calls_on_tasks("update"),
        "",
        {"store/queue.py", "store/retention.py", "store/erasures.py"},
    ),
    "inserts rows of tasks": (calls_on_tasks("insert"), "", {"store/tasks.py"}),
    "deletes rows of tasks": (calls_on_tasks("delete"), "", {"store/retention.py"}),
    "sets when a row is due": (
        replaces("due_at"),
        "",
        {
            "domain/decision.py",
            "domain/evidence.py",
            "domain/schedules.py",
            "flows/submission/duplicates.py",
            "flows/retention/erase.py",
        },
    ),
    "ends a task": (replaces("decided_by"), "", {"domain/transitions.py"}),
    "moves a row's due time": (writes("due_at"), "", {"store/queue.py", "store/handed.py", "store/asset_claims.py"}),
    "speaks HTTP": (
        imports("httpx", "aiohttp"),
        "",
        {
            "http/network_errors.py",
            "http/ssrf/guard.py",
            "http/client.py",
            "http/download.py",
            "http/form.py",
            "http/single.py",
            "http/target.py",
            "http/tls.py",
            "http/transport.py",
            "flows/assets/download.py",
            "flows/webhooks/dispatch.py",
            "flows/submission/media_sources.py",
            "flows/callbacks/public_keys.py",
        },
    ),
    "fetches files of providers": (uses("http", "files"), "", {"flows/assets/download.py"}),
    "sends to URLs from outside": (
        uses("http", "messages"),
        "",
        {"flows/webhooks/dispatch.py", "flows/submission/media_sources.py", "flows/callbacks/public_keys.py"},
    ),
    "sends to upstreams": (
        uses("http", "purchases", "questions"),
        "",
        {"flows/conversation.py", "flows/assets/download.py", "flows/metrics/ping.py"},
    ),
    "sends HTTP": (
        calls("send"),
        "flows/",
        {"flows/conversation.py", "flows/submission/media_sources.py", "flows/callbacks/public_keys.py"},
    ),
    "posts HTTP": (calls("post_briefly"), "flows/", {"flows/webhooks/dispatch.py", "flows/metrics/ping.py"}),
    "opens a transaction": (
        calls("writing"),
        "",
        # The watch of sums waits for all other writers, so that it must not share a transaction with them.
        {
            *("store/writer.py", "store/migrate.py", "app.py", "clock.py", "store/health.py", "web/health.py"),
            "flows/money/sums.py",
        },
    ),
    "looks at a clock": (calls("now"), "domain/", set()),
    "looks at a clock ": (calls("now"), "providers/", set()),
    "waits for nobody with a connection in hand": (waits_for_nobody, "store/", set()),
    "swallows a failure": (swallows, "", set()),
    "looks at a calendar": (calls("today"), "", set()),
    "takes chances": (calls("random"), "domain/", set()),
}
"""Act, where it matters, and the files that may."""


def doing(act: Act, folder: Path, within: str) -> set[str]:
    return {name for name, nodes in _nodes(folder) if name.startswith(within) and any(map(act, nodes))}


@functools.cache
def _nodes(folder: Path) -> list[tuple[str, list[ast.AST]]]:
    return [(name, list(ast.walk(tree))) for name, tree in _trees(folder)]


@functools.cache
def _all_trees(folder: Path) -> list[tuple[str, ast.Module]]:
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.py"))}
    return [(name, ast.parse(path.read_text())) for name, path in files.items()]


def _trees(folder: Path) -> list[tuple[str, ast.Module]]:
    return [(name, tree) for name, tree in _all_trees(folder) if not name.startswith(("sandbox/", "cli/"))]


@pytest.mark.parametrize("rule", RULES)
def test_act_is_done_in_allowed_files_only(rule: str) -> None:
    act, within, allowed = RULES[rule]
    assert doing(act, ROOT / "service", within) == allowed


CONNECTIONS = {
    "http/ssrf/guard.py": "looks up, and opens sockets, for URLs from outside",
    "http/transport.py": "opens the pooled connections of questions",
    "http/single.py": "opens a connection for every purchase and every message",
    "http/reasons.py": "recognises failures of name resolution, and opens nothing",
    "http/client.py": "makes the three clients of a process; the one for URLs from outside has the guard",
    "cli/api_client.py": "speaks to the server that its user names",
    "cli/doctor/public_url.py": "asks the public address of this installation whether it leads here",
    "cli/doctor/server.py": "asks the server of this installation whether it runs",
    "cli/demo/play.py": "speaks to what the demo has started",
    "cli/processes.py": "waits for what it has started",
    "cli/demo/trial.py": "waits until its own process serves",
    "cli/listen.py": "forwards messages to where its user names",
    "cli/trigger.py": "asks the sandbox of its own process, and opens nothing; sandbox/callbacks.py sends",
    "cli/record.py": "forwards requests of this installation to the upstream that its user names",
    "cli/health.py": "asks the server of this machine whether it is alive",
    "cli/listening.py": "listens",
    "cli/mcp_server/server.py": "listens, for agents by HTTP",
    "cli/serve.py": "serves on the sockets of listening.py",
    "store/postgresql.py": "sets the options of connections to PostgreSQL",
    "web/health.py": "names this machine; opens nothing",
    "sandbox/callbacks.py": "plays a provider: calls whom a practising Dovecote names",
    "sandbox/inputs.py": "plays a provider: fetches the files that an order names, where a practising Dovecote asks for it",
    "sandbox/connections.py": "breaks the connections that it accepted",
    "sandbox/server.py": "listens",
}
"""Every file of the product that can open a connection, and why it may; docs/decisions/0007 goes through them."""


def test_files_that_open_connections_are_listed() -> None:
    folder = ROOT / "service"
    found = {name for name, tree in _all_trees(folder) if any(map(opens_connections, ast.walk(tree)))}
    assert found == set(CONNECTIONS)


@pytest.mark.parametrize(
    "breach",
    [
        "import socket",
        "import urllib.request",
        "from urllib import request",
        "from urllib.request import urlopen",
        "from http.client import HTTPSConnection",
        "httpx.get(url)",
        "httpx.AsyncClient()",
        "await asyncio.open_connection(host, 80)",
        "aiohttp.ClientSession()",
        "await loop.getaddrinfo(host, 80)",
        "SingleTransport()",
    ],
)
def test_new_connection_is_detected(breach: str) -> None:
    tree = ast.parse(f"async def wrong():\n    {breach}\n")
    assert any(map(opens_connections, ast.walk(tree)))


@pytest.mark.parametrize(
    ("rule", "breach"),
    [
        ("advances a task", "lifecycle.advance(task, update)"),
        ("updates rows of tasks", "tasks.update().values(state='failed')"),
        ("updates rows of tasks", "update(tables.tasks).values(due_at=None)"),
        ("deletes rows of tasks", "delete(tasks)"),
        ("sets when a row is due", "dataclasses.replace(task, due_at=None)"),
        ("sets when a row is due", "task.changed(due_at=None)"),
        ("ends a task", "task.changed(decided_by='provider')"),
        ("sends HTTP", "await http.send(client, 'GET', url)"),
        ("posts HTTP", "await http.post_briefly(client, url)"),
        ("opens a transaction", "context.database.writing()"),
        ("moves a row's due time", "update(webhook_messages).where(old).values(state='pending', due_at=now)"),
        ("moves a row's due time", "update(callbacks).values({'due_at': now})"),
        ("moves a row's due time", "insert(webhook_messages).on_conflict_do_update(set_={'due_at': now})"),
        ("speaks HTTP", "import httpx"),
        ("speaks HTTP", "from aiohttp.client import ClientSession"),
        ("sends to URLs from outside", "await send(context.http.messages, 'POST', url)"),
        ("sends to upstreams", "client = http.purchases"),
        ("fetches files of providers", "client = context.http.files"),
        ("swallows a failure", "try: go()\n    except Exception: pass"),
        ("swallows a failure", "try: go()\n    except OSError: ..."),
        ("waits for nobody with a connection in hand", "def find(connection: AsyncConnection): ..."),
    ],
)
def test_breach_is_detected(rule: str, breach: str, tmp_path: Path) -> None:
    act, within, _ = RULES[rule]
    name = f"{within or 'flows/'}elsewhere.py"
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text(f"async def wrong():\n    {breach}\n")
    assert doing(act, tmp_path, within) == {name}


# ── tests ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def imported_test_modules(tree: ast.Module) -> set[str]:
    """Return the test modules that a module imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return {name for name in names if name.startswith("tests.") and name.rpartition(".")[2].startswith("test_")}


_MAY_IMPORT_TESTS = re.compile(r"\bfrom tests[\w.]* import (\([^)]*|[^\n]*)\btest_|\btests\.[\w.]*test_")
"""Found before a file is parsed: to parse all tests takes seconds."""


def test_no_module_imports_a_test_module() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    suspects = [path for path, text in texts.items() if _MAY_IMPORT_TESTS.search(text)]
    found = {path.name: imported_test_modules(ast.parse(texts[path])) for path in suspects}
    assert {name: modules for name, modules in found.items() if modules} == {}


@pytest.mark.parametrize(
    "breach",
    ["import tests.web.test_sse", "from tests.web import test_sse", "from tests.web.test_sse import feed"],
)
def test_import_of_a_test_module_is_detected(breach: str) -> None:
    assert _MAY_IMPORT_TESTS.search(breach)
    assert imported_test_modules(ast.parse(breach)) == {"tests.web.test_sse"}
