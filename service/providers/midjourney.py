"""Midjourney: pictures, and videos of them, by the protocol of midjourney-proxy, which its engines and all gateways speak."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, Literal
from urllib.parse import quote

from service.domain.errors import (
    AccountProblem,
    NotFound,
    Refused,
    Unavailable,
    Uncertain,
    Unreadable,
    UpstreamError,
)
from service.domain.task import Action, Failure, Result, ResultKind, ResultRole, State, Task, Update
from service.domain.validation import Mistake, nearest
from service.providers.dialect import (
    Call,
    Callback,
    Dialect,
    Exchange,
    Family,
    ManyExchange,
    MessageKind,
    Operation,
    Reply,
    fields,
    identifier,
    kind_of,
    link,
    links,
    merge,
    operation,
    percent,
    word,
)
from service.providers.newapi import errors as newapi_errors

WORDS: Mapping[str, State | None] = {
    "": State.SUBMITTED,  # a gateway's row before its first look at the engine, up to 15 s
    "not_start": State.SUBMITTED,
    "submitted": State.SUBMITTED,
    "pending": State.SUBMITTED,
    "modal": State.AWAITING_INPUT,
    "in_progress": State.RUNNING,
    "running": State.RUNNING,
    "processing": State.RUNNING,
    "success": State.SUCCEEDED,
    "failure": State.FAILED,
    "failed": State.FAILED,
    "cancel": State.CANCELLED,
    "cancelled": State.CANCELLED,
    "unknown": None,
}
"""``status`` of a task object (GET /mj/task/{id}/fetch), in lower case: engines, new-api and their derivatives."""

_RANK = (None, State.AWAITING_INPUT, State.SUBMITTED, State.RUNNING, State.CANCELLED, State.FAILED, State.SUCCEEDED)
"""How far a state has got: new-api lists a task twice once its modal is answered, and only one row moves on."""

Verdict = tuple[type[UpstreamError], str]
"""What may be done next, and the code that says why."""

_NOT_FOUND = 3
_NOT_TAKEN: Mapping[int, Verdict] = {
    _NOT_FOUND: (Unavailable, "overloaded"),  # no account is free; see _OF_A_PARENT
    4: (Refused, "invalid_input"),
    5: (Uncertain, "provider_error"),  # new-api: it asked the engine and got no usable answer
    9: (Unavailable, "provider_error"),
    23: (Unavailable, "overloaded"),  # some pages print an id here; the engine has removed the task
    24: (Refused, "content_policy"),
    30: (Unavailable, "overloaded"),
    -1: (Unavailable, ""),  # an engine's business error: the text names the code
}
"""``code`` of a submit's answer that took nothing, or may not have (5). Sources: midjourney-proxy, new-api's relay."""

_TAKEN = frozenset({1, 22})
_WAITS = 21  # now: for the modal; in older engines: the same task exists already

_REFUSALS: Mapping[str, Verdict] = {
    "prompt_is_required": (Refused, "invalid_input"),
    "custom_id_is_required": (Refused, "invalid_input"),
    "index_is_required": (Refused, "invalid_input"),
    "index_parse_failed": (Refused, "invalid_input"),
    "bind_request_body_failed": (Refused, "invalid_input"),
    "task_not_found": (Refused, "not_found"),
    "task_no_found": (Refused, "not_found"),
    "quota_not_enough": (AccountProblem, "insufficient_credit"),
    # The parent is not finished in the gateway's copy, which lags behind callbacks: nothing was created.
    "task_status_not_success": (Unavailable, "provider_error"),
    "do_request_failed": (Uncertain, "provider_error"),
    "read_response_body_failed": (Uncertain, "provider_error"),
    "unmarshal_response_body_failed": (Uncertain, "provider_error"),
    "empty_response_body": (Uncertain, "provider_error"),
    "insert_midjourney_task_failed": (Uncertain, "provider_error"),
}
"""The first word of ``description``, whatever the code: new-api has 4 for nearly everything (relay/relay-mj.go)."""

_REFUSAL_PARTS: Mapping[str, Verdict] = {
    "该任务所属渠道已被禁用": (Refused, "provider_error"),  # the account behind the parent is gone
    "unknown_action": (Refused, "invalid_input"),  # a button that new-api cannot tell the price of
}

_UNKNOWN_TASK = frozenset({"task_no_found", "task_not_found", "midjourney_task_not_found"})
_LAG = 5.0  # seconds: a gateway looks at its engine every 15


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "description": description, **more}


def _choice(description: str, *words: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(words), "description": description, "examples": [words[0]]}


_SOURCE = "^(https?://|data:)"
_IMAGES = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "string", "pattern": _SOURCE},
    "examples": [["data:image/png;base64,iVBORw0KGgo=", "data:image/png;base64,iVBORw0KGgo="]],
}
_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "prompt": _text(
        "What is wanted, in words. Midjourney's own parameters (`--v 7`) may stand in it.",
        examples=["A paper boat on calm water at sunrise"],
    ),
    "negative_prompt": _text("What is not wanted, in words: `--no`."),
    "image": _text("The image, as URL or `data:`.", pattern=_SOURCE, examples=["https://example.com/boat.png"]),
    "images": {**_IMAGES, "description": "Images to go by. A URL is put before the prompt, `data:` is sent along."},
    "target_image": _text("The image that gets the face.", pattern=_SOURCE, examples=["https://example.com/crew.png"]),
    "last_image": _text("The image to end on, as URL or `data:`.", pattern=_SOURCE),
    "mask": _text("What is to be painted anew, as `data:`: white is, black stays.", pattern=_SOURCE),
    "aspect_ratio": _text(
        "Shape of the picture, as `16:9`: `--ar`.", pattern="^[1-9][0-9]{0,3}:[1-9][0-9]{0,3}$", examples=["16:9"]
    ),
    "seed": {
        "type": "integer",
        "minimum": 0,
        "description": "The same seed and prompt give similar pictures: `--seed`.",
    },
    "bot": _choice("Which bot draws.", "midjourney", "niji"),
    "speed": _choice("Speed mode; without it the gateway's default.", "fast", "turbo", "relax"),
    "action": _text(
        "What to do: the `id` of one of the parent's `next_actions`, or its label where no other has the same.",
        examples=["U1"],
    ),
    "index": {
        "type": "integer",
        "minimum": 1,
        "maximum": 4,
        "description": "Which of the parent's four, counted from 1.",
        "examples": [1],
    },
    "change": _choice("What to do.", "upscale", "variation", "reroll"),
    "shorthand": _text("What to do: U1 to U4, V1 to V4, or R.", pattern="^([UV][1-4]|R)$", examples=["U2"]),
    "motion": _choice("How much moves; default low.", "low", "high"),
    "resolution": _choice("Resolution of the video.", "480p", "720p"),
    "loop": {"type": "boolean", "description": "Whether its end leads into its beginning."},
    "count": {"type": "integer", "enum": [1, 2, 4], "description": "How many videos; Midjourney makes 4 by itself."},
}

DEADLINE = 75 * 60.0
"""Seconds. Gateways give up after an hour themselves, though only on tasks that their engine still remembers."""
_AT_ONCE_DEADLINE = 900.0
"""For what is answered at once: the answer may take 10 minutes."""

_ANSWER: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "prompt": _text("The prompt to go on with; for a custom zoom with `--zoom`, 1 to 2. Default: the one so far."),
        "mask": _FIELDS["mask"],
    },
    "examples": [{"prompt": "A paper boat on calm water --zoom 1.5"}],
}
"""What a window (MODAL) asks for: a prompt, and a mask to vary a region."""


def _operation(
    name: str,
    produces: ResultKind,
    takes: str,
    *,
    parent: Literal["required", "optional"] | None = None,
    answer: Mapping[str, Any] | None = _ANSWER,
    own: Mapping[str, Mapping[str, Any]] | None = None,
    deadline: float = DEADLINE,
    **more: Any,
) -> Operation:
    """Compose an operation of this family.

    :param own: fields that are of another form here
    """
    known = operation(name, produces, takes, known={**_FIELDS, **(own or {})}, deadline=deadline, **more)
    return dataclasses.replace(known, parent=parent, answer=answer)


_DIMENSIONS = {"2:3": "PORTRAIT", "1:1": "SQUARE", "3:2": "LANDSCAPE"}
_SEVERAL = {**_IMAGES, "minItems": 2, "maxItems": 5, "description": "The 2 to 5 images to blend, as `data:`."}
_BLEND = {"images": _SEVERAL, "aspect_ratio": _choice("Shape of the picture.", *_DIMENSIONS)}
_UPLOAD = {"images": {**_IMAGES, "description": "The images to put at Midjourney's, as `data:`."}}
_OPERATIONS = (
    _operation("imagine", "image", "prompt* images aspect_ratio+ negative_prompt seed bot speed"),
    _operation("blend", "image", "images* aspect_ratio bot speed", own=_BLEND),
    _operation("describe", "text", "image* bot speed"),
    _operation("shorten", "text", "prompt* bot speed"),
    _operation("action", "image", "action* speed", parent="required"),
    _operation("change", "image", "change* index+ speed", parent="required"),
    _operation("simple_change", "image", "shorthand* speed", parent="required", aliases=("simple-change",)),
    _operation(
        "video",
        "video",
        "image+ prompt+ last_image motion resolution loop count index speed",
        parent="optional",
        meanings={
            "prompt": "What is to happen, in words.",
            "index": "Which of the parent's four videos to extend, counted from 1; only with `parent_id`.",
        },
    ),
    _operation("edits", "image", "prompt* image* mask speed", aliases=("edit",)),
    _operation(
        "upload",
        "image",
        "images* speed",
        answer=None,
        own=_UPLOAD,
        aliases=("upload-discord-images", "upload_images"),
        deadline=_AT_ONCE_DEADLINE,
    ),
    _operation(
        "face_swap",
        "image",
        "image* target_image* speed",
        aliases=("swap", "swap_face"),
        meanings={"image": "The image that the face is taken from, as URL or `data:`."},
    ),
    _operation(
        "image_seed",
        "text",
        "",
        parent="required",
        answer=None,
        aliases=("image-seed", "seed"),
        deadline=_AT_ONCE_DEADLINE,
    ),
)

FAMILY = Family("midjourney", "Midjourney", {known.name: known for known in _OPERATIONS})

_ROUTES = {
    "imagine": "/mj/submit/imagine",
    "blend": "/mj/submit/blend",
    "describe": "/mj/submit/describe",
    "shorten": "/mj/submit/shorten",
    "action": "/mj/submit/action",
    "change": "/mj/submit/change",
    "simple_change": "/mj/submit/simple-change",
    "video": "/mj/submit/video",
    "edits": "/mj/submit/edits",
    "upload": "/mj/submit/upload-discord-images",
    "face_swap": "/mj/insight-face/swap",
    "image_seed": "/mj/task/{id}/image-seed",
}
_VERB = re.compile(r"/(?:submit|insight-face)/([\w-]+)|/(image-seed)\b", re.ASCII)
_OF_A_PARENT = frozenset({"action", "change", "simple-change", "modal", "video", "image-seed"})
"""The routes of which code 3 says that the parent is gone, unless its text speaks of accounts."""

_BOTS = {"midjourney": "MID_JOURNEY", "niji": "NIJI_JOURNEY"}
_PARAMETERS = {"aspect_ratio": ("--ar", "--aspect"), "negative_prompt": ("--no",), "seed": ("--seed",)}
"""Our fields that Midjourney takes in the prompt, with the spellings that say them there."""

_TEXTS = frozenset({"DESCRIBE", "SHORTEN"})
"""The actions whose output is a text, and whose image is what was given."""
_OWN_FIELDS = frozenset(
    {"action", "submitTime", "startTime", "finishTime", "progress", "imageUrl", "videoUrl", "failReason", "buttons"}
)
"""What tells a task object that lacks an id or a status from any other object."""
_HOOK = re.compile(rb'(notifyHook\\*"\s*:\s*\\*")(?:[^"\\]|\\[^"])*')
"""The callback URL, echoed with its token: no error message may carry it away."""
_FRESH = re.compile(r"\?rand=\d+$")
_OK = range(200, 300)


class Proxy(Dialect):
    """/mj/* of midjourney-proxy engines, new-api gateways, ElkAPI and CometAPI.

    There is no cancel through a gateway. ``state``, which is handed back unchanged, is left to the client's options.
    """

    family = "midjourney"
    name = "proxy"
    operations = _ROUTES
    callbacks = True
    synchronous = frozenset({"upload", "image_seed"})
    refunds = True
    batch_size = 100
    first_look = 2.0  # new-api says 1 where the engine said 21: only a look shows that a task waits in its modal
    reserved = frozenset({"callback_url", "notifyHook", "taskId", "customId", "content"})
    typical_seconds: ClassVar[Mapping[str, float]] = {
        **dict.fromkeys(_ROUTES.keys() - synchronous, 60.0),  # captured drawings took 29, 42 and 102 s
        "describe": 20.0,
        "shorten": 20.0,
        "video": 90.0,
    }

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Say which call creates the job. Nothing but ``image_seed`` is asked by GET."""
        route = _ROUTES[task.operation].replace("{id}", quote(_parent(task), safe=""))
        if task.operation == "image_seed":
            return Call(method="GET", path=route)
        hook = None if task.operation in self.synchronous else callback_url
        body = merge({**_body(task), "notifyHook": hook}, task.options)
        return Call(method="POST", path=_prefix(task) + route, json=body)

    def query(self, task: Task) -> Call:
        """Ask for the task. Gateways take the plain path, whatever the speed."""
        return Call(method="GET", path=f"/mj/task/{quote(task.external_id or '', safe='')}/fetch")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit that has no parent."""
        return _accepted(reply, "imagine")

    def read_status(self, reply: Reply) -> Update:
        """Read the task, or a list of one."""
        record = _record(reply.document)
        if reply.status not in _OK or not _is_task(record):
            raise _unanswered(reply)
        return _read(record)

    def submit(self, task: Task, callback_url: str | None) -> Exchange:
        """Hand the task over. What an answer means depends on what was asked."""
        call = self.create(task, callback_url)
        reply = yield self.purchase(task, call)
        return _accepted(reply, _verb(call.path))

    def from_parent(self, task: Task, parent: Task) -> Mapping[str, Any] | list[Mistake]:
        """Take over the parent's id and prompt, and the button that the parent has for an action."""
        if parent.external_id is None:
            return [Mistake("parent_id", f"{parent.operation} leaves no job at Midjourney's to go on from.")]
        taken = {"external_id": parent.external_id, "prompt": _prompt_so_far(parent)}
        if task.operation == "action":
            chosen = _choose(str(task.input.get("action", "")), parent.next_actions)
            if isinstance(chosen, Mistake):
                return [chosen]
            job, _, button = chosen.id.rpartition(" ")
            return taken | {"action": button} | ({"external_id": job} if job else {})
        if len(_jobs(parent)) > 1:
            return [Mistake("parent_id", "It is several jobs at Midjourney's: only an action tells which one.")]
        return taken

    def answer(self, task: Task, given: Mapping[str, Any]) -> Exchange:
        """Answer the window that a task waits in. A prompt always goes along: engines complain of none."""
        prompt = given.get("prompt") or _prompt_so_far(task)
        if not prompt:
            raise Refused("invalid_input", "Midjourney wants a prompt here, and there is none so far: give one.")
        body = merge({"taskId": task.external_id, "prompt": prompt, "maskBase64": given.get("mask")}, {})
        path = f"{_prefix(task)}/mj/submit/modal"
        reply = yield Call(method="POST", path=path, json=body, creates=True, read_timeout=self.submit_timeout)
        return _accepted(reply, "modal")

    def poll(self, task: Task) -> Exchange:
        """Ask for the task's state; a task that is several jobs has no fetch of its own."""
        if len(_jobs(task)) > 1:
            found = yield from self.poll_many([task])
            if not found:
                raise NotFound("not_found")
            return found[task.external_id or ""]
        return (yield from super().poll(task))

    def poll_many(self, tasks: Sequence[Task]) -> ManyExchange:
        """Ask for several tasks at once. Ids that are not known are left out of the answer, and its order is anybody's."""
        ids = [job for task in tasks for job in _jobs(task)]
        known = _listed((yield Call(method="POST", path="/mj/task/list-by-condition", json={"ids": ids})))
        found = {task.external_id or "": _gathered(task, known) for task in tasks}
        return {external_id: update for external_id, update in found.items() if update is not None}

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: the whole task object, with nothing around it."""
        record = _record(callback.document)
        if not _is_task(record):
            raise Unreadable("no task in it")
        return [_read(record)]

    def authorize(self, call: Call, key: str) -> Call:
        """Add the key as gateways want it, and as engines do; whoever knows the one ignores the other."""
        authorized = super().authorize(call, key)
        return dataclasses.replace(authorized, headers={**authorized.headers, "mj-api-secret": key})

    def validate(self, task: Task) -> list[Mistake]:
        """Say what is known to go wrong."""
        found = super().validate(task)
        if not self.offers(task.family, task.operation):
            return found
        if task.operation == "image_seed" and task.options:
            found.append(Mistake("options", "There is nothing to send them in: leave them out."))
        if task.operation == "video":
            found += _video_mistakes(task)
        return found + _said_twice(task)

    def creates(self, endpoint: str) -> bool:
        """Whether an endpoint creates, or is asked as a submit: list-by-condition is a POST that only asks."""
        return (super().creates(endpoint) and "/task/" not in endpoint) or _verb(endpoint) == "image-seed"

    def read(self, kind: MessageKind, endpoint: str, reply: Reply) -> Update:
        """Read any recorded message."""
        if kind == "submit_response" or (kind != "callback" and self.creates(endpoint)):
            return _accepted(reply, _verb(endpoint))
        return super().read(kind, endpoint, reply)


def _prefix(task: Task) -> str:
    """Say the speed: gateways have a path for each mode."""
    return f"/mj-{task.input['speed']}" if "speed" in task.input else ""


def _parent(task: Task) -> str:
    return str(task.inherited.get("external_id") or "")


def _body(task: Task) -> dict[str, Any]:
    """Say a task as the protocol has it (POST /mj/submit/*)."""
    given, parent = task.input, _parent(task)
    images = given.get("images", [])
    said: dict[str, dict[str, Any]] = {
        "imagine": {"prompt": _prompt(given), "base64Array": [image for image in images if _inline(image)] or None},
        "blend": {"base64Array": images, "dimensions": _DIMENSIONS.get(given.get("aspect_ratio", ""))},
        "describe": _image(given, "image", "base64", "link"),
        "shorten": {"prompt": given.get("prompt")},
        "action": {"taskId": parent, "customId": task.inherited.get("action")},
        # new-api wants an index even where there is nothing to choose.
        "change": {"taskId": parent, "action": given.get("change", "").upper(), "index": given.get("index", 1)},
        "simple_change": {"content": f"{parent} {given.get('shorthand')}"},
        "video": _video(given, parent),
        "edits": {"prompt": given.get("prompt"), "image": given.get("image"), "maskBase64": given.get("mask")},
        "upload": {"base64Array": images},
        "face_swap": {
            **_image(given, "image", "sourceBase64", "sourceUrl"),
            **_image(given, "target_image", "targetBase64", "targetUrl"),
        },
    }
    return {**said[task.operation], "botType": _BOTS.get(given.get("bot", ""))}


def _inline(image: str) -> bool:
    return image.startswith("data:")


def _image(given: Mapping[str, Any], name: str, inline: str, linked: str) -> dict[str, Any]:
    """Say an image under the name for its bytes or the one for its address."""
    image = given.get(name)
    return {inline if image is None or _inline(image) else linked: image}


def _prompt(given: Mapping[str, Any]) -> str:
    """Say a prompt as Midjourney reads one: addresses of images, words, parameters."""
    addresses = [image for image in given.get("images", ()) if not _inline(image)]
    parameters = [f"{names[0]} {given[ours]}" for ours, names in _PARAMETERS.items() if ours in given]
    return " ".join([*addresses, str(given.get("prompt", "")), *parameters])


def _prompt_so_far(task: Task) -> str | None:
    """Give the prompt that a task was made with, be it its own or that of the first of a line of follow-ups."""
    inherited: str | None = task.inherited.get("prompt")
    return _prompt(task.input) if "prompt" in task.input else inherited


def _video(given: Mapping[str, Any], parent: str) -> dict[str, Any]:
    """Say a video, or how one goes on. CometAPI requires the motion."""
    resolution = given.get("resolution")
    return {
        "prompt": given.get("prompt"),
        "image": given.get("image"),
        "endImage": given.get("last_image"),
        "motion": given.get("motion", None if parent else "low"),
        "videoType": resolution and f"vid_1.1_i2v_{resolution.removesuffix('p')}",
        "loop": given.get("loop"),
        "batchSize": given.get("count"),
        **({"action": "extend", "index": given.get("index", 1) - 1, "taskId": parent} if parent else {}),
    }


def _video_mistakes(task: Task) -> list[Mistake]:
    if _parent(task):
        return []
    found = []
    if "index" in task.input:
        found.append(Mistake("input.index", "It counts a parent's videos: name the parent_id."))
    body = merge(_video(task.input, ""), task.options)
    if not body.get("image") and "http" not in str(body.get("prompt", "")):
        found.append(Mistake("input.image", "is required: Midjourney sets a picture in motion"))
    return found


def _said_twice(task: Task) -> list[Mistake]:
    """Name the fields that the prompt says already."""
    words = set(str(task.input.get("prompt", "")).split())
    return [
        Mistake(f"input.{ours}", f"The prompt has {names[0]} already: say it once.")
        for ours, names in _PARAMETERS.items()
        if ours in task.input and task.operation == "imagine" and not words.isdisjoint(names)
    ]


def _choose(wanted: str, offered: Sequence[Action]) -> Action | Mistake:
    """Find an action by its id, or by its label if only one has it."""
    found = [action for action in offered if action.id == wanted][:1]
    found = found or [action for action in offered if action.label.casefold() == wanted.casefold()]
    if len(found) == 1:
        return found[0]
    if found:
        return Mistake("input.action", f"{len(found)} actions are labelled {wanted!r}: give the id of one")
    return Mistake("input.action", f"the parent has no action {wanted!r}{nearest(wanted, _labels(offered))}")


def _labels(offered: Sequence[Action]) -> list[str]:
    return list(dict.fromkeys(action.label for action in offered))


def _verb(endpoint: str) -> str:
    """Say what is asked by an endpoint that creates: ``imagine`` of ``POST /mj-fast/mj/submit/imagine``."""
    found = _VERB.search(endpoint)
    return (found[1] or found[2]) if found else ""


Record = Mapping[str, Any]


def _accepted(reply: Reply, verb: str) -> Update:
    """Read the answer to a submit. Where there is an id the job may exist, whatever else is said."""
    said = fields(reply.document)
    code = _code(said)
    if reply.status in _OK and code not in _NOT_TAKEN and (update := _taken(said, code, verb)) is not None:
        return update
    raise _refusal(reply, code, verb)


def _code(said: Record) -> int | None:
    text = word(said.get("code")) or ""
    return int(text) if re.fullmatch(r"-?\d{1,4}", text, re.ASCII) else None


def _taken(said: Record, code: int | None, verb: str) -> Update | None:
    """Read what a submit gave: an id, the links of what was uploaded, or a seed."""
    result = said.get("result")
    if verb in {"upload-discord-images", "image-seed"} or isinstance(result, list):
        given = [Result("image", url) for url in links(result)]
        if verb == "image-seed":
            given = [Result("text", text=text) for text in [word(result)] if text is not None]
        return Update(state=State.SUCCEEDED, results=tuple(given)) if given and code in _TAKEN else None
    external_id = identifier(result)
    if external_id is None:
        return None
    there = fields(said.get("properties"))
    if code != _WAITS:
        return Update(state=State.SUBMITTED, external_id=external_id)
    if word(there.get("status")) or word(there.get("imageUrl")):
        return Update(state=State.SUBMITTED, external_id=external_id, unknown_word=_state(there)[1])
    return Update(state=State.AWAITING_INPUT, external_id=external_id)


def _refusal(reply: Reply, code: int | None, verb: str) -> UpstreamError:
    """Read why nothing was taken, or why that is not certain."""
    reply = _without_hook(reply)
    message = newapi_errors.complaint(reply.document).message
    verdict = _by_words(message) or _by_code(reply.status, code, message, verb)
    if verdict is not None:
        error, reason = verdict
        wait = _LAG if error is Unavailable and _first_word(message) == "task_status_not_success" else None
        reason = reason or newapi_errors.failure_from_text(message).code
        return error(reason, message, retry_after=reply.retry_after or wait)
    shared = newapi_errors.refusal_in(reply, creating=True)
    if reply.status in _OK and code is not None and isinstance(shared, Refused):
        return Uncertain("unreadable", message)  # a code that nobody has heard of proves nothing
    return shared


def _first_word(message: str | None) -> str:
    return ((message or "").split(maxsplit=1) or [""])[0].lower()


def _by_words(message: str | None) -> Verdict | None:
    """Look up what new-api says in words; a cause may follow the first."""
    parts = (verdict for part, verdict in _REFUSAL_PARTS.items() if part in (message or ""))
    return _REFUSALS.get(_first_word(message)) or next(parts, None)


def _by_code(status: int, code: int | None, message: str | None, verb: str) -> Verdict | None:
    """Look up what the code says, where an engine is heard: other statuses are a gateway's own, and mean what they say."""
    verdict = _NOT_TAKEN.get(code) if code is not None else None
    about_accounts = any(part in (message or "").lower() for part in ("账号", "account"))
    if code == _NOT_FOUND and verb in _OF_A_PARENT and not about_accounts:
        verdict = (Refused, "not_found")
    if verdict is None or status in {*_OK, HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND}:
        return verdict
    return verdict if status == HTTPStatus.TOO_MANY_REQUESTS and verdict[0] is Unavailable else None


def _unanswered(reply: Reply) -> UpstreamError:
    """Read why a question has no task for an answer: engines say nothing at all of an id that they do not know."""
    if reply.status in _OK and (not reply.body.strip() or reply.document in (None, [])):
        return NotFound("not_found")
    reply = _without_hook(reply)
    message = newapi_errors.complaint(reply.document).message
    if _first_word(message) in _UNKNOWN_TASK:
        return NotFound("not_found", message)
    return newapi_errors.refusal_in(reply, creating=False)


def _without_hook(reply: Reply) -> Reply:
    return dataclasses.replace(reply, body=_HOOK.sub(rb"\1", reply.body))


def _listed(reply: Reply) -> Mapping[str, Update]:
    """Read list-by-condition: updates by id, the furthest of those with the same one."""
    document = reply.document
    if reply.status not in _OK or not isinstance(document, list):
        error = _unanswered(reply)
        if error.code == "not_found":  # nobody is known, or nobody knows the route: each is asked about by itself
            return {}
        raise error
    read = [_read(record) for record in document if _is_task(record)]
    return {update.external_id: update for update in sorted(read, key=_reached) if update.external_id is not None}


def _reached(update: Update) -> int:
    return _RANK.index(update.state)


def _jobs(task: Task) -> list[str]:
    """List the provider's ids of a task: an answer may have joined several by commas ("Imagine all")."""
    return [job for part in (task.external_id or "").split(",") if (job := part.strip())]


def _gathered(task: Task, known: Mapping[str, Update]) -> Update | None:
    """Find the news of a task; None when nothing is known of it. One that is not listed among several has no news."""
    jobs = _jobs(task)
    if not any(job in known for job in jobs):
        return None
    if len(jobs) == 1:
        return known[jobs[0]]
    return _together(task.external_id or "", {job: known.get(job, Update()) for job in jobs})


def _together(external_id: str, parts: Mapping[str, Update]) -> Update:
    """Say in one what several jobs say: done when all are, and well if any went well."""
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
    best = max(parts.values(), key=_reached)
    actions = tuple(
        Action(f"{job} {action.id}", f"{number}: {action.label}")
        for number, (job, part) in enumerate(parts.items(), 1)
        for action in part.actions
    )
    return dataclasses.replace(best, external_id=external_id, progress=progress, results=results, actions=actions)


def _record(document: Any) -> Any:
    return document[0] if isinstance(document, list) and document else document


def _is_task(document: Any) -> bool:
    if not isinstance(document, dict):
        return False
    named, spoken, own = _identifier(document), "status" in document, not _OWN_FIELDS.isdisjoint(document)
    return (named is not None and (spoken or own)) or (spoken and own)


def _identifier(record: Record) -> str | None:
    return identifier(record.get("id")) or identifier(record.get("taskId"))


def _read(record: Record) -> Update:
    """Read a task object. The status alone decides: neither "100%" nor an image is a proof of anything."""
    state, unknown_word = _state(record)
    outputs = _outputs(record)
    if state is State.SUCCEEDED and not outputs:
        state = None  # they will come; a success without an output settles nothing
    results = outputs if state is State.SUCCEEDED else _preview(record) if state is State.RUNNING else []
    return Update(
        state=state,
        external_id=_identifier(record),
        progress=percent(record.get("progress")),
        results=tuple(results),
        failure=_failure(record, state),
        actions=_actions(record) if state is State.SUCCEEDED else (),
        unknown_word=unknown_word,
    )


def _state(record: Record) -> tuple[State | None, str | None]:
    """Translate the status; and give the word back when no table has it."""
    status = record.get("status")
    if status is not None and not isinstance(status, str):
        return None, word(status)
    text = (status or "").strip().lower()
    return WORDS.get(text), None if text in WORDS else word(text)


def _outputs(record: Record) -> list[Result]:
    """Find the outputs: a text, videos, single images, or one picture; and what goes with them after."""
    there = fields(record.get("properties"))
    if _makes_text(record):
        text = _prose(there.get("finalPrompt")) or _prose(record.get("prompt"))
        translated = _prose(there.get("finalZhPrompt"))
        beside = [Result("text", text=translated, role="extra")] if translated else []
        return [Result("text", text=text), *beside] if text else []
    picture = link(record.get("imageUrl"))
    videos, covers = _urls(record.get("videoUrls"), "url"), _urls(record.get("videoUrls"), "thumbnail")
    videos = videos or links(record.get("videoUrl"))
    images = _urls(record.get("imageUrls"), "url")
    main = videos or images or links(picture)
    covers = covers if videos else _urls(record.get("imageUrls"), "thumbnail")
    rest: list[tuple[str, ResultRole]] = [(url, "cover") for url in covers]
    rest += [(picture, "extra")] if picture and picture not in main else []
    found = [Result(kind_of(url, "video" if videos else "image"), url) for url in main]
    return found + [Result(kind_of(url, "image"), url, role=role) for url, role in rest] if found else []


def _makes_text(record: Record) -> bool:
    return (word(record.get("action")) or "").upper() in _TEXTS


def _prose(value: Any) -> str | None:
    """Read a text that is an output: as it is, but safe to store."""
    text = value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else ""
    return text if text.strip() else None


def _urls(value: Any, name: str) -> list[str]:
    """Read a list of texts or of objects with such a field, or one text."""
    items = value if isinstance(value, list) else [value]
    return links([item.get(name) if isinstance(item, dict) else item if name == "url" else None for item in items])


def _preview(record: Record) -> list[Result]:
    """Show the picture of a running task. new-api gives it another address at every look: that is no news."""
    url = link(record.get("imageUrl"))
    return [Result("image", _FRESH.sub("", url), role="preview")] if url and not _makes_text(record) else []


def _failure(record: Record, state: State | None) -> Failure | None:
    """Say why, by the text: there is nothing else."""
    text = word(record.get("failReason"))
    if state is State.FAILED:
        return newapi_errors.failure_from_text(text)
    return Failure("cancelled", text) if state is State.CANCELLED and text else None


def _actions(record: Record) -> tuple[Action, ...]:
    """Read the buttons, in the provider's order. Some have no label but a sign."""
    buttons = record.get("buttons")
    read = [fields(button) for button in buttons] if isinstance(buttons, list) else []
    named = [(word(button.get("customId")), word(button.get("label")) or word(button.get("emoji"))) for button in read]
    return tuple(Action(custom_id, label or custom_id) for custom_id, label in named if custom_id)
