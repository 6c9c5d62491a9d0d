"""Marks on commits and words under pull requests, as GitHub keeps them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.errors import NotFound, RevisionGone
from orchestrator.ports.forge import CommitStatus, Mark
from tests.integration.github.conftest import Watched


def a_status(commit: str, mark: Mark = Mark.PENDING, **more: str) -> CommitStatus:
    return replace(CommitStatus(commit, "mlci/wine", mark, "Waiting"), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mark", "state"),
    [
        (Mark.PENDING, "pending"),
        (Mark.RUNNING, "pending"),
        (Mark.SUCCESS, "success"),
        (Mark.FAILURE, "failure"),
        (Mark.ERROR, "error"),
        (Mark.NEUTRAL, "error"),
    ],
)
def test_a_token_sets_statuses(watched: Watched, mark: Mark, state: str) -> None:
    commit = watched.repository.push()
    watched.repository.push()
    github = watched.github()
    made = github.set_status(watched.spec, a_status(commit, mark, url="http://localhost:8080/runs/7"))
    (status,) = watched.repository.statuses
    assert (status.sha, status.context, status.state) == (commit, "mlci/wine", state)
    assert (status.description, status.target_url) == ("Waiting", "http://localhost:8080/runs/7")
    assert made == str(status.id)


def test_the_newest_status_of_a_context_counts_and_contexts_are_apart(watched: Watched) -> None:
    commit = watched.repository.push()
    github = watched.github()
    github.set_status(watched.spec, a_status(commit))
    github.set_status(watched.spec, a_status(commit, Mark.FAILURE, context="mlci/beer"))
    github.set_status(watched.spec, a_status(commit, Mark.SUCCESS))
    assert watched.repository.status_of(commit) == {"mlci/wine": "success", "mlci/beer": "failure"}


def test_long_words_are_cut_where_github_would_refuse_them(watched: Watched) -> None:
    commit = watched.repository.push()
    watched.repository.push("fix")
    number = watched.repository.pull_request("fix").number
    github = watched.github()
    github.set_status(watched.spec, a_status(commit, text="é" * 500))
    github.comment(watched.spec, number, "x" * 100_000)
    assert watched.repository.statuses[0].description == "é" * 139 + "…"
    assert len(watched.repository.comments[0].body) == 65_536


@pytest.mark.parametrize("by_app", [False, True])
def test_a_commit_that_is_gone_is_no_trouble_of_the_source(watched: Watched, by_app: bool) -> None:
    watched.repository.push()
    if by_app:
        watched.as_app()
    with pytest.raises(RevisionGone):
        watched.github().set_status(watched.spec, a_status("1" * 40))


@pytest.mark.parametrize(
    ("mark", "shown"),
    [
        (Mark.PENDING, "queued"),
        (Mark.RUNNING, "in_progress"),
        (Mark.SUCCESS, "success"),
        (Mark.FAILURE, "failure"),
        (Mark.ERROR, "cancelled"),
        (Mark.NEUTRAL, "cancelled"),
    ],
)
def test_an_app_sets_check_runs(watched: Watched, mark: Mark, shown: str) -> None:
    watched.as_app()
    commit = watched.repository.push()
    made = watched.github().set_status(
        watched.spec, a_status(commit, mark, details="| a | b |", url="http://localhost:8080/runs/7")
    )
    (run,) = watched.repository.checks
    assert watched.repository.checks_of(commit) == {"mlci/wine": shown}
    assert (run.title, run.summary, run.details_url) == (
        "Waiting",
        "| a | b |",
        "http://localhost:8080/runs/7",
    )
    assert made == str(run.id)
    assert watched.repository.statuses == []


def test_a_check_run_goes_from_queued_to_its_end(watched: Watched) -> None:
    watched.as_app()
    commit = watched.repository.push()
    github = watched.github()
    made = ""
    for mark in (Mark.PENDING, Mark.RUNNING, Mark.SUCCESS):
        made = github.set_status(watched.spec, a_status(commit, mark, external_id=made))
    (run,) = watched.repository.checks
    assert run.history == [("queued", None), ("in_progress", None), ("completed", "success")]


def test_a_check_run_that_was_made_before_a_kill_is_not_made_twice(watched: Watched) -> None:
    watched.as_app()
    commit = watched.repository.push()
    first = watched.github().set_status(watched.spec, a_status(commit, Mark.RUNNING))
    again = watched.github().set_status(watched.spec, a_status(commit, Mark.RUNNING))
    assert first == again
    assert len(watched.repository.checks) == 1


def test_another_run_of_a_commit_does_not_open_the_completed_check_run_again(watched: Watched) -> None:
    watched.as_app()
    commit = watched.repository.push()
    github = watched.github()
    first = github.set_status(watched.spec, a_status(commit, Mark.FAILURE))
    second = github.set_status(watched.spec, a_status(commit, Mark.PENDING))
    github.set_status(watched.spec, a_status(commit, Mark.SUCCESS, external_id=second))
    assert first != second
    assert [run.conclusion for run in watched.repository.checks] == ["failure", "success"]


def test_the_check_run_of_another_app_is_left_alone(watched: Watched) -> None:
    commit = watched.repository.push()
    for _ in range(2):
        watched.as_app()
        watched.github().set_status(watched.spec, a_status(commit, Mark.SUCCESS))
    first, second = watched.repository.checks
    assert first.app_id != second.app_id
    assert len(first.history) == len(second.history) == 1


def test_an_app_may_be_named_by_its_client_id(watched: Watched) -> None:
    watched.as_app()
    commit = watched.repository.push()
    key = watched.account.app
    assert key is not None
    app = watched.hub.identities.apps[0]
    watched.account = replace(watched.account, app=replace(key, id=app.client_id))
    for mark in (Mark.RUNNING, Mark.SUCCESS):
        watched.github().set_status(watched.spec, a_status(commit, mark))
    assert len(watched.repository.checks) == 1


def test_a_comment_stands_under_its_pull_request_and_can_be_read_again(watched: Watched) -> None:
    watched.repository.push()
    watched.repository.push("fix")
    number = watched.repository.pull_request("fix").number
    github = watched.github()
    github.comment(watched.spec, number, "Accuracy 0.91")
    (comment,) = watched.repository.comments
    read = github.read_comment(watched.spec, comment.id)
    assert (read.number, read.author, read.text) == (number, "ci-bot", "Accuracy 0.91")
    assert read.author_id == comment.author.id
    with pytest.raises(NotFound):
        github.read_comment(watched.spec, 999_999)
