"""The demo over real processes, and the checks that it makes."""

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
from rich.console import Console

from service.cli.demo.play import LIMIT
from service.cli.demo.screen import Moving, print_summary, showing
from service.cli.demo.seen import Played, Seen, settled, worst_moment
from service.cli.demo.story import KILLED, SCENES, Scene
from service.cli.demo.verdict import as_document, judge

Change = Callable[[Seen], Seen]
BY_NAME = {scene.name: scene for scene in SCENES}
REFUSED = sum(scene.refusals for scene in SCENES)


def task_of(scene: Scene) -> dict[str, Any]:
    return {
        "id": f"id-{scene.name}",
        "state": str(scene.state),
        "progress": None,
        "failure": None if scene.code is None else {"code": scene.code},
        "upstream": scene.served_by,
        "outcome_source": min(scene.outcome_source),
        "results": [{"kept": "kept"}],
        "explanation": f"It is {scene.state}.",
    }


def job_of(scene: Scene) -> dict[str, Any]:
    sent = scene.callbacks
    return {"prompt": scene.prompt, "paid": True, "callbacks_sent": sent, "callback_statuses": [0] + [200] * (sent - 1)}


def message_of(scene: Scene) -> dict[str, Any]:
    return {"task_id": f"id-{scene.name}", "state": str(scene.state), "verified": True}


def history_of(scene: Scene) -> list[dict[str, Any]]:
    events = [{"type": "accepted", "source": "client", "data": {}}]
    if scene.through is not None:
        events.append({"type": scene.through, "source": "submit", "data": {}})
    events.append({"type": "running", "source": scene.proven_by or "submit", "data": {"external_id": "x"}})
    return [*events, {"type": str(scene.state), "source": "poll", "data": {}}]


FLAWLESS = Seen(
    at=14.0,
    killed_at=1.2,
    back_at=3.0,
    tasks={scene.name: task_of(scene) for scene in SCENES},
    histories={scene.name: history_of(scene) for scene in SCENES},
    ledger={
        "jobs": [job_of(scene) for scene in SCENES],
        "requests": dict(Counter(route for scene in SCENES for route in [scene.route] * (1 + scene.refusals))),
    },
    messages=[message_of(scene) for scene in SCENES],
    played=Played(404, 200, matches=True),
)


def task(name: str, **changed: Any) -> Change:
    return lambda seen: dataclasses.replace(seen, tasks={**seen.tasks, name: {**seen.tasks[name], **changed}})


def history(name: str, *events: dict[str, Any]) -> Change:
    return lambda seen: dataclasses.replace(seen, histories={**seen.histories, name: list(events)})


def job(name: str, **changed: Any) -> Change:
    prompt = BY_NAME[name].prompt

    def change(seen: Seen) -> Seen:
        jobs = [{**each, **changed} if each["prompt"] == prompt else each for each in seen.jobs]
        return dataclasses.replace(seen, ledger={**seen.ledger, "jobs": jobs})

    return change


def one_more_job(seen: Seen) -> Seen:
    return dataclasses.replace(
        seen, ledger={**seen.ledger, "jobs": [*seen.jobs, {**seen.jobs[0], "callbacks_sent": 0}]}
    )


def one_more_submit(seen: Seen) -> Seen:
    requests = {**seen.ledger["requests"], SCENES[0].route: seen.ledger["requests"][SCENES[0].route] + 1}
    return dataclasses.replace(seen, ledger={**seen.ledger, "requests": requests})


def one_more_message(**changed: Any) -> Change:
    return lambda seen: dataclasses.replace(seen, messages=[*seen.messages, {**seen.messages[0], **changed}])


def test_flawless_run_passes_every_check() -> None:
    checks = judge(FLAWLESS)
    assert all(check.held for check in checks), checks
    assert settled(FLAWLESS)
    sentences = " ".join(check.sentence for check in checks)
    assert f"jobs paid for = tasks submitted: {len(SCENES)} = {len(SCENES)}" in sentences
    assert f"completion webhooks received and verified = tasks ended: {len(SCENES)} = {len(SCENES)}" in sentences


