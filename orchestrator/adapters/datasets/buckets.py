"""Names of objects in buckets as paths of files below a folder."""

from __future__ import annotations

from orchestrator.domain.pipeline import DatasetSpec


def bucket_of(dataset: DatasetSpec) -> tuple[str, str]:
    """The bucket, and what names in it begin with."""
    bucket, _, prefix = dataset.path.partition("://")[2].partition("/")
    return bucket, prefix


def below(prefix: str, key: str) -> str | None:
    """The path of an object in the dataset; None when it is none of its files."""
    if key.endswith("/"):
        # Some tools leave an empty object where a folder would be.
        return None
    if not prefix:
        return key
    if key == prefix:
        return key.rpartition("/")[2]
    return key.removeprefix(f"{prefix}/") if key.startswith(f"{prefix}/") else None


def above(prefix: str, path: str) -> tuple[str, ...]:
    """The names that a file's object may have: the reverse of :func:`below`, which has two of them."""
    if not prefix:
        return (path,)
    inside = f"{prefix}/{path}"
    return (prefix, inside) if prefix.rpartition("/")[2] == path else (inside,)
