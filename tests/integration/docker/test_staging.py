"""Data on their way to a real engine: in parts, over a link that breaks, compared there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from orchestrator.adapters.datasets.folder import FolderDataset
from orchestrator.adapters.docker.engine import DockerEngine
from orchestrator.adapters.process import SystemClock
from orchestrator.domain.change import DatasetRole, DatasetVersion
from orchestrator.domain.errors import DatasetMoved, EngineUnavailable
from orchestrator.domain.pipeline import DatasetSpec, HostSpec
from orchestrator.ports.engine import Container, ContainerSpec, FolderMount, VolumeMount
from orchestrator.ports.progress import ProgressEvent
from orchestrator.services import naming
from orchestrator.services.bounds import carry_on
from orchestrator.services.staging import Stager
from orchestrator.services.supply import ImageSupply
from orchestrator.store import SqlStore, open_store
from tests.support.containers import SOCKET, Bench

PART = 1 << 20
FILES = {
    "rows.csv": b"1,2\n",
    'odd names/it\'s "odd" and spaced.csv': b"x\n",
    "deep/large.bin": os.urandom(3 * PART + 77),
    "deep/empty": b"",
    "umlaut-\u00e4.csv": b"y\n",
}


class Cut(DockerEngine):
    """The engine behind a link that breaks in the middle of a put, after so many good ones."""

    good = 1 << 30
    killed = False

    def create(self, spec: ContainerSpec) -> Container:
        if self.killed and "-finish-" in spec.name:
            raise KeyboardInterrupt
        return super().create(spec)

    def put(self, name: str, folder: str, tar: BinaryIO) -> None:
        self.good -= 1
        if self.good == -1:

            class Torn:
                def read(self, size: int) -> bytes:
                    if not self.left:
                        raise EngineUnavailable("the link is cut")
                    self.left -= 1
                    return tar.read(size)

                left = 2

            tar = Torn()  # type: ignore[assignment]
        super().put(name, folder, tar)


class House:
    """A dataset here, the engine there, and who brings the one to the other."""

    def __init__(self, engine: Cut, store: SqlStore, folder: Path) -> None:
        self.engine, self.store, self.folder = engine, store, folder
        self.spec = DatasetSpec("wine", str(folder), DatasetRole.TRAIN, settle=0)
        self.source = FolderDataset(folder.parent)
        self.host = HostSpec("there", SOCKET)
        self.told: list[ProgressEvent] = []

    def version(self) -> DatasetVersion:
        found = self.source.snapshot(self.spec, (), self.told.append)
        now = SystemClock().now()
        return self.store.detection.record_version(self.spec, found.fingerprint, found.entries, now)

    def stager(self) -> Stager:
        hosts = {"there": self.host}
        return Stager(self.store, self.source, ImageSupply(), hosts, SystemClock(), "me", part=PART)

    def have(self, version: DatasetVersion, stager: Stager | None = None) -> VolumeMount | FolderMount:
        made = stager or self.stager()
        return made.have(self.engine, "there", self.spec, version, (1000, 1000), carry_on, self.told.append)


@pytest.fixture
def house(bench: Bench, tmp_path: Path) -> Iterator[House]:
    folder = tmp_path / "wine"
    write(folder, FILES)
    with (
        closing(Cut(SOCKET, bench.prefix)) as engine,
        closing(open_store(f"sqlite:///{tmp_path / 'db.sqlite'}")) as store,
    ):
        # The bench removes what carries its prefix; volumes are named after the instance of the database.
        yield House(engine, store, folder)


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def seen(bench: Bench, mount: VolumeMount | FolderMount, shell: str) -> tuple[int, list[str]]:
    """What a run's command sees of it."""
    spec = bench.spec(shell, what="reader")
    spec = (
        replace(spec, mounts=(mount,)) if isinstance(mount, VolumeMount) else replace(spec, folders=(mount,))
    )
    exit_, lines = bench.run(spec), [line.text.decode() for line in bench.engine.logs(spec.name, None)]
    bench.engine.remove(spec.name)
    return exit_.code, lines


