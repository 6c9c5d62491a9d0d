"""Results become commits and tags of real repositories, by real git."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import pytest

from orchestrator.adapters.git import GitCommand
from orchestrator.adapters.git.push import GitPush, _Work
from orchestrator.domain.deployment import ReleaseFile
from orchestrator.domain.errors import ActionRejected, ActionUnavailable
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.ports.outlets import Pushed
from tests.support.git import GitRepository, run_git


class Pushing:
    """Pushes files by their contents."""

    def __init__(self, repository: GitRepository, folder: Path) -> None:
        folder.mkdir()
        self.repository = repository
        self.source = SourceSpec("wine", repository.url)
        self.push = GitPush(GitCommand(folder / "mirrors"), folder)
        self.folder = folder

    def commit(
        self,
        files: Mapping[str, bytes],
        key: str = "run-1-pass-0",
        branch: str = "results",
        folder: str = "models",
    ) -> Pushed:
        listed = [ReleaseFile(p, len(c), hashlib.sha256(c).hexdigest()) for p, c in sorted(files.items())]

        def read(file: ReleaseFile) -> BinaryIO:
            return io.BytesIO(files[file.path])

        return self.push.commit(self.source, branch, folder, listed, read, "Results of run 1", key)

    def remote(self, *arguments: str) -> str:
        return run_git(self.repository.remote, *arguments)

    def files(self, branch: str = "results") -> dict[str, str]:
        names = self.remote("ls-tree", "-r", "-z", "--name-only", branch).split("\0")
        return {name: self.remote("show", f"{branch}:{name}") for name in names if name}


@pytest.fixture
def pushing(git_repository: GitRepository, tmp_path: Path) -> Pushing:
    git_repository.commit({"train.py": "pass"})
    return Pushing(git_repository, tmp_path / "pushing")


def test_results_become_the_first_commit_of_a_new_branch(pushing: Pushing) -> None:
    odd = "a 'quoted'\nname/model.bin"
    pushed = pushing.commit({odd: b"weights", "metrics.json": b"{}"})
    assert pushed.made
    assert pushing.remote("rev-parse", "results") == pushed.commit
    assert pushing.files() == {f"models/{odd}": "weights", "models/metrics.json": "{}"}
    assert pushing.remote("log", "-1", "--format=%s%n%(trailers)", "results").splitlines() == [
        "Results of run 1",
        "MLCI-Action: run-1-pass-0",
    ]
    assert pushing.remote("rev-list", "--count", "results") == "1"
    assert sorted(path.name for path in pushing.folder.iterdir()) == []


def test_only_the_folder_of_the_results_changes_and_it_holds_just_them(pushing: Pushing) -> None:
    pushing.repository.switch("results")
    other = pushing.repository.commit({"README": "keep me", "models/old.bin": "old", "models-2/x": "keep"})
    pushed = pushing.commit({"new.bin": b"new"})
    assert pushing.files() == {
        "README": "keep me",
        "models-2/x": "keep",
        "models/new.bin": "new",
        "train.py": "pass",
    }
    assert pushing.remote("rev-parse", f"{pushed.commit}^") == other


def test_a_try_after_one_whose_answer_was_lost_makes_no_second_commit(pushing: Pushing) -> None:
    first = pushing.commit({"model.bin": b"1"})
    pushing.commit({"model.bin": b"2"}, key="run-2-pass-0")
    again = pushing.commit({"model.bin": b"1"})
    assert again == Pushed(first.commit, made=False)
    assert pushing.files() == {"models/model.bin": "2"}


def test_what_is_there_already_makes_no_empty_commit(pushing: Pushing) -> None:
    first = pushing.commit({"model.bin": b"1"})
    assert pushing.commit({"model.bin": b"1"}, key="run-2-pass-0") == Pushed(first.commit, made=False)


def test_what_others_push_meanwhile_stays_and_ours_comes_on_top(
    pushing: Pushing, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushing.commit({"model.bin": b"1"})
    send = _Work.push
    raced: list[str] = []

    def race(work: _Work, made: str, ref: str) -> None:
        if not raced:
            pushing.repository.git("fetch", "--quiet", "origin", "results")
            pushing.repository.git("switch", "--quiet", "--create", "results", "FETCH_HEAD")
            raced.append(pushing.repository.commit({"theirs": "x"}))
        send(work, made, ref)

    monkeypatch.setattr(_Work, "push", race)
    pushed = pushing.commit({"model.bin": b"2"}, key="run-2-pass-0")
    assert pushing.files() == {"models/model.bin": "2", "theirs": "x"}
    assert pushing.remote("rev-parse", f"{pushed.commit}^") == raced[0]


def test_a_push_that_arrived_although_it_seemed_to_fail_counts(
    pushing: Pushing, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.adapters.git.process import GitFailed

    send = _Work.push

    def lost(work: _Work, made: str, ref: str) -> None:
        send(work, made, ref)
        raise GitFailed(128, "the remote end hung up")

    monkeypatch.setattr(_Work, "push", lost)
    pushed = pushing.commit({"model.bin": b"1"})
    assert pushing.remote("rev-parse", "results") == pushed.commit


def test_a_server_that_declines_is_not_asked_again(pushing: Pushing) -> None:
    hook = pushing.repository.remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho nobody pushes here >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(ActionRejected, match=r"does not take refs/heads/results.*declined"):
        pushing.commit({"model.bin": b"1"})


def test_a_repository_that_is_gone_is_refused_with_its_address(pushing: Pushing) -> None:
    pushing.repository.remote.rename(pushing.repository.remote.with_name("elsewhere"))
    with pytest.raises(
        (ActionRejected, ActionUnavailable), match=r"results could not be pushed to wine.*remote\.git"
    ):
        pushing.commit({"model.bin": b"1"})


def test_a_path_that_git_forbids_is_refused_before_anything_is_pushed(pushing: Pushing) -> None:
    with pytest.raises(ActionRejected, match=r"no file of the name models/\.git/config"):
        pushing.commit({".git/config": b"[core]"})
    assert pushing.remote("branch", "--list", "results") == ""


def test_the_commit_of_a_run_gets_a_tag_once(pushing: Pushing) -> None:
    commit = pushing.repository.head()
    assert pushing.push.tag(pushing.source, "model-7", commit, "Model 7").made
    assert pushing.remote("rev-parse", "model-7^{commit}") == commit
    assert pushing.remote("cat-file", "-t", "model-7") == "tag"
    assert not pushing.push.tag(pushing.source, "model-7", commit, "Model 7").made


def test_a_tag_of_another_commit_is_never_moved(pushing: Pushing) -> None:
    first = pushing.repository.head()
    pushing.push.tag(pushing.source, "model", first, "Model")
    second = pushing.repository.commit({"train.py": "better"})
    with pytest.raises(ActionRejected, match=f"has a tag model already, of commit {first[:12]}"):
        pushing.push.tag(pushing.source, "model", second, "Model")
    assert pushing.remote("rev-parse", "model^{commit}") == first
