"""Suno: songs, lyrics and what can be made of them, by the two protocols of gateways and by that of sunoapi.org and kie.ai."""

import base64
import dataclasses
import functools
import hashlib
import hmac
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain, Unreadable, UpstreamError
from service.domain.task import ENDED, Failure, Result, ResultKind, State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import (
    UNREACHABLE_CALLBACK,
    Balance,
    BalanceExchange,
    Call,
    Callback,
    Dialect,
    Exchange,
    Family,
    Listed,
    ManyExchange,
    Operation,
    RecallExchange,
    Reply,
    fields,
    identifier,
    kind_of,
    link,
    merge,
    number,
    operation,
    percent,
    word,
)
from service.providers.newapi import account
from service.providers.newapi import errors as newapi_errors

WORDS: Mapping[str, State | None] = {
    **newapi_errors.STATES,  # a task's own: NOT_START, SUBMITTED, QUEUED, IN_PROGRESS, SUCCESS, FAILURE, UNKNOWN
    "": State.SUBMITTED,
    "streaming": State.RUNNING,  # a clip's: it can be listened to, and is not finished
    "processing": State.RUNNING,
    "complete": State.SUCCEEDED,
    "error": State.FAILED,
    "fail": State.FAILED,
    "cancelled": State.CANCELLED,
    "canceled": State.CANCELLED,
    "text": State.RUNNING,  # stages of a callback
    "first": State.RUNNING,
    # What sister gateways say
    **dict.fromkeys(("pending", "ready", "created"), State.SUBMITTED),
    **dict.fromkeys(("stream", "awaiting"), State.RUNNING),
    **dict.fromkeys(("completed", "succeeded", "succeed", "success", "done"), State.SUCCEEDED),
    **dict.fromkeys(("failed", "timeout", "expired"), State.FAILED),
}
"""The words of tasks (Suno-API, new-api) and of clips (Suno itself), in lower case; case is not to be relied on."""

VENDOR_WORDS: Mapping[str, State | None] = {
    "pending": State.SUBMITTED,
    "text_success": State.RUNNING,
    "first_success": State.RUNNING,
    "success": State.SUCCEEDED,
    **dict.fromkeys(("create_task_failed", "sensitive_word_error"), State.FAILED),
    **dict.fromkeys((f"generate_{what}_failed" for what in ("audio", "lyrics", "wav", "mp4")), State.FAILED),
    "callback_exception": State.FAILED,  # of the delivery: of the song only when it brings no tracks
    # A callback's stages
    "text": State.RUNNING,
    "first": State.RUNNING,
    "complete": State.SUCCEEDED,
    "error": State.FAILED,
}
"""``status`` or ``successFlag`` of a record, ``callbackType`` of a callback (sunoapi.org and kie.ai), in lower case."""

VENDOR_FAILURES = {
    "400": "invalid_input",  # lyrics under copyright among them
    "408": "provider_timeout",
    "413": "content_policy",  # the upload is somebody's work
    "451": "invalid_input",  # our file could not be fetched
    **dict.fromkeys(("500", "501", "531"), "provider_error"),
}
"""``errorCode`` of a record, ``code`` of an error callback (kie.ai, music callbacks)."""

VENDOR_VERDICTS = {"sensitive_word_error": "content_policy", "create_task_failed": "provider_error"}
"""What a status says by itself of why it failed; of any other the code tells, else the text."""

VENDOR_REFUSALS: Mapping[int, tuple[type[UpstreamError], str]] = {
    405: (Unavailable, "rate_limited"),
    430: (Unavailable, "rate_limited"),
    455: (Unavailable, "overloaded"),
}
"""Codes in a body that mean something else than they do as an HTTP status (sunoapi.org, status codes)."""


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "description": description, **more}


def _number(description: str, **limits: Any) -> dict[str, Any]:
    return {"type": "number", "minimum": 0, "description": description, **limits}


def _switch(description: str) -> dict[str, Any]:
    return {"type": "boolean", "description": description}


_SHOWN: Mapping[str, Mapping[str, Any]] = {
    "prompt": _text(
        "What the song is about, in words: Suno finds lyrics, style and title by itself. Goes without these three.",
        examples=["A song about a dove that finds its way home"],
    ),
    "lyrics": _text(
        "The words to be sung, with marks such as `[Verse]`; goes with `style` and `title`. Up to 3000 characters, "
        "and 5000 from model 4.5 on.",
        examples=["[Verse]\nOver the hills and over the bay\nthe dove comes home at the end of the day"],
    ),
    "style": _text("Style of the music, with commas. Up to 200 characters, and 1000 from model 4.5 on.", examples=["folk, waltz"]),
    "title": _text("Title of the song.", examples=["Homing"]),
    "negative_prompt": _text("Styles that are not wanted, with commas."),
    "instrumental": _switch("Whether nobody sings. Goes with `prompt`, or with `style`; then leave `lyrics` out."),
    "vocal_gender": {"enum": ["m", "f"], "description": "Whose voice it should be."},
    "style_weight": _number("How closely it keeps to the style, 0 to 1.", maximum=1),
    "weirdness": _number("How far it may stray, 0 to 1.", maximum=1),
    "audio_weight": _number("How closely it keeps to the recording that it is made of, 0 to 1.", maximum=1),
    "model": _text("Model, by the provider's name for it (`mv`, such as `chirp-auk`; or `V4_5`). It is passed on as it is."),
    "clip": _text(
        "Id of the clip: `item` of a result. With `parent_id` one of the clips of that task, and where it is left out "
        "the first of them. Needed where there is no `parent_id`.",
        examples=["e9893d04-6a63-4007-8473-64b706eca4d1"],
    ),
    "continue_at": _number("The second of the clip at which the new part begins.", examples=[60]),
    "uploaded": _switch("Whether the clip is an upload. A parent that is an upload says so by itself."),
    "start": _number("The second at which the part to be replaced begins.", examples=[10]),
    "end": _number("The second at which it ends: later than `start`.", examples=[24]),
    "persona": _text("Id of the persona. With a `parent_id` that made a persona, that one.", examples=["0f6e8077-a7ba"]),
    "split": {"enum": ["two", "twelve"], "default": "two", "description": "Into the voice and all the rest, or into a track for each instrument."},
    "infill": _switch("Whether the clip is of `infill`, not of `extend`. The parent says so by itself."),
    "audio": _text("URL of the recording.", examples=["https://example.com/whistling.mp3"]),
    "name": _text("Name of the persona.", examples=["The homing pigeon"]),
    "description": _text("How the persona sings.", examples=["A warm alto, close to the microphone"]),
    "public": {**_switch("Whether others may use the persona."), "default": False},
}  # fmt: skip


