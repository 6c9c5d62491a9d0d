"""Runs of MLflow, however they are stored: under which names their figures are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ENDED_BADLY = frozenset({"FAILED", "KILLED", "4", "5"})


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """One run as MLflow tells of it. ``parent`` is the id of the run that it is nested in, or empty."""

    id: str
    name: str = ""
    parent: str = ""
    started: float = 0.0


def prefixes(runs: Sequence[TrackedRun]) -> Mapping[str, str]:
    """What precedes the names of each run's figures, by its id.

    The only run that is not nested has no prefix; the others have their names, made unique by their ids.
    """
    ids = {run.id for run in runs}
    outer = [run for run in runs if run.parent not in ids]
    names = Counter(run.name for run in runs)
    found = {}
    for run in runs:
        if len(outer) == 1 and run is outer[0]:
            found[run.id] = ""
        elif run.name and names[run.name] == 1:
            found[run.id] = f"{run.name}/"
        else:
            found[run.id] = f"{f'{run.name}-' if run.name else ''}{run.id[:8]}/"
    return found
