"""The store's tests on PostgreSQL: see the module of the same name in tests/unit/store."""

from tests.unit.store.test_report_comments import *  # noqa: F403
