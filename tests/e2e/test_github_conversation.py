"""What a server and GitHub tell each other by webhooks, marks and comments, whatever is killed in between."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from orchestrator.domain.change import Cause
from orchestrator.domain.run import Run, RunState
from tests.support.github import GitHubStandIn
from tests.support.githubbed import Watching, files, watch
from tests.support.installation import Installation
from tests.support.waiting import wait_until


@pytest.fixture
def watching(github: GitHubStandIn, installation: Installation) -> Iterator[Watching]:
    installation.pipeline |= {
        "datasets": {},
        "gate": {"checks": ["accuracy >= 0.5"]},
        "run": {"runner": "cpu", "command": ["sh", "-c", QUICK], "timeout": "5m"},
    }
    with watch(github, installation) as made:
        yield made


QUICK = 'printf \'{"accuracy": %s}\' "$(cat accuracy.txt)" > metrics.json'


def test_pushes_pull_requests_and_comments_make_the_right_runs_and_marks(watching: Watching) -> None:
    repository = watching.repository
    good = repository.branch("main")
    watching.wait_for_status(good, "success")
    bad = repository.push("main", files(0.1), message="Make it worse")
    skipped = repository.push("main", message="Only words [skip ci]")
    rejected = watching.wait_for_run(bad, state=RunState.REJECTED)
    watching.wait_for_status(bad, "failure")
    assert repository.status_of(skipped) == {}

    topic = repository.push("topic", files(0.8), onto=good, message="Try something", by="ana")
    pull = repository.pull_request("topic", by="ana", title="Try something")
    ref = f"refs/pull/{pull.number}/head"
    first = watching.wait_for_run(topic, ref, RunState.PASSED)
    watching.wait_for_status(topic, "success")
    repository.comment(pull.number, "/mlci run", by="passer-by")
    repository.comment(pull.number, "Once more.\n\n/mlci run", by="ci-bot")
    second = _another(watching, first, ref)
    answer = wait_until(
        lambda: [c.body for c in repository.comments if f"line#{second.number}" in c.body], "the answer", 30
    )
    assert answer == [f"[`line#{second.number}`]({_page(watching, second)}) is queued: commit {topic[:8]}"]
    assert second.change.requested_by == "github:ci-bot"
    watching.wait_for_run(topic, ref, RunState.PASSED)

    causes = [(run.change.cause, run.change.revision.commit) for run in watching.runs()]
    assert causes == [
        (Cause.FIRST_SIGHT, good),
        (Cause.PUSH, bad),
        (Cause.PULL_REQUEST, topic),
        (Cause.MANUAL, topic),
    ]
    wait_until(lambda: not watching.store.statuses.any_owed(), "all marks", 30)
    told = [status for status in repository.statuses if status.sha == bad]
    assert {status.target_url for status in told} == {_page(watching, rejected)}
    assert (told[-1].state, told[-1].description) == ("failure", "rejected (broken): accuracy 0.1")
    assert len(watching.runs()) == 4


def test_a_mark_is_set_though_github_was_out_of_order_and_the_server_was_killed(watching: Watching) -> None:
    repository, hub = watching.repository, watching.hub
    watching.wait_for_status(repository.branch("main"), "success")
    outage = hub.fault("POST .*/statuses/", 503)
    commit = repository.push("main", files(0.6))
    run = watching.wait_for_run(commit, state=RunState.PASSED)
    wait_until(lambda: watching.store.statuses.of_run(run.id)[0].last_error, "the trouble", 30)
    shown = watching.installation.orchestrator("runs", "show", str(run.id))
    assert "out of order" in shown
    watching.server.kill()
    hub.faults.remove(outage)
    assert repository.status_of(commit) == {}
    watching.installation.serve()
    watching.wait_for_status(commit, "success")
    assert len(watching.runs()) == 2


FILE = """\
pipeline: quality
run: {{runner: {runner}, command: [sh, -c, {command}]}}
collect: [metrics.json]
gate: {{checks: [accuracy >= 0.5]}}
"""


def test_a_repositorys_own_file_counts_where_it_should_and_shows_its_mistakes(
    github: GitHubStandIn, installation: Installation
) -> None:
    own = FILE.format(runner="cpu", command=json.dumps(QUICK))
    installation.main |= {
        "repositories": {
            "wine": {"github": "acme/wine", "pull_requests": True, "poll": "1h", "settle": "0s"}
        },
        "grants": {"wine": {"runners": ["cpu"]}},
    }
    with watch(github, installation, own=own) as watching:
        repository = watching.repository
        good = repository.branch("main")
        bad = repository.push("main", {".mlci.yaml": own.replace("runner: cpu", "runner: gpu")})
        watching.wait_for_status(bad, "failure", "mlci/configuration")
        (told,) = [status.description for status in repository.statuses if status.sha == bad]
        assert told is not None
        assert told.startswith("1 mistake: .mlci.yaml:2:")
        mended = repository.push("main", {".mlci.yaml": own})
        watching.wait_for_status(good, "success", "mlci/wine.quality")
        watching.wait_for_status(mended, "success", "mlci/wine.quality")

        # A stranger writes another file; the base branch's counts, also for a run that a comment asks for.
        fork = repository.fork("evil")
        greedy = own.replace("accuracy >= 0.5", "accuracy >= 0")
        theirs = fork.push("topic", {".mlci.yaml": greedy, "accuracy.txt": "0.1"})
        pull = repository.pull_request("topic", head=fork)
        ref = f"refs/pull/{pull.number}/head"
        waiting = watching.wait_for_run(theirs, ref, RunState.AWAITING_APPROVAL)
        repository.comment(pull.number, f"/mlci reject {theirs}", by="ci-bot")
        watching.wait_for_run(theirs, ref, RunState.CANCELLED)
        repository.comment(pull.number, f"/mlci run {theirs}", by="ci-bot")
        judged = _another(watching, waiting, ref)
        watching.wait_for_run(theirs, ref, RunState.REJECTED)
        assert watching.store.runs.definition(judged.id).untrusted
        watching.wait_for_status(theirs, "failure", "mlci/wine.quality")
        assert "mlci/configuration" not in repository.status_of(theirs)


def _another(watching: Watching, before: Run, ref: str) -> Run:
    def newer() -> Run | None:
        return next((run for run in watching.runs(ref) if run.id > before.id), None)

    return wait_until(newer, "the run that was asked for", 60)


def _page(watching: Watching, run: Run) -> str:
    return f"{watching.server.url}/runs/{run.id}"
