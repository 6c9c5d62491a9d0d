"""The database: tables, guarded transitions, queries and migrations, behind ``ports.store``."""

from orchestrator.store.store import SqlStore, open_store

__all__ = ["SqlStore", "open_store"]
