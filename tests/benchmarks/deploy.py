"""Sending a release beside `tar | ssh`, rsync and scp: the same files, sshd and link, in turns.

The server is a container on this machine; ``delay`` is a round trip through a relay in a process of its own.
Every way pays for its own login. The ways of others bring files over and stop there. Two figures are ours:

- ``upload`` brings the files over with all that a deployment does up to then: the lock, the look at the
  room, a fresh folder. The four ratios that are named for tar are its throughput over that of `tar | ssh`.
- ``deploy`` is all of it: the hashes compared on the server, all flushed to its disk, the switch.

scp is stopped after ``scp_limit`` seconds, so that its figure is the least that it would have taken.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import BinaryIO

import docker

from orchestrator.adapters.sftp import SshServer
from orchestrator.adapters.sftp.target import SftpTarget
from orchestrator.domain.deployment import ReleaseFile
from tests.benchmarks.harness import Figures, Parameters, Samples, in_turns, table
from tests.support.engine import BASE_IMAGE, RUNNER_IMAGES, built, run_script
from tests.support.link import Link
from tests.support.releases import ignore, settings
from tests.support.sshd import SERVER_FOLDER, ssh_server
from tests.support.sshd import SshServer as Machine

_RSYNC_OF_ITS_OWN = """
set -e
apt-get update -qq && apt-get install -y -qq --no-install-recommends rsync >/dev/null
mkdir -p /opt/rsync
cp /usr/bin/rsync /opt/rsync/
ldd /usr/bin/rsync | grep -o '/[^ ]*' | xargs -I{} cp -L {} /opt/rsync/
"""
OTHERS = ("tar", "rsync", "scp")


def measure(parameters: Parameters) -> Figures:
    """``megabytes``: 200 in one file; ``files``: 1000 of ``bytes``: 2048; ``delay``: 20 ms; ``rounds``: 5.

    ``scp_limit``: 10 s.
    """
    size, count = parameters.number("megabytes", 200), parameters.number("files", 1000)
    small, delay = parameters.number("bytes", 2048), parameters.number("delay", 20)
    rounds, limit = parameters.number("rounds", 5), parameters.number("scp_limit", 10)
    run_script(RUNNER_IMAGES / "engine")
    run_script(RUNNER_IMAGES / "base" / "make", BASE_IMAGE)
    with ExitStack() as stack:
        engine = stack.enter_context(closing(docker.from_env(timeout=60)))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        machine = stack.enter_context(ssh_server(engine, built(engine, SERVER_FOLDER), folder))
        rsync = _rsync_for_both(machine, folder)
        loads = {
            "large": _Load(folder / "large", {"model.bin": size << 20}),
            "small_files": _Load(
                folder / "small", {f"{n % 20:02}/part-{n:05}.json": small for n in range(count)}
            ),
        }
        samples: Samples = {}
        for suffix, wait in (("", 0.0), (f"_{delay}ms", delay / 1000)):
            with _reached(machine, wait) as port:
                for kind, load in loads.items():
                    way = _Ways(machine, port, load, folder, rsync, limit)
                    taken = in_turns(way.measures(), rounds)
                    table(f"{kind}{suffix}", taken, "ms", 1000)
                    samples |= {f"{kind}{suffix}_{name}": values for name, values in taken.items()}
    middle = {name: statistics.median(values) for name, values in samples.items()}
    kinds = [f"{kind}{suffix}" for kind in loads for suffix in ("", f"_{delay}ms")]
    ratios = {
        f"{kind}_vs_{other}": middle[f"{kind}_{other}"] / middle[f"{kind}_upload"]
        for kind in kinds
        for other in OTHERS
    }
    ratios |= {f"{kind}_deploy_vs_tar": middle[f"{kind}_tar"] / middle[f"{kind}_deploy"] for kind in kinds}
    return Figures(ratios, samples, {"megabytes": size, "files": count, "bytes": small, "scp_limit_s": limit})


@dataclass(frozen=True)
class _Load:
    """Files to send, made of noise."""

    folder: Path
    sizes: dict[str, int]

    def __post_init__(self) -> None:
        for path, size in self.sizes.items():
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(os.urandom(size))

    def files(self) -> Sequence[ReleaseFile]:
        return [
            ReleaseFile(path, size, hashlib.sha256((self.folder / path).read_bytes()).hexdigest())
            for path, size in self.sizes.items()
        ]

    def read(self, file: ReleaseFile) -> BinaryIO:
        return (self.folder / file.path).open("rb")


class _Ways:
    """Each way to bring a load over, into a folder that is made before and looked at after the clock runs."""

    def __init__(
        self, machine: Machine, port: int, load: _Load, folder: Path, rsync: Sequence[str], limit: int
    ) -> None:
        self._machine, self._port, self._load = machine, port, load
        self._rsync, self._limit = rsync, limit
        self._files = load.files()
        self._number = 0
        known = folder / f"known-{port}"
        _, *key = machine.host_key_line.split()
        known.write_text(f"[{machine.host}]:{port} {' '.join(key)}\n")
        self._login = (
            *("-F", "/dev/null", "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes"),
            *("-o", "BatchMode=yes", "-i", str(machine.key_path)),
        )
        self._who = f"{machine.user}@{machine.host}"

    def measures(self) -> dict[str, Callable[[], float]]:
        return {
            "tar": self._clocked(self._tar),
            "rsync": self._clocked(self._by_rsync),
            "scp": self._clocked(self._scp, whole=False),
            "upload": self._clocked(self._upload, "releases/20261123T054459Z-1"),
            "deploy": self._clocked(self._deploy, "current/"),
        }

    def _clocked(
        self, act: Callable[[str], object], inside: str = "", whole: bool = True
    ) -> Callable[[], float]:
        def run() -> float:
            self._number += 1
            place = f"{self._machine.models_path}/bench-{self._number}"
            self._machine.run("install", "-d", "-o", self._machine.user, "-g", self._machine.user, place)
            began = time.perf_counter()
            act(place)
            took = time.perf_counter() - began
            arrived = self._machine.run("sh", "-c", f"find {place}/{inside} -type f -size +0 | wc -l")
            if whole and int(arrived) != len(self._files):
                raise RuntimeError(f"{arrived.strip()} of {len(self._files)} files arrived")
            self._machine.run("rm", "-rf", place)
            return took

        return run

    def _tar(self, place: str) -> None:
        packing = subprocess.Popen(
            ["tar", "-c", "-f", "-", "-C", self._load.folder, "."], stdout=subprocess.PIPE
        )
        command = ["ssh", *self._login, "-p", str(self._port), self._who, f"tar -x -f - -C {place}"]
        subprocess.run(command, stdin=packing.stdout, check=True)
        if packing.stdout is not None:
            packing.stdout.close()
        packing.wait()

    def _by_rsync(self, place: str) -> None:
        shell = " ".join(("ssh", *self._login, "-p", str(self._port)))
        subprocess.run(
            [
                *self._rsync,
                "-a",
                "--whole-file",
                "-e",
                shell,
                f"{self._load.folder}/",
                f"{self._who}:{place}/",
            ],
            check=True,
        )

    def _scp(self, place: str) -> None:
        command = ["scp", "-q", "-r", *self._login, "-P", str(self._port)]
        with subprocess.Popen([*command, f"{self._load.folder}/.", f"{self._who}:{place}/"]) as copying:
            try:
                copying.wait(self._limit)
            except subprocess.TimeoutExpired:
                copying.terminate()

    def _upload(self, place: str) -> None:
        with SftpTarget(self._server(place), "bench") as target:
            target.upload("20261123T054459Z-1", self._files, self._load.read, ignore)

    def _deploy(self, place: str) -> None:
        with SftpTarget(self._server(place), "bench") as target:
            target.upload("20261123T054459Z-1", self._files, self._load.read, ignore)
            target.verify("20261123T054459Z-1", self._files)
            target.activate("20261123T054459Z-1")

    def _server(self, place: str) -> SshServer:
        return replace(settings(self._machine, place), port=self._port)


@contextmanager
def _reached(machine: Machine, delay: float) -> Iterator[int]:
    """The port to connect to: the server's own, or one behind a link with that round trip."""
    if not delay:
        yield machine.port
        return
    context = multiprocessing.get_context("spawn")
    ports: multiprocessing.Queue[int] = context.Queue()
    over = context.Event()
    relay = context.Process(target=_relay, args=(machine.host, machine.port, delay / 2, ports, over))
    relay.start()
    try:
        yield ports.get(timeout=30)
    finally:
        over.set()
        relay.join(30)


def _relay(host: str, port: int, delay: float, ports: multiprocessing.Queue[int], over: Event) -> None:
    with Link((host, port), delay) as link:
        ports.put(link.port)
        over.wait()


def _rsync_for_both(machine: Machine, folder: Path) -> Sequence[str]:
    """Install rsync on the server. Here the machine's own is used, or where it has none, the server's."""
    machine.run("sh", "-c", _RSYNC_OF_ITS_OWN)
    own = shutil.which("rsync")
    if own:
        return [own]
    subprocess.run(["docker", "cp", f"{machine.container.id}:/opt/rsync", str(folder)], check=True)
    there = folder / "rsync"
    loader = next(path for path in there.iterdir() if path.name.startswith("ld-"))
    return [str(loader), "--library-path", str(there), str(there / "rsync")]
