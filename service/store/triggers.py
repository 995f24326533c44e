"""The triggers that note in which hours sums have changed, whichever process or version writes.

They are triggers and not code of the program: a change that nobody notes would make a kept sum wrong for good, and a process of
an older version knows nothing of sums. They note nothing for rows of the present hour, which no kept sum contains.
"""

from typing import Final

SUBMISSIONS: Final = "submissions"
MONEY: Final = "money"
LABELS: Final = "labels"
SUM_LOCK: Final = 0x0D0_5005
"""Number of the advisory lock on PostgreSQL. A writer of a summed row holds it shared, and the process that moves a watch holds it
alone: so every writer that did not see the new watch has ended before its row is summed."""

_CHANGES: Final = (
    ("submissions", "insert", SUBMISSIONS, "sent_at", ()),
    ("submissions", "update", SUBMISSIONS, "sent_at", ("outcome", "job_state", "cost", "refunded")),
    ("ledger_entries", "delete", SUBMISSIONS, "sent_at", ()),
    ("money_entries", "insert", MONEY, "purchased_at", ()),
    ("money_entries", "update", MONEY, "purchased_at", ("superseded_at",)),
    ("money_entries", "delete", MONEY, "purchased_at", ()),
    ("money_entries", "insert", LABELS, "purchased_at", ()),
    ("money_entries", "update", LABELS, "purchased_at", ("superseded_at", "labels")),
    ("money_entries", "delete", LABELS, "purchased_at", ()),
)
"""The changes of sums: table, kind of change, subject, the time by which rows are summed, and the columns that matter.

A task that retention removes leaves entries with the same sums, in the same transaction: that is no change of them."""
_OF_TASK: Final = ("state", "decided_by", "submission_id", "refunded", "cost")
"""The columns of a task by which its submissions are summed. Its states before the end make no difference."""
_HOUR: Final = 3_600_000_000
"""Microseconds of an hour."""


def _task_differs(unequal: str) -> str:
    ended = "(OLD.finished_at IS NOT NULL OR NEW.finished_at IS NOT NULL)"
    return f"({ended} AND ({_differ(_OF_TASK[:2], unequal)})) OR {_differ(_OF_TASK[2:], unequal)}"


def _differ(columns: tuple[str, ...], unequal: str) -> str:
    return " OR ".join(f"OLD.{name} {unequal} NEW.{name}" for name in columns)


def _of(columns: tuple[str, ...]) -> str:
    return f" OF {', '.join(columns)}" if columns else ""


def _name(table: str, kind: str, subject: str) -> str:
    return f"tr_{table}_{kind}_{'label_' if subject == LABELS else ''}sums"


def _sqlite() -> list[str]:
    def watched(subject: str) -> str:
        return f"(SELECT until FROM sum_watches WHERE subject = '{subject}')"  # noqa: S608 - names of ours

    made = []
    for table, kind, subject, at, columns in _CHANGES:
        moment = f"{'OLD' if kind == 'delete' else 'NEW'}.{at}"
        when = f"{moment} < {watched(subject)}" + (f" AND ({_differ(columns, 'IS NOT')})" if columns else "")
        made.append(
            f"CREATE TRIGGER {_name(table, kind, subject)} AFTER {kind.upper()}{_of(columns)} ON {table} WHEN {when} "  # noqa: S608 - names of ours
            f"BEGIN INSERT INTO sum_changes (subject, hour) VALUES ('{subject}', {moment} - {moment} % {_HOUR}); END"
        )
    made.append(
        f"CREATE TRIGGER tr_tasks_update_sums AFTER UPDATE{_of(_OF_TASK)} ON tasks WHEN {_task_differs('IS NOT')} "  # noqa: S608 - names of ours
        f"BEGIN INSERT INTO sum_changes (subject, hour) SELECT '{SUBMISSIONS}', sent_at - sent_at % {_HOUR} "
        f"FROM submissions WHERE task_id = NEW.id AND sent_at < {watched(SUBMISSIONS)}; END"
    )
    return made


_NOTE: Final = f"""
CREATE OR REPLACE FUNCTION note_sum_change(changed text, moment timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared({SUM_LOCK});
    INSERT INTO sum_changes (subject, hour)
    SELECT changed, date_trunc('hour', moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
      FROM sum_watches WHERE subject = changed AND moment < until;
END $$"""  # noqa: S608 - names and numbers of ours
# A function of PL/pgSQL sees what is committed when each of its statements begins: the second one sees a watch for which the
# first one has waited.


def _postgresql() -> list[str]:
    made = [_NOTE]
    for table, kind, subject, at, columns in _CHANGES:
        body = f"PERFORM note_sum_change('{subject}', {'OLD' if kind == 'delete' else 'NEW'}.{at});"
        compared = tuple("labels::text" if name == "labels" else name for name in columns)  # JSON has no equality
        when = f" WHEN ({_differ(compared, 'IS DISTINCT FROM')})" if columns else ""
        made += _trigger_of_postgresql(_name(table, kind, subject), table, kind + _of(columns), when, body)
    body = f"PERFORM note_sum_change('{SUBMISSIONS}', sent_at) FROM submissions WHERE task_id = NEW.id;"
    when = f" WHEN ({_task_differs('IS DISTINCT FROM')})"
    name = _name("tasks", "update", SUBMISSIONS)
    return made + _trigger_of_postgresql(name, "tasks", "update" + _of(_OF_TASK), when, body)


def _trigger_of_postgresql(name: str, table: str, change: str, when: str, body: str) -> list[str]:
    kind, _, columns = change.partition(" ")
    return [
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$",
        (
            f"CREATE TRIGGER {name} AFTER {kind.upper()} {columns}{' ' if columns else ''}ON {table} "
            f"FOR EACH ROW{when} EXECUTE FUNCTION {name}()"
        ),
    ]


TRIGGERS: Final = {"sqlite": tuple(_sqlite()), "postgresql": tuple(_postgresql())}
"""The statements that create the triggers, in order, by the name of the dialect."""
FUNCTIONS: Final = (
    "note_sum_change(text, timestamptz)",
    *(f"{_name(table, kind, subject)}()" for table, kind, subject, *_ in _CHANGES),
    "tr_tasks_update_sums()",
)
"""The functions of PostgreSQL that the triggers call."""
