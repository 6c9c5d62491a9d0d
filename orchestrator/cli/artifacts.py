"""A run's artifacts, and their way to a folder of the person's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath

from orchestrator.bootstrap import Application
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.run import Run, latest_tries
from orchestrator.ports.records import StoredArtifact


def kept(app: Application, run: Run) -> list[tuple[int, StoredArtifact]]:
    """What the latest try of each replicate left, with the replicate's index."""
    attempts = latest_tries(app.store.attempts.of_run(run.id))
    return [(a.replicate, file) for a in attempts for file in app.store.attempts.artifacts(a.id)]


def save(app: Application, files: list[tuple[int, StoredArtifact]], folder: Path, *, apart: bool) -> int:
    """Write them below ``folder``; how many. Nothing is overwritten, and no name leads out of the folder.

    Raises InvalidInput when a file exists already, or the folder cannot be written.
    """
    targets: list[tuple[Path, StoredArtifact]] = []
    for replicate, file in files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts:
            raise InvalidInput(f"the artifact {file.path!r} has a name that leads out of the folder")
        target = folder / (f"replicate-{replicate}" if apart else "") / path
        if target.exists() or target.is_symlink():
            raise InvalidInput(f"{target} exists already", "name another folder; nothing was written")
        targets.append((target, file))
    try:
        for target, file in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
            with app.blobs.open(file.sha256) as source, target.open("xb") as out:
                shutil.copyfileobj(source, out)
    except OSError as error:
        raise InvalidInput(
            f"{error.filename or folder} cannot be written: {os.strerror(error.errno or 0)}"
        ) from error
    return len(targets)
