"""kie.ai's task API (/api/v1/jobs), which runs any model of its market."""

from typing import Any
from urllib.parse import quote

from service.domain.errors import Refused, Unreadable, UpstreamError
from service.domain.task import ENDED, State, Task, Update
from service.domain.validation import Mistake
from service.providers import market
from service.providers.dialect import Dialect, Facts, merge
from service.providers.kie.results import media_mistakes, results_of
from service.providers.kie_envelope import (
    agrees,
    code_of,
    credits_left,
    failure_of,
    job_of,
    refusal_of,
    signature_is_right,
)
from service.providers.read import fields, identifier, line, number, percent, word
from service.providers.wire import BalanceExchange, Call, Callback, Reply

STATES = {
    "waiting": State.SUBMITTED,
    "queuing": State.SUBMITTED,
    "generating": State.RUNNING,
    "success": State.SUCCEEDED,
    "fail": State.FAILED,
}
"""``state`` of a record, in lower case."""
_CREATE = "/api/v1/jobs/createTask"
_IMAGES: tuple[tuple[str, str], ...] = (
    ("flux-2/", "input_urls"),
    ("flux1-kontext", "inputImage"),
    ("gpt-image", "input_urls"),
    ("nano-banana", "image_input"),
    ("qwen", "image_url"),
    ("wan/", "image_url"),
    ("hailuo/", "image_url"),
    ("minimax", "image_url"),
    ("bytedance/", "image_url"),
)
"""The field that takes the image, by the beginning of the model's name. Others have ``image_urls``."""
_LISTS = frozenset({"image_urls", "input_urls", "image_input"})
_TEXT_DURATIONS = ("kling", "wan/", "hailuo/", "bytedance/")
"""The beginnings of models that take a duration as text."""
_DAY = 86400.0


class Jobs(Dialect):
    """POST /api/v1/jobs/createTask and GET /api/v1/jobs/recordInfo. A callback has the form of a record.

    Its signature covers no more than the id and the time: a poll confirms it.
    """

    facts = Facts(
        family="kie",
        name="jobs",
        operations=dict.fromkeys(market.SECONDS, _CREATE),
        callbacks=True,
        confirms=True,
        signs=True,
        cost_unit="credits",
        reserved=frozenset({"callback_url", "callBackUrl"}),
        typical_seconds=market.SECONDS,
        result_lifetime=_DAY,  # 14 days on most pages, 24 hours on some
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        mapped = {"model": task.input.get("model"), "callBackUrl": callback_url, "input": _input(task)}
        return Call(method="POST", path=_CREATE, json=merge(mapped, task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the record."""
        return Call(method="GET", path=f"/api/v1/jobs/recordInfo?taskId={quote(task.external_id or '', safe='')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: an id. A refusal has a ``code``, at any HTTP status."""
        data = fields(fields(reply.document).get("data"))
        job = job_of(data) or identifier(data.get("recordId"))
        if not reply.ok or not agrees(reply.document) or job is None:
            raise _refusal(reply)
        return Update(state=State.SUBMITTED, external_id=job)

    def read_status(self, reply: Reply) -> Update:
        """Read the record."""
        update = _read(reply.document) if reply.ok else None
        if update is None:
            raise refusal_of(reply, creating=False, credit_is_429=False)
        return update

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: a record, whose state decides. Its ``code`` is the outcome of the task, and no refusal."""
        update = _read(callback.document)
        if update is None:
            raise Unreadable("no task in it")
        return [update]

    def verify_signature(self, callback: Callback, secret: str | None) -> bool | None:
        """Return whether kie.ai's signature is right, where its key is set."""
        return signature_is_right(callback, secret)

    def balance(self) -> BalanceExchange:
        """Request the credits."""
        return credits_left("/api/v1/chat/credit")

    def validate(self, task: Task) -> list[Mistake]:
        """Return what kie.ai's pages rule out."""
        found = super().validate(task)
        return found + media_mistakes(task) if task.operation in self.facts.operations else found


def _input(task: Task) -> dict[str, Any]:
    """Return the model's input. Models differ in how they take images and durations."""
    model = str(task.input.get("model", ""))
    image = next((name for prefix, name in _IMAGES if model.startswith(prefix)), "image_urls")
    names = {"image": image, "video": "video_url", "last_image": "tail_image_url", "count": "num_images"}
    given = market.model_input(task, names)
    own = task.input.get("input", {})
    if image in _LISTS and "image" in task.input and image not in own:
        given[image] = [given[image]]
    if model.startswith(_TEXT_DURATIONS) and "duration" in task.input and "duration" not in own:
        given["duration"] = str(given["duration"])
    return given


def _refusal(reply: Reply) -> UpstreamError:
    found = refusal_of(reply, creating=True, credit_is_429=False)
    if isinstance(found, Refused) and found.code == "not_found":
        return Refused("invalid_input", found.message)  # a model that it does not have
    return found


def _read(document: Any) -> Update | None:
    """Read a record; None for any other document. One that is not there yet is no news."""
    data = fields(fields(document).get("data"))
    job, said = job_of(data), (word(data.get("state")) or "").lower()
    if not said:
        return Update(external_id=job) if agrees(document) and "data" in document else None
    state = STATES.get(said)
    results = results_of(data.get("resultJson")) if state in ENDED else ()
    if state is State.SUCCEEDED and not any(each.role == "result" for each in results):
        state = None
    cost = number(data.get("creditsConsumed"))
    return Update(
        state=state,
        external_id=job,
        progress=percent(data.get("progress")),
        results=results if state in ENDED else (),
        failure=failure_of(line(data.get("failMsg")), code_of(data)) if state is State.FAILED else None,
        cost=number(data.get("consumeCredits")) if cost is None else cost,
        unknown_word=said if said not in STATES else None,
    )
