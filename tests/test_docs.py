"""The documentation agrees with the code: generated tables are current, settings are complete, examples run."""

import asyncio
import dataclasses
import datetime as dt
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args
from uuid import UUID

import pytest

from service.cli import COMMANDS
from service.cli.lifecycle import drawing
from service.cli.reference import SECTIONS, main, rewritten
from service.domain import destination_slots
from service.domain.api_key import Scope
from service.domain.decision import Decision
from service.domain.errors import OUTCOMES
from service.domain.schedules import (
    EXPECTING,
    FAILING_LONG,
    MESSAGE_SCHEDULE,
    POLLING,
    RECEIVER_MAY_ASK,
    UNWATCHED,
    PollPlan,
)
from service.domain.task import OPEN, State, Task, Update
from service.domain.transitions import MOVES
from service.domain.webhook_events import TEST, TYPES, callback_url_wants, endpoint_wants
from service.flows.callbacks import process, receive
from service.flows.render import LEFT_OUT, MAX_BRIEF, show_task
from service.flows.webhooks import dispatch, endpoints, replay
from service.flows.webhooks.signing import signed_headers
from service.providers import capabilities
from service.providers.dialect import Dialect, Facts
from service.providers.signatures import SIGNATURE_HEADERS
from service.providers.wire import Callback, Reply
from service.sandbox import Receiver, running
from service.settings import model as settings_model
from service.settings.load import OTHER_VARIABLES, load
from service.settings.model import Settings, UpstreamSettings
from service.web import request_body, server_protocol
from service.web.api import ENDPOINTS
from service.web.auth import key_cache, rate_limit
from service.web.callbacks import MAX_BODY
from tests.support.world import World

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
SECRET = "whsec_c2VjcmV0LW9mLXRoZS10ZXN0cy1zZWNyZXQ="


