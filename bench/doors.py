"""Measure a submit at every door against the same submit at Dovecote's own API: ``python -m bench doors``.

One server with every door on is loaded over one database. Each door and the native route with the same operation and input take
turns, in short slices, and the order is reversed in every other round. So both meet the same tables and the same
neighbours on the machine. The table shows medians of the server's CPU time for each request.

*native* is ``POST /v1/tasks`` with an idempotency key. A request at a door is what its client sends, with its headers. The
process only serves (``serve --role web``), so that no work behind the submit counts. Doors that hold a request until its result
is there are measured in a stream, which begins at once, or not at all.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Sequence
from typing import Any, get_args

import orjson

from bench import databases, doors_in_process, load, seeds
from bench.report import DATABASES, table
from bench.requests import DOORS, Contestant, dovecote_settings, serving

NUMBER = "@@"
"""Where a template has the number of the request."""
WARM_UP = 0.25
REQUESTS = 64
"""Requests of one round within this process."""
_PROMPT = f"a dove comes home, take {NUMBER}"
_STAINLESS = {
    "x-stainless-lang": "python",
    "x-stainless-package-version": "3.57.0",
    "x-stainless-os": "Linux",
    "x-stainless-arch": "x64",
    "x-stainless-runtime": "CPython",
    "x-stainless-runtime-version": "3.11.7",
    "x-stainless-async": "false",
    "x-stainless-retry-count": "0",
    "x-stainless-read-timeout": "600",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A submit at a door, and the same submit at the native route."""

    name: str
    path: str
    body: Any
    """A document; a text is the body of a form."""
    native: dict[str, Any]
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    """Headers of its client."""


def _form(**fields: str) -> str:
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    ]
    return "".join(parts) + "--b--\r\n"


def _native(family: str, operation: str, **given: Any) -> dict[str, Any]:
    return {"family": family, "operation": operation, "input": given}


_RUNWAY = _native("runway", "text_to_video", prompt=_PROMPT, model="gen4.5", aspect_ratio="1280:720", duration=5)
_MODEL_INPUT = {"prompt": _PROMPT, "num_outputs": 1}
ENTRIES = (
    Entry(
        name="runwayml",
        path="/runwayml/v1/text_to_video",
        body={"model": "gen4.5", "promptText": _PROMPT, "ratio": "1280:720", "duration": 5},
        native=_RUNWAY,
        headers={"User-Agent": "RunwayML/Python 5.24.0", "X-Runway-Version": "2024-11-06", **_STAINLESS},
    ),
    Entry(
        name="runway_gateway",
        path="/runway/pro/generate",
        body={"prompt": _PROMPT, "model": "gen4.5", "options": {"seconds": 5}, "ratio": "1280:720"},
        native=_RUNWAY,
    ),
    Entry(
        name="midjourney",
        path="/mj/submit/imagine",
        body={"prompt": _PROMPT, "botType": "MID_JOURNEY", "base64Array": []},
        native=_native("midjourney", "imagine", prompt=_PROMPT, bot="midjourney"),
    ),
    Entry(
        name="suno",
        path="/suno/submit/music",
        body={"gpt_description_prompt": _PROMPT, "mv": "chirp-v5", "make_instrumental": False},
        native=_native("suno", "music", prompt=_PROMPT, model="chirp-v5"),
    ),
    Entry(
        name="openai videos, JSON",
        path="/openai/v1/videos",
        body={"model": "sora-2", "prompt": _PROMPT, "seconds": "8", "size": "1280x720"},
        native={
            **_native("openai", "text_to_video", prompt=_PROMPT, model="sora-2", duration=8),
            "options": {"size": "1280x720"},
        },
        headers={"User-Agent": "OpenAI/Python 3.57.0", **_STAINLESS},
    ),
    Entry(
        name="openai videos, form",
        path="/openai/v1/videos",
        body=_form(model="sora-2", prompt=_PROMPT, seconds="8", size="1280x720"),
        native={
            **_native("openai", "text_to_video", prompt=_PROMPT, model="sora-2", duration=8),
            "options": {"size": "1280x720"},
        },
        headers={"User-Agent": "OpenAI/Python 3.57.0", **_STAINLESS, "Content-Type": "multipart/form-data; boundary=b"},
    ),
    Entry(
        name="openai responses",
        path="/openai/v1/responses",
        body={"model": "gpt-6-luna", "input": _PROMPT, "background": True},
        native=_native("openai", "response", prompt=_PROMPT, model="gpt-6-luna"),
        headers={"User-Agent": "OpenAI/Python 3.57.0", **_STAINLESS},
    ),
    Entry(
        name="replicate",
        path="/replicate/v1/models/acme/doves/predictions",
        body={"input": _MODEL_INPUT},
        native=_native("replicate", "run", model="acme/doves", input=_MODEL_INPUT),
        headers={"User-Agent": "replicate-python/1.0.7"},
    ),
    Entry(
        name="fal",
        path="/fal/fal-ai/flux/dev",
        body=_MODEL_INPUT,
        native=_native("fal", "run", model="fal-ai/flux/dev", input=_MODEL_INPUT),
        headers={"User-Agent": "fal-client/1.0.3 (python)"},
    ),
    Entry(
        name="elkapi",
        path="/v1/task/submit",
        body={"model": "acme/doves", "input": _MODEL_INPUT},
        native=_native("any", "run", model="acme/doves", input=_MODEL_INPUT),
    ),
    Entry(
        name="newapi_video",
        path="/v1/video/generations",
        body={"model": "kling-v2-master", "prompt": _PROMPT, "duration": 5},
        native=_native("kling", "text_to_video", prompt=_PROMPT, model="kling-v2-master", duration=5),
    ),
)
_UPSTREAMS = {
    "MANY": "openai/images,openai/chat,openai/responses,openai/audio,openai/videos,replicate/official,fal/queue,"
    "runway/official,midjourney/proxy,suno/newapi,any/elk-task,kling/aggregator",
}


