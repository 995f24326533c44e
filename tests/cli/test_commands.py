"""The commands against a real server with the sandbox as its provider."""

import contextlib
import http.server
import json
import re
import select
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from standardwebhooks.webhooks import Webhook

from service.cli import COMMANDS, SUMMARIES, exits, main
from service.cli.practice import plug
from service.cli.processes import ProcessGroup, Served, clean_environment, free_ports
from service.domain.webhook_secret import derive_secret
from tests.support.media import PNG

pytestmark = pytest.mark.xdist_group("demo")

KEY = "a-key-that-is-long-enough"
Run = Callable[..., Result]


class Installation:
    """Dovecote, its sandbox and a receiver that verifies signatures, as real processes."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(3)
        environment = clean_environment()
        self.settings = {
            "DOVECOTE_DATABASE_URL": f"sqlite:///{folder / 'dovecote.db'}",
            "DOVECOTE_PORT": str(ports[1]),
            "DOVECOTE_PUBLIC_URL": f"http://127.0.0.1:{ports[1]}",
            "DOVECOTE_API_KEYS": f"tester={KEY}",
            "DOVECOTE_ALLOW_PRIVATE_WEBHOOKS": "true",
            **plug(f"http://127.0.0.1:{ports[0]}", 0.3, "elkapi", "runwayml"),
        }
        sandbox = ("sandbox", "--port", str(ports[0]), "--seconds", "0.3")
        self.database = folder / "dovecote.db"
        self.sandbox = Served("sandbox", sandbox, environment, ports[0], folder)
        self.dovecote = Served("dovecote", ("serve",), {**environment, **self.settings}, ports[1], folder, "/readyz")
        self.receiver = Served("receiver", ("receiver", "--port", str(ports[2])), environment, ports[2], folder)

    def secret(self) -> str:
        result = CliRunner().invoke(main, ["secret", "webhook", "--client", "tester"], env=self.settings)
        assert result.exit_code == 0, result.stderr
        return str(result.stdout).strip()


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("installation"))
    with ProcessGroup() as group:
        for served in (made.sandbox, made.dovecote):
            group.start(served)
        made.dovecote.wait_ready()
        made.receiver.environment = {**made.receiver.environment, "DOVECOTE_WEBHOOK_SECRET": made.secret()}
        group.start(made.receiver)
        for served in (made.sandbox, made.receiver):
            served.wait_ready()
        yield made


@pytest.fixture
def run(installation: Installation) -> Run:
    def run_it(*arguments: str, key: str = KEY, typed: str | None = None) -> Result:
        environment = {"DOVECOTE_URL": installation.dovecote.url, "DOVECOTE_API_KEY": key}
        return CliRunner().invoke(main, list(arguments), env=environment, input=typed)

    return run_it


def submit(run: Run, prompt: str, *more: str) -> str:
    result = run("submit", "runway", "text_to_video", f"prompt={prompt}", "duration=5", *more)
    assert result.exit_code == 0, result.output
    return str(result.stdout).strip()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "waited for 60 s"
        time.sleep(0.02)


def shown(run: Run, *arguments: str) -> Any:
    """Run a command with --json: its only output is one JSON document."""
    result = run(*arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return json.loads(result.stdout)


def test_submit_with_wait_prints_only_the_results_to_standard_output(run: Run, installation: Installation) -> None:
    result = run("submit", "runway", "text_to_video", "prompt=a dove", "duration=5", "--wait")
    assert result.exit_code == exits.OK
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{installation.sandbox.url}/sandbox/files/") for line in lines)
    assert lines[0].endswith(".mp4")
    assert "succeeded 100 %: Succeeded at elkapi" in result.stderr
    task = result.stderr.splitlines()[0]
    assert run("tasks", "show", task).exit_code == exits.OK


def test_adopted_job_is_followed_and_a_repetition_changes_nothing(run: Run, installation: Installation) -> None:
    order = {"prompt": "a dove", "seconds": 5, "callback_url": "http://127.0.0.1:9/", "model": "gen4_turbo"}
    headers = {"Authorization": "Bearer sandbox-key"}
    bought = httpx.post(f"{installation.sandbox.url}/runway/pro/generate", json=order, headers=headers, trust_env=False)
    (job,) = (each["id"] for each in ledger(installation) if each["callback_url"] == order["callback_url"])
    assert bought.is_success
    adopt = ("adopt", "runway", "text_to_video", "--upstream", "elkapi", "--external-id", job)
    result = run(*adopt, "--wait")
    assert result.exit_code == exits.OK, result.output
    assert result.stdout.splitlines()[0].endswith(".mp4")
    assert "its job was bought elsewhere" in result.stderr
    task = json.loads(run(*adopt, "--json").stdout)
    assert (task["adopted"], task["state"]) == (True, "succeeded")
    assert "nothing was changed" in run(*adopt).stderr
    assert run("adopt", "runway", "text_to_video", "--external-id", job).exit_code == exits.USAGE


def test_submitted_file_is_fetched_by_the_provider(run: Run, installation: Installation, tmp_path: Path) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(PNG)
    request = ("submit", "runway", "image_to_video", "prompt=[fetch] a cat", "duration=5", "--file", f"image={picture}")
    again = (*request, "--idempotency-key", "cat-1")
    result = run(*again, "--wait")
    assert result.exit_code == exits.OK, result.output
    found = httpx.get(f"{installation.sandbox.url}/sandbox/ledger", trust_env=False).json()["fetched"]
    [fetched] = [each for each in found if each["url"].startswith(f"{installation.dovecote.url}/callbacks/media/")]
    assert (fetched["status"], fetched["size"], fetched["head_size"], fetched["range_status"]) == (
        200,
        *[len(PNG)] * 2,
        206,
    )
    assert fetched["content_type"] == "image/png"
    repeated = run(*again)
    assert (repeated.exit_code, repeated.stdout.strip()) == (exits.OK, result.stderr.splitlines()[0]), repeated.output
    name = run("upload", str(picture)).stdout.strip()
    task = json.loads(
        run("submit", "runway", "image_to_video", "prompt=a", f'image:={{"upload": "{name}"}}', "--json").stdout
    )
    assert task["input"]["image"] == {"upload": name}


@pytest.mark.parametrize("written", ["image", "image=", "=x", "image=/nowhere/cat.png"])
def test_file_that_is_not_there_is_a_mistake_of_usage(run: Run, written: str) -> None:
    result = run("submit", "runway", "image_to_video", "prompt=a", "--file", written)
    assert result.exit_code == exits.USAGE


def ledger(installation: Installation) -> list[dict[str, Any]]:
    found = httpx.get(f"{installation.sandbox.url}/sandbox/ledger", trust_env=False).json()["jobs"]
    return list(found)


def test_models_are_listed_one_a_line(run: Run) -> None:
    result = run("models", "elkapi")
    assert (result.exit_code, "gen4_turbo" in result.stdout.splitlines()) == (exits.OK, True)
    assert shown(run, "models", "elkapi")["models"] == result.stdout.splitlines()
    assert "did you mean 'elkapi'" in run("models", "elkap").stderr


def test_failed_task_has_its_own_exit_code(run: Run) -> None:
    result = run("submit", "runway", "text_to_video", "prompt=a dove [moderate]", "duration=5", "--wait")
    assert (result.exit_code, result.stdout) == (exits.NOT_SUCCEEDED, "")
    assert "content moderation" in result.stderr


def test_wait_with_json_prints_the_ended_task(run: Run) -> None:
    result = run("submit", "runway", "text_to_video", "prompt=a dove [fail]", "duration=5", "--wait", "--json")
    assert result.exit_code == exits.NOT_SUCCEEDED
    assert json.loads(result.stdout)["failure"]["code"] == "provider_error"


def test_values_get_the_types_of_the_operation(run: Run) -> None:
    result = run("submit", "runway", "text2video", "prompt=5", "duration=10", 'motion={"x":1}', "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["input"] == {"prompt": "5", "duration": 10, "motion": {"x": 1}}


def test_every_mistake_is_reported(run: Run) -> None:
    result = run("submit", "runway", "text_to_video", "promt=x", "duration=long")
    assert (result.exit_code, result.stdout) == (exits.REFUSED, "")
    for words in ("input.duration", "input.promt", "did you mean 'prompt'?", "input.prompt  ", "is required"):
        assert words in result.stderr
    nearest = run("submit", "runwy", "text_to_video")
    assert "did you mean 'runway'?" in nearest.stderr


def test_problem_is_printed_as_json_to_standard_error(run: Run) -> None:
    result = run("submit", "runway", "text_to_video", "promt=x", "--json")
    assert (result.exit_code, result.stdout) == (exits.REFUSED, "")
    assert {error["path"] for error in json.loads(result.stderr)["errors"]} == {"input.promt", "input.prompt"}


def test_idempotency_key_makes_one_task(run: Run) -> None:
    first = submit(run, "once", "--idempotency-key", "once")
    assert submit(run, "once", "--idempotency-key", "once") == first
    other = run("submit", "runway", "text_to_video", "prompt=other", "duration=5", "--idempotency-key", "once")
    assert other.exit_code == exits.REFUSED
    assert "belongs to another request" in other.stderr


def test_wrong_key_is_refused_and_not_printed(run: Run) -> None:
    result = run("tasks", "list", key="a-key-that-is-wrong-here")
    assert (result.exit_code, result.stdout) == (exits.REFUSED, "")
    assert "DOVECOTE_API_KEY" in result.stderr
    assert "a-key-that-is-wrong-here" not in result.output
    assert "The command sent the API key of DOVECOTE_API_KEY" in result.stderr


def test_missing_unknown_and_revoked_keys_have_different_errors(run: Run, installation: Installation) -> None:
    """The error shows the problem's code and which key the command sent."""

    def created(*more: str) -> str:
        result = CliRunner().invoke(main, ["keys", "create", "shop", *more], env=installation.settings)
        assert result.exit_code == 0, result.output
        return str(result.stdout).strip()

    revoked = created()
    CliRunner().invoke(main, ["keys", "revoke", revoked], env=installation.settings)
    missing = run("tasks", "list", key="")
    assert missing.exit_code == exits.REFUSED
    assert "unauthorized" in missing.stderr
    assert "The command sent no API key" in missing.stderr
    assert "unknown_key" in run("tasks", "list", key=created()[:-8] + "00000000").stderr
    assert "revoked_key" in run("tasks", "list", key=revoked).stderr


