"""Run the demo: submit the tasks, watch them, and kill Dovecote once, at the worst moment."""

import dataclasses
import hashlib
import time
from collections.abc import Callable
from typing import Any, Final

import httpx

from dovecote import Client
from service.cli.demo.seen import Played, Seen, settled, worst_moment
from service.cli.demo.stage import Stage
from service.cli.demo.story import DELETED, KILLED, SCENES, Scene
from service.cli.processes import NotStarted, Served

LIMIT: Final = 240.0
"""Seconds that the whole demo may take."""
_INTERVAL: Final = 0.15
_QUIET: Final = 0.5
"""Seconds after the end in which no further message may come."""
_QUICK: Final = 0.2
_THERE: Final = 200
_DEAD: Final = 1.0
"""Seconds until Dovecote is started again, as a supervisor would: callbacks that arrive meanwhile are refused."""

Show = Callable[[Seen], None]


class Play:
    """One run of the demo."""

    def __init__(self, stage: Stage, show: Show, *, began: float) -> None:
        """Prepare.

        :param show: called with every new observation
        :param began: the monotonic time of the start
        """
        self._stage = stage
        self._show = show
        self._began = began
        self._api = Client(stage.dovecote.url, api_key="")
        self._others = httpx.Client(trust_env=False, timeout=5.0)
        self._ids: dict[str, str] = {}
        self._seen = Seen()
        self._dead_until: float | None = None

    def run(self) -> Seen:
        """Run until everything has settled or the time is up, and return the last observation.

        :raises NotStarted: when a process ends unexpectedly
        :raises DovecoteError: when Dovecote refuses a task
        """
        with self._api, self._others:
            for scene in SCENES:
                self._submit(scene)
            killed = next(scene for scene in SCENES if scene.name == KILLED)
            while self._observe().at < LIMIT and not settled(self._seen):
                if self._seen.killed_at is None and worst_moment(self._seen, killed):
                    self._kill()
                self._revive()
                time.sleep(_INTERVAL)
            time.sleep(_QUIET)
            self._observe()
            return dataclasses.replace(self._seen, histories=self._histories(), played=self._play_deleted())

    def _submit(self, scene: Scene) -> None:
        task = self._api.submit(
            scene.family,
            scene.operation,
            input={"prompt": scene.prompt, **scene.more},
            labels={"scene": scene.name},
            upstream=scene.upstream,
            callback_url=f"{self._stage.receiver.url}/done",
            idempotency_key=scene.name,
        )
        self._ids[task.id] = scene.name

    def _kill(self) -> None:
        self._stage.dovecote.kill()
        self._dead_until = self._now() + _DEAD
        self._seen = dataclasses.replace(self._seen, killed_at=self._now(), up=False)
        self._show(self._seen)

    def _revive(self) -> None:
        if self._dead_until is not None and self._now() > self._dead_until:
            self._dead_until = None
            self._stage.dovecote.start()

    def _observe(self) -> Seen:
        """Observe all three processes: the ledger before the tasks, and the messages after them (see worst_moment)."""
        ledger = self._fetch(self._stage.sandbox, "/sandbox/ledger")
        up = self._dead_until is None and self._stage.dovecote.ready(_QUICK)
        tasks = dict(self._seen.tasks)
        if up:
            for task in self._api.page(limit=100).items:
                tasks[self._ids[task.id]] = task.document
        messages = self._fetch(self._stage.receiver, "/receiver/received")
        back_at = self._seen.back_at
        if up and self._seen.killed_at is not None and back_at is None:
            back_at = self._now()
        self._seen = dataclasses.replace(
            self._seen, at=self._now(), up=up, back_at=back_at, ledger=ledger, tasks=tasks, messages=messages
        )
        self._show(self._seen)
        return self._seen

    def _histories(self) -> dict[str, Any]:
        if not self._seen.up:
            return {}
        return {name: [event.document for event in self._api.history(task_id)] for task_id, name in self._ids.items()}

    def _play_deleted(self) -> Played | None:
        """Wait until the provider has deleted a film, and play its kept copy."""
        task = self._seen.tasks.get(DELETED)
        if not self._seen.up or task is None or not task["results"]:
            return None
        result = task["results"][0]
        original = self._others.get(result["url"]).status_code
        while original == _THERE and self._now() < LIMIT:
            time.sleep(_INTERVAL)
            original = self._others.get(result["url"]).status_code
        copy = self._others.get(result.get("content_url") or self._stage.dovecote.url)
        matches = hashlib.sha256(copy.content).hexdigest() == result.get("sha256")
        return Played(original, copy.status_code, matches)

    def _fetch(self, served: Served, path: str) -> Any:
        try:
            return self._others.get(served.url + path).raise_for_status().json()
        except httpx.HTTPError as error:
            raise NotStarted(f"{served.name} does not respond any more: {error}") from error

    def _now(self) -> float:
        return time.monotonic() - self._began
