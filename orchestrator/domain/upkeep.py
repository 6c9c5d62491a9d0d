"""Deciding what goes of what is remembered of repositories and of data, and what stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator.domain.retention import Going, Kind, Plan, Staying, told


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """A version of a dataset. ``made_at`` is when it was seen first."""

    id: int
    dataset_key: str
    number: int
    fingerprint: str
    made_at: datetime


@dataclass(frozen=True, slots=True)
class MirrorFacts:
    """A copy of a repository, and when it was used last."""

    name: str
    used_at: datetime


def plan_versions(
    versions: Sequence[VersionFacts],
    names: Mapping[str, str],
    used: AbstractSet[str],
    age: timedelta | None,
    now: datetime,
) -> Plan:
    """What goes of the versions of data. ``names`` are those of the datasets that are watched, by key.

    What a run, a pipeline or a look names stays (``used``, by fingerprint), and the newest of each dataset
    that is watched.
    """
    newest = {version.dataset_key: version.number for version in versions}
    going: list[Going] = []
    staying: list[Staying] = []
    for version in versions if age is not None else ():
        if age is None or now - version.made_at <= age:
            continue
        title = f"{names.get(version.dataset_key, version.dataset_key)} v{version.number}"
        why = f"older than {told(age)}"
        kept = "a run has it, or it is looked at" if version.fingerprint in used else ""
        if not kept and version.dataset_key in names and newest[version.dataset_key] == version.number:
            kept = "it is the newest"
        if kept:
            staying.append(Staying(Kind.VERSIONS, version.id, title, kept, why))
        else:
            going.append(Going(Kind.VERSIONS, version.id, title, why))
    return Plan(tuple(going), tuple(staying))


def plan_gone(
    kind: Kind,
    gone: AbstractSet[str],
    since: Mapping[str, datetime],
    age: timedelta | None,
    now: datetime,
) -> Plan:
    """What goes of what nobody defines any more: after having been gone for so long."""
    if age is None:
        return Plan()
    why = f"gone for {told(age)}"
    return Plan(
        tuple(
            Going(kind, name, name, why) for name in sorted(gone) if name in since and now - since[name] > age
        )
    )


def plan_mirrors(
    mirrors: Sequence[MirrorFacts], needed: Mapping[str, str], age: timedelta | None, now: datetime
) -> Plan:
    """What goes of mirrors; ``needed`` says of some why they stay."""
    going: list[Going] = []
    staying: list[Staying] = []
    for mirror in sorted(mirrors, key=lambda m: (m.used_at, m.name)):
        if age is None or now - mirror.used_at <= age:
            continue
        why = f"unused for {told(age)}"
        if mirror.name in needed:
            staying.append(Staying(Kind.MIRRORS, mirror.name, mirror.name, needed[mirror.name], why))
        else:
            going.append(Going(Kind.MIRRORS, mirror.name, mirror.name, why))
    return Plan(tuple(going), tuple(staying))
