"""A real container on a host, from image to removal, each part timed."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from textwrap import shorten
from typing import Final

from orchestrator.bootstrap import Application
from orchestrator.cli.imagemaking import BASE_IMAGE
from orchestrator.domain.errors import EngineError, ImageNotFound
from orchestrator.domain.pipeline import HostSpec, NamedImage, Resources
from orchestrator.domain.report import format_duration, format_size
from orchestrator.ports.engine import ContainerSpec, ContainerState, Engine, EngineInfo
from orchestrator.services import naming
from orchestrator.services.cleanup import cleaned_up
from orchestrator.services.gpucheck import try_gpu
from orchestrator.services.networkcheck import Finding, try_out

_PATIENCE = 30.0
_CLOCK_OFF: Final = timedelta(seconds=30)
"""Clocks may differ by so much before it is told: times in logs are the host's."""
_LONGEST: Final = 400
_OUT = "/tmp/out"  # noqa: S108 - inside the container
_LABELS = {naming.ROLE_LABEL: "check"}


@dataclass(frozen=True, slots=True)
class PartResult:
    """How one part went. ``result`` is ok, warn or fail."""

    host: str
    part: str
    result: str
    seconds: float
    told: str = ""
    remedy: str = ""

    @property
    def sentence(self) -> str:
        """What was found and what to do about it, in one line."""
        # Engines tell of some errors in many lines.
        told = shorten(self.told, _LONGEST, placeholder=" …")
        return "; ".join(filter(None, (told, self.remedy)))


@dataclass(frozen=True, slots=True)
class Told:
    """What a part says when it did not fail."""

    result: str = "ok"
    told: str = ""
    remedy: str = ""


class _Failed(Exception):
    def __init__(self, told: str, remedy: str = "") -> None:
        super().__init__(told)
        self.remedy = remedy


def conclusion(host: str, results: list[PartResult]) -> str:
    """One line on a host: that it is ready, or the first thing that keeps it from that with its remedy."""
    failed = next((r for r in results if r.result == "fail"), None)
    if failed is not None:
        return f"{host}: no run can execute here: {failed.sentence}"
    warned = [f"{r.part}: {r.sentence}" for r in results if r.result == "warn"]
    return f"{host}: ready" + "".join(f"; {each}" for each in warned)


def check_host(app: Application, host: str, image: str | None) -> list[PartResult]:
    """Try everything that a run does on a host; the first part that fails is the last, removal apart."""
    engine = app.engines[host]
    name = f"mlci-{app.store.instance[:8]}-check-{os.getpid()}"
    results: list[PartResult] = []

    def part(title: str, act: Callable[[], Told]) -> None:
        began = app.clock.monotonic()
        try:
            told = act()
        except EngineError as error:
            told = Told("fail", error.message.removeprefix(f"host {host}: "), error.remedy)
        except _Failed as error:
            told = Told("fail", str(error), error.remedy)
        took = app.clock.monotonic() - began
        results.append(PartResult(host, title, told.result, took, told.told, told.remedy))
        if told.result == "fail":
            raise _Failed(told.told)

    chosen = ""

    def choose_image() -> Told:
        nonlocal chosen
        chosen = _image(app, engine, host, image)
        return Told(told=chosen)

    try:
        part("connect", lambda: _connect(engine))
        part("clock", lambda: _clock(app, engine))
        part("limits", lambda: _limits(engine))
        part("room", lambda: _room(app, host))
        part("image", choose_image)
        part("network", lambda: _network(app, host, name))
        part("create", lambda: _create(app, host, name, chosen))
        part("put", lambda: _put(engine, name))
        part("start", lambda: _start(engine, name))
        part("log", lambda: _log(engine, name))
        part("end", lambda: _end(app, engine, name))
        part("get", lambda: _get(engine, name))
        part("gpu", lambda: _gpu(app, host, f"{name}-gpu"))
    except _Failed:
        pass
    finally:
        if any(result.part == "network" for result in results):
            with suppress(_Failed):
                part("remove", lambda: _remove(engine, name))
    return results


def _network(app: Application, host: str, name: str) -> Told:
    (spec,) = [known for known in app.fleet.known if known.name == host]
    found = try_out(app.networks, app.engines[host], spec, _network_name(name), app.clock)
    return Told(found.result, found.told)


def _gpu(app: Application, host: str, name: str) -> Told:
    """Whether GPUs can be given to runs; where they cannot, others can execute all the same."""
    (spec,) = [known for known in app.fleet.known if known.name == host]
    leased = app.store.attempts.gpus_leased().get(host, {})
    try:
        found = try_gpu(app.gpus, app.engines[host], spec, leased, name, app.clock)
    except EngineError as error:
        return Told("warn", f"no run gets a GPU: {error.message}", error.remedy)
    if found.result == "fail":
        return Told("warn", f"no run gets a GPU that computes: {found.told}")
    return Told(found.result, found.told)


def _network_name(name: str) -> str:
    return f"{name}-network"


