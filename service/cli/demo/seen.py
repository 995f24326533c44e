"""What can be seen from outside at one moment: Dovecote's tasks, the provider's ledger, the client's messages."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from service.cli.demo.story import SCENES, Scene
from service.domain.task import ENDED, State

Document = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The whole of it, as of one moment."""

    at: float = 0.0
    """Seconds since the demo began."""
    up: bool = True
    """Whether Dovecote answers."""
    killed_at: float | None = None
    back_at: float | None = None
    tasks: Mapping[str, Document] = dataclasses.field(default_factory=dict)
    """By the name of the scene: as Dovecote showed it last."""
    histories: Mapping[str, Sequence[Document]] = dataclasses.field(default_factory=dict)
    """By the name of the scene: its events; looked at in the end only."""
    ledger: Document = dataclasses.field(default_factory=dict)
    messages: Sequence[Document] = ()

    @property
    def jobs(self) -> Sequence[Document]:
        """Every job that the provider took."""
        found: Sequence[Document] = self.ledger.get("jobs", ())
        return found

    @property
    def paid(self) -> Counter[str]:
        """How many jobs were paid for, by prompt."""
        return Counter(job["prompt"] for job in self.jobs if job["paid"])

    @property
    def submits(self) -> int:
        """How often the provider was asked for a job."""
        requests = self.ledger.get("requests", {})
        return sum(int(requests.get(route, 0)) for route in _ROUTES)

    @property
    def callbacks(self) -> Counter[str]:
        """How many callbacks were sent, by prompt."""
        return Counter({job["prompt"]: job["callbacks_sent"] for job in self.jobs})

    @property
    def callbacks_lost(self) -> int:
        """How many callbacks found nobody there."""
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
        """Tell the state of a scene's task; empty before it was submitted."""
        task = self.tasks.get(scene.name)
        return "" if task is None else str(task["state"])

    @property
    def ended(self) -> list[Document]:
        """The tasks that have ended."""
        return [task for task in self.tasks.values() if task["state"] in ENDED]

    def fate(self, scene: Scene) -> list[str]:
        """List what happened to a scene's task, without what happens to any task."""
        events = [event["type"] for event in self.histories.get(scene.name, ())]
        return [event for event in events if event not in _EVERYDAY]

    def proven_by(self, scene: Scene) -> str | None:
        """Tell who brought the id of a scene's job."""
        bringing = (event["source"] for event in self.histories.get(scene.name, ()) if "external_id" in event["data"])
        return next(bringing, None)


_ROUTES: Final = {route for scene in SCENES for route in (scene.route, *scene.then)}
_EVERYDAY: Final = frozenset({"accepted", "queued", "submitting", "submitted", "running", "progress", "details"})


def worst_moment(seen: Seen, killed: Scene) -> bool:
    """Whether a purchase is on its way: the provider has taken the job, and Dovecote has not heard so yet.

    The others must have been handed over, or nobody could tell what the kill has done to which.
    """
    handed_over = all(
        seen.state(scene) not in {"", State.SUBMITTING} and (seen.state(scene) != State.QUEUED or scene.refusals)
        for scene in SCENES
        if scene is not killed
    )
    told = all(task["id"] in seen.verified for task in seen.ended)
    sent = seen.submits >= len(SCENES) and bool(seen.paid[killed.prompt])
    return seen.up and handed_over and told and sent and seen.state(killed) == State.SUBMITTING


def settled(seen: Seen) -> bool:
    """Whether nothing more is to come: all tasks have ended, all callbacks are sent, all clients are told."""
    return (
        seen.up
        and len(seen.ended) == len(SCENES)
        and all(seen.callbacks[scene.prompt] >= scene.callbacks for scene in SCENES)
        and all(task["id"] in seen.verified for task in seen.ended)
    )
