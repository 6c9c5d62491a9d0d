"""A bare copy of one remote repository: fetched bit by bit, shared by threads and processes, expendable."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from orchestrator.adapters.git.location import REMOTE, Location
from orchestrator.adapters.git.process import GitFailed, GitTimeout, run_git, run_git_raw
from orchestrator.domain.errors import DiskFull, RevisionTooLarge, SourceUnavailable
from orchestrator.domain.report import format_size

PINS: Final = "refs/mlci/"
"""A ref below this per fetched commit: proof that all of it is here, and what keeps it for good."""

SEEN: Final = "refs/seen/"
"""The remote's branches and tags as they were when all of them were last fetched."""

_ALL = (f"+refs/heads/*:{SEEN}heads/*", f"+refs/tags/*:{SEEN}tags/*")
_FETCH = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-gc")
_CHANGING = frozenset({"fetch", "gc", "update-ref"})
_UNSYNCED = ("-c", "core.fsync=none")
"""For what may be lost with the machine's power: it is made anew."""
_QUICK = 60.0
_PATIENCE = 0.05
_ABANDONED = 86400.0
"""Seconds after which nobody is at work any more in a folder that is made or removed in one go."""
_SHA256: Final = 64

LARGEST_PROPOSAL: Final = 256 << 20
"""So many bytes may come at once of what strangers propose, beside what the repository's branches have."""
LONGEST_PROPOSAL: Final = 300.0
"""So many seconds that may take."""
LONGEST_UPDATE: Final = 600.0
"""So many seconds it may take to bring what is new to a mirror. A mirror that is new has longer."""
MOST_PROPOSED: Final = 1 << 30
"""With more bytes than that the mirror of what strangers propose is begun anew."""


def hashing(commit: str) -> str:
    """What a repository names its commits by; sha1 where none is known."""
    return "sha256" if len(commit) == _SHA256 else "sha1"


class Mirror:
    """The copy of one location below ``root``; ``commit`` is any of its own.

    Whoever changes it holds a file lock, which a killed process cannot keep. So lock files of git that the
    next one finds have no owner, but for a git that outlived the process that began it: it is ended first.
    """

    def __init__(self, root: Path, location: Location, timeout: float, commit: str = "") -> None:
        name = location.mirror
        self.path = root / name
        self.large_files = root / f"{name}.lfs"
        """Where Git LFS keeps what commits only point to."""
        self._lock_path = root / f"{name}.lock"
        self._location = location
        self._timeout = timeout
        self._hashing = hashing(commit)
        # What strangers propose rests on what the repository itself has: what is fetched is theirs alone.
        self._own = root / replace(location, strangers=False).mirror if location.strangers else None

    def has(self, commit: str) -> bool:
        """Whether the commit is here, with all that belongs to it. The mirror counts as used now."""
        with suppress(OSError):
            os.utime(self._lock_path)
        try:
            # A look without a process. Were the pin wrong, what needs the commit would find out.
            if (self.path / PINS / commit).read_text().strip() == commit:
                return True
        except OSError:
            pass
        return self.path.is_dir() and self._holds(f"{PINS}{commit}")

    def send(self, commit: str, repository: Path) -> None:
        """Give a repository, empty so far, the commit and its files without its history.

        A fetch would do the same with five processes more. Raises GitFailed or GitTimeout.
        """
        pack = repository / ".git" / "objects" / "pack" / "pack"
        options = ("--revs", "--shallow", "--delta-base-offset", "--quiet", "--threads=1")
        wanted = f"--shallow {commit}\n{commit}\n".encode()
        run_git(
            [*_UNSYNCED, "-C", str(self.path), "pack-objects", *options, str(pack)],
            timeout=self._timeout,
            told=wanted,
        )
        (repository / ".git" / "shallow").write_text(f"{commit}\n")

    def read(self, *arguments: str, errors: str = "replace") -> str:
        """Run a git command that changes nothing. Raises GitFailed or GitTimeout."""
        return run_git(["-C", str(self.path), *arguments], timeout=self._timeout, errors=errors)

    def read_raw(self, *arguments: str) -> bytes:
        """As ``read``, for what is no text."""
        return run_git_raw(["-C", str(self.path), *arguments], timeout=self._timeout)

    def find(self, abbreviated: str) -> str | None:
        """The commit that a hash or its beginning means; None when it means none or several."""
        try:
            return self.read("rev-parse", "--quiet", "--verify", f"{abbreviated}^{{commit}}").strip()
        except GitFailed:
            return None

    @contextmanager
    def changing(self) -> Iterator[MirrorChange]:
        """Hold the mirror's lock; it is made when there is none, and tidied of what killed processes left.

        Raises SourceUnavailable when another process holds it for too long.
        """
        with locked(self.path.parent, self.path.name, self._timeout) as mine:
            if not mine:
                raise SourceUnavailable(
                    f"somebody else has been fetching {self._location.shown} for {self._timeout:g} s",
                    "it is tried again",
                )
            change = MirrorChange(self.path, self._location, self._timeout, self._hashing, self._own)
            change.prepare()
            yield change

    def _holds(self, name: str) -> bool:
        try:
            self.read("rev-parse", "--quiet", "--verify", f"{name}^{{commit}}")
        except GitFailed:
            return False
        return True


