"""What runs were measured with, what they were compared with, and where baselines begin anew."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add tables, and what an attempt computed on. Of older runs none of it is known."""
    op.add_column("attempts", sa.Column("hardware", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.create_table(
        "measurements",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("evaluation", sa.Text(), nullable=False),
        sa.Column("metric_code", sa.Text(), nullable=False),
        sa.Column("hardware", sa.Text(), nullable=False),
        sa.Column("recipe", sa.Text(), nullable=False),
        sa.Column("compared", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_measurements_run_id_runs")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_measurements")),
    )
    op.create_index(
        op.f("ix_measurements_pipeline_evaluation_metric_code_hardware"),
        "measurements",
        ["pipeline", "evaluation", "metric_code", "hardware"],
        unique=False,
    )
    op.create_table(
        "rebases",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_rebases_run_id_runs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rebases")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_rebases_pipeline"), "rebases", ["pipeline"], unique=False)
    op.create_index(op.f("ix_rebases_run_id"), "rebases", ["run_id"], unique=False)