def _operation(name: str, produces: ResultKind, takes: str, *, deadline: float = 1800.0, **more: Any) -> Operation:
    """Compose an operation; one that takes a clip may go on from a task that has made clips."""
    made = operation(name, produces, takes, known=_SHOWN, deadline=deadline, **more)
    return dataclasses.replace(made, parent="optional") if "clip" in made.input["properties"] else made


def _music() -> Operation:
    """Compose the song from nothing: its input has two ways, which its schema keeps apart."""
    made = _operation("music", "audio", f"prompt+ lyrics style title {_SOUND}", aliases=("song",))
    written = {name: _SHOWN[name]["examples"][0] for name in ("lyrics", "style", "title")}
    played = {"style": "ambient, strings", "title": "Loft", "instrumental": True}
    apart = {"prompt": {"properties": dict.fromkeys(written, False)}}
    examples = [*made.input["examples"], written, played]
    return dataclasses.replace(made, input={**made.input, "dependentSchemas": apart, "examples": examples})


_SOUND = "instrumental negative_prompt vocal_gender style_weight weirdness audio_weight model"
_WORDED = f"lyrics+ style+ title {_SOUND}"
_PART = {"lyrics": "The words to be sung in that part."}
_SUBJECT = {"prompt": "What the lyrics are to be about, in words."}
_BRIEF = {"style": "The style to be spelt out."}
_QUICK = 900.0
"""Seconds for what is no song: lyrics take some 20 s, files a minute; Suno-API gives up after 10 minutes."""
_OPERATIONS = (
    _music(),
    _operation("extend", "audio", f"clip+ continue_at+ uploaded {_WORDED}", aliases=("continue", "upload_extend")),
    _operation("cover", "audio", f"clip+ {_WORDED}"),
    _operation("infill", "audio", f"clip+ start* end* {_WORDED}", aliases=("replace_section",), meanings=_PART),
    _operation("persona_music", "audio", f"persona+ clip+ {_WORDED}", aliases=("artist_consistency",)),
    _operation("stems", "audio", "clip+ split title model", aliases=("gen_stem",)),
    _operation("lyrics", "text", "prompt* model", deadline=_QUICK, meanings=_SUBJECT),
    _operation("concat", "audio", "clip+ infill"),
    _operation("upload", "audio", "audio*", deadline=_QUICK),
    _operation("persona", "text", "clip+ name* description+ public", aliases=("persona_create",), deadline=_QUICK),
    _operation("wav", "audio", "clip+", deadline=_QUICK),
    _operation("mp4", "video", "clip+", deadline=_QUICK),
    _operation("timing", "text", "clip+", deadline=_QUICK),
    _operation("style_tags", "text", "style*", aliases=("tags",), deadline=_QUICK, meanings=_BRIEF),
)

FAMILY = Family("suno", "Suno", {known.name: known for known in _OPERATIONS})

_SONGS = ("music", "extend", "cover", "infill", "persona_music", "stems")
_LOOKUPS = {name: f"/suno/act/{name}/{{clip_id}}" for name in ("wav", "mp4", "timing")}
"""Questions about a clip, answered with a link or with the document itself. They buy nothing."""
_ASIDE = {"persona": "/suno/persona/create", "style_tags": "/suno/act/tags", **_LOOKUPS}

_TASKS = {"cover": "cover", "infill": "infill", "persona_music": "artist_consistency", "stems": "gen_stem"}
_CLIP_FIELDS = {
    **dict.fromkeys(("extend", "infill", "stems"), "continue_clip_id"),
    "cover": "cover_clip_id",
    "persona_music": "artist_clip_id",
    "concat": "clip_id",
    "persona": "root_clip_id",
}
_SAME = {
    "prompt": "gpt_description_prompt",
    "lyrics": "prompt",
    "style": "tags",
    "title": "title",
    "negative_prompt": "negative_tags",
    "continue_at": "continue_at",
    "start": "infill_start_s",
    "end": "infill_end_s",
    "persona": "persona_id",
}
"""Our names and those of POST /suno/submit/music, where the value is the same."""
_SLIDERS = {"style_weight": "style_weight", "weirdness": "weirdness_constraint", "audio_weight": "audio_weight"}
_MODELS = {"persona_music": "chirp-v4-tau"}  # the only kind that sings as a persona, besides chirp-v3-5-tau
_MODEL = "chirp-auk"
"""Taken where none is named: Suno-API's own default, chirp-v3-0, is no longer served."""

_VENDOR_ROUTES = {
    **dict.fromkeys(("music", "persona_music"), "/api/v1/generate"),
    "extend": "/api/v1/generate/extend",
    "stems": "/api/v1/vocal-removal/generate",
    "lyrics": "/api/v1/lyrics",
    "wav": "/api/v1/wav/generate",
    "mp4": "/api/v1/mp4/generate",
    "persona": "/api/v1/generate/generate-persona",
    "timing": "/api/v1/generate/get-timestamped-lyrics",
    "style_tags": "/api/v1/style/generate",
}
_VENDOR_RECORDS = {"stems": "vocal-removal", "lyrics": "lyrics", "wav": "wav", "mp4": "mp4"}
"""Which kind of record is asked for: GET /api/v1/{kind}/record-info. All others are of ``generate``."""
_VENDOR_SAME = {
    "style": "style",
    "title": "title",
    "negative_prompt": "negativeTags",
    "vocal_gender": "vocalGender",
    "style_weight": "styleWeight",
    "weirdness": "weirdnessConstraint",
    "audio_weight": "audioWeight",
    "continue_at": "continueAt",
    "name": "name",
    "description": "description",
}
_VENDOR_SAYS = frozenset({*_VENDOR_SAME, "prompt", "lyrics", "instrumental", "model", "clip", "persona", "split"})
_VENDOR_MODEL = "V4_5"
_SIGNATURE_TOLERANCE = 300.0

_LIMITS = (
    (("chirp-v3", "chirp-v4", "V3_5"), 3000, 200),
    (("chirp-auk", "chirp-bluejay", "chirp-crow", "chirp-fenix", "V4_", "V5"), 5000, 1000),
    (("V4",), 3000, 200),
)
"""By prefix of the model: how many characters its lyrics and its style may have. The first row that fits counts."""

_TYPICAL = {**dict.fromkeys(_SONGS, 120.0), "lyrics": 20.0, "concat": 60.0, "upload": 30.0, "mp4": 60.0}
"""Songs take 1 to 3 minutes; the rest is a guess until there are medians of our own."""

