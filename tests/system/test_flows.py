"""A worker for each flow, as real processes: whole journeys run, and a flow that has no worker is named everywhere."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.cli.practice import SANDBOX_KEY
from service.cli.processes import ProcessGroup, Served
from service.domain.flows import FLOWS
from service.domain.webhook_secret import derive_secret
from service.flows.webhooks.watch import WORKER_SILENT
from service.sandbox import Receiver, Sandbox, running
from tests.support.fleet import client_of, dovecote, until, with_sandboxes
from tests.support.processes import run, started
from tests.support.waiting import LIMIT
from tests.support.world import INSTALLATION_SECRET

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("demo")]

PROMPTS = {"a dove": "succeeded", "[drop] a dove without a callback": "succeeded", "[fail] no dove": "failed"}


async def submitted(client: httpx.AsyncClient, prompt: str, hook: str) -> str:
    request = {"family": "runway", "operation": "text_to_video", "input": {"prompt": prompt}, "callback_url": hook}
    answer = await client.post("/v1/tasks", json=request)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def shown(client: httpx.AsyncClient, task: str) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get(f"/v1/tasks/{task}")).json()
    return found


async def test_flow_without_a_worker_is_named_and_all_others_go_on(postgresql_url: str, tmp_path: Path) -> None:
    receiver = Receiver(derive_secret(INSTALLATION_SECRET, "default", 1))
    async with running(Sandbox(seconds=1.0, key=SANDBOX_KEY)) as upstream, running(receiver) as hook:
        more = {**with_sandboxes(1.0, elkapi=upstream), "DOVECOTE_STORAGE__URL": f"file://{tmp_path}/objects"}
        web = dovecote(tmp_path, postgresql_url, "web", role="web", **more)
        workers: dict[str, Served] = {}
        for flow in FLOWS:
            workers[flow] = dovecote(tmp_path, postgresql_url, flow, role="worker", public=web.url, **more)
            workers[flow].arguments += ("--flows", flow)
        with ProcessGroup() as group:
            await started(group, *workers.values(), web)
            async with client_of(web) as client:
                tasks = {await submitted(client, prompt, f"{hook}/done"): end for prompt, end in PROMPTS.items()}

                async def ended() -> bool:
                    now = [await shown(client, task) for task in tasks]
                    kept = all(each["kept"] == "kept" for task in now for each in task["results"])
                    return kept and [task["state"] for task in now] == list(tasks.values())

                await until(ended)
                await until(lambda: has_received(receiver, 3))

                workers["webhooks"].kill()
                late = await submitted(client, "a late dove", f"{hook}/done")

                async def named() -> bool:
                    answer = await client.get("/readyz")
                    return answer.status_code == 503 and "no worker of the flow webhooks" in answer.text

                await until(named, limit=WORKER_SILENT + LIMIT)
                assert (await shown(client, late))["state"] == "succeeded"
                assert len(receiver.received) == 3
                _, told, _ = await run(tmp_path, postgresql_url, "doctor")
                assert "missing for webhooks: no process works on it" in told
                metrics = (await client.get("/metrics")).text
                silent = dict(re.findall(r'dovecote_flow_silent_seconds\{flow="(\w+)"\} ([\d.]+)', metrics))
                assert [flow for flow, seconds in silent.items() if float(seconds) > WORKER_SILENT] == ["webhooks"]

                workers["webhooks"].start()
                await until(lambda: has_received(receiver, 4))

                async def is_ready() -> bool:
                    return (await client.get("/readyz")).status_code == 200

                await until(is_ready)
    assert all(each.verified for each in receiver.received)


async def has_received(receiver: Receiver, count: int) -> bool:
    return len(receiver.received) == count
