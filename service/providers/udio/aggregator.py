"""Udio's own web API behind gateways: /udio/generate-proxy and /udio/query. Known from relays and wrappers only.

Gateways differ in the route that creates, and in the form of its body: each variant is a dialect.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from service.domain.task import State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts
from service.providers.newapi import errors as newapi_errors
from service.providers.read import fields, identifier, items
from service.providers.udio.family import FAMILY, body_of, inherited_from, mistakes_in
from service.providers.udio.songs import reason_of, results_of, songs_in, state_of
from service.providers.wire import Call, Reply


class Aggregator(Dialect):
    """POST /udio/generate-proxy, or another route, and GET /udio/query. A job is two songs, and its id is their ids."""

    def __init__(self, name: str = "aggregator", route: str = "/udio/generate-proxy", *, wrapped: bool = True) -> None:
        """Make the variant of a gateway.

        :param route: the route that creates
        :param wrapped: whether the fields are in ``gen_params``, and not in the body itself
        """
        self._wrapped = wrapped
        self.facts = Facts(
            family="udio",
            name=name,
            operations=dict.fromkeys(FAMILY.operations, route),
            typical_seconds=dict.fromkeys(FAMILY.operations, 90.0),
            experimental=True,
        )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the songs."""
        del callback_url
        return Call(
            method="POST", path=self.facts.operations[task.operation], json=body_of(task, wrapped=self._wrapped)
        )

    def query(self, task: Task) -> Call:
        """Return the call that queries the songs by their ids."""
        return Call(method="GET", path=f"/udio/query?ids={quote(task.external_id or '', safe=',')}")

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: the ids of the songs. The ``generation_id`` cannot be queried."""
        ids = [job for each in items(fields(reply.document).get("track_ids")) if (job := identifier(each)) is not None]
        if not reply.ok or not ids:
            raise newapi_errors.refusal_in(reply, creating=True)
        return Update(state=State.SUBMITTED, external_id=",".join(ids))

    def read_status(self, reply: Reply) -> Update:
        """Read the songs."""
        document = reply.document
        if not reply.ok or not isinstance(document, dict) or not isinstance(document.get("songs"), list):
            raise newapi_errors.refusal_in(reply, creating=False)
        songs = songs_in(document["songs"])
        state = state_of(songs)
        return Update(
            state=state,
            results=results_of(songs) if state is State.SUCCEEDED else (),
            failure=reason_of(songs) if state is State.FAILED else None,
        )

    def from_parent(self, task: Task, parent: Task) -> Mapping[str, Any] | list[Mistake]:
        """Return the song of the parent."""
        del task
        return inherited_from(parent)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what Udio's fields rule out."""
        found = super().validate(task)
        return found + mistakes_in(task) if task.operation in self.facts.operations else found
