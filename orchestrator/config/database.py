"""The address of the database as it is written: which kinds there are, and how a password stands in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote, unquote

from orchestrator.config.interpolation import Reference, Text, resolve

EXPECTED: Final = "sqlite:///PATH, postgresql://USER:PASSWORD@HOST/NAME, or no database key at all"
POSTGRES: Final = ("postgresql://", "postgresql+psycopg://")
_HIDDEN: Final = "\0"
_PASSWORD = re.compile(
    r"[a-z0-9+]+://[^/:]*:(?P<userinfo>[^@]*(?:@[^/?]*(?=@))?)@|[?&]password=(?P<query>[^&]*)"
)

_REFERENCE = re.compile(r"\$\{\{[^}]*\}\}")
_NO_PORT = re.compile(r"[a-z+]+://(?:.*@|(?!.*@))(?:\[[^]]*\]|[^]/?@:[]+):(?!\d*(?:[/?]|$))")


def mistake(address: str) -> str:
    """What is wrong with an address; empty when it may be right. It does not repeat a password."""
    if address.startswith(POSTGRES) and _NO_PORT.match(_REFERENCE.sub("0", address)):
        return "what stands behind the host's : is no port"
    if address.startswith(("${{", *POSTGRES)) or (
        address.startswith("sqlite:///") and address != "sqlite:///"
    ):
        return ""
    scheme, _, _ = address.partition(":")
    if scheme == "postgres":
        return "this is not the address of a database: PostgreSQL's begin with postgresql://"
    if scheme.startswith("postgresql+"):
        return "only the driver psycopg is supported for PostgreSQL"
    return "this is not the address of a database"


def holds_password(address: Text) -> bool:
    """Whether a password itself, not a reference to one, stands in the address."""
    shown = "".join(_HIDDEN if isinstance(part, Reference) else part for part in address.parts)
    found = (match["userinfo"] or match["query"] or "" for match in _PASSWORD.finditer(shown))
    return any(text and _HIDDEN not in text for text in found)


def passwords(address: str) -> tuple[str, ...]:
    """The passwords in an address with resolved references, as they are written and as they are meant."""
    found = (match["userinfo"] or match["query"] or "" for match in _PASSWORD.finditer(address))
    return tuple(dict.fromkeys(form for text in found if text for form in (text, unquote(text))))


def resolved(address: Text, environ: Mapping[str, str], read_file: Callable[[str], str]) -> str:
    """The address with its references replaced; one for the password alone may hold any character.

    Raises SecretMissing, as ``interpolation.resolve`` does.
    """
    pieces: list[str] = []
    for position, part in enumerate(address.parts):
        value = part if isinstance(part, str) else resolve(Text((part,)), environ, read_file)
        if isinstance(part, Reference) and _is_password(address, position):
            value = quote(value, safe="")
        pieces.append(value)
    return "".join(pieces)


def _is_password(address: Text, position: int) -> bool:
    before = address.parts[position - 1] if position else ""
    after = address.parts[position + 1] if position + 1 < len(address.parts) else ""
    return (
        isinstance(before, str)
        and isinstance(after, str)
        and (before.endswith("password=") or (before.endswith(":") and after.startswith("@")))
    )