def page(name):
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def example(name, language, number=0):
    """Return a page's code block of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page(name), re.DOTALL | re.MULTILINE)[number]


def rows(name):
    """Return a page's table rows, by their first cell."""
    lines = [line for line in page(name).splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {cell[0].strip("`"): cell for cell in cells}


# Tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_generated_sections_are_current(path):
    text = path.read_text(encoding="utf-8")
    assert rewritten(text) == text, "stale: run .venv/bin/python -m service.cli.reference docs/*.md"


def test_every_generated_section_is_used():
    made = re.findall("<!-- made: (.*) -->", "".join(path.read_text(encoding="utf-8") for path in PAGES))
    assert sorted(made) == sorted(SECTIONS)


def test_drawing_of_the_lifecycle_is_current():
    drawn = (ROOT / "docs" / "lifecycle.svg").read_text(encoding="utf-8")
    assert drawing() == drawn, "stale: run .venv/bin/python -m service.cli.lifecycle > docs/lifecycle.svg"


def test_drawing_shows_every_move_between_open_states():
    moves = [(state, other) for state in OPEN for other in MOVES[state] & OPEN]
    assert drawing().count(" C") == len(moves)
    assert all(f">{state}</text>" in drawing() for state in State)


@pytest.mark.parametrize("state", State)
def test_state_is_explained(state):
    assert rows("concepts")[state][1]


def test_every_page_is_in_the_navigation():
    named = set(re.findall(r"^ +- ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert {path.name for path in PAGES} <= named


def test_page_is_rewritten_in_place(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- made: failures -->stale<!-- end -->\nafter\n", encoding="utf-8")
    main([str(path)])
    assert path.read_text(encoding="utf-8") == rewritten("before\n<!-- made: failures -->\n<!-- end -->\nafter\n")
    assert "| `ConnectError` |" in path.read_text(encoding="utf-8")


# Settings --------------------------------------------------------------------------------------------------------


def default_of(field):
    """Return a default in the form of the page; None where the page describes it in words."""
    if field.is_required() or field.default_factory is not None or field.default in (None, "", ()):
        return None
    return json.dumps(field.default) if isinstance(field.default, bool) else str(field.default)


@pytest.mark.parametrize(
    ("name", "field", "variable"),
    [
        *((name, field, f"DOVECOTE_{name.upper()}") for name, field in Settings.model_fields.items()),
        *(
            (name, field, f"DOVECOTE_UPSTREAMS__ELKAPI__{name.upper()}")
            for name, field in UpstreamSettings.model_fields.items()
        ),
        *(
            (f"{section}.{name}", field, f"DOVECOTE_{section.upper()}__{name.upper()}")
            for section, model in settings_model.SECTIONS.items()
            for name, field in model.model_fields.items()
        ),
    ],
)
def test_setting_is_documented(name, field, variable):
    _, environment, default, meaning = rows("configuration")[name]
    elsewhere = {
        "upstreams": "see below",
        **dict.fromkeys(settings_model.SECTIONS, "see below"),
        "routes": f"`{variable}__RUNWAY`, …",
    }
    elsewhere["on_uncertain_by_client"] = f"`{variable}__SHOP`, …"
    assert environment == elsewhere.get(name, f"`{variable}`")
    assert meaning
    stated = default_of(field)
    assert default == f"`{stated}`" if stated is not None else "`" not in default


def test_documented_settings_exist():
    variables = re.findall(r"DOVECOTE_\w+", page("configuration"))
    known = {f"DOVECOTE_{name.upper()}" for name in Settings.model_fields} | OTHER_VARIABLES
    assert {name.partition("__")[0] for name in variables} <= known
    assert known <= {*(name.partition("__")[0] for name in variables), "DOVECOTE_UPSTREAMS"}


def test_example_settings_file_loads(tmp_path):
    path = tmp_path / "dovecote.toml"
    path.write_text(example("configuration", "toml"), encoding="utf-8")
    settings = load({}, path)
    assert [name for name in settings.upstreams if settings.upstreams[name].dialects] == ["elkapi", "another-gateway"]


# Access and security ---------------------------------------------------------------------------------------------


def test_scopes_and_limits_match_the_page():
    assert {f"{scope}" for scope in Scope} <= rows("access").keys()
    text = page("access")
    for limit in (
        f"| {server_protocol.HEAD_TIMEOUT:.0f} s | a request's head",
        f"| {server_protocol.MAX_OVERHEAD // 1024} kB | a head",
        f"| {request_body.MAX_PAUSE:.0f} s | the time between two parts of a body; {request_body.MAX_DURATION:.0f} s for the",
        f"| {Settings().max_body // 2**20} MiB | a body",
        f"| {server_protocol.WRITE_TIMEOUT:.0f} s | the time for which a client does not read its response",
    ):
        assert limit in text
    assert dt.timedelta(seconds=5) == key_cache.LIFETIME
    assert text.count("five seconds") == 2
    assert f"w={rate_limit.WINDOW}" in text


def test_every_command_is_documented():
    pages = "".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *PAGES])
    assert [name for name in COMMANDS if f"dovecote {name}" not in pages] == []


def test_map_names_existing_modules():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    drawn = text[text.index("```\nservice/") :].split("```")[1]
    modules = {path.name for path in (ROOT / "service").rglob("*.py")}
    named = set(re.findall(r"\b(\w+\.py)\b", drawn))
    assert len(named) > 100
    assert named <= modules


OF_OTHER_PROGRAMS = frozenset(
    [
        "api_base",
        "array_change_key_case",
        "client_max_body_size",
        "commit_delay",
        "file_get_contents",
        "log_parameter_max_length_on_error",
        "pg_restore",
        "proxy_buffering",
        "proxy_read_timeout",
        "proxy_request_buffering",
        "ssrf_proxy",
        "synchronous_mode_strict",
        "workflow_run_id",
    ]
)


def test_name_of_a_page_is_a_name_of_the_code():
    known = set()
    for folder in ("service", "clients", "bench", "deploy"):
        for path in (ROOT / folder).rglob("*"):
            if (
                path.suffix in {".py", ".ts", ".yaml", ".yml", ".toml", ".json", ".html"}
                and "node_modules" not in path.parts
            ):
                known |= set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    known |= OF_OTHER_PROGRAMS | {path.stem for path in (ROOT / "tests").rglob("*.py")}
    unknown = {}
    for path in [*PAGES, *(ROOT / "docs" / "recipes").glob("*.md"), ROOT / "README.md", ROOT / "SECURITY.md"]:
        if path.name == "comparison.md":  # about other programs
            continue
        text = re.sub(
            r"^```.*?^```|<!-- made: .*?<!-- end -->",
            "",
            path.read_text(encoding="utf-8"),
            flags=re.DOTALL | re.MULTILINE,
        )
        spans = " ".join(re.findall(r"`([^`\n]+)`", text))
        found = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", spans)) - known
        unknown |= {path.name: found} if found else {}
    assert unknown == {}


def test_threat_model_names_existing_tests():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 8
    assert named <= {path.stem for path in (ROOT / "tests").rglob("test_*.py")}


# Callbacks and errors --------------------------------------------------------------------------------------------


def test_callback_decisions_are_documented():
    of_inbox = set(re.findall(r'decision="(\w+)"|"(parked)"', Path(process.__file__).read_text(encoding="utf-8")))
    assert {*get_args(Decision), *(name for pair in of_inbox for name in pair if name)} <= rows("callbacks").keys()


def test_stored_callback_headers_are_documented():
    kept = " ".join(f"`{name}`" for name in (*receive.KEPT_HEADERS, *(f"{name}*" for name in SIGNATURE_HEADERS)))
    assert set(kept.split()) <= set(re.findall(r"`[\w*-]+`", page("callbacks")))
    assert MAX_BODY == 1024 * 1024
    assert "over 1 MiB" in page("callbacks")


@pytest.mark.parametrize("mode", get_args(UpstreamSettings.model_fields["callbacks"].annotation))
def test_callback_trust_levels_are_documented(mode):
    assert re.search(rf"^\| `{mode}`.* \|", page("callbacks"), re.MULTILINE)
    example_of_it = tomllib.loads(example("callbacks", "toml"))["upstreams"]["elkapi"]
    assert UpstreamSettings(key="upstream-key", **example_of_it).callbacks == "confirm"


def test_poll_plans_match_the_page():
    assert PollPlan(first=0.5, growth=0.08, shortest=2, longest=60) == POLLING
    assert PollPlan(first=1, growth=0.15, shortest=5, longest=300) == EXPECTING
    assert "8 % of the task's age, 2 to 60 s apart" in " ".join(page("callbacks").split())
    assert "every 15 % of the task's age, 5 to 300 s apart" in page("callbacks")


@pytest.mark.parametrize("outcome", [*OUTCOMES, "unreadable"])
def test_error_classes_are_documented(outcome):
    assert len(rows("upstream-errors")[outcome]) == 4


def test_dialect_members_are_in_the_glossary():
    glossary = (ROOT / "service" / "providers" / "README.md").read_text(encoding="utf-8").partition("## Glossary")[2]
    first_cells = re.findall(r"^\| (`.*?) \|", glossary, re.MULTILINE)
    first_cells += re.findall(
        r"^\| `(?:Can|Reads|Sends|Signs|Stores|Streams|Takes)\w*` \| (`.*?) \|", glossary, re.MULTILINE
    )
    explained = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    methods = {name for name in vars(Dialect) if not name.startswith("_")}
    named = {name for name, each in vars(capabilities).items() if each.__class__ is type(capabilities.CanCancel)} - {
        "Protocol"
    }
    able = {method for each in named for method in vars(getattr(capabilities, each)) if not method.startswith("_")}
    facts = {field.name for field in dataclasses.fields(Facts)}
    assert explained == methods | named | able | facts


def test_example_provider_runs_and_keeps_its_callback_url():
    page = (ROOT / "service" / "providers" / "README.md").read_text(encoding="utf-8")
    module = {}
    exec("\n".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)), module)  # noqa: S102
    acme = module["Acme"]()
    given = module["FAMILY"].operations["text_to_video"].input["examples"][0]
    times = {"created_at": NOW, "updated_at": NOW, "deadline_at": NOW}
    task = Task(id=UUID(int=1), client="c", family="acme", operation="text_to_video", input=given, **times)
    assert acme.create(task, "https://hook").json == {**given, "callback": "https://hook"}
    stolen = acme.validate(dataclasses.replace(task, options={"callback": "https://evil"}))
    assert [mistake.path for mistake in stolen] == ["options.callback"]
    done = b'{"id": "job-1", "status": "Completed", "outputs": ["https://acme.example/cat.mp4"]}'
    assert acme.read_status(Reply(200, {}, done)) == acme.read_callback(Callback({}, done))[0]
    assert acme.read_created(Reply(200, {}, done)).state == "succeeded"
    assert acme.read_status(Reply(200, {}, b'{"id": "job-1", "status": "Odd"}')) == Update(
        external_id="job-1", unknown_word="odd"
    )


