"""What alembic executes to migrate; the connection, in its transaction, comes from ``upgrade``."""

from alembic import context

from orchestrator.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite changes a table by making it anew.
    render_as_batch=True,
)
context.run_migrations()
