"""Mistakes in the configuration: every command that needs it says all of them at once and does nothing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.git import GitRepository
from tests.support.installation import COMMAND, Installation
from tests.support.smtp import SmtpServer

COMMANDS = [("validate",), ("serve", "--port", "0"), ("run", "line")]


@pytest.fixture
def broken(tmp_path: Path, git_repository: GitRepository) -> Installation:
    """An installation that nothing executes; the tests spoil its files."""
    made = Installation(tmp_path, git_repository, SmtpServer(), None, "nothing:1")
    made.write()
    made.commit(0.9)
    return made


def command(installation: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "--config", str(installation.config), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def append(installation: Installation, name: str, text: str) -> int:
    """Add lines to a file; the number of the first one."""
    path = installation.config / name
    before = path.read_text()
    path.write_text(before + text)
    return len(before.splitlines()) + 1


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda a: a[0])
def test_all_mistakes_of_all_files_are_said_at_once_with_places(
    broken: Installation, arguments: tuple[str, ...]
) -> None:
    wrong_type = append(broken, "pipelines/line.yaml", "replicates: many\n")
    unknown = append(broken, "pipelines/line.yaml", "artefacts: [model.txt]\n")
    twice = append(broken, "runners/cpu.yaml", "runner: again\n")
    no_label = broken.config / "runners" / "gpu.yaml"
    no_label.write_text("runner: gpu\nimage: nothing:1\nhosts:\n  labels: {gpu: h100}\n")
    done = command(broken, *arguments)
    said = done.stdout + done.stderr
    assert done.returncode == 2
    assert f'line.yaml:{wrong_type}:13: "many" is not possible here; expected a whole number' in said
    assert f'line.yaml:{unknown}:1: unknown key "artefacts"' in said
    assert 'did you mean "artifacts"?' in said
    assert f"cpu.yaml:{twice}:1: " in said
    assert "gpu.yaml:4:" in said
    # A host with them may be added by command: this is a warning.
    assert "warning: no host has all of these labels" in said
    assert "3 errors" in said
    assert "Traceback" not in said
    assert not (broken.folder / "var").exists()


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda a: a[0])
def test_a_yaml_bomb_is_refused_at_once(broken: Installation, arguments: tuple[str, ...]) -> None:
    levels = "".join(
        f"  - &l{n} [{', '.join([f'*l{n - 1}'] * 10) if n else ', '.join('x' * 10)}]\n" for n in range(12)
    )
    append(broken, "pipelines/line.yaml", f"x-bomb:\n{levels}")
    done = command(broken, *arguments)
    assert done.returncode == 2
    assert "line.yaml:" in done.stdout + done.stderr
    assert "20000" in (done.stdout + done.stderr).replace(",", "")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"pipeline: [unclosed\n", "line.yaml:"),
        (b"\xff\xfe\x00pipeline", "line.yaml"),
        (b"", "line.yaml"),
        (b"- a\n- b\n", "not a mapping"),
    ],
    ids=["syntax", "binary", "empty", "list"],
)
def test_a_file_that_is_no_pipeline_is_said(broken: Installation, content: bytes, says: str) -> None:
    (broken.config / "pipelines" / "line.yaml").write_bytes(content)
    done = command(broken, "serve", "--port", "0")
    assert done.returncode == 2
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_without_configuration_is_said_with_the_remedy(tmp_path: Path) -> None:
    done = subprocess.run(
        [COMMAND, "--config", str(tmp_path / "nowhere"), "serve"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert str(tmp_path / "nowhere") in done.stderr
    assert "orchestrator init" in done.stderr


def test_an_unknown_host_or_pipeline_is_said_and_makes_no_run(broken: Installation) -> None:
    nobody = command(broken, "run", "line", "--host", "nope")
    assert nobody.returncode == 2
    assert 'there is no host "nope"' in nobody.stderr
    assert "there are: local" in nobody.stderr
    mistyped = command(broken, "run", "lime")
    assert mistyped.returncode == 2
    assert 'did you mean "line"?' in mistyped.stderr
    assert broken.json("runs", "list") == []


def test_a_host_taken_out_of_the_configuration_ends_the_runs_that_wait_for_it(broken: Installation) -> None:
    broken.main = {"hosts": {"local": {"slots": 1}, "second": {"slots": 1}}}
    broken.write()
    broken.orchestrator("run", "line", "--host", "second", "--no-wait")
    broken.main = {}
    broken.write()
    ended = json.loads(broken.orchestrator("--json", "runs", "resume", "1", expect=3))
    assert (ended["state"], ended["reason"]) == ("errored", "host_unknown")
    assert "no host of the configuration fits second; its hosts are: local" in ended["sentence"]


def test_a_data_folder_that_is_missing_is_a_mistake_of_the_configuration(broken: Installation) -> None:
    for file in broken.data.iterdir():
        file.unlink()
    broken.data.rmdir()
    done = command(broken, "validate")
    assert done.returncode == 2
    assert "../data/rows" in done.stdout or str(broken.data) in done.stdout
    assert "line.yaml:" in done.stdout
