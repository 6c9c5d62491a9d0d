"""Where secrets come from: what is said of names, of stored secrets and of the files that hold values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.config.load import load
from orchestrator.config.models.orchestrator import OrchestratorFile
from orchestrator.config.references import Stored
from tests.support.configuration import ENVIRON, ConfigFolder

PIPELINE = """\
pipeline: w
source: {git: 'https://example.org/w'}
run: {runner: cpu, command: x, secrets: [HF_TOKEN]}
"""


def problems(folder: ConfigFolder, *names: str, why: str = "") -> list[str]:
    """What is wrong where these secrets are stored, or nobody can say which are."""
    stored = Stored(None, why) if why else Stored(frozenset(names))
    result = load(folder.path, environ=ENVIRON, stored=lambda main, base: stored)
    return [str(problem).removeprefix(f"{folder.path}/") for problem in result.problems]


def test_a_stored_secret_needs_no_entry(folder: ConfigFolder) -> None:
    folder.write("pipelines/wine.yaml", PIPELINE)
    assert problems(folder, "HF_TOKEN") == []


def test_a_name_that_is_nowhere_is_an_error_with_the_likely_one(folder: ConfigFolder) -> None:
    folder.write("pipelines/wine.yaml", PIPELINE)
    assert problems(folder, "HF_TOKENS") == [
        (
            'pipelines/wine.yaml:3:42: there is no secret "HF_TOKEN"; expected one of HF_TOKENS, '
            'WANDB_API_KEY, or `orchestrator secrets set HF_TOKEN`; did you mean "HF_TOKENS"?'
        )
    ]


def test_where_nobody_knows_what_is_stored_a_name_is_a_warning(folder: ConfigFolder) -> None:
    folder.write("pipelines/wine.yaml", PIPELINE)
    assert problems(folder, why="the database did not answer") == [
        (
            'pipelines/wine.yaml:3:42: warning: whether the secret "HF_TOKEN" is stored could not be checked'
            ": the database did not answer; expected `orchestrator secrets set HF_TOKEN`, unless it was done"
        )
    ]


def test_the_store_is_asked_only_for_names_that_no_file_has(folder: ConfigFolder) -> None:
    asked: list[Path] = []

    def look(main: OrchestratorFile, base: Path) -> Stored:
        asked.append(base)
        return Stored(frozenset({"HF_TOKEN"}))

    folder.write("pipelines/wine.yaml", PIPELINE.replace("HF_TOKEN", "WANDB_API_KEY"))
    load(folder.path, environ=ENVIRON, check_references=False, stored=look)
    assert asked == []
    folder.write("pipelines/wine.yaml", PIPELINE.replace("HF_TOKEN", "HF_TOKEN, WANDB_API_KEY"))
    folder.write("pipelines/other.yaml", PIPELINE.replace("pipeline: w", "pipeline: o"))
    assert load(folder.path, environ=ENVIRON, check_references=False, stored=look).problems == ()
    assert asked == [folder.path]


@pytest.mark.parametrize(
    "main",
    [
        'secrets: {A: "${{ secrets.HF_TOKEN }}"}',
        'email: {smtp: "smtps://u@m.example.org", from: ci@example.org, password: "${{ secrets.HF_TOKEN }}"}',
        'registries: {r.example.org: {username: u, password: "${{ secrets.HF_TOKEN }}"}}',
    ],
)
def test_values_of_the_main_file_may_be_stored_secrets(folder: ConfigFolder, main: str) -> None:
    folder.write("orchestrator.yaml", f"{main}\n")
    assert problems(folder, "HF_TOKEN") == []
    (missing,) = problems(folder, "HF_TOKENS")
    assert missing.startswith("orchestrator.yaml:1:")
    assert missing.endswith(
        'there is no stored secret "HF_TOKEN"; expected HF_TOKENS, or `orchestrator secrets set HF_TOKEN`; '
        'did you mean "HF_TOKENS"?'
    )


def test_the_database_cannot_hold_the_way_to_itself(folder: ConfigFolder) -> None:
    folder.write(
        "orchestrator.yaml", 'storage: {database: "postgresql://ci:${{ secrets.DB }}@db.example.org/ci"}\n'
    )
    (refused,) = problems(folder, "DB")
    assert "${{ secrets.DB }} is kept in the database, which this is the way to" in refused


def test_an_entry_that_hides_a_stored_secret_is_said(folder: ConfigFolder) -> None:
    (hidden,) = problems(folder, "WANDB_API_KEY")
    assert "warning: WANDB_API_KEY is stored as well; this entry counts" in hidden
    folder.write("orchestrator.yaml", 'secrets: {WANDB_API_KEY: "${{ secrets.WANDB_API_KEY }}"}\n')
    assert problems(folder, "WANDB_API_KEY") == []


@pytest.fixture
def reachable() -> Callable[[Path], None]:
    """Open the folders of a test to others, which pytest makes for us alone."""

    def open_folders(path: Path) -> None:
        for parent in path.parents:
            if not parent.stat().st_mode & 0o001:
                parent.chmod(0o711)

    return open_folders


@pytest.mark.parametrize(
    ("mode", "closed", "warned"), [(0o644, False, True), (0o640, False, False), (0o644, True, False)]
)
def test_a_file_that_every_account_can_read_is_a_warning(
    folder: ConfigFolder, reachable: Callable[[Path], None], mode: int, closed: bool, warned: bool
) -> None:
    vault = folder.root / "vault"
    vault.mkdir()
    (vault / "key").write_text("a value")
    (vault / "key").chmod(mode)
    reachable(vault / "key")
    vault.chmod(0o700 if closed else 0o755)
    folder.write("orchestrator.yaml", 'secrets: {A: "${{ file:../vault/key }}"}\n')
    found = [problem for problem in problems(folder) if "every account of this machine can read" in problem]
    assert len(found) == warned
