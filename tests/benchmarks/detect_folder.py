"""``python -m tests.benchmarks.detect_folder CONFIG ROUNDS``: one process that watches a folder, measured.

A process of its own, so that its memory is what watching takes. Prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from orchestrator.bootstrap import Application, read_configuration
from orchestrator.domain.change import DatasetVersion


def bare_walk(folder: str) -> int:
    """Names, kinds, sizes and times of everything below a folder, by the standard library alone."""
    files = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                files += bare_walk(entry.path)
            else:
                entry.stat(follow_symlinks=False)
                files += 1
    return files


def timed(work: Callable[[], object]) -> float:
    """Seconds that something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def peak() -> int:
    """Most bytes of memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main(config: Path, rounds: int) -> None:
    """Watch the first dataset of the first pipeline: its first version, then nothing new, then one change."""
    with closing(Application(read_configuration(config))) as app:
        dataset = next(iter(app.pipelines.values())).datasets[0]
        app.store.detection.versions(dataset)
        idle = peak()

        def look() -> DatasetVersion:
            found = app.detector.refresh(dataset)
            if not isinstance(found, DatasetVersion):
                raise TypeError(f"{dataset.name} is being written")
            return found

        first = timed(look)
        version = look()
        bare, unchanged = [], []
        for _ in range(rounds):
            bare.append(timed(lambda: bare_walk(dataset.path)))
            unchanged.append(timed(look))
        if look() != version:
            raise RuntimeError("a version came without a change")
        Path(dataset.path, "added.txt").write_text("one more")
        changed = timed(look)
        if look().files != version.files + 1:
            raise RuntimeError("the change was not seen")
        told = {
            "files": version.files,
            "first": first,
            "bare": bare,
            "unchanged": unchanged,
            "one_changed": changed,
            "peak": peak(),
            "peak_before": idle,
        }
        sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
