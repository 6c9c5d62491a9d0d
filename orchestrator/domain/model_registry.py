"""The models of a pipeline: each passed run's is a version, and deployments move the stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Stage(StrEnum):
    """What a version is to people."""

    CANDIDATE = "candidate"
    """Live where it is tried out."""
    PRODUCTION = "production"
    """Live where it counts."""
    ARCHIVED = "archived"
    """It was in production."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """What a passed run left. ``number`` is the run's own, so that it is never given out twice."""

    id: int
    run_id: int
    pipeline: str
    number: int
    created_at: datetime
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True, slots=True)
class Moved:
    """A version that gets a stage, or that loses one (``gone``)."""

    version: int
    stage: Stage
    gone: bool = False


def moves(version: int, stage: Stage, holders: Mapping[Stage, frozenset[int]]) -> tuple[Moved, ...]:
    """What changes when a version gets ``stage``; ``holders`` are the versions that have each now.

    Candidate and production are one version's at a time. The one that leaves production is archived.
    """
    made: list[Moved] = []
    if version in holders.get(stage, frozenset()):
        return ()
    # What is in production stays there while a copy of it is tried out anywhere else.
    if stage is Stage.CANDIDATE and version in holders.get(Stage.PRODUCTION, frozenset()):
        return ()
    made += (
        Moved(version, each, gone=True) for each, ids in holders.items() if version in ids and each != stage
    )
    if stage is not Stage.ARCHIVED:
        for other in sorted(holders.get(stage, frozenset()) - {version}):
            made.append(Moved(other, stage, gone=True))
            if stage is Stage.PRODUCTION:
                made.append(Moved(other, Stage.ARCHIVED))
    made.append(Moved(version, stage))
    return tuple(made)