_NOT_READY = 1102
_DONE = 100
_TOO_MANY = 429
_AGREES = frozenset({"success", "0", "1", "200"})
_ROW = frozenset({"action", "fail_reason", "submit_time"})
_CLIP = frozenset({"audio_url", "video_url", "image_url", "metadata", "clipId", "cld2AudioUrl"})
_AUDIO = ("audio_url", "cld2AudioUrl", "audioUrl", "source_audio_url", "sourceAudioUrl")
_STREAM = ("stream_audio_url", "streamAudioUrl", "source_stream_audio_url", "sourceStreamAudioUrl")
_COVER = ("image_large_url", "image_url", "imageUrl", "source_image_url", "sourceImageUrl")
_FILE = ("wav_file_url", "wav_url", "mp4_file_url", "mp4_url", "mp4", "video_url")
_ID = re.compile(r"\S{1,200}")
_INPUT_WORDS = ("invalid", "参数", "prompt", "lyrics", "tags", "title", "clip", "required", "empty")
_WAVE = b"RIFF"
_DEPTH = 5
_OK = range(200, 300)


class NewApi(Dialect):
    """POST /suno/submit/* and /suno/fetch of CometAPI, ElkAPI and new-api (the Suno-API protocol).

    Plain new-api knows music, lyrics and fetch alone, and drops most fields, the callback's among them. No page tells
    what a callback holds: it is taken for a hint, and the task is asked for.
    """

    family = "suno"
    name = "newapi"
    operations: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(_SONGS, "/suno/submit/music"),
        "lyrics": "/suno/submit/lyrics",
        "concat": "/suno/submit/concat",
        "upload": "/suno/uploads/audio-url",
        **_ASIDE,
    }
    callbacks = True
    confirms = True
    lists = "account"
    synchronous = frozenset(_ASIDE)
    free = frozenset(_LOOKUPS)
    refunds = True
    batch_size = 100
    reserved = frozenset({"callback_url", "notify_hook"})
    typical_seconds = _TYPICAL

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Say which call creates the job."""
        hook = None if task.operation in self.synchronous else callback_url
        return _creation(task, self.operations[task.operation], notify_hook=hook)

    def query(self, task: Task) -> Call:
        """Ask for the task, or for its clips where the answer to the submit named only these."""
        return _query(task, "feed" if "," in (task.external_id or "") else "fetch")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: an id in an envelope, the result itself, or clips without an id for all."""
        if reply.status in _OK and (update := _taken(reply.document)) is not None:
            return update
        raise _refusal(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the task, in whichever of its shapes."""
        if reply.status in _OK and (update := _read(reply.document)) is not None:
            return update
        raise newapi_errors.refusal_in(reply, creating=False)

    def submit(self, task: Task, callback_url: str | None) -> Exchange:
        """Hand the task over; a question about a clip is repeated until there is an answer."""
        return _asked(self, task, self.purchase(task, self.create(task, callback_url)), self.read_created)

    def from_parent(self, task: Task, parent: Task) -> Mapping[str, Any] | list[Mistake]:
        """Take over the clip, and the gateway's id of the task: it keeps a follow-up on the account that has the clip."""
        return _inherited(task, parent)

    def poll(self, task: Task) -> Exchange:
        """Ask for the task."""
        return _asked(self, task, self.query(task), self.read_status)

    def poll_many(self, tasks: Sequence[Task]) -> ManyExchange:
        """Ask for many at once: in one request for each action, as CometAPI wants it. Files are asked for one by one."""
        asked: dict[str, list[str]] = defaultdict(list)
        for task in tasks:
            if task.operation not in _LOOKUPS and task.external_id is not None and "," not in task.external_id:
                asked["LYRICS" if task.operation == "lyrics" else "MUSIC"].append(task.external_id)
        found: dict[str, Update] = {}
        for action, ids in asked.items():
            reply = yield Call(method="POST", path="/suno/fetch", json={"ids": ids, "action": action})
            found |= _rows(reply)
        return found

    def find_lost_jobs(self, task: Task) -> RecallExchange:
        """List the account's jobs of the task's time and action, but for those that show another input."""
        since, until = task.created_at, task.unconfirmed_since or task.updated_at
        span = {"since": since.timestamp() - _CLOCKS_APART, "until": until.timestamp() + _CLOCKS_APART}
        rows = yield from account.jobs(platform="suno", **span)
        found = [(row, functools.partial(_may_be, row)) for row in rows]
        return [Listed(row.task_id, row.submitted_at, may_be) for row, may_be in found if may_be(task)]

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback as a poll."""
        return _heard(_read(callback.document))

    def validate(self, task: Task) -> list[Mistake]:
        """Say what the gateways' pages rule out."""
        found = super().validate(task)
        return found + _gateway_mistakes(task) if task.operation in self.operations else found

    def creates(self, endpoint: str) -> bool:
        """Whether an endpoint creates: fetch is a POST that only asks."""
        return super().creates(endpoint) and not endpoint.endswith("/fetch")


class NewApiRaw(Dialect):
    """POST /suno/generate and GET /suno/feed, which some gateways have beside: no envelope, and clip ids for task ids.

    An upload of bytes (POST /suno/uploads/audio) is read but not offered: it is a form that goes to another host.
    """

    family = "suno"
    name = "newapi-raw"
    operations: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(_SONGS, "/suno/generate"),
        "lyrics": "/suno/generate/lyrics/",
        "concat": "/suno/generate/concat",
        **_ASIDE,
        "persona": "/suno/persona/create/",
    }
    synchronous = frozenset(_ASIDE)
    free = frozenset(_LOOKUPS)
    refunds = True
    typical_seconds: ClassVar[Mapping[str, float]] = {
        name: seconds for name, seconds in _TYPICAL.items() if name != "upload"
    }

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Say which call creates the job."""
        del callback_url  # there is no field for it
        described = task.operation == "music" and "prompt" in task.input
        return _creation(task, self.operations[task.operation] + ("/description-mode" if described else ""))

    def query(self, task: Task) -> Call:
        """Ask for the clips, or the lyrics."""
        return _query(task, "lyrics" if task.operation == "lyrics" else "feed")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: clips, whose ids are the job's; or an id alone; or the result itself."""
        update = _read_raw(reply.document) if reply.status in _OK else None
        if update is None or (update.external_id is None and update.state is None):
            raise _refusal(reply)
        return dataclasses.replace(update, state=update.state or State.SUBMITTED)

    def read_status(self, reply: Reply) -> Update:
        """Read the clips, or the lyrics."""
        if reply.status in _OK and (update := _read_raw(reply.document)) is not None:
            return update
        raise newapi_errors.refusal_in(reply, creating=False)

    def submit(self, task: Task, callback_url: str | None) -> Exchange:
        """Hand the task over; a question about a clip is repeated until there is an answer."""
        return _asked(self, task, self.purchase(task, self.create(task, callback_url)), self.read_created)

    def from_parent(self, task: Task, parent: Task) -> Mapping[str, Any] | list[Mistake]:
        """Take over the clip; there are no ids of tasks."""
        found = _inherited(task, parent)
        return found if isinstance(found, list) else {**found, "task_id": None}

    def poll(self, task: Task) -> Exchange:
        """Ask for the clips. While one of them is missing from the answer, the others decide nothing."""

        def read(reply: Reply) -> Update:
            update = self.read_status(reply)
            missing = set((task.external_id or "").split(",")) - set((update.external_id or "").split(","))
            return _of_clips(_clips(reply.document), whole=False) if update.state in ENDED and missing else update

        return _asked(self, task, self.query(task), read)

    def validate(self, task: Task) -> list[Mistake]:
        """Say what the gateways' pages rule out."""
        found = super().validate(task)
        return found + _gateway_mistakes(task) if task.operation in self.operations else found


