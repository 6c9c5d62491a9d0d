"""The outside world as the services see it.

Each Protocol states its contract: who calls it in which order, from which threads, what may be repeated, what
it raises (from :mod:`orchestrator.domain.errors`). The database is in :mod:`orchestrator.ports.store`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from pathlib import Path
from typing import BinaryIO, Protocol

from orchestrator.domain.activation import Activation, Answer, Command, HttpRequest, TcpConnect
from orchestrator.domain.change import Commit, FileEntry, LoggedCommit, Refs, Revision
from orchestrator.domain.deployment import ReleaseFile
from orchestrator.domain.mailing import Refusal
from orchestrator.domain.pipeline import DatasetSpec, SourceSpec
from orchestrator.domain.report import Rendered, Report, Written
from orchestrator.domain.space import Space
from orchestrator.ports.engine import LogLine
from orchestrator.ports.progress import ProgressSink


class Clock(Protocol):
    """Time, injected so that tests own it."""

    def now(self) -> datetime:
        """The current time in UTC, aware."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class Lock(Protocol):
    """Held by one at a time, as ``threading.Lock`` is."""

    def acquire(self, *, timeout: float) -> bool:
        """Take it, waiting up to ``timeout`` seconds; whether it was got."""

    def release(self) -> None:
        """Let go of it."""


class SourceControl(Protocol):
    """Watched repositories, through a local mirror per location. Thread-safe; every call may be repeated.

    Raises SourceUnavailable when the remote does not answer or is not a repository, RevisionGone when a
    commit exists neither in the mirror nor at the remote.
    """

    def heads(self, source: SourceSpec) -> Mapping[str, str]:
        """All branches of the remote with their commits, without fetching."""

    def refs(self, source: SourceSpec) -> Refs:
        """All branches and tags, in one look; the pull requests as well where the source has a forge."""

    def default_branch(self, source: SourceSpec) -> str | None:
        """What the remote's HEAD points to, or None when it says nothing."""

    def fetch(self, source: SourceSpec, commit: str, branch: str) -> Revision:
        """Bring a commit into the mirror and describe it."""

    def resolve(self, source: SourceSpec, ref: str) -> Revision:
        """The commit that a person named: a branch, tag or (abbreviated) hash.

        Its branch is the one that was named, the full name of the tag, or a branch that has the commit; empty
        where none has it. NotFound when there is none such.
        """

    def checkout(self, source: SourceSpec, commit: str, into: Path) -> None:
        """Make ``into`` (an empty folder) the working tree at the commit, with a shallow ``.git`` without
        remotes.
        """

    def is_ancestor(self, source: SourceSpec, older: str, newer: str) -> bool:
        """Whether ``newer`` descends from ``older``.

        False also when ``older`` is unknown (history rewritten).
        """

    def logged(self, source: SourceSpec, older: str, newer: str, limit: int) -> Sequence[LoggedCommit]:
        """The commits in ``older..newer``, newest first, at most ``limit``; none of an unknown ``older``."""

    def commits(self, source: SourceSpec, older: str | None, newer: str, limit: int) -> Sequence[Commit]:
        """The commits in ``older..newer`` along first parents, newest first, at most ``limit``.

        Of ``newer`` alone when ``older`` is None or unknown. ``newer`` must have been fetched.
        """

    def changed_paths(self, source: SourceSpec, older: str, newer: str) -> Sequence[str] | None:
        """The paths that differ between two commits, both of a rename; None when ``older`` is unknown."""

    def read(self, source: SourceSpec, commit: str, path: str, limit: int) -> bytes | None:
        """A file of a commit that was fetched; None when there is none.

        InvalidInput when it is larger than ``limit`` bytes, or no plain file.
        """

    def merge_base(self, source: SourceSpec, one: str, other: str) -> str | None:
        """The best common ancestor, or None when there is none or one of them is unknown."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A cheap look at a dataset.

    ``signature`` changes when any name, size, time or inode does. ``size`` in bytes. ``whole`` is False while
    the dataset's marker says that it is being written: it has no version then.
    """

    signature: str
    files: int
    size: int
    newest: datetime | None
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A dataset's content.

    ``fingerprint`` (SHA-256 over the sorted manifest, hexadecimal) and the manifest.
    """

    fingerprint: str
    entries: Sequence[FileEntry]
    listing: Listing


class DatasetSource(Protocol):
    """One kind of watched data. Thread-safe; reading changes nothing.

    Raises DatasetUnavailable when it cannot be read, DatasetMoved when it changes while it is read.
    """

    def look(self, dataset: DatasetSpec) -> Listing:
        """List without reading contents."""

    def snapshot(self, dataset: DatasetSpec, known: Sequence[FileEntry], progress: ProgressSink) -> Snapshot:
        """Hash the contents.

        ``known`` is the last manifest, for size comparisons only; contents are always trusted.
        """

    def materialise(
        self, dataset: DatasetSpec, entries: Sequence[FileEntry], progress: ProgressSink
    ) -> Sequence[FileEntry]:
        """The same files, each with its ``sha256``, ready to be read by the methods below.

        Data that lie elsewhere are fetched into a cache of the orchestrator, each file resumed and compared
        with its identity; what is there already is not fetched again. Of a local folder the entries come back
        as they are. DatasetMoved when a file is no longer what its entry says.
        """

    def archive(self, dataset: DatasetSpec, entries: Sequence[FileEntry], progress: ProgressSink) -> BinaryIO:
        """A plain tar of exactly these files (mode 0444, root-owned, time 0), as a file that deletes itself
        on close.

        Each file's hash is compared with its entry while it is read: DatasetMoved when one differs or is
        gone, so that a mixture of versions never reaches a container.
        """

    def part(self, dataset: DatasetSpec, entry: FileEntry, offset: int, size: int) -> BinaryIO:
        """Exactly ``size`` bytes of a file from ``offset`` on, for the caller to close.

        DatasetMoved when the file is gone or its size differs; of its content only the whole tells.
        """

    def verify(self, dataset: DatasetSpec, entries: Sequence[FileEntry]) -> None:
        """DatasetMoved when one of these files is not what its entry says."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Stored content: its SHA-256 (hexadecimal) and size in bytes."""

    sha256: str
    size: int


