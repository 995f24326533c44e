"""Replicate's own API (/v1), which runs any model by ``owner/name``, by version or by deployment."""

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from service.domain.errors import Unreadable, UpstreamError
from service.domain.task import Result, State, Task, Update
from service.domain.validation import Mistake
from service.providers import market
from service.providers.dialect import Dialect, Facts, about
from service.providers.form import file, form, is_inline
from service.providers.models import listed_in_pages
from service.providers.predictions import is_prediction, read_page, read_prediction, refusal_of
from service.providers.read import fields, identifier, items, kind_of, link, moment, word
from service.providers.replicate.guests import model_of, offers
from service.providers.replicate.inputs import body_of, input_mistakes, is_name
from service.providers.signatures import standard_webhook
from service.providers.wire import Call, Callback, Exchange, JobsExchange, ListedJob, ModelsExchange, Reply

_VERSION = re.compile(r"[0-9a-f]{64}")
_RUN = "/v1/predictions"
_TRAIN = "/v1/models/{owner}/{name}/versions/{version}/trainings"
_UPLOAD = "/v1/files"
_OF_A_FILE = frozenset({"content_type", "size"})
_MAX_PAGES = 20
_MARGIN = dt.timedelta(minutes=15)
"""How long around a lost answer its job may have been created."""


class Official(Dialect):
    """POST and GET /v1/predictions of api.replicate.com. The outputs of a prediction are deleted after an hour."""

    facts = Facts(
        family="replicate",
        name="official",
        operations={**dict.fromkeys(market.SECONDS, _RUN), "train": _TRAIN, "upload": _UPLOAD},
        callbacks=True,
        signs=True,
        reserved=frozenset({"callback_url", "webhook", "webhook_events_filter"}),
        synchronous=frozenset({"upload"}),
        free=frozenset({"upload"}),
        typical_seconds={**market.SECONDS, "train": 1200.0, "upload": 5.0},
        result_lifetime={**dict.fromkeys(market.SECONDS, 3600.0), "upload": 86400.0},
    )

    def offers(self, family: str, operation: str) -> bool:
        """Return whether it serves an operation: its own, and those of makers whose models it runs."""
        return super().offers(family, operation) or offers(family, operation)

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the prediction. Without ``Prefer: wait`` it is answered at once."""
        if task.operation == "upload":
            return Call(
                method="POST", path=_UPLOAD, form=form({"content": file(task.input["file"], "file"), **task.options})
            )
        path, more = _target(task)
        return Call(method="POST", path=path, json=body_of(task, more, callback_url))

    def query(self, task: Task) -> Call:
        """Return the call that queries the prediction by its id. The ``urls`` of an answer are never called."""
        return Call(method="GET", path=_job_path(task))

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: the prediction in its first state, or a file."""
        if reply.ok and is_prediction(reply.document):
            return read_prediction(reply.document)
        if reply.ok and (uploaded := _file(reply.document)) is not None:
            return Update(state=State.SUCCEEDED, results=(uploaded,))
        raise refusal_of(reply, creating=True)

    def read_status(self, reply: Reply) -> Update:
        """Read the prediction."""
        update = _read(reply.document)
        if not reply.ok or update is None:
            raise refusal_of(reply, creating=False)
        return update

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: the prediction, as a poll shows it."""
        update = _read(callback.document)
        if update is None:
            raise Unreadable("no prediction in it")
        return [update]

    def verify_signature(self, callback: Callback, secret: str | None) -> bool | None:
        """Return whether the signature is right, by the account's secret (GET /v1/webhooks/default/secret)."""
        return None if secret is None else standard_webhook(callback, secret)

    def cancel(self, task: Task) -> Exchange:
        """Request the cancellation. A prediction that has ended comes back unchanged."""
        reply = yield Call(method="POST", path=f"{_job_path(task)}/cancel")
        return about(task, self.read_cancelled(reply))

    def read_cancelled(self, reply: Reply) -> Update:
        """Read the answer to the call that cancels: the prediction."""
        return self.read_status(reply)

    def find_lost_jobs(self, task: Task) -> JobsExchange:
        """List the predictions of the time. The list shows neither the input nor, of official models, the version."""
        at = task.unconfirmed_since or task.updated_at
        span = {"created_after": (at - _MARGIN).isoformat(), "created_before": (at + _MARGIN).isoformat()}
        path, found = f"{_RUN}?{urlencode(span)}", list[ListedJob]()
        for _ in range(_MAX_PAGES):
            reply = yield Call(method="GET", path=path)
            document = fields(reply.document)
            if not reply.ok or not isinstance(document.get("results"), list):
                raise refusal_of(reply, creating=False)
            found += [job for each in items(document["results"]) if (job := _listed(each)) is not None]
            cursor = _cursor(document)
            if cursor is None:
                return found
            path = f"{_RUN}?{urlencode({'cursor': cursor})}"
        raise UpstreamError("unreadable", f"the list goes on after {_MAX_PAGES} pages")

    def list_models(self) -> ModelsExchange:
        """Request the public models, the latest pages of them: there are many more than are read."""
        return listed_in_pages("/v1/models", _model_name, _next_models)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what Replicate's pages rule out."""
        found = super().validate(task)
        return found + _mistakes(task) if task.operation in self.facts.operations else found