# Webhooks --------------------------------------------------------------------------------------------------------


def test_example_message_has_the_fields_of_a_task():
    message, task = json.loads(example("webhooks", "json")), {}
    times = {"created_at": NOW, "updated_at": NOW, "deadline_at": NOW}
    task = Task(id=UUID(int=1), client="c", family="runway", operation="text_to_video", input={}, **times)
    assert list(message["data"]) == list(show_task(task, now=NOW))
    assert message["type"] == f"task.{message['data']['state']}"
    assert message["sequence"] == message["data"]["sequence"]


def test_message_types_are_documented():
    for kind in (*TYPES, TEST):
        _, _, who = rows("webhooks")[kind]
        assert ("endpoints" in who) == endpoint_wants((), kind) or kind == TEST
        assert ("`callback_url`" in who) == callback_url_wants((), kind)


def test_fields_of_a_truncated_task_are_documented():
    text = " ".join(page("webhooks").split())
    *names, last = (f"`{name}`" for name in LEFT_OUT)
    assert f"in this order: {', '.join(names)} and {last}" in text
    assert f"more than {MAX_BRIEF // 1000} kB" in text


def test_numbers_of_the_webhook_page_match_the_code():
    said = " ".join(page("webhooks").split())
    assert f"At most {destination_slots.PER_DESTINATION} messages are under way to one receiver" in said
    assert f"{destination_slots.TROUBLED} while it does not answer in time" in said
    assert f"only fails for {FAILING_LONG / 3600:g} hours" in said
    assert f"a pause of {UNWATCHED / 3600:g} hours" in said
    assert f"up to {endpoints.MAX_ENDPOINTS} endpoints" in said
    assert f"For {endpoints.OVERLAP / 3600:g} hours they also have a signature by the old secret" in said
    assert f"up to {replay.MAX_REPLAYED:,} at a time" in said
    assert f"the first {dispatch.MAX_ANSWER_KEPT // 1024} kB of the answer" in said
    assert RECEIVER_MAY_ASK == 3600
    assert "up to an hour" in said


