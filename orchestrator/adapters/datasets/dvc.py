"""Data that DVC keeps track of, told apart by the hashes in ``.dvc`` files and ``dvc.lock``.

Nothing is fetched to see that they changed. Contents lie by their MD5: in the cache of a repository that is a
folder here, in a remote that is a folder or in S3, and where nothing was moved, in the working tree. Folders
outside of a repository are read when the administrator names them, not when the repository does. Of a
folder DVC keeps a list of its files the same way; where that is within reach its files are told one by one,
and else the folder as a whole.
"""

from __future__ import annotations

import configparser
import errno
import hashlib
import json
import os
import posixpath
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import yaml

from orchestrator.adapters.datasets.access import option
from orchestrator.adapters.datasets.packing import moved
from orchestrator.adapters.datasets.place import Keep, RemoteFile
from orchestrator.adapters.datasets.shelf import Shelf, inside, named, open_below
from orchestrator.domain.change import FileEntry
from orchestrator.domain.errors import (
    DatasetRefused,
    DatasetUnavailable,
    InvalidInput,
    NotFound,
    RevisionGone,
    SourceRefused,
    SourceUnavailable,
)
from orchestrator.domain.pipeline import DatasetSpec, SourceSpec
from orchestrator.domain.text import escaped
from orchestrator.ports.world import SourceControl

_FILE: Final = 16 << 20
"""Bytes that a ``.dvc`` file or ``dvc.lock`` may have."""
_CONFIG: Final = 1 << 20
"""Bytes of DVC's configuration that are read."""
_LIST: Final = 1 << 30
"""Bytes that the list of a folder may have."""
_CHUNK: Final = 1 << 20
_MD5: Final = re.compile(r"[0-9a-f]{32}(\.dir)?")
_SIZE: Final = re.compile(r"[0-9]{1,18}")
_WHOLE: Final = "dir:"
"""What the identity of a folder begins with whose list is out of reach."""
_REMEMBERED: Final = 64


@dataclass(frozen=True, slots=True)
class _Output:
    """An output of DVC: its path, its MD5 (with ``.dir`` behind for a folder), and its bytes where known.

    ``old`` is how DVC 2 kept it: text with its ends of lines as on Unix, in another layout.
    """

    path: str
    md5: str
    size: int | None
    old: bool
    files: tuple[tuple[str, str, int], ...] = ()

    @property
    def folder(self) -> bool:
        """Whether it is a folder."""
        return self.md5.endswith(".dir")