class SunoApi(Dialect):
    """/api/v1/* of sunoapi.org and kie.ai. Callbacks of kie.ai may be signed, but no more than their id and time."""

    family = "suno"
    name = "sunoapi"
    operations = _VENDOR_ROUTES
    callbacks = True
    confirms = True
    synchronous = frozenset({"persona", "timing", "style_tags"})
    cost_unit = "credits"
    refunds = True
    reserved = frozenset({"callback_url", "callBackUrl"})
    typical_seconds: ClassVar[Mapping[str, float]] = {
        name: seconds for name, seconds in _TYPICAL.items() if name in _VENDOR_ROUTES
    }

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Say which call creates the job. Both vendors refuse one without a callback URL."""
        hook = None if task.operation in self.synchronous else callback_url or UNREACHABLE_CALLBACK
        body = merge({**_vendor_body(task), "callBackUrl": hook}, task.options)
        return Call(method="POST", path=self.operations[task.operation], json=body)

    def query(self, task: Task) -> Call:
        """Ask for the record. The vendors bear three questions a second and task, and advise one in 30 seconds."""
        kind = _VENDOR_RECORDS.get(task.operation, "generate")
        return Call(method="GET", path=f"/api/v1/{kind}/record-info?taskId={quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: an id, or the result itself. A refusal is a ``code``, whatever the HTTP status."""
        data = fields(fields(reply.document).get("data"))
        outputs, job = _vendor_texts(data), identifier(data.get("taskId"))
        if reply.status not in _OK or not _vendor_agrees(reply.document) or not (outputs or job):
            raise _vendor_refusal(reply, creating=True)
        state = State.SUCCEEDED if outputs else State.SUBMITTED
        return Update(state=state, external_id=None if outputs else job, results=outputs)

    def read_status(self, reply: Reply) -> Update:
        """Read the record."""
        if reply.status in _OK and (update := _read_vendor(reply.document)) is not None:
            return update
        raise _vendor_refusal(reply, creating=False)

    def from_parent(self, task: Task, parent: Task) -> Mapping[str, Any] | list[Mistake]:
        """Take over the clip, its task, and the model: an extension must be of the same."""
        found = _inherited(task, parent)
        return found if isinstance(found, list) else {**found, "model": parent.model}

    def balance(self) -> BalanceExchange:
        """Ask for the credits."""
        reply = yield Call(method="GET", path="/api/v1/generate/credit")
        credit = number(fields(reply.document).get("data"))
        if reply.status not in _OK or not _vendor_agrees(reply.document) or credit is None:
            raise _vendor_refusal(reply, creating=False)
        return Balance(credit, self.cost_unit)

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: a stage with its tracks, or a whole record."""
        return _heard(_read_vendor(callback.document))

    def verify_signature(self, callback: Callback, secret: str | None) -> bool | None:
        """Verify kie.ai's signature, where its key is set: base64(HMAC-SHA256(taskId + "." + timestamp, key))."""
        if secret is None:
            return None
        stated = {name.lower(): value for name, value in callback.headers.items()}
        at, signature = stated.get("x-webhook-timestamp", ""), stated.get("x-webhook-signature", "")
        data, signed_at = fields(fields(callback.document).get("data")), number(at)
        signed = f"{_vendor_job(data)}.{at}".encode("utf-8", "replace")
        expected = base64.b64encode(hmac.digest(secret.encode(), signed, hashlib.sha256))
        if signed_at is None or not hmac.compare_digest(expected, signature.encode("utf-8", "replace")):
            return False
        return abs((callback.received_at or signed_at) - signed_at) <= _SIGNATURE_TOLERANCE

    def validate(self, task: Task) -> list[Mistake]:
        """Say what the vendors' pages rule out."""
        found = super().validate(task)
        return found + _vendor_mistakes(task) if task.operation in self.operations else found


def _creation(task: Task, route: str, **more: Any) -> Call:
    if task.operation in _LOOKUPS:
        return _lookup(task)
    return Call(method="POST", path=route, json=merge({**_gateway_body(task), **more}, task.options))


def _query(task: Task, route: str) -> Call:
    if task.operation in _LOOKUPS:
        return _lookup(task)
    return Call(method="GET", path=f"/suno/{route}/{quote(task.external_id or '', safe=',')}")


def _lookup(task: Task) -> Call:
    return Call(method="GET", path=_LOOKUPS[task.operation].format(clip_id=quote(_clip_of(task) or "", safe="")))


def _asked(dialect: Dialect, task: Task, call: Call, read: Callable[[Reply], Update]) -> Exchange:
    """Ask, and read the answer. A question about a clip buys nothing: whatever goes wrong, it is asked again."""
    reply = yield call
    if task.operation not in _LOOKUPS:
        return read(reply)
    if reply.status in _OK and reply.body.startswith(_WAVE):
        return Update(state=State.SUCCEEDED, results=(Result("audio", call.path),))  # to be fetched with the key
    try:
        update = dialect.read_status(reply)
    except Unreadable as error:
        raise Unavailable("unreadable", error.message) from error
    if update.state in ENDED:
        return dataclasses.replace(update, external_id=None)
    return Update(state=State.RUNNING, external_id=_clip_of(task))


def _clip_of(task: Task) -> str | None:
    clip: str | None = task.inherited.get("clip", task.input.get("clip"))
    return clip


