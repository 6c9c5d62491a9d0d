"""Watched repositories by real git on real repositories."""

import hashlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.adapters.git import GitCommand, mirror
from orchestrator.domain.errors import NotFound, RevisionGone, SourceRefused, SourceUnavailable
from orchestrator.domain.pipeline import SourceSpec
from tests.support.git import GitRepository, run_git
from tests.support.waiting import wait_until


def source_of(repository: GitRepository, *branches: str) -> SourceSpec:
    return SourceSpec("wine", repository.url, branches or ("main",))


@pytest.fixture
def git(tmp_path: Path) -> GitCommand:
    return GitCommand(tmp_path / "mirrors")


def mirror_of(tmp_path: Path) -> Path:
    (mirror,) = [path for path in (tmp_path / "mirrors").iterdir() if path.is_dir()]
    return mirror


def test_heads_are_all_branches_with_their_commits(git: GitCommand, git_repository: GitRepository) -> None:
    first = git_repository.commit({"a": "1"})
    git_repository.switch("release/1.0")
    second = git_repository.commit({"a": "2"})
    assert git.heads(source_of(git_repository)) == {"main": first, "release/1.0": second}


def test_an_empty_repository_has_no_heads(git: GitCommand, git_repository: GitRepository) -> None:
    assert git.heads(source_of(git_repository)) == {}


def test_the_default_branch_is_what_head_points_to(git: GitCommand, git_repository: GitRepository) -> None:
    git_repository.commit({"a": "1"})
    git_repository.switch("trunk")
    commit = git_repository.commit({"a": "2"})
    assert git.default_branch(source_of(git_repository)) == "main"
    run_git(git_repository.remote, "symbolic-ref", "HEAD", "refs/heads/trunk")
    assert git.default_branch(source_of(git_repository)) == "trunk"
    run_git(git_repository.remote, "update-ref", "--no-deref", "HEAD", commit)
    assert git.default_branch(source_of(git_repository)) is None


def test_a_fetched_commit_is_described(git: GitCommand, git_repository: GitRepository) -> None:
    commit = git_repository.commit({"a": "1"}, "Añade el vino\n\nBody")
    revision = git.fetch(source_of(git_repository), commit, "main")
    assert (revision.source, revision.branch, revision.commit) == ("wine", "main", commit)
    assert (revision.subject, revision.author, revision.author_email) == (
        "Añade el vino",
        "Ada",
        "ada@example.org",
    )
    assert revision.committed_at is not None
    assert abs((datetime.now(UTC) - revision.committed_at).total_seconds()) < 600


def test_a_commit_that_is_here_needs_no_remote(git: GitCommand, git_repository: GitRepository) -> None:
    commit = git_repository.commit({"a": "1"})
    before = git.fetch(source_of(git_repository), commit, "main")
    git_repository.remote.rename(git_repository.remote.with_name("moved"))
    assert git.fetch(source_of(git_repository), commit, "main") == before


def test_only_what_is_new_is_fetched(git: GitCommand, git_repository: GitRepository, tmp_path: Path) -> None:
    git.fetch(source_of(git_repository), git_repository.commit({"big": os.urandom(1 << 20)}), "main")
    git_repository.switch("other")
    git_repository.commit({"unwanted": os.urandom(1 << 20)})
    git_repository.switch("main")
    git.fetch(source_of(git_repository), git_repository.commit({"small": "x"}), "main")
    packs = sorted(path.stat().st_size for path in mirror_of(tmp_path).glob("objects/pack/*.pack"))
    assert len(packs) == 2
    assert packs[0] < 4096
    assert packs[1] < 2 << 20


def test_a_commit_that_a_forced_push_replaced_is_still_found_by_its_hash(
    git: GitCommand, git_repository: GitRepository
) -> None:
    git_repository.commit({"a": "1"})
    replaced = git_repository.commit({"a": "2"}, "Old")
    git_repository.rewrite("New")
    assert git.fetch(source_of(git_repository), replaced, "main").subject == "Old"


