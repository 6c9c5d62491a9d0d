"""What retention removed and why, runs that people keep, and the indices by which removing finds its rows."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns, a table and indices."""
    op.add_column("artifacts", sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("artifacts", sa.Column("removed_why", sa.Text(), nullable=True))
    op.create_index(op.f("ix_artifacts_sha256"), "artifacts", ["sha256"], unique=False)
    op.add_column("attempts", sa.Column("log_removed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("attempts", sa.Column("log_removed_why", sa.Text(), nullable=True))
    op.create_table(
        "keeps",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_keeps_run_id_runs")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_keeps")),
    )
    # A row that others refer to is removed by looking for those that do.
    op.create_index(op.f("ix_runs_rerun_of"), "runs", ["rerun_of"], unique=False)
    op.create_index(op.f("ix_outbox_action_id"), "outbox", ["action_id"], unique=False)
