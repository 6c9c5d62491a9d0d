"""Results pushed into repositories: a commit of files on a branch, or a tag. Nothing is ever forced.

A commit is put together from objects alone, in an empty repository of its own that is thrown away: no working
tree is there, no hook or filter runs, and what lies in the branch's other folders is not even looked at.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from orchestrator.adapters.git.command import GitCommand
from orchestrator.adapters.git.location import REMOTE, Location
from orchestrator.adapters.git.mirror import hashing
from orchestrator.adapters.git.process import GitFailed, reaching, run_git
from orchestrator.domain.deployment import ReleaseFile
from orchestrator.domain.errors import (
    ActionRejected,
    ActionUnavailable,
    SourceRefused,
    SourceUnavailable,
)
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.domain.text import escaped
from orchestrator.ports.outlets import Pushed

KEY: Final = "MLCI-Action"
"""The trailer by which a later try knows the commit of an earlier one."""
_HEADS: Final = "refs/heads/"
_TAGS: Final = "refs/tags/"
_AUTHOR: Final = ("-c", "user.name=ML CI", "-c", "user.email=mlci@localhost")
_ROUNDS: Final = 5
"""How often a push is put on what others have pushed meanwhile."""
_DEPTH: Final = 200
"""Among so many commits of a branch that of an earlier try is looked for."""
_QUICK: Final = 60.0


class GitPush:
    """Pushes with the logins by which sources are read. Thread-safe; every call may be repeated."""

    def __init__(self, git: GitCommand, scratch: Path, timeout: float = 1800.0) -> None:
        self._git = git
        self._scratch = scratch
        self._timeout = timeout

    def commit(
        self,
        source: SourceSpec,
        branch: str,
        folder: str,
        files: Sequence[ReleaseFile],
        read: Callable[[ReleaseFile], BinaryIO],
        message: str,
        key: str,
    ) -> Pushed:
        """Have a commit on a branch in which the folder holds just these files."""
        ref, words = _HEADS + branch, f"{message.strip()}\n\n{KEY}: {key}\n"
        with (
            _translated(self._git, source, branch) as location,
            _repository(self._scratch, self._listed(location, "HEAD").get("HEAD", "")) as path,
        ):
            work = _Work(path, location, self._timeout)
            blobs = work.blobs(files, read, self._scratch)
            for _ in range(_ROUNDS):
                tip = self._listed(location, ref).get(ref, "")
                if tip and (known := work.fetched(branch, tip, key)):
                    return Pushed(known, made=False)
                made = work.commit(tip, folder, blobs, words)
                if made == tip or self._pushed(work, location, made, ref, tip):
                    return Pushed(made, made=made != tip)
        raise ActionUnavailable(
            f"{branch} of {source.name} was pushed to by others {_ROUNDS} times meanwhile"
        )

    def tag(self, source: SourceSpec, name: str, commit: str, message: str) -> Pushed:
        """Have a tag of a commit."""
        full = _TAGS + name
        with _translated(self._git, source, name) as location:
            there = self._tagged(location, full)
            if not there:
                with self._git.mirrored(source, commit) as mirror, _repository(self._scratch, commit) as path:
                    (path / "objects" / "info" / "alternates").write_text(f"{mirror / 'objects'}\n")
                    work = _Work(path, location, self._timeout)
                    if self._pushed(work, location, work.tag(name, commit, message), full, ""):
                        return Pushed(commit, made=True)
                there = self._tagged(location, full)
        if there != commit:
            raise ActionRejected(
                f"{source.name} has a tag {name} already, of commit {there[:12]}",
                "tags are never moved: give each run's its own name, as with {number}",
            )
        return Pushed(commit, made=False)

    def _tagged(self, location: Location, full: str) -> str:
        listed = self._listed(location, full, f"{full}^{{}}")
        return listed.get(f"{full}^{{}}") or listed.get(full, "")

    def _listed(self, location: Location, *refs: str) -> dict[str, str]:
        said = run_git(["ls-remote", "--", REMOTE, *refs], timeout=_QUICK, location=location)
        lines = (line.partition("\t") for line in said.split("\n") if "\t" in line)
        return {name: commit for commit, _, name in lines if name in refs}

    def _pushed(self, work: _Work, location: Location, made: str, ref: str, before: str) -> bool:
        """Push; False when somebody else was faster. What the remote has then decides, not what it said."""
        try:
            work.push(made, ref)
        except GitFailed as error:
            now = self._listed(location, ref).get(ref, "")
            if now == made:
                return True
            if now != before:
                return False
            if error.trouble is not None:
                raise
            raise ActionRejected(
                f"{location.shown} does not take {ref}: {error.said}",
                "see that the login may write there, and that no rule of the server forbids it",
            ) from None
        return True


class _Work:
    """A repository of one push's own."""

    def __init__(self, path: Path, location: Location, timeout: float) -> None:
        self._path = path
        self._location = location
        self._timeout = timeout

    def blobs(
        self, files: Sequence[ReleaseFile], read: Callable[[ReleaseFile], BinaryIO], scratch: Path
    ) -> dict[str, str]:
        """Store the files' contents; their names by the paths."""
        with tempfile.TemporaryDirectory(dir=scratch, prefix="blobs-") as folder:
            paths = []
            for index, file in enumerate(files):
                paths.append(Path(folder, str(index)))
                with closing(read(file)) as stream, paths[-1].open("wb") as copy:
                    shutil.copyfileobj(stream, copy, 1 << 20)
            told = "".join(f"{path}\n" for path in paths).encode()
            said = self._here("hash-object", "-w", "--no-filters", "--stdin-paths", told=told)
        return {file.path: name for file, name in zip(files, said.split(), strict=True)}

    def fetched(self, branch: str, tip: str, key: str) -> str:
        """Fetch a branch; the commit in it that an earlier try has made, or nothing."""
        options = ("--quiet", "--no-tags", "--no-write-fetch-head", f"--depth={_DEPTH}", "--update-shallow")
        self._reach("fetch", *options, "--", REMOTE, f"+{_HEADS}{branch}:refs/seen")
        said = self._here("log", "-z", f"--format=%H%x00%(trailers:key={KEY},valueonly,separator=%x20)", tip)
        words = said.split("\0")
        return next((words[i] for i in range(0, len(words) - 1, 2) if words[i + 1].strip() == key), "")

    def commit(self, tip: str, folder: str, blobs: dict[str, str], message: str) -> str:
        """A commit on the tip, or a first one; the tip itself where it has all that already."""
        entries = self._here("ls-tree", "-r", "-z", "--full-tree", tip) if tip else ""
        kept = [e for e in entries.split("\0") if e and not _below(e.partition("\t")[2], folder)]
        ours = [f"100644 {name} 0\t{folder}/{path}" for path, name in blobs.items()]
        index = [*(_index_line(entry) for entry in kept), *ours]
        self._here("read-tree", "--empty")
        told = "".join(f"{line}\0" for line in index)
        self._here("update-index", "-z", "--index-info", told=told.encode("utf-8", "surrogateescape"))
        tree = self._here("write-tree").strip()
        # What git forbids, as .git/config, it leaves out and goes on.
        there = self._here("ls-tree", "-r", "-z", "--name-only", tree).split("\0")
        if lacks := sorted({f"{folder}/{path}" for path in blobs} - set(there)):
            raise ActionRejected(
                f"git takes no file of the name {escaped(lacks[0])}", "leave it out with files:"
            )
        if tip and self._here("rev-parse", f"{tip}^{{tree}}").strip() == tree:
            return tip
        parents = ("-p", tip) if tip else ()
        return self._here("commit-tree", tree, *parents, "-F", "-", told=message.encode()).strip()

    def tag(self, name: str, commit: str, message: str) -> str:
        """A tag object."""
        who = self._here("var", "GIT_COMMITTER_IDENT").strip()
        told = f"object {commit}\ntype commit\ntag {name}\ntagger {who}\n\n{message.strip()}\n"
        return self._here("mktag", told=told.encode()).strip()

    def push(self, made: str, ref: str) -> None:
        """Push one object to one ref, never with force."""
        self._reach("push", "--quiet", "--no-follow-tags", "--", REMOTE, f"{made}:{ref}")

    def _here(self, *arguments: str, told: bytes | None = None) -> str:
        command = [*_AUTHOR, "-C", str(self._path), *arguments]
        return run_git(command, timeout=self._timeout, told=told, errors="surrogateescape")

    def _reach(self, *arguments: str) -> None:
        run_git(["-C", str(self._path), *arguments], timeout=self._timeout, location=self._location)


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _index_line(entry: str) -> str:
    """What ``ls-tree`` prints of an entry, as ``update-index`` takes it."""
    facts, _, path = entry.partition("\t")
    mode, _, name = facts.split(" ")
    return f"{mode} {name} 0\t{path}"


@contextmanager
def _repository(scratch: Path, commit: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=scratch, prefix="push-") as folder:
        options = ("--quiet", "--bare", "--template=", f"--object-format={hashing(commit)}")
        run_git(["init", *options, "--", folder], timeout=_QUICK)
        (Path(folder) / "objects" / "info").mkdir(exist_ok=True)
        yield Path(folder)


@contextmanager
def _translated(git: GitCommand, source: SourceSpec, what: str) -> Iterator[Location]:
    """What goes wrong on the way to a repository, as errors of an action."""
    begin = f"{what} could not be pushed to {source.name}"
    try:
        location = git.location(source)
        with reaching(location):
            yield location
    except SourceRefused as error:
        raise ActionRejected(f"{begin}: {error.message}", error.remedy) from error
    except SourceUnavailable as error:
        raise ActionUnavailable(f"{begin}: {error.message}", error.remedy) from error
