"""The settings of prices and budgets."""

from pathlib import Path
from typing import cast, get_args

from pydantic import Field, field_validator

from service.domain.money.budgets import read_budget
from service.domain.money.terms import MAX_RETRIES, OnModerated, Prefer, Unpriced
from service.settings.prices import PriceError, load_prices
from service.settings.strict import Strict


class MoneySettings(Strict):
    """Prices, and what may be spent."""

    prices_file: Path | None = Field(default=None, examples=["/etc/dovecote/prices.toml"])
    """A file with prices of your own, in TOML. Its rows take precedence over those that come with Dovecote. See docs/money.md."""
    shipped_prices: bool = True
    """Whether the prices that come with Dovecote are used."""
    unpriced: Unpriced = "refuse"
    """The effect of a max_cost on an upstream whose price is not known: "refuse" skips it, "allow" uses it."""
    prefer: Prefer = "route"
    """The order of the upstreams of a route: as configured ("route"), by the quoted price ("cheapest"), or by duration ("fastest")."""

    on_moderated: OnModerated = "fail"
    """The reaction when a provider withholds a finished output: "fail", buy it again ("retry"), or at the "next_upstream"."""
    on_moderated_by_client: tuple[str, ...] = Field(default=(), examples=[["shop=retry"]])
    """The same for single clients, as CLIENT=POLICY. A task may set its own."""
    moderated_retries: int = Field(default=1, ge=1, le=MAX_RETRIES)
    """How many times a task is bought again because its output was withheld."""
    budgets: tuple[str, ...] = Field(default=(), examples=[["shop-month client=shop period=month limit=100 soft=80"]])
    """The budgets: a name, and limit=…, period=day or month, client=…, label=…, upstream=…, soft=…, unit=…, over=refuse or wait, unpriced=refuse or allow."""

    @field_validator("budgets")
    @classmethod
    def _are_budgets(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        names = [read_budget(text).name for text in texts]
        if len(set(names)) < len(names):
            raise ValueError("two budgets have the same name; give each its own")
        return texts

    @field_validator("on_moderated_by_client")
    @classmethod
    def _are_policies(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        for line in lines:
            client, _, policy = line.rpartition("=")
            if not client or policy not in get_args(OnModerated):
                raise ValueError(f"write CLIENT=POLICY, where POLICY is one of {', '.join(get_args(OnModerated))}")
        return lines

    def moderation_of(self, client: str) -> OnModerated:
        """Return the policy for a client's withheld outputs, unless a task names its own."""
        lines = (line.rpartition("=") for line in self.on_moderated_by_client)
        found = next((policy for name, _, policy in lines if name == client), self.on_moderated)
        return cast("OnModerated", found)

    @field_validator("prices_file")
    @classmethod
    def _has_prices(cls, path: Path | None) -> Path | None:
        if path is not None:
            try:
                load_prices(path)
            except PriceError as error:
                raise ValueError(str(error)) from None
        return path
