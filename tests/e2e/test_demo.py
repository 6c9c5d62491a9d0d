"""The demo, as a person starts it: the whole line on real input."""

from __future__ import annotations

import email
import email.policy
import os
import subprocess
import sys
from pathlib import Path

import docker
import pytest

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["passed", "broken", "failed, still broken", "fixed", "passed", "passed"]


def demo(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.demo", "--dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=900,
    )


@pytest.mark.usefixtures("base_image")
def test_the_demo_trains_judges_deploys_and_mails_and_cleans_up(
    tmp_path: Path, docker_engine: docker.DockerClient
) -> None:
    folder = tmp_path / "demo"
    ended = demo(folder)
    assert ended.returncode == 0, ended.stdout
    assert "checks hold" in ended.stdout
    subjects = [
        str(email.message_from_bytes(path.read_bytes(), policy=email.policy.default)["Subject"])
        for path in sorted((folder / "mails").glob("*.eml"))
    ]
    assert [subject.removeprefix("[wine-quality] ").partition(":")[0] for subject in subjects] == WORDS
    left = docker_engine.containers.list(
        all=True, filters={"label": f"mlci.demo={folder}"}, ignore_removed=True
    )
    assert left == []


def test_a_folder_with_somebodys_files_is_left_alone(tmp_path: Path, base_image: str) -> None:
    kept = tmp_path / "thesis.txt"
    kept.write_text("three years of work")
    ended = demo(tmp_path)
    assert ended.returncode == 3, ended.stdout
    assert "--dir" in ended.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert kept.read_text() == "three years of work"


def test_a_missing_engine_is_said_with_the_remedy(tmp_path: Path) -> None:
    ended = demo(tmp_path / "demo", DOCKER_HOST=f"unix://{tmp_path}/nothing.sock")
    assert ended.returncode == 3, ended.stdout
    assert "make engine" in ended.stdout
    assert not (tmp_path / "demo").exists()
