"""What an engine says of itself, taken at its word only where it is of the kind that engines say."""

from __future__ import annotations

from datetime import datetime

from orchestrator.adapters.docker.convert import moment, platform_of
from orchestrator.domain.errors import EngineError
from orchestrator.ports.engine import EngineInfo


def info_of(said: object) -> EngineInfo:
    """Read what the engine answered. EngineError when it is no engine's answer.

    A host that somebody has broken into may answer anything, and what it says goes into the choice of hosts
    for all runs.
    """
    if not isinstance(said, dict):
        raise _not_engines("", said)
    cpus = _number(said, "NCPU")
    if cpus < 1:
        raise _not_engines("NCPU", cpus)
    return EngineInfo(
        id=_text(said, "ID"),
        version=_text(said, "ServerVersion"),
        cpus=cpus,
        memory=_number(said, "MemTotal"),
        operating_system=_text(said, "OperatingSystem"),
        warnings=(*_warnings(said), *_unsaid(said)),
        name=_text(said, "Name", ""),
        data_root=_text(said, "DockerRootDir", ""),
        clock=_clock(said),
        platform=platform_of(_text(said, "OSType", "") or "linux", _text(said, "Architecture", "")),
    )


def _text(said: dict[object, object], key: str, default: str | None = None) -> str:
    value = said.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise _not_engines(key, value)
    return value


def _number(said: dict[object, object], key: str) -> int:
    value = said.get(key)
    if not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise _not_engines(key, value)
    return value


def _warnings(said: dict[object, object]) -> tuple[str, ...]:
    value = said.get("Warnings")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _not_engines("Warnings", value)
    return tuple(value)


def _unsaid(said: dict[object, object]) -> tuple[str, ...]:
    """What an engine takes without a word and does not do. ``Rootless`` is Podman's alone."""
    if said.get("Rootless") and said.get("CgroupVersion") == "1":
        return ("without root on cgroup v1, limits on memory, cores and processes have no effect",)
    return ()


def _clock(said: dict[object, object]) -> datetime | None:
    text = _text(said, "SystemTime", "")
    try:
        return moment(text)
    except (ValueError, OverflowError):
        raise _not_engines("SystemTime", text) from None


def _not_engines(key: str, value: object) -> EngineError:
    what = f"{key} is {repr(value)[:80]}" if key else f"it says {repr(value)[:80]}"
    return EngineError(
        f"asking the engine who it is: {what}, which no engine says",
        "see what listens at its socket: orchestrator hosts check",
    )
