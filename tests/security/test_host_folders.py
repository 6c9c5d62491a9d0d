"""Folders of a host in runs: the administrator's choice, and only what is the dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import docker
import pytest

from orchestrator.domain.errors import EngineError
from orchestrator.ports.engine import FolderMount
from tests.support.containers import docker_bench
from tests.support.installation import Installation

CLOSED = ["/", "/etc", "/var/run", "/var/run/docker.sock", "/proc", "/sys", "/root", "/var/lib/docker"]


def with_data(installation: Installation, path: Path | str) -> None:
    local = {"engine": installation.engine, "slots": 2, "min_free": "0", "data": {"rows": str(path)}}
    installation.main = {"hosts": {"local": local}}
    installation.checks = ("accuracy >= 0.5",)
    installation.write()


@pytest.mark.parametrize("path", CLOSED[:3])
def test_a_folder_of_the_system_is_refused_with_file_and_line(installation: Installation, path: str) -> None:
    with_data(installation, path)
    said = installation.orchestrator("validate", expect=2)
    assert "orchestrator.yaml:" in said
    assert path in said


def test_no_container_is_made_with_such_a_folder(docker_engine: docker.DockerClient, base_image: str) -> None:
    with docker_bench(base_image) as bench:
        for path in CLOSED:
            spec = replace(bench.spec("true"), folders=(FolderMount(path, "/data"),))
            with pytest.raises(EngineError, match="is not mounted"):
                bench.engine.create(spec)
            assert bench.engine.find(spec.name) is None


@pytest.mark.parametrize(
    ("pipeline", "key"),
    [
        ({"datasets": {"rows": {"path": "../data/rows", "data": {"rows": "/srv/rows"}}}}, "data"),
        ({"datasets": {"rows": {"path": "../data/rows", "on_host": "local"}}}, "on_host"),
        ({"data": {"rows": "/srv/rows"}}, "data"),
        ({"hosts": {"local": {"data": {"rows": "/srv/rows"}}}}, "hosts"),
    ],
)
def test_a_pipeline_can_name_no_folder_of_a_host(
    installation: Installation, pipeline: dict[str, object], key: str
) -> None:
    with_data(installation, "/srv/rows")
    installation.orchestrator("validate")
    installation.pipeline = pipeline
    installation.write()
    assert f'unknown key "{key}"' in installation.orchestrator("validate", expect=2)


def test_a_run_sees_a_folder_that_is_the_version_and_cannot_write_there(
    installation: Installation, tmp_path: Path
) -> None:
    tries = "touch $MLCI_DATA_ROWS/new 2>/dev/null || echo read-only; cat $MLCI_DATA_ROWS/*; python3 train.py"
    installation.command = f"sh -c '{tries}'"
    installation.write()
    with_data(installation, installation.data)
    tmp_path.chmod(0o755)
    installation.commit(0.8)
    installation.orchestrator("run", "line")
    log = installation.orchestrator("runs", "logs", "1")
    assert "read-only\n1\n2\n" in log
    assert sorted(path.name for path in installation.data.iterdir()) == ["a.csv"]


def test_a_folder_with_anything_beside_the_version_is_not_shown(
    installation: Installation, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.csv").write_text("1\n2\n")
    (other / "id_ed25519").write_text("a key that somebody left there")
    (other / "socket").symlink_to("/var/run/docker.sock")
    installation.command = "sh -c 'ls $MLCI_DATA_ROWS; python3 train.py'"
    with_data(installation, other)
    tmp_path.chmod(0o755)
    installation.commit(0.8)
    installation.orchestrator("run", "line")
    log = installation.orchestrator("runs", "logs", "1")
    assert log.startswith("a.csv\nline 0\n")
    assert "id_ed25519" not in log