class TooLarge(Exception):
    """A stream had more bytes than it may; nothing was stored."""


class BlobStore(Protocol):
    """Contents by their hash. Thread-safe; storing the same content twice keeps one copy, and counts anew."""

    def put(self, stream: BinaryIO, limit: int) -> Blob:
        """Store a stream of at most ``limit`` bytes, durably, whole or not at all. Raises TooLarge."""

    def open(self, sha256: str) -> BinaryIO:
        """Read stored content. NotFound when there is none."""


class Disk(Protocol):
    """The file systems of this machine. Thread-safe. Asks anew each time, which takes microseconds."""

    def space(self, path: Path) -> Space | None:
        """The room where ``path`` lies; None when that cannot be found out, as when it is not there."""


class LogMask(Protocol):
    """Blanks the secrets in a program's output while it comes. For one thread."""

    @property
    def context(self) -> int:
        """How many bytes before a line decide on how it is masked."""

    @property
    def requests(self) -> int:
        """Lines so far by which the program asked to mask a value; ``MASK_ADDED`` stands in their place."""

    def begin(self) -> None:
        """What follows does not follow on what came before. Values that were asked for stay masked."""

    def line(self, text: bytes, stream: int = 0, *, cut: bool = False) -> bytes:
        """A line as it may be kept; ``stream`` and ``cut`` are as in LogLine."""


class LogWriter(Protocol):
    """Appends one attempt's log from one stream; owned by one thread.

    A resumed stream needs a writer of its own.
    """

    @property
    def last_timestamp(self) -> str | None:
        """From which timestamp on to read again, for all that is not on file; None when the file is empty.

        It is earlier than that of the last line on file: lines may come late, and the mask has to know what
        came before.
        """

    def write(self, line: LogLine) -> None:
        """Append a line, unless it is one of those already on file.

        Readers see it at once.
        """

    @property
    def size(self) -> int:
        """Bytes on file, timestamps included, over all resumptions."""

    def close(self) -> None:
        """Close; may be repeated."""


class LogFiles(Protocol):
    """The logs of attempts, masked before they reach the disk."""

    def writer(self, attempt_id: int, mask: LogMask) -> LogWriter:
        """Open an attempt's log to append; a torn last line of a killed writer is cut off."""

    def lines(self, attempt_id: int, offset: int = 0) -> Iterator[tuple[int, LogLine]]:
        """Whole lines from a byte offset on, each with the offset after it. Nothing when there is no log."""

    def tail(self, attempt_id: int, count: int) -> Sequence[str]:
        """The last lines as text, control codes stripped, ``\\r`` progress collapsed to its last state."""