@pytest.mark.parametrize(
    ("change", "promise", "reason"),
    [
        (task("fine", state="running", explanation="elkapi is working on it."), 0, "still running: elkapi is working"),
        (task("fine", state="failed"), 0, "should be succeeded, is failed"),
        (task("moderated", failure={"code": "provider_error"}), 0, "should be failed"),
        (task("lost", outcome_source="callback"), 0, "its outcome came by callback, which is not possible"),
        (
            history("cut", {"type": "submitted", "source": "submit", "data": {"external_id": "x"}}),
            0,
            "its id came by submit",
        ),
        (history("busy"), 0, "was never upstream_unavailable"),
        (one_more_job, 1, "no failure: 2 jobs paid"),
        (job("cut", paid=False), 1, "0 jobs paid"),
        (one_more_submit, 1, f"{REFUSED + 1 + len(SCENES)} submits were sent for {len(SCENES)} tasks"),
        (one_more_message(), 2, "the client got ['succeeded', 'succeeded']"),
        (one_more_message(verified=False), 2, "1 messages could not be verified"),
        (lambda seen: dataclasses.replace(seen, messages=seen.messages[1:]), 2, "the client got nothing"),
        (task("fine", state="failed"), 2, "it is failed, and the client got ['succeeded']"),
        (lambda seen: dataclasses.replace(seen, killed_at=None), 3, "no submit was in flight"),
        (lambda seen: dataclasses.replace(seen, back_at=None), 3, "it did not start again"),
        (task("fine", results=[{"kept": "lost"}]), 4, "1 files are lost"),
        (lambda seen: dataclasses.replace(seen, played=None), 4, "there is no film to play"),
        (
            lambda seen: dataclasses.replace(seen, played=Played(200, 200, matches=True)),
            4,
            "the original answers HTTP 200",
        ),
        (lambda seen: dataclasses.replace(seen, played=Played(404, 200, matches=False)), 4, "with the wrong hash"),
        (job("twice", callbacks_sent=2), 5, "every callback arrives twice: 2 callbacks sent, 4 planned"),
        (lambda seen: dataclasses.replace(seen, at=LIMIT + 1), 6, f"it took {LIMIT + 1:.0f} s"),
    ],
)
def test_failed_check_is_reported(change: Change, promise: int, reason: str) -> None:
    seen = change(FLAWLESS)
    check = judge(seen)[promise]
    assert not check.held
    assert any(reason in broken for broken in check.broken), check.broken
    document = as_document(seen, judge(seen))
    assert document["held"] is False
    assert document["checks"][promise]["broken"] == list(check.broken)


def test_empty_run_fails_every_check() -> None:
    checks = judge(Seen(at=LIMIT + 1))
    assert not any(check.held for check in checks)
    assert not settled(Seen())


BEFORE = task(KILLED, state="submitting")(FLAWLESS)


@pytest.mark.parametrize(
    ("change", "worst"),
    [
        (lambda seen: seen, True),
        (task("busy", state="queued"), False),
        (task("fine", state="queued"), False),
        (task("fine", state="submitting"), False),
        (task(KILLED, state="queued"), False),
        (task(KILLED, state="unconfirmed"), False),
        (job(KILLED, paid=False), False),
        (lambda seen: dataclasses.replace(seen, messages=[]), False),
        (lambda seen: dataclasses.replace(seen, up=False), False),
    ],
)
def test_worst_moment_is_during_a_purchase(change: Change, *, worst: bool) -> None:
    assert worst_moment(change(BEFORE), BY_NAME[KILLED]) is worst


@pytest.mark.parametrize(
    "change",
    [
        task("fine", state="running"),
        job("late", callbacks_sent=1),
        lambda seen: dataclasses.replace(seen, messages=seen.messages[1:]),
    ],
)
def test_run_is_not_settled_while_something_is_pending(change: Change) -> None:
    assert not settled(change(FLAWLESS))


def test_every_scene_has_its_own_prompt() -> None:
    assert len({scene.prompt for scene in SCENES}) == len({scene.name for scene in SCENES}) == len(SCENES)


@pytest.mark.parametrize("width", [80, 150])
def test_live_table_fits_the_terminal(width: int) -> None:
    screen = Console(file=io.StringIO(), width=width, force_terminal=False, markup=False)
    moving = Moving(screen)
    for seen in (Seen(), dataclasses.replace(BEFORE, up=False, back_at=None), FLAWLESS):
        screen.print(moving(seen))
    written = screen.file.getvalue()  # type: ignore[attr-defined]
    failing = sum(scene.state == "failed" for scene in SCENES)
    assert all(written.count(scene.title) >= 3 for scene in SCENES)
    assert "killed (kill -9) at 1.2 s" in written
    assert "back, after 1.8 s" in written
    assert written.count("It is failed.") == (0 if width < 120 else 2 * failing)
    assert "…" not in written


