"""``orchestrator secrets``: values go in and never come out; who did what is in the journal."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from orchestrator.bootstrap import Application, read_configuration
from tests.unit.cli.conftest import PIPELINE, Command

VALUE = "correct-horse-battery-staple"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """What stands on standard input."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(raw))
    return raw


def wants(folder: Path, *names: str) -> None:
    asked = PIPELINE.replace("python train.py}", f"python train.py, secrets: [{', '.join(names)}]}}")
    (folder / "pipelines" / "wine.yaml").write_text(asked)


def entries(folder: Path, text: str) -> None:
    main = folder / "orchestrator.yaml"
    main.write_text(main.read_text() + f"secrets: {text}\n")


def stored(command: Command, folder: Path, name: str, value: str = VALUE) -> None:
    file = folder.parent / "value.txt"
    file.write_text(value)
    assert command("secrets", "set", name, "--from-file", str(file)).code == 0
    file.unlink()


def value_of(folder: Path, name: str) -> str | None:
    app = Application(read_configuration(folder))
    try:
        return app.vault.get(name)
    finally:
        app.close()


def history(folder: Path) -> list[tuple[str, str, str]]:
    app = Application(read_configuration(folder))
    try:
        return [(e.subject, e.after, e.reason) for e in reversed(app.store.journal.latest())]
    finally:
        app.close()


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
@pytest.mark.parametrize("option", [(), ("--stdin",)])
def test_a_value_is_read_from_standard_input(
    command: Command, folder: Path, typed: io.BytesIO, ending: str, option: tuple[str, ...]
) -> None:
    wants(folder, "TOKEN")
    typed.write(f" {VALUE}\nü {ending}".encode())
    typed.seek(0)
    done = command("secrets", "set", "TOKEN", *option)
    assert (done.code, done.out, done.err) == (0, "", "TOKEN is stored\n")
    assert value_of(folder, "TOKEN") == f" {VALUE}\nü "


def test_a_value_as_an_argument_is_refused_with_the_reason(command: Command, folder: Path) -> None:
    for arguments in (("TOKEN", VALUE), (f"TOKEN={VALUE}",)):
        done = command("secrets", "set", *arguments)
        assert done.code == 2
        assert "never taken from the command line" in done.err
        assert "orchestrator secrets set TOKEN\n" in done.err
        assert VALUE not in done.err
    assert not (folder.parent / "var").exists()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TOKEN", b"", "empty"),
        ("TOKEN", b"\n", "empty"),
        ("TOKEN", b"a\0b", "zero byte"),
        ("TOKEN", b"\xff\xfe", "not UTF-8"),
        ("TOKEN", b"x" * (64 * 1024 + 1), "too long"),
        ("my-token", b"x", "cannot be the name of a secret"),
        ("MLCI_SEED", b"x", "cannot be the name of a secret"),
    ],
)
def test_what_no_run_could_have_is_refused(
    command: Command, folder: Path, typed: io.BytesIO, name: str, value: bytes, says: str
) -> None:
    typed.write(value)
    typed.seek(0)
    done = command("secrets", "set", name)
    assert done.code == 2
    assert says in done.err


