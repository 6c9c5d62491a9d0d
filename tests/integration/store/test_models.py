"""The store's tests on PostgreSQL: see the module of the same name in tests/unit/store."""

from tests.unit.store.test_models import *  # noqa: F403