def check_network(app: Application, host: HostSpec) -> Finding:
    """Only whether runs are kept from a host, proven by a container. Raises EngineError."""
    engine = app.engines[host.name]
    name = _network_name(f"mlci-{app.store.instance[:8]}-doctor-{os.getpid()}")
    with cleaned_up(partial(engine.remove, name), partial(engine.remove_network, name)):
        return try_out(app.networks, engine, host, name, app.clock)


def _put(engine: Engine, name: str) -> Told:
    engine.put(name, "/", _probe())
    return Told()


def _start(engine: Engine, name: str) -> Told:
    engine.start(name)
    return Told()


def _connect(engine: Engine) -> Told:
    info = engine.info()
    made = f"Docker {info.version}, {info.operating_system}, {info.cpus} cores, {format_size(info.memory)}"
    return Told(told=made)


def _clock(app: Application, engine: Engine) -> Told:
    before = app.clock.now()
    info = engine.info()
    return clock_of(info, before, app.clock.now())


def clock_of(info: EngineInfo, before: datetime, after: datetime) -> Told:
    """How far an engine's clock is from ours, which it told between those two moments."""
    if info.clock is None:
        return Told("warn", "the engine does not tell the time")
    off = max(before - info.clock, info.clock - after, timedelta())
    if off < _CLOCK_OFF:
        return Told(told=f"as here, within {format_duration(max(off, after - before).total_seconds())}")
    way = "behind" if info.clock < before else "ahead of"
    told = f"its clock is {format_duration(off.total_seconds())} {way} the one here, as are times in logs"
    return Told("warn", told, "set it, for instance with `sudo timedatectl set-ntp true`")


def _limits(engine: Engine) -> Told:
    warnings = engine.info().warnings
    return Told("warn", "; ".join(warnings)) if warnings else Told(told="runs can be held to their limits")


def _room(app: Application, host: str) -> Told:
    measured = app.room.host(host)
    if (lack := app.room.lacks(host, measured)) is not None:
        raise _Failed(lack)
    return Told("ok" if measured.space is not None else "warn", str(measured))


def _image(app: Application, engine: Engine, host: str, wanted: str | None) -> str:
    """The image to try with: the one asked for, else the base image, else a runner's that is there.

    A host that lacks the base image is brought it from an engine here, as by the first run there.
    """
    if wanted is None and engine.find_image(BASE_IMAGE) is None:
        app.supply.copy(engine, BASE_IMAGE, lambda event: None)
    candidates = [wanted] if wanted else [BASE_IMAGE]
    if wanted is None:
        candidates += [r.image.name for r in app.runners.values() if isinstance(r.image, NamedImage)]
        candidates += list(engine.owned().images)
    for candidate in candidates:
        if engine.find_image(candidate) is not None:
            return candidate
    raise ImageNotFound(
        f"none of these images is on the host: {', '.join(candidates)}",
        f"run `orchestrator images build --host {host}`",
    )


def _create(app: Application, host: str, name: str, image: str) -> Told:
    engine = app.engines[host]
    made = engine.create(
        ContainerSpec(
            name=name,
            image=image,
            command=(
                "sh",
                "-c",
                f"cat /mlci-check/question; mkdir -p {_OUT}; echo 42 > {_OUT}/answer; id -u",
            ),
            labels=_LABELS,
            env={},
            user="1000:1000",
            workdir="/",
            resources=Resources(cpus=0.5, memory=64 << 20, pids=64),
            network=app.networks.make(engine, host, _network_name(name)),
        )
    )
    return Told(told=made.id[:12])


def _probe() -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        folder = tarfile.TarInfo("mlci-check")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        content = b"what is the answer?\n"
        file = tarfile.TarInfo("mlci-check/question")
        file.size, file.mode = len(content), 0o444
        tar.addfile(file, io.BytesIO(content))
    buffer.seek(0)
    return buffer


def _log(engine: Engine, name: str) -> Told:
    lines = [line.text.decode(errors="replace") for line in engine.logs(name, None)]
    if lines != ["what is the answer?", "1000"]:
        raise _Failed(f"the log is not what the container wrote: {lines}")
    return Told(told=f"{len(lines)} lines")


def _end(app: Application, engine: Engine, name: str) -> Told:
    deadline = app.clock.monotonic() + _PATIENCE
    while app.clock.monotonic() < deadline:
        container = engine.find(name)
        if container is not None and container.state is ContainerState.EXITED and container.exit is not None:
            if container.exit.code != 0:
                raise _Failed(f"the command ended with {container.exit.code} {container.exit.error}".strip())
            return Told(told="exit code 0")
        app.clock.sleep(0.1)
    raise _Failed(f"the container had not ended after {_PATIENCE:.0f} s")


def _get(engine: Engine, name: str) -> Told:
    found = engine.get(name, _OUT)
    if found is None:
        raise _Failed("what the container wrote is not there")
    with found as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        names = list(_files(tar))
    if not any(path.endswith("answer") for path in names):
        raise _Failed(f"the archive holds {names} and no answer")
    return Told()


def _files(tar: tarfile.TarFile) -> Iterator[str]:
    for member in tar:
        yield member.name


def _remove(engine: Engine, name: str) -> Told:
    engine.remove(name)
    engine.remove(_network_name(name))
    engine.remove_network(_network_name(name))
    return Told()
