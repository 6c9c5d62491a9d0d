"""Secrets are references until the start, and no repr, message or stored value holds one in the clear."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config.interpolation import file_reader, resolve
from tests.support.configuration import PIPELINE, ConfigFolder

SECRET = "correct-horse-battery"


@pytest.fixture
def folder(tmp_path: Path) -> ConfigFolder:
    return ConfigFolder(tmp_path)


def main_file(password: str) -> str:
    return (
        f'email: {{smtp: "smtps://ci@mail.example.org", password: "{password}", from: ci@example.org}}\n'
        f'secrets: {{TOKEN: "{password}"}}\n'
    )


@pytest.mark.parametrize(
    "password", [SECRET, "${{ env.PASSWORD }}", "${{ file:key }}", "pre-${{ env.PASSWORD }}"]
)
def test_no_repr_or_dump_of_the_configuration_shows_a_secret(folder: ConfigFolder, password: str) -> None:
    folder.write("key", SECRET)
    folder.write("orchestrator.yaml", main_file(password))
    result = folder.load({"PASSWORD": SECRET})
    assert result.configuration is not None
    main = result.configuration.orchestrator
    shown = [repr(result), str(result), repr(main), str(main), repr(main.model_dump()), str(result.problems)]
    assert main.email is not None
    shown += [repr(main.email), str(main.email.password), f"{main.secrets['TOKEN']}"]
    for text in shown:
        assert SECRET not in text
        assert "pre-" not in text
    resolved = resolve(main.secrets["TOKEN"], {"PASSWORD": SECRET}, file_reader(folder.path))
    assert resolved.endswith(SECRET)


def test_a_secret_written_out_is_warned_about_without_being_shown(folder: ConfigFolder) -> None:
    folder.write("orchestrator.yaml", main_file(SECRET))
    result = folder.load()
    assert [(problem.line, problem.message) for problem in result.warnings] == [
        (1, "the password is written in the file"),
        (2, "a secret is written in the file"),
    ]
    assert SECRET not in " ".join(str(problem) for problem in result.problems)


@pytest.mark.parametrize(
    "main",
    [
        f"email: {{smtp: 'smtps://ci:{SECRET}@mail.example.org', from: ci@example.org}}\n",
        f"email: {{smtp: 'smtps://ci:{SECRET}@mail.example.org:port', from: ci@example.org}}\n",
        f"email: {{smtp: 'mail://ci:{SECRET}@mail.example.org', from: ci@example.org}}\n",
        f"email: {{smtp: 'smtp://h', from: ci@example.org, password: {SECRET}}}\n",
        f"email: {{pasword: {SECRET}}}\n",
        f"secrets: {{A: [{SECRET}]}}\n",
        f"secrets: {{A: {{b: {SECRET}}}}}\n",
        f"storage: {{database: 'mysql://u:{SECRET}@h/d'}}\n",
        f'email: {{password: "{SECRET}\n',
        f"email: {{password: {SECRET}: x}}\n",
    ],
)
def test_messages_about_wrong_secrets_do_not_show_them(folder: ConfigFolder, main: str) -> None:
    problems = folder.problems_of_main(main)
    assert problems
    assert SECRET not in " ".join(problems)


@pytest.mark.parametrize(
    "line",
    [
        'run: {runner: cpu, command: "x ${{ env.TOKEN }}"}',
        'run: {runner: cpu, command: [x, "${{ env.TOKEN }}"]}',
        'run: {runner: cpu, command: x, env: {T: "${{ env.TOKEN }}"}}',
        'run: {runner: cpu, command: x, setup: {run: "x ${{ file:/token }}", key: [k]}}',
    ],
)
def test_secrets_cannot_get_into_what_is_stored_and_shown(folder: ConfigFolder, line: str) -> None:
    text = PIPELINE.splitlines()[:2]
    folder.write("pipelines/wine.yaml", "\n".join([*text, line, ""]))
    problems = folder.problems({"WANDB_API_KEY": "x" * 8, "TOKEN": SECRET})
    assert len(problems) == 1
    assert "what it gives would be stored and shown in the clear" in problems[0]
    assert SECRET not in problems[0]


def test_the_content_of_a_file_cannot_get_into_a_plain_value(folder: ConfigFolder) -> None:
    folder.write("key", SECRET)
    problems = folder.problems_of_main('web: {url: "http://${{ file:key }}"}\n')
    assert len(problems) == 1
    assert "may not stand here" in problems[0]
    assert SECRET not in problems[0]


def test_a_password_in_a_repository_address_is_refused_unseen(folder: ConfigFolder) -> None:
    problems = folder.problems_of_pipeline(
        f"pipeline: w\nsource: {{git: 'https://ci:{SECRET}@h.org/w'}}\nrun: {{runner: cpu, command: x}}\n"
    )
    assert len(problems) == 1
    assert "a password in a repository's address" in problems[0]
    assert SECRET not in problems[0]
