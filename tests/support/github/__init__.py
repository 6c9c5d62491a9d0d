"""A stand-in for GitHub: stateful, speaking its REST API as documented, with real Git behind it."""

from __future__ import annotations

from tests.support.github.apps import App, Installation
from tests.support.github.hooks import Delivery, Hook
from tests.support.github.server import Fault, GitHubStandIn, Request
from tests.support.github.world import Pull, Repository

__all__ = [
    "App",
    "Delivery",
    "Fault",
    "GitHubStandIn",
    "Hook",
    "Installation",
    "Pull",
    "Repository",
    "Request",
]
