"""The settings of prices and budgets."""

from pathlib import Path

from pydantic import Field, field_validator

from service.domain.money.budgets import read_budget
from service.domain.money.terms import Prefer, Unpriced
from service.settings.prices import PriceError, load_prices
from service.settings.strict import Strict


class MoneySettings(Strict):
    """Prices, and what may be spent."""

    prices_file: Path | None = Field(default=None, examples=["/etc/dovecote/prices.toml"])
    """A file with prices of your own, in TOML. Its rows count more than those that come with Dovecote. See docs/money.md."""
    shipped_prices: bool = True
    """Whether the prices that come with Dovecote count."""
    unpriced: Unpriced = "refuse"
    """The effect of a max_cost on an upstream whose price is not known: "refuse" skips it, "allow" uses it."""
    prefer: Prefer = "route"
    """The order of the upstreams of a route: as configured ("route"), by the quoted price ("cheapest"), or by duration ("fastest")."""

    budgets: tuple[str, ...] = Field(default=(), examples=[["shop-month client=shop period=month limit=100 soft=80"]])
    """The budgets: a name, and limit=…, period=day or month, client=…, label=…, upstream=…, soft=…, unit=…, over=refuse or wait, unpriced=refuse or allow."""

    @field_validator("budgets")
    @classmethod
    def _are_budgets(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        names = [read_budget(text).name for text in texts]
        if len(set(names)) < len(names):
            raise ValueError("two budgets have the same name; give each its own")
        return texts

    @field_validator("prices_file")
    @classmethod
    def _has_prices(cls, path: Path | None) -> Path | None:
        if path is not None:
            try:
                load_prices(path)
            except PriceError as error:
                raise ValueError(str(error)) from None
        return path
