"""The files of a commit as a working tree, with what else was asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

from orchestrator.adapters.git import lfs, submodules
from orchestrator.adapters.git.location import Location
from orchestrator.adapters.git.mirror import Mirror, hashing
from orchestrator.adapters.git.process import reaching, run_git
from orchestrator.domain.errors import RevisionGone, SourceRefused
from orchestrator.domain.pipeline import SourceSpec

T = TypeVar("T")

_DEEPEST: Final = 5
_MOST: Final = 100
_CONFIG: Final = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n"
_LATER_CONFIG: Final = _CONFIG.replace("version = 0", "version = 1")


class With(Protocol):
    """Does something with a commit that is brought into a location's mirror."""

    def __call__(self, location: Location, commit: str, branch: str, work: Callable[[Mirror], T]) -> T:
        """Raises SourceUnavailable and RevisionGone."""


class Checkout:
    """Fills folders with commits. ``timeout`` in seconds for each command."""

    def __init__(self, mirrors: Path, timeout: float, source: SourceSpec, within: With) -> None:
        self._mirrors = mirrors
        self._timeout = timeout
        self._source = source
        self._with = within
        self._count = 0

    def fill(self, location: Location, commit: str, into: Path) -> None:
        """Make ``into`` the working tree at the commit; a failure leaves it empty."""
        try:
            self._fill(location, commit, into, 0)
        except BaseException:
            _empty(into)
            raise

    def _fill(self, location: Location, commit: str, into: Path, depth: int) -> None:
        def work(mirror: Mirror) -> list[submodules.Submodule]:
            _empty(into)
            _begin_repository(into, commit)
            mirror.send(commit, into)
            options = ("--quiet", "--detach", "--no-recurse-submodules")
            run_git(["-C", str(into), "checkout", *options, commit, "--"], timeout=self._timeout)
            return submodules.of(mirror, commit) if self._source.submodules else []

        found = self._with(location, commit, "", work)
        if self._source.lfs:
            storage = Mirror(self._mirrors, location, self._timeout).large_files
            with reaching(location):
                lfs.fill(location, into, storage, self._timeout)
            (into / ".git" / "config").write_text(_config(commit))
        for submodule in found:
            self._fill_submodule(location, submodule, into, depth + 1)

    def _fill_submodule(
        self, parent: Location, submodule: submodules.Submodule, into: Path, depth: int
    ) -> None:
        self._count += 1
        if depth > _DEEPEST or self._count > _MOST:
            raise SourceRefused(
                f"{parent.shown} has submodules {_DEEPEST} deep or more than {_MOST}",
                "submodules: false, or fewer of them",
            )
        # Pages and mails tell commits: that another login has fetched one does not let this one have it.
        location = parent.submodule(submodules.locate(parent, submodule, strangers=self._source.strangers))
        try:
            self._fill(location, submodule.commit, submodules.folder(into, submodule), depth)
        except RevisionGone as error:
            raise RevisionGone(f"submodule {submodule.path}: {error.message}", error.remedy) from None


def _config(commit: str) -> str:
    kind = hashing(commit)
    return _CONFIG if kind == "sha1" else f"{_LATER_CONFIG}[extensions]\n\tobjectFormat = {kind}\n"


def _begin_repository(folder: Path, commit: str) -> None:
    """What ``git init`` makes of an empty folder, without a process."""
    git = folder / ".git"
    for name in ("objects/info", "objects/pack", "refs/heads", "refs/tags"):
        (git / name).mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "config").write_text(_config(commit))


def _empty(folder: Path) -> None:
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
