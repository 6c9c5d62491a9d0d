"""Secrets, encrypted in the database with a key that is not in it."""

from orchestrator.adapters.vault.keys import KeyFile
from orchestrator.adapters.vault.vault import Rotation, Vault

__all__ = ["KeyFile", "Rotation", "Vault"]
