"""A repository on the stand-in, and the adapter that looks at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from orchestrator.adapters.github import Account, AppKey, GitHub
from orchestrator.domain.pipeline import PullRequestRules, SourceSpec
from tests.support.github import GitHubStandIn, Repository
from tests.support.github.description import mistakes
from tests.unit.services.worlds import ManualClock


@dataclass
class Watched:
    """The repository acme/wine, whose collaborator ci-bot looks at it with a token."""

    hub: GitHubStandIn
    repository: Repository
    clock: ManualClock
    account: Account
    learned: list[str] = field(default_factory=list)
    described: bool = True
    """Whether all that is said is as GitHub's description has it."""

    @property
    def spec(self) -> SourceSpec:
        return SourceSpec(
            "wine",
            self.repository.clone_url,
            github="acme/wine",
            tags=("*",),
            pull_requests=PullRequestRules(),
        )

    def github(self) -> GitHub:
        """The adapter, new."""
        return GitHub(lambda source: self.account, self.clock, self.learned.append, timeout=5)

    def as_app(self, *, installation: bool = False) -> None:
        """Let an App ask from now on, that is installed for acme."""
        app, key = self.hub.app("ml-ci", "makers")
        installed = self.hub.install(app, "acme")
        named = installed.id if installation else None
        self.account = Account(self.hub.api_url, app=AppKey(str(app.id), key, named))


@pytest.fixture
def watched(github: GitHubStandIn) -> Iterator[Watched]:
    """After each test, all that was asked and answered is compared with GitHub's own description."""
    repository = github.repository("acme/wine", private=True)
    token = github.token("ci-bot")
    repository.permissions["ci-bot"] = "write"
    made = Watched(github, repository, ManualClock(), Account(github.api_url, token))
    yield made
    assert not made.described or mistakes(github.requests) == []
