"""Plays back what an upstream really said: a recording of ``dovecote record``, with new ids for each new job.

A job of the recording is its creation, its polls and its callbacks, each with the seconds since the creation. A request to create takes
the next recorded job of its path. A request that names one of the new ids is answered as the upstream answered at that age.
"""

import asyncio
import contextlib
import re
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from random import choices
from typing import Any, Final
from urllib.parse import unquote

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.sandbox.callbacks import HttpSender, Send

CALLBACK: Final = "${callback_url}"
"""Stands in a recording for the address that the provider was given."""
FORMAT: Final = 1
_METHODS: Final = ["DELETE", "GET", "PATCH", "POST", "PUT"]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Answered(_Data):
    """One request and its answer."""

    method: str
    path: str
    """With the query."""
    after: float = 0.0
    """Seconds since the creation of the job."""
    status: int
    content_type: str = "application/json"
    body: str


class CalledBack(_Data):
    """One callback of the provider."""

    after: float
    body: str


class RecordedJob(_Data):
    """Everything that the upstream said about one job."""

    ids: list[str]
    """Every name of the job that its creation returned, and later requests or callbacks used."""
    callback: str = ""
    """The field of the request with the callback URL, as a dotted path."""
    create: Answered
    polls: list[Answered] = Field(default_factory=list)
    callbacks: list[CalledBack] = Field(default_factory=list)


class Recording(_Data):
    """The jobs and the other answers of one upstream."""

    format: int = FORMAT
    upstream: str
    jobs: list[RecordedJob] = Field(default_factory=list)
    others: list[Answered] = Field(default_factory=list)
    """Requests about no job, such as those for the models or the balance."""


@dataclass(slots=True)
class _Live:
    """A job that is played back."""

    recorded: RecordedJob
    ids: Mapping[str, str]
    """New id by recorded id."""
    began: float
    callback_url: str

    def fill(self, text: str) -> str:
        """Return a recorded text with the new ids and the new callback URL."""
        for before, after in self.ids.items():
            text = text.replace(before, after)
        return text.replace(CALLBACK, self.callback_url)


class Rehearsal:
    """An ASGI application that plays a recording back.

    :param speed: how many recorded seconds pass in one
    """

    def __init__(
        self,
        recording: Recording,
        *,
        speed: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        send: Send | None = None,
    ) -> None:
        self._recording = recording
        self._speed = speed
        self._clock = clock
        self._sender = HttpSender()
        self._send = send or self._sender
        self._live: list[_Live] = []
        self._taken: dict[str, int] = defaultdict(int)
        self._calling: set[asyncio.Task[None]] = set()
        self.app = Starlette(routes=[Route("/{path:path}", self._serve, methods=_METHODS)], lifespan=self._lifespan)

    async def _serve(self, request: Request) -> Response:
        text = (await request.body()).decode("utf-8", "replace")
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        live = self._named_in(f"{unquote(path)} {text}")
        if live is not None:
            found = self._poll(live, request.method, path)
            return _not_recorded(request.method, path) if found is None else _response(found, live.fill(found.body))
        created = self._create(request.method, request.url.path, text)
        if created is not None:
            answer = created.recorded.create
            if 200 <= answer.status < 300:  # noqa: PLR2004 - a job was made
                self._live.append(created)
                self._call_back(created)
            return _response(answer, created.fill(answer.body))
        other = self._other(request.method, path)
        return _not_recorded(request.method, path) if other is None else _response(other, other.body)

    def _named_in(self, text: str) -> _Live | None:
        """Return the newest job that a request names."""
        named = (live for live in reversed(self._live) if any(new in text for new in live.ids.values()))
        return next(named, None)

    def _poll(self, live: _Live, method: str, path: str) -> Answered | None:
        """Return the answer that the upstream gave at this age: the last one so far, or the first."""
        age = (self._clock() - live.began) * self._speed
        same = [each for each in live.recorded.polls if each.method == method and live.fill(each.path) == path]
        past = [each for each in same if each.after <= age]
        return past[-1] if past else next(iter(same), None)

    def _create(self, method: str, path: str, text: str) -> _Live | None:
        """Return the next recorded job of a path as a new one."""
        same = [
            each
            for each in self._recording.jobs
            if (each.create.method, each.create.path.partition("?")[0]) == (method, path)
        ]
        if not same:
            return None
        key = f"{method} {path}"
        recorded = same[self._taken[key] % len(same)]
        self._taken[key] += 1
        ids = {each: _like(each) for each in sorted(recorded.ids, key=len, reverse=True)}
        return _Live(recorded, ids, self._clock(), _at(text, recorded.callback))

    def _other(self, method: str, path: str) -> Answered | None:
        """Return the latest answer to a request about no job."""
        same = [each for each in self._recording.others if each.method == method]
        exact = [each for each in same if each.path == path]
        alike = [each for each in same if each.path.partition("?")[0] == path.partition("?")[0]]
        return next(reversed(exact or alike), None)

    def _call_back(self, live: _Live) -> None:
        if live.callback_url:
            task = asyncio.create_task(self._send_callbacks(live))
            self._calling.add(task)
            task.add_done_callback(self._calling.discard)

    async def _send_callbacks(self, live: _Live) -> None:
        """Send the callbacks of a job, each at its recorded age."""
        for each in live.recorded.callbacks:
            await asyncio.sleep(max(each.after / self._speed - (self._clock() - live.began), 0.0))
            await self._send(live.callback_url, live.fill(each.body).encode())

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        for task in self._calling:
            task.cancel()
        await asyncio.gather(*self._calling, return_exceptions=True)
        await self._sender.aclose()


def _response(answered: Answered, body: str) -> Response:
    return Response(body, answered.status, media_type=answered.content_type)


def _not_recorded(method: str, path: str) -> Response:
    said = {"error": {"code": "not_recorded", "message": f"this recording has no answer to {method} {path[:200]}"}}
    return Response(orjson.dumps(said), 404, media_type="application/json")


def _like(recorded: str) -> str:
    """Return a new id of the same form."""
    if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", recorded):
        return str(uuid.uuid4())
    if recorded.isdecimal():
        return "9" + "".join(choices("0123456789", k=len(recorded) - 1))  # noqa: S311 - no secret
    return "".join(each if not each.isalnum() else choices(_alphabet(each))[0] for each in recorded)  # noqa: S311


def _alphabet(character: str) -> str:
    return "0123456789" if character.isdecimal() else "abcdef" if character.islower() else "ABCDEF"


def _at(text: str, path: str) -> str:
    """Return the text at a dotted path of a JSON document; empty where there is none."""
    if not path:
        return ""
    try:
        found: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        return ""
    for name in path.split("."):
        if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else ""


def base_paths(recording: Recording) -> Iterable[str]:
    """Return the paths of the recording's creations, for a message to its user."""
    return dict.fromkeys(each.create.path.partition("?")[0] for each in recording.jobs)
