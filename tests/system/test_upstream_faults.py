"""Faults of real upstreams, played by a scripted upstream against a running `dovecote serve`.

Each case is data: the upstream's answers, its callbacks, and the expected task.
"""

import asyncio
import dataclasses
import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx

from service.cli.processes import LOOPBACK, ProcessGroup, Served, clean_environment, free_ports
from tests.support.processes import client_of, started
from tests.support.scripted_upstream import Answer, Script, ScriptedUpstream
from tests.support.waiting import LIMIT

KEY = "sk-scripted/key+1"
JOB = "1700000000000001"
PICTURE = "https://cdn.example.com/a.png"
SONG = "https://cdn.example.com/a.mp3"
VIDEO = "https://cdn.example.com/a.mp4"
JSON = {"Content-Type": "application/json"}

IMAGINE = ("midjourney", "imagine", {"prompt": "a boat"})
MUSIC = ("suno", "music", {"prompt": "a song about a boat"})
CLIP = ("runway", "text_to_video", {"prompt": "a boat", "duration": 5})

MJ_TAKEN = {"code": 1, "description": "Submit success", "result": JOB}
SUNO_TAKEN = {"code": "success", "message": "", "data": "t1"}
FEED_TAKEN = {"code": 200, "msg": "ok", "data": {"task_id": "t1"}}


def mj(**more: Any) -> dict[str, Any]:
    """Return a task object of Midjourney that has succeeded."""
    done = {"id": JOB, "action": "IMAGINE", "status": "SUCCESS", "progress": "100%", "imageUrl": PICTURE}
    return {**done, **more}


