"""Suno by kie.ai's task API (/api/v1/jobs), which serves the models V6 and all newer operations."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from service.domain.task import State, Task, Update
from service.domain.validation import Mistake
from service.providers import kie_envelope
from service.providers.dialect import Dialect, Facts, merge
from service.providers.read import fields, identifier
from service.providers.suno import vendor
from service.providers.suno.family import (
    NO_SUBJECT,
    RECORDINGS,
    TYPICAL_SECONDS,
    clip_of,
    inherited_from,
    inline_recording,
    too_long,
)
from service.providers.wire import BalanceExchange, Call, Callback, Reply

_CREATE = "/api/v1/jobs/createTask"
_MODELS = {
    "music": "ai-music-api/generate",
    "infill": "ai-music-api/replace-section",
    "persona": "ai-music-api/generate-persona",
    "cover_audio": "ai-music-api/upload-and-cover-audio",
    "extend_audio": "ai-music-api/upload-and-extend-audio",
}
"""The market model of each operation. Others are reached by ``options.model`` and ``options.input``."""
_SAME = {
    "prompt": "prompt",
    "lyrics": "lyrics",
    "style": "style",
    "title": "title",
    "negative_prompt": "negative_tags",
    "vocal_gender": "vocal_gender",
    "style_weight": "style_weight",
    "weirdness": "weirdness_constraint",
    "audio_weight": "audio_weight",
    "duration": "duration",
    "start": "infill_start_s",
    "end": "infill_end_s",
    "name": "name",
    "description": "description",
    "audio": "upload_url",
    "continue_at": "continue_at",
}
_FIELDS = frozenset({*_SAME, "instrumental", "model", "clip"})
_MODEL = "V6"
_LONG_MODELS = ("V5_5", "V6")
"""The models that take a duration, by their start."""


class KieJobs(Dialect):
    """POST /api/v1/jobs/createTask and GET /api/v1/jobs/recordInfo of kie.ai.

    A callback has the form of a record. Its signature covers no more than the id and the time: a poll confirms it.
    """

    facts = Facts(
        family="suno",
        name="kie-jobs",
        operations=dict.fromkeys(_MODELS, _CREATE),
        callbacks=True,
        confirms=True,
        signs=True,
        cost_unit="credits",
        refunds=True,
        models_are_listed=False,  # the list names the operation, not Suno's versions
        reserved=frozenset({"callback_url", "callBackUrl"}),
        typical_seconds={name: TYPICAL_SECONDS.get(name, 60.0) for name in _MODELS} | dict.fromkeys(RECORDINGS, 120.0),
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        mapped = {"model": _MODELS[task.operation], "callBackUrl": callback_url, "input": _input(task)}
        return Call(method="POST", path=_CREATE, json=merge(mapped, task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the record."""
        return Call(method="GET", path=f"/api/v1/jobs/recordInfo?taskId={quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: an id. A refusal has a ``code``, at any HTTP status."""
        job = identifier(fields(fields(reply.document).get("data")).get("taskId"))
        if not reply.ok or not kie_envelope.agrees(reply.document) or job is None:
            raise kie_envelope.refusal_of(reply, creating=True)
        return Update(state=State.SUBMITTED, external_id=job)

    def read_status(self, reply: Reply) -> Update:
        """Read the record."""
        return vendor.read_status(reply)

    def from_parent(self, task: Task, parent: Task) -> Mapping[str, Any] | list[Mistake]:
        """Return the clip and its task."""
        return inherited_from(task, parent)

    def balance(self) -> BalanceExchange:
        """Request the credits."""
        return kie_envelope.credits_left("/api/v1/chat/credit")

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: a record."""
        return vendor.read_callback(callback)

    def verify_signature(self, callback: Callback, secret: str | None) -> bool | None:
        """Return whether kie.ai's signature is right, where its key is set."""
        return kie_envelope.signature_is_right(callback, secret)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what kie.ai's pages rule out."""
        found = super().validate(task)
        return found + _mistakes(task) if task.operation in self.facts.operations else found


def _input(task: Task) -> dict[str, Any]:
    """Return the input of a market model."""
    given = task.input
    body: dict[str, Any] = {theirs: given[ours] for ours, theirs in _SAME.items() if ours in given}
    if task.operation == "music":
        custom = "prompt" not in given
        body |= {"custom_mode": custom, "instrumental": given.get("instrumental", False)}
        return body | {"model": given.get("model", _MODEL)}
    if task.operation in RECORDINGS:
        own = {"cover_audio": "custom_mode", "extend_audio": "default_param_flag"}[task.operation]
        body |= {own: True, "instrumental": given.get("instrumental", False)}
        return body | {"model": given.get("model", _MODEL)}
    return body | {"task_id": task.inherited.get("task_id"), "audio_id": clip_of(task)}


def _mistakes(task: Task) -> list[Mistake]:
    """Return what kie.ai is known to refuse, and fields that it does not have."""
    body, kind = fields(merge({"input": _input(task)}, task.options).get("input")), task.operation
    unsaid = "This protocol has no such field: leave it out, or choose another upstream."
    found = [Mistake(f"input.{name}", unsaid) for name in task.input if name not in _FIELDS]
    if kind == "music" and not any(body.get(name) for name in ("prompt", "lyrics", "style")):
        return [*found, NO_SUBJECT]
    of_recording = kind in RECORDINGS
    custom = (kind in {"music", "cover_audio"} and body.get("custom_mode") is not False) or (
        kind == "extend_audio" and body.get("default_param_flag") is not False
    )
    needed = {
        "input.style": custom and "style",
        "input.title": custom and "title",
        "input.lyrics": custom and body.get("instrumental") is False and "lyrics",
        "input.clip": kind != "music" and not of_recording and "audio_id",
        "parent_id": kind != "music" and not of_recording and "task_id",
        "input.continue_at": kind == "extend_audio" and custom and "continue_at",
    }
    found += [Mistake(path, "is required here") for path, name in needed.items() if name and not body.get(name)]
    if "duration" in task.input and not str(body.get("model", "")).startswith(_LONG_MODELS):
        found.append(
            Mistake("input.duration", f"{body.get('model')} takes no duration: use {' or '.join(_LONG_MODELS)}.")
        )
    found += inline_recording(task)
    return found + too_long(task, body.get("model"), {"lyrics": body.get("lyrics"), "style": body.get("style")})
