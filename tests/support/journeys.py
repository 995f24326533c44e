"""The only table of journeys: the behaviour of an upstream, and the expected end of a task, for every dialect."""

import dataclasses

from service.domain.task import State
from service.providers.dialect import Dialect
from tests.support.cases import share


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """The behaviour of an upstream, and the expected end of the task."""

    faults: tuple[str, ...] = ()
    state: State = State.SUCCEEDED
    failure: str | None = None
    paid: int = 1
    callback_needed: bool = False
    """Whether only a callback can bring the result: without callbacks the task expires."""


JOURNEYS = {
    "success": Journey(),
    "lost-callback": Journey(faults=("drop",)),
    "doubled-and-disordered-callbacks": Journey(faults=("twice", "disorder", "garbage")),
    "callback-before-the-answer": Journey(faults=("early", "seconds=0")),
    "failure": Journey(faults=("fail",), state=State.FAILED, failure="provider_error"),
    "failure-without-callback": Journey(faults=("fail", "drop"), state=State.FAILED, failure="provider_error"),
    "content-refused-by-the-job": Journey(faults=("moderate",), state=State.FAILED, failure="content_policy"),
    "content-refused-at-submit": Journey(
        faults=("refuse", "moderate"), state=State.FAILED, failure="content_policy", paid=0
    ),
    "invalid-input": Journey(faults=("refuse",), state=State.FAILED, failure="invalid_input", paid=0),
    "invalid-input-with-http-200": Journey(
        faults=("refuse200",), state=State.FAILED, failure="invalid_input", paid=0
    ),
    "no-credit": Journey(faults=("nocredit",), state=State.FAILED, failure="insufficient_credit", paid=0),
    "rate-limited-submit": Journey(faults=("429=2",)),
    "unavailable-submit": Journey(faults=("503=2",)),
    "unknown-id-at-first": Journey(faults=("drop", "ghost=5")),
    "unknown-id-with-http-200-at-first": Journey(faults=("drop", "ghost200=5")),
    "failing-polls": Journey(faults=("drop", "flaky")),
    "answer-lost": Journey(faults=("cut",), callback_needed=True),
    "answer-cut-in-half": Journey(faults=("cutbody",), callback_needed=True),
    "answer-is-a-page": Journey(faults=("htmlsubmit",), callback_needed=True),
    "answer-is-http-500": Journey(faults=("500",), callback_needed=True),
    "answer-and-callback-lost": Journey(faults=("cut", "drop"), state=State.EXPIRED, failure="provider_timeout"),
}  # fmt: skip

SHORT = ("success", "failure")
"""The journeys of every dialect in ``make test``."""
TAKEN_IN_TURN = ("lost-callback", "callback-before-the-answer", "content-refused-by-the-job")
"""Each dialect goes through another one of these as well."""
REFERENCE = frozenset({"runway/aggregator", "runway/official", "midjourney/proxy", "suno/newapi"})
"""The dialects of all journeys in ``make test``: one with callbacks, one without, and those of the sandbox's own code."""

REFUSAL_CODES = {("runway/official", "content-refused-at-submit"): "invalid_input"}
"""Where a provider words a refusal so that its reason cannot be told from another."""

LOOKED_UP = frozenset({"kling/official", "luma/official"})
"""Where a lost job is looked up by our reference or in a list: it needs neither an answer nor a callback."""

AT_ONCE = {
    "success": Journey(),
    "content-refused-at-submit": JOURNEYS["content-refused-at-submit"],
    "invalid-input-with-http-200": JOURNEYS["invalid-input-with-http-200"],
    "no-credit": JOURNEYS["no-credit"],
    "unavailable-submit": JOURNEYS["unavailable-submit"],
    "answer-lost": Journey(faults=("cut",), state=State.EXPIRED, failure="provider_timeout"),
    "answer-is-a-page": Journey(faults=("htmlsubmit",), state=State.EXPIRED, failure="provider_timeout"),
}
"""The journeys of dialects whose every answer is the result."""
SHORT_AT_ONCE = ("success", "content-refused-at-submit", "answer-lost")


def is_short(name: str, journey: str) -> bool:
    """Return whether ``make test`` contains a journey of a dialect."""
    return name in REFERENCE or journey in (*SHORT, *share(TAKEN_IN_TURN, len(TAKEN_IN_TURN), name))


def expected_end(name: str, journey: str, dialect: Dialect) -> tuple[State, str | None]:
    """Return the state and the failure code with which a journey of a dialect ends."""
    expected = JOURNEYS[journey]
    state, failure = expected.state, REFUSAL_CODES.get((name, journey), expected.failure)
    if expected.callback_needed and not dialect.facts.callbacks:
        state, failure = State.EXPIRED, "provider_timeout"
    return (State.SUCCEEDED, None) if state is State.EXPIRED and name in LOOKED_UP else (state, failure)
