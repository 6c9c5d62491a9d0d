"""`${{ env.NAME }}`, `${{ file:PATH }}`, `${{ credential:NAME }}` and `${{ secrets.NAME }}` in the
administrator's files.

Where a secret may stand, the references are kept as they are (`Text`) until `resolve` is called at start,
so that no model, log line or traceback holds the value. Elsewhere only `${{ env.NAME }}` is read, at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from orchestrator.domain.errors import InvalidInput, SecretMissing

_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_ENV = re.compile(r"env\.([A-Za-z_][A-Za-z0-9_]*)")
_FILE = re.compile(r"file:\s*(\S.*)")
_CREDENTIAL = re.compile(r"credential:\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_SECRET = re.compile(r"secrets\.([A-Za-z_][A-Za-z0-9_]*)")
_LOOKS_LIKE_ENV = re.compile(r"(?:env[:. ]\s*|\$)?([A-Za-z_][A-Za-z0-9_]*)")
EXPECTED: Final = "${{ env.NAME }}, ${{ file:PATH }}, ${{ credential:NAME }} or ${{ secrets.NAME }}"
CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
"""The variable by which systemd tells a service the folder of its credentials."""
MAX_SECRET_FILE: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Reference:
    """A value that lives elsewhere.

    In an environment variable, in a file, among the credentials that systemd hands to the service, or in the
    encrypted store.
    """

    kind: Literal["env", "file", "credential", "secret"]
    name: str

    def __str__(self) -> str:
        match self.kind:
            case "env":
                return f"${{{{ env.{self.name} }}}}"
            case "secret":
                return f"${{{{ secrets.{self.name} }}}}"
            case _:
                return f"${{{{ {self.kind}:{self.name} }}}}"


@dataclass(frozen=True, slots=True, repr=False)
class Text:
    """Text that may be a secret or refer to one. Its repr and str show no value; `resolve` gives it."""

    parts: tuple[str | Reference, ...]

    @property
    def references(self) -> tuple[Reference, ...]:
        return tuple(part for part in self.parts if isinstance(part, Reference))

    @property
    def is_literal(self) -> bool:
        """Whether the value itself is written in the file."""
        return not self.references

    def __repr__(self) -> str:
        shown = "".join(str(part) if isinstance(part, Reference) else "***" for part in self.parts)
        return f"Text({shown})"

    __str__ = __repr__


class ReferenceSyntaxError(InvalidInput):
    """A `${{ … }}` that cannot be read. `expected` and `suggestion` are as in a Problem."""

    def __init__(self, message: str, expected: str = EXPECTED, suggestion: str = "") -> None:
        super().__init__(message, f"expected {expected}")
        self.expected = expected
        self.suggestion = suggestion


def parse(text: str) -> Text:
    """Split `text` into literal parts and references. Raises ReferenceSyntaxError."""
    parts: list[str | Reference] = []
    end = 0
    for found in _EXPRESSION.finditer(text):
        if found.start() > end:
            parts.append(_literal(text[end : found.start()]))
        parts.append(_reference(found.group(1).strip()))
        end = found.end()
    if end < len(text) or not parts:
        parts.append(_literal(text[end:]))
    return Text(tuple(parts))


def _literal(text: str) -> str:
    if "${{" in text:
        raise ReferenceSyntaxError("a ${{ is not closed by }}")
    return text


def _reference(inner: str) -> Reference:
    if found := _ENV.fullmatch(inner):
        return Reference("env", found.group(1))
    if found := _FILE.fullmatch(inner):
        return Reference("file", found.group(1))
    if found := _CREDENTIAL.fullmatch(inner):
        return Reference("credential", found.group(1))
    if found := _SECRET.fullmatch(inner):
        return Reference("secret", found.group(1))
    guess = _LOOKS_LIKE_ENV.fullmatch(inner)
    suggestion = f"${{{{ env.{guess.group(1)} }}}}" if guess else ""
    raise ReferenceSyntaxError(f"${{{{ {inner} }}}} is not understood", suggestion=suggestion)


def resolve(
    value: Text | str,
    environ: Mapping[str, str],
    read_file: Callable[[str], str],
    read_stored: Callable[[str], str | None] | None = None,
) -> str:
    """The value, with every reference replaced by what it points to.

    `read_file` gets the path as it is written; `file_reader` makes one. `read_stored` gets a name in the
    encrypted store; without it, none can be read. Raises SecretMissing for what is not there or empty, and
    whatever the two raise.
    """
    if isinstance(value, str):
        return value
    return "".join(
        part if isinstance(part, str) else _value_of(part, environ, read_file, read_stored)
        for part in value.parts
    )


def _value_of(
    reference: Reference,
    environ: Mapping[str, str],
    read_file: Callable[[str], str],
    read_stored: Callable[[str], str | None] | None,
) -> str:
    match reference.kind:
        case "file":
            return read_file(reference.name)
        case "credential":
            return read_file(str(credential_path(reference.name, environ)))
        case "secret":
            stored = read_stored(reference.name) if read_stored is not None else None
            if stored is None:
                raise SecretMissing(
                    f"there is no stored secret {reference.name}",
                    f"`orchestrator secrets set {reference.name}`",
                )
            return stored
        case "env":
            value = environ.get(reference.name, "")
            if not value:
                raise SecretMissing(
                    f"the environment variable {reference.name} is not set",
                    f"export {reference.name} before starting, or write ${{{{ file:PATH }}}}",
                )
            return value


def credential_path(name: str, environ: Mapping[str, str]) -> Path:
    """Where systemd puts a credential. Raises SecretMissing outside such a service."""
    folder = environ.get(CREDENTIALS)
    if not folder:
        raise SecretMissing(
            f"the credential {name} is not there: systemd started no service with credentials here",
            f"LoadCredential={name}:PATH in the unit, or ${{{{ file:PATH }}}} outside of systemd",
        )
    return Path(folder) / name


def file_reader(base: Path) -> Callable[[str], str]:
    """A reader of secret files for `resolve`. Relative paths count from `base`; one line end is dropped.

    The reader raises SecretMissing where the file is missing, unreadable, empty, over 64 KiB or not UTF-8.
    """

    def read(name: str) -> str:
        path = base / Path(name).expanduser()
        remedy = "create the file, readable for the user that runs the orchestrator"
        try:
            with path.open("rb") as stream:
                raw = stream.read(MAX_SECRET_FILE + 1)
        except OSError as error:
            raise SecretMissing(f"the file {path} cannot be read: {error.strerror}", remedy) from None
        if len(raw) > MAX_SECRET_FILE:
            raise SecretMissing(f"the file {path} is too large for a secret", "at most 64 KiB")
        try:
            value = raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise SecretMissing(f"the file {path} is not UTF-8 text", remedy) from None
        if not value:
            raise SecretMissing(f"the file {path} is empty", remedy)
        return value

    return read