def test_a_commit_that_the_remote_forgot_is_gone(git: GitCommand, git_repository: GitRepository) -> None:
    git_repository.commit({"a": "1"})
    replaced = git_repository.commit({"a": "2"})
    git_repository.rewrite()
    run_git(git_repository.remote, "-c", "gc.reflogExpire=now", "gc", "--quiet", "--prune=now")
    with pytest.raises(RevisionGone, match=replaced[:12]):
        git.fetch(source_of(git_repository), replaced, "main")


def test_a_commit_that_was_fetched_survives_at_our_side(
    git: GitCommand, git_repository: GitRepository
) -> None:
    source = source_of(git_repository)
    git_repository.commit({"a": "1"})
    replaced = git_repository.commit({"a": "2"}, "Old")
    git.fetch(source, replaced, "main")
    new = git_repository.rewrite("New")
    run_git(git_repository.remote, "gc", "--quiet", "--prune=now")
    git.fetch(source, new, "main")
    assert git.fetch(source, replaced, "main").subject == "Old"
    assert not git.is_ancestor(source, replaced, new)


def test_a_deleted_branch_does_not_hide_its_commit(git: GitCommand, git_repository: GitRepository) -> None:
    git_repository.commit({"a": "1"})
    git_repository.switch("short-lived")
    commit = git_repository.commit({"a": "2"})
    git_repository.delete_branch("short-lived")
    assert git.fetch(source_of(git_repository), commit, "short-lived").commit == commit


def test_a_branch_may_become_a_folder_of_branches(git: GitCommand, git_repository: GitRepository) -> None:
    source = source_of(git_repository)
    git_repository.commit({"a": "0"})
    git_repository.switch("topic")
    git.resolve(source, git_repository.commit({"a": "1"})[:10])
    git_repository.switch("main")
    git_repository.delete_branch("topic")
    git_repository.git("branch", "-D", "topic")
    git_repository.switch("topic/one")
    commit = git_repository.commit({"a": "2"})
    assert git.resolve(source, commit[:10]).branch == "topic/one"


@pytest.mark.parametrize(
    "branch", ["feature/#12", "ünïcode", "a'b\"c", "$(id)", "@", "-x", "%s{}", "main;ls"]
)
def test_odd_branch_names_are_names(git: GitCommand, git_repository: GitRepository, branch: str) -> None:
    commit = git_repository.commit({"a": "1"})
    git_repository.git("push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
    source = source_of(git_repository)
    assert git.heads(source)[branch] == commit
    assert git.fetch(source, commit, branch).branch == branch
    assert git.resolve(source, branch).commit == commit


def test_a_repository_that_vanishes_is_unavailable(git: GitCommand, git_repository: GitRepository) -> None:
    source = source_of(git_repository)
    git.fetch(source, git_repository.commit({"a": "1"}), "main")
    shutil.rmtree(git_repository.remote)
    for call in (
        lambda: git.heads(source),
        lambda: git.default_branch(source),
        lambda: git.fetch(source, "1" * 40, "main"),
        lambda: git.resolve(source, "main"),
    ):
        with pytest.raises(SourceUnavailable, match=git_repository.url):
            call()


def test_names_are_resolved_to_commits(git: GitCommand, git_repository: GitRepository) -> None:
    source = source_of(git_repository)
    first = git_repository.commit({"a": "1"})
    git_repository.git("tag", "--annotate", "--message=Release", "v1")
    git_repository.git("tag", "light")
    git_repository.git("push", "--quiet", "origin", "v1", "light")
    second = git_repository.commit({"a": "2"})
    expected = {"main": second, "refs/heads/main": second, "v1": first, "light": first}
    expected |= {first: first, first[:8]: first, first[:8].upper(): first}
    found = {name: git.resolve(source, name) for name in expected}
    assert {name: revision.commit for name, revision in found.items()} == expected
    tags = {"v1": "refs/tags/v1", "light": "refs/tags/light"}
    assert {name: of.branch for name, of in found.items()} == dict.fromkeys(expected, "main") | tags


@pytest.mark.parametrize(
    "ref", ["nowhere", "1234567", "f" * 40, "", "HEAD~1", "-x", "main:a", "main^{tree}", "*"]
)
def test_a_name_that_means_nothing_is_not_found(
    git: GitCommand, git_repository: GitRepository, ref: str
) -> None:
    git_repository.commit({"a": "1"})
    with pytest.raises(NotFound):
        git.resolve(source_of(git_repository), ref)


def test_the_branch_of_a_hash_is_the_default_one_before_watched_ones(
    git: GitCommand, git_repository: GitRepository
) -> None:
    source = source_of(git_repository, "main", "release/*")
    shared = git_repository.commit({"a": "1"})
    git_repository.switch("a-topic")
    topic = git_repository.commit({"a": "2"})
    git_repository.switch("release/2")
    release = git_repository.commit({"a": "3"})
    assert [git.resolve(source, c).branch for c in (shared, topic, release)] == [
        "main",
        "release/2",
        "release/2",
    ]


def tree_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
        for path in folder.rglob("*")
        if ".git" not in path.relative_to(folder).parts and (path.is_symlink() or path.is_file())
    }