def test_a_version_arrives_in_parts_and_a_run_reads_and_cannot_change_it(bench: Bench, house: House) -> None:
    mount = house.have(house.version())
    files = naming.data_files("wine")
    code, lines = seen(
        bench, mount, f"cd {files} && find . -type f | wc -l && sha256sum deep/large.bin rows.csv"
    )
    assert (code, int(lines[0])) == (0, len(FILES))
    here = {
        entry.path: entry.sha256 for entry in house.source.snapshot(house.spec, (), house.told.append).entries
    }
    assert [line.split()[0] for line in lines[1:]] == [here["deep/large.bin"], here["rows.csv"]]
    assert seen(bench, mount, f"echo no > {files}/rows.csv")[0] != 0
    assert seen(bench, mount, f"test ! -e {naming.DATA}/wine/parts")[0] == 0
    (staged,) = house.store.attempts.staged_on("there")
    assert staged.size == sum(map(len, FILES.values()))
    last = [e for e in house.told if e.what.startswith("staging")][-1]
    assert (last.done, last.total) == (staged.size, staged.size)


@pytest.mark.parametrize("good", [0, 1, 3], ids=["folders", "small files", "second part"])
def test_a_link_that_breaks_within_a_part_costs_that_part_alone(
    bench: Bench, house: House, good: int
) -> None:
    version = house.version()
    house.engine.good = good
    mount = house.have(version)
    # The folders, the small files and four parts are all there is; again go the folders, and what lacks.
    assert good - house.engine.good == good + 1 + 1 + 5 - max(good - 1, 0)
    assert seen(bench, mount, f"cd {naming.data_files('wine')} && test $(find . -type f | wc -l) = 5")[0] == 0


def test_a_filling_that_was_killed_while_a_file_was_put_together_goes_on(bench: Bench, house: House) -> None:
    version = house.version()
    house.engine.killed = True
    with pytest.raises(KeyboardInterrupt):
        house.have(version)
    house.engine.killed = False
    (large,) = [e for e in house.store.detection.manifest(house.spec, version.fingerprint) if e.size > PART]
    whole = f"parts/{naming.part_key(large)}"
    volume = naming.data_volume(house.store.instance, version.fingerprint)
    # A kill between two parts leaves the first one in its place, and the others where they were.
    shell = f"cd /v && dd if={whole}/0 of={whole}.whole status=none && rm {whole}/0 && ls {whole} | wc -l"
    spec = replace(bench.spec(shell, what="half"), user="0:0", mounts=(VolumeMount(volume, "/v", False),))
    assert bench.run(spec).code == 0
    bench.engine.remove(spec.name)
    house.engine.good = 1
    mount = house.have(version)
    assert house.engine.good == 0, "the folders alone were sent"
    check = f"cd {naming.data_files('wine')} && echo {large.sha256}  deep/large.bin | sha256sum -c"
    assert seen(bench, mount, check)[0] == 0


def test_a_folder_of_the_host_is_shown_itself_when_it_is_the_version(bench: Bench, house: House) -> None:
    version = house.version()
    house.host = replace(house.host, data=(("wine", str(house.folder)),))
    stager = house.stager()
    mount = house.have(version, stager)
    assert mount == FolderMount(str(house.folder), naming.data_files("wine"))
    assert house.have(version, stager) == mount
    code, lines = seen(bench, mount, f"cat {mount.target}/rows.csv; echo no > {mount.target}/rows.csv")
    assert code != 0
    assert "1,2" in lines, "what it prints and what it complains of come in any order"
    (house.folder / "rows.csv").write_bytes(b"9,9\n")
    with pytest.raises(DatasetMoved, match="no longer what it was"):
        house.have(version, stager)


def test_a_link_in_a_folder_leads_to_nothing_of_the_host(bench: Bench, house: House, tmp_path: Path) -> None:
    version = house.version()
    copy = tmp_path / "copy"
    write(copy, FILES)
    (copy / "rows.csv").unlink()
    (copy / "rows.csv").symlink_to(house.folder / "rows.csv")
    house.host = replace(house.host, data=(("wine", str(copy)),))
    assert isinstance(house.have(version), VolumeMount), "it is staged, for the link leads nowhere in a run"
