"""The pipelines that watched repositories define themselves, as they were seen last."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "repository_pipelines",
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("repository", "pipeline", name=op.f("pk_repository_pipelines")),
    )
