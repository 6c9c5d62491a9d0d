"""The store's tests on PostgreSQL: see the module of the same name in tests/unit/store."""

from tests.unit.store.test_prepared import *  # noqa: F403
