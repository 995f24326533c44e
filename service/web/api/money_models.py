"""The responses about money as types."""

from typing import Annotated, Any, NotRequired, get_args

from typing_extensions import TypedDict

from service.domain.money.claims import STATES
from service.domain.money.delivered import KINDS
from service.domain.money.quotes import Bound
from service.domain.money.rules import Policy
from service.domain.money.settlement import Basis, Verdict
from service.web.api.schema import Id, Time, about, one_of

AMOUNT = about("A decimal number as text.")


class Amount(TypedDict):
    """A number of units."""

    amount: Annotated[str, AMOUNT]
    unit: Annotated[str, about("A currency, or an upstream's own unit, such as `credits`.")]


class Quote(TypedDict):
    """The expected price of a task at an upstream."""

    upstream: str
    bound: Annotated[
        str,
        one_of(
            get_args(Bound),
            "How sure `max` is: the price itself, an upper bound, learned from settled jobs, or not known.",
        ),
    ]
    low: Annotated[str | None, AMOUNT]
    expected: Annotated[str | None, AMOUNT]
    max: Annotated[str | None, about("The upper bound, a decimal number as text. Null: not known.")]
    unit: Annotated[str | None, about("The unit of `low`, `expected` and `max`: the upstream's own.")]
    usd_max: Annotated[str | None, about("`max` in US dollars, where the unit's rate is known.")]
    usd_per_unit: Annotated[str | None, about("The rate of the unit.")]
    price_id: Annotated[str | None, about("The row of the price book.")]
    price_checked: Annotated[str | None, about("The day on which the price was read.")]
    rate: Annotated[str | None, AMOUNT]
    per: Annotated[str | None, about("What the rate is for: a job, a second, an image, …")]
    token_rates: Annotated[
        dict[str, str], about("Rates of a million tokens by kind, where the answer states the tokens.")
    ]
    if_failed: Annotated[str, one_of(get_args(Policy), "What the upstream's pages say of the price of a failed job.")]
    if_moderated: Annotated[str, one_of(get_args(Policy), "The same for a withheld output.")]
    if_cancelled: Annotated[str, one_of(get_args(Policy), "The same for a cancelled job.")]
    policy_url: Annotated[str | None, about("The page that says so.")]
    why: Annotated[list[str], about("What the numbers rest on, or why they are not known.")]


class QuoteList(TypedDict):
    """The quotes of a request, for the upstreams of its route in order."""

    family: str
    operation: str
    model: str | None
    route: Annotated[list[str], about("The upstreams that may serve it, in the order in which they are tried.")]
    skipped_upstreams: Annotated[dict[str, str], about("The upstreams that are not tried, with the reason.")]
    quotes: list[Quote]


class Settlement(TypedDict):
    """The cost of one submission: the latest entry of the ledger about it."""

    key: Annotated[str, about("Unique. Book an entry once for each key.")]
    kind: Annotated[str, one_of(["settlement", "correction"])]
    submission: Id
    upstream: str
    verdict: Annotated[str, one_of(get_args(Verdict))]
    amount: Annotated[str | None, about("What is paid, or probably paid, after all refunds. Null: not known.")]
    gross: Annotated[str | None, about("The price before a refund.")]
    unit: str | None
    change: Annotated[
        str | None, about("What to add to what you have booked for the submission; negative for a refund.")
    ]
    reverses: Annotated[Amount | None, about("What you have booked for it in another unit, and take back.")]
    corrects: Annotated[str | None, about("The key of the entry that this one corrects.")]
    basis: Annotated[str, one_of(get_args(Basis), "What the verdict rests on, the strongest first.")]
    computed: Annotated[bool, about("Whether the amount follows from a price, and not from the provider's figure.")]
    delivered: Annotated[bool, about("Whether the job has a result.")]
    quoted: Annotated[str | None, AMOUNT]
    quoted_max: Annotated[str | None, AMOUNT]
    usd_per_unit: Annotated[str | None, AMOUNT]
    reason: str | None
    evidence: dict[str, Any]
    source: str
    purchased_at: Time
    booked_at: Time


class BillingDifference(TypedDict):
    """A quantity that was billed otherwise than it was made."""

    kind: Annotated[str, one_of(KINDS)]
    billed: Annotated[str, about("Seconds, outputs, or pixels at the shorter edge.")]
    made: Annotated[str, about("The same, of the results.")]
    basis: Annotated[
        str, one_of(["answer", "charge and rate", "request"], "The ground of the billed quantity, the strongest first.")
    ]
    said: Annotated[str, about("The difference as a sentence.")]


class BudgetRow(TypedDict):
    """A budget, or a part of one, in the present period."""

    budget: str
    scope: Annotated[str, about("The part of the budget: a client, a label's value, or empty for all.")]
    period: Annotated[str, about("A day or a month, in UTC.")]
    unit: str
    limit: Annotated[str, AMOUNT]
    soft: Annotated[str | None, about("Above this amount operators get a message.")]
    spent: Annotated[str, AMOUNT]
    held: Annotated[str, about("Reserved for tasks in progress.")]
    left: Annotated[str, AMOUNT]
    overrun: Annotated[str, about("What was charged above the limit.")]
    renews_at: Time
    every: Annotated[str, one_of(["day", "month"], "How often it renews.")]
    client: Annotated[str | None, about("Whose tasks count in it. `*`: each client for itself. Null: all together.")]
    label: Annotated[str | None, about("The label that tasks must have.")]
    upstream: Annotated[str | None, about("The upstream whose submissions count in it.")]
    over: Annotated[str, one_of(["refuse", "wait"], "What happens when it has no room.")]
    unpriced: Annotated[
        str, one_of(["refuse", "allow"], "Whether upstreams whose price is not known in its unit may be used.")
    ]
    editable: Annotated[bool, about("Whether the API can change it. A budget of the settings cannot be changed.")]


