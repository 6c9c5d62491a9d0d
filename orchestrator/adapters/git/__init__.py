"""Watched repositories by the git command."""

from orchestrator.adapters.git.command import GitCommand
from orchestrator.adapters.git.location import Access

__all__ = ["Access", "GitCommand"]
