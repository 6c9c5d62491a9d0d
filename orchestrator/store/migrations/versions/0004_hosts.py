"""Hosts and their states, GPUs that attempts have, what slots take, priorities, sizes of staged data."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add tables and columns."""
    op.create_table(
        "hosts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("definition", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("unreachable_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("trouble", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_hosts")),
    )
    op.create_table(
        "gpu_leases",
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("uuid", sa.Text(), nullable=False),
        sa.Column("attempt_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["attempts.id"], name=op.f("fk_gpu_leases_attempt_id_attempts")
        ),
        sa.PrimaryKeyConstraint("host", "uuid", name=op.f("pk_gpu_leases")),
    )
    op.create_index(op.f("ix_gpu_leases_attempt_id"), "gpu_leases", ["attempt_id"], unique=False)
    op.add_column("attempts", sa.Column("gpus", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("attempts", sa.Column("utilisation", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("slots", sa.Column("cpus", sa.Double(), nullable=True))
    op.add_column("slots", sa.Column("memory", sa.BigInteger(), nullable=True))
    op.add_column("runs", sa.Column("priority", sa.Integer(), server_default=sa.text("0"), nullable=False))
    # What these volumes hold was never compared on their host, nor is its size known. Without its row, a
    # volume is looked at when it is needed next, and what is right in it stays.
    op.execute("DELETE FROM staged_volumes")
    op.add_column(
        "staged_volumes", sa.Column("fingerprint", sa.Text(), server_default=sa.text("''"), nullable=False)
    )
    op.add_column("staged_volumes", sa.Column("size", sa.BigInteger(), nullable=True))
    op.add_column("staged_volumes", sa.Column("used_at", sa.DateTime(timezone=True), nullable=True))
