"""Budgets: what is left, reserved, and when it renews. Operators set, change and remove them."""

import dataclasses
import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from starlette.responses import Response

from service.domain.money.budgets import NAME, budget_of, faults_in
from service.domain.validation import Mistake, Schema
from service.flows.money import budgets
from service.flows.money.budgets import NotStored
from service.web.api.money_models import BUDGET
from service.web.dashboard.money import views_of
from service.web.dashboard.visit import Visit

FIELDS: Final = ("limit", "unit", "period", "client", "label", "upstream", "soft", "over", "unpriced")
_BODY: Final = Schema(BUDGET)
_NAME: Final = Schema({"type": "string", "pattern": NAME})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A part of a budget as the page shows it."""

    name: str
    about: str
    """The tasks that count in it."""
    part: str
    amounts: Mapping[str, str]
    unit: str
    share: int
    """Used of the limit, in percent."""
    tone: str
    renews_at: dt.datetime
    over: str
    editable: bool


async def budgets_page(visit: Visit) -> Response:
    """Return the page."""
    rows = await budgets.rows(visit.context, client=visit.sees_only)
    wanted = visit.query("change")
    known = next((row for row in rows if row["budget"] == wanted and row["editable"]), None)
    return _page(visit, rows, fields_of(known))


def _page(
    visit: Visit,
    rows: list[dict[str, Any]],
    fields: Mapping[str, str],
    mistakes: Mapping[str, str] | None = None,
    *,
    status: int = 200,
) -> Response:
    return visit.page(
        "budgets.html",
        status=status,
        title="Budgets",
        views=views_of(visit),
        rows=[row_of(row) for row in rows],
        fields=fields,
        mistakes=mistakes or {},
        upstreams=list(visit.context.upstreams),
    )


def fields_of(row: Mapping[str, Any] | None) -> Mapping[str, str]:
    """Return the fields of the form: those of a budget, or of a new one."""
    if row is None:
        return {"name": "", **dict.fromkeys(FIELDS, ""), "unit": "USD", "period": "month", "over": "refuse"}
    return {
        "name": row["budget"],
        **{name: row[name] or "" for name in FIELDS if name != "period"},
        "period": row["every"],
    }


def row_of(row: Mapping[str, Any]) -> Row:
    """Return a part of a budget as the page shows it."""
    limit, used = Decimal(row["limit"]), Decimal(row["spent"]) + Decimal(row["held"])
    share = min(int(100 * used / limit), 100) if limit else 100
    soft = row["soft"] is not None and used >= Decimal(row["soft"])
    return Row(
        name=row["budget"],
        about=about(row),
        part=row["scope"],
        amounts={name: row[name] for name in ("limit", "spent", "held", "left", "overrun", "soft")},
        unit=row["unit"],
        share=share,
        tone="bad" if used >= limit else "doubt" if soft else "work",
        renews_at=dt.datetime.fromisoformat(row["renews_at"]),
        over=row["over"],
        editable=row["editable"],
    )


def about(row: Mapping[str, Any]) -> str:
    """Return whose tasks count in a budget, as a sentence's part."""
    client = row["client"]
    who = "all clients together" if client is None else "each client by itself" if client == "*" else f"client {client}"
    parts = [who]
    if row["label"] is not None:
        name, equals, value = row["label"].partition("=")
        parts.append(f"label {name}={value}" if equals else f"each value of the label {name}")
    if row["upstream"] is not None:
        parts.append(f"at {row['upstream']}")
    return ", ".join(parts)


async def set_budget(visit: Visit) -> Response:
    """Set a budget, or change it. With a mistake, the page shows it beside the field."""
    fields = {name: visit.field(name).strip() for name in ("name", *FIELDS)}
    given = {name: fields[name] for name in FIELDS if fields[name]}
    mistakes = _mistakes(fields["name"], given)
    if not mistakes:
        try:
            await budgets.put(visit.context, budget_of(fields["name"], given), by=visit.caller.client)
        except NotStored as error:
            mistakes = {"name": str(error)}
    if mistakes:
        return _page(visit, await budgets.rows(visit.context, client=None), fields, mistakes, status=422)
    return visit.redirect("/money/budgets")


def _mistakes(name: str, given: Mapping[str, str]) -> dict[str, str]:
    found: list[Mistake] = [*_NAME.mistakes(name, below="name"), *_BODY.mistakes(given)]
    shown = {(each.path or "limit").partition(".")[0]: each.message for each in found}
    return faults_in(given) | shown


async def remove_budget(visit: Visit) -> Response:
    """Remove a budget."""
    try:
        await budgets.remove(visit.context, visit.field("name"), by=visit.caller.client)
    except NotStored as error:
        rows = await budgets.rows(visit.context, client=None)
        return _page(visit, rows, fields_of(None), {"name": str(error)}, status=409)
    return visit.redirect("/money/budgets")
