"""The product looks at a repository on any Git server: which runs there are, and what is said when it fails.

The server, Git, the database and the configuration are real. Nothing is trained here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from orchestrator.bootstrap.application import Application
from orchestrator.bootstrap.configured import read_configuration
from tests.support.git import GitRepository
from tests.support.gitserver import GitServer, git_server
from tests.unit.services.worlds import ManualClock

TOKEN = "glpat-of-the-detection-tests"
Told = tuple[str, str, str]


class Product:
    """Pipelines that watch a private repository by its token, and the application that they make."""

    def __init__(self, folder: Path, server: GitServer) -> None:
        self.folder = folder
        self.server = server
        self.clock = ManualClock()
        self.sources: dict[str, dict[str, object]] = {}
        self._app: Application | None = None

    def watch(self, name: str, **source: object) -> None:
        """Add a pipeline."""
        address = {"git": f"{self.server.url}/remote.git", "token": "${{ env.WINE_TOKEN }}"}
        self.sources[name] = {**address, "settle": "0s", **source}
        self.restart()

    def restart(self) -> None:
        """Another process on the same state."""
        self.close()
        config = self.folder / "config"
        for folder in ("runners", "pipelines"):
            (config / folder).mkdir(parents=True, exist_ok=True)
        (config / "orchestrator.yaml").write_text('storage: {path: ../var, min_free: "0"}\n')
        (config / "runners/cpu.yaml").write_text("runner: cpu\nimage: python:3.12-slim\n")
        for name, source in self.sources.items():
            run = {"runner": "cpu", "command": "python train.py"}
            text = yaml.safe_dump({"pipeline": name, "source": source, "run": run})
            (config / "pipelines" / f"{name}.yaml").write_text(text)

    @property
    def app(self) -> Application:
        if self._app is None:
            self._app = Application(read_configuration(self.folder / "config"), clock=self.clock)
        return self._app

    def look(self, name: str = "wine") -> list[Told]:
        """Look once; each new run's cause, ref and commit."""
        pipeline = self.app.pipelines[name]
        runs = self.app.detector.poll_source(pipeline, pipeline.sources[0])
        changes = [run.change for run in runs]
        return [(c.cause.value, c.revision.branch, c.revision.commit) for c in changes]

    def trouble(self) -> dict[str, str]:
        """Look at everything as a server does; what there is to say of each source."""
        for watch in self.app.watches:
            self.app.looks.look(watch)
        return dict(self.app.looks.problems)

    def close(self) -> None:
        if self._app is not None:
            self._app.store.close()
            self._app = None


@pytest.fixture
def product(
    git_repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Product]:
    monkeypatch.setenv("WINE_TOKEN", TOKEN)
    git_repository.commit({"train.py": "1"})
    with git_server(git_repository.remote.parent) as server:
        server.logins = {"x-access-token": TOKEN}
        made = Product(tmp_path, server)
        yield made
        made.close()


def test_what_people_push_runs_once_and_for_its_cause(
    product: Product, git_repository: GitRepository
) -> None:
    repository = git_repository
    product.watch("wine", branches=["main", "try/*"], tags=["v*"], paths=["**", "!docs/**"])
    first = repository.head()
    assert product.look() == [("first_sight", "main", first)]
    assert product.look() == []

    second = repository.commit({"train.py": "2"})
    assert product.look() == [("push", "main", second)]
    (repository.work / "train.py").write_text("2b")
    repository.git("add", "--all")
    rewritten = repository.rewrite()
    product.restart()
    assert product.look() == [("push", "main", rewritten)]

    repository.commit({"train.py": "3"}, "Try [skip ci]")
    assert product.look() == []
    repository.commit({"docs/index.md": "1"})
    assert product.look() == []
    journal = "\n".join(line.reason for line in product.app.store.journal.latest())
    assert "[skip ci] in the message of" in journal
    counted = repository.commit({"docs/index.md": "2", "train.py": "4"})
    assert product.look() == [("push", "main", counted)]

    repository.git("tag", "--annotate", "--message=Release", "v1")
    repository.git("tag", "other")
    repository.git("push", "--quiet", "origin", "v1", "other")
    assert product.look() == [("tag", "refs/tags/v1", counted)]

    repository.switch("try/$(id)")
    tried = repository.commit({"train.py": "5"})
    repository.switch("unwatched")
    repository.commit({"train.py": "6"})
    assert product.look() == [("push", "try/$(id)", tried)]
    repository.delete_branch("try/$(id)")
    assert product.look() == []
    assert len(product.app.store.runs.unfinished()) == 6


def test_ten_pushes_in_a_minute_make_one_run_of_the_newest_unless_every_commit_counts(
    product: Product, git_repository: GitRepository
) -> None:
    product.watch("wine", settle="10s")
    product.watch("each", every_commit=True)
    first = git_repository.head()
    assert product.look("wine") == product.look("each") == [("first_sight", "main", first)]
    commits = []
    for number in range(10):
        commits.append(git_repository.commit({"train.py": f"{number}"}))
        assert product.look("wine") == []
        product.clock.advance(6)
    product.clock.advance(6)
    assert product.look("wine") == [("push", "main", commits[-1])]
    assert product.look("each") == [("push", "main", commit) for commit in commits]
    mirrors = [path for path in (product.folder / "var/mirrors").iterdir() if path.is_dir()]
    assert len(mirrors) == 1


def test_each_trouble_is_one_message_on_its_source_and_passes(
    product: Product, git_repository: GitRepository, tmp_path: Path
) -> None:
    beside_it = tmp_path / "beside"
    beside_it.mkdir()
    other = GitRepository.create(beside_it)
    other.commit({"train.py": "1"})
    product.watch("wine")
    product.sources["other"] = {"git": other.url, "settle": "0s"}
    product.restart()
    assert product.trouble() == {}

    moved = git_repository.remote.with_name("moved.git")
    troubles: dict[str, Callable[[], object]] = {
        "the login is not accepted": lambda: product.server.logins.update({"x-access-token": "new"}),
        "out of order (500)": lambda: product.server.fails_with(500),
        "no such repository": lambda: git_repository.remote.rename(moved),
    }
    for told, break_it in troubles.items():
        newest = git_repository.commit({"train.py": told})
        beside = other.commit({"train.py": told})
        break_it()
        problems = product.trouble()
        assert list(problems) == ["source wine/remote"]
        assert told in problems["source wine/remote"]
        assert TOKEN not in problems["source wine/remote"]
        assert beside in {run.change.revision.commit for run in product.app.store.runs.unfinished()}
        product.server.logins = {"x-access-token": TOKEN}
        product.server.fault = None
        if moved.exists():
            moved.rename(git_repository.remote)
        assert product.trouble() == {}
        assert newest in {run.change.revision.commit for run in product.app.store.runs.unfinished()}


def test_the_token_is_nowhere_in_the_state(product: Product, git_repository: GitRepository) -> None:
    product.watch("wine", submodules=True)
    product.look()
    git_repository.commit({"train.py": "2"})
    product.look()
    product.app.sources.checkout(
        product.app.pipelines["wine"].sources[0], git_repository.head(), product.folder / "into"
    )
    product.close()
    files = [path for path in product.folder.rglob("*") if path.is_file()]
    assert any(path.name == "orchestrator.db" for path in files)
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
