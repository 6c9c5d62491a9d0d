"""References to the environment and to files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.config.interpolation import (
    Reference,
    ReferenceSyntaxError,
    Text,
    file_reader,
    parse,
    resolve,
)
from orchestrator.domain.errors import SecretMissing


def no_files(name: str) -> str:
    raise AssertionError(f"{name} was read")


def test_text_and_references_are_told_apart() -> None:
    assert parse("a ${{ env.X }} b ${{file: ~/key }}") == Text(
        ("a ", Reference("env", "X"), " b ", Reference("file", "~/key"))
    )


def test_shell_variables_are_left_alone() -> None:
    assert parse("$HOME ${HOME} $(id) {{ x }}") == Text(("$HOME ${HOME} $(id) {{ x }}",))


def test_references_are_replaced_and_the_result_is_not_looked_at_again() -> None:
    value = resolve(parse("a${{ env.X }}b${{ env.Y }}"), {"X": "${{ env.Y }}", "Y": "2"}, no_files)
    assert value == "a${{ env.Y }}b2"


def test_plain_text_resolves_to_itself() -> None:
    assert resolve("as it is", {}, no_files) == "as it is"


def test_a_file_loses_its_last_line_end_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b" one\ntwo \r\n")
    assert resolve(parse("${{ file:key }}"), {}, file_reader(tmp_path)) == " one\ntwo "


@pytest.mark.parametrize("environ", [{}, {"X": ""}])
def test_an_unset_or_empty_variable_is_missing(environ: dict[str, str]) -> None:
    with pytest.raises(SecretMissing, match="environment variable X is not set"):
        resolve(parse("${{ env.X }}"), environ, no_files)


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"x" * 70_000])
def test_a_file_without_a_usable_value_is_missing(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    with pytest.raises(SecretMissing):
        resolve(parse("${{ file:key }}"), {}, file_reader(tmp_path))


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("${{ env:X }}", "${{ env.X }}"),
        ("${{ $X }}", "${{ env.X }}"),
        ("${{ X }}", "${{ env.X }}"),
        ("${{ github.sha }}", ""),
        ("${{ }}", ""),
        ("a ${{ env.X", ""),
    ],
)
def test_other_expressions_are_refused_with_the_likely_one(text: str, suggestion: str) -> None:
    with pytest.raises(ReferenceSyntaxError) as caught:
        parse(text)
    assert caught.value.suggestion == suggestion


def test_a_stored_secret_is_read_by_its_name_and_nothing_else_is() -> None:
    stored = {"WANDB": "a value"}
    value = parse("x-${{ secrets.WANDB }}-${{ secrets.WANDB }}")
    assert resolve(value, {"WANDB": "another"}, no_files, stored.get) == "x-a value-a value"
    assert repr(value) == "Text(***${{ secrets.WANDB }}***${{ secrets.WANDB }})"


@pytest.mark.parametrize("read_stored", [None, {"OTHER": "a value"}.get])
def test_a_secret_that_is_not_stored_is_missing(read_stored: Callable[[str], str | None] | None) -> None:
    with pytest.raises(SecretMissing, match="no stored secret WANDB; `orchestrator secrets set WANDB`"):
        resolve(parse("${{ secrets.WANDB }}"), {"WANDB": "another"}, no_files, read_stored)


def test_a_credential_of_systemd_is_read_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "smtp.password").write_text("hunter2\n")
    value = parse("${{ credential:smtp.password }}")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert resolve(value, environ, file_reader(tmp_path / "elsewhere")) == "hunter2"
    with pytest.raises(SecretMissing, match="systemd started no service with credentials here"):
        resolve(value, {}, file_reader(tmp_path))


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", ""])
def test_a_credential_cannot_lead_out_of_its_folder(name: str) -> None:
    with pytest.raises(ReferenceSyntaxError):
        parse(f"${{{{ credential:{name} }}}}")