class MirrorChange:
    """What may be done to a mirror while its lock is held."""

    def __init__(
        self, path: Path, location: Location, timeout: float, hashing: str, own: Path | None = None
    ) -> None:
        self._path = path
        self._own = own
        self._hashing = hashing
        self._location = location
        self._timeout = timeout
        self._bounded = own is not None or location.bounded

    def prepare(self) -> None:
        """Make the mirror, or remove what killed processes left in it."""
        if not self._path.is_dir():
            self._make()
            return
        leftovers = list(self._leftovers())
        if leftovers:
            _end_orphans(self._path)
            for leftover in leftovers:
                leftover.unlink(missing_ok=True)

    def bound(self) -> None:
        """Begin anew when strangers have proposed too much. What is still needed of it is fetched again."""
        if self._bounded and self._size() > MOST_PROPOSED:
            self.renew()

    def fetch(self, ref: str) -> bool:
        """Bring a ref or commit of the remote, with its history; False when it has none.

        Raises GitTimeout, GitFailed when the remote is in trouble, and RevisionTooLarge when strangers
        propose too much.
        """
        try:
            self._reach(*_FETCH, "--", REMOTE, ref)
        except GitFailed as error:
            if error.trouble is not None:
                raise
            return False
        return True

    def fetch_all(self) -> None:
        """Bring all branches and tags. Raises GitFailed or GitTimeout."""
        self._reach(*_FETCH, "--prune", "--", REMOTE, *_ALL)

    def pin(self, commit: str) -> bool:
        """Keep a commit for good, and vouch for it; False when it is not here whole."""
        try:
            self._work("rev-list", "--objects", "--quiet", commit, "--not", f"--glob={PINS}*")
            self._work("update-ref", f"{PINS}{commit}", commit)
        except GitFailed:
            return False
        return True

    def healthy(self) -> bool:
        """Whether git can read all that is vouched for."""
        try:
            self._work("fsck", "--connectivity-only", "--no-dangling", "--no-progress")
        except GitFailed:
            return False
        return True

    def renew(self) -> None:
        """Throw the mirror away and begin anew."""
        doomed = Path(tempfile.mkdtemp(dir=self._path.parent, prefix="broken-"))
        self._path.rename(doomed / "mirror")
        shutil.rmtree(doomed, ignore_errors=True)
        self._make()

    def tidy(self) -> None:
        """Pack what many small fetches left, and remove what killed processes left beside the mirrors.

        A failure is of no consequence.
        """
        for left in (*self._path.parent.glob("fresh-*"), *self._path.parent.glob("broken-*")):
            with suppress(OSError):
                if left.stat().st_mtime < time.time() - _ABANDONED:
                    shutil.rmtree(left, ignore_errors=True)
        with suppress(GitFailed, GitTimeout, DiskFull):
            self._work("-c", "gc.auto=2000", "-c", "gc.autoDetach=false", "gc", "--auto", "--quiet")

    def _leftovers(self) -> Iterator[Path]:
        for folder, folders, files in os.walk(self._path):
            if Path(folder) == self._path / "objects":
                folders[:] = [name for name in folders if name in ("pack", "info")]
            for name in files:
                if name.endswith(".lock") or name.startswith("tmp_") or name == "gc.pid":
                    yield Path(folder, name)

    def _make(self) -> None:
        fresh = Path(tempfile.mkdtemp(dir=self._path.parent, prefix="fresh-"))
        try:
            options = ("--quiet", "--bare", "--template=", f"--object-format={self._hashing}")
            run_git(["init", *options, "--", str(fresh)], timeout=_QUICK)
            if self._own is not None:
                (fresh / "objects" / "info").mkdir(exist_ok=True)
                (fresh / "objects" / "info" / "alternates").write_text(
                    f"{(self._own / 'objects').absolute()}\n"
                )
            fresh.rename(self._path)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _reach(self, *arguments: str) -> None:
        command = ["-C", str(self._path), *arguments]
        if not self._bounded:
            timeout = min(self._timeout, LONGEST_UPDATE) if self._has_pins() else self._timeout
            run_git(command, timeout=timeout, location=self._location)
            return
        timeout = min(self._timeout, LONGEST_PROPOSAL)
        try:
            run_git(command, timeout=timeout, location=self._location, largest=LARGEST_PROPOSAL)
        except GitTimeout:
            raise self._too_large(f"took more than {timeout:g} s") from None
        except GitFailed:
            # Git tells it in words alone; the file at which it was stopped is there.
            if any(leftover.stat().st_size >= LARGEST_PROPOSAL for leftover in self._leftovers()):
                raise self._too_large(f"is more than {format_size(LARGEST_PROPOSAL)}") from None
            raise
        finally:
            for leftover in self._leftovers():
                leftover.unlink(missing_ok=True)

    def _has_pins(self) -> bool:
        """Whether it was fetched before, so that little is left to be brought."""
        return any((self._path / PINS).glob("*")) or (self._path / "packed-refs").exists()

    def _too_large(self, why: str) -> RevisionTooLarge:
        what = self._location.shown
        return RevisionTooLarge(
            f"the submodule {what} {why}" if self._own is None else f"what is proposed to {what} {why}",
            "have a person read it and push it to a branch of the repository",
        )

    def _size(self) -> int:
        found = (Path(folder, name) for folder, _, files in os.walk(self._path) for name in files)
        return sum(path.lstat().st_size for path in found)

    def _work(self, *arguments: str) -> None:
        run_git(["-C", str(self._path), *arguments], timeout=self._timeout)


@contextmanager
def locked(root: Path, name: str, patience: float) -> Iterator[bool]:
    """Hold the lock of the mirror of that name; False when another has it for longer than ``patience``."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(root / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    yield False
                    return
                time.sleep(_PATIENCE)
            else:
                yield True
                return
    finally:
        os.close(descriptor)


def _end_orphans(mirror: Path) -> None:
    """Kill each git that changes this mirror: the lock is ours, so whoever began it is gone.

    They are known by their arguments, as Linux shows them; each leads the process group of its helpers.
    """
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            arguments = os.fsdecode((entry / "cmdline").read_bytes()).split("\0")
            if Path(arguments[0]).name == "git" and str(mirror) in arguments and _CHANGING & set(arguments):
                os.killpg(int(entry.name), signal.SIGKILL)
        except OSError:
            continue