async def test_example_endpoint_can_be_registered(sqlite_url):
    request = json.loads(re.search(r"-d '(.*?)'", example("webhooks", "sh", 4), re.DOTALL)[1])
    async with World.opened(sqlite_url) as world:
        answer = await world.client.post("/v1/endpoints", json=request)
    assert (answer.status_code, answer.json()["events"]) == (201, request["events"])
    assert all(
        f"`{each.path}`" in page("webhooks") or f"{each.method} {each.path}" in page("webhooks")
        for each in ENDPOINTS
        if each.tag in {"Endpoints", "Messages"} and each.path != "/v1/endpoints"
    )


async def test_example_request_is_accepted(sqlite_url):
    request = json.loads(re.search(r"-d '(.*?)'", example("webhooks", "sh"), re.DOTALL)[1])
    async with World.opened(sqlite_url) as world:
        answer = await world.client.post("/v1/tasks", json=request)
    assert (answer.status_code, answer.json()["callback_url"]) == (202, "https://example.com/done")


def seconds(span):
    number, unit = span.split()
    return float(number) * {"s": 1, "min": 60, "h": 3600}[unit]


def test_documented_schedule_matches_the_code():
    waits = re.search(r"^\| after \|(.*)\|$", page("webhooks"), re.MULTILINE)[1].split("|")
    assert tuple(seconds(wait.strip()) for wait in waits) == MESSAGE_SCHEDULE
    assert f"{dispatch.ATTEMPT_TIMEOUT:g} seconds" in page("webhooks")


BODY = '{"type":"task.succeeded","data":{"prompt":"Täubchen"}}'


def signed(*, age=0.0, secret=SECRET):
    at = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=age)
    return {"user-agent": "Dovecote", **signed_headers(secret, "01a1fdfb-7d3c", at, BODY)}


FORGERIES = {
    "another body": (signed(), BODY.replace("succeeded", "failed")),
    "another secret": (signed(secret="whsec_" + "QUFB" * 10), BODY),
    "too old": (signed(age=600), BODY),
    "no signature": ({"content-type": "application/json"}, BODY),
    "half a signature": (signed() | {"webhook-signature": "v1,AAAA"}, BODY),
}


