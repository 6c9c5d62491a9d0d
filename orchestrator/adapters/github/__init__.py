"""GitHub and GitHub Enterprise, through PyGithub."""

from orchestrator.adapters.github.account import Account, AppKey
from orchestrator.adapters.github.forge import GitHub
from orchestrator.adapters.github.sources import GitHubSources

__all__ = ["Account", "AppKey", "GitHub", "GitHubSources"]