def test_list_is_filtered_and_newest_first(run: Run) -> None:
    ids = [submit(run, f"listed {number}", "--label", "shelf=list") for number in range(3)]
    document = shown(run, "tasks", "list", "--label", "shelf=list", "--since", "1h")
    assert [task["id"] for task in document["tasks"]] == ids[::-1]
    assert document["next"] is None
    limited = shown(run, "tasks", "list", "--label", "shelf=list", "--limit", "2")
    assert [task["id"] for task in limited["tasks"]] == ids[:0:-1]
    assert limited["next"] == ids[1]
    assert shown(run, "tasks", "list", "--label", "shelf=list", "--family", "suno")["tasks"] == []
    assert (
        shown(run, "tasks", "list", "--state", "expired", "--state", "cancelled", "--label", "shelf=list")["tasks"]
        == []
    )
    table = run("tasks", "list", "--label", "shelf=list", "--limit", "2")
    lines = table.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["id", ids[2], ids[1]]
    assert "There are more than 2 tasks" in table.stderr
    assert run("tasks", "list", "--label", "shelf=empty").stdout == ""


def test_task_is_erased_after_a_question(run: Run) -> None:
    result = run("submit", "runway", "text_to_video", "prompt=a secret dove", "duration=5", "--wait")
    task = result.stderr.splitlines()[0]
    refused = run("tasks", "erase", task, typed="n\n")
    assert (refused.exit_code, "Erase the content of task" in refused.stderr) == (exits.USAGE, True)
    assert shown(run, "tasks", "show", task)["input"]
    erased = run("tasks", "erase", task, typed="y\n")
    assert erased.exit_code == exits.OK, erased.output
    assert "1 of 1 tasks are erased" in erased.stderr + erased.stdout
    assert shown(run, "tasks", "show", task)["input"] == {}
    assert shown(run, "tasks", "erasure", task)["erased"] == 1


