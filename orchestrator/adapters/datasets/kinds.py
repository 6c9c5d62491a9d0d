"""All kinds of watched data behind one port: each dataset goes to the adapter of its kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, assert_never

from orchestrator.adapters.datasets.access import Accesses
from orchestrator.adapters.datasets.cache import Cache
from orchestrator.adapters.datasets.folder import FolderDataset
from orchestrator.adapters.datasets.hashing import Algorithm
from orchestrator.adapters.datasets.place import Place
from orchestrator.adapters.datasets.remote import RemoteDataset
from orchestrator.domain.change import FileEntry
from orchestrator.domain.errors import DatasetRefused
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec
from orchestrator.ports.progress import ProgressSink
from orchestrator.ports.world import DatasetSource, Listing, Snapshot, SourceControl

if TYPE_CHECKING:
    from orchestrator.adapters.datasets.s3 import S3Place


class DatasetsOfAllKinds:
    """Watched data of any kind. An adapter, and the library that it needs, is loaded by its first dataset.

    ``spool`` is where archives lie while they are sent, ``cache`` where fetched files are kept, ``accesses``
    tells how a place is entered. ``index`` is where it is remembered what was hashed of folders (None:
    nowhere), ``sources`` reads repositories in which DVC keeps track of data.
    """

    def __init__(
        self,
        spool: Path | None,
        cache: Cache,
        accesses: Accesses,
        sources: SourceControl,
        index: Path | None = None,
    ) -> None:
        self._spool = spool
        self._cache = cache
        self._accesses = accesses
        self._sources = sources
        self._index = index

    def look(self, dataset: DatasetSpec) -> Listing:
        """List without reading contents, where that tells enough."""
        return self._of(dataset).look(dataset)

    def snapshot(self, dataset: DatasetSpec, known: Sequence[FileEntry], progress: ProgressSink) -> Snapshot:
        """The manifest of what is there now."""
        return self._of(dataset).snapshot(dataset, known, progress)

    def materialise(
        self, dataset: DatasetSpec, entries: Sequence[FileEntry], progress: ProgressSink
    ) -> Sequence[FileEntry]:
        """Have these files here."""
        return self._of(dataset).materialise(dataset, entries, progress)

    def archive(self, dataset: DatasetSpec, entries: Sequence[FileEntry], progress: ProgressSink) -> BinaryIO:
        """A tar of exactly these files."""
        return self._of(dataset).archive(dataset, entries, progress)

    def part(self, dataset: DatasetSpec, entry: FileEntry, offset: int, size: int) -> BinaryIO:
        """Bytes of a file."""
        return self._of(dataset).part(dataset, entry, offset, size)

    def verify(self, dataset: DatasetSpec, entries: Sequence[FileEntry]) -> None:
        """DatasetMoved when one of these files is not what its entry says."""
        self._of(dataset).verify(dataset, entries)

    def _of(self, dataset: DatasetSpec) -> DatasetSource:
        match dataset.kind:
            case DatasetKind.FOLDER:
                return self._folder
            case DatasetKind.HTTP:
                return self._http
            case DatasetKind.S3:
                return self._s3
            case DatasetKind.GCS:
                return self._gcs
            case DatasetKind.SFTP:
                return self._sftp
            case DatasetKind.HUGGING_FACE:
                return self._hugging_face
            case DatasetKind.DVC:
                return self._dvc
            case DatasetKind.SQL:
                return self._sql
            case _:
                assert_never(dataset.kind)

    @cached_property
    def _folder(self) -> DatasetSource:
        return FolderDataset(self._spool, self._index, Algorithm.BLAKE3)

    @cached_property
    def _http(self) -> DatasetSource:
        from orchestrator.adapters.datasets.http import HttpPlace

        return self._remote(HttpPlace(self._accesses))

    @cached_property
    def _s3(self) -> DatasetSource:
        return self._remote(self._buckets)

    @cached_property
    def _gcs(self) -> DatasetSource:
        with _needing("gcs"):
            from orchestrator.adapters.datasets.gcs import GcsPlace
        return self._remote(GcsPlace(self._accesses))

    @cached_property
    def _sftp(self) -> DatasetSource:
        from orchestrator.adapters.datasets.sftp import SftpPlace

        return self._remote(SftpPlace(self._accesses))

    @cached_property
    def _hugging_face(self) -> DatasetSource:
        from orchestrator.adapters.datasets.huggingface import HuggingFacePlace

        return self._remote(HuggingFacePlace(self._accesses))

    @cached_property
    def _dvc(self) -> DatasetSource:
        from orchestrator.adapters.datasets.dvc import DvcPlace

        return self._remote(DvcPlace(self._sources, lambda: self._buckets))

    @cached_property
    def _buckets(self) -> S3Place:
        with _needing("s3"):
            from orchestrator.adapters.datasets.s3 import S3Place
        return S3Place(self._accesses)

    @cached_property
    def _sql(self) -> DatasetSource:
        from orchestrator.adapters.datasets.sql import SqlPlace

        return self._remote(SqlPlace(self._accesses, self._spool))

    def _remote(self, place: Place) -> DatasetSource:
        return RemoteDataset(place, self._cache, self._spool)


@contextmanager
def _needing(extra: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise DatasetRefused(
            f"data of this kind need the package {error.name}",
            f"pip install 'ml-ci-orchestrator[{extra}]'",
        ) from error