class BudgetList(TypedDict):
    """The budgets that your tasks count in."""

    budgets: list[BudgetRow]


class UsageRow(TypedDict):
    """The sums of one group in one unit. It also has the fields that it is grouped by."""

    unit: Annotated[str | None, about("Null: entries whose amount is not known.")]
    charged: Annotated[str, AMOUNT]
    probably_charged: Annotated[str, AMOUNT]
    returned: Annotated[str, about("Prices that were given back.")]
    probably_returned: Annotated[str, AMOUNT]
    undelivered: Annotated[str, about("The part of the charges that brought no result.")]
    usd: Annotated[str | None, about("Charges and probable charges in US dollars. Null: a rate is not known.")]
    submissions: int
    computed: Annotated[int, about("How many amounts follow from a price, and not from the provider's figure.")]
    unknown: Annotated[int, about("How many have no amount.")]
    client: NotRequired[str]
    family: NotRequired[str]
    operation: NotRequired[str]
    model: NotRequired[str]
    upstream: NotRequired[str]
    day: NotRequired[str]


class Usage(TypedDict):
    """The sums of what was spent."""

    group: list[str]
    rows: list[UsageRow]


class Claim(TypedDict):
    """A job without a result whose price was, or perhaps was, not given back."""

    submission: Id
    task: Id
    client: str
    upstream: str
    operation: str
    model: str | None
    external_id: Annotated[str | None, about("The provider's id of the job, for its support.")]
    verdict: Annotated[str, one_of(get_args(Verdict))]
    basis: Annotated[str, one_of(get_args(Basis))]
    confidence: Annotated[str, one_of(["high", "medium", "low"], "The certainty that the price was kept.")]
    lost_by_policy: Annotated[bool, about("Whether the upstream's pages say that such jobs are charged.")]
    amount: Annotated[str | None, about("The price that is not given back. Null: not known.")]
    unit: str | None
    reason: str | None
    evidence: dict[str, Any]
    purchased_at: Time
    deadline_at: Annotated[Time | None, about("Until when the upstream keeps its records, where it says so.")]
    state: Annotated[str, one_of(STATES)]
    note: str | None
    marked_at: Time | None


class ClaimList(TypedDict):
    """Claims, newest first."""

    claims: list[Claim]
    next: Annotated[str | None, about("The cursor of the next page. Null: this is the last one.")]


_AMOUNT_TEXT: dict[str, Any] = {"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,9})?$", "examples": ["100"]}
_FILTER: dict[str, Any] = {"type": ["string", "null"], "minLength": 1, "maxLength": 200}
BUDGET: dict[str, Any] = {
    "title": "Budget",
    "type": "object",
    "additionalProperties": False,
    "required": ["limit"],
    "properties": {
        "limit": {**_AMOUNT_TEXT, "description": "The most that may be spent in a period, a decimal number as text."},
        "unit": {
            "type": "string",
            "pattern": r"^[A-Za-z][A-Za-z0-9 _/.-]{0,39}$",
            "default": "USD",
            "examples": ["USD"],
            "description": "A currency, or an upstream's own unit.",
        },
        "period": {"type": "string", "enum": ["day", "month"], "default": "month", "description": "In UTC."},
        "client": {**_FILTER, "description": "The client that it is for. `*`: each for itself. Null: all together."},
        "label": {**_FILTER, "description": "`project=intro`, or `project`: each value for itself."},
        "upstream": {**_FILTER, "description": "Only submissions to this upstream."},
        "soft": {
            **_AMOUNT_TEXT,
            "type": ["string", "null"],
            "description": "Above this amount operators get a message, once in a period.",
        },
        "over": {
            "type": "string",
            "enum": ["refuse", "wait"],
            "default": "refuse",
            "description": "What happens when it has no room.",
        },
        "unpriced": {
            "type": "string",
            "enum": ["refuse", "allow"],
            "default": "refuse",
            "description": "Whether upstreams whose price is not known in the unit may be used.",
        },
    },
}
"""JSON Schema of the body of ``PUT /v1/budgets/{name}``."""

CLAIM_MARK: dict[str, Any] = {
    "title": "ClaimMark",
    "type": "object",
    "additionalProperties": False,
    "required": ["state"],
    "properties": {
        "state": {"type": "string", "enum": list(STATES), "description": "What became of the claim."},
        "note": {
            "type": "string",
            "maxLength": 500,
            "description": "Your note, such as the number of a support ticket.",
        },
    },
}
"""JSON Schema of the body of ``POST /v1/claims/{id}``."""

MODELS = (QuoteList, BudgetList, Usage, ClaimList)
