"""What was watched and what became new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Cause(StrEnum):
    """Why a Change exists."""

    FIRST_SIGHT = "first_sight"
    PUSH = "push"
    DATA = "data"
    MANUAL = "manual"
    RERUN = "rerun"
    BASELINE = "baseline"
    TAG = "tag"
    PULL_REQUEST = "pull_request"
    SCHEDULE = "schedule"
    UPSTREAM = "upstream"
    """Another pipeline has passed."""
    TRIGGER = "trigger"
    """A program asked for it by the API."""


class DatasetRole(StrEnum):
    """What a Dataset is for.

    A change of evaluation data makes metrics incomparable, one of training data does not.
    """

    TRAIN = "train"
    EVALUATION = "evaluation"


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A pull request as the forge tells it.

    ``base`` is the branch that it is to be merged into; ``repository`` and ``branch`` are where its commits
    lie, and ``owner_id`` says whose that is. Ids never change, unlike ``author``, the login: who is trusted
    goes by them.
    """

    number: int
    base: str
    commit: str
    branch: str = ""
    repository: str = ""
    fork: bool = True
    author: str = ""
    author_id: int = 0
    title: str = ""
    draft: bool = False
    owner_id: int = 0

    @property
    def ref(self) -> str:
        """What stands for it where branches stand: ``refs/pull/7/head``."""
        return f"{PULLS}{self.number}/head"


TAGS = "refs/tags/"
PULLS = "refs/pull/"


@dataclass(frozen=True, slots=True)
class Refs:
    """What a look at a Source shows: commits by branch and by tag, and the open pull requests."""

    branches: Mapping[str, str]
    tags: Mapping[str, str] = field(default_factory=dict)
    pulls: tuple[PullRequest, ...] = ()
    default: str | None = None
    """The branch that the remote's HEAD names, where it is known."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit with its whole message, as rules about messages need it."""

    commit: str
    message: str


@dataclass(frozen=True, slots=True)
class LoggedCommit:
    """A commit as a history lists it, by its full hash."""

    commit: str
    subject: str
    author: str = ""


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit of a Source, as seen on a branch.

    ``branch`` is the plain name of a branch, or the full name of a tag or a pull request (``refs/tags/v1``,
    ``refs/pull/7/head``), so that none of these is ever taken for a branch.
    """

    source: str
    branch: str
    commit: str
    subject: str = ""
    author: str = ""
    author_email: str = ""
    committed_at: datetime | None = None
    pull: PullRequest | None = None

    @property
    def short(self) -> str:
        """The first 8 characters of the commit's hash."""
        return self.commit[:8]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a DatasetVersion.

    ``path`` is relative with ``/``; ``sha256`` is hexadecimal; ``size`` in bytes. Of data that lie elsewhere
    the content is not known before they are fetched: ``sha256`` is empty then, and ``identity`` is what the
    store says of it, such as ``etag:"5d41"`` or ``md5:5d41``.
    """

    path: str
    size: int
    sha256: str
    identity: str = ""

    @property
    def content(self) -> str:
        """What differs when the content does."""
        return self.identity or self.sha256


@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """One state of a Dataset.

    ``number`` counts the versions of this dataset from 1; 0 while it is not stored.
    """

    dataset: str
    fingerprint: str
    files: int
    size: int
    role: DatasetRole = DatasetRole.TRAIN
    number: int = 0

    @property
    def label(self) -> str:
        """How people see it: ``data v7``."""
        return f"{self.dataset} v{self.number}" if self.number else f"{self.dataset} {self.fingerprint[:8]}"


@dataclass(frozen=True, slots=True)
class ManifestDiff:
    """What differs between two manifests; paths sorted, sizes in bytes."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    size_delta: int

    @property
    def summary(self) -> str:
        """One short phrase, such as ``+2 files, 1 changed``."""
        parts = []
        if self.added:
            parts.append(f"+{_files(len(self.added))}")
        if self.removed:
            parts.append(f"-{_files(len(self.removed))}")
        if self.changed:
            parts.append(f"{len(self.changed)} changed")
        return ", ".join(parts) or "no file differs"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def diff_manifests(old: Sequence[FileEntry], new: Sequence[FileEntry]) -> ManifestDiff:
    """Compare two manifests by path and content. Both are in the order of their paths, or are put in it."""
    added: list[str] = []
    removed: list[str] = []
    changed: list[str] = []
    delta = 0
    after = iter(_in_order(new))
    now = next(after, None)
    for was in _in_order(old):
        while now is not None and now.path < was.path:
            added.append(now.path)
            delta += now.size
            now = next(after, None)
        if now is None or now.path != was.path:
            removed.append(was.path)
            delta -= was.size
            continue
        if was.content != now.content:
            changed.append(now.path)
        delta += now.size - was.size
        now = next(after, None)
    while now is not None:
        added.append(now.path)
        delta += now.size
        now = next(after, None)
    return ManifestDiff(tuple(added), tuple(removed), tuple(changed), delta)


def _in_order(entries: Sequence[FileEntry]) -> Sequence[FileEntry]:
    if isinstance(entries, tuple | list):
        return sorted(entries, key=lambda entry: entry.path)
    return entries


@dataclass(frozen=True, slots=True)
class Change:
    """A Revision plus the DatasetVersions that go with it, and the cause that made it new.

    ``key`` is unique within its pipeline, so that one observation is enqueued once, whoever saw it. ``rank``
    grows with the order in which changes were seen; a re-run has its original's, because running something
    old again does not make it newer.
    """

    id: int
    pipeline: str
    key: str
    cause: Cause
    revision: Revision
    datasets: tuple[DatasetVersion, ...]
    note: str = ""
    requested_by: str = ""
    rank: int = 0

    def version_of(self, dataset: str) -> DatasetVersion | None:
        """The pinned version of that dataset, or None when the change has none."""
        return next((v for v in self.datasets if v.dataset == dataset), None)


def same_evaluation_data(one: Change, other: Change) -> bool:
    """Whether metrics of both changes were, or will be, measured on the same evaluation data."""

    def digest(change: Change) -> list[tuple[str, str]]:
        return sorted((v.dataset, v.fingerprint) for v in change.datasets if v.role is DatasetRole.EVALUATION)

    return digest(one) == digest(other)


def what_changed(current: Change, reference: Change) -> str:
    """Say in a few words what differs from the reference: code, data, both or nothing."""
    code = current.revision.commit != reference.revision.commit
    now = {v.dataset: v.fingerprint for v in current.datasets}
    then = {v.dataset: v.fingerprint for v in reference.datasets}
    moved = [name for name in {**now, **then} if now.get(name) != then.get(name)]
    if code and moved:
        return f"code and data ({', '.join(moved)}) changed"
    if code:
        return "code changed"
    if moved:
        return f"data ({', '.join(moved)}), not code, changed"
    return "neither code nor data changed"