def test_a_checkout_is_exactly_the_commit(
    git: GitCommand, git_repository: GitRepository, tmp_path: Path
) -> None:
    (git_repository.work / "link").symlink_to("/etc/passwd")
    old = git_repository.commit({"train.py": "old", "src/run.sh": "#!/bin/sh"})
    (git_repository.work / "src/run.sh").chmod(0o755)
    new = git_repository.commit({"train.py": "new"})
    into = tmp_path / "checkout"
    git.checkout(source_of(git_repository), new, into)
    assert tree_of(into) == {"train.py": "new", "src/run.sh": "#!/bin/sh", "link": "-> /etc/passwd"}
    assert os.access(into / "src/run.sh", os.X_OK)
    assert run_git(into, "rev-parse", "HEAD") == new
    assert run_git(into, "status", "--porcelain") == ""
    assert run_git(into, "rev-list", "--count", "HEAD") == "1"
    git.checkout(source_of(git_repository), old, tmp_path / "old")
    assert tree_of(tmp_path / "old")["train.py"] == "old"


def test_a_checkout_knows_no_remote_and_brings_no_hooks(
    git: GitCommand, git_repository: GitRepository, tmp_path: Path
) -> None:
    commit = git_repository.commit({"a": "1"})
    into = tmp_path / "checkout"
    git.checkout(source_of(git_repository), commit, into)
    assert run_git(into, "remote") == ""
    assert not (into / ".git/hooks").exists()
    everything = b"".join(path.read_bytes() for path in (into / ".git").rglob("*") if path.is_file())
    assert str(tmp_path).encode() not in everything


def test_a_failed_checkout_leaves_an_empty_folder(
    git: GitCommand, git_repository: GitRepository, tmp_path: Path
) -> None:
    git_repository.commit({"a": "1"})
    with pytest.raises(RevisionGone):
        git.checkout(source_of(git_repository), "1" * 40, tmp_path / "into")
    full = tmp_path / "full"
    full.mkdir()
    (full / "precious").write_text("x")
    with pytest.raises(SourceUnavailable, match="not empty"):
        git.checkout(source_of(git_repository), git_repository.head(), full)
    assert (full / "precious").exists()


def test_history_is_compared_and_told(git: GitCommand, git_repository: GitRepository) -> None:
    source = source_of(git_repository)
    commits = [git_repository.commit({"a": str(n)}, f"Change {n}") for n in range(4)]
    assert git.is_ancestor(source, commits[0], commits[3])
    assert git.is_ancestor(source, commits[3], commits[3])
    assert not git.is_ancestor(source, commits[3], commits[0])
    assert not git.is_ancestor(source, "1" * 40, commits[3])
    told = git.logged(source, commits[1], commits[3], 10)
    assert [(each.commit, each.subject) for each in told] == [
        (commits[3], "Change 3"),
        (commits[2], "Change 2"),
    ]
    assert all(each.author for each in told)
    assert [each.subject for each in git.logged(source, commits[0], commits[3], 1)] == ["Change 3"]
    assert git.logged(source, "1" * 40, commits[3], 10) == ()


