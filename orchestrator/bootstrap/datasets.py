"""Watched data: from the configuration's words to what the services see, and to how their places are entered.

A run keeps what its data are, and never how one logs in where they lie: that is looked up in the
configuration as it is now, each time that it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from orchestrator.config.interpolation import Text
from orchestrator.config.models.dataset import (
    Dataset,
    DvcDataset,
    FolderDataset,
    GcsDataset,
    HttpDataset,
    HuggingFaceDataset,
    S3Dataset,
    SftpDataset,
    SqlDataset,
)
from orchestrator.domain.change import DatasetRole
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec

if TYPE_CHECKING:
    from orchestrator.adapters.datasets.access import Access
    from orchestrator.bootstrap.application import Application
    from orchestrator.ports.world import DatasetSource

Where = tuple[DatasetKind, str, tuple[tuple[str, str], ...]]


def dataset_of(name: str, dataset: Dataset) -> DatasetSpec:
    """A dataset of a pipeline's file as the services see it: without what it takes to log in."""
    kind, path, options = _where(dataset)
    files = None if isinstance(dataset, SqlDataset) else dataset
    return DatasetSpec(
        name,
        path,
        DatasetRole(dataset.role),
        dataset.poll.total_seconds(),
        dataset.settle.total_seconds(),
        ("**",) if files is None else tuple(files.include),
        () if files is None else tuple(files.exclude),
        kind,
        "" if files is None else files.marker or "",
        options,
    )


def access_to(
    datasets: Iterable[tuple[str, Dataset]], value: Callable[[Text], str]
) -> Callable[[DatasetSpec], Access | None]:
    """How to find out how a dataset's place is entered; None: the configuration says nothing of it any more.

    ``datasets`` are with their names: of several at the same place, that of the same name counts. ``value``
    resolves a text of the configuration. What is returned raises what it raises.
    """
    named = {(name, _where(dataset)): dataset for name, dataset in datasets}
    configured = {where: dataset for (_, where), dataset in named.items()}

    def access(spec: DatasetSpec) -> Access | None:
        where = (spec.kind, spec.path, spec.options)
        found = named.get((spec.name, where)) or configured.get(where)
        return None if found is None else _access(found, value)

    return access


def datasets_of(app: Application) -> DatasetSource:
    """Watched data of all kinds."""
    from orchestrator.adapters.datasets.cache import Cache
    from orchestrator.adapters.datasets.kinds import DatasetsOfAllKinds

    named = [file.datasets for file in app.config.pipelines.values()]
    named.append(app.config.orchestrator.datasets)
    configured = [dataset for datasets in named for dataset in datasets.items()]
    cache = Cache(app.state / "datasets", app.config.orchestrator.storage.data_cache)
    access = access_to(configured, app.secrets.value)
    return DatasetsOfAllKinds(app.scratch, cache, access, app.sources, app.state / "hashes")


def _where(dataset: Dataset) -> Where:
    """The kind, the address, and what else tells these data from others."""
    match dataset:
        case FolderDataset():
            return DatasetKind.FOLDER, str(dataset.path), ()
        case HttpDataset():
            return DatasetKind.HTTP, dataset.url, tuple(("file", path) for path in dataset.files)
        case S3Dataset():
            versions = "true" if dataset.versions else None
            return (
                DatasetKind.S3,
                dataset.s3,
                _options(endpoint=dataset.endpoint, region=dataset.region, versions=versions),
            )
        case GcsDataset():
            return DatasetKind.GCS, dataset.gcs, _options(endpoint=dataset.endpoint)
        case SftpDataset():
            return DatasetKind.SFTP, dataset.sftp, ()
        case HuggingFaceDataset():
            options = _options(endpoint=dataset.endpoint, revision=dataset.revision)
            return DatasetKind.HUGGING_FACE, dataset.hf, options
        case DvcDataset():
            options = _options(
                file=dataset.dvc,
                branch=dataset.branch,
                remote=dataset.remote,
                endpoint=dataset.endpoint,
                region=dataset.region,
            )
            outputs = tuple(("output", path) for path in dataset.outputs)
            return DatasetKind.DVC, dataset.repository, (*options, *outputs)
        case SqlDataset():
            options = _options(query=dataset.query, format=dataset.format)
            return DatasetKind.SQL, _database(dataset.sql), options
        case _:
            assert_never(dataset)


def _database(address: Text) -> str:
    """Which database is meant, without a password; references stand for what they give."""
    written = "".join(part if isinstance(part, str) else f"<{part.name}>" for part in address.parts)
    if "://" not in written:
        return written
    scheme, _, rest = written.partition("://")
    place, slash, database = rest.partition("?")[0].partition("/")
    login, at, host = place.rpartition("@")
    return f"{scheme}://{login.partition(':')[0]}{at}{host}{slash}{database}"


def _options(**options: str | None) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in options.items() if value is not None)


def _access(dataset: Dataset, value: Callable[[Text], str]) -> Access:
    from orchestrator.adapters.datasets.access import Access

    secrets: dict[str, str] = {}
    settings: dict[str, str] = {}
    for name in type(dataset).model_fields:
        found: object = getattr(dataset, name)
        if isinstance(found, Text):
            secrets[name] = value(found)
        elif name in _SETTINGS and isinstance(found, str | Path):
            settings[name] = str(found)
    if isinstance(dataset, SqlDataset):
        settings |= {"timeout": str(dataset.timeout.total_seconds()), "limit": str(dataset.limit)}
    return Access(
        secrets,
        settings,
        allow_private=not isinstance(dataset, FolderDataset | SftpDataset | SqlDataset)
        and dataset.allow_private,
        anonymous=isinstance(dataset, S3Dataset) and dataset.anonymous,
    )


_SETTINGS = frozenset({"ca_file", "identity_file", "host_key", "known_hosts"})
