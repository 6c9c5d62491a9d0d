"""Branches, tags and pull requests of a repository on GitHub, and what a look at them costs."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from github.Requester import HTTPRequestsConnectionClass, RequestsResponse

from orchestrator.adapters.github import client
from orchestrator.domain.change import PullRequest, Refs
from orchestrator.domain.pipeline import SourceSpec
from tests.integration.github.conftest import Watched
from tests.support.github.api import Answer, Call
from tests.support.github.plumbing import git


def test_a_look_shows_branches_tags_and_pull_requests(watched: Watched) -> None:
    first = watched.repository.push("main", {"train.py": "1"})
    second = watched.repository.push("release/1", onto=first)
    watched.repository.tag("v1", first, message="The first")
    watched.repository.tag("v2", second)
    pull = watched.repository.pull_request("release/1", title="Release", by="ada", draft=True)
    assert watched.github().refs(watched.spec) == Refs(
        branches={"main": first, "release/1": second},
        tags={"v1": first, "v2": second},
        pulls=(
            PullRequest(
                1,
                "main",
                second,
                "release/1",
                "acme/wine",
                False,
                "ada",
                pull.author.id,
                "Release",
                True,
                watched.repository.owner.id,
            ),
        ),
    )


def test_an_empty_repository_has_no_refs(watched: Watched) -> None:
    assert watched.github().refs(watched.spec) == Refs({})


def test_only_what_the_source_watches_is_asked_for(watched: Watched) -> None:
    watched.repository.push()
    watched.github().refs(SourceSpec("wine", watched.repository.clone_url, github="acme/wine"))
    assert [request.path for request in watched.hub.asked()] == ["/repos/acme/wine/git/matching-refs/heads"]


def test_a_look_at_what_has_not_changed_costs_no_quota(watched: Watched) -> None:
    commit = watched.repository.push()
    watched.repository.tag("v1", commit, message="An object of its own")
    watched.repository.push("fix")
    watched.repository.pull_request("fix")
    github = watched.github()
    first = github.refs(watched.spec)
    spent = watched.hub.charged
    for _ in range(20):
        assert github.refs(watched.spec) == first
    assert watched.hub.charged == spent
    quota = github.quota(watched.spec)
    assert quota is not None
    assert (quota.limit, quota.remaining) == (5000, 5000 - spent)


def test_threads_that_look_at_once_get_each_their_own_answer(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    repositories = [watched.hub.repository(f"acme/r{number}") for number in range(8)]
    commits = [repository.push() for repository in repositories]
    sources = [SourceSpec(r.name, r.clone_url, github=r.full_name) for r in repositories]
    github = watched.github()
    send = HTTPRequestsConnectionClass.getresponse

    def later(connection: HTTPRequestsConnectionClass) -> RequestsResponse:
        # Between saying what to ask and asking it, which is two calls in PyGithub, others have their turn.
        time.sleep(0.01)
        return send(connection)

    monkeypatch.setattr(HTTPRequestsConnectionClass, "getresponse", later)
    with ThreadPoolExecutor(8) as threads:
        assert [refs.branches["main"] for refs in threads.map(github.refs, sources)] == commits


def test_a_change_after_many_unchanged_looks_is_seen(watched: Watched) -> None:
    watched.repository.push()
    github = watched.github()
    for _ in range(3):
        github.refs(watched.spec)
    commit = watched.repository.push()
    assert github.refs(watched.spec).branches == {"main": commit}
    watched.repository.push("gone")
    watched.repository.delete_branch("gone")
    assert github.refs(watched.spec).branches == {"main": commit}


def test_a_pull_request_of_a_fork_is_known_by_ids(watched: Watched) -> None:
    watched.repository.push()
    fork = watched.repository.fork("stranger")
    commit = fork.push("fix")
    pull = watched.repository.pull_request("fix", head=fork)
    (seen,) = watched.github().refs(watched.spec).pulls
    assert (seen.fork, seen.repository, seen.branch) == (True, "stranger/wine", "fix")
    assert (seen.author, seen.author_id) == ("stranger", pull.author.id)
    assert watched.repository.refs("refs/pull/") == {seen.ref: commit}


def test_a_pull_request_follows_its_branch_until_it_is_closed(watched: Watched) -> None:
    watched.repository.push()
    fork = watched.repository.fork("stranger")
    fork.push("fix")
    pull = watched.repository.pull_request("fix", head=fork)
    github = watched.github()
    github.refs(watched.spec)
    commit = fork.push("fix")
    assert [seen.commit for seen in github.refs(watched.spec).pulls] == [commit]
    watched.repository.close(pull.number)
    assert github.refs(watched.spec).pulls == ()


def test_a_pull_request_outlives_its_fork(watched: Watched) -> None:
    watched.repository.push()
    fork = watched.repository.fork("stranger")
    commit = fork.push("fix")
    watched.repository.pull_request("fix", head=fork).head = None
    fork.delete()
    # The description does not know that there may be no repository any more.
    watched.described = False
    (seen,) = watched.github().refs(watched.spec).pulls
    assert (seen.fork, seen.repository, seen.commit) == (True, "", commit)


def test_all_pages_of_pull_requests_are_read(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PER_PAGE", 10)
    watched.repository.push()
    watched.repository.push("fix")
    for _ in range(23):
        watched.repository.pull_request("fix")
    assert [pull.number for pull in watched.github().refs(watched.spec).pulls] == list(range(1, 24))


def test_no_pull_request_is_missed_when_another_closes_between_two_pages(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PER_PAGE", 10)
    watched.repository.push()
    watched.repository.push("fix")
    for _ in range(12):
        watched.repository.pull_request("fix")
    answer = watched.hub.api.answer
    pages: list[str] = []

    def closing(call: Call) -> Answer:
        if call.path.endswith("/pulls"):
            pages.append(call.query["page"])
            if len(pages) == 2:
                watched.repository.pulls[5].state = "closed"
        return answer(call)

    monkeypatch.setattr(watched.hub.api, "answer", closing)
    seen = [pull.number for pull in watched.github().refs(watched.spec).pulls]
    assert seen == [number for number in range(1, 13) if number != 5]
    assert pages[:2] == ["1", "2"]


@pytest.mark.parametrize("count", [3, 30])
def test_tags_with_a_message_are_asked_for_once(watched: Watched, count: int) -> None:
    commit = watched.repository.push()
    for number in range(count):
        watched.repository.tag(f"v{number}", commit, message=f"Number {number}")
    github = watched.github()
    assert set(github.refs(watched.spec).tags.values()) == {commit}
    spent = len(watched.hub.asked("/git/tags/")) + len(watched.hub.asked("wine/tags$"))
    assert spent <= 3
    assert len(github.refs(watched.spec).tags) == count
    assert len(watched.hub.asked("/git/tags/")) + len(watched.hub.asked("wine/tags$")) == spent


def test_a_tag_that_moves_while_many_are_asked_for_is_taken_for_no_other(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = watched.repository.push()
    new = watched.repository.push()
    first, *_ = [watched.repository.tag(f"v{number}", old, message="One") for number in range(12)]
    answer = watched.hub.api.answer

    def moving(call: Call) -> Answer:
        if call.path.endswith("/wine/tags"):
            watched.repository.tag("v0", new, message="Moved")
        return answer(call)

    github = watched.github()
    monkeypatch.setattr(watched.hub.api, "answer", moving)
    github.refs(watched.spec)
    monkeypatch.undo()
    assert github.refs(watched.spec).tags["v0"] == new
    git(watched.repository.path, "update-ref", "refs/tags/v0", first)
    assert github.refs(watched.spec).tags["v0"] == old


def test_names_that_a_shell_would_run_are_only_names(watched: Watched) -> None:
    names = ["$(id)", "a;b", "ünïcode", "--upload-pack=x", "a%2Fb"]
    first = watched.repository.push()
    for name in names:
        git(watched.repository.path, "update-ref", f"refs/heads/{name}", first)
    assert set(watched.github().refs(watched.spec).branches) == {"main", *names}


def test_one_pull_request_can_be_asked_for(watched: Watched) -> None:
    watched.repository.push()
    commit = watched.repository.push("fix")
    number = watched.repository.pull_request("fix").number
    github = watched.github()
    assert github.pull(watched.spec, number).commit == commit


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("admin", True),
        ("maintain", True),
        ("write", True),
        ("triage", False),
        ("read", False),
        ("none", False),
    ],
)
def test_who_may_push_may_ask_for_runs(watched: Watched, role: str, expected: bool) -> None:
    ada = watched.hub.world.user("ada")
    watched.repository.permissions["ada"] = role
    assert watched.github().may_write(watched.spec, "ada", ada.id) is expected


def test_who_got_the_login_of_somebody_who_may_push_may_not(watched: Watched) -> None:
    ada = watched.hub.world.user("ada")
    watched.repository.permissions["ada"] = "write"
    assert watched.github().may_write(watched.spec, "ada", ada.id + 1) is False
    assert watched.github().may_write(watched.spec, "ada", 0) is False


@pytest.mark.parametrize("login", ["nobody", "../../../user", "ada/../root", "a b?x=1#y", ""])
def test_who_is_no_user_may_nothing(watched: Watched, login: str) -> None:
    watched.repository.push()
    assert watched.github().may_write(watched.spec, login, 7) is False
