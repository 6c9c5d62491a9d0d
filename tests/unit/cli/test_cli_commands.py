"""The list of commands: quick to print, complete, and documented."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from orchestrator.cli.main import COMMANDS, cli
from tests.unit.cli.conftest import Command

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"
HEAVY = (
    "docker",
    "paramiko",
    "sqlalchemy",
    "pydantic",
    "fastapi",
    "uvicorn",
    "rich",
    "structlog",
    "yaml",
    "jinja2",
)
EVERYWHERE = {"config", "json", "verbose"}


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from leaves(below, (*path, name))


ALL = dict(leaves(cli))


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import json, sys; from orchestrator.cli.main import execute; code = execute(['--help']);"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules}"
        " | {name for name in sys.modules if name.startswith('orchestrator')})), file=sys.stderr);"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = json.loads(done.stderr)
    assert "orchestrator.cli.main" in imported
    assert [name for name in (*HEAVY, "orchestrator.bootstrap") if name in imported] == []


def test_help_lists_every_command_with_what_it_does(command: Command) -> None:
    listed = command("--help")
    assert listed.code == 0
    for name, (_, _, help_text) in COMMANDS.items():
        assert f"  {name}" in listed.out
        assert help_text in listed.out


@pytest.mark.parametrize("group", sorted({name.split()[0] for name in ALL if " " in name}))
def test_help_of_a_group_cuts_no_text_short(command: Command, group: str) -> None:
    listed = command(group, "--help").out.partition("Commands:")[2]
    assert listed
    assert "..." not in listed


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_command_is_documented_with_its_options(name: str) -> None:
    _, found, rest = PAGE.read_text().partition(f"### `orchestrator {name}`\n")
    assert found, f"docs/cli.md has no section for {name}"
    section = rest.partition("\n### ")[0]
    for parameter in ALL[name].params:
        if isinstance(parameter, click.Option) and parameter.name not in EVERYWHERE:
            for option in (*parameter.opts, *parameter.secondary_opts):
                assert f"`{option}`" in section, f"docs/cli.md does not explain {option} of {name}"


def test_no_documented_command_is_missing() -> None:
    documented = {
        line.removeprefix("### `orchestrator ").removesuffix("`")
        for line in PAGE.read_text().splitlines()
        if line.startswith("### `orchestrator ")
    }
    assert documented == set(ALL)


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_command_takes_the_global_options_after_its_name(name: str) -> None:
    assert {parameter.name for parameter in ALL[name].params} >= EVERYWHERE


def test_an_unknown_command_is_wrong_usage_with_a_suggestion(command: Command) -> None:
    ended = command("rums")
    assert ended.code == 2
    assert 'There is no command "rums". Did you mean "run' in ended.err
    assert ended.out == ""


@pytest.mark.parametrize("group", ["runs", "datasets", "baselines", "deployments", "images", "hosts", "db"])
def test_an_unknown_command_of_a_group_is_told_in_the_same_way(command: Command, group: str) -> None:
    ended = command(group, "zzz")
    assert ended.code == 2
    assert f'There is no command "{group} zzz". There are: ' in ended.err


def test_a_misspelt_command_of_a_group_is_suggested(command: Command) -> None:
    assert 'There is no command "runs lsit". Did you mean "list"?' in command("runs", "lsit").err


def test_completion_offers_the_pipelines_of_the_folder(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from orchestrator.cli.main import main; main()"],
        env={
            "_ORCHESTRATOR_COMPLETE": "bash_complete",
            "COMP_WORDS": "orchestrator run w",
            "COMP_CWORD": "2",
            "ORCHESTRATOR_CONFIG": str(folder),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["plain,wine"]
