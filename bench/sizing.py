"""Calculate the size of an installation: ``python -m bench sizing --callbacks 10000``.

The arithmetic of docs/scaling.md. Its constants are measured by ``python -m bench`` and ``python -m bench growth`` on one machine: measure
your own, and give them as arguments.
"""

import argparse
import dataclasses
import math
from collections.abc import Sequence

BUSY = 0.6
"""The share of a core that a process may use: the rest is for bursts."""
DAY = 86_400


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """The measured costs."""

    acknowledge_ms: float = 0.14
    """CPU time of a process that serves, for a callback."""
    accept_ms: float = 0.25
    """The same for a submit."""
    journey_ms: float = 4.5
    """CPU time of all processes for a task, from the submit to the delivered message, with one callback."""
    apply_ms: float = 0.4
    """CPU time of a worker for each callback after the first."""
    kilobytes: float = 10.0
    """A task with its rows in every table and their indexes."""
    statements: float = 14.0
    """Row changes of a task in the database, without its callbacks."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What a load needs."""

    tasks_per_second: float
    serving: int
    """Processes that serve the API and callbacks."""
    working: int
    """Processes that work."""
    rows_per_second: float
    """Changed rows of the database."""
    stored_tasks: float
    gigabytes: float


def size_of(*, callbacks: float, per_task: float, days: float, costs: Costs) -> Size:
    """Return the size for a load.

    :param callbacks: callbacks a second
    :param per_task: callbacks of a task
    :param days: how long tasks are kept
    """
    tasks = callbacks / per_task
    serving = callbacks * costs.acknowledge_ms + tasks * costs.accept_ms
    working = tasks * (costs.journey_ms - costs.acknowledge_ms - costs.accept_ms) + (callbacks - tasks) * costs.apply_ms
    stored = tasks * DAY * days
    return Size(
        tasks_per_second=tasks,
        serving=max(math.ceil(serving / 1000 / BUSY), 1),
        working=max(math.ceil(working / 1000 / BUSY), 1),
        rows_per_second=tasks * costs.statements + callbacks * 2,
        stored_tasks=stored,
        gigabytes=stored * costs.kilobytes / 1e6,
    )


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench sizing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--callbacks", default="1,10,100,1000,10000", help="callbacks a second, separated by commas")
    parser.add_argument("--per-task", type=float, default=10.0, help="callbacks of a task (default 10)")
    parser.add_argument("--days", type=float, default=30.0, help="days that tasks are kept (default 30)")
    for field in dataclasses.fields(Costs):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=float, default=field.default)
    given = vars(parser.parse_args(arguments))
    costs = Costs(**{field.name: given[field.name] for field in dataclasses.fields(Costs)})
    print("| callbacks/s | tasks/s | processes: serving | working | changed rows/s | stored tasks | GB |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for load in (float(each) for each in given["callbacks"].split(",")):
        size = size_of(callbacks=load, per_task=given["per_task"], days=given["days"], costs=costs)
        cells = (
            load,
            size.tasks_per_second,
            size.serving,
            size.working,
            size.rows_per_second,
            size.stored_tasks,
            size.gigabytes,
        )
        print("| " + " | ".join(f"{cell:,.1f}" if cell < 10 and cell % 1 else f"{cell:,.0f}" for cell in cells) + " |")
