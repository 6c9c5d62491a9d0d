"""How often evaluation data were judged with: counted by the data, and kept whatever becomes of the runs."""

from collections import Counter

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_PAST = sa.text(
    "SELECT runs.id, runs.pipeline, runs.number, runs.verdict, runs.finished_at, changes.datasets,"
    " (SELECT count(*) FROM decisions WHERE decisions.run_id = runs.id"
    " AND decision IN ('decided pass', 'decided fail')) AS decided"
    " FROM runs JOIN changes ON changes.id = runs.change_id"
    " WHERE runs.purpose = 'train' AND runs.state IN ('passed', 'rejected', 'inconclusive')"
    " AND runs.finished_at IS NOT NULL ORDER BY runs.id"
).columns(
    id=sa.Integer,
    pipeline=sa.Text,
    number=sa.Integer,
    verdict=sa.JSON,
    finished_at=sa.DateTime(timezone=True),
    datasets=sa.JSON,
    decided=sa.Integer,
)


def upgrade() -> None:
    """Add the table, and to it the verdicts of the runs that are still there."""
    uses = op.create_table(
        "evaluation_uses",
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", "number", name=op.f("pk_evaluation_uses")),
        sa.UniqueConstraint("fingerprint", "run_id", name=op.f("uq_evaluation_uses_fingerprint_run_id")),
    )
    counted: Counter[str] = Counter()
    for run in op.get_bind().execute(_PAST).all():
        if not run.verdict or not run.verdict.get("checks"):
            continue
        for fingerprint in sorted({v["fingerprint"] for v in run.datasets if v["role"] == "evaluation"}):
            counted[fingerprint] += 1
            values = {
                "fingerprint": fingerprint,
                "number": counted[fingerprint],
                "run_id": run.id,
                "title": f"{run.pipeline} #{run.number}",
                "outcome": "inconclusive" if run.decided else run.verdict["outcome"],
                "at": run.finished_at,
            }
            op.execute(uses.insert().values(values))
