"""What is told when GitHub says no, nothing, or something odd; and how long it is then left alone."""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.adapters.git import GitCommand
from orchestrator.adapters.github import Account, GitHub, GitHubSources
from orchestrator.domain.errors import NotFound, SecretMissing, SourceRefused, SourceUnavailable
from orchestrator.domain.pipeline import PullRequestRules, SourceSpec
from orchestrator.ports.forge import CommitStatus, Mark
from tests.integration.github.conftest import Watched
from tests.support.github import GitHubStandIn
from tests.support.mailserver import make_certificate


def refused(work: Callable[[], object]) -> SourceUnavailable:
    with pytest.raises(SourceUnavailable) as caught:
        work()
    return caught.value


def test_a_revoked_token_is_told_and_needs_a_person(watched: Watched) -> None:
    watched.repository.push()
    github = watched.github()
    github.refs(watched.spec)
    watched.hub.revoke(watched.account.token)
    error = refused(lambda: github.refs(watched.spec))
    assert isinstance(error, SourceRefused)
    assert "login for acme/wine (Bad credentials)" in error.message
    assert watched.account.token not in str(error)
    watched.account = replace(watched.account, token=watched.hub.token("ci-bot"))
    assert github.refs(watched.spec).branches


def test_a_repository_that_is_gone_or_hidden_is_told(watched: Watched) -> None:
    watched.repository.push()
    github = watched.github()
    watched.repository.permissions.pop("ci-bot")
    error = refused(lambda: github.refs(watched.spec))
    assert isinstance(error, SourceRefused)
    assert "acme/wine is not on GitHub, or the token may not see it" in error.message
    watched.repository.delete()
    for work in (
        lambda: github.refs(watched.spec),
        lambda: github.pull(watched.spec, 1),
        lambda: github.may_write(watched.spec, "ada", 7),
        lambda: github.comment(watched.spec, 1, "hello"),
    ):
        assert isinstance(refused(work), SourceRefused)


def test_a_renamed_repository_is_told_with_its_new_name(watched: Watched) -> None:
    commit = watched.repository.push()
    github = watched.github()
    github.refs(watched.spec)
    watched.repository.rename("acme/red-wine")
    error = refused(lambda: github.refs(watched.spec))
    assert isinstance(error, SourceRefused)
    assert str(error) == "acme/wine was renamed: it is acme/red-wine now; github: acme/red-wine under source:"
    status = CommitStatus(commit, "mlci/wine", Mark.SUCCESS, "Passed")
    assert isinstance(refused(lambda: github.set_status(watched.spec, status)), SourceRefused)
    assert watched.repository.statuses == []


def test_who_takes_a_name_that_became_free_is_looked_at_as_somebody_else(watched: Watched) -> None:
    watched.repository.push()
    watched.repository.rename("acme/red-wine")
    other = watched.hub.repository("acme/wine")
    commit = other.push()
    assert watched.github().refs(watched.spec).branches == {"main": commit}


def test_a_token_that_may_not_write_is_told(watched: Watched) -> None:
    commit = watched.repository.push()
    watched.repository.permissions["ci-bot"] = "read"
    status = CommitStatus(commit, "mlci/wine", Mark.SUCCESS, "Passed")
    error = refused(lambda: watched.github().set_status(watched.spec, status))
    assert isinstance(error, SourceRefused)
    assert "does not allow this for acme/wine" in error.message


def test_a_used_up_quota_is_waited_for_without_asking(watched: Watched) -> None:
    watched.repository.push()
    github = watched.github()
    quota = watched.hub.quota(watched.account.token)
    quota.remaining, quota.reset = 0, int(time.time()) + 900
    # The stand-in's clock is the machine's.
    watched.clock.advance(time.time() - watched.clock.now().timestamp())
    error = refused(lambda: github.refs(watched.spec))
    assert not isinstance(error, SourceRefused)
    assert error.retry_after is not None
    assert 890 <= error.retry_after <= 902
    assert "the 5000 requests of this hour are used up" in error.message
    asked = len(watched.hub.asked())
    watched.clock.advance(600)
    later = refused(lambda: github.refs(watched.spec))
    assert later.retry_after is not None
    assert 290 <= later.retry_after <= 302
    assert len(watched.hub.asked()) == asked
    told = github.quota(watched.spec)
    assert told is not None
    assert (told.remaining, int(told.resets_at.timestamp())) == (0, quota.reset)
    quota.remaining = 5000
    watched.clock.advance(310)
    assert github.refs(watched.spec).branches


def test_another_account_is_not_held_up_by_a_quota(watched: Watched) -> None:
    watched.repository.push()
    github = watched.github()
    watched.hub.quota(watched.account.token).remaining = 0
    refused(lambda: github.refs(watched.spec))
    watched.account = replace(watched.account, token=watched.hub.token("ci-bot"))
    assert github.refs(watched.spec).branches


@pytest.mark.parametrize(("told", "waited"), [(30, 30.0), (None, 60.0)])
def test_a_limit_on_bursts_is_waited_for(watched: Watched, told: int | None, waited: float) -> None:
    watched.repository.push()
    watched.hub.secondary_limit(told, times=1)
    github = watched.github()
    error = refused(lambda: github.refs(watched.spec))
    assert not isinstance(error, SourceRefused)
    assert error.retry_after == pytest.approx(waited)
    assert "too much was asked in a short time" in error.message
    refused(lambda: github.refs(watched.spec))
    watched.clock.advance(waited)
    assert github.refs(watched.spec).branches
    assert len(watched.hub.asked()) == 4