def run(command, **more):
    environment = {"PATH": "/usr/bin:/bin", "DOVECOTE_WEBHOOK_SECRET": SECRET, **more.pop("environment", {})}
    ran = subprocess.run(  # noqa: S603 - the page's own code
        command, capture_output=True, text=True, env=environment, timeout=60, check=False, **more
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def python_reads(tmp_path, headers, body):
    asked = "import json, sys\nheaders, body = json.load(sys.stdin)\n"
    answered = "try:\n    print(json.dumps(read(body.encode(), headers)))\nexcept Exception as error:\n    print(type(error).__name__)\n"
    program = asked + example("webhooks", "python") + answered
    said = run([sys.executable, "-c", program], input=json.dumps([headers, body]))
    return None if said == "WebhookVerificationError" else json.loads(said)


def node_reads(tmp_path, headers, body):
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node here")
    (tmp_path / "verify.mjs").write_text(example("webhooks", "js"), encoding="utf-8")
    (tmp_path / "ask.mjs").write_text(
        'import { readFileSync } from "node:fs";\nimport { read } from "./verify.mjs";\n'
        "const [headers, body] = JSON.parse(readFileSync(0));\nconsole.log(JSON.stringify(read(Buffer.from(body), headers)));\n",
        encoding="utf-8",
    )
    return json.loads(run([node, tmp_path / "ask.mjs"], input=json.dumps([headers, body])))


GO_READS = """package webhook

import ("encoding/json"; "net/http"; "os"; "testing")

func TestRead(t *testing.T) {
	var given struct{ Headers map[string]string; Body string }
	text, _ := os.ReadFile("given.json")
	if err := json.Unmarshal(text, &given); err != nil { t.Fatal(err) }
	header := http.Header{}
	for name, value := range given.Headers { header.Set(name, value) }
	err := Verify(os.Getenv("DOVECOTE_WEBHOOK_SECRET"), header, []byte(given.Body))
	os.WriteFile("said", []byte(map[bool]string{true: "ours", false: "forged"}[err == nil]), 0o600)
}
"""


def go_reads(tmp_path, headers, body):
    go = shutil.which("go")
    if go is None:
        pytest.skip("there is no go here")
    for name, text in (
        ("go.mod", "module webhook\n\ngo 1.20\n"),
        ("webhook.go", example("webhooks", "go")),
        ("webhook_test.go", GO_READS),
        ("given.json", json.dumps({"headers": headers, "body": body})),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
    run([go, "test", "."], cwd=tmp_path, environment={"HOME": str(tmp_path), "GOFLAGS": "-mod=mod"})
    return json.loads(body) if (tmp_path / "said").read_text() == "ours" else None


def php_reads(tmp_path, headers, body):
    php = shutil.which("php")
    if php is None:
        pytest.skip("there is no php here")
    asked = "[$headers, $body] = json_decode(stream_get_contents(STDIN), true);\necho json_encode(read_message($body, $headers));\n"
    (tmp_path / "read.php").write_text(example("webhooks", "php") + asked, encoding="utf-8")
    return json.loads(run([php, tmp_path / "read.php"], input=json.dumps([headers, body])))


READERS = pytest.mark.parametrize(
    "read", [python_reads, node_reads, go_reads, php_reads], ids=["python", "node", "go", "php"]
)


@READERS
def test_example_code_verifies_a_message(tmp_path, read):
    assert read(tmp_path, signed(), BODY) == json.loads(BODY)
    rotated = signed() | {"webhook-signature": f"v1,AAAA {signed()['webhook-signature']}"}
    assert read(tmp_path, rotated, BODY) == json.loads(BODY)


@READERS
@pytest.mark.parametrize("forgery", FORGERIES)
def test_example_code_rejects_a_forgery(tmp_path, read, forgery):
    assert read(tmp_path, *FORGERIES[forgery]) is None


def shell(tmp_path, script, **environment):
    for tool in ("openssl", "curl"):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool} here")
    (tmp_path / "message.json").write_text(BODY, encoding="utf-8")
    return run(["/bin/sh", "-euc", script], cwd=tmp_path, environment=environment)


def test_example_shell_makes_the_same_signature(tmp_path):
    headers = signed()
    where = {"ID": headers["webhook-id"], "TIMESTAMP": headers["webhook-timestamp"]}
    assert shell(tmp_path, example("webhooks", "sh", 2), **where) == headers["webhook-signature"]


async def test_example_curl_sends_a_valid_message(tmp_path):
    script = "ID=test-1 TIMESTAMP=$(date +%s)\n" + example("webhooks", "sh", 2) + example("webhooks", "sh", 3)
    receiver = Receiver(SECRET)
    async with running(receiver, "127.0.0.1", 0) as url:
        said = await asyncio.to_thread(shell, tmp_path, script, RECEIVER=f"{url}/done")
    assert said.splitlines()[1] == "204"
    assert [(each.id, each.verified) for each in receiver.received] == [("test-1", True)]


# Links -----------------------------------------------------------------------------------------------------------


def anchors(path):
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", [*PAGES, ROOT / "SECURITY.md"], ids=lambda path: path.name)
def test_links_resolve(path):
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target