def test_lines_report_every_change_once(capsys: pytest.CaptureFixture[str]) -> None:
    with showing(err=False) as show:
        for seen in (Seen(), BEFORE, BEFORE, FLAWLESS):
            show(seen)
    written = capsys.readouterr().out
    assert written.count("kill -9 during the submit: ") == 2  # submitting, succeeded
    assert written.count("no failure: succeeded. It is succeeded.") == 1
    assert written.count("Dovecote was killed") == 1


def test_summary_names_the_failed_check(capsys: pytest.CaptureFixture[str]) -> None:
    seen = task("lost", outcome_source="callback")(FLAWLESS)
    print_summary(seen, judge(seen))
    written = capsys.readouterr().out
    assert "✗ every task ended as expected" in written
    assert "    callback never arrives: its outcome came by callback, which is not possible" in written
    assert written.count("✓") == 6
    assert "unconfirmed → succeeded" in written


# Over real processes.


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the demo in an environment with settings and keys. The demo must not use them."""
    (tmp_path / "dovecote.toml").write_text("port = 'mistaken'", encoding="utf-8")
    poison = {"DOVECOTE_NO_SUCH_SETTING": "x", "DOVECOTE_URL": "http://127.0.0.1:1", "ELKAPI_KEY": "real"}
    environment = {**os.environ, **poison, "TMPDIR": str(tmp_path)}
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "service.cli", "demo", *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=60)


def read_until(stream: IO[str] | None, words: str) -> str:
    assert stream is not None
    read = ""
    while words not in read:
        line = stream.readline()
        assert line, read
        read += line
    return read


def processes_in(folder: Path) -> dict[int, list[str]]:
    """Return the command lines, by pid, of the processes whose working directory is below a folder."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found[int(process.name)] = (process / "cmdline").read_text().split("\0")
        except OSError:  # it has ended, or belongs to another user
            continue
    return found


sees_processes = pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="looks for processes in /proc")


@sees_processes
@pytest.mark.long
@pytest.mark.xdist_group("demo")
def test_demo_holds_and_can_be_tried_afterwards(demo: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    playing = demo("--keep", "--json")
    said = read_until(playing.stderr, "Ctrl-C stops everything")
    assert sum("serve" in arguments for arguments in processes_in(tmp_path).values()) == 1
    curl = next(line for line in said.splitlines() if "curl -s http" in line)
    address, request = curl.split()[2], curl.partition("-d '")[2].rstrip("'")
    tried = httpx.post(address, content=request, headers={"Content-Type": "application/json"}, trust_env=False)
    assert (tried.status_code, tried.json()["state"]) == (202, "queued")

    playing.send_signal(signal.SIGINT)
    out, _ = playing.communicate(timeout=60)
    assert playing.returncode == 0, said
    document = json.loads(out)
    assert document["held"], document["checks"]
    assert document["jobs_paid"] == document["tasks_submitted"] == len(SCENES)
    assert document["webhooks_verified"] == document["tasks_ended"] == len(SCENES)
    assert {each["scene"]: each["state"] for each in document["tasks"]} == {
        scene.name: str(scene.state) for scene in SCENES
    }
    assert all(scene.title in said for scene in SCENES)
    assert not processes_in(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["dovecote.toml"]


@sees_processes
@pytest.mark.long
@pytest.mark.xdist_group("demo")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_demo_leaves_nothing_behind(
    demo: Callable[..., subprocess.Popen[str]], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    playing = demo()
    read_until(playing.stdout, "submitt")
    assert processes_in(tmp_path)
    playing.send_signal(number)
    playing.communicate(timeout=60)
    assert playing.returncode == code
    assert not processes_in(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["dovecote.toml"]


@sees_processes
@pytest.mark.long
@pytest.mark.xdist_group("demo")
def test_failed_demo_reports_the_reason_and_keeps_the_logs(
    demo: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    playing = demo()
    read_until(playing.stdout, "submitt")
    for pid, arguments in processes_in(tmp_path).items():
        if "sandbox" in arguments:
            os.kill(pid, signal.SIGKILL)
    _, said = playing.communicate(timeout=60)
    assert playing.returncode == 1
    assert "The demo could not run" in said
    assert "Logs and database are kept in" in said
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert {"sandbox.log", "receiver.log", "dovecote.log", "dovecote.db"} <= {path.name for path in folder.iterdir()}
    assert not processes_in(tmp_path)