@pytest.mark.parametrize("status", [500, 502, 503])
def test_an_error_of_the_server_is_its_own(watched: Watched, status: int) -> None:
    watched.repository.push()
    watched.hub.fault("", status, times=1)
    github = watched.github()
    error = refused(lambda: github.refs(watched.spec))
    assert not isinstance(error, SourceRefused)
    assert f"it answered {status} for acme/wine" in error.message
    assert github.refs(watched.spec).branches


def test_a_server_that_asks_for_time_gets_it(watched: Watched) -> None:
    watched.hub.fault("", 503, headers={"Retry-After": "120"})
    assert refused(lambda: watched.github().refs(watched.spec)).retry_after == pytest.approx(120)


def test_a_slow_server_is_given_up(watched: Watched) -> None:
    watched.repository.push()
    watched.hub.fault("", None, delay=3, times=1)
    github = GitHub(lambda source: watched.account, watched.clock, timeout=1)
    begun = time.monotonic()
    error = refused(lambda: github.refs(watched.spec))
    assert time.monotonic() - begun < 3
    assert "does not answer in time" in error.message
    assert github.refs(watched.spec).branches


def test_a_connection_that_is_cut_is_told(watched: Watched) -> None:
    watched.repository.push()
    watched.hub.fault("", 0, times=1)
    github = watched.github()
    assert "cannot reach 127.0.0.1" in refused(lambda: github.refs(watched.spec)).message
    assert github.refs(watched.spec).branches


def test_nobody_there_is_told(watched: Watched) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        watched.account = Account(f"http://127.0.0.1:{port}/api/v3", "made-up-token")
        error = refused(lambda: watched.github().refs(watched.spec))
    assert error.message == f"cannot reach 127.0.0.1:{port}: Connection refused"


@pytest.mark.parametrize(
    "body",
    [{}, {"message": "hello"}, {"ref": "refs/heads/main"}],
    ids=["nothing", "something", "a ref in no list"],
)
def test_an_answer_that_is_none_is_told(watched: Watched, body: dict[str, object]) -> None:
    watched.hub.fault("", 200, body=body)
    watched.described = False
    error = refused(lambda: watched.github().refs(watched.spec))
    assert "cannot be understood: it is no list" in error.message


def test_an_address_where_no_api_is_is_told(watched: Watched) -> None:
    watched.account = replace(watched.account, api_url=watched.hub.web_url)
    assert isinstance(refused(lambda: watched.github().refs(watched.spec)), SourceRefused)


def test_a_server_that_sends_us_elsewhere_gets_no_token_there(
    watched: Watched, github: GitHubStandIn
) -> None:
    watched.hub.fault("", 301, headers={"Location": "http://localhost:1/api/v3/repos/x/y"})
    error = refused(lambda: watched.github().refs(watched.spec))
    assert "sends us elsewhere" in error.message


def test_an_untrusted_certificate_is_told(tmp_path: Path, watched: Watched) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with GitHubStandIn(tmp_path / "tls", context) as hub:
        watched.account = Account(hub.api_url, "made-up-token")
        error = refused(lambda: watched.github().refs(watched.spec))
        assert isinstance(error, SourceRefused)
        assert "certificate of 127.0.0.1" in error.message
        assert hub.requests == []


def test_an_own_authority_is_trusted_when_the_environment_names_it(
    tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with GitHubStandIn(tmp_path / "tls", context) as hub:
        commit = hub.repository("acme/wine").push()
        watched.account = Account(hub.api_url, hub.token("ci-bot"))
        assert watched.github().refs(watched.spec).branches == {"main": commit}


def test_a_secret_without_a_value_is_told(watched: Watched) -> None:
    def missing(source: SourceSpec) -> Account:
        raise SecretMissing("the environment variable GITHUB_TOKEN is not set", "set it")

    error = refused(lambda: GitHub(missing, watched.clock).refs(watched.spec))
    assert isinstance(error, SourceRefused)
    assert "GITHUB_TOKEN is not set" in error.message


def test_nothing_that_is_not_open_is_a_pull_request(watched: Watched) -> None:
    watched.repository.push()
    watched.repository.push("fix")
    number = watched.repository.pull_request("fix").number
    watched.repository.close(number)
    github = watched.github()
    for asked in (number, 99):
        with pytest.raises(NotFound, match=f"no open pull request #{asked}"):
            github.pull(watched.spec, asked)


@pytest.mark.parametrize("configured", [False, True])
def test_without_a_login_refs_come_from_git_and_pull_requests_are_refused(
    watched: Watched, tmp_path: Path, configured: bool
) -> None:
    watched.repository.private = False
    commit = watched.repository.push()
    github = GitHub(lambda source: None, watched.clock) if configured else None
    sources = GitHubSources(GitCommand(tmp_path / "mirrors"), github)
    plain = SourceSpec("wine", watched.repository.clone_url, github="acme/wine")
    assert sources.refs(plain).branches == {"main": commit}
    error = refused(lambda: sources.refs(replace(plain, pull_requests=PullRequestRules())))
    assert isinstance(error, SourceRefused)
    assert "without a login" in error.message
    assert watched.hub.asked() == []


def test_no_log_holds_the_token(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    # By name, too: a command that ran in this process before has quietened the library's loggers.
    for name in (None, "urllib3", "github"):
        caplog.set_level(logging.DEBUG, logger=name)
    watched.repository.push()
    watched.github().refs(watched.spec)
    assert "matching-refs" in caplog.text
    assert watched.account.token not in caplog.text
