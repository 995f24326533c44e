"""Check the guarantees of the demo. Each is a sentence with its numbers, and the reasons why it did not hold."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

from service.cli.demo.money import bill
from service.cli.demo.play import LIMIT
from service.cli.demo.seen import Seen
from service.cli.demo.story import SCENES, Scene
from service.domain.task import ENDED, Source

_FOUND: Final = 200
_GONE: Final = 404


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One guarantee."""

    sentence: str
    broken: Sequence[str] = ()
    """The reasons why it did not hold."""

    @property
    def held(self) -> bool:
        """Whether the guarantee held."""
        return not self.broken


def judge(seen: Seen) -> list[Check]:
    """Check every guarantee against the last observation. Pure."""
    return [_fates(seen), _paid(seen), _reported(seen), _killed(seen), _kept(seen), _misbehaved(seen), _in_time(seen)]


def as_document(seen: Seen, checks: Sequence[Check]) -> dict[str, Any]:
    """Return the summary as JSON."""
    return {
        "held": all(check.held for check in checks),
        "checks": [{"promise": check.sentence, "held": check.held, "broken": list(check.broken)} for check in checks],
        "tasks": [_fate(seen, scene) for scene in SCENES if scene.name in seen.tasks],
        "jobs_paid": seen.paid.total(),
        "tasks_submitted": len(seen.tasks),
        "webhooks_verified": sum(map(len, seen.verified.values())),
        "tasks_ended": len(seen.ended),
        "seconds": round(seen.at, 1),
    }


def _fate(seen: Seen, scene: Scene) -> dict[str, Any]:
    task = seen.tasks[scene.name]
    return {
        "scene": scene.name,
        "goes_wrong": scene.title,
        "id": task["id"],
        "state": task["state"],
        "failure": task["failure"],
        "outcome_source": task["outcome_source"],
        "fate": seen.fate(scene),
        "explanation": task["explanation"],
        "money": dataclasses.asdict(bill(task)),
    }


def _fates(seen: Seen) -> Check:
    broken = [f"{scene.title}: {reason}" for scene in SCENES for reason in _wrong_with(seen, scene)]
    by = {
        source: sum(task["outcome_source"] == source for task in seen.ended)
        for source in (Source.CALLBACK, Source.POLL)
    }
    return Check(
        f"every task ended as expected: {len(seen.ended)} of {len(SCENES)}, "
        f"{by[Source.CALLBACK]} by callback, {by[Source.POLL]} by poll",
        broken,
    )


def _wrong_with(seen: Seen, scene: Scene) -> list[str]:
    task = seen.tasks.get(scene.name)
    if task is None or task["state"] not in ENDED:
        return ["never submitted" if task is None else f"still {task['state']}: {task['explanation']}"]
    wrong = []
    if task["state"] != scene.state or (task["failure"] or {}).get("code") != scene.code:
        wrong.append(f"should be {scene.state}, is {task['state']}: {task['explanation']}")
    if task["upstream"] != scene.served_by:
        wrong.append(f"should be served by {scene.served_by}, is by {task['upstream']}")
    if task["outcome_source"] not in scene.outcome_source:
        wrong.append(f"its outcome came by {task['outcome_source']}, which is not possible")
    if scene.proven_by not in {None, seen.proven_by(scene)}:
        wrong.append(f"its id came by {seen.proven_by(scene)}, not by {scene.proven_by}")
    if scene.through is not None and scene.through not in seen.fate(scene):
        wrong.append(f"was never {scene.through}")
    return wrong


def _paid(seen: Seen) -> Check:
    paid, refused = seen.paid, sum(scene.refusals for scene in SCENES)
    broken = [f"{scene.title}: {paid[scene.prompt]} jobs paid" for scene in SCENES if paid[scene.prompt] != 1]
    if seen.submits != len(SCENES) + refused:
        broken.append(f"{seen.submits} submits were sent for {len(SCENES)} tasks, of which {refused} had to be refused")
    return Check(f"jobs paid for = tasks submitted: {paid.total()} = {len(seen.tasks)}", broken)


def _reported(seen: Seen) -> Check:
    verified = seen.verified
    broken = [f"{len(seen.messages) - sum(map(len, verified.values()))} messages could not be verified"]
    if all(message["verified"] for message in seen.messages):
        broken = []
    for scene in SCENES:
        task = seen.tasks.get(scene.name, {})
        reported = [message["state"] for message in verified.get(task.get("id", ""), ())]
        if reported != [task.get("state")]:
            broken.append(f"{scene.title}: it is {task.get('state')}, and the client got {reported or 'nothing'}")
    count = sum(map(len, verified.values()))
    return Check(f"completion webhooks received and verified = tasks ended: {count} = {len(seen.ended)}", broken)


def _killed(seen: Seen) -> Check:
    if seen.killed_at is None or seen.back_at is None:
        never = "no submit was in flight" if seen.killed_at is None else "it did not start again"
        return Check("Dovecote was killed and started again", [never])
    return Check(
        f"killed with kill -9 at {seen.killed_at:.1f} s, with a purchase in flight, and back at {seen.back_at:.1f} s: "
        f"{seen.callbacks_lost} callbacks were not received, and nothing was lost"
    )


def _kept(seen: Seen) -> Check:
    copies, played = seen.copies, seen.played
    broken = [f"{count} files are {state}" for state, count in copies.items() if state != "kept"]
    if played is None:
        broken.append("there is no film to play")
    elif (played.status_of_original, played.status_of_copy, played.matches) != (_GONE, _FOUND, True):
        broken.append(
            f"the original answers HTTP {played.status_of_original}, the copy HTTP {played.status_of_copy}, "
            f"with the {'right' if played.matches else 'wrong'} hash"
        )
    return Check(
        f"files kept = files made: {copies['kept']} = {copies.total()}; a film that the provider has deleted was played from its copy",
        broken,
    )


def _misbehaved(seen: Seen) -> Check:
    broken = [
        f"{scene.title}: {seen.callbacks[scene.prompt]} callbacks sent, {scene.callbacks} planned"
        for scene in SCENES
        if seen.callbacks[scene.prompt] != scene.callbacks
    ]
    sent = seen.callbacks.total()
    return Check(f"the provider misbehaved as planned: {seen.submits} submits, {sent} callbacks sent", broken)


def _in_time(seen: Seen) -> Check:
    sentence = f"it took {seen.at:.0f} s of the {LIMIT:g} s that it may take"
    return Check(sentence, [] if seen.at < LIMIT else [f"it took {seen.at:.0f} s"])