def test_a_damaged_mirror_is_made_anew(
    git: GitCommand, git_repository: GitRepository, tmp_path: Path
) -> None:
    source = source_of(git_repository)
    commit = git_repository.commit({"a": "1"}, "First")
    git.fetch(source, commit, "main")
    for pack in mirror_of(tmp_path).glob("objects/pack/*"):
        pack.chmod(0o600)
        pack.write_bytes(pack.read_bytes()[: pack.stat().st_size // 2])
    git.checkout(source, commit, tmp_path / "checkout")
    assert tree_of(tmp_path / "checkout") == {"a": "1"}
    assert git.fetch(source, git_repository.commit({"a": "2"}, "Second"), "main").subject == "Second"


def test_a_mirror_that_is_no_repository_any_more_is_made_anew(
    git: GitCommand, git_repository: GitRepository, tmp_path: Path
) -> None:
    source = source_of(git_repository)
    commit = git_repository.commit({"a": "1"})
    git.fetch(source, commit, "main")
    (mirror_of(tmp_path) / "HEAD").unlink()
    assert git.fetch(source, commit, "main").commit == commit


def test_lock_files_of_a_killed_git_do_not_stop_the_next_one(
    git: GitCommand, git_repository: GitRepository, tmp_path: Path
) -> None:
    source = source_of(git_repository)
    git.resolve(source, git_repository.commit({"a": "1"})[:8])
    mirror = mirror_of(tmp_path)
    for name in ("packed-refs.lock", "HEAD.lock", "config.lock", "shallow.lock", "refs/seen/heads/main.lock"):
        (mirror / name).write_text("")
    (mirror / "objects/pack/tmp_pack_x").write_text("")
    commit = git_repository.commit({"a": "2"})
    assert git.resolve(source, commit[:8]).commit == commit
    assert not [
        path for path in mirror.rglob("*") if path.name.endswith(".lock") or path.name.startswith("tmp_")
    ]


SLOW = """#!/bin/sh
echo $$ > "{marker}"
exec sleep 600
"""


def fetch_in_child(mirrors: Path, source: SourceSpec, commit: str) -> None:
    GitCommand(mirrors).fetch(source, commit, "main")


def test_a_fetch_killed_halfway_with_its_process_is_taken_over(
    git: GitCommand, git_repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(git_repository)
    commit = git_repository.commit({"a": "1"})
    git.fetch(source, commit, "main")
    marker, slow = tmp_path / "marker", tmp_path / "slow"
    slow.write_text(SLOW.format(marker=marker))
    slow.chmod(0o755)
    config = tmp_path / "gitconfig"
    config.write_text(f'[remote "mlci-remote"]\n\tuploadpack = {slow}\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    new = git_repository.commit({"a": "2"})
    child = multiprocessing.get_context("spawn").Process(
        target=fetch_in_child, args=(tmp_path / "mirrors", source, new)
    )
    child.start()
    wait_until(lambda: marker.is_file() and marker.read_text().endswith("\n"), "the slow fetch", 30)
    orphan = int(marker.read_text())
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert Path(f"/proc/{orphan}").exists()
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")
    (mirror_of(tmp_path) / "packed-refs.lock").write_text("")
    assert git.fetch(source, new, "main").commit == new
    wait_until(lambda: not alive(orphan), "the orphan's end")


def alive(process: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False


def test_a_fetch_that_hangs_is_ended_with_all_its_children(
    git_repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git_repository.commit({"a": "1"})
    marker, slow = tmp_path / "marker", tmp_path / "slow"
    slow.write_text(SLOW.format(marker=marker))
    slow.chmod(0o755)
    config = tmp_path / "gitconfig"
    config.write_text(f'[remote "mlci-remote"]\n\tuploadpack = {slow}\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    with pytest.raises(SourceUnavailable, match="did not end within 2 s"):
        GitCommand(tmp_path / "mirrors", quick=2).heads(source_of(git_repository))
    wait_until(lambda: not alive(int(marker.read_text())), "the end of git's child")


def test_bringing_what_is_new_to_a_mirror_ends_sooner_than_bringing_all(
    git: GitCommand, git_repository: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(git_repository)
    monkeypatch.setattr(mirror, "LONGEST_UPDATE", 0.001)
    first = git_repository.commit({"a": "1"})
    assert git.fetch(source, first, "main").commit == first
    second = git_repository.commit({"a": "2"})
    with pytest.raises(SourceUnavailable, match=r"did not end within 0\.001 s"):
        git.fetch(source, second, "main")
    monkeypatch.undo()
    assert git.fetch(source, second, "main").commit == second


def test_many_threads_share_a_mirror(git: GitCommand, git_repository: GitRepository, tmp_path: Path) -> None:
    source = source_of(git_repository)
    commits = [git_repository.commit({"a": str(n)}, f"Change {n}") for n in range(6)]
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            assert git.fetch(source, commits[number], "main").subject == f"Change {number}"
            git.checkout(source, commits[number], tmp_path / f"checkout{number}")
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [(tmp_path / f"checkout{n}/a").read_text() for n in range(6)] == [str(n) for n in range(6)]


def test_the_watched_repository_is_not_touched(
    git: GitCommand, git_repository: GitRepository, tmp_path: Path
) -> None:
    commit = git_repository.commit({"a": "1"})

    def state() -> str:
        files = sorted(path for path in git_repository.remote.rglob("*") if path.is_file())
        return hashlib.sha256(b"".join(str(path).encode() + path.read_bytes() for path in files)).hexdigest()

    before = state()
    source = source_of(git_repository)
    git.heads(source)
    git.resolve(source, commit)
    git.checkout(source, commit, tmp_path / "checkout")
    assert state() == before


def test_a_missing_git_is_named(
    git_repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert subprocess.run(["git", "version"], check=True, capture_output=True).returncode == 0
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceUnavailable, match="git is installed"):
        GitCommand(tmp_path / "mirrors").heads(source_of(git_repository))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")
def test_a_repository_of_another_user_is_refused_with_what_would_allow_it(
    git: GitCommand, git_repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git_repository.commit({"a": "1"})
    for path in (git_repository.remote, *git_repository.remote.rglob("*")):
        os.chown(path, 12345, 12345)
    config = tmp_path / "gitconfig"
    config.write_text("")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    with pytest.raises(SourceRefused, match="belongs to another user") as raised:
        git.heads(source_of(git_repository))
    assert raised.value.remedy == f"git config --global --add safe.directory {git_repository.url}"
    config.write_text(f"[safe]\n\tdirectory = {git_repository.url}\n")
    assert git.heads(source_of(git_repository)) == {"main": commit}


def test_a_repository_that_names_its_commits_by_sha_256_is_one_as_any_other(
    git: GitCommand, tmp_path: Path
) -> None:
    repository = GitRepository(tmp_path / "work", tmp_path / "remote.git")
    for folder, kind in ((repository.work, []), (repository.remote, ["--bare"])):
        options = ["--quiet", "--object-format=sha256", "--initial-branch=main", *kind]
        run_git(tmp_path, "init", *options, str(folder))
    repository.git("remote", "add", "origin", repository.url)
    commit = repository.commit({"a": "1"}, "First")
    assert len(commit) == 64
    source = source_of(repository)
    assert git.refs(source).branches == {"main": commit}
    assert git.resolve(source, commit[:10]).commit == commit
    git.checkout(source, commit, tmp_path / "into")
    assert (tmp_path / "into/a").read_text() == "1"
    assert run_git(tmp_path / "into", "status", "--porcelain") == ""
    later = repository.commit({"a": "2"}, "Second")
    assert git.changed_paths(source, commit, later) == ("a",)


def test_what_killed_processes_left_beside_the_mirrors_goes_once_it_is_old(
    git: GitCommand, git_repository: GitRepository, tmp_path: Path
) -> None:
    mirrors = tmp_path / "mirrors"
    for name in ("fresh-old", "broken-old", "fresh-new"):
        (mirrors / name).mkdir(parents=True)
        (mirrors / name / "pack").write_bytes(b"1")
    for name in ("fresh-old", "broken-old"):
        os.utime(mirrors / name, (0, 0))
    commit = git_repository.commit({"a": "1"})
    git.fetch(source_of(git_repository), commit, "main")
    assert sorted(path.name for path in mirrors.glob("*-*")) == ["fresh-new"]