def test_tasks_with_a_label_are_counted_and_erased(run: Run) -> None:
    ids = [submit(run, f"a secret dove {number}", "--label", "user=42") for number in range(2)]
    until(lambda: all(shown(run, "tasks", "show", task)["state"] == "succeeded" for task in ids))
    counted = shown(run, "tasks", "erase", "--label", "user=42", "--dry-run")
    assert (counted["state"], counted["tasks"]) == ("counted", 2)
    assert run("tasks", "erase", "--label", "user=42", typed="n\n").exit_code == exits.USAGE
    request = shown(run, "tasks", "erase", "--label", "user=42", "--yes")
    until(lambda: shown(run, "tasks", "erasure", request["id"])["erased"] == 2)
    assert all(shown(run, "tasks", "show", task)["input"] == {} for task in ids)
    assert "0 tasks have these labels" in run("tasks", "erase", "--label", "user=42").stderr


@pytest.mark.parametrize(
    "arguments", [(), ("--client", "x"), ("01a1fdfb-6590-78b2-9217-c49a4ce509c0", "--label", "a=b"), ("--label", "a")]
)
def test_erase_without_a_clear_target_is_a_usage_error(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("tasks", "erase", *arguments).exit_code == exits.USAGE


def test_task_is_shown_refreshed_and_cancelled(run: Run) -> None:
    task = submit(run, "a dove [stuck]", "--label", "project=intro", "--option", "seed:=7")
    until(lambda: shown(run, "tasks", "show", task)["state"] == "running")
    sheet = run("tasks", "show", task).stdout
    for words in (task, "runway text_to_video", "running", "elkapi is working on it", "project=intro", '{"seed": 7}'):
        assert words in sheet
    assert "results" not in sheet
    assert shown(run, "tasks", "refresh", task)["state"] == "running"
    history = run("tasks", "events", task).stdout.splitlines()
    assert [line.split()[2] for line in history[1:]] == ["accepted", "submitting", "submitted", "running"]
    events = shown(run, "tasks", "events", task)["events"]
    assert [event["type"] for event in events] == ["accepted", "submitting", "submitted", "running"]
    assert shown(run, "tasks", "cancel", task)["state"] == "cancelled"
    waited = run("tasks", "show", task, "--wait", "--json")
    assert (waited.exit_code, json.loads(waited.stdout)["state"]) == (exits.NOT_SUCCEEDED, "cancelled")


def test_ended_task_cannot_be_cancelled(run: Run) -> None:
    task = submit(run, "to the end")
    assert run("tasks", "show", task, "--wait").exit_code == exits.OK
    result = run("tasks", "cancel", task)
    assert result.exit_code == exits.REFUSED
    assert "already_ended" in result.stderr


def test_unknown_task_is_refused(run: Run) -> None:
    for command in ("show", "events", "cancel", "refresh"):
        assert run("tasks", command, "01a1fdef-7d11-7b12-a2d3-c67916bf8132").exit_code == exits.REFUSED
        assert run("tasks", command, "nonsense").exit_code == exits.USAGE


def test_secret_command_prints_the_signing_secret(run: Run, installation: Installation) -> None:
    secret = installation.secret()
    with sqlite3.connect(f"file:{installation.database}?mode=ro", uri=True) as connection:
        kept = connection.execute("SELECT value FROM secrets WHERE name = 'webhook_secret'").fetchone()
    connection.close()
    assert secret == derive_secret(kept[0], "tester", 1)
    task = submit(run, "tell me", "--callback-url", f"{installation.receiver.url}/done")
    assert run("tasks", "show", task, "--wait").exit_code == exits.OK

    def received() -> list[dict[str, Any]]:
        answer = httpx.get(f"{installation.receiver.url}/receiver/received", trust_env=False)
        return [message for message in answer.json() if message["task_id"] == task]

    until(lambda: bool(received()))
    assert [(message["state"], message["verified"]) for message in received()] == [("succeeded", True)]


def test_ledger_and_doctor_run_beside_the_server(run: Run, installation: Installation) -> None:
    task = submit(run, "for the ledger")
    assert run("tasks", "show", task, "--wait").exit_code == exits.OK

    def read() -> tuple[Result, Any]:
        printed = CliRunner().invoke(main, ["ledger", "--by", "client", "--json"], env=installation.settings)
        return printed, json.loads(printed.stdout)

    def agrees() -> bool:
        """Tasks of other tests may be on their way: a provider knows of a job before Dovecote does."""
        total = read()[1]["total"]
        ledger = httpx.get(f"{installation.sandbox.url}/sandbox/ledger", trust_env=False).json()
        return sum((*total["paid"].values(), *total["refunded"].values(), total["adopted"])) == int(ledger["paid"])

    until(agrees)
    printed, document = read()
    assert [row["client"] for row in document["rows"]] == ["tester"]
    doctor = CliRunner().invoke(main, ["doctor"], env=installation.settings)
    assert (doctor.exit_code, doctor.stderr) == (exits.OK, "")
    assert "is served by this Dovecote" in doctor.stdout
    assert KEY not in doctor.stdout + printed.stdout


def test_secret_of_the_settings_takes_precedence(installation: Installation) -> None:
    given = "whsec_" + "A" * 32
    environment = {**installation.settings, "DOVECOTE_WEBHOOK_SECRET": given}
    result = CliRunner().invoke(main, ["secret", "webhook", "--json"], env=environment)
    assert json.loads(result.stdout) == {"webhook_secret": derive_secret(given, "default", 1)}


def test_missing_database_is_not_created(tmp_path: Path) -> None:
    environment = {"DOVECOTE_DATABASE_URL": f"sqlite:///{tmp_path / 'none.db'}"}
    result = CliRunner().invoke(main, ["secret", "webhook"], env=environment)
    assert (result.exit_code, result.stdout) == (exits.UNAVAILABLE, "")
    assert "dovecote serve" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_second_server_reports_why_it_cannot_run(installation: Installation) -> None:
    for more, words in ({}, "or choose another port"), ({"DOVECOTE_PORT": "0"}, "another Dovecote process"):
        result = CliRunner().invoke(main, ["serve"], env={**installation.settings, **more})
        assert result.exit_code == exits.UNAVAILABLE
        assert words in result.stderr


def test_migrate_beside_a_running_server_is_refused(installation: Installation) -> None:
    result = CliRunner().invoke(main, ["migrate", "--json"], env=installation.settings)
    assert (result.exit_code, result.stdout) == (exits.UNAVAILABLE, "")


def test_migrate_reports_the_schema(tmp_path: Path) -> None:
    environment = {"DOVECOTE_DATABASE_URL": f"sqlite:///{tmp_path / 'new.db'}"}
    first = json.loads(CliRunner().invoke(main, ["migrate", "--json"], env=environment).stdout)
    assert first["was"] is None
    assert CliRunner().invoke(main, ["migrate"], env=environment).stdout == f"schema {first['schema']}, nothing to do\n"


def test_settings_are_shown_without_secrets(installation: Installation) -> None:
    environment = {**installation.settings, "DOVECOTE_DATABASE_URL": "postgresql://me:word@db/dovecote?password=other"}
    for arguments in (["settings"], ["settings", "--json"]):
        result = CliRunner().invoke(main, arguments, env=environment)
        assert result.exit_code == 0
        assert installation.sandbox.url in result.stdout
        assert "postgresql://me:***@db:5432/dovecote" in result.stdout
        for secret in (KEY, "word@", "other", "sandbox-key"):
            assert secret not in result.output


def test_invalid_settings_have_their_own_exit_code() -> None:
    environment = {"DOVECOTE_PORT": "high", "DOVECOTE_HOSTT": "x"}
    for command in (["settings"], ["serve"], ["migrate"], ["secret", "webhook"]):
        result = CliRunner().invoke(main, command, env=environment)
        assert (result.exit_code, result.stdout) == (exits.SETTINGS, "")
        assert "did you mean DOVECOTE_HOST?" in result.stderr
        assert "port" in result.stderr


def test_sandbox_prints_the_settings_for_it(installation: Installation) -> None:
    said = installation.sandbox.tail()
    for line in (
        f"Sandbox at {installation.sandbox.url}",
        "export ELKAPI_KEY=sandbox-key",
        f"export DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL={installation.sandbox.url}",
    ):
        assert line in said


@pytest.mark.parametrize("command", ["sandbox", "receiver"])
def test_port_in_use_is_reported(command: str, installation: Installation) -> None:
    result = CliRunner().invoke(main, [command, "--port", str(installation.dovecote.port)])
    assert result.exit_code == exits.UNAVAILABLE
    assert "cannot listen on" in result.stderr
    assert "choose another port" in result.stderr


def test_unknown_fault_is_refused() -> None:
    result = CliRunner().invoke(main, ["sandbox", "--fault", "dropp"])
    assert result.exit_code == exits.USAGE
    assert "there is no fault 'dropp'" in result.stderr


def test_help_of_sandbox_lists_its_faults() -> None:
    said = CliRunner().invoke(main, ["sandbox", "--help"]).stdout
    assert "drop " in said
    assert "no callback is sent" in said


def test_invalid_webhook_secret_is_refused() -> None:
    result = CliRunner().invoke(main, ["receiver"], env={"DOVECOTE_WEBHOOK_SECRET": "whsec_ä"})
    assert result.exit_code == exits.USAGE
    assert "DOVECOTE_WEBHOOK_SECRET" in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    command = main.get_command(main.make_context("dovecote", ["--help"], resilient_parsing=True), name)
    assert command is not None
    assert command.help
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert getattr(parameter, "help", None), f"{name} {parameter.opts}"


def test_help_lists_commands_and_exit_codes() -> None:
    said = CliRunner().invoke(main, ["--help"]).stdout
    assert all(f"\n  {name} " in said for name in COMMANDS)
    assert all(f"\n  {code} " in said for code in exits.MEANINGS)


def test_summary_is_the_first_sentence_of_the_help_of_a_command() -> None:
    context = main.make_context("dovecote", ["--help"], resilient_parsing=True)
    commands = {name: main.get_command(context, name) for name in COMMANDS}
    assert {name: each.get_short_help_str(150) for name, each in commands.items() if each} == dict(SUMMARIES)


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from service.cli import COMMANDS, main; main(['--help'], standalone_mode=False)\n"
        "loaded = {each.partition(':')[0] for each in COMMANDS.values()} & sys.modules.keys()\n"
        "assert not loaded and 'httpx' not in sys.modules, loaded"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert done.returncode == 0, done.stderr


def test_unknown_command_is_a_usage_error() -> None:
    assert CliRunner().invoke(main, ["nonsense"]).exit_code == exits.USAGE


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["sumbit"], "submit"),
        (["task"], "tasks"),
        (["tasks", "lst"], "list"),
        (["messages", "rplay"], "replay"),
        (["endpoints", "crate"], "create"),
        (["keys", "revok"], "revoke"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_mistyped_command_gets_a_suggestion(arguments: list[str], nearest: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == exits.USAGE
    assert f"'{nearest}'" in result.stderr


def test_explain_reads_a_callback() -> None:
    body = '{"task_id": "t1", "status": "3", "video_url": "https://example.com/a.mp4"}'
    arguments = ["explain", "--family", "runway", "--dialect", "aggregator", "--kind", "callback"]
    result = CliRunner().invoke(main, arguments, input=body)
    assert json.loads(result.stdout)["state"] == "succeeded"


def test_message_is_listed_shown_and_replayed(run: Run, installation: Installation) -> None:
    hook = f"{installation.receiver.url}/hook"
    task = submit(run, "to be told of", "--callback-url", hook)
    until(
        lambda: [each["state"] for each in shown(run, "messages", "list", "--task", task)["messages"]] == ["delivered"]
    )
    [message] = shown(run, "messages", "list", "--state", "delivered", "--type", "task.succeeded", "--task", task)[
        "messages"
    ]
    line = run("messages", "list", "--task", task).stdout.splitlines()[1]
    assert line.split()[0] == message["id"]
    assert line.split()[-3:] == ["delivered", "1", hook]
    sheet = run("messages", "show", message["id"]).stdout.splitlines()
    assert sheet[3].split()[0] == "1"
    assert " 204 " in sheet[3]
    assert shown(run, "messages", "show", message["id"])["body"]["data"]["id"] == task
    assert "1 message is due now." in run("messages", "replay", message["id"]).stderr
    until(lambda: len(shown(run, "messages", "show", message["id"])["deliveries"]) == 2)
    until(lambda: shown(run, "messages", "show", message["id"])["state"] == "delivered")
    assert shown(run, "messages", "replay", "--since", "1h", "--state", "delivered")["replayed"] >= 1
    until(lambda: len(shown(run, "messages", "show", message["id"])["deliveries"]) == 3)
    assert shown(run, "messages", "replay", "--since", "1h", "--before", "30m") == {"replayed": 0}
    taken = httpx.get(f"{installation.receiver.url}/receiver/received").json()
    assert [(each["attempts"], each["verified"]) for each in taken if each["id"] == message["id"]] == [(3, True)]


def test_replay_needs_ids_or_a_time(run: Run) -> None:
    nowhere = "01a1fdef-7d11-7b12-a2d3-c67916bf8132"
    assert run("messages", "replay").exit_code == exits.USAGE
    assert run("messages", "replay", nowhere, "--since", "1h").exit_code == exits.USAGE
    assert run("messages", "replay", nowhere, "--type", "task.failed").exit_code == exits.USAGE
    assert run("messages", "replay", nowhere).exit_code == exits.REFUSED
    assert run("messages", "replay", "--since", "1h", "--type", "nonsense").exit_code == exits.REFUSED
    assert "No messages found" in run("messages", "list", "--endpoint", nowhere).stderr


def test_families_lists_operations_and_fields(run: Run) -> None:
    listed = run("families").stdout
    assert "runway" in listed
    assert "text_to_video" in listed
    fields = run("families", "runway", "text2video")
    assert any(line.split()[:1] == ["prompt"] and "required" in line for line in fields.stdout.splitlines())
    assert "Served by elkapi" in fields.stderr
    assert re.search(r"runway/aggregator +yes +no +unknown +works +elkapi", fields.stdout)
    document = shown(run, "families", "runway", "text_to_video")
    assert "prompt" in document["input"]["properties"]
    assert {each["name"] for each in shown(run, "families", "suno")["families"]} == {"suno"}
    for arguments, nearest in ((["runwy"], "runway"), (["runway", "text_to_vido"], "text_to_video")):
        result = run("families", *arguments)
        assert result.exit_code == exits.USAGE
        assert f"did you mean '{nearest}'?" in result.stderr


def test_upstreams_lists_health_and_load(run: Run) -> None:
    lines = run("upstreams").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["upstream", "elkapi", "runwayml"]
    assert all(line.split()[-1] == "ok" for line in lines[1:])
    assert [each["name"] for each in shown(run, "upstreams")["upstreams"]] == ["elkapi", "runwayml"]


def test_endpoint_is_registered_tested_changed_and_deleted(run: Run, installation: Installation) -> None:
    hook = f"{installation.receiver.url}/endpoint"
    made = run(
        *("endpoints", "create", hook, "--event", "task.failed", "--description", "shop", "--callback-format", "openai")
    )
    assert made.exit_code == 0, made.output
    rows = dict(line.split(maxsplit=1) for line in made.stdout.splitlines())
    assert (rows["url"], rows["events"], rows["state"]) == (hook, "task.failed", "enabled")
    assert rows["secret"].startswith("whsec_")
    assert "shown this once" in made.stderr
    endpoint = rows["endpoint"]
    assert "secret" not in run("endpoints", "show", endpoint).stdout
    assert endpoint in run("endpoints", "list").stdout
    tested = run("endpoints", "test", endpoint)
    assert "endpoint.test" in tested.stdout
    assert "disabled (client)" in run("endpoints", "update", endpoint, "--disable").stdout
    changed = shown(run, "endpoints", "update", endpoint, "--enable", "--all-events", "--to", f"{hook}/2")
    assert (changed["enabled"], changed["events"], changed["url"]) == (True, [], f"{hook}/2")
    assert run("endpoints", "update", endpoint).exit_code == exits.USAGE
    rotated = shown(run, "endpoints", "rotate", endpoint)
    assert rotated["secret"] != rows["secret"]
    assert "Deleted the endpoint" in run("endpoints", "delete", endpoint).stderr
    assert run("endpoints", "show", endpoint).exit_code == exits.REFUSED


def test_webhook_secret_is_shown_and_rotated(run: Run, installation: Installation) -> None:
    before = run("webhook-secret", "show")
    assert (before.exit_code, before.stdout.strip()) == (exits.OK, installation.secret())
    for invalid, code in (("-1", exits.USAGE), ("a day", exits.USAGE), ("99999999", exits.REFUSED)):
        assert run("webhook-secret", "rotate", "--overlap", invalid).exit_code == code
    rotated = run("webhook-secret", "rotate", "--overlap", "3600")  # the receiver of this module has the old secret
    assert (rotated.exit_code, rotated.stdout.strip()) == (exits.OK, installation.secret())
    assert rotated.stdout != before.stdout
    assert "The old secret signs as well until" in rotated.stderr
    document = shown(run, "webhook-secret", "show")
    assert document["secret"] == rotated.stdout.strip()
    assert document["previous_secret_until"] is not None


def test_retry_needs_a_confirmation_and_an_unconfirmed_task(run: Run) -> None:
    task = submit(run, "not to be retried")
    refused = run("tasks", "retry", task)
    assert refused.exit_code == exits.USAGE
    assert "--confirm-double-payment" in refused.stderr
    result = run("tasks", "retry", task, "--confirm-double-payment")
    assert result.exit_code == exits.REFUSED
    assert "not_unconfirmed" in result.stderr


def test_unconfirmed_task_is_retried(run: Run) -> None:
    task = submit(run, "a dove [cut] [drop] [seconds=60]")
    until(lambda: shown(run, "tasks", "show", task)["state"] == "unconfirmed")
    result = run("tasks", "retry", task, "--confirm-double-payment")
    assert result.exit_code == 0, result.output
    events = [event["type"] for event in shown(run, "tasks", "events", task)["events"]]
    assert "unconfirmed" in events[:-1]


def test_input_is_sent_to_a_task_that_waits_for_it(run: Run) -> None:
    given = run("submit", "midjourney", "imagine", "prompt=[modal] a dove")
    assert given.exit_code == 0, given.output
    task = given.stdout.strip()
    until(lambda: shown(run, "tasks", "show", task)["state"] == "awaiting_input")
    assert "awaits" in run("tasks", "show", task).stdout
    sent = run("tasks", "input", task, "prompt=a white dove")
    assert sent.exit_code == 0, sent.output
    assert run("tasks", "show", task, "--wait").exit_code == exits.OK
    again = run("tasks", "input", task, "prompt=x")
    assert again.exit_code == exits.REFUSED
    assert "not_awaited" in again.stderr


def test_messages_show_the_next_attempt(run: Run) -> None:
    (closed,) = free_ports(1)
    task = submit(run, "refused webhook", "--callback-url", f"http://127.0.0.1:{closed}/hook")

    def failed_once() -> bool:
        messages = shown(run, "messages", "list", "--task", task)["messages"]
        return bool(messages) and messages[0]["attempts"] > 0 and messages[0]["last_error"] is not None

    until(failed_once)
    head, line = run("messages", "list", "--task", task).stdout.splitlines()
    assert "next attempt" in head
    assert re.search(r" pending +\d+ +(in \d+ (s|min)|now) ", line), line


def test_submit_with_output_prints_the_id_first_and_saves_the_results(run: Run, tmp_path: Path) -> None:
    result = run("submit", "runway", "text_to_video", "prompt=a dove", "duration=5", "--output", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    task_id = result.stderr.splitlines()[0]
    saved = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert saved
    assert all(f"saved {tmp_path / 'out' / name} (" in result.stderr for name in saved)
    assert (tmp_path / "out" / saved[0]).stat().st_size > 0
    again = run("tasks", "show", task_id, "--output", str(tmp_path / "again"))
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == saved, again.output


def test_folder_that_cannot_be_made_stops_the_submit(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    before = json.loads(run("tasks", "list", "--json").stdout)
    result = run(
        "submit", "runway", "text_to_video", "prompt=x", "duration=5", "--output", str(tmp_path / "file" / "x")
    )
    assert result.exit_code == exits.USAGE
    assert json.loads(run("tasks", "list", "--json").stdout)["tasks"][:1] == before["tasks"][:1]


def test_task_is_watched_until_its_end(run: Run) -> None:
    result = run("tasks", "watch", submit(run, "a dove"))
    assert result.exit_code == 0, result.output
    assert ".mp4" in result.stdout


def test_tasks_adopt_is_the_command_adopt(run: Run) -> None:
    assert run("tasks", "adopt", "--help").stdout.split("Usage")[0] == run("adopt", "--help").stdout.split("Usage")[0]


def test_openapi_document_is_that_of_the_server(run: Run, installation: Installation, tmp_path: Path) -> None:
    served = httpx.get(f"{installation.dovecote.url}/openapi.json", trust_env=False).json()
    assert json.loads(run("openapi").stdout) == served
    assert run("openapi", "--output", str(tmp_path / "api.json")).exit_code == 0
    assert json.loads((tmp_path / "api.json").read_text()) == served
    assert run("openapi", "--output", str(tmp_path / "no" / "api.json")).exit_code == exits.USAGE


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_asks_the_command(run: Run, shell: str) -> None:
    assert "_DOVECOTE_COMPLETE" in run("completion", shell).stdout
    result = CliRunner().invoke(
        main,
        [],
        prog_name="dovecote",
        env={
            "_DOVECOTE_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": "dovecote ta",
            "COMP_CWORD": "ta" if shell == "fish" else "1",
        },
    )
    assert "tasks" in result.stdout


@contextlib.contextmanager
def listening(installation: Installation, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command that never ends by itself, and interrupt it at the end."""
    environment = {**clean_environment(), "DOVECOTE_URL": installation.dovecote.url, "DOVECOTE_API_KEY": KEY}
    command = [sys.executable, "-u", "-m", "service.cli", *arguments]
    with subprocess.Popen(  # noqa: S603 - our own command
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline().startswith(("Listening", "Watching"))
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == exits.INTERRUPTED


@contextlib.contextmanager
def taking_messages() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """Take messages by HTTP while the block runs; yield the address, and the headers and the body of each."""
    taken: list[tuple[dict[str, str], bytes]] = []

    class Taking(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Taking) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", taken
        finally:
            server.shutdown()
            thread.join()


def test_listen_forwards_signed_messages(run: Run, installation: Installation) -> None:
    with (
        taking_messages() as (url, taken),
        listening(installation, "listen", "--forward-to", f"{url}/x", "--event", "task.succeeded") as heard,
    ):
        assert heard.stdout is not None
        lines = []
        while not lines:  # the stream may open a moment after the line that says so
            task_id = submit(run, "a dove")
            run("tasks", "watch", task_id)
            ready, _, _ = select.select([heard.stdout], [], [], 2)
            lines = [heard.stdout.readline()] if ready else []
    assert "task.succeeded" in lines[0]
    assert lines[0].strip().endswith("HTTP 204")
    secret = run("webhook-secret", "show").stdout.strip()
    messages = [Webhook(secret).verify(body, headers) for headers, body in taken]
    assert [each["type"] for each in messages if each["data"]["id"] in lines[0]] == ["task.succeeded"]


def test_listen_needs_a_url_to_forward_to(run: Run) -> None:
    assert run("listen", "--forward-to", "localhost:3000").exit_code == exits.USAGE


@pytest.mark.parametrize("event", ["running", "succeeded", "failed"])
def test_triggered_callback_changes_the_task_as_the_providers_would(
    run: Run, installation: Installation, event: str
) -> None:
    task_id = submit(run, "[stuck] [drop] a dove")
    until_state(run, task_id, {"submitted", "running"})
    result = CliRunner().invoke(main, ["trigger", f"runway.{event}", "--task", task_id], env=installation.settings)
    assert result.exit_code == 0, result.output
    assert "answered HTTP 200" in result.stderr
    assert json.loads(result.stdout)
    task = until_state(run, task_id, {event})
    if event == "succeeded":
        assert task["outcome_source"] == "callback"
        assert all(each["url"].startswith(installation.sandbox.url) for each in task["results"])


def until_state(run: Run, task_id: str, states: set[str]) -> dict[str, Any]:
    for _ in range(400):
        task: dict[str, Any] = json.loads(run("tasks", "show", task_id, "--json").stdout)
        if task["state"] in states:
            return task
        time.sleep(0.05)
    raise AssertionError(f"it is {task['state']}")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["runway.done"], "not of the form FAMILY.EVENT"),
        (["suno.succeeded"], "of the family runway: write runway.succeeded"),
        (["runway.succeeded", "--task", "01a1fdfb-6590-78b2-9217-c49a4ce509c0"], "there is no task"),
    ],
)
def test_callback_that_cannot_be_triggered_is_a_usage_error(
    run: Run, installation: Installation, arguments: list[str], sentence: str
) -> None:
    task_id = submit(run, "a dove")
    until_state(run, task_id, {"succeeded"})
    more = [] if "--task" in arguments else ["--task", task_id]
    result = CliRunner().invoke(main, ["trigger", *arguments, *more], env=installation.settings)
    assert result.exit_code == exits.USAGE
    assert sentence in result.stderr


def test_task_at_a_real_provider_is_not_triggered_without_force(run: Run, installation: Installation) -> None:
    task_id = submit(run, "a dove")
    until_state(run, task_id, {"succeeded"})
    real = {**installation.settings, "DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": "https://gateway.example.com"}
    result = CliRunner().invoke(main, ["trigger", "runway.succeeded", "--task", task_id], env=real)
    assert result.exit_code == exits.USAGE
    assert "a real provider" in result.stderr


# Results ---------------------------------------------------------------------------------------------------------


def test_results_are_saved_linked_and_deleted(run: Run, tmp_path: Path) -> None:
    done = run(
        "submit", "runway", "text_to_video", "prompt=a [filebytes=400000]", "duration=5", "--output", str(tmp_path)
    )
    task_id = done.stderr.splitlines()[0]
    task = sorted(tmp_path.iterdir())
    assert [path.stat().st_size for path in task] == [400_000] * len(task)
    saved = run("results", "save", task_id, "--to", str(tmp_path / "second"))
    assert saved.exit_code == 0, saved.output
    assert [Path(line).read_bytes() for line in saved.stdout.splitlines()] == [path.read_bytes() for path in task]
    link = run("results", "link", task_id)
    assert len(httpx.get(link.stdout.strip()).content) == 400_000
    assert f"task: {task_id}" in run("results", "provenance", task_id).stdout
    deleted = run("results", "delete", task_id)
    assert deleted.stderr.strip() == f"The copies of {len(task)} results are deleted."
    assert run("results", "link", task_id).exit_code == exits.REFUSED
    assert httpx.get(link.stdout.strip()).status_code == 404


def test_recording_is_written_at_the_end_and_played_back(installation: Installation, tmp_path: Path) -> None:
    file = tmp_path / "elkapi.json"
    command = [sys.executable, "-u", "-m", "service.cli"]
    order = {"prompt": "a dove over Paris", "model": "gen4", "callback_url": "https://x.test/callbacks/" + "t" * 40}
    headers = {"Authorization": "Bearer sandbox-key"}

    def first_job(*arguments: str) -> tuple[str, int]:
        """Run a command, submit a job to it, and poll that; return the answer to the poll and the exit code."""
        environment = {**clean_environment(), "DOVECOTE_DATABASE_URL": f"sqlite:///{tmp_path / 'none.db'}"}
        with subprocess.Popen([*command, *arguments], env=environment, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
            try:
                assert process.stdout is not None
                url = process.stdout.readline().strip().partition("=")[2]
                with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=20) as client:
                    made = client.post("/runway/pro/generate", json=order).json()["data"]["task_id"]
                    polled = client.post("/runway/feed", json={"task_id": made}).text
                    assert made in polled
            finally:
                process.send_signal(signal.SIGINT)
                code = process.wait(20)
        return polled.replace(made, "ID"), code

    real, code = first_job(
        "record", "elkapi", "--base-url", installation.sandbox.url, "--port", "0", "--output", str(file)
    )
    assert code == 0
    text = file.read_text()
    assert len(json.loads(text)["jobs"]) == 1
    assert "sandbox-key" not in text
    assert "Paris" not in text
    played, code = first_job("rehearse", str(file), "--port", "0")
    assert code == 0
    assert json.loads(played).keys() == json.loads(real).keys()


def test_file_that_is_no_recording_is_a_usage_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    assert run("rehearse", str(tmp_path / "x.json")).exit_code == exits.USAGE
    assert run("record", "elkapi", "--output", str(tmp_path / "x.json")).exit_code == exits.USAGE
    assert run("record", "elkapi", "--output", str(tmp_path / "no" / "y.json")).exit_code == exits.USAGE
    assert "--base-url" in run("record", "nobody", "--output", str(tmp_path / "y.json")).stderr
