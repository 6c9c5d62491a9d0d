"""The product looks at a repository on GitHub: which runs there are, why, and what their commits show.

GitHub is the stand-in; Git, the database and the configuration are real. Nothing is trained here.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from orchestrator.bootstrap.application import Application
from orchestrator.bootstrap.configured import read_configuration
from orchestrator.domain.run import Run, RunState
from tests.support.github import GitHubStandIn, Repository
from tests.support.github.description import mistakes
from tests.support.installation import COMMAND
from tests.unit.services.worlds import ManualClock

PENDING = {"mlci/wine": "pending"}


@dataclass
class Product:
    """A configuration with the pipeline ``wine``, and the application that it makes."""

    folder: Path
    hub: GitHubStandIn
    repository: Repository
    token: str
    clock: ManualClock = field(default_factory=ManualClock)
    made: list[Application] = field(default_factory=list)

    def configure(self, **source: object) -> Application:
        """Write the configuration with these keys of the source, and open it."""
        config = self.folder / "config"
        for name in ("runners", "pipelines"):
            (config / name).mkdir(parents=True, exist_ok=True)
        main = {
            "storage": {"path": "../var", "min_free": "0"},
            "github": {"token": self.token, "api_url": self.hub.api_url},
            "hosts": {"local": {"engine": f"unix://{self.folder}/nobody.sock"}},
        }
        watched = {"github": "acme/wine", "settle": "0s", **source}
        pipeline = {
            "pipeline": "wine",
            "source": watched,
            "deploy_branches": ["main"],
            "run": {"runner": "cpu", "command": "python train.py"},
        }
        (config / "orchestrator.yaml").write_text(yaml.safe_dump(main))
        (config / "runners" / "cpu.yaml").write_text("runner: cpu\nimage: python:3.12-slim\n")
        (config / "pipelines" / "wine.yaml").write_text(yaml.safe_dump(pipeline))
        app = Application(read_configuration(config), clock=self.clock)
        self.made.append(app)
        return app

    def look(self, app: Application) -> list[tuple[str, str, str, RunState]]:
        """Look once; each new run's cause, ref, commit and state."""
        pipeline = app.pipelines["wine"]
        return [_told(run) for run in app.detector.poll_source(pipeline, pipeline.sources[0])]

    def tell(self, app: Application) -> None:
        """Let the forge know where runs stand."""
        app.statuses.tick(threading.Event())


def _told(run: Run) -> tuple[str, str, str, RunState]:
    revision = run.change.revision
    return run.change.cause.value, revision.branch, revision.commit, run.state


@pytest.fixture
def product(github: GitHubStandIn, tmp_path: Path) -> Iterator[Product]:
    repository = github.repository("acme/wine", private=True)
    repository.permissions["ci-bot"] = "write"
    made = Product(tmp_path, github, repository, github.token("ci-bot"))
    made.clock.advance((datetime.now(UTC) - made.clock.now()).total_seconds())
    yield made
    for app in made.made:
        app.store.close()
    assert mistakes(github.requests) == []


def test_pushes_run_once_each_and_every_commit_shows_its_own(product: Product) -> None:
    first = product.repository.push("main", {"train.py": "1"})
    app = product.configure()
    assert product.look(app) == [("first_sight", "main", first, RunState.QUEUED)]
    assert product.look(app) == []
    second = product.repository.push()
    assert product.look(app) == [("push", "main", second, RunState.QUEUED)]
    assert product.look(app) == []
    product.tell(app)
    assert product.repository.status_of(first) == PENDING
    assert product.repository.status_of(second) == PENDING
    status = product.repository.statuses[-1]
    assert (status.creator.login, status.context) == ("ci-bot", "mlci/wine")


def test_looks_at_what_has_not_changed_cost_no_quota_and_no_fetch(product: Product) -> None:
    product.repository.push()
    app = product.configure(tags=["*"], pull_requests=True)
    product.look(app)
    spent, asked = product.hub.charged, len(product.hub.asked())
    for _ in range(10):
        assert product.look(app) == []
    assert product.hub.charged == spent
    assert len(product.hub.asked()) == asked + 30


def test_a_pull_request_runs_and_shows_on_its_own_commit(product: Product) -> None:
    base = product.repository.push()
    app = product.configure(pull_requests=True)
    product.look(app)
    commit = product.repository.push("fix", onto=base)
    pull = product.repository.pull_request("fix", by="ada")
    ref = f"refs/pull/{pull.number}/head"
    assert product.look(app) == [("pull_request", ref, commit, RunState.QUEUED)]
    product.tell(app)
    assert product.repository.status_of(commit) == PENDING
    newer = product.repository.push("fix")
    assert product.look(app) == [("pull_request", ref, newer, RunState.QUEUED)]
    product.repository.close(pull.number)
    assert product.look(app) == []


