"""No configuration reaches the host: its system folders, the orchestrator's state, its socket, its ports."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.configuration import ConfigFolder


@pytest.fixture
def folder(tmp_path: Path) -> ConfigFolder:
    return ConfigFolder(tmp_path)


@pytest.mark.parametrize(
    "path", ["/", "/proc", "/sys", "/var/run", "/run", "/dev", "/etc", "/etc/ssl", "/srv/../etc"]
)
def test_folders_of_the_system_are_no_datasets(folder: ConfigFolder, path: str) -> None:
    problems = folder.problems_with(f"datasets: {{d: {{path: {path}}}}}\n")
    assert len(problems) == 1
    assert problems[0].startswith("4:")
    assert "belongs to the system" in problems[0]


def test_a_symlink_to_the_system_is_no_dataset(folder: ConfigFolder) -> None:
    (folder.root / "innocent").symlink_to("/proc")
    problems = folder.problems_with("datasets: {d: {path: ../innocent}}\n")
    assert len(problems) == 1
    assert "/proc belongs to the system" in problems[0]


@pytest.mark.parametrize("path", ["var", "var/runs", ".", "link"])
def test_the_orchestrators_own_state_is_no_dataset(folder: ConfigFolder, path: str) -> None:
    (folder.root / "var" / "runs").mkdir(parents=True)
    (folder.root / "link").symlink_to("var")
    problems = folder.problems_with(f"datasets: {{d: {{path: ../{path}}}}}\n")
    assert len(problems) == 1
    assert problems[0].startswith("4:22: ")
    assert "holds the orchestrator's own state" in problems[0]


@pytest.mark.parametrize(
    "form",
    [
        "{{dvc: a.dvc, repository: {place}}}",
        "{{dvc: a.dvc, repository: ../code, remote: {place}}}",
        "{{sql: 'sqlite:///{place}/db.sqlite', query: SELECT 1}}",
    ],
)
def test_data_that_dvc_or_sqlite_has_lie_in_no_folder_of_the_system_or_of_the_orchestrator(
    folder: ConfigFolder, form: str
) -> None:
    (folder.root / "var").mkdir(exist_ok=True)
    (folder.root / "code").mkdir()
    (folder.root / "link").symlink_to("var")
    for place, told in (
        (f"{folder.root}/var", "holds the orchestrator's own state, or lies in it"),
        (f"{folder.root}/link", "holds the orchestrator's own state, or lies in it"),
        ("/etc", "belongs to the system"),
    ):
        problems = folder.problems_with(f"datasets: {{d: {form.format(place=place)}}}\n")
        assert [problem for problem in problems if told in problem and problem.startswith("4:")], problems
    problems = folder.problems_with(f"datasets: {{d: {form.format(place=folder.root / 'code')}}}\n")
    assert not [problem for problem in problems if "own state" in problem or "belongs" in problem]


@pytest.mark.parametrize(
    "key", ["volumes", "binds", "privileged", "cap_add", "devices", "mounts", "security_opt"]
)
def test_a_runner_has_no_key_that_opens_the_host(folder: ConfigFolder, key: str) -> None:
    folder.write(
        "runners/cpu.yaml", f"runner: cpu\nimage: x\n{key}: ['/var/run/docker.sock:/var/run/docker.sock']\n"
    )
    problems = folder.problems()
    assert len(problems) == 1
    assert problems[0].startswith("runners/cpu.yaml:3:1: ")


def test_a_run_that_is_root_in_its_container_is_warned_about(folder: ConfigFolder) -> None:
    folder.write("runners/cpu.yaml", 'runner: cpu\nimage: x\nuser: "0:0"\n')
    problems = folder.problems()
    assert len(problems) == 1
    assert problems[0].startswith("runners/cpu.yaml:3:7: warning: runs will be root")


@pytest.mark.parametrize("engine", ["tcp://10.0.0.1:2375", "http://localhost:2375"])
def test_an_engine_on_an_open_port_is_refused(folder: ConfigFolder, engine: str) -> None:
    problems = folder.problems_of_main(f'hosts: {{local: {{engine: "{engine}"}}}}\n')
    assert any("gives root to everyone who reaches it" in problem for problem in problems)


@pytest.mark.parametrize("host", ["0.0.0.0", "'::'", "192.168.1.2", "example.org"])  # noqa: S104 - refused
def test_the_server_does_not_listen_to_the_network_without_users(folder: ConfigFolder, host: str) -> None:
    problems = folder.problems_of_main(f"web: {{host: {host}}}\n")
    assert len(problems) == 1
    assert problems[0].startswith("1:13: ")
    assert "would open the server to the network" in problems[0]


@pytest.mark.parametrize(
    "git",
    [
        "--upload-pack=touch /tmp/x",
        "-x",
        "ext::sh -c id",
        "fd::17",
        "https://h/$(id) x",
        "ext::https://h",
        "",
    ],
)
def test_addresses_that_are_commands_are_no_repositories(folder: ConfigFolder, git: str) -> None:
    problems = folder.problems_of_pipeline(
        f"pipeline: w\nsource: {{git: '{git}'}}\nrun: {{runner: cpu, command: x}}\n"
    )
    assert len(problems) == 1
    assert "is not a repository" in problems[0]


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "~/x", "a\\..\\x"])
@pytest.mark.parametrize("key", ["artifacts", "collect"])
def test_collected_files_stay_inside(folder: ConfigFolder, key: str, path: str) -> None:
    problems = folder.problems_with(f"{key}: ['{path}']\n")
    assert len(problems) == 1
    assert "leaves its folder" in problems[0]
