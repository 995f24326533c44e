"""The hot statements: every claim, and every list under each filter that is documented, also where nothing matches."""

import datetime as dt
from typing import Any, Final
from uuid import UUID

from bench.growth.filling import FIRST, NOW
from bench.growth.plans import Act
from service.domain.destination_slots import DestinationSlots
from service.domain.task import State
from service.store import feed, inbox, ledger, queue
from service.store import tasks as task_store
from service.store.money import usage
from service.store.webhooks import attempts, messages

PAGE: Final = 51
MOST: Final = 100
UNTIL: Final = NOW + dt.timedelta(seconds=60)
NOBODY: Final = UUID(int=7)
SECOND: Final = NOW + dt.timedelta(seconds=1)
"""A second holds a thousand tasks at every size."""
HOUR: Final = dt.timedelta(hours=1)
BEFORE: Final = NOW - 2 * HOUR


def _tasks(**wanted: Any) -> Act:
    return lambda connection: task_store.page(connection, task_store.Filter(**wanted), most=PAGE)


def _messages(**wanted: Any) -> Act:
    return lambda connection: messages.list_messages(connection, messages.Filter(**wanted), most=PAGE)


def _inbox(**wanted: Any) -> Act:
    return lambda connection: inbox.page(connection, inbox.Filter(**wanted), most=PAGE)


def _feed(client: str, *types: str) -> Act:
    return lambda connection: feed.of_client(connection, client, after=0, most=PAGE, types=types)


CLAIMS: Final[dict[str, Act]] = {
    "claim of 100 submits": lambda it: queue.claim_tasks(it, "submit", now=NOW, until=UNTIL, most=MOST),
    "claim of 100 polls": lambda it: queue.claim_tasks(it, "poll", now=NOW, until=UNTIL, most=MOST),
}
"""The claims on tasks, which are measured at every size."""
IDLE: Final[dict[str, Act]] = {
    "claim of callbacks, none due": lambda it: queue.claim_rows(it, "callbacks", now=NOW, until=UNTIL, most=MOST),
    "claim of messages, none due": lambda it: queue.claim_messages(
        it, now=NOW, until=UNTIL, most=MOST, slots=DestinationSlots()
    ),
    "claim of duplicate jobs, none due": lambda it: queue.claim_rows(
        it, "submissions", now=NOW, until=UNTIL, most=MOST
    ),
}
LISTS: Final[dict[str, Act]] = {
    "tasks of a client": _tasks(client="big"),
    "tasks of a client, by state": _tasks(client="big", states=(State.FAILED,)),
    "tasks of a client, by state, none": _tasks(client="big", states=(State.AWAITING_INPUT, State.EXPIRED)),
    "tasks of a client, by family, none": _tasks(client="big", family="nobody"),
    "tasks of a client, by family and state, none": _tasks(client="big", family="suno", states=(State.CANCELLED,)),
    "tasks of a client, by label, none": _tasks(client="big", labels={"project": "nothing"}),
    "tasks of all clients, by state, none": _tasks(states=(State.AWAITING_INPUT,)),
    "tasks of all clients, by family, none": _tasks(family="nobody"),
    "tasks of all clients, by upstream, none": _tasks(upstream="nobody"),
    "task by idempotency key": lambda it: task_store.find_by_key(it, "big", "key-77"),
    "messages of a client": _messages(client="big"),
    "messages, by state": _messages(client="big", states=("delivered",)),
    "messages, by state, none": _messages(client="big", states=("exhausted", "discarded")),
    "messages, by type, none": _messages(client="big", types=("task.failed", "task.expired")),
    "messages, by type and state, none": _messages(client="big", types=("task.succeeded",), states=("exhausted",)),
    "messages, by endpoint": _messages(client="big", endpoint_id=FIRST),
    "messages, by endpoint, none": _messages(client="big", endpoint_id=NOBODY),
    "messages, by endpoint and type, none": _messages(client="big", endpoint_id=FIRST, types=("task.failed",)),
    "messages, by endpoint and state, none": _messages(client="big", endpoint_id=FIRST, states=("exhausted",)),
    "messages, by task": _messages(client="big", task_id=FIRST),
    "attempts of a message": lambda it: attempts.of_message(it, FIRST),
    "inbox": _inbox(),
    "inbox, by decision": _inbox(decisions=("applied",)),
    "inbox, by decision, none": _inbox(decisions=("forged", "parked")),
    "inbox, by upstream": _inbox(upstream="elkapi"),
    "inbox, by upstream, none": _inbox(upstream="nobody"),
    "inbox, by upstream and decision, none": _inbox(upstream="elkapi", decisions=("forged",)),
    "inbox, by task": _inbox(task_id=FIRST, client="big"),
    "feed of a client": _feed("big"),
    "feed, by type": _feed("big", "task.succeeded"),
    "feed, by type, none": _feed("big", "task.failed", "task.expired"),
    "feed of a client without events": _feed("nobody"),
    "ledger of a second": lambda it: ledger.entries(it, by=["upstream"], since=NOW, until=SECOND),
    "ledger of an hour, none": lambda it: ledger.entries(it, by=["upstream"], since=BEFORE, until=NOW - HOUR),
    "usage of a second": lambda it: usage.sums(it, by=["upstream"], since=NOW, until=SECOND, client=None),
    "usage of a second, by client": lambda it: usage.sums(it, by=["family"], since=NOW, until=SECOND, client="big"),
    "usage of an hour, none": lambda it: usage.sums(it, by=["day"], since=BEFORE, until=NOW - HOUR, client="big"),
    "usage of a client without entries": lambda it: usage.sums(
        it, by=["model"], since=BEFORE, until=None, client="nobody"
    ),
    "last charges": lambda it: usage.recent_charges(it, since=NOW, most=500),
    "claims": lambda it: usage.undelivered(it, upstream=None, before=None, most=PAGE),
    "claims, a later page": lambda it: usage.undelivered(it, upstream=None, before=5_000, most=PAGE),
    "claims, by upstream": lambda it: usage.undelivered(it, upstream="cometapi", before=None, most=PAGE),
    "claims, by upstream, none": lambda it: usage.undelivered(it, upstream="nobody", before=None, most=PAGE),
    "claim of one job, none": lambda it: usage.find_claim(it, NOBODY),
}
"""Every list of the API and the dashboard's inbox, by the filters that are documented."""