def _inherited(task: Task, parent: Task) -> Mapping[str, Any] | list[Mistake]:
    """Find the clip that a follow-up goes on from: the one that is named, else the first that the parent made."""
    made = [result for result in parent.results if result.role == "result"]
    clips = list(dict.fromkeys(result.item for result in made if result.item is not None))
    persona = next((result.text for result in made if parent.operation == "persona"), None)
    wished = task.input.get("clip")
    if not clips and persona is None:
        return [Mistake("parent_id", f"a task of {parent.operation} has no clip to go on from")]
    if wished is not None and clips and wished not in clips:
        return [Mistake("input.clip", f"is none of the parent's clips: it has {', '.join(clips)}")]
    clip = wished or next(iter(clips), None)
    job = None if "," in (parent.external_id or "") else parent.external_id
    return {"clip": clip, "task_id": job, "operation": parent.operation, "persona": persona}


_CLOCKS_APART = 120.0
"""Seconds of a list that are read before and after a task's own time."""


def _may_be(row: account.Row, task: Task) -> bool:
    """Whether a job in the account's list may be a task's: of its kind, and of no other input as far as the row shows it.

    Gateways have two names for all they do: of what has neither, no job of these is taken. A row has clips once its
    gateway has looked at it, and newer ones repeat the text as ``properties.input``. What a task leaves to Suno, such as
    the style, tells nothing.
    """
    named = "music" if task.operation in _SONGS else "lyrics" if task.operation == "lyrics" else None
    fits = row.action == named if named is not None else row.action not in {"", "music", "lyrics"}
    return (
        fits
        and row.platform in {"suno", ""}
        and all(ours == theirs for ours, theirs in _shown_input(task, row.document))
    )


def _shown_input(task: Task, row: Mapping[str, Any]) -> Iterator[tuple[str | None, str | None]]:
    """Give what is ours and what is theirs of each part of the input that a row shows."""
    body = merge(_gateway_body(task), task.options)
    ours = {name: _plain(body.get(name)) for name in ("gpt_description_prompt", "prompt", "tags")}
    text, theirs = ours["gpt_description_prompt"] or ours["prompt"], _plain(fields(row.get("properties")).get("input"))
    if text and theirs:
        yield text, theirs
    for clip in _clips(row.get("data")):
        told = fields(clip.get("metadata"))
        if described := _plain(told.get("gpt_description_prompt")):
            yield ours["gpt_description_prompt"], described
        for name in ("prompt", "tags"):
            if ours["gpt_description_prompt"] is None and ours[name] and (theirs := _plain(told.get(name))):
                yield ours[name], theirs


def _plain(value: Any) -> str | None:
    """Read a text without regard to how its blanks are set."""
    return " ".join(value.split()) or None if isinstance(value, str) else None


def _gateway_body(task: Task) -> dict[str, Any]:
    """Say a task as the gateways have it. The raw protocol takes the same bodies."""
    given, clip = task.input, _clip_of(task)
    match task.operation:
        case "lyrics":
            return {"prompt": given.get("prompt"), "mv": given.get("model")}
        case "upload":
            return {"url": given.get("audio")}
        case "style_tags":
            return {"original_tags": given.get("style")}
        case "concat":
            return {"clip_id": clip, "is_infill": given.get("infill", task.inherited.get("operation") == "infill")}
        case "persona":
            said = {"name": given.get("name"), "description": given.get("description")}
            clips = None if clip is None else [clip]
            return {"root_clip_id": clip, **said, "clips": clips, "is_public": given.get("public", False)}
        case _:
            return _song(task, clip)


def _song(task: Task, clip: str | None) -> dict[str, Any]:
    """Say what is sung: POST /suno/submit/music has one body for all of it."""
    given, taken, kind = task.input, task.inherited, task.operation
    body: dict[str, Any] = {theirs: given[ours] for ours, theirs in _SAME.items() if ours in given}
    body |= {"mv": given.get("model", _MODELS.get(kind, _MODEL)), "task": _TASKS.get(kind)}
    body["generation_type"] = "TEXT" if kind in _TASKS else None
    if kind in _CLIP_FIELDS:
        body |= {_CLIP_FIELDS[kind]: clip, "task_id": taken.get("task_id")}
    if kind == "extend":
        uploaded = given.get("uploaded", taken.get("operation") == "upload")
        body["task"] = "upload_extend" if uploaded else "extend"
    if kind == "stems":
        split = given.get("split", "two")
        body |= {"stem_type_id": 91, "stem_type_group_name": split.capitalize(), "stem_task": split}
    if kind == "persona_music":
        body.setdefault("persona_id", taken.get("persona"))
    if kind == "stems" or given.get("instrumental"):
        body |= {"make_instrumental": True, "prompt": body.get("prompt", "")}
    sliders = {theirs: given[ours] for ours, theirs in _SLIDERS.items() if ours in given}
    sound = merge({"control_sliders": sliders or None, "vocal_gender": given.get("vocal_gender")}, {})
    if sound:
        body["metadata"] = sound if "prompt" in given else {**sound, "create_mode": "custom"}
    return body


def _vendor_body(task: Task) -> dict[str, Any]:
    """Say a task as sunoapi.org and kie.ai have it."""
    given, taken = task.input, task.inherited
    body: dict[str, Any] = {theirs: given[ours] for ours, theirs in _VENDOR_SAME.items() if ours in given}
    source = {"taskId": taken.get("task_id"), "audioId": _clip_of(task)}
    model = given.get("model", taken.get("model") or _VENDOR_MODEL)
    match task.operation:
        case "music" | "persona_music":
            body |= {"customMode": "prompt" not in given, "instrumental": given.get("instrumental", False)}
            body |= {"prompt": given.get("prompt", given.get("lyrics")), "model": model}
            return body | {"personaId": given.get("persona", taken.get("persona"))}
        case "extend":
            own = not given.keys().isdisjoint({"lyrics", "style", "title", "continue_at"})
            said = {"defaultParamFlag": own, "audioId": source["audioId"], "prompt": given.get("lyrics")}
            return {**body, **said, "model": model}
        case "stems":
            return {**source, "type": "split_stem" if given.get("split") == "twelve" else "separate_vocal"}
        case "lyrics":
            return {"prompt": given.get("prompt")}
        case "style_tags":
            return {"content": given.get("style")}
        case _:
            return {**body, **source}


_NO_CLIP = Mistake("input.clip", "is required here: name a clip, or a parent_id that has clips")
_NO_SUBJECT = Mistake("input.prompt", "is required here, unless there are lyrics, or a style")


