"""Reports under pull requests from real runs: one comment, whatever is killed in between."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.domain.action import ActionState
from orchestrator.domain.run import Run, RunState
from tests.support.github import GitHubStandIn
from tests.support.github.description import mistakes
from tests.support.github.world import Comment
from tests.support.githubbed import Watching, files, watch
from tests.support.installation import Installation
from tests.support.waiting import wait_until

QUICK = 'printf \'{"accuracy": %s}\' "$(cat accuracy.txt)" > metrics.json'


@pytest.fixture
def watching(github: GitHubStandIn, installation: Installation) -> Iterator[Watching]:
    installation.pipeline |= {
        "datasets": {},
        "gate": {"checks": ["accuracy >= 0.5"]},
        "run": {"runner": "cpu", "command": ["sh", "-c", QUICK], "timeout": "5m"},
        "actions": {trigger: [{"github": {}}] for trigger in ("pass", "fail")},
    }
    with watch(github, installation) as made:
        yield made


def reports(watching: Watching) -> list[Comment]:
    return [c for c in watching.repository.comments if c.body.startswith("<!-- mlci report ")]


def told(watching: Watching, commit: str) -> Comment:
    return wait_until(
        lambda: next((c for c in reports(watching) if commit in c.body), None),
        f"a report of {commit[:8]}",
        60,
    )


def commit_gone(comment: Comment, commit: str) -> bool:
    """Whether it was about that commit and no longer is; among those since the baseline it may stay."""
    about = f"of commit {commit}"
    return about not in comment.body and any(about in text for text in comment.history)


def settled(watching: Watching, run: Run) -> None:
    actions = watching.store.actions
    wait_until(lambda: all(a.state.final for a in actions.of_run(run.id)), "the actions' end", 60)


def test_a_pull_request_has_one_comment_that_each_run_changes_and_a_status_beside_it(
    watching: Watching,
) -> None:
    repository = watching.repository
    first = repository.push("topic", files(0.8), onto=repository.branch("main"), by="ana")
    pull = repository.pull_request("topic", by="ana")
    ref = f"refs/pull/{pull.number}/head"
    watching.wait_for_run(first, ref, RunState.PASSED)
    made = told(watching, first)
    assert "passed" in made.body
    assert "accuracy" in made.body
    second = repository.push("topic", files(0.1), by="ana")
    run = watching.wait_for_run(second, ref, RunState.REJECTED)
    assert told(watching, second).id == made.id
    assert "rejected \\(broken\\)" in made.body
    assert commit_gone(made, first)
    assert f"{watching.server.url}/runs/{run.id}" in made.body
    assert len(reports(watching)) == 1
    watching.wait_for_status(second, "failure")
    assert mistakes(watching.hub.requests) == []


def test_a_comment_whose_answer_was_lost_and_a_killed_server_make_none_twice(watching: Watching) -> None:
    repository, hub = watching.repository, watching.hub
    commit = repository.push("topic", files(0.8), onto=repository.branch("main"), by="ana")
    lost = hub.lost("(POST|PATCH) .*/comments")
    pull = repository.pull_request("topic", by="ana")
    ref = f"refs/pull/{pull.number}/head"
    run = watching.wait_for_run(commit, ref, RunState.PASSED)
    action = wait_until(
        lambda: next((a for a in watching.store.actions.of_run(run.id) if a.message), None), "the trouble", 60
    )
    assert (action.state, len(reports(watching))) == (ActionState.PENDING, 1)
    watching.server.kill()
    hub.faults.remove(lost)
    watching.installation.serve()
    told(watching, commit)
    settled(watching, run)
    (action,) = watching.store.actions.of_run(run.id)
    assert action.state is ActionState.DONE
    assert len(reports(watching)) == 1


def test_a_push_that_no_pull_request_has_is_told_by_its_status(watching: Watching) -> None:
    commit = watching.repository.branch("main")
    run = watching.wait_for_run(commit, state=RunState.PASSED)
    watching.wait_for_status(commit, "success")
    settled(watching, run)
    (action,) = watching.store.actions.of_run(run.id)
    assert (action.state, reports(watching)) == (ActionState.SKIPPED, [])
    assert "no open pull request" in action.message
