"""kept sums of money by label, and the triggers that note what changes them"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_SQLITE = (
    "CREATE TRIGGER tr_money_entries_insert_label_sums AFTER INSERT ON money_entries WHEN NEW.purchased_at < (SELECT until FROM sum_watches WHERE subject = 'labels') BEGIN INSERT INTO sum_changes (subject, hour) VALUES ('labels', NEW.purchased_at - NEW.purchased_at % 3600000000); END",
    "CREATE TRIGGER tr_money_entries_update_label_sums AFTER UPDATE OF superseded_at, labels ON money_entries WHEN NEW.purchased_at < (SELECT until FROM sum_watches WHERE subject = 'labels') AND (OLD.superseded_at IS NOT NEW.superseded_at OR OLD.labels IS NOT NEW.labels) BEGIN INSERT INTO sum_changes (subject, hour) VALUES ('labels', NEW.purchased_at - NEW.purchased_at % 3600000000); END",
    "CREATE TRIGGER tr_money_entries_delete_label_sums AFTER DELETE ON money_entries WHEN OLD.purchased_at < (SELECT until FROM sum_watches WHERE subject = 'labels') BEGIN INSERT INTO sum_changes (subject, hour) VALUES ('labels', OLD.purchased_at - OLD.purchased_at % 3600000000); END",
)
_POSTGRESQL = (
    "CREATE OR REPLACE FUNCTION tr_money_entries_insert_label_sums() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM note_sum_change('labels', NEW.purchased_at); RETURN NULL; END $$",
    "CREATE TRIGGER tr_money_entries_insert_label_sums AFTER INSERT ON money_entries FOR EACH ROW EXECUTE FUNCTION tr_money_entries_insert_label_sums()",
    "CREATE OR REPLACE FUNCTION tr_money_entries_update_label_sums() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM note_sum_change('labels', NEW.purchased_at); RETURN NULL; END $$",
    "CREATE TRIGGER tr_money_entries_update_label_sums AFTER UPDATE OF superseded_at, labels ON money_entries FOR EACH ROW WHEN (OLD.superseded_at IS DISTINCT FROM NEW.superseded_at OR OLD.labels::text IS DISTINCT FROM NEW.labels::text) EXECUTE FUNCTION tr_money_entries_update_label_sums()",
    "CREATE OR REPLACE FUNCTION tr_money_entries_delete_label_sums() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM note_sum_change('labels', OLD.purchased_at); RETURN NULL; END $$",
    "CREATE TRIGGER tr_money_entries_delete_label_sums AFTER DELETE ON money_entries FOR EACH ROW EXECUTE FUNCTION tr_money_entries_delete_label_sums()",
)
_KINDS = ("insert", "update", "delete")


def upgrade() -> None:
    """Create the table and the triggers. Old code fires them, too. A worker of this version fills the sums."""
    op.create_table(
        "label_sums",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("since", INSTANT, nullable=False),
        sa.Column("hours", sa.Integer(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("value", sa.Text()),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text()),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("usd", sa.Text()),
        sa.Column("delivered", sa.Boolean(), nullable=False),
        sa.Column("computed", sa.Boolean(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("amount_whole", sa.BigInteger(), nullable=False),
        sa.Column("amount_parts", sa.BigInteger(), nullable=False),
        sa.Column("gross_whole", sa.BigInteger(), nullable=False),
        sa.Column("gross_parts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_label_sums")),
    )
    op.create_index("ix_label_sums_period", "label_sums", ["hours", "since"])
    op.create_index("ix_label_sums_label", "label_sums", ["label", "since"])
    for statement in _POSTGRESQL if _is_postgresql() else _SQLITE:
        op.execute(statement)


def downgrade() -> None:
    """Remove the triggers, the table, and what is noted about its periods."""
    for kind in _KINDS:
        op.execute(
            f"DROP TRIGGER tr_money_entries_{kind}_label_sums" + (" ON money_entries" if _is_postgresql() else "")
        )
        if _is_postgresql():
            op.execute(f"DROP FUNCTION tr_money_entries_{kind}_label_sums()")
    op.drop_table("label_sums")
    for table in ("sum_periods", "sum_changes", "sum_watches"):
        op.execute(f"DELETE FROM {table} WHERE subject = 'labels'")  # noqa: S608 - names of ours


def _is_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"
