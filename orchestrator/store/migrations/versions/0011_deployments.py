"""Deployments to several servers, what actions wait for and said, and versions of models."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_EMPTY = sa.text("''")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), server_default=_EMPTY, nullable=False)


def upgrade() -> None:
    """Add columns and tables. Runs of before have no version of a model."""
    for name in ("waits", "output", "who"):
        op.add_column("actions", _text(name))
    with op.batch_alter_table("deployments", table_kwargs={"sqlite_autoincrement": True}) as table:
        for name in ("environment", "previous", "output"):
            table.add_column(_text(name))
        table.drop_constraint(op.f("uq_deployments_action_id"), type_="unique")
        table.create_unique_constraint(op.f("uq_deployments_action_id_server"), ["action_id", "server"])
    op.add_column("decisions", sa.Column("action_id", sa.Integer(), nullable=True))
    op.create_index(op.f("ix_decisions_action_id"), "decisions", ["action_id"], unique=False)
    op.create_table(
        "model_versions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_model_versions_run_id_runs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_versions")),
        sa.UniqueConstraint("pipeline", "number", name=op.f("uq_model_versions_pipeline_number")),
        sa.UniqueConstraint("run_id", name=op.f("uq_model_versions_run_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "model_aliases",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["version_id"], ["model_versions.id"], name=op.f("fk_model_aliases_version_id_model_versions")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_aliases")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_model_aliases_version_id"), "model_aliases", ["version_id"], unique=False)
    op.create_index(
        op.f("ix_model_aliases_pipeline_alias_until"), "model_aliases", ["pipeline", "alias", "until"]
    )
