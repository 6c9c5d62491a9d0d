"""Collecting: what a stopped container left, read member by member with limits.

Everything in the output folder is kept, and of the working folder what the pipeline declares; where it
declares no file of metrics, what lies where training libraries put theirs. Nothing is executed or unpickled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from orchestrator.domain.globs import fixed_folder, matcher, matches
from orchestrator.domain.pipeline import Limits, Pipeline
from orchestrator.ports.collecting import Collectors
from orchestrator.ports.engine import Engine
from orchestrator.ports.records import StoredArtifact
from orchestrator.ports.world import BlobStore, TooLarge
from orchestrator.services import naming
from orchestrator.services.archive import (
    CHECKOUT_TIME,
    EMPTY_SINCE,
    LONGEST_PATH,
    LeftOut,
    Member,
    read_members,
)
from orchestrator.services.collected import Collected
from orchestrator.services.readings import Printed, Reader, required_metrics

__all__ = ["Collected", "OutputCollector", "required_metrics"]

_FETCHED_ALONE = 4
"""So many files of a folder are fetched one by one; more, with all that lies beside them."""
_NAMED_BY_FILES = 100
"""So many files are fetched because another file names them: each is a request."""
_MOST_READ = 100_000
"""So many files of a folder are looked at, unless more may be kept: the reader remembers their names."""


class OutputCollector:
    """Fetches and reads what attempts left."""

    def __init__(self, blobs: BlobStore, collectors: Collectors) -> None:
        self._blobs = blobs
        self._collectors = collectors
        self._reader = Reader(blobs, collectors)

    def collect(
        self, engine: Engine, container: str, pipeline: Pipeline, printed: Printed = lambda: ()
    ) -> Collected:
        """Keep the outputs of a stopped container and read them. Raises EngineError.

        The limits hold over all folders together. What exceeds them, and whatever is no regular file, is
        listed. ``printed`` gives the lines that the container wrote.
        """
        found = Collected()
        budget = pipeline.limits
        # To look is far cheaper than to fetch, and most runs leave nothing there.
        if engine.modified(container, naming.OUTPUT) != EMPTY_SINCE:
            budget = self._folder(engine, container, naming.OUTPUT, ("**",), pipeline, budget, found)
        places = _by_path((*pipeline.collect, *pipeline.artifacts))
        if not pipeline.collect:
            # Where the whole folder is fetched anyway, all of them are in it.
            layouts = self._collectors.layouts
            for path, wanted in ({"": layouts} if "" in places else _layout_places(layouts)).items():
                places.setdefault(path, []).extend(wanted)
        for path, wanted in places.items():
            where = f"{naming.WORKSPACE}/{path}".rstrip("/")
            budget = self._folder(engine, container, where, wanted, pipeline, budget, found)
        for path in self._named_by_files(found):
            where = f"{naming.WORKSPACE}/{path}"
            budget = self._folder(engine, container, where, (path,), pipeline, budget, found)
        self._reader.read(pipeline, found, printed, budget)
        if found.unlisted:
            found.left_out.append(f"{found.unlisted} more entries were left out")
        found.warnings += [
            f"{name} is declared under artifacts and was not kept: {why}"
            for name, why in found.not_kept.items()
            if matches(name, pipeline.artifacts)
        ]
        return found

    def _named_by_files(self, found: Collected) -> list[str]:
        """What files themselves name as files of metrics, and is not there yet."""
        kept = {artifact.path for artifact in found.artifacts}
        named = dict.fromkeys(self._reader.named(self._reader.files_of(found).values()))
        lacking = [path for path in named if path not in kept and path == _plain(path) and _stays(path)]
        for path in lacking[_NAMED_BY_FILES:]:
            found.leave_out(path, f"more than {_NAMED_BY_FILES} files of metrics are named by other files")
        return lacking[:_NAMED_BY_FILES]

    def _folder(
        self,
        engine: Engine,
        container: str,
        path: str,
        patterns: Sequence[str],
        pipeline: Pipeline,
        limits: Limits,
        found: Collected,
    ) -> Limits:
        """Read one folder, or one file when that is all that is wanted; what is left of the limits."""
        output = path == naming.OUTPUT
        prefix = "" if output else _before(path.removeprefix(naming.WORKSPACE).strip("/"), patterns)
        opened = engine.get(container, path)
        if opened is None:
            return limits
        fits = matcher(patterns)
        count, size = 0, 0
        kept = {artifact.path for artifact in found.artifacts}
        with opened as stream:
            root = path.rsplit("/", 1)[-1]
            for item in read_members(stream, _wide(limits), root):
                name = f"{prefix}/{item.path}" if prefix else item.path
                if isinstance(item, LeftOut):
                    if not item.path:
                        # It speaks of many entries, and so stands there however long the list is.
                        found.left_out.append(f"{path}: {item.why}")
                    elif output or fits(name):
                        self._leave(name, item.why, pipeline, found)
                    continue
                if output:
                    found.see(name)
                if not fits(name) or name in kept:
                    continue
                if not output and item.mtime == CHECKOUT_TIME and self._is_old(name, pipeline):
                    # What the repository brought along is no result, and may still be an artifact.
                    found.stale.add(name)
                    if matches(name, pipeline.collect) or not matches(name, pipeline.artifacts):
                        continue
                if (
                    count >= limits.files
                    or size + item.size > limits.total_size
                    or item.size > limits.file_size
                ):
                    why = _which_limit(pipeline.limits, limits, count, size, item.size)
                    self._leave(name, why, pipeline, found)
                    continue
                self._keep(item, name, limits, found)
                count, size = count + 1, size + item.size
        return replace(limits, files=limits.files - count, total_size=limits.total_size - size)

    def _is_old(self, name: str, pipeline: Pipeline) -> bool:
        """Whether a file of the repository's own would be taken for what this run measured."""
        # What it says of files is true of those of this run as well.
        says_of_others = name.rpartition("/")[2] == "dvc.yaml"
        return matches(name, pipeline.collect) or (self._collectors.reads(name) and not says_of_others)

    def _leave(self, name: str, why: str, pipeline: Pipeline, found: Collected) -> None:
        found.leave_out(name, why)
        if matches(name, pipeline.collect):
            found.leave_unread(name, why)

    def _keep(self, item: Member, name: str, limits: Limits, found: Collected) -> None:
        try:
            blob = self._blobs.put(item.stream, limits.file_size)
        except TooLarge:
            found.leave_out(name, f"larger than {limits.file_size} bytes")
            return
        found.artifacts.append(StoredArtifact(name, blob.size, blob.sha256))


