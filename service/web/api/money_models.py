"""The responses about money as types."""

from typing import Annotated, get_args

from typing_extensions import TypedDict

from service.domain.money.quotes import Bound
from service.domain.money.rules import Policy
from service.web.api.schema import about, one_of

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


MODELS = (QuoteList,)
