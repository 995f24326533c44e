"""The recipes of the documentation: each request that they send is accepted, and each file is what its reader takes."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from service.domain.task import ENDED
from tests.support.contract import DOCUMENT
from tests.support.doors import KEY, doors_on_sockets
from tests.support.node import CLIENT, NODE, run
from tests.support.world import JOB_SECONDS, World

RECIPES = Path(__file__).parents[1] / "docs" / "recipes"
DIFY: dict[str, Any] = json.loads((RECIPES / "dify-openapi.json").read_text(encoding="utf-8"))
N8N: dict[str, Any] = json.loads((RECIPES / "n8n-video.json").read_text(encoding="utf-8"))
HOST = "https://dovecote.example.com"


def test_every_recipe_is_listed_and_in_the_navigation() -> None:
    listed = (RECIPES / "README.md").read_text(encoding="utf-8")
    navigation = (RECIPES.parents[1] / "mkdocs.yml").read_text(encoding="utf-8")
    for path in RECIPES.glob("*.md"):
        assert path.name == "README.md" or f"({path.name})" in listed
        assert f"recipes/{path.name}" in navigation


# Dify -------------------------------------------------------------------------------------------------------------

TOOLS = [(path, method, each) for path, methods in DIFY["paths"].items() for method, each in methods.items()]


def ask(tool: str, given: dict[str, Any]) -> httpx.Request:
    """Return the request that Dify sends: one level of fields, objects as text, empty text where a header has no value."""
    [(path, method, operation)] = [each for each in TOOLS if each[2]["operationId"] == tool]
    headers, query, body = {}, {}, None
    for each in operation["parameters"]:
        value = given.get(each["name"], each["schema"].get("default", ""))
        assert value != "" or not each["required"], f"{each['name']} is required"
        if each["in"] == "path":
            path = path.replace(f"{{{each['name']}}}", value)
        elif each["in"] == "query" and value != "":
            query[each["name"]] = str(value)
        elif each["in"] == "header":
            headers[each["name"]] = str(value)
    if "requestBody" in operation:
        fields = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
        body = {
            name: json.loads(given[name]) if field["type"] == "object" else given[name]
            for name, field in fields.items()
            if name in given
        }
    return httpx.Request(method.upper(), f"http://localhost{path}", params=query, headers=headers, json=body)


def test_dify_document_has_only_what_dify_reads() -> None:
    assert "$ref" not in json.dumps(DIFY)
    assert DIFY["servers"] == [{"url": HOST}]
    for path, _, operation in TOOLS:
        assert re.fullmatch(r"\w{1,64}", operation["operationId"])
        assert operation["description"]
        assert {each["name"] for each in operation["parameters"] if each["in"] == "path"} == set(
            re.findall(r"\{(\w+)\}", path)
        )
        assert all("type" in each["schema"] for each in operation["parameters"])
        assert all(each["required"] for each in operation["parameters"] if each["in"] == "header"), (
            "else it is sent empty"
        )


@pytest.mark.parametrize(("path", "method", "operation"), TOOLS, ids=lambda each: str(each)[:30])
def test_dify_operation_is_one_of_the_api(path: str, method: str, operation: dict[str, Any]) -> None:
    real = DOCUMENT["paths"][path][method]
    assert operation["operationId"] == real["operationId"]
    assert {each["name"] for each in operation["parameters"]} <= {each["name"] for each in real["parameters"]}
    assert set(operation["responses"]) <= set(real["responses"])
    if "requestBody" in operation:
        fields = operation["requestBody"]["content"]["application/json"]["schema"]
        known = DOCUMENT["components"]["schemas"]["TaskRequest"]
        assert set(fields["properties"]) <= set(known["properties"])
        assert set(known["required"]) <= set(fields["required"])


async def test_dify_tools_submit_repeat_follow_and_cancel_a_task(world: World, api: httpx.AsyncClient) -> None:
    given = {
        "Idempotency-Key": str(uuid4()),
        "family": "runway",
        "operation": "text_to_video",
        "input": '{"prompt": "a dove", "duration": 5}',
    }
    first, again = [await api.send(ask("submitTask", given)) for _ in range(2)]
    assert (first.status_code, again.json()["id"]) == (202, first.json()["id"])
    await world.until(JOB_SECONDS * 2)
    ended = await api.send(ask("getTask", {"id": first.json()["id"]}))
    assert ended.json()["state"] == "succeeded"
    other = await api.send(ask("submitTask", {**given, "Idempotency-Key": str(uuid4())}))
    cancelled = await api.send(ask("cancelTask", {"id": other.json()["id"]}))
    assert cancelled.is_success, cancelled.text


# n8n --------------------------------------------------------------------------------------------------------------

NODES = {node["name"]: node for node in N8N["nodes"]}


def evaluated(expression: str, **values: Any) -> str:
    """Return what n8n makes of a field: text that begins with ``=`` is a template of JavaScript."""
    if not expression.startswith("="):
        return expression
    if NODE is None:
        pytest.skip("there is no Node here")
    parts = re.split(r"\{\{(.*?)\}\}", expression[1:])
    template = " + ".join(part if index % 2 else json.dumps(part) for index, part in enumerate(parts))
    names = ", ".join(values)
    script = f"const [{names}] = JSON.parse(process.argv[1]); console.log({template})".replace("$('", "$node('")
    script = f"const $node = name => ({{item: {{json: $json}}}}); {script}"
    done = subprocess.run([NODE, "-e", script, json.dumps(list(values.values()))], capture_output=True, check=True)  # noqa: S603
    return done.stdout.decode().removesuffix("\n")


def test_n8n_nodes_are_all_connected() -> None:
    reached = {each["node"] for node in N8N["connections"].values() for output in node["main"] for each in output}
    assert reached | {"Start"} == set(NODES)
    assert set(N8N["connections"]) <= set(NODES)
    assert len({node["id"] for node in N8N["nodes"]}) == len(NODES)


async def test_n8n_requests_submit_a_task_once_and_read_its_results(world: World, api: httpx.AsyncClient) -> None:
    submit, get = NODES["Submit the task"]["parameters"], NODES["Get the task"]["parameters"]
    run_of_n8n = {
        "$execution": {"id": "17", "resumeUrl": "https://n8n.example.com/webhook-waiting/17"},
        "$workflow": {"id": "w"},
    }
    headers = {
        each["name"]: evaluated(each["value"], **run_of_n8n) for each in submit["headerParameters"]["parameters"]
    }
    body = json.loads(evaluated(submit["jsonBody"], **run_of_n8n))
    path = submit["url"].removeprefix(HOST)
    answers = [await api.post(path, json=body, headers=headers) for _ in range(2)]
    assert {answer.status_code for answer in answers} == {202}
    [task] = {answer.json()["id"] for answer in answers}
    await world.until(JOB_SECONDS * 2)
    found = await api.get(evaluated(get["url"], **{"$json": {"id": task}}).removeprefix(HOST))
    condition = NODES["Succeeded?"]["parameters"]["conditions"]["conditions"][0]
    assert evaluated(condition["leftValue"], **{"$json": found.json()}) == condition["rightValue"]
    results = json.loads(evaluated(NODES["Results"]["parameters"]["jsonOutput"], **{"$json": found.json()}))
    assert results == {"id": task, "urls": [each["url"] for each in found.json()["results"]]}
    assert condition["rightValue"] in ENDED


# TypeScript -------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.skipif(
    NODE is None or not (CLIENT / "dist").exists(), reason="no Node, or no client: run `make typescript`"
)
async def test_typescript_program_receives_the_webhook_of_its_task(sqlite_url: str, tmp_path: Path) -> None:
    [program] = re.findall(
        r"^```js\n(.*?)^```$", (RECIPES / "typescript.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "dovecote-client").symlink_to(CLIENT)
    (tmp_path / "program.mjs").write_text(program, encoding="utf-8")
    async with doors_on_sockets(sqlite_url) as stand:
        assert NODE is not None
        program_path = str(tmp_path / "program.mjs")
        code, said = await run(NODE, program_path, DOVECOTE_URL=stand.url, DOVECOTE_API_KEY=KEY, PORT="0")
    assert code == 0, said
    assert re.search(r"^succeeded \[\s*'http", said, re.MULTILINE), said
