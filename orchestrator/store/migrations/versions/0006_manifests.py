"""Manifests in parts, and what the tables in the data look like."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add tables. Manifests that are there stay where they are."""
    op.create_table(
        "manifest_parts",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["dataset_versions.id"],
            name=op.f("fk_manifest_parts_version_id_dataset_versions"),
        ),
        sa.PrimaryKeyConstraint("version_id", "part", name=op.f("pk_manifest_parts")),
    )
    op.create_table(
        "version_tables",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["dataset_versions.id"],
            name=op.f("fk_version_tables_version_id_dataset_versions"),
        ),
        sa.PrimaryKeyConstraint("version_id", "path", name=op.f("pk_version_tables")),
    )
