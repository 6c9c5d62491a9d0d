"""Mirrors and what they keep go when nobody needs them, and come again when somebody does."""

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.adapters.git import GitCommand
from orchestrator.adapters.git.mirror import locked
from orchestrator.adapters.git.upkeep import MirrorFiles
from orchestrator.domain.errors import RevisionGone
from orchestrator.domain.pipeline import SourceSpec
from tests.support.git import GitRepository, run_git

DAY = 86400.0


@pytest.fixture
def git(tmp_path: Path) -> GitCommand:
    return GitCommand(tmp_path / "mirrors")


@pytest.fixture
def files(git: GitCommand, tmp_path: Path) -> MirrorFiles:
    return MirrorFiles(tmp_path / "mirrors", git.location)


@pytest.fixture
def source(git_repository: GitRepository) -> SourceSpec:
    return SourceSpec("wine", git_repository.url)


def now() -> datetime:
    return datetime.now(UTC)


def let_age(path: Path, days: float) -> None:
    moment = time.time() - days * DAY
    os.utime(path, (moment, moment))


def test_a_mirror_that_nobody_used_goes_with_its_room_and_comes_again(
    git: GitCommand, files: MirrorFiles, source: SourceSpec, git_repository: GitRepository, tmp_path: Path
) -> None:
    commit = git_repository.commit({"a": os.urandom(100_000)})
    git.fetch(source, commit, "main")
    (mirror,) = files.all()
    assert mirror.name in files.names(source)
    assert files.drop(mirror.name, now() - timedelta(days=30)) is None
    let_age(tmp_path / "mirrors" / f"{mirror.name}.lock", 31)
    freed = files.drop(mirror.name, now() - timedelta(days=30))
    assert freed is not None
    assert freed > 100_000
    assert files.all() == []
    assert [path.name for path in (tmp_path / "mirrors").iterdir()] == [f"{mirror.name}.lock"]
    git.checkout(source, commit, tmp_path / "into")
    assert (tmp_path / "into/a").exists()


def test_a_mirror_counts_as_used_by_whoever_asks_for_a_commit_that_it_has(
    git: GitCommand, files: MirrorFiles, source: SourceSpec, git_repository: GitRepository, tmp_path: Path
) -> None:
    commit = git_repository.commit({"a": "1"})
    git.fetch(source, commit, "main")
    (mirror,) = files.all()
    let_age(tmp_path / "mirrors" / f"{mirror.name}.lock", 31)
    git.fetch(source, commit, "main")
    assert files.all()[0].used_at > now() - timedelta(hours=1)


def test_a_mirror_that_is_being_changed_stays(
    git: GitCommand, files: MirrorFiles, source: SourceSpec, git_repository: GitRepository, tmp_path: Path
) -> None:
    git.fetch(source, git_repository.commit({"a": "1"}), "main")
    (mirror,) = files.all()
    let_age(tmp_path / "mirrors" / f"{mirror.name}.lock", 31)
    begun, over = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(tmp_path / "mirrors", mirror.name, 10):
            begun.set()
            over.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert begun.wait(30)
        assert files.drop(mirror.name, now()) is None
        assert files.unpin(mirror.name, ["1" * 40]) == 0
    finally:
        over.set()
        thread.join()
    assert (tmp_path / "mirrors" / mirror.name).is_dir()


@pytest.mark.parametrize("packed", [False, True])
def test_commits_that_are_kept_no_more_go_within_days_and_others_stay(
    git: GitCommand,
    files: MirrorFiles,
    source: SourceSpec,
    git_repository: GitRepository,
    tmp_path: Path,
    packed: bool,
) -> None:
    first = git_repository.commit({"a": "1"})
    gone = git_repository.commit({"a": os.urandom(100_000)})
    git.fetch(source, gone, "main")
    git_repository.git("reset", "--quiet", "--hard", first)
    git_repository.commit({"a": "2"}, push=False)
    git_repository.push(force=True)
    kept = git_repository.head()
    git.fetch(source, kept, "main")
    (found,) = files.all()
    mirror = tmp_path / "mirrors" / found.name
    assert files.pins(found.name, now() - timedelta(days=30)) == []
    if packed:
        run_git(mirror, "pack-refs", "--all")
        let_age(mirror / "packed-refs", 2)
    else:
        for pin in (mirror / "refs/mlci").iterdir():
            let_age(pin, 31)
    assert set(files.pins(found.name, now() - timedelta(days=30))) == {gone, kept}
    assert files.unpin(found.name, [gone]) == 1
    files.tidy(found.name)
    assert run_git(mirror, "cat-file", "-t", gone) == "commit"
    let_age(mirror / "mlci-let-go", 2)
    files.tidy(found.name)
    size = sum(path.stat().st_size for path in mirror.rglob("*") if path.is_file())
    assert size < 100_000
    # The server has it no more, as anybody can see who force-pushes.
    run_git(git_repository.remote, "reflog", "expire", "--expire=now", "--all")
    run_git(git_repository.remote, "gc", "--quiet", "--prune=now")
    with pytest.raises(RevisionGone):
        git.fetch(source, gone, "main")
    assert git.fetch(source, kept, "main").commit == kept
