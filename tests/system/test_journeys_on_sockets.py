"""The short journeys of every dialect over real sockets: a Dovecote process, and the sandbox as all providers at once."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.cli.practice import SANDBOX_KEY
from service.cli.processes import LOOPBACK, ProcessGroup, Served, clean_environment, free_ports
from service.sandbox import Faults, Sandbox, running
from tests.support.dialects import DIALECTS, example_of
from tests.support.journeys import JOURNEYS, SHORT, expected_end
from tests.support.processes import client_of, started, until
from tests.support.world import INSTALLATION_SECRET

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.long]

SECONDS = 0.5
"""How long a job takes at the sandbox."""


def named(dialect: str) -> str:
    """Return the name of the upstream with only this dialect."""
    return dialect.replace("/", "_").replace("-", "_")


def server(folder: Path, database_url: str, sandbox: str) -> Served:
    """Return a server with an upstream for each dialect."""
    (port,) = free_ports(1)
    settings = {
        "DOVECOTE_DATABASE_URL": database_url,
        "DOVECOTE_HOST": LOOPBACK,
        "DOVECOTE_PORT": str(port),
        "DOVECOTE_PUBLIC_URL": f"http://{LOOPBACK}:{port}",
        "DOVECOTE_WEBHOOK_SECRET": INSTALLATION_SECRET,
    }
    for dialect in DIALECTS:
        prefix = f"DOVECOTE_UPSTREAMS__{named(dialect).upper()}__"
        settings |= {
            f"{prefix}BASE_URL": f"{sandbox}{Sandbox.base_paths()[dialect]}",
            f"{prefix}KEY": SANDBOX_KEY,
            f"{prefix}DIALECTS": dialect,
            f"{prefix}TYPICAL_SECONDS": f"{SECONDS * 2:g}",
        }
    return Served("dovecote", ("serve",), {**clean_environment(), **settings}, port, folder, "/readyz")


async def submit_all(client: httpx.AsyncClient) -> dict[str, str]:
    """Submit the example of every dialect; return the ids of the tasks by dialect."""
    ids = {}
    for name, dialect in DIALECTS.items():
        answer = await client.post("/v1/tasks", json={**example_of(dialect), "upstream": named(name)})
        assert answer.status_code == 202, (name, answer.text)
        ids[name] = answer.json()["id"]
    return ids


@pytest.mark.parametrize("journey", SHORT)
async def test_journey_of_every_dialect_ends_as_expected_on_real_sockets(
    sqlite_url: str, tmp_path: Path, journey: str
) -> None:
    sandbox = Sandbox(seconds=SECONDS, key=SANDBOX_KEY, faults=Faults.named(JOURNEYS[journey].faults))
    async with running(sandbox) as url:
        served = server(tmp_path, sqlite_url, url)
        with ProcessGroup() as group:
            await started(group, served)
            async with client_of(served) as client:
                ids = await submit_all(client)
                tasks: dict[str, Any] = {}

                async def ended() -> bool:
                    found = await asyncio.gather(*(client.get(f"/v1/tasks/{task_id}") for task_id in ids.values()))
                    tasks.update(zip(ids, (each.json() for each in found), strict=True))
                    return all(each["finished_at"] is not None for each in tasks.values())

                await until(ended)
    ends = {name: (task["state"], (task["failure"] or {}).get("code")) for name, task in tasks.items()}
    wanted = {name: expected_end(name, journey, dialect) for name, dialect in DIALECTS.items()}
    assert ends == {name: (str(state), failure) for name, (state, failure) in wanted.items()}
    assert sandbox.ledger.paid() == len(DIALECTS) * JOURNEYS[journey].paid