class Bucket(Protocol):
    """Reads objects of a dataset's bucket."""

    def size(self, dataset: DatasetSpec, bucket: str, key: str) -> int | None:
        """How many bytes an object has; None when there is none."""

    def contents(
        self, dataset: DatasetSpec, bucket: str, key: str, offset: int
    ) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes of an object from an offset on."""


@dataclass(frozen=True, slots=True)
class _Remote:
    """A remote in a bucket, where contents lie by hash as they do in a folder."""

    dataset: DatasetSpec
    reader: Bucket
    bucket: str
    prefix: str

    def size(self, md5: str, old: bool) -> int | None:
        """Bytes of a content; None when it is not there."""
        return self.reader.size(self.dataset, self.bucket, self._key(md5, old))

    def contents(self, md5: str, old: bool, offset: int) -> AbstractContextManager[Iterator[bytes]]:
        """A content from an offset on."""
        return self.reader.contents(self.dataset, self.bucket, self._key(md5, old), offset)

    def _key(self, md5: str, old: bool) -> str:
        return "/".join(filter(None, (self.prefix, named(md5, old))))


@dataclass(frozen=True, slots=True)
class _Shelves:
    """All places where contents may lie: folders, the first that has it counts, and then the bucket.

    ``elsewhere`` are folders that the repository names and that are not in it: these are for the
    administrator to name.
    """

    folders: Sequence[Shelf] = ()
    remote: _Remote | None = None
    elsewhere: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.folders) or self.remote is not None


class DvcPlace:
    """The Place of data that DVC keeps track of. ``sources`` reads repositories that are not folders here,
    ``bucket`` gives a reader of remotes in S3.
    """

    def __init__(self, sources: SourceControl, bucket: Callable[[], Bucket]) -> None:
        self._sources = sources
        self._bucket = bucket
        self._lock = threading.Lock()
        self._texts: dict[tuple[str, str, str], bytes] = {}

    def files(self, dataset: DatasetSpec, keep: Keep) -> Iterable[RemoteFile]:
        """The files of all outputs that count, by the hashes that DVC wrote down."""
        outputs = _outputs(dataset, self._text(dataset))
        shelves = self._shelves(dataset)
        tree = _tree(dataset)
        for output in _chosen(dataset, outputs):
            yield from _files_of(dataset, output, shelves, tree)

    @contextmanager
    def open(self, dataset: DatasetSpec, entry: FileEntry, offset: int) -> Iterator[Iterator[bytes]]:
        """The content of that hash, from wherever it lies."""
        kind, _, md5 = entry.identity.partition(":")
        if kind == "dir":
            raise DatasetRefused(
                f"dataset {dataset.name}: where the contents of {escaped(entry.path)} lie is not said",
                "remote: with the folder of the DVC remote",
            )
        shelves = self._shelves(dataset)
        with _reading(dataset, entry.path):
            found = _content(entry.path, md5, kind == "old", shelves, _tree(dataset))
        if found is None and shelves.remote is not None:
            with shelves.remote.contents(md5, kind == "old", offset) as chunks:
                yield chunks
            return
        if found is None:
            raise _missing(dataset, entry.path, shelves)
        with _reading(dataset, entry.path), found as file:
            if os.fstat(file.fileno()).st_size != entry.size:
                raise moved(dataset, entry.path, "its size differs")
            file.seek(offset)
            yield iter(lambda: file.read(_CHUNK), b"")

    def _text(self, dataset: DatasetSpec) -> bytes:
        """The ``.dvc`` file or ``dvc.lock`` as it is now."""
        path = option(dataset, "file") or "dvc.lock"
        tree = _tree(dataset)
        if tree is not None:
            with _reading(dataset, path):
                file = open_below(tree, path)
                if file is None:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
                with file:
                    text = file.read(_FILE + 1)
            return _bounded(dataset, path, text)
        with _asking(dataset):
            source = SourceSpec(f"data-{dataset.name}", dataset.path)
            heads = self._sources.heads(source)
            branch = option(dataset, "branch") or self._sources.default_branch(source) or "main"
            if branch not in heads:
                raise DatasetRefused(
                    f"dataset {dataset.name}: {dataset.path} has no branch {branch}",
                    f"its branches are {', '.join(sorted(heads)[:10]) or 'none'}",
                )
            key = (dataset.path, heads[branch], path)
            with self._lock:
                known = self._texts.get(key)
            if known is not None:
                return known
            self._sources.fetch(source, heads[branch], branch)
            text_there = self._sources.read(source, heads[branch], path, _FILE)
        if text_there is None:
            raise DatasetRefused(
                f"dataset {dataset.name}: {dataset.path} has no file {path} on {branch}",
                "dvc: with the path of a .dvc file, or of dvc.lock",
            )
        with self._lock:
            while len(self._texts) >= _REMEMBERED:
                self._texts.pop(next(iter(self._texts)))
            self._texts[key] = text_there
        return text_there

    def _shelves(self, dataset: DatasetSpec) -> _Shelves:
        shelves: list[Shelf] = []
        elsewhere: list[str] = []
        tree = _tree(dataset)
        remote = option(dataset, "remote")
        if tree is not None:
            config = _config(tree)
            named_there = [config.get("cache", "dir", fallback="cache")]
            name = config.get("core", "remote", fallback="")
            default = config.get(f"'remote \"{name}\"'", "url", fallback="") if name else ""
            if not remote and default and "://" not in default:
                named_there.append(default)
            for path in named_there:
                inner = inside(tree, path)
                if inner is None:
                    elsewhere.append(path)
                else:
                    shelves.append(Shelf(tree, inner))
        if remote and remote.startswith("s3://"):
            bucket, _, prefix = remote.removeprefix("s3://").partition("/")
            store = _Remote(dataset, self._bucket(), bucket, prefix.strip("/"))
            return _Shelves(shelves, store, elsewhere)
        if remote and "://" in remote:
            raise DatasetRefused(
                f"dataset {dataset.name}: contents are read from DVC remotes that are folders or in S3,"
                f" and {remote} is neither",
                "one of these, or `dvc pull` into a repository that is a folder here",
            )
        if remote:
            shelves.append(Shelf(Path(remote)))
        return _Shelves(shelves, None, elsewhere)


def _tree(dataset: DatasetSpec) -> Path | None:
    """The working tree, where a repository is a folder that is looked at as it is."""
    if option(dataset, "branch") is not None or not dataset.path.startswith("/"):
        return None
    path = Path(dataset.path)
    return path if (path / ".dvc").is_dir() else None


def _config(tree: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    for name in ("config", "config.local"):
        try:
            file = open_below(tree, f".dvc/{name}")
            if file is not None:
                with file:
                    parser.read_string(file.read(_CONFIG).decode())
        except (OSError, UnicodeDecodeError, configparser.Error):
            continue
    return parser


def _bounded(dataset: DatasetSpec, path: str, text: bytes) -> bytes:
    if len(text) > _FILE:
        raise DatasetRefused(f"dataset {dataset.name}: {path} has more than {_FILE} bytes", "a file of DVC")
    return text


def _outputs(dataset: DatasetSpec, text: bytes) -> list[_Output]:
    """What a ``.dvc`` file or ``dvc.lock`` says, with one folder as the root of all paths."""
    name = option(dataset, "file") or "dvc.lock"
    try:
        if any(isinstance(found, yaml.AliasEvent) for found in yaml.parse(text, yaml.CBaseLoader)):
            raise _unreadable(dataset, name, "it has aliases")
        # All texts: a hash of nothing but digits is no number.
        told = yaml.load(text, yaml.CBaseLoader)  # noqa: S506 - it makes texts, lists and mappings alone
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(dataset, name, "it is no YAML") from error
    if not isinstance(told, dict):
        raise _unreadable(dataset, name, "it is no mapping")
    holders: list[object] = [told]
    if isinstance(stages := told.get("stages"), dict):
        holders = list(stages.values())
    elif "outs" not in told:
        holders = list(told.values())
    outputs: list[_Output] = []
    for holder in holders:
        outs = holder.get("outs") if isinstance(holder, dict) else None
        outputs += [_output(dataset, name, out) for out in outs or () if isinstance(outs, list)]
    if not outputs:
        raise DatasetUnavailable(
            f"dataset {dataset.name}: {name} names no output", "let DVC add or reproduce something"
        )
    return outputs


def _output(dataset: DatasetSpec, name: str, told: object) -> _Output:
    if not isinstance(told, dict) or not isinstance(told.get("path"), str):
        raise _unreadable(dataset, name, "an output has no path")
    path = posixpath.normpath(told["path"])
    md5, size = told.get("md5"), str(told.get("size"))
    if path.startswith(("/", "..")) or path == ".":
        raise _unreadable(dataset, name, f"its output {escaped(told['path'])} lies elsewhere")
    files = tuple(_listed(dataset, name, each) for each in told.get("files") or ())
    if not files and (not isinstance(md5, str) or not _MD5.fullmatch(md5)):
        raise _unreadable(dataset, name, f"its output {escaped(path)} has no MD5")
    return _Output(
        path,
        md5 if isinstance(md5, str) else "",
        int(size) if _SIZE.fullmatch(size) else None,
        told.get("hash") != "md5",
        files,
    )


def _listed(dataset: DatasetSpec, name: str, told: object) -> tuple[str, str, int]:
    """A file of a folder whose files are told in the file itself."""
    match told:
        case {"relpath": str(path), "md5": str(md5), "size": str(size)} if _MD5.fullmatch(
            md5
        ) and _SIZE.fullmatch(size):
            return path, md5, int(size)
        case _:
            raise _unreadable(dataset, name, "a file of an output has no path, MD5 and size")


def _chosen(dataset: DatasetSpec, outputs: Sequence[_Output]) -> list[_Output]:
    wanted = [value for key, value in dataset.options if key == "output"]
    known = {output.path: output for output in outputs}
    missing = [path for path in wanted if posixpath.normpath(path) not in known]
    if missing:
        raise DatasetRefused(
            f"dataset {dataset.name}: {option(dataset, 'file')} has no output {', '.join(missing)}",
            f"its outputs are {', '.join(sorted(known))}",
        )
    return [known[posixpath.normpath(path)] for path in wanted] if wanted else list(outputs)


def _files_of(
    dataset: DatasetSpec, output: _Output, shelves: _Shelves, tree: Path | None
) -> Iterator[RemoteFile]:
    kind = "old" if output.old else "md5"
    if output.files:
        for path, md5, size in output.files:
            yield RemoteFile(f"{output.path}/{path}", size, f"{kind}:{md5}")
    elif not output.folder:
        told = output.size
        yield RemoteFile(
            output.path,
            _size_of(dataset, output.path, output, output.md5, shelves, tree) if told is None else told,
            f"{kind}:{output.md5}",
        )
    elif not shelves:
        yield RemoteFile(output.path, output.size or 0, _WHOLE + output.md5)
    else:
        for path, md5 in _folder_list(dataset, output, shelves):
            whole = f"{output.path}/{path}"
            yield RemoteFile(whole, _size_of(dataset, whole, output, md5, shelves, tree), f"{kind}:{md5}")


def _size_of(
    dataset: DatasetSpec, path: str, output: _Output, md5: str, shelves: _Shelves, tree: Path | None
) -> int:
    """Bytes of a content that lies somewhere."""
    with _reading(dataset, path):
        found = _content(path, md5, output.old, shelves, tree)
    if found is None:
        there = None if shelves.remote is None else shelves.remote.size(md5, output.old)
        if there is None:
            raise _missing(dataset, path, shelves)
        return there
    with found:
        return os.fstat(found.fileno()).st_size


def _folder_list(dataset: DatasetSpec, output: _Output, shelves: _Shelves) -> Iterator[tuple[str, str]]:
    """The paths and hashes of the files of a folder."""
    text = _list_text(dataset, output, shelves)
    told: object = None
    if len(text) <= _LIST and hashlib.md5(text, usedforsecurity=False).hexdigest() == output.md5[:32]:
        told = json.loads(text)
    if not isinstance(told, list):
        raise DatasetUnavailable(
            f"dataset {dataset.name}: DVC's list of {escaped(output.path)} is damaged", "`dvc fetch` it anew"
        )
    for each in told:
        match each:
            case {"relpath": str(path), "md5": str(md5)} if _MD5.fullmatch(md5):
                yield path, md5
            case _:
                raise _unreadable(dataset, output.path, "a file in its list has no path and MD5")


def _list_text(dataset: DatasetSpec, output: _Output, shelves: _Shelves) -> bytes:
    with _reading(dataset, output.path):
        found = _content(output.path, output.md5, output.old, shelves, None)
        if found is not None:
            with found:
                return found.read(_LIST + 1)
    remote = shelves.remote
    if remote is None or remote.size(output.md5, output.old) is None:
        raise _missing(dataset, f"{output.path}/", shelves)
    text = bytearray()
    with remote.contents(output.md5, output.old, 0) as chunks:
        for chunk in chunks:
            text += chunk
            if len(text) > _LIST:
                break
    return bytes(text)


def _content(path: str, md5: str, old: bool, shelves: _Shelves, tree: Path | None) -> BinaryIO | None:
    """A content, wherever it lies; of the working tree only what was found to be it. Raises OSError."""
    for shelf in shelves.folders:
        found = shelf.open(md5, old)
        if found is not None:
            return found
    if tree is None or old:
        return None
    file = open_below(tree, path)
    if file is not None and _md5_of(file) != md5:
        file.close()
        return None
    return file


def _md5_of(file: BinaryIO) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()


def _missing(dataset: DatasetSpec, path: str, shelves: _Shelves) -> DatasetUnavailable:
    named_there = ", ".join(escaped(folder) for folder in shelves.elsewhere)
    but = f"; {named_there}, which the repository names, is outside of it" if named_there else ""
    return DatasetUnavailable(
        f"dataset {dataset.name}: {escaped(path)} is in no cache and no remote that is known here{but}",
        "`dvc push` to the remote, or name with remote: where it lies",
    )


def _unreadable(dataset: DatasetSpec, name: str, why: str) -> DatasetUnavailable:
    return DatasetUnavailable(
        f"dataset {dataset.name}: {escaped(name)} cannot be used: {why}", "a .dvc file, or dvc.lock"
    )


@contextmanager
def _reading(dataset: DatasetSpec, path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DatasetUnavailable(
            f"dataset {dataset.name}: cannot read {escaped(path)} of {dataset.path}:"
            f" {error.strerror or error}",
            "check that it is a file that this user may read",
        ) from error


@contextmanager
def _asking(dataset: DatasetSpec) -> Iterator[None]:
    """What goes wrong with a repository, as trouble with the data that it tells of."""
    try:
        yield
    except SourceRefused as error:
        raise DatasetRefused(f"dataset {dataset.name}: {error.message}", error.remedy) from error
    except (SourceUnavailable, RevisionGone) as error:
        raise DatasetUnavailable(f"dataset {dataset.name}: {error.message}", error.remedy) from error
    except (NotFound, InvalidInput) as error:
        raise DatasetRefused(f"dataset {dataset.name}: {error.message}", error.remedy) from error
