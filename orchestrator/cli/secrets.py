"""``orchestrator secrets``: values that runs and the orchestrator itself need, encrypted in the database."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from orchestrator.cli.groups import CommandGroup
from orchestrator.cli.settings import PASSED, UNKNOWN, global_options, this, who

if TYPE_CHECKING:
    from orchestrator.bootstrap.application import Application

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MOST_BYTES: Final = 64 * 1024
_NEVER_AN_ARGUMENT: Final = (
    "a value is never taken from the command line: everybody on this machine could see it in the list of"
    " processes, and it would stay in the shell's history"
)


@click.group(cls=CommandGroup)
@global_options
def secrets() -> None:
    """Keep secrets encrypted in the database, and tell where each secret comes from."""


@secrets.command("set", context_settings={"allow_extra_args": True})
@click.argument("name")
@click.option(
    "--from-file",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Read the value from a file.",
)
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the value from standard input.")
@click.pass_context
@global_options
def set_secret(context: click.Context, name: str, file: Path | None, from_stdin: bool) -> int:
    """Store a secret under NAME, in place of an older value.

    On a terminal it asks for the value without showing it; else it reads standard input. One line end at
    the end is dropped. The value is never an argument: the list of processes and the shell's history show
    those.
    """
    from orchestrator.cli.output import say
    from orchestrator.domain.errors import InvalidInput
    from orchestrator.observe import SHORTEST_SECRET

    if context.args or "=" in name:
        raise InvalidInput(_NEVER_AN_ARGUMENT, f"orchestrator secrets set {name.partition('=')[0]}")
    if not _NAME.fullmatch(name) or name.startswith("MLCI_"):
        raise InvalidInput(
            f'"{name}" cannot be the name of a secret',
            "runs get it as an environment variable: letters, digits and _, and not MLCI_ at the beginning",
        )
    if file is not None and from_stdin:
        raise InvalidInput("--from-file and --stdin exclude each other", "give one of them")
    with this().application() as app:
        value = _checked(_read(name, file, from_stdin))
        app.masker.add(value)
        row = app.vault.set(name, value, who())
        say(f"{name} is stored" + (f", its value number {row.version}" if row.version > 1 else ""))
        if len(value) < SHORTEST_SECRET:
            say(f"warning: it has fewer than {SHORTEST_SECRET} characters, which no log can mask")
        if name in app.config.orchestrator.secrets:
            say(f"warning: {name} under secrets: of orchestrator.yaml counts more than what is stored")
        elif not _users(app, name):
            say(f"nothing uses it yet: name it in run.secrets, or write ${{{{ secrets.{name} }}}}")
        return PASSED


def _read(name: str, file: Path | None, from_stdin: bool) -> bytes:
    from orchestrator.domain.errors import InvalidInput

    if file is not None:
        try:
            with file.open("rb") as stream:
                return stream.read(_MOST_BYTES + 1)
        except OSError as error:
            raise InvalidInput(f"{file} cannot be read: {error.strerror}") from error
    if not from_stdin and sys.stdin.isatty():
        asked = click.prompt(f"value of {name}", hide_input=True, confirmation_prompt=True, err=True)
        return str(asked).encode("utf-8", "surrogateescape")
    return sys.stdin.buffer.read(_MOST_BYTES + 1)


def _checked(raw: bytes) -> str:
    from orchestrator.domain.errors import InvalidInput

    if len(raw) > _MOST_BYTES:
        raise InvalidInput("the value is too long for a secret", "at most 64 KiB")
    try:
        value = raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise InvalidInput("the value is not UTF-8 text", "encode it, as base64 does") from None
    if not value:
        raise InvalidInput("the value is empty, nothing was stored", "give a value, or `secrets remove`")
    if "\0" in value:
        raise InvalidInput("the value holds a zero byte, which no environment variable can", "encode it")
    return value


@secrets.command("list")
@global_options
def list_secrets() -> int:
    """Every secret: where it comes from, when and by whom it was set, if it has a value now, who uses it.

    Never a value.
    """
    from orchestrator.cli.output import Column, ago, iso, print_json, print_table

    with this().application() as app:
        known = app.secrets.overview()
        if this().json:
            print_json(
                [
                    {
                        "name": secret.name,
                        "from": secret.origin,
                        "stored": secret.stored is not None,
                        "version": secret.stored.version if secret.stored else None,
                        "set_at": iso(secret.stored.updated_at) if secret.stored else None,
                        "set_by": secret.stored.updated_by if secret.stored else None,
                        "resolves": not secret.problem,
                        "problem": secret.problem,
                        "used_by": list(secret.used_by),
                        "places": list(secret.places),
                    }
                    for secret in known
                ]
            )
            return PASSED
        now = app.clock.now()
        rows = [
            (
                secret.name,
                secret.origin,
                ago(secret.stored.updated_at, now) if secret.stored else "",
                secret.stored.updated_by if secret.stored else "",
                f"no: {secret.problem}" if secret.problem else "yes",
                ", ".join((*secret.used_by, *secret.places)),
            )
            for secret in known
        ]
        columns = (
            "name",
            Column("from", elastic=True),
            "set",
            Column("by", elastic=True),
            Column("has a value", fold=True),
            Column("used by", fold=True),
        )
        print_table(columns, rows, "no secret is stored, configured or asked for")
        return PASSED


@secrets.command("remove")
@click.argument("name")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@global_options
def remove(name: str, yes: bool) -> int:
    """Take a stored secret away. Runs that need it end as `secret_missing` from then on."""
    from orchestrator.cli.output import say
    from orchestrator.domain.errors import InvalidInput, NotFound

    with this().application() as app:
        if name not in {row.name for row in app.vault.rows()}:
            raise NotFound(f'there is no stored secret "{name}"', _what_then(app, name))
        users = _users(app, name)
        if users:
            say(f"warning: {name} is needed by {', '.join(users)}")
        if not yes:
            if not sys.stdin.isatty():
                raise InvalidInput("nobody is there to ask", "say --yes")
            click.confirm(f"remove {name}?", abort=True, err=True)
        app.vault.remove(name, who())
        say(f"{name} is removed")
        return PASSED


def _users(app: Application, name: str) -> list[str]:
    """Pipelines, and places in orchestrator.yaml, that need the stored value."""
    places = list(app.secrets.places().get(name, ()))
    if name in app.config.orchestrator.secrets:
        return places
    return [file.pipeline for file in app.config.pipelines.values() if name in file.run.secrets] + places


def _what_then(app: Application, name: str) -> str:
    from orchestrator.config.problems import closest

    if name in app.config.orchestrator.secrets:
        return "it stands under secrets: of orchestrator.yaml"
    meant = closest(name, [row.name for row in app.vault.rows()])
    return f'did you mean "{meant}"?' if meant else "`orchestrator secrets list` names them"


@secrets.command("rotate")
@click.option("--retire", is_flag=True, help="Forget the older keys, once all is encrypted with the newest.")
@global_options
def rotate(retire: bool) -> int:
    """Make a new key and encrypt all stored secrets with it; the older key can still read, until --retire.

    May be interrupted at any point: every secret stays readable, and the next call finishes the work. Backups
    of the database from before need the older key.
    """
    from orchestrator.cli.output import count, say

    with this().application() as app:
        if retire:
            gone = app.vault.retire(who())
            if gone:
                app.store.journal.note(
                    who(), "secrets", f"{count(gone, 'older key')} forgotten", app.clock.now()
                )
            say(f"{count(gone, 'older key')} forgotten")
            return PASSED
        done = app.vault.rotate(who())
        if done.new_key:
            app.store.journal.note(who(), "secrets", "a new key", app.clock.now())
        what = "a new key is in place" if done.new_key else "an earlier rotation was finished"
        say(f"{what}; {count(done.resealed, 'secret')} encrypted with it")
        say("the older key can still read: `orchestrator secrets rotate --retire` forgets it")
        return PASSED


@secrets.command("check")
@global_options
def check() -> int:
    """Try the key and every secret; ends with 3 when one has no value."""
    from orchestrator.cli.output import Column, print_json, print_table

    with this().application() as app:
        rows = [
            (
                "fail" if secret.problem else "ok",
                secret.name,
                f"{secret.problem}; {secret.remedy}" if secret.remedy else secret.problem or secret.origin,
            )
            for secret in app.secrets.overview()
        ]
        # A row that an entry hides is tried as well: it may count tomorrow.
        rows += _hidden_rows(app)
        if this().json:
            print_json([{"result": result, "what": what, "told": told} for result, what, told in rows])
        else:
            print_table(("", "secret", Column("found", fold=True)), rows, "no secret is stored or asked for")
        return UNKNOWN if any(result == "fail" for result, _, _ in rows) else PASSED


def _hidden_rows(app: Application) -> list[tuple[str, str, str]]:
    from orchestrator.domain.errors import SecretMissing

    found = []
    for row in app.vault.rows():
        if row.name in app.config.orchestrator.secrets:
            try:
                app.masker.add(app.vault.opened(row))
                found.append(
                    ("warn", row.name, "stored as well, and not used: orchestrator.yaml counts more")
                )
            except SecretMissing as error:
                found.append(("warn", row.name, f"{error.message}; {error.remedy}"))
    return found
