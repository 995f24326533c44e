"""Suno by sunoapi.org and kie.ai (/api/v1/*)."""

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
from service.providers.wire import UNREACHABLE_CALLBACK, BalanceExchange, Call, Callback, Reply

_ROUTES = {
    **dict.fromkeys(("music", "persona_music"), "/api/v1/generate"),
    "extend": "/api/v1/generate/extend",
    "cover_audio": "/api/v1/generate/upload-cover",
    "extend_audio": "/api/v1/generate/upload-extend",
    "stems": "/api/v1/vocal-removal/generate",
    "lyrics": "/api/v1/lyrics",
    "wav": "/api/v1/wav/generate",
    "mp4": "/api/v1/mp4/generate",
    "persona": "/api/v1/generate/generate-persona",
    "timing": "/api/v1/generate/get-timestamped-lyrics",
    "style_tags": "/api/v1/style/generate",
}
_RECORDS = {"stems": "vocal-removal", "lyrics": "lyrics", "wav": "wav", "mp4": "mp4"}
"""Which kind of record is asked for: GET /api/v1/{kind}/record-info. All others are of ``generate``."""
_SAME = {
    "style": "style",
    "title": "title",
    "negative_prompt": "negativeTags",
    "vocal_gender": "vocalGender",
    "style_weight": "styleWeight",
    "weirdness": "weirdnessConstraint",
    "audio_weight": "audioWeight",
    "continue_at": "continueAt",
    "duration": "duration",
    "name": "name",
    "description": "description",
    "audio": "uploadUrl",
}
_FIELDS = frozenset({*_SAME, "prompt", "lyrics", "instrumental", "model", "clip", "persona", "split"})
_MODEL = "V4_5"