def _gateway_mistakes(task: Task) -> list[Mistake]:
    """Say what gateways are known to refuse. What ``options`` set is the client's own affair."""
    if task.operation in _LOOKUPS:
        bodiless = Mistake("options", f"{task.operation} takes no fields of the provider's: leave them out.")
        return ([bodiless] if task.options else []) + ([] if _clip_of(task) else [_NO_CLIP])
    body = merge(_gateway_body(task), task.options)
    clip = _CLIP_FIELDS.get(task.operation)
    found = [_NO_CLIP] if clip is not None and not body.get(clip) else []
    if task.operation == "music" and not any(body.get(name) for name in ("gpt_description_prompt", "prompt", "tags")):
        found.append(_NO_SUBJECT)
    if task.operation == "persona_music" and not body.get("persona_id"):
        found.append(Mistake("input.persona", "is required here: name a persona, or a parent_id that made one"))
    start, end = number(body.get("infill_start_s")), number(body.get("infill_end_s"))
    if start is not None and end is not None and start >= end:
        found.append(Mistake("input.end", "must be later than start"))
    return found + _too_long(task, body.get("mv"), {"lyrics": body.get("prompt"), "style": body.get("tags")})


def _vendor_mistakes(task: Task) -> list[Mistake]:
    """Say what sunoapi.org and kie.ai are known to refuse, and what they have no word for."""
    body, kind = merge(_vendor_body(task), task.options), task.operation
    unsaid = "This protocol has nothing like it: leave it out, or choose another upstream."
    found = [Mistake(f"input.{name}", unsaid) for name in task.input if name not in _VENDOR_SAYS]
    if kind == "music" and not (body.get("prompt") or body.get("style")):
        return [*found, _NO_SUBJECT]
    written = kind in {"music", "persona_music"} and body.get("customMode") is not False
    needed = {
        "input.style": written and "style",
        "input.title": written and "title",
        "input.lyrics": written and body.get("instrumental") is False and "prompt",
        "input.persona": kind == "persona_music" and "personaId",
        "input.clip": kind in {"extend", "stems", "wav", "mp4", "persona", "timing"} and "audioId",
        "input.description": kind == "persona" and "description",
        "parent_id": kind in {"stems", "wav", "mp4", "persona", "timing"} and "taskId",
    }
    found += [Mistake(path, "is required here") for path, name in needed.items() if name and not body.get(name)]
    return found + _too_long(task, body.get("model"), {"lyrics": body.get("prompt"), "style": body.get("style")})


def _too_long(task: Task, model: Any, said: Mapping[str, Any]) -> list[Mistake]:
    row = next((row for row in _LIMITS if str(model).startswith(row[0])), None)
    if row is None:
        return []
    return [
        Mistake(f"input.{name}", f"{model} takes {most} characters at most.")
        for name, most in zip(("lyrics", "style"), row[1:], strict=True)
        if name in task.input and isinstance(said[name], str) and len(said[name]) > most
    ]


Record = Mapping[str, Any]


def _taken(document: Any) -> Update | None:
    """Read what says yes to a submit: the result itself, clips, or an id in an envelope that agrees."""
    said, held = fields(document), _inner(document)
    update = _at_once(fields(held))
    if update is not None or ("code" in said and not _agrees(said)):
        return update
    if (url := link(held)) is not None:
        return Update(state=State.SUCCEEDED, results=(_file(url),))
    update, job = Update(), identifier(held) if _agrees(said) else None
    if isinstance(held, list) or "clips" in fields(held):
        update = _of_clips(_clips(held))
        job = update.external_id
    elif isinstance(held, dict):
        job = _job(held)
        update = _of_row(held) if "status" in held else update  # a link without a word proves nothing
    if job is None or not _ID.fullmatch(job):
        return None
    return dataclasses.replace(update, state=update.state or State.SUBMITTED, external_id=job)


def _refusal(reply: Reply) -> UpstreamError:
    """Read what a submit without a job in its answer means."""
    refusal = newapi_errors.refusal_in(reply, creating=True)
    said, message = fields(reply.document), refusal.message
    if not isinstance(refusal, Refused):
        return refusal
    if _word(said.get("code")) == "error" and refusal.code != "content_policy":
        # One gateway's only code: it has refused the input where the text names it, and else nobody knows.
        names_input = any(part in (message or "").lower() for part in _INPUT_WORDS)
        return Refused("invalid_input", message) if names_input else Uncertain("provider_error", message)
    if reply.status in _OK and identifier(said.get("data")) is not None:
        return Uncertain(refusal.code, message)  # it says no, and names a job
    return refusal


def _rows(reply: Reply) -> dict[str, Update]:
    """Read the answer for many. Unknown ids are left out; that none is known may be said by null, or as an error."""
    document = reply.document
    data = document.get("data") if isinstance(document, dict) and _agrees(document) else document
    if reply.status not in _OK or not isinstance(data, list | None):
        refusal = newapi_errors.refusal_in(reply, creating=False)
        if isinstance(refusal, NotFound):
            return {}
        raise refusal
    rows = [row for row in data or () if isinstance(row, dict)]
    return {job: _of_row(row) for row in rows if (job := _job(row)) is not None}


def _heard(update: Update | None) -> list[Update]:
    if update is None:
        raise Unreadable("no task in it")
    return [update]


def _agrees(envelope: Record) -> bool:
    """Whether an envelope says that the request went well. Of the task it says nothing."""
    code = envelope.get("code")
    return envelope.get("success") is True or (not isinstance(code, bool) and str(code).strip().lower() in _AGREES)


def _inner(document: Any) -> Any:
    """Take the envelopes off. A task holds its outputs as ``data`` too, and is none."""
    for _ in range(_DEPTH):
        if not isinstance(document, dict) or "data" not in document or _is_row(document):
            break
        if "code" in document and not _agrees(document):
            break
        document = document["data"]
    return document


def _read(document: Any, *, raw: bool = False) -> Update | None:
    """Read every shape of a task: a row, clips, lyrics, bare or in an envelope, and what is a result by itself.

    :param raw: whether the ids of clips are the job's
    """
    held = _inner(document)
    said, clips = fields(held), _clips(held)
    rows = [each for each in (held if isinstance(held, list) else [held]) if _is_row(each)]
    if (update := _at_once(said)) is not None:
        return update
    if rows:
        return _of_row(rows[0])
    if _is_lyrics(said):
        return dataclasses.replace(_of_row({"data": said}), external_id=identifier(said.get("id")))
    if clips:
        return _of_clips(clips) if raw else dataclasses.replace(_of_clips(clips), external_id=None)
    if held == [] or (held is not document and held in (None, {})):
        return Update()  # nothing in it is no news
    url = link(held)
    return None if url is None else Update(state=State.SUCCEEDED, results=(_file(url),))


def _read_raw(document: Any) -> Update | None:
    """Read the raw protocol: the same shapes, an upload on its way, and an id alone."""
    said = fields(document)
    job = None if said.get("error") else identifier(said.get("id"))
    if "s3_id" in said and job is not None:
        return _of_upload(said, job)
    update = _read(document, raw=True)
    return Update(external_id=job) if update is None and job is not None else update


