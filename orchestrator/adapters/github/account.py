"""Who the orchestrator is at a forge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.domain.pipeline import SourceSpec


@dataclass(frozen=True, slots=True)
class AppKey:
    """A GitHub App: its ID or client ID, its private key (PEM), and where it is installed, if told."""

    id: str
    private_key: str = field(repr=False)
    installation: int | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """Where the API is and who asks: the owner of a token, or an App."""

    api_url: str
    token: str = field(default="", repr=False)
    app: AppKey | None = None


Accounts = Callable[[SourceSpec], Account | None]
"""Finds a source's account; None when the configuration has none. It may raise SecretMissing."""