class SunoApi(Dialect):
    """/api/v1/* of sunoapi.org and kie.ai. Callbacks of kie.ai may be signed, but no more than their id and time."""

    facts = Facts(
        family="suno",
        name="sunoapi",
        operations=_ROUTES,
        callbacks=True,
        confirms=True,
        signs=True,
        synchronous=frozenset({"persona", "timing", "style_tags"}),
        cost_unit="credits",
        refunds=True,
        models_are_listed=False,  # the list names the operation, not Suno's versions
        reserved=frozenset({"callback_url", "callBackUrl"}),
        typical_seconds={name: seconds for name, seconds in TYPICAL_SECONDS.items() if name in _ROUTES}
        | dict.fromkeys(RECORDINGS, 120.0),
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job. Both vendors refuse one without a callback URL."""
        hook = None if task.operation in self.facts.synchronous else callback_url or UNREACHABLE_CALLBACK
        body = merge({**_body(task), "callBackUrl": hook}, task.options)
        return Call(method="POST", path=self.facts.operations[task.operation], json=body)

    def query(self, task: Task) -> Call:
        """Return the call that queries the record. The vendors allow three a second and task, and advise one in 30 seconds."""
        kind = _RECORDS.get(task.operation, "generate")
        return Call(method="GET", path=f"/api/v1/{kind}/record-info?taskId={quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: an id, or the result itself. A refusal has a ``code``, at any HTTP status."""
        data = fields(fields(reply.document).get("data"))
        outputs, job = vendor.immediate_results(data), identifier(data.get("taskId"))
        if not reply.ok or not kie_envelope.agrees(reply.document) or not (outputs or job):
            raise kie_envelope.refusal_of(reply, creating=True)
        state = State.SUCCEEDED if outputs else State.SUBMITTED
        return Update(state=state, external_id=None if outputs else job, results=outputs)

    def read_status(self, reply: Reply) -> Update:
        """Read the record."""
        return vendor.read_status(reply)

    def from_parent(self, task: Task, parent: Task) -> Mapping[str, Any] | list[Mistake]:
        """Return the clip, its task, and the model: an extension must be of the same."""
        found = inherited_from(task, parent)
        return found if isinstance(found, list) else {**found, "model": parent.model}

    def balance(self) -> BalanceExchange:
        """Request the credits."""
        return kie_envelope.credits_left("/api/v1/generate/credit")

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: a stage with its tracks, or a whole record."""
        return vendor.read_callback(callback)

    def verify_signature(self, callback: Callback, secret: str | None) -> bool | None:
        """Return whether kie.ai's signature is right, where its key is set."""
        return kie_envelope.signature_is_right(callback, secret)

    def validate(self, task: Task) -> list[Mistake]:
        """Return the mistakes that the vendors' pages rule out."""
        found = super().validate(task)
        return found + _mistakes(task) if task.operation in self.facts.operations else found


def _body(task: Task) -> dict[str, Any]:
    """Return a task as sunoapi.org and kie.ai take it."""
    given, taken = task.input, task.inherited
    body: dict[str, Any] = {theirs: given[ours] for ours, theirs in _SAME.items() if ours in given}
    source = {"taskId": taken.get("task_id"), "audioId": clip_of(task)}
    model = given.get("model", taken.get("model") or _MODEL)
    match task.operation:
        case "music" | "persona_music":
            body |= {"customMode": "prompt" not in given, "instrumental": given.get("instrumental", False)}
            body |= {"prompt": given.get("prompt", given.get("lyrics")), "model": model}
            return body | {"personaId": given.get("persona", taken.get("persona"))}
        case "extend":
            own = not given.keys().isdisjoint({"lyrics", "style", "title", "continue_at"})
            said = {"defaultParamFlag": own, "audioId": source["audioId"], "prompt": given.get("lyrics")}
            return {**body, **said, "model": model}
        case "cover_audio" | "extend_audio":
            custom = {"customMode" if task.operation == "cover_audio" else "defaultParamFlag": True}
            said = {"instrumental": given.get("instrumental", False), "prompt": given.get("lyrics")}
            return {**body, **custom, **said, "model": model}
        case "stems":
            return {**source, "type": "split_stem" if given.get("split") == "twelve" else "separate_vocal"}
        case "lyrics" | "style_tags":
            of_lyrics = task.operation == "lyrics"
            return {"prompt": given.get("prompt")} if of_lyrics else {"content": given.get("style")}
        case _:
            return {**body, **source}


def _mistakes(task: Task) -> list[Mistake]:
    """Return what sunoapi.org and kie.ai are known to refuse, and fields that they do not have."""
    body, kind = merge(_body(task), task.options), task.operation
    unsaid = "This protocol has no such field: leave it out, or choose another upstream."
    found = [Mistake(f"input.{name}", unsaid) for name in task.input if name not in _FIELDS]
    if kind == "music" and not (body.get("prompt") or body.get("style")):
        return [*found, NO_SUBJECT]
    own = kind in {"music", "persona_music", "cover_audio"} and body.get("customMode") is not False
    written = own or (kind == "extend_audio" and body.get("defaultParamFlag") is not False)
    needed = {
        "input.style": written and "style",
        "input.title": written and "title",
        "input.lyrics": written and body.get("instrumental") is False and "prompt",
        "input.continue_at": kind == "extend_audio" and written and "continueAt",
        "input.persona": kind == "persona_music" and "personaId",
        "input.clip": kind in {"extend", "stems", "wav", "mp4", "persona", "timing"} and "audioId",
        "input.description": kind == "persona" and "description",
        "parent_id": kind in {"stems", "wav", "mp4", "persona", "timing"} and "taskId",
    }
    found += [Mistake(path, "is required here") for path, name in needed.items() if name and not body.get(name)]
    if "duration" in task.input and not str(body.get("model", "")).startswith("V5_5"):
        found.append(Mistake("input.duration", "Only the model V5_5 takes a duration here."))
    found += inline_recording(task)
    return found + too_long(task, body.get("model"), {"lyrics": body.get("prompt"), "style": body.get("style")})
