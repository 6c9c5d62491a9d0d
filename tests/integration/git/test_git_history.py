"""What a real repository's history tells about a push."""

import os
import subprocess
from pathlib import Path

import pytest

from orchestrator.adapters.git import GitCommand
from orchestrator.domain.change import Commit
from orchestrator.domain.errors import InvalidInput, RevisionGone
from orchestrator.domain.pipeline import SourceSpec
from tests.support.git import GitRepository, run_git


@pytest.fixture
def git(tmp_path: Path) -> GitCommand:
    return GitCommand(tmp_path / "mirrors")


@pytest.fixture
def source(git_repository: GitRepository) -> SourceSpec:
    return SourceSpec("wine", git_repository.url, tags=("*",))


def test_a_push_is_told_commit_by_commit_with_whole_messages(
    git: GitCommand, source: SourceSpec, git_repository: GitRepository
) -> None:
    first = git_repository.commit({"a": "0"}, "First")
    git_repository.switch("topic")
    git_repository.commit({"b": "1"}, "On a side branch", push=False)
    git_repository.switch("main")
    second = git_repository.commit({"a": "1"}, "Second\n\nWith a body\n\nskip-checks: true", push=False)
    git_repository.git("merge", "--quiet", "--no-ff", "--message", "Merge [skip ci]", "topic")
    git_repository.git("commit", "--quiet", "--allow-empty", "--allow-empty-message", "--message", "")
    git_repository.push()
    empty, merge = git_repository.head(), git_repository.head("HEAD~1")
    told = git.commits(source, first, empty, 10)
    assert told == (
        Commit(empty, ""),
        Commit(merge, "Merge [skip ci]"),
        Commit(second, "Second\n\nWith a body\n\nskip-checks: true"),
    )
    assert git.commits(source, first, empty, 2) == told[:2]
    assert git.commits(source, None, second, 10) == (told[2],)
    assert git.commits(source, "1" * 40, second, 10) == (told[2],)
    assert git.commits(source, empty, empty, 10) == ()


def test_a_message_in_another_encoding_is_read(
    git: GitCommand, source: SourceSpec, git_repository: GitRepository
) -> None:
    git_repository.git("config", "i18n.commitEncoding", "ISO-8859-1")
    message = git_repository.work / ".git" / "message"
    message.write_bytes("Ajouté [skip ci]".encode("latin-1"))
    git_repository.git("commit", "--quiet", "--allow-empty", "--file", str(message))
    git_repository.push()
    (told,) = git.commits(source, None, git_repository.head(), 1)
    assert told.message == "Ajouté [skip ci]"


def test_the_paths_between_two_commits_are_told_with_both_names_of_a_rename(
    git: GitCommand, source: SourceSpec, git_repository: GitRepository
) -> None:
    old = git_repository.commit({"docs/a b.md": "1" * 100, "src/train.py": "1", "gone": "1", "same": "1"})
    git_repository.git("mv", "docs/a b.md", "docs/c\td.md")
    new = git_repository.commit({"src/train.py": "2", "gone": None, "ünï": "1"})
    expected = {"docs/a b.md", "docs/c\td.md", "src/train.py", "gone", "ünï"}
    told = git.changed_paths(source, old, new)
    assert told is not None
    assert set(told) == expected
    assert set(git.changed_paths(source, new, old) or ()) == expected
    assert git.changed_paths(source, new, new) == ()
    assert git.changed_paths(source, "1" * 40, new) is None


def test_a_path_that_is_not_utf_8_is_told_in_a_form_that_can_be_stored(
    git: GitCommand, source: SourceSpec, git_repository: GitRepository
) -> None:
    old = git_repository.commit({"a": "1"})
    Path(os.fsdecode(os.fsencode(git_repository.work) + b"/caf\xe9.py")).write_text("1")
    new = git_repository.commit({})
    told = git.changed_paths(source, old, new)
    assert told == ("caf\\xe9.py",)
    told[0].encode()


