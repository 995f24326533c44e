"""Midjourney by the protocol of midjourney-proxy (/mj/*), which its engines and all gateways use."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from service.domain.errors import NotFound, Refused, Unreadable
from service.domain.task import Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.midjourney.record import is_task, only_record, read_task
from service.providers.midjourney.request import (
    body_of,
    chosen_action,
    given_twice,
    parent_of,
    prefix_of,
    prompt_mistakes,
    prompt_so_far,
    video_mistakes,
)
from service.providers.midjourney.several import gathered, jobs, read_list
from service.providers.midjourney.submitted import no_task, read_submit
from service.providers.wire import Call, Callback, Exchange, ManyExchange, Reply

ROUTES = {
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
_SYNCHRONOUS = frozenset({"upload", "image_seed"})


class Proxy(Dialect):
    """/mj/* of midjourney-proxy engines, new-api gateways, ElkAPI and CometAPI.

    There is no cancel through a gateway. ``state``, which is handed back unchanged, is left to the client's options.
    """

    facts = Facts(
        family="midjourney",
        name="proxy",
        operations=ROUTES,
        callbacks=True,
        synchronous=_SYNCHRONOUS,
        queries=("/task/",),
        refunds=True,
        uploads={
            "blend": ("images",),
            "upload": ("images",),
            "edits": ("mask",),
        },  # base64Array and maskBase64 take no URL
        batch_size=100,
        first_poll=2.0,  # new-api answers 1 where the engine answered 21: only a poll shows that a task waits in its modal
        reserved=frozenset({"callback_url", "notifyHook", "taskId", "customId", "content"}),
        typical_seconds={
            **dict.fromkeys(ROUTES.keys() - _SYNCHRONOUS, 60.0),  # captured drawings took 29, 42 and 102 s
            "describe": 20.0,
            "shorten": 20.0,
            "video": 90.0,
        },
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job. Only ``image_seed`` is a GET."""
        route = ROUTES[task.operation].replace("{id}", quote(parent_of(task), safe=""))
        if task.operation == "image_seed":
            return Call(method="GET", path=route)
        hook = None if task.operation in self.facts.synchronous else callback_url
        body = merge({**body_of(task), "notifyHook": hook}, task.options)
        return Call(method="POST", path=prefix_of(task) + route, json=body)

    def query(self, task: Task) -> Call:
        """Return the call that queries the task. Gateways accept the plain path at every speed."""
        return Call(method="GET", path=f"/mj/task/{quote(task.external_id or '', safe='')}/fetch")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit. Its meaning depends on the route."""
        return read_submit(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the task, or a list of one."""
        record = only_record(reply.document)
        if not reply.ok or not is_task(record):
            raise no_task(reply)
        return read_task(record)

    def from_parent(self, task: Task, parent: Task) -> Mapping[str, Any] | list[Mistake]:
        """Return the parent's id and prompt, and the button that the parent has for an action."""
        if parent.external_id is None:
            return [Mistake("parent_id", f"{parent.operation} leaves no job at Midjourney that could be continued.")]
        taken = {"external_id": parent.external_id, "prompt": prompt_so_far(parent)}
        if task.operation == "action":
            chosen = chosen_action(str(task.input.get("action", "")), parent.next_actions)
            if isinstance(chosen, Mistake):
                return [chosen]
            job, _, button = chosen.id.rpartition(" ")
            return taken | {"action": button} | ({"external_id": job} if job else {})
        if len(jobs(parent)) > 1:
            return [Mistake("parent_id", "It is several jobs at Midjourney: only an action names one of them.")]
        return taken

    def send_input(self, task: Task, given: Mapping[str, Any]) -> Exchange:
        """Answer the window that a task waits in. A prompt is always sent: engines refuse an answer without one."""
        prompt = given.get("prompt") or prompt_so_far(task)
        if not prompt:
            raise Refused("invalid_input", "Midjourney requires a prompt here, and the task has none: give one.")
        body = merge({"taskId": task.external_id, "prompt": prompt, "maskBase64": given.get("mask")}, {})
        path = f"{prefix_of(task)}/mj/submit/modal"
        call = Call(method="POST", path=path, json=body, creates=True, read_timeout=self.facts.submit_timeout)
        reply = yield call
        return read_submit(dataclasses.replace(reply, endpoint=call.endpoint))

    def poll(self, task: Task) -> Exchange:
        """Request the state of the task; a task with several jobs has no fetch of its own."""
        if len(jobs(task)) > 1:
            found = yield from self.poll_many([task])
            if not found:
                raise NotFound("not_found")
            return found[task.external_id or ""]
        return (yield from super().poll(task))

    def poll_many(self, tasks: Sequence[Task]) -> ManyExchange:
        """Request several tasks at once. Unknown ids are missing from the answer, which has no fixed order."""
        ids = [job for task in tasks for job in jobs(task)]
        known = read_list((yield Call(method="POST", path="/mj/task/list-by-condition", json={"ids": ids})))
        found = {task.external_id or "": gathered(task, known) for task in tasks}
        return {external_id: update for external_id, update in found.items() if update is not None}

    def read_callback(self, callback: Callback) -> list[Update]:
        """Read a callback: the whole task object, with nothing around it."""
        record = only_record(callback.document)
        if not is_task(record):
            raise Unreadable("no task in it")
        return [read_task(record)]

    def authorize(self, call: Call, key: str) -> Call:
        """Return the call with the key in the headers of gateways and of engines. Each ignores the other header."""
        authorized = super().authorize(call, key)
        return dataclasses.replace(authorized, headers={**authorized.headers, "mj-api-secret": key})

    def validate(self, task: Task) -> list[Mistake]:
        """Return the mistakes that are known to be refused."""
        found = super().validate(task)
        if not self.offers(task.family, task.operation):
            return found
        if task.operation == "image_seed" and task.options:
            found.append(Mistake("options", "There is nothing to send them in: leave them out."))
        if task.operation == "video":
            found += video_mistakes(task)
        return found + given_twice(task) + prompt_mistakes(task)
