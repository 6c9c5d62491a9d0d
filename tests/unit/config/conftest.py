from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.configuration import ConfigFolder


@pytest.fixture
def folder(tmp_path: Path) -> ConfigFolder:
    """A valid configuration folder to break."""
    return ConfigFolder(tmp_path)
