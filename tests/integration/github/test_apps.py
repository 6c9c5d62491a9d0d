"""GitHub Apps: where they are installed, and tokens that last an hour."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.adapters.git import Access, GitCommand
from orchestrator.adapters.github import Account, AppKey, GitHub
from orchestrator.domain.errors import SourceRefused
from tests.integration.github.conftest import Watched


@pytest.mark.parametrize("installation", [False, True])
def test_an_app_looks_with_the_token_of_its_installation(watched: Watched, installation: bool) -> None:
    watched.as_app(installation=installation)
    commit = watched.repository.push()
    github = watched.github()
    for _ in range(3):
        assert github.refs(watched.spec).branches == {"main": commit}
    assert len(watched.hub.asked("access_tokens")) == 1
    assert len(watched.hub.asked("/installation$")) == (0 if installation else 1)
    quota = github.quota(watched.spec)
    assert quota is not None
    assert quota.remaining == quota.limit - watched.hub.charged


def test_every_token_that_is_issued_is_told_to_whoever_masks(watched: Watched) -> None:
    watched.as_app()
    watched.repository.push()
    watched.github().refs(watched.spec)
    issued = [token for token in watched.hub.identities.credentials if token.startswith("ghs_")]
    assert watched.learned == issued


def test_a_token_is_renewed_before_it_expires(watched: Watched) -> None:
    watched.as_app()
    watched.clock.advance(time.time() - watched.clock.now().timestamp())
    watched.repository.push()
    github = watched.github()
    github.refs(watched.spec)
    watched.clock.advance(54 * 60)
    github.refs(watched.spec)
    assert len(watched.learned) == 1
    watched.clock.advance(2 * 60)
    # The stand-in's clock is the machine's, an hour behind by now.
    watched.hub.identities.token_life += 3600
    github.refs(watched.spec)
    assert len(watched.learned) == 2


def test_a_token_that_is_no_longer_accepted_is_replaced(watched: Watched) -> None:
    watched.as_app()
    watched.repository.push()
    github = watched.github()
    github.refs(watched.spec)
    watched.hub.revoke(watched.learned[0])
    with pytest.raises(SourceRefused):
        github.refs(watched.spec)
    assert github.refs(watched.spec).branches


def test_git_clones_with_the_token_of_the_installation(watched: Watched, tmp_path: Path) -> None:
    watched.as_app()
    commit = watched.repository.push("main", {"train.py": "print(1)"})
    github = watched.github()
    git = GitCommand(tmp_path / "mirrors", access=lambda source: Access(password=github.git_token(source)))
    git.checkout(watched.spec, commit, tmp_path / "into")
    assert (tmp_path / "into" / "train.py").read_text() == "print(1)"
    asked = [request.body for request in watched.hub.asked("access_tokens")]
    name = watched.spec.github.partition("/")[2]
    assert asked == [{"repositories": [name], "permissions": {"contents": "read"}}], "and no other repository"


def test_an_app_that_is_not_installed_is_told(watched: Watched) -> None:
    app, key = watched.hub.app("lonely", "makers")
    watched.account = Account(watched.hub.api_url, app=AppKey(str(app.id), key))
    with pytest.raises(SourceRefused, match=r"is not installed for acme/wine.*install it for acme"):
        watched.github().refs(watched.spec)
    watched.hub.install(app, "acme")
    commit = watched.repository.push()
    assert watched.github().refs(watched.spec).branches == {"main": commit}


@pytest.mark.parametrize("key", ["", "made-up", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n"])
def test_a_key_that_is_none_is_told_without_showing_it(watched: Watched, key: str) -> None:
    watched.account = Account(watched.hub.api_url, app=AppKey("7", key))
    with pytest.raises(SourceRefused, match="private key of the App 7 cannot be used") as caught:
        watched.github().refs(watched.spec)
    assert "AAAA" not in str(caught.value)
    assert watched.hub.requests == []


def test_a_key_of_another_app_is_told(watched: Watched) -> None:
    watched.as_app()
    other, _ = watched.hub.app("other", "makers")
    key = watched.account.app
    assert key is not None
    watched.account = replace(watched.account, app=replace(key, id=str(other.id)))
    with pytest.raises(SourceRefused, match="does not accept the login"):
        watched.github().refs(watched.spec)


def test_what_an_account_shows_of_itself_is_no_secret(watched: Watched) -> None:
    watched.as_app()
    key = watched.account.app
    assert key is not None
    shown = f"{watched.account!r} {key!r} {GitHub(lambda source: watched.account, watched.clock)!r}"
    assert key.private_key not in shown
    assert "PRIVATE KEY" not in shown