def _stays(path: str) -> bool:
    """Whether a path that a run wrote leads to a file below the folder that it counts from."""
    parts = path.split("/")
    return path.isprintable() and not {"", ".", ".."} & set(parts) and len(path) <= LONGEST_PATH


def _layout_places(layouts: Iterable[str]) -> dict[str, list[str]]:
    """What is looked for in the working folder where no file is named: by top folder, or file by file.

    A layout that may lie in any folder is not looked for: that would be to fetch all that is there.
    """
    places: dict[str, list[str]] = {}
    for layout in layouts:
        folder = fixed_folder(layout).partition("/")[0]
        if folder or _plain(layout):
            places.setdefault(folder or _plain(layout), []).append(layout)
    return places


def _by_path(patterns: Iterable[str]) -> dict[str, list[str]]:
    """Patterns by what must be read for them: a few files by their names, else the folders they are in."""
    found: dict[str, list[str]] = {}
    for folder, wanted in _by_folder(patterns).items():
        names = [_plain(pattern) for pattern in dict.fromkeys(wanted)]
        if len(names) <= _FETCHED_ALONE and all(names):
            found |= {name: [name] for name in names}
        else:
            found[folder] = wanted
    return found


def _before(path: str, patterns: Iterable[str]) -> str:
    """What stands before the names in the archive of a path: the folder itself, or that of the one file."""
    return path.rpartition("/")[0] if path and path in map(_plain, patterns) else path


def _plain(pattern: str) -> str:
    """The one file that a pattern names; empty when it may be several."""
    return "" if any(c in pattern for c in "*?[") else pattern.removeprefix("./")


def _by_folder(patterns: Iterable[str]) -> dict[str, list[str]]:
    """Patterns by the folder that must be read for them; a folder inside another one is read with it."""
    folders: dict[str, list[str]] = {}
    for pattern in patterns:
        folders.setdefault(fixed_folder(pattern), []).append(pattern)
    roots = [f for f in folders if not any(_inside(f, other) for other in folders if other != f)]
    return {
        root: [p for f, ps in folders.items() if f == root or _inside(f, root) for p in ps] for root in roots
    }


def _inside(folder: str, other: str) -> bool:
    return other == "" or folder.startswith(other + "/")


def _wide(limits: Limits) -> Limits:
    """The caps for reading, which skip what no pattern wants; what is kept is counted separately."""
    files = max(min(max(limits.files, 0) * 100 + 10_000, _MOST_READ), limits.files)
    return replace(limits, files=files, total_size=max(limits.total_size, 1 << 30) * 4)


def _which_limit(limits: Limits, left: Limits, count: int, size: int, item: int) -> str:
    """Which of the limits an entry of ``item`` bytes exceeds; ``left`` is what other folders left of them."""
    if item > limits.file_size:
        return f"{item} bytes are more than one file may have ({limits.file_size}, storage.limits.file_size)"
    if count >= left.files:
        return f"there are more than {limits.files} files, storage.limits.files"
    kept = limits.total_size - left.total_size + size
    return (
        f"with its {item} bytes the {kept} kept would be more than all files together may have"
        f" ({limits.total_size}, storage.limits.total_size)"
    )
