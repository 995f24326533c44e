"""An observation from outside: Dovecote's tasks, the provider's ledger, the client's messages."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from service.cli.demo.story import SCENES, Scene
from service.domain.task import ENDED, State

Document = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Played:
    """A film at the provider, and its kept copy."""

    status_of_original: int
    status_of_copy: int
    matches: bool
    """Whether the copy has the hash that Dovecote states."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One observation."""

    at: float = 0.0
    """Seconds since the start."""
    up: bool = True
    """Whether Dovecote responds."""
    killed_at: float | None = None
    back_at: float | None = None
    tasks: Mapping[str, Document] = dataclasses.field(default_factory=dict)
    """By the name of the scene: the task as Dovecote last showed it."""
    histories: Mapping[str, Sequence[Document]] = dataclasses.field(default_factory=dict)
    """By the name of the scene: its events; read at the end only."""
    ledger: Document = dataclasses.field(default_factory=dict)
    messages: Sequence[Document] = ()
    played: Played | None = None
    """A film that the provider has deleted, and its copy; observed at the end only."""

    @property
    def jobs(self) -> Sequence[Document]:
        """Every job that the provider accepted."""
        found: Sequence[Document] = self.ledger.get("jobs", ())
        return found

    @property
    def paid(self) -> Counter[str]:
        """Number of jobs that were paid for, by prompt."""
        return Counter(job["prompt"] for job in self.jobs if job["paid"])

    @property
    def submits(self) -> int:
        """Number of submissions that the provider received."""
        requests = self.ledger.get("requests", {})
        return sum(int(requests.get(route, 0)) for route in _ROUTES)

    @property
    def callbacks(self) -> Counter[str]:
        """Number of callbacks that were sent, by prompt."""
        return Counter({job["prompt"]: job["callbacks_sent"] for job in self.jobs})

    @property
    def callbacks_lost(self) -> int:
        """Number of callbacks that nothing received."""
        return list(itertools.chain.from_iterable(job["callback_statuses"] for job in self.jobs)).count(0)

    @property
    def verified(self) -> Mapping[str, Sequence[Document]]:
        """The messages that the client received and verified, by task id."""
        found: dict[str, list[Document]] = {}
        for message in self.messages:
            if message["verified"]:
                found.setdefault(message["task_id"], []).append(message)
        return found

    def state(self, scene: Scene) -> str:
        """Return the state of a scene's task; empty before it was submitted."""
        task = self.tasks.get(scene.name)
        return "" if task is None else str(task["state"])

    @property
    def copies(self) -> Counter[str]:
        """Number of results by what became of their copies."""
        results = itertools.chain.from_iterable(task["results"] for task in self.ended)
        return Counter(each["kept"] for each in results if "kept" in each)

    @property
    def ended(self) -> list[Document]:
        """The tasks that have ended."""
        return [task for task in self.tasks.values() if task["state"] in ENDED]

    def fate(self, scene: Scene) -> list[str]:
        """Return the events of a scene's task, without those that every task has."""
        events = [event["type"] for event in self.histories.get(scene.name, ())]
        return [event for event in events if event not in _EVERYDAY]

    def proven_by(self, scene: Scene) -> str | None:
        """Return the source of the event that brought the id of a scene's job."""
        bringing = (event["source"] for event in self.histories.get(scene.name, ()) if "external_id" in event["data"])
        return next(bringing, None)


_ROUTES: Final = {route for scene in SCENES for route in (scene.route, *scene.then)}
_EVERYDAY: Final = frozenset(
    {
        "accepted",
        "queued",
        "submitting",
        "submitted",
        "running",
        "progress",
        "details",
        "results_kept",
        "settled",
        "cost_corrected",
    }
)


def worst_moment(seen: Seen, killed: Scene) -> bool:
    """Return whether a purchase is in flight: the provider has accepted the job, and Dovecote has not stored its id yet.

    Every other task must have been submitted, so that the kill affects this one only.
    """
    waiting = {"", State.QUEUED, State.SUBMITTING}
    submitted = all(seen.state(scene) not in waiting for scene in SCENES if scene is not killed)
    reported = all(task["id"] in seen.verified for task in seen.ended)
    sent = seen.submits >= len(SCENES) and bool(seen.paid[killed.prompt])
    return seen.up and submitted and reported and sent and seen.state(killed) == State.SUBMITTING


def settled(seen: Seen) -> bool:
    """Return whether everything has settled: all tasks have ended, all callbacks and messages were sent."""
    return (
        seen.up
        and len(seen.ended) == len(SCENES)
        and all(seen.callbacks[scene.prompt] >= scene.callbacks for scene in SCENES)
        and all(task["id"] in seen.verified for task in seen.ended)
        and not seen.copies["pending"]
    )
