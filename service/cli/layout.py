"""Tables and sheets of tasks and their events."""

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from service.cli.printing import clean
from service.domain.task import ENDED, State

WIDE_ENOUGH: Final = 120
"""Columns from which a table has room for the explanation of each task."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_STYLES: Final[Mapping[str, str]] = {
    State.SUBMITTED: "blue",
    State.RUNNING: "cyan",
    State.UNCONFIRMED: "magenta",
    State.AWAITING_INPUT: "yellow",
    State.SUCCEEDED: "green",
    State.FAILED: "red",
    State.EXPIRED: "red",
    State.CANCELLED: "yellow",
}

Document = Mapping[str, Any]


def shown(value: Any, style: str = "") -> Text:
    """Return a value of a response as printable text."""
    return Text(clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)), style)


def one_line(value: str, style: str = "") -> Text:
    """Return a text of a response as printable text on one line."""
    return Text(" ".join(clean(value).split()), style)


def state_text(state: str) -> Text:
    """Return a state in its colour."""
    return Text(clean(state), _STYLES.get(state, ""))


def percent(task: Document) -> str:
    """Return the progress of a task as text."""
    return "" if task.get("progress") is None else f"{task['progress']} %"


def age(moment: str, *, now: dt.datetime) -> str:
    """Return how long ago a moment of the API was."""
    return _span((now - dt.datetime.fromisoformat(moment)).total_seconds())


def until(moment: str | None, *, now: dt.datetime) -> str:
    """Return how far in the future a moment of the API is; empty where there is none."""
    if moment is None:
        return ""
    seconds = (dt.datetime.fromisoformat(moment) - now).total_seconds()
    return "now" if seconds <= 0 else f"in {_span(seconds)}"


def _span(exact: float) -> str:
    seconds = max(round(exact), 0)
    if seconds < _MINUTE:
        return f"{seconds} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min"
    return f"{seconds // _HOUR} h" if seconds < _DAY else f"{seconds // _DAY} d"


def tasks_table(tasks: Iterable[Document], *, now: dt.datetime, wide: bool) -> Table:
    """Return a table of tasks, one a line.

    :param wide: whether there is room for the explanations
    """
    table = plain_table("id", "age", "state", "%", *(["task"] if wide else []))
    add_last_column(table, "explanation" if wide else "task")
    for task in tasks:
        row: list[RenderableType] = [
            shown(task["id"]),
            age(task["created_at"], now=now),
            state_text(task["state"]),
            "" if task["progress"] is None else str(task["progress"]),
            shown(f"{task['family']} {task['operation']}"),
        ]
        table.add_row(*row, *([one_line(task["explanation"])] if wide else []))
    return table


def events_table(events: Sequence[Document]) -> Table:
    """Return a table of the events of a task, oldest first; without dates where all are of one day."""
    table = plain_table("#", "at", "event", "source")
    table.add_column("details", overflow="fold")
    days = {_local(event["at"]).partition(" ")[0] for event in events}
    one_day = f"{min(days)} " if len(days) == 1 else ""
    for event in events:
        facts = [
            f"{name} {_brief(value)}" for name, value in event["data"].items() if name != "state" and value is not None
        ]
        table.add_row(
            str(event["sequence"]),
            _local(event["at"]).removeprefix(one_day),
            state_text(event["type"]),
            shown(event["source"]),
            one_line(", ".join(facts)),
        )
    return table


def task_sheet(task: Document, *, now: dt.datetime) -> Table:
    """Return a sheet of everything about one task."""
    return sheet(_sheet_rows(task, now))


def sheet(rows: Iterable[tuple[str, Any]]) -> Table:
    """Return a sheet of names and values; empty values are left out."""
    laid_out = Table.grid(padding=(0, 2))
    laid_out.add_column(style="dim", no_wrap=True)
    laid_out.add_column(overflow="fold")
    for name, value in rows:
        if value not in (None, "", {}, []):
            laid_out.add_row(name, value if isinstance(value, Text) else shown(value))
    return laid_out


def result_lines(task: Document, *, with_roles: bool) -> list[str]:
    """Return the results of a task, one a line: the URL or the text, and before it the kind and role where wanted."""
    kinds = [f"{result['kind']} {result['role']}" for result in task["results"]]
    width = max(map(len, kinds), default=0)
    values = [clean(str(result.get("url") or result.get("text") or "")) for result in task["results"]]
    return [f"{kind:<{width}}  {value}" if with_roles else value for kind, value in zip(kinds, values, strict=True)]


def _sheet_rows(task: Document, now: dt.datetime) -> list[tuple[str, Any]]:
    state = state_text(task["state"]).append(f"  {percent(task)}".rstrip(), "dim")
    failure = task["failure"]
    return [
        ("task", task["id"]),
        ("operation", f"{task['family']} {task['operation']}"),
        ("state", state),
        ("", task["explanation"]),
        ("warnings", "\n".join(warning["message"] for warning in task.get("warnings", ()))),
        ("awaits", _awaited(task)),
        ("results", "\n".join(result_lines(task, with_roles=True))),
        ("kept until", _first_expiry(task)),
        (
            "failure",
            failure and failure["code"] + (", may succeed when submitted again" if failure["retryable"] else ""),
        ),
        ("upstream", task["upstream"] and f"{task['upstream']} ({task['dialect']})"),
        ("external id", task["external_id"]),
        ("cost", task["cost"]),
        ("outcome source", task["outcome_source"]),
        ("input", task["input"]),
        ("options", task["options"]),
        ("labels", ", ".join(f"{name}={value}" for name, value in task["labels"].items())),
        ("callback_url", task["callback_url"]),
        ("forward callbacks to", task.get("forward_callbacks_to")),
        ("accepted", _when(task["created_at"], now)),
        ("submitted", _when(task["submitted_at"], now)),
        ("ended", _when(task["finished_at"], now)),
        ("deadline", None if task["state"] in ENDED else _local(task["deadline_at"])),
    ]


def _first_expiry(task: Document) -> str | None:
    """Return when the first of the results is deleted by the provider, as far as that is known."""
    moments = [result["expires_at"] for result in task["results"] if result.get("expires_at")]
    return _local(min(moments, key=dt.datetime.fromisoformat)) if moments else None


def _awaited(task: Document) -> str | None:
    """Return the fields of the input that a task waits for."""
    schema = (task.get("awaits") or {}).get("input") or {}
    return ", ".join(schema.get("properties", {})) or None


def plain_table(*names: str) -> Table:
    """Return a table without lines whose columns are as wide as their content."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, justify="right" if name in {"%", "#"} else "left", no_wrap=True)
    return table


def add_last_column(table: Table, name: str) -> None:
    """Add a last column that takes the remaining width."""
    table.expand = True
    table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=1)


def _when(moment: str | None, now: dt.datetime) -> str | None:
    return None if moment is None else f"{_local(moment)} ({age(moment, now=now)} ago)"


def _local(moment: str) -> str:
    return dt.datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _brief(value: Any) -> str:
    """Return a value of an event on one line."""
    if isinstance(value, list):
        return ", ".join(value) if all(isinstance(each, str) for each in value) else f"({len(value)})"
    if isinstance(value, dict):
        return ": ".join(str(value[name]) for name in ("code", "message") if value.get(name))
    return str(value)