def _of_upload(said: Record, job: str) -> Update:
    """Read an upload: complete means that the file was taken in, and the clip comes with the last step."""
    state, unknown = _translate(said.get("status"), WORDS)
    return Update(
        state=State.RUNNING if state is State.SUCCEEDED else state,
        external_id=job,
        failure=newapi_errors.failure_from_text(word(said.get("error_message"))) if state is State.FAILED else None,
        unknown_word=unknown,
    )


def _at_once(said: Record) -> Update | None:
    """Read what is the whole result: a persona, a style, timings, a link; or that the file is not ready."""
    if said.get("code") == _NOT_READY:
        return Update(state=State.RUNNING)
    clip = identifier(said.get("root_clip_id"))
    persona = None if clip is None else identifier(said.get("id"))
    made = identifier(said["clip_id"]) if said.keys() == {"clip_id"} else None
    timings = _compact(said) if isinstance(said.get("aligned_words"), list) else None
    text = persona or timings or made or _prose(said.get("upsampled_tags"))
    url = None if _is_row(said) or {"id", "clipId", "audio_url"} & said.keys() else _first(said, _FILE)
    if text is not None:
        return Update(state=State.SUCCEEDED, results=(Result("text", text=text, item=clip),))
    return None if url is None else Update(state=State.SUCCEEDED, results=(_file(url),))


def _is_row(said: Any) -> bool:
    """Whether it is a task, as a gateway keeps it: not a clip, and not an envelope."""
    if not isinstance(said, dict):
        return False
    return bool({"task_id", "callbackType", *_ROW} & said.keys()) or ("status" in said and "data" in said)


def _is_lyrics(said: Any) -> bool:
    return isinstance(said, dict) and "text" in said and "audio_url" not in said


def _clips(value: Any) -> list[Record]:
    """List the clips in it: a list, an object with one, or a clip alone."""
    if isinstance(value, dict):
        value = next((value[name] for name in ("clips", "data") if isinstance(value.get(name), list)), [value])
    return [clip for clip in value if isinstance(clip, dict) and _CLIP & clip.keys()] if isinstance(value, list) else []


def _job(row: Record) -> str | None:
    """Find a task's id: ``task_id``, and only without it an ``id`` that is a text, since newer builds number their rows."""
    stated = identifier(row.get("task_id")) or identifier(row.get("taskId"))
    return stated or (identifier(row["id"]) if isinstance(row.get("id"), str) else None)


def _word(value: Any) -> str | None:
    """Read a status word: blank is a word too, None says that there is none."""
    return value.strip().lower() if isinstance(value, str) else None


def _translate(value: Any, words: Mapping[str, State | None]) -> tuple[State | None, str | None]:
    """Translate a word, and give it back when no table has it."""
    said = _word(value)
    return (None, None) if said is None else (words.get(said), None if said in words else word(said))


def _of_row(row: Record) -> Update:
    """Read a task as a gateway keeps it. Its own word counts, and that of its clips where a sister gateway has none."""
    held = row.get("data")
    clips, texts = _clips(held), _lyrics(held)
    stated = _word(row.get("status", row.get("callbackType")))
    state, unknown = _translate(stated, WORDS)
    if stated is None and _ROW.isdisjoint(row):
        state, unknown = _state_of([fields(held)] if _is_lyrics(held) else clips)
    progress = percent(row.get("progress")) if "progress" in row else _slowest(clips)
    reason = None if link(row.get("fail_reason")) else word(row.get("fail_reason"))
    outputs = _outputs(clips) + texts + (_links(row) if state is State.SUCCEEDED and not clips else ())
    if state is State.SUCCEEDED and not outputs:
        state = None  # it will come; a success without an output settles nothing
    elif reason and progress == _DONE and stated and unknown is None and state not in ENDED:
        state = State.FAILED  # new-api has paid back and never asks again, though the word speaks of work
    return Update(
        state=state,
        external_id=_job(row),
        progress=progress,
        results=(outputs if state in ENDED else ()) + _beside(clips, ended=state in ENDED),
        failure=_failure(state, reason, clips),
        unknown_word=unknown,
    )


def _of_clips(clips: Sequence[Record], *, whole: bool = True) -> Update:
    """Read clips without a task around them.

    :param whole: whether these are all: of some alone it cannot be told how the task ends
    """
    state, unknown = _state_of(clips)
    outputs = _outputs(clips)
    if state is State.SUCCEEDED and not outputs:
        state = None
    if state in ENDED and not whole:
        state = State.RUNNING
    ids = [found for clip in clips if (found := _clip_id(clip)) is not None]
    return Update(
        state=state,
        external_id=",".join(ids) or None,
        progress=_slowest(clips),
        results=(outputs if state in ENDED else ()) + _beside(clips, ended=state in ENDED),
        failure=_failure(state, None, clips),
        unknown_word=unknown,
    )


def _state_of(clips: Sequence[Record]) -> tuple[State | None, str | None]:
    """Derive a task's state from its clips: that of the first which is not finished; then one that failed fails it.

    Suno-API, which looks at two clips only, calls a task failed while the second may still come to be played.
    """
    states: list[State | None] = []
    for clip in clips:
        state, unknown = _translate(clip.get("status"), WORDS)
        if unknown is not None:
            return None, unknown
        # Without a word only a final URL settles a clip: a percentage proves nothing.
        bare = _word(clip.get("status")) is None and _final(clip) is not None
        states.append(State.SUCCEEDED if bare else state)
    if None in states or not states:
        return None, None
    unfinished = (state for state in states if state not in ENDED)
    return next(unfinished, State.SUCCEEDED if set(states) == {State.SUCCEEDED} else State.FAILED), None


def _clip_id(clip: Record) -> str | None:
    return identifier(clip.get("id")) or identifier(clip.get("clipId"))


def _first(said: Record, names: Iterable[str]) -> str | None:
    return next((url for name in names if (url := link(said.get(name))) is not None), None)


def _final(clip: Record) -> str | None:
    """Give the clip's own file. What audiopipe serves is a stream that ends with the work; what failed does not play."""
    url, state = _first(clip, _AUDIO), WORDS.get(_word(clip.get("status")) or "")
    return None if url is None or state is State.FAILED or "//audiopipe." in url else url


def _outputs(clips: Sequence[Record]) -> tuple[Result, ...]:
    return tuple(Result("audio", url, item=_clip_id(clip)) for clip in clips if (url := _final(clip)) is not None)


