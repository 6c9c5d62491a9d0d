"""Filling in small text files of a repository."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

Value = str | int | float | bool | None | Mapping[str, "Value"] | tuple["Value", ...]
"""What a template may name."""


class Templates(Protocol):
    """Fills templates in. Thread-safe."""

    def fill(self, name: str, text: str, values: Mapping[str, Value]) -> str:
        """The text with its expressions replaced.

        Raises InvalidInput, which names the template and the line, for what cannot or may not be evaluated.
        """