def _template(port: int, path: str, body: Any, headers: dict[str, str]) -> tuple[str, str]:
    """Return the head and the body of a request, each with the place of its number."""
    kind = {} if "Content-Type" in headers else {"Content-Type": "application/json"}
    lines = {
        "Host": f"127.0.0.1:{port}",
        "User-Agent": "client/1.0",
        "Authorization": f"Bearer {seeds.API_KEY}",
        "Accept": "application/json",
        **kind,
        **headers,
    }
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return head, body if isinstance(body, str) else orjson.dumps(body).decode()


def _measure(server: Any, template: tuple[str, str], seconds: float) -> float:
    plan = load.Plan(
        kind="templates",
        port=server.port,
        pid=server.pid,
        head=template[0],
        body=template[1],
        api_key=seeds.API_KEY,
        warm_up=WARM_UP,
        seconds=seconds,
    )
    seen = load.measure(plan)
    if seen.errors:
        raise RuntimeError(f"{seen.errors} errors: {template[0].partition(' HTTP')[0]}")
    return seen.cpu


def _settings(upstream_url: str) -> dict[str, str]:
    found = {}
    for name, dialects in _UPSTREAMS.items():
        start = f"DOVECOTE_UPSTREAMS__{name}__"
        found |= {f"{start}BASE_URL": upstream_url, f"{start}KEY": "stand-in-key", f"{start}DIALECTS": dialects}
    return found


def main(arguments: Sequence[str]) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench doors", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="door", help=f"of {', '.join(each.name for each in ENTRIES)}")
    parser.add_argument("--rounds", type=int, default=5, help="how often everyone takes a turn (default 5)")
    parser.add_argument("--seconds", type=float, default=0.8, help="length of one slice (default 0.8)")
    parser.add_argument("--database", choices=get_args(databases.Kind), action="append", help="only this one")
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="without sockets and on SQLite, the lowest of each: for a busy machine",
    )
    given = parser.parse_args(arguments)
    entries = [each for each in ENTRIES if not given.names or each.name in given.names]
    kinds = tuple(kind for kind in databases.KINDS if not given.database or kind in given.database)
    rows = [["door", "native µs", "door µs", "more"]]
    if given.in_process:
        print(table(rows + _in_process(entries, given.rounds)))
        return
    with databases.opened(kinds) as opened:
        for kind in kinds:
            rows += _of_database(kind, opened, entries, given.rounds, given.seconds)
    print(table(rows))


def _in_process(entries: Sequence[Entry], rounds: int) -> list[list[str]]:
    url = "http://127.0.0.1:9"  # nothing is sent there
    environment = {**dovecote_settings("", 8080, url), **dict.fromkeys(DOORS, "true"), **_settings(url)}
    numbered = {"Idempotency-Key": NUMBER}
    pairs = {
        each.name: (
            _template(8080, "/v1/tasks", each.native, numbered),
            _template(8080, each.path, each.body, each.headers),
        )
        for each in entries
    }
    seen = doors_in_process.measure(pairs, environment, NUMBER, rounds=rounds, requests=REQUESTS)
    return doors_in_process.lowest(seen)


def _of_database(
    kind: databases.Kind, opened: databases.Databases, entries: Sequence[Entry], rounds: int, seconds: float
) -> list[list[str]]:
    seen: dict[tuple[str, bool], list[float]] = {}
    contestant = Contestant("dovecote web", kind, "web", doors=True)
    url = "http://127.0.0.1:9"  # nothing is sent there
    with serving(contestant, opened, url, _settings(url)) as (running, _):
        for number in range(rounds):
            for entry in entries if number % 2 == 0 else reversed(entries):
                for at_door in (False, True) if number % 2 == 0 else (True, False):
                    run = f"{time.time_ns()}-{NUMBER}"
                    template = (
                        _template(running[0].port, entry.path, entry.body, entry.headers)
                        if at_door
                        else _template(running[0].port, "/v1/tasks", entry.native, {"Idempotency-Key": run})
                    )
                    seen.setdefault((entry.name, at_door), []).append(_measure(running[0], template, seconds))
    rows = []
    for entry in entries:
        native, door = (statistics.median(seen[entry.name, at_door]) for at_door in (False, True))
        ratio = statistics.median(
            mine / theirs for mine, theirs in zip(seen[entry.name, True], seen[entry.name, False], strict=True)
        )
        rows.append(
            [f"{DATABASES[kind]}: {entry.name}", f"{native:,.0f}", f"{door:,.0f}", f"{(ratio - 1) * 100:+.0f} %"]
        )
    return rows