def suno(clip: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return a row of Suno that has succeeded, with one clip."""
    row = {"task_id": "t1", "action": "MUSIC", "status": "SUCCESS", "progress": "100%", "fail_reason": ""}
    done = {"id": "c1", "status": "complete", "title": "Boat", **clip}
    return {"code": "success", "message": "", "data": {**row, "data": [done], **more}}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A request to the callback URL."""

    body: bytes
    headers: Mapping[str, str] = dataclasses.field(default_factory=lambda: JSON)
    method: str = "POST"
    slash: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fault: the script, the callbacks, and the expected task."""

    dialect: str
    request: tuple[str, str, Mapping[str, Any]]
    script: Script
    callbacks: Sequence[Called] = ()
    refreshed: bool = True
    """Whether the client asks for polls."""
    state: str = "succeeded"
    results: Sequence[str] | None = None
    failure: str | None = None
    says: str | None = None
    """A part of the task's document."""
    creates: str = "POST /mj/submit/"
    bought: int | None = 1
    """How often the job may have been created; None: as often as it is tried."""


def midjourney(poll: Sequence[Answer], submit: Answer | None = None, **more: Any) -> Case:
    script = {"POST /mj/submit/imagine": [submit or Answer(MJ_TAKEN)], f"GET /mj/task/{JOB}/fetch": poll}
    return Case(dialect="midjourney/proxy", request=IMAGINE, script=script, **more)


def songs(poll: Sequence[Answer], submit: Answer | None = None, **more: Any) -> Case:
    script = {"POST /suno/submit/music": [submit or Answer(SUNO_TAKEN)], "GET /suno/fetch/t1": poll}
    return Case(dialect="suno/newapi", request=MUSIC, script=script, creates="POST /suno/submit/", **more)


def feed(poll: Sequence[Answer], submit: Answer | None = None, **more: Any) -> Case:
    script = {"POST /runway/pro/generate": [submit or Answer(FEED_TAKEN)], "POST /runway/feed": poll}
    return Case(dialect="runway/aggregator", request=CLIP, script=script, creates="POST /runway/pro/", **more)


def official(poll: Sequence[Answer]) -> Case:
    script = {"POST /v1/text_to_video": [Answer({"id": "r1"})], "GET /v1/tasks/r1": poll}
    return Case(dialect="runway/official", request=CLIP, script=script, creates="POST /v1/", results=[VIDEO])


DONE = [Answer(mj())]
PACKED = json.dumps(MJ_TAKEN).encode()
CALLBACK = json.dumps(mj(), ensure_ascii=False).encode()
SILENT = [Answer({"id": JOB, "status": "SUBMITTED"})]
PAGE = b"<html><head><title>gateway | 521: Web server is down</title></head></html>"
CHALLENGE = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head></html>"

CASES: Mapping[str, Case] = {
    "u1-placeholder": songs(
        [
            Answer(suno({"audio_url": "https://studio-api.prod.suno.com/api/forbidden"})),
            Answer(suno({"audio_url": "https://cdn1.suno.ai/None.mp3"})),
            Answer(suno({"audio_url": "https://x.example/api/forbidden", "media_urls": [{"url": SONG}]})),
        ],
        results=[SONG],
    ),
    "u2-midjourney": midjourney(
        [Answer(mj(id="9", imageUrl="https://x.example/not-ours.png")), *DONE], results=[PICTURE]
    ),
    "u2-suno": songs(
        [
            Answer(suno({"audio_url": "https://x.example/not-ours.mp3"}, task_id="9")),
            Answer(suno({"audio_url": SONG})),
        ],
        results=[SONG],
    ),
    "u2-feed": feed(
        [
            Answer(
                {"code": 200, "data": {"task_id": "9", "status": "3", "video_url": "https://x.example/not-ours.mp4"}}
            ),
            Answer({"code": 200, "data": {"task_id": "t1", "status": "3", "video_url": VIDEO}}),
        ],
        results=[VIDEO],
    ),
    "u2-official": official(
        [
            Answer({"id": "9", "status": "SUCCEEDED", "createdAt": "x", "output": ["https://x.example/not-ours.mp4"]}),
            Answer({"id": "r1", "status": "SUCCEEDED", "createdAt": "x", "output": [VIDEO]}),
        ]
    ),
    "u3-code-in-envelope": feed(
        [Answer({"code": 200, "data": {"task_id": "t1", "status": "1"}})],
        Answer({"code": 504, "msg": "gateway time-out", "data": None}),
        callbacks=[Called(body=json.dumps({"task_id": "t1", "status": "3", "video_url": VIDEO}).encode())],
        results=[VIDEO],
    ),
    "u3-quoted-success": songs(
        [],
        Answer({"code": "fail_to_fetch_task", "message": '{"id":"v1"}', "data": None}, 201),
        state="unconfirmed",
        refreshed=False,
    ),
    "u3-text-in-a-refusal": feed(
        [Answer({"code": 200, "data": {"task_id": "t1", "status": "1"}})],
        Answer({"error": {"message": "read tcp 10.0.0.1:443: connection reset by peer", "code": "x"}}, 400),
        callbacks=[Called(body=json.dumps({"task_id": "t1", "status": "3", "video_url": VIDEO}).encode())],
        results=[VIDEO],
    ),
    "u3-engine-timed-out": midjourney(
        [],
        Answer({"code": 9, "description": "I/O error on POST request: Read timed out"}),
        state="unconfirmed",
        refreshed=False,
    ),
    "u4-gzip": midjourney(DONE, Answer(gzip.compress(PACKED)), results=[PICTURE]),
    "u4-deflate": midjourney([Answer(zlib.compress(CALLBACK))], Answer(zlib.compress(PACKED)), results=[PICTURE]),
    "u4-utf-16": midjourney(DONE, Answer(PACKED.decode().encode("utf-16")), results=[PICTURE]),
    "u4-gbk": midjourney(
        DONE,
        Answer(json.dumps({**MJ_TAKEN, "description": "提交成功"}, ensure_ascii=False).encode("gbk")),
        results=[PICTURE],
    ),
    "u4-callback": midjourney(
        SILENT, callbacks=[Called(body=gzip.compress(CALLBACK), headers={})], refreshed=False, results=[PICTURE]
    ),
    "u6-kie-jobs": Case(
        dialect="suno/kie-jobs",
        request=MUSIC,
        script={
            "POST /api/v1/jobs/createTask": [Answer({"code": 200, "msg": "success", "data": {"taskId": "k1"}})],
            "GET /api/v1/jobs/recordInfo": [
                Answer({"code": 422, "msg": "recordInfo is null"}),
                Answer({"code": 200, "data": {"taskId": "k1", "state": "generating"}}),
                Answer(
                    {
                        "code": 200,
                        "data": {
                            "taskId": "k1",
                            "state": "success",
                            "resultJson": json.dumps({"data": [{"id": "a", "audio_url": SONG}]}),
                        },
                    }
                ),
            ],
        },
        creates="POST /api/v1/jobs/createTask",
        results=[SONG],
    ),
    "u7-relative": midjourney([Answer(mj(imageUrl=f"/mj/image/{JOB}"))], results=[f"BASE/mj/image/{JOB}"]),
    "u7-internal": midjourney(
        [Answer(mj(imageUrl=f"http://new-api:3000/mj/image/{JOB}"))], results=[f"BASE/mj/image/{JOB}"]
    ),
    "u8-content": midjourney(
        [Answer(mj(status="FAILURE", imageUrl="", failReason="[Request cancelled] due to image filters"))],
        state="failed",
        failure="content_policy",
    ),
    "u8-technical": midjourney(
        [Answer(mj(status="FAILURE", imageUrl="", failReason="invalid character '<' looking for beginning of value"))],
        state="failed",
        failure="provider_error",
    ),
    "u9-origin-down": midjourney(
        DONE, Answer(PAGE, 521, {"Content-Type": "text/html"}), state="queued", refreshed=False, bought=None
    ),
    "u9-challenge": midjourney(
        DONE,
        Answer(CHALLENGE, 403, {"cf-mitigated": "challenge", "Content-Type": "text/html"}),
        state="queued",
        refreshed=False,
        bought=None,
    ),
    "u9-redirect": midjourney(
        DONE,
        Answer(b"", 308, {"Location": "https://other.example/mj/submit/imagine"}),
        state="failed",
        refreshed=False,
        says="base_url redirects to https://other.example",
    ),
    "u11-documents-in-texts": midjourney(
        [Answer(mj(buttons=json.dumps([{"customId": "MJ::1", "label": "U1"}]), properties="{}"))],
        results=[PICTURE],
        says="MJ::1",
    ),
    "u12-put": midjourney(
        SILENT, callbacks=[Called(body=CALLBACK, method="PUT", slash="/")], refreshed=False, results=[PICTURE]
    ),
    "u12-form": midjourney(
        SILENT,
        callbacks=[
            Called(
                body=urlencode({"data": CALLBACK.decode()}).encode(),
                headers={"Content-Type": "application/x-www-form-urlencoded"},
            )
        ],
        refreshed=False,
        results=[PICTURE],
    ),
    "u12-json-in-json": midjourney(
        SILENT, callbacks=[Called(body=json.dumps(CALLBACK.decode()).encode())], refreshed=False, results=[PICTURE]
    ),
    "s10-key-in-an-error": midjourney(
        DONE,
        Answer(('{"code":4,"description":"bad key ' + KEY.replace("/", "\\/") + '"}').encode(), 400),
        state="failed",
        refreshed=False,
        says="[redacted]",
    ),
}


def serving(folder: Path, database_url: str, upstream: ScriptedUpstream) -> Served:
    """Return a server with an upstream for each case. It is not started yet."""
    (port,) = free_ports(1)
    tables = [
        f'[upstreams."{name}"]\nbase_url = "{upstream.base_url(name)}"\nkey = "{KEY}"\n'
        f'dialects = ["{case.dialect}"]\ntypical_seconds = 3600\n'
        for name, case in CASES.items()
    ]
    (folder / "dovecote.toml").write_text("\n".join(tables), encoding="utf-8")
    settings = {
        "DOVECOTE_CONFIG": str(folder / "dovecote.toml"),
        "DOVECOTE_DATABASE_URL": database_url,
        "DOVECOTE_HOST": LOOPBACK,
        "DOVECOTE_PORT": str(port),
        "DOVECOTE_PUBLIC_URL": f"http://{LOOPBACK}:{port}",
    }
    return Served("faults", ("serve",), {**clean_environment(), **settings}, port, folder, "/readyz")


async def play(name: str, client: httpx.AsyncClient, upstream: ScriptedUpstream) -> str | None:
    """Play a case to its end. Return the first violation, or None."""
    case = CASES[name]
    family, operation, given = case.request
    request = {"family": family, "operation": operation, "input": given, "upstream": name}
    made = await client.post("/v1/tasks", json=request)
    if made.status_code != httpx.codes.ACCEPTED:
        return made.text
    path, left, task = f"/v1/tasks/{made.json()['id']}", list(case.callbacks), dict[str, Any]()
    try:
        async with asyncio.timeout(LIMIT):
            while not _is_over(case, task, created(case, upstream.asked[name])):
                task = (await client.get(path)).json()
                if task["state"] in {"submitted", "running", "unconfirmed"}:
                    if left:
                        await _call_back(left.pop(0), callback_url(upstream.asked[name][0].document))
                    elif case.refreshed:
                        await client.post(f"{path}/refresh")
                await asyncio.sleep(0.02)
    except TimeoutError:
        return f"still {task}"
    return wrong_with(case, task, upstream.asked[name], upstream.url)


def _is_over(case: Case, task: Mapping[str, Any], bought: int) -> bool:
    """Return whether the task is in its expected state. A task that is retried counts once it has been retried."""
    if case.bought is None:
        return bool(task) and bought > 0 and task["state"] == case.state
    return bool(task) and task["state"] in {case.state, "succeeded", "failed", "cancelled"}


def created(case: Case, asked: Sequence[Any]) -> int:
    """Count the requests that create a job."""
    return sum(f"{each.method} {each.path}".startswith(case.creates) for each in asked)


def callback_url(body: Any) -> str:
    """Return the callback URL that the upstream received."""
    return str(body.get("notifyHook") or body.get("callback_url"))


async def _call_back(called: Called, url: str) -> None:
    async with httpx.AsyncClient(timeout=LIMIT, trust_env=False) as provider:
        answer = await provider.request(called.method, url + called.slash, content=called.body, headers=called.headers)
        assert answer.status_code == httpx.codes.OK, answer.text


def wrong_with(case: Case, task: Mapping[str, Any], asked: Sequence[Any], url: str) -> str | None:
    """Return the first difference from the expectation of the case."""
    shown = json.dumps(task, ensure_ascii=False)
    urls = [result["url"] for result in task.get("results") or [] if result["role"] == "result"]
    wanted = None if case.results is None else [each.replace("BASE", url) for each in case.results]
    faults = {
        "state": task["state"] != case.state,
        "results": wanted is not None and urls != wanted,
        "failure": case.failure is not None and (task.get("failure") or {}).get("code") != case.failure,
        "text": case.says is not None and case.says not in shown,
        "key": KEY in shown,
        "creates": case.bought is not None and created(case, asked) != case.bought,
    }
    found = [name for name, is_wrong in faults.items() if is_wrong]
    return f"{', '.join(found)}: {shown}" if found else None


async def test_faults_of_upstreams_end_as_they_should(sqlite_url: str, tmp_path: Path) -> None:
    async with ScriptedUpstream.running({name: case.script for name, case in CASES.items()}) as upstream:
        served = serving(tmp_path, sqlite_url, upstream)
        with ProcessGroup() as group:
            await started(group, served)
            async with client_of(served) as client:
                found = await asyncio.gather(*(play(name, client, upstream) for name in CASES))
            wrong = {name: fault for name, fault in zip(CASES, found, strict=True) if fault is not None}
            assert wrong == {}
            assert "Traceback" not in served.log.read_text()