def test_the_listing_tells_everything_but_values(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINE_TOKEN", VALUE)
    monkeypatch.delenv("NOT_THERE", raising=False)
    stored(command, folder, "STORED")
    stored(command, folder, "HIDDEN", "another-value-below")
    stored(command, folder, "STORED")
    entries(folder, '{FROM_ENV: "${{ env.WINE_TOKEN }}", GONE: "${{ env.NOT_THERE }}", HIDDEN: written}')
    wants(folder, "STORED", "FROM_ENV")
    shown = command("--json", "secrets", "list")
    assert shown.code == 0
    rows = {row["name"]: row for row in json.loads(shown.out)}
    assert list(rows) == ["FROM_ENV", "GONE", "HIDDEN", "STORED"]
    assert rows["STORED"]["from"] == "the encrypted store"
    assert (rows["STORED"]["version"], rows["STORED"]["used_by"]) == (2, ["wine"])
    assert "@" in rows["STORED"]["set_by"]
    assert (rows["FROM_ENV"]["from"], rows["FROM_ENV"]["stored"]) == ("environment WINE_TOKEN", False)
    assert [name for name, row in rows.items() if not row["resolves"]] == ["GONE"]
    assert "NOT_THERE is not set" in rows["GONE"]["problem"]
    assert (rows["HIDDEN"]["from"], rows["HIDDEN"]["stored"]) == ("orchestrator.yaml", True)
    table = command("secrets", "list")
    checked = command("secrets", "check")
    assert checked.code == 3
    for text in (shown.out, table.out, checked.out, shown.err, table.err, checked.err):
        assert VALUE not in text
        assert "another-value-below" not in text


def test_a_secret_that_is_needed_is_removed_with_a_warning(
    command: Command, folder: Path, typed: io.BytesIO
) -> None:
    stored(command, folder, "TOKEN")
    wants(folder, "TOKEN")
    asked = command("secrets", "remove", "TOKEN")
    assert asked.code == 2
    assert "say --yes" in asked.err
    assert value_of(folder, "TOKEN") == VALUE
    done = command("secrets", "remove", "TOKEN", "--yes")
    assert (done.code, done.err) == (0, "warning: TOKEN is needed by wine\nTOKEN is removed\n")
    assert value_of(folder, "TOKEN") is None
    assert command("secrets", "remove", "TOKEN", "--yes").code == 2


def test_what_orchestrator_yaml_refers_to_is_listed_as_used_and_missed_when_removed(
    command: Command, folder: Path
) -> None:
    stored(command, folder, "SMTP_PASSWORD")
    entries(folder, '{OTHER: "${{ secrets.SMTP_PASSWORD }}"}')
    rows = {row["name"]: row for row in json.loads(command("--json", "secrets", "list").out)}
    assert rows["SMTP_PASSWORD"]["places"] == ["secrets.OTHER"]
    assert "secrets.OTHER" in command("secrets", "list").out
    done = command("secrets", "remove", "SMTP_PASSWORD", "-y")
    assert done.err.startswith("warning: SMTP_PASSWORD is needed by secrets.OTHER\n")


def test_storing_says_when_nothing_uses_the_name(command: Command, folder: Path, typed: io.BytesIO) -> None:
    wants(folder, "TOKEN")
    for name, told in (("TOKEM", True), ("TOKEN", False)):
        typed.seek(0)
        typed.write(VALUE.encode())
        typed.seek(0)
        assert ("nothing uses it yet" in command("secrets", "set", name).err) is told


def test_removing_an_unknown_name_says_what_was_meant(command: Command, folder: Path) -> None:
    stored(command, folder, "WANDB_API_KEY")
    entries(folder, "{ENTRY: x-written-x}")
    done = command("secrets", "remove", "WANDB_KEY", "--yes")
    assert 'did you mean "WANDB_API_KEY"?' in done.err
    assert "under secrets: of orchestrator.yaml" in command("secrets", "remove", "ENTRY", "--yes").err


def test_every_change_is_in_the_journal_without_a_value(command: Command, folder: Path) -> None:
    stored(command, folder, "TOKEN")
    command("secrets", "rotate")
    command("secrets", "rotate", "--retire")
    command("secrets", "remove", "TOKEN", "--yes")
    assert history(folder) == [
        ("secret TOKEN", "set", ""),
        ("secrets", "", "1 encrypted with the newest key"),
        ("secrets", "", "a new key"),
        ("secrets", "", "1 older key forgotten"),
        ("secret TOKEN", "removed", ""),
    ]


def test_a_missing_secret_can_be_stored_although_a_pipeline_waits_for_it(
    command: Command, folder: Path
) -> None:
    wants(folder, "TOKEN")
    stored(command, folder, "OTHER")
    for refused in (("validate",), ("plan", "wine"), ("run", "wine")):
        done = command(*refused)
        assert done.code == 2, refused
        assert 'there is no secret "TOKEN"' in done.out + done.err
    assert command("runs", "list").code == 0
    stored(command, folder, "TOKEN")
    assert command("validate").code == 0


def test_validate_says_what_it_cannot_know_without_a_database(command: Command, folder: Path) -> None:
    wants(folder, "TOKEN")
    done = command("validate")
    assert done.code == 0
    assert "wine.yaml:5:" in done.out
    assert (
        'warning: whether the secret "TOKEN" is stored could not be checked: there is no database' in done.out
    )
    assert not (folder.parent / "var").exists()


def test_the_key_is_where_the_environment_says(
    command: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "elsewhere.key"
    monkeypatch.setenv("ORCHESTRATOR_SECRET_KEY_FILE", str(place))
    stored(command, folder, "TOKEN")
    assert place.stat().st_mode & 0o777 == 0o600
    assert not (folder.parent / "var" / "secret.key").exists()
    monkeypatch.delenv("ORCHESTRATOR_SECRET_KEY_FILE")
    lost = command("secrets", "check")
    assert lost.code == 3
    assert "does not exist" in " ".join(lost.out.split())
    main = folder / "orchestrator.yaml"
    main.write_text(main.read_text() + f"storage: {{path: ../var, key: {place}}}\n")
    assert command("secrets", "check").code == 0


def test_the_key_may_be_a_credential_of_systemd(
    command: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(command, folder, "TOKEN")
    key = folder.parent / "var" / "secret.key"
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    key.rename(credentials / "orchestrator.key").chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert command("secrets", "check").code == 0
    assert command("secrets", "rotate").code == 2
    assert value_of(folder, "TOKEN") == VALUE
