"""Where results go beside servers: buckets and repositories.

Everything raises ActionUnavailable when another try may help and ActionRejected when none would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from orchestrator.domain.deployment import ReleaseFile
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.ports.progress import ProgressSink


class ObjectStores(Protocol):
    """The buckets of the configuration. Thread-safe; every call may be repeated."""

    def put(
        self,
        store: str,
        name: str,
        file: ReleaseFile,
        read: Callable[[], BinaryIO],
        progress: ProgressSink,
    ) -> bool:
        """Have a file's content as the object ``name`` below the store's own prefix; whether it was sent.

        An object that already has this content, as its hash tells, is left alone. One that a try was cut off
        from is continued. It is there whole or not at all. NotFound when there is no such store.
        """

    def shown(self, store: str, name: str) -> str:
        """The address of an object for people. NotFound when there is no such store."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """The commit that a repository has now; ``made`` is False when it had what was to be pushed."""

    commit: str
    made: bool


class Repositories(Protocol):
    """Watched repositories as places for results. Thread-safe; every call may be repeated.

    Nothing is ever forced: what others push meanwhile stays, and our commit goes on top of it. Logs in as the
    source does when it is read, with what the configuration says now. DiskFull where our own disk is.
    """

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
        """Have a commit on a branch, made when missing, in which the folder holds just these files.

        ``key`` goes into the commit's message; a commit with it that is on the branch already is the one.
        """

    def tag(self, source: SourceSpec, name: str, commit: str, message: str) -> Pushed:
        """Have a tag of a commit of the repository. ActionRejected when another commit has that tag."""