def test_a_branch_that_is_not_utf_8_is_watched_under_a_name_that_can_be_stored(
    git: GitCommand, source: SourceSpec, git_repository: GitRepository
) -> None:
    commit = git_repository.commit({"a": "1"})
    for name in (b"caf\xe9", b"caf\xe8", "café".encode(), b"$(id)"):
        ref = b"refs/heads/" + name
        subprocess.run(
            [b"git", b"-C", os.fsencode(git_repository.remote), b"update-ref", ref, commit.encode()],
            check=True,
        )
    expected = dict.fromkeys(("main", "caf\\xe9", "caf\\xe8", "café", "$(id)"), commit)
    assert git.refs(source).branches == expected
    assert git.fetch(source, commit, "caf\\xe9").branch == "caf\\xe9"
    assert git.resolve(source, "caf\\xe9").commit == commit


def test_what_a_forced_push_left_behind_is_told_apart(
    git: GitCommand, source: SourceSpec, git_repository: GitRepository
) -> None:
    git_repository.commit({"a": "1"})
    old = git_repository.commit({"a": "2"}, "Old")
    git.fetch(source, old, "main")
    new = git_repository.rewrite("New")
    git_repository.commit({"b": "1"}, "Newer")
    newer = git_repository.head()
    run_git(git_repository.remote, "gc", "--quiet", "--prune=now")
    assert git.fetch(source, newer, "main").subject == "Newer"
    assert not git.is_ancestor(source, old, newer)
    assert [one.commit for one in git.commits(source, old, newer, 10)] == [newer, new]
    assert git.changed_paths(source, old, newer) == ("b",)


def test_the_common_ancestor_of_two_branches_is_found_though_neither_was_fetched(
    git: GitCommand, source: SourceSpec, git_repository: GitRepository
) -> None:
    base = git_repository.commit({"a": "1"})
    git_repository.switch("topic")
    theirs = git_repository.commit({"b": "1"})
    git_repository.switch("main")
    ours = git_repository.commit({"c": "1"})
    git_repository.git("checkout", "--quiet", "--orphan", "alone")
    alone = git_repository.commit({"d": "1"})
    assert git.merge_base(source, ours, theirs) == base
    assert git.merge_base(source, ours, alone) is None
    assert git.merge_base(source, ours, "1" * 40) is None
    assert git.merge_base(source, "main", ours) is None


def test_a_file_of_a_commit_is_read_byte_by_byte(
    git: GitCommand, source: SourceSpec, git_repository: GitRepository
) -> None:
    content = bytes(range(256))
    (git_repository.work / "link").symlink_to("/etc/passwd")
    commit = git_repository.commit({".mlci.yaml": content, "folder/file": "1", "*": "star"})
    later = git_repository.commit({".mlci.yaml": "changed"})
    assert git.read(source, commit, ".mlci.yaml", 256) == content
    assert git.read(source, later, ".mlci.yaml", 256) == b"changed"
    assert git.read(source, commit, "*", 10) == b"star"
    assert git.read(source, commit, ".mlci.yml", 256) is None
    assert git.read(source, commit, "folder/nothing", 256) is None
    with pytest.raises(InvalidInput, match="256 bytes"):
        git.read(source, commit, ".mlci.yaml", 255)
    for path in ("link", "folder"):
        with pytest.raises(InvalidInput, match="no plain file"):
            git.read(source, commit, path, 256)
    with pytest.raises(RevisionGone):
        git.read(source, "1" * 40, ".mlci.yaml", 256)


def test_tags_are_told_with_their_commits_and_move(
    git: GitCommand, source: SourceSpec, git_repository: GitRepository
) -> None:
    first = git_repository.commit({"a": "1"})
    git_repository.git("tag", "--annotate", "--message=Release", "v1")
    git_repository.git("tag", "light")
    second = git_repository.commit({"a": "2"})
    git_repository.git("push", "--quiet", "origin", "v1", "light")
    assert git.refs(source).tags == {"v1": first, "light": first}
    git_repository.git("tag", "--force", "light", second)
    git_repository.git("push", "--quiet", "--force", "origin", "light")
    git_repository.git("push", "--quiet", "--delete", "origin", "v1")
    assert git.refs(source).tags == {"light": second}
    assert git.fetch(source, first, "refs/tags/v1").commit == first
