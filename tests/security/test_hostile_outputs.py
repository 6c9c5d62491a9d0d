"""Archive tricks on collecting, each made by a real container that really does it."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import docker
import pytest

from orchestrator.adapters.collectors import format_readers
from orchestrator.adapters.files.blobs import FolderBlobs
from orchestrator.domain.pipeline import Execution, Limits, NamedImage, Pipeline, RunnerSpec, SourceSpec
from orchestrator.domain.run import Reason
from orchestrator.services import naming
from orchestrator.services.archive import write_tar
from orchestrator.services.collect import Collected, OutputCollector
from orchestrator.services.prepare import folders_head
from tests.support.containers import Bench, docker_bench


@dataclass
class Site:
    """Runs a line of shell as a training, and collects what it left."""

    bench: Bench
    blobs: FolderBlobs
    folder: Path

    def collected(
        self,
        shell: str,
        *,
        collect: tuple[str, ...] = (),
        artifacts: tuple[str, ...] = (),
        limits: Limits | None = None,
    ) -> Collected:
        spec = replace(self.bench.spec(shell), workdir=naming.WORKSPACE)
        self.bench.engine.create(spec)
        checkout = self.folder / "checkout"
        checkout.mkdir()
        with (self.folder / "code.tar").open("w+b") as tar:
            write_tar(checkout, tar, 1000, 1000, naming.WORKSPACE.lstrip("/"))
            tar.seek(0)
            self.bench.engine.put(spec.name, "/", tar)
        self.bench.engine.put(spec.name, "/", io.BytesIO(folders_head(1000, 1000, {}) + bytes(1024)))
        self.bench.engine.start(spec.name)
        ended = self.bench.ended(spec.name)
        assert ended.code == 0, [line.text for line in self.bench.engine.logs(spec.name, None)]
        pipeline = Pipeline(
            "line",
            (SourceSpec("code", "https://example.org/code.git", ("main",)),),
            RunnerSpec("cpu", NamedImage(self.bench.image)),
            Execution(("sh", "-c", shell)),
            collect=collect,
            artifacts=artifacts,
            limits=limits or Limits(),
        )
        return OutputCollector(self.blobs, format_readers()).collect(self.bench.engine, spec.name, pipeline)

    def kept(self, found: Collected) -> dict[str, bytes]:
        """What is kept, by path."""
        return {a.path: self.place(a.sha256).read_bytes() for a in found.artifacts}

    def place(self, sha256: str) -> Path:
        """Where the store of artifacts has a content."""
        return self.folder / "blobs" / sha256[:2] / sha256

    def stored_bytes(self) -> int:
        """What lies in the store of artifacts, in blocks really used."""
        root = self.folder / "blobs"
        return sum(path.stat().st_blocks * 512 for path in root.rglob("*") if path.is_file())


@pytest.fixture
def site(docker_engine: docker.DockerClient, base_image: str, tmp_path: Path) -> Iterator[Site]:
    with docker_bench(base_image) as bench:
        yield Site(bench, FolderBlobs(tmp_path / "blobs"), tmp_path)


def why(found: Collected, path: str) -> str:
    """Why a path was left out; it has to be listed exactly once."""
    (reason,) = [entry.partition(": ")[2] for entry in found.left_out if entry.startswith(f"{path}: ")]
    return reason


def test_a_symlink_and_then_a_file_behind_it_leads_out_of_nothing(site: Site, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("the host's own")
    found = site.collected(
        f"cd /mlci/output; ln -s {outside} way; ln -s {outside}/secret.txt stolen.txt;"
        "ln -s /etc/shadow shadow; mkdir real; echo mine > real/file;"
        "ln -s real again; echo more > again/more; echo ok > ok"
    )
    assert site.kept(found) == {"real/file": b"mine\n", "real/more": b"more\n", "ok": b"ok\n"}
    assert "symbolic link" in why(found, "way")
    assert "symbolic link" in why(found, "stolen.txt")
    assert "symbolic link" in why(found, "shadow")
    assert [path.name for path in outside.iterdir()] == ["secret.txt"]


def test_a_hard_link_to_a_file_elsewhere_is_not_kept_as_a_link(site: Site) -> None:
    found = site.collected("cd /mlci/output; echo a > first; ln first second")
    kept = site.kept(found)
    assert kept.pop("first", b"a\n") == b"a\n"
    assert kept.pop("second", b"a\n") == b"a\n"
    assert kept == {}
    assert len([entry for entry in found.left_out if "hard link" in entry]) == 1


def test_names_that_look_like_a_way_out_stay_inside(site: Site, tmp_path: Path) -> None:
    found = site.collected(
        "cd /mlci/output;"
        "for n in '...' '..%2fup' '..\\up' '~' '-rf' 'a b' '$(id)'; do echo $n > \"$n\"; done;"
        "for n in 'new\\nline' '\\033[2Jclear' '\\377'; do echo x > \"$(printf \"$n\")\"; done"
    )
    assert set(site.kept(found)) == {"...", "..%2fup", "..\\up", "~", "-rf", "a b", "$(id)"}
    assert len(found.left_out) == 3
    assert all(entry.isprintable() for entry in found.left_out)
    assert {path.name for path in tmp_path.iterdir()} == {"blobs", "checkout", "code.tar"}


def test_the_output_folder_itself_cannot_become_a_link(site: Site) -> None:
    found = site.collected(
        "exec 2>/dev/null; rmdir /mlci/output && echo gone > /workspace/gone;"
        "mv /mlci/output /mlci/other && echo moved > /workspace/gone; echo ok > /mlci/output/ok",
        artifacts=("gone",),
    )
    assert site.kept(found) == {"ok": b"ok\n"}


def test_a_declared_folder_that_became_a_link_gives_nothing_of_the_host(site: Site, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("the host's own")
    found = site.collected(
        f"ln -s {outside} /workspace/plots; mkdir -p /workspace/deep; ln -s {outside} /workspace/deep/er",
        artifacts=("plots/*.txt", "deep/er/*.txt"),
    )
    assert site.kept(found) == {}


def test_a_metrics_file_that_is_a_link_is_not_read_and_never_followed(site: Site) -> None:
    found = site.collected("ln -s /etc/hostname /workspace/metrics.json", collect=("metrics.json",))
    assert found.problem is not None
    assert found.problem[0] is Reason.INVALID_METRICS
    assert found.metrics == []
    assert "symbolic link" in why(found, "metrics.json")


def test_pipes_and_sockets_are_listed_and_block_nothing(site: Site) -> None:
    began = time.monotonic()
    found = site.collected(
        "cd /mlci/output; mkfifo pipe; echo ok > ok;"
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'"
    )
    assert site.kept(found) == {"ok": b"ok\n"}
    assert "named pipe" in why(found, "pipe")
    assert time.monotonic() - began < 30


def test_a_device_cannot_even_be_made(site: Site) -> None:
    found = site.collected("cd /mlci/output; mknod disk b 8 0 2> said; mknod mem c 1 1 2>> said; ls > list")
    kept = site.kept(found)
    assert kept["said"].count(b"Operation not permitted") == 2
    assert kept["list"] == b"list\nsaid\n"


def test_a_sparse_file_of_50_gb_is_refused_quickly_and_nothing_of_it_is_stored(site: Site) -> None:
    began = time.monotonic()
    found = site.collected("cd /mlci/output; echo ok > a-ok; truncate -s 50G huge")
    assert time.monotonic() - began < 30
    assert site.kept(found) == {"a-ok": b"ok\n"}
    assert any(entry.startswith("huge: ") for entry in found.left_out)
    assert site.stored_bytes() < 1 << 20
    site.bench.engine.remove(site.bench.name())
    assert site.bench.engine.find(site.bench.name()) is None


def test_files_that_their_owner_cannot_read_are_kept_and_only_for_us(site: Site) -> None:
    found = site.collected(
        "cd /mlci/output; mkdir d; echo a > d/none; echo b > suid; chmod 0 d/none; chmod 0 d; chmod 6777 suid"
    )
    assert site.kept(found) == {"d/none": b"a\n", "suid": b"b\n"}
    for artifact in found.artifacts:
        assert site.place(artifact.sha256).stat().st_mode & 0o7777 == 0o600


def test_thousands_of_files_neither_fill_the_store_nor_the_list(site: Site) -> None:
    began = time.monotonic()
    found = site.collected(
        "cd /mlci/output; python3 -c 'for n in range(20000): open(str(n), \"w\").write(str(n))'",
        limits=Limits(files=50),
    )
    assert time.monotonic() - began < 60
    assert len(found.artifacts) == 50
    assert len(found.left_out) < 1010, "the list becomes a row of the database, and a page"
    assert re.fullmatch(r"1\d{4} more entries were left out", found.left_out[-1])
    assert "files, storage.limits.files" in found.left_out[0]


def test_files_over_the_limit_in_size_are_listed_and_leave_nothing(site: Site) -> None:
    found = site.collected(
        "cd /mlci/output; head -c 3000000 /dev/zero > a; echo ok > b;"
        "for n in c d e; do head -c 900000 /dev/zero > $n; done",
        limits=Limits(file_size=1_000_000, total_size=2_000_000),
    )
    assert sorted(site.kept(found), key=str)[0] == "b"
    assert len(site.kept(found)) == 3
    assert "more than one file may have" in why(found, "a")
    assert sum(a.size for a in found.artifacts) <= 2_000_000
    incoming = site.folder / "blobs" / "incoming"
    assert list(incoming.iterdir()) == []


def test_metrics_are_numbers_and_never_run(site: Site, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    evil = f'cos\\nsystem\\n(S"touch {canary}"\\ntR.'
    found = site.collected(
        f"cd /workspace; printf '{evil}' > metrics.json; printf '{evil}' > /mlci/output/model.pkl",
        collect=("metrics.json",),
    )
    assert found.problem is not None
    assert found.problem[0] is Reason.INVALID_METRICS
    assert not canary.exists()
    assert "model.pkl" in site.kept(found)


def test_a_metrics_file_nested_without_end_is_refused_not_crashed_on(site: Site) -> None:
    deep = 'open("/workspace/metrics.json", "w").write("[" * 200000)'
    found = site.collected(f"python3 -c '{deep}'", collect=("metrics.json",))
    assert found.problem is not None
    assert found.problem[0] is Reason.INVALID_METRICS
    assert len(json.dumps(found.problem[1])) < 2000
