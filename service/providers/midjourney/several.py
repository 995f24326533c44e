"""Tasks that are several jobs at Midjourney's, and queries for several tasks."""

import dataclasses
from collections.abc import Mapping

from service.domain.task import Action, State, Task, Update
from service.providers.midjourney.record import is_task, read_task
from service.providers.midjourney.submitted import no_task
from service.providers.wire import Reply

_RANK = (None, State.AWAITING_INPUT, State.SUBMITTED, State.RUNNING, State.CANCELLED, State.FAILED, State.SUCCEEDED)
"""States in the order of a job's progress. new-api lists a task twice once its modal is answered, and only one row moves on."""


def read_list(reply: Reply) -> Mapping[str, Update]:
    """Read list-by-condition: updates by id; of several with one id the one that is furthest."""
    document = reply.document
    if not reply.ok or not isinstance(document, list):
        error = no_task(reply)
        if error.code == "not_found":  # no job or no such route is known: each task is queried singly
            return {}
        raise error
    read = [read_task(record) for record in document if is_task(record)]
    return {update.external_id: update for update in sorted(read, key=_progress_of) if update.external_id is not None}


def _progress_of(update: Update) -> int:
    return _RANK.index(update.state)


def jobs(task: Task) -> list[str]:
    """Return the provider's ids of a task: an answer may have joined several by commas ("Imagine all")."""
    return [job for part in (task.external_id or "").split(",") if (job := part.strip())]


def gathered(task: Task, known: Mapping[str, Update]) -> Update | None:
    """Return the update of a task; None where no job of it is known. A job that is not listed has no news."""
    ids = jobs(task)
    if not any(job in known for job in ids):
        return None
    if len(ids) == 1:
        return known[ids[0]]
    return _combined(task.external_id or "", {job: known.get(job, Update()) for job in ids})


def _combined(external_id: str, parts: Mapping[str, Update]) -> Update:
    """Return one update for several jobs: ended when all have ended, and succeeded if any has."""
    results = tuple(dataclasses.replace(each, item=job) for job, part in parts.items() for each in part.results)
    states = [part.state for part in parts.values()]
    ended = [state for state in states if state is not None and state.ended]
    known = [100 if part.state in ended else part.progress for part in parts.values()]
    progress = sum(percent or 0 for percent in known) // len(parts) if any(known) else None
    if len(ended) < len(parts):
        previews = tuple(each for each in results if each.role == "preview")
        running = ended or State.RUNNING in states
        state = State.RUNNING if running else State.SUBMITTED if State.SUBMITTED in states else None
        return Update(state=state, external_id=external_id, progress=progress, results=previews)
    best = max(parts.values(), key=_progress_of)
    actions = tuple(
        Action(f"{job} {action.id}", f"{number}: {action.label}")
        for number, (job, part) in enumerate(parts.items(), 1)
        for action in part.actions
    )
    return dataclasses.replace(best, external_id=external_id, progress=progress, results=results, actions=actions)