def test_a_fork_waits_for_approval_unless_its_author_is_trusted_by_id(product: Product) -> None:
    base = product.repository.push()
    friend = product.hub.world.user("friend")
    app = product.configure(pull_requests={"trusted": [friend.id]})
    product.look(app)
    fork = product.repository.fork("stranger")
    commit = fork.push("fix", onto=base)
    first = product.repository.pull_request("fix", head=fork)
    ((cause, ref, seen, state),) = product.look(app)
    assert (cause, ref, seen) == ("pull_request", f"refs/pull/{first.number}/head", commit)
    assert state is RunState.AWAITING_APPROVAL
    theirs = product.repository.fork("friend", "wine-of-friend")
    trusted = theirs.push("better", onto=base)
    product.repository.pull_request("better", head=theirs)
    ((_, _, seen, state),) = product.look(app)
    assert (seen, state) == (trusted, RunState.QUEUED)
    product.tell(app)
    assert product.repository.status_of(commit) == PENDING


def test_a_forced_push_a_tag_and_a_branch_that_goes(product: Product) -> None:
    base = product.repository.push()
    app = product.configure(branches=["main", "try/*"], tags=["v*"])
    product.look(app)
    product.repository.push("main")
    product.look(app)
    rewritten = product.repository.push("main", onto=base)
    assert product.look(app) == [("push", "main", rewritten, RunState.QUEUED)]
    product.repository.tag("v1", base, message="The first")
    assert product.look(app) == [("tag", "refs/tags/v1", base, RunState.QUEUED)]
    product.repository.tag("other", base)
    assert product.look(app) == []
    tried = product.repository.push("try/one", onto=base)
    assert product.look(app) == [("push", "try/one", tried, RunState.QUEUED)]
    product.repository.delete_branch("try/one")
    assert product.look(app) == []
    assert len(app.store.runs.unfinished()) == 5


def test_what_does_not_count_makes_no_run_and_no_mark(product: Product) -> None:
    product.repository.push("main", {"train.py": "1"})
    app = product.configure(paths=["**", "!docs/**"])
    product.look(app)
    skipped = product.repository.push("main", {"train.py": "2"}, message="Try [skip ci]")
    assert product.look(app) == []
    outside = product.repository.push("main", {"docs/index.md": "Hello"})
    assert product.look(app) == []
    other = product.repository.push("unwatched", {"train.py": "3"})
    assert product.look(app) == []
    counted = product.repository.push("main", {"docs/index.md": "Bye", "train.py": "4"})
    assert product.look(app) == [("push", "main", counted, RunState.QUEUED)]
    product.tell(app)
    assert [product.repository.status_of(commit) for commit in (skipped, outside, other)] == [{}, {}, {}]


def test_ten_pushes_in_a_minute_make_one_run_of_the_newest(product: Product) -> None:
    product.repository.push()
    app = product.configure(settle="10s")
    product.look(app)
    newest = ""
    for _ in range(10):
        newest = product.repository.push()
        assert product.look(app) == []
        product.clock.advance(6)
    assert product.look(app) == []
    product.clock.advance(6)
    assert product.look(app) == [("push", "main", newest, RunState.QUEUED)]
    assert product.look(app) == []


def test_every_commit_of_a_push_runs_when_asked_for(product: Product) -> None:
    product.repository.push()
    app = product.configure(every_commit=True)
    product.look(app)
    commits = [product.repository.push() for _ in range(3)]
    assert [commit for _, _, commit, _ in product.look(app)] == commits
    product.tell(app)
    assert all(product.repository.status_of(commit) == PENDING for commit in commits)


def test_another_process_on_the_same_state_runs_nothing_twice(product: Product) -> None:
    product.repository.push()
    product.look(product.configure())
    commit = product.repository.push()
    one, two = product.configure(), product.configure()
    assert [*product.look(one), *product.look(two)] == [("push", "main", commit, RunState.QUEUED)]


def test_doctor_tells_whether_github_lets_us_in_and_what_is_left(product: Product) -> None:
    product.repository.push()
    product.configure(pull_requests=True).store.close()

    def told() -> tuple[str, str]:
        done = subprocess.run(
            [COMMAND, "--json", "--config", str(product.folder / "config"), "doctor"],
            capture_output=True,
            text=True,
            check=False,
        )
        found = {finding["what"]: finding for finding in json.loads(done.stdout)}
        return found["source wine"]["result"], found["source wine"]["told"]

    result, said = told()
    assert (result, said.endswith("main; 4,998 of 5,000 requests left")) == ("ok", True), said
    product.repository.permissions["ci-bot"] = "none"
    result, said = told()
    assert (result, "wine" in said) == ("fail", True)


def test_neither_the_token_nor_where_it_came_from_reaches_the_state_folder(product: Product) -> None:
    product.repository.push()
    app = product.configure()
    product.look(app)
    product.tell(app)
    files = [path for path in (product.folder / "var").rglob("*") if path.is_file()]
    assert any(path.name == "orchestrator.db" for path in files)
    for path in files:
        assert product.token.encode() not in path.read_bytes(), path


def test_the_quota_that_is_left_is_shown_and_a_limit_waited_for(product: Product) -> None:
    product.repository.push()
    app = product.configure()
    (watch,) = app.watches
    assert app.looks.look(watch).sight.found
    app.looks.write_down()
    assert "requests left until" in app.store.watches.all()[watch.name].note
    product.hub.secondary_limit(1800, times=1)
    limited = app.looks.look(watch)
    assert limited.trouble
    assert limited.wait == pytest.approx(1800, abs=5)
    product.clock.advance(limited.wait)
    product.repository.push()
    assert app.looks.look(watch).sight.found
