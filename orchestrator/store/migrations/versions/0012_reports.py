"""Mails that belong to no run, who has one already, and comments that are kept up to date."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns and a table. Of mails of before nothing is known but whether they left."""
    with op.batch_alter_table("outbox", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.alter_column("action_id", existing_type=sa.Integer(), nullable=True)
        table.alter_column("run_id", existing_type=sa.Integer(), nullable=True)
        table.add_column(sa.Column("reached", sa.JSON(), server_default=sa.text("'[]'"), nullable=False))
        table.add_column(sa.Column("refused", sa.JSON(), server_default=sa.text("'{}'"), nullable=False))
    op.create_table(
        "report_comments",
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("told", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("repository", "subject", "pipeline", name=op.f("pk_report_comments")),
    )