def _beside(clips: Sequence[Record], *, ended: bool) -> tuple[Result, ...]:
    """Give what goes with the songs: what can be heard before they are finished, covers, videos."""
    found: list[Result] = []
    for clip in clips:
        item, final = _clip_id(clip), _final(clip)
        heard = None if ended and final else _first(clip, (*_AUDIO, *_STREAM))
        cover, video = _first(clip, _COVER), link(clip.get("video_url"))
        found += [Result("audio", heard, role="preview", item=item)] if heard else []
        found += [Result("image", cover, role="cover", item=item)] if cover else []
        found += [Result("video", video, role="extra", item=item)] if video else []
    return tuple(found)


def _links(row: Record) -> tuple[Result, ...]:
    """Give a link that stands in the row itself: builds of new-api have moved it about."""
    url = _first(row, ("result_url", "fail_reason"))
    return () if url is None else (_file(url),)


def _lyrics(held: Any) -> tuple[Result, ...]:
    texts = [_prose(each.get("text")) for each in (held if isinstance(held, list) else [held]) if _is_lyrics(each)]
    return tuple(Result("text", text=text) for text in texts if text is not None)


def _file(url: str) -> Result:
    return Result(kind_of(url, "audio"), url)


def _slowest(clips: Sequence[Record]) -> int | None:
    return min((stated for clip in clips if (stated := percent(clip.get("progress"))) is not None), default=None)


def _failure(state: State | None, reason: str | None, clips: Sequence[Record]) -> Failure | None:
    """Say why: by the task's reason, else by that of the clip that failed. Suno's own word for it makes the better code."""
    if state is State.CANCELLED:
        return Failure("cancelled", reason) if reason else None
    if state is not State.FAILED:
        return None
    told = [fields(clip.get("metadata")) for clip in clips]
    kind = next(filter(None, (word(each.get("error_type")) for each in told)), None)
    text = next(filter(None, (word(each.get("error_message")) for each in told)), None)
    named = newapi_errors.failure_from_text(kind)
    plain = newapi_errors.failure_from_text(reason or text or kind)
    return plain if named.code in {"unknown", "provider_error"} else dataclasses.replace(named, message=plain.message)


def _prose(value: Any) -> str | None:
    """Read a text that is an output: as long as it is, and safe to store anywhere."""
    if not isinstance(value, str) or not value.strip():
        return None
    return value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8") or None


def _compact(document: Record) -> str:
    """Write a document that is an output."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace").decode("utf-8")


def _vendor_agrees(document: Any) -> bool:
    """Whether a body says that the request went well; some leave the code out."""
    code = document.get("code") if isinstance(document, dict) else "no object"
    return code is None or str(code) == str(_OK.start)


def _vendor_refusal(reply: Reply, *, creating: bool) -> UpstreamError:
    """Read a refusal: by the body's code, whatever the HTTP status.

    429 means no credit at sunoapi.org and too many requests at kie.ai, and a dialect does not know its host. The text
    decides; without one it is read as too many requests. Nothing was created either way: to try again is right after
    a limit and harmless without credit, while to turn the account away would be wrong after a limit.
    """
    said = fields(reply.document)
    code, message = number(said.get("code")), word(said.get("msg")) or word(said.get("message"))
    if code is None or _vendor_agrees(said):
        return newapi_errors.refusal_in(reply, creating=creating)
    if code in VENDOR_REFUSALS:
        error, name = VENDOR_REFUSALS[int(code)]
        return error(name, message, retry_after=reply.retry_after)
    if code == _TOO_MANY and newapi_errors.failure_from_text(message).code == "insufficient_credit":
        return AccountProblem("insufficient_credit", message)
    return newapi_errors.refusal_in(dataclasses.replace(reply, status=int(code)), creating=creating)


def _vendor_job(data: Record) -> str | None:
    """Find the task's id: callbacks of music write it otherwise than those of lyrics, and than records."""
    return identifier(data.get("task_id")) or identifier(data.get("taskId"))


def _read_vendor(document: Any) -> Update | None:
    """Read a record or a callback; the one speaks in camelCase, the other in snake_case."""
    envelope = fields(document)
    data = fields(envelope.get("data"))
    job, stage = _vendor_job(data), data.get("callbackType")
    said = next((text for name in ("callbackType", "status", "successFlag") if (text := _word(data.get(name)))), None)
    if said is None:
        known = job is not None or ("data" in envelope and not envelope["data"])  # null: not there yet
        return Update(external_id=job) if known and _vendor_agrees(document) else None
    state, unknown = _translate(said, VENDOR_WORDS)
    tracks = _tracks(data)
    outputs = _outputs(tracks) + _lyrics(tracks) or _converted(data)
    if said == "callback_exception" and outputs:
        state = State.SUCCEEDED
    elif state is State.SUCCEEDED and not outputs:
        state = None  # it will come; a success without an output settles nothing
    return Update(
        state=state,
        external_id=job,
        results=(outputs if state in ENDED else ()) + _beside(tracks, ended=state in ENDED),
        failure=_vendor_failure(said, envelope, data, called_back=stage is not None) if state is State.FAILED else None,
        unknown_word=unknown,
    )


def _tracks(data: Record) -> list[Record]:
    """List the tracks, or the lyrics: of a record's response, or of a callback."""
    response = fields(data.get("response"))
    held = response.get("sunoData") or response.get("data") or data.get("data")
    return [track for track in held if isinstance(track, dict)] if isinstance(held, list) else []


def _converted(data: Record) -> tuple[Result, ...]:
    """Give the files of a conversion: a WAV, a video, the tracks that a song was split into."""
    made = {name: link(url) for name, url in fields(data.get("response")).items() if name.endswith("Url")}
    return tuple(_file(url) for name, url in made.items() if url is not None and name != "originUrl")


def _vendor_texts(data: Record) -> tuple[Result, ...]:
    """Read what is answered at once: a persona, timings, a style."""
    timings = _compact(data) if isinstance(data.get("alignedWords"), list) else None
    text = identifier(data.get("personaId")) or timings or _prose(data.get("result"))
    return () if text is None else (Result("text", text=text),)


def _vendor_failure(said: str, envelope: Record, data: Record, *, called_back: bool) -> Failure:
    """Say why: by the code, else by the text."""
    told = [word(holder.get(name)) for holder in (data, envelope) for name in ("errorMessage", "errorMsg", "error")]
    told.append(word(envelope.get("msg")) if called_back else None)
    text = next(filter(None, told), None)
    stated = word(data.get("errorCode")) or (word(envelope.get("code")) if called_back else None) or ""
    # 'Rejected' is a word of theirs for any failure; gateways say it of the content.
    plain = newapi_errors.failure_from_text((text or "").lower().replace("rejected", "")).code
    code = VENDOR_VERDICTS.get(said) or VENDOR_FAILURES.get(stated) or plain
    code = "provider_error" if code == "unknown" else code
    return Failure(code, text, retryable=code in newapi_errors.RETRYABLE)