def _model_name(row: Any) -> str | None:
    owner, name = (word(fields(row).get(part)) for part in ("owner", "name"))
    return None if owner is None or name is None else f"{owner}/{name}"


def _next_models(page: Any) -> str | None:
    """Return the path of the next page. Only the cursor of the URL that the answer names is used."""
    cursor = _cursor(fields(page))
    return None if cursor is None else f"/v1/models?{urlencode({'cursor': cursor})}"


def _cursor(page: Mapping[str, Any]) -> str | None:
    """Return the cursor of the URL of the next page; None where there is none."""
    _, _, query = (word(page.get("next")) or "").partition("?")
    return next(iter(parse_qs(query.partition("#")[0]).get("cursor", ())), None)


def _target(task: Task) -> tuple[str, dict[str, Any]]:
    """Return the path of a submit, and the fields of its body that name the model."""
    model, deployment = model_of(task), task.input.get("deployment")
    if "version" in task.options:
        return _RUN, {}  # the options name the version, in any form
    if deployment is not None:
        return f"/v1/deployments/{quote(str(deployment))}/predictions", {}
    name, _, version = model.partition(":")
    if task.operation == "train":
        body = {"destination": task.input["destination"]}
        return f"/v1/models/{quote(name)}/versions/{quote(version, safe='')}/trainings", body
    if version or _VERSION.fullmatch(name):
        return _RUN, {"version": version or name}
    return f"/v1/models/{quote(name)}/predictions", {}


def _read(document: Any) -> Update | None:
    """Read a prediction, or the first of a list."""
    return read_prediction(document) if is_prediction(document) else read_page(document)


def _job_path(task: Task) -> str:
    """Return the path of a job. A training is asked for by a route of its own."""
    kind = "trainings" if task.operation == "train" else "predictions"
    return f"/v1/{kind}/{quote(task.external_id or '', safe='')}"


def _file(document: Any) -> Result | None:
    """Return an uploaded file: its URL is what an input takes, for 24 hours."""
    held = fields(document)
    url = link(fields(held.get("urls")).get("get"), relative=False)
    if url is None or not held.keys() >= _OF_A_FILE or identifier(held.get("id")) is None:
        return None  # a prediction has a URL of this name too
    kind = kind_of(f"data:{word(held.get('content_type')) or ''},", "json")
    return Result(kind, url, expires_at=moment(held.get("expires_at")))


def _listed(row: Any) -> ListedJob | None:
    job, created_at = fields(row), moment(fields(row).get("created_at"))
    name, version = identifier(job.get("id")), word(job.get("version"))
    if name is None or created_at is None:
        return None
    return ListedJob(name, created_at.timestamp(), lambda task: _may_be(task, version))


def _may_be(task: Task, version: str | None) -> bool:
    """Return whether a listed job may be a task's. Only a version that both name distinguishes them."""
    asked = model_of(task).rpartition(":")[2]
    both = version is not None and _VERSION.fullmatch(version) and _VERSION.fullmatch(asked)
    return not both or version == asked


def _mistakes(task: Task) -> list[Mistake]:
    """Return what is wrong with the names of models, and with media."""
    given = task.input
    if task.operation == "upload":
        return [] if is_inline(given.get("file")) else [Mistake("input.file", "is no data: URL that can be read")]
    if "deployment" in given:
        found = [] if is_name(given["deployment"]) else [Mistake("input.deployment", "must be owner/name")]
        return found + (
            [Mistake("input.model", "cannot be combined with a deployment: leave one out")] if "model" in given else []
        )
    if "version" in task.options and task.operation == "run":
        return []
    if not model_of(task):
        return [Mistake("input.model", "is required here: owner/name, owner/name:version, or a deployment")]
    name, _, version = model_of(task).partition(":")
    right = is_name(name) or (not version and _VERSION.fullmatch(name))
    found = [] if right else [Mistake("input.model", "must be owner/name, owner/name:version, or a version")]
    if task.operation == "train":
        found += [] if version else [Mistake("input.model", "must name a version to train from: owner/name:version")]
        found += [] if is_name(given.get("destination")) else [Mistake("input.destination", "must be owner/name")]
    return found + input_mistakes(task)