class ReleaseTarget(Protocol):
    """One server's folder of releases. One thread at a time; a context manager that holds a connection.

    Layout: ``<path>/releases/<name>/``, ``<path>/current`` a symbolic link to one of them.
    Raises ServerUnavailable when it cannot be reached, ServerRejected when it refuses (host key, login,
    permission, space, something unexpected in our place), TransferCorrupted.
    """

    def __enter__(self) -> ReleaseTarget: ...

    def __exit__(self, *exc: object) -> None: ...

    def current(self) -> str | None:
        """The name of the release that ``current`` points to, or None."""

    def upload(
        self,
        release: str,
        files: Sequence[ReleaseFile],
        read: Callable[[ReleaseFile], BinaryIO],
        progress: ProgressSink,
    ) -> None:
        """Put the files into a fresh folder. An unfinished one of the same name is completed: what is whole
        there is not sent again. ``current`` is never touched.
        """

    def verify(self, release: str, files: Sequence[ReleaseFile]) -> None:
        """Compare the hashes on the far side;

        TransferCorrupted names the files that differ, lack or are too many.
        """

    def activate(self, release: str) -> str | None:
        """Point ``current`` at the release in one atomic step; the name it pointed to before.

        Repeating is fine.
        """

    def discard(self, release: str) -> None:
        """Remove a release that is not current."""

    def verified(self) -> Sequence[str]:
        """The names of all verified releases, the oldest first."""

    def prune(self, keep: int, spare: Collection[str] = ()) -> Sequence[str]:
        """Remove all but the newest ``keep`` releases, never the current one or ``spare``; their names."""

    def withdraw(self, release: str) -> None:
        """Remove ``current`` if it points to the release: what was there before the first one."""

    @property
    def shell(self) -> bool:
        """Whether commands can be run; some accounts may only move files."""

    def run(self, command: Command, release: str, variables: Mapping[str, str]) -> Answer:
        """Run a command in a release's folder with more variables in its environment.

        ``MLCI_RELEASE_PATH`` and ``MLCI_PATH`` (the folder above ``current``) are added. A command that does
        not end in time is killed where the server can do that; the answer tells of it as its problem.
        """

    def ask(self, probe: HttpRequest | TcpConnect, timeout: float) -> Answer:
        """Ask a service by a connection that the server opens, so that ``localhost`` is the server itself."""


class Servers(Protocol):
    """The deployment servers of the configuration."""

    def target(self, server: str) -> ReleaseTarget:
        """A target to be entered. NotFound when the configuration has no such server."""

    def keep(self, server: str) -> int:
        """How many releases stay on it."""

    def activation(self, server: str) -> Activation:
        """What is done on it around a switch, and what proves that a release serves."""


class Mailer(Protocol):
    """Hands messages to a mail server. Thread-safe."""

    def send(self, message: EmailMessage, to: Sequence[str] = ()) -> Sequence[Refusal]:
        """Send to those addresses, else to all of the message's; who of them was refused, while others have
        it. Raises MailUnavailable (try later) or MailRejected (give up) when nobody has it.
        """

    @property
    def sender(self) -> str:
        """The From address."""


class Renderer(Protocol):
    """Turns a Report into what people read."""

    def render(self, report: Report) -> Rendered:
        """Subject, text and HTML. Repository text is data there, never markup."""

    def comment(self, report: Report) -> Written:
        """Markdown for a forge, without a title and without the log."""

    def markdown(self, report: Report) -> str:
        """All of it in Markdown."""

    def page(self, report: Report, links: Mapping[str, str]) -> str:
        """The HTML as a page among others: with ``links``, addresses by text, and none to itself."""


class Secrets(Protocol):
    """Secret values by name, resolved when they are needed and never stored."""

    def resolve(self, names: Iterable[str]) -> Mapping[str, str]:
        """The values. Raises SecretMissing naming every name without one."""


class Processes(Protocol):
    """Which process is which: the names that leases are held under."""

    def this(self) -> str:
        """This process's name, unique over machines, reboots and reused process ids."""

    def is_dead(self, owner: str) -> bool:
        """Whether that process is known to have ended. False for one on another machine: nobody can tell."""
