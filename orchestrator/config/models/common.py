"""What all configuration models share: their base, and the scalars that people write."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Final, TypeAlias, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    InstanceOf,
    PlainSerializer,
    StrictStr,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from orchestrator.config import units
from orchestrator.config.interpolation import (
    Reference,
    ReferenceSyntaxError,
    Text,
    credential_path,
    file_reader,
    parse,
)
from orchestrator.config.yaml_loader import Plain
from orchestrator.domain.errors import SecretMissing
from orchestrator.domain.space import Reserve

T = TypeVar("T")

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
VARIABLE_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_]*$"
NOT_YET: Final = "not available in this version"
RESERVE_EXAMPLES: Final = "a size such as 500m or 5g, a percentage such as 10%, or 0 for none"


@dataclass(frozen=True)
class Context:
    """What validation may look at besides the values: pydantic's `context`.

    `base` is the configuration folder, from which relative paths count. `check_paths` asks whether local
    files and folders exist, `check_references` whether referenced secrets do.
    """

    base: Path = Path()
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    check_paths: bool = False
    check_references: bool = False


def is_loopback(host: str) -> bool:
    """Whether nothing outside this machine is reached by that name or address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def context_of(info: ValidationInfo) -> Context:
    return info.context if isinstance(info.context, Context) else Context()


def wrong(message: str, expected: str = "", suggestion: str = "", key: str = "") -> PydanticCustomError:
    """An error that becomes a Problem as it is; with `key`, it stands at that key of the value."""
    details = {"message": message, "expected": expected, "suggestion": suggestion, "key": key}
    return PydanticCustomError("config", "{message}", details)


def kind_of(value: object) -> str:
    """A YAML value's kind in plain words."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list() | tuple():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return type(value).__name__


def _tell_later(schema: JsonDict, model: type[Model]) -> None:
    if model.later:
        schema["x-later"] = dict(model.later)


class Model(BaseModel):
    """Base of all models: frozen, closed, strict. Keys that start with `x-` are for people, and dropped."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, json_schema_extra=_tell_later
    )

    later: ClassVar[Mapping[str, str]] = {}
    """Keys that the design knows and this version does not, with what to write meanwhile (may be empty)."""

    @model_validator(mode="before")
    @classmethod
    def _without_extensions(cls, data: Plain) -> Plain:
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if not key.startswith("x-")}
        return data


def _as_tuple(value: Plain) -> tuple[Plain, ...]:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str):
        raise wrong(f'"{value}" is text', "a list", f"[{value}]")
    raise wrong(f"{kind_of(value)} is not possible here", "a list")


Items: TypeAlias = Annotated[tuple[T, ...], BeforeValidator(_as_tuple)]
"""A list in YAML, a tuple in Python."""


def text_of(value: Plain) -> str:
    """The value, which must be text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        quoted = str(value).lower() if isinstance(value, bool) else str(value)
        raise wrong(f"{kind_of(value)} stands here", f'text, so in quotes: "{quoted}"')
    raise wrong(f"{kind_of(value)} is not possible here", "text")


def plain_text(value: Plain, info: ValidationInfo) -> str:
    """Text in which `${{ env.NAME }}` is replaced at once; not for secrets."""
    text = text_of(value)
    if "${{" not in text:
        return text
    parts = []
    for part in parse_references(text).parts:
        if isinstance(part, Reference) and part.kind != "env":
            raise wrong(
                f"{part} may not stand here, where its content would be shown", "text or ${{ env.NAME }}"
            )
        if isinstance(part, Reference):
            found = context_of(info).environ.get(part.name)
            if not found:
                raise _unset(part.name)
            part = found
        parts.append(part)
    return "".join(parts)


def verbatim_text(value: Plain) -> str:
    """Text that reaches the database and the container as it is, and so takes no references."""
    text = text_of(value)
    if "${{" in text:
        raise wrong(
            "${{ … }} may not stand here: what it gives would be stored and shown in the clear",
            "the secret's name in run.secrets, which puts it into the run's environment",
        )
    return text


def parse_references(text: str) -> Text:
    try:
        return parse(text)
    except ReferenceSyntaxError as error:
        raise wrong(error.message, error.expected, error.suggestion) from None


def _unset(name: str) -> PydanticCustomError:
    return wrong(
        f"the environment variable {name} is not set", f"{name} in the environment of the orchestrator"
    )


def _secret(value: Plain, info: ValidationInfo) -> Text:
    if not isinstance(value, str):
        raise wrong(f"{kind_of(value)} is not possible here", "text in quotes, or ${{ env.NAME }}")
    text = parse_references(value)
    context = context_of(info)
    if context.check_references:
        for reference in text.references:
            if reference.kind == "env" and not context.environ.get(reference.name):
                raise _unset(reference.name)
            if reference.kind in ("file", "credential"):
                try:
                    named = reference.name
                    path = named if reference.kind == "file" else credential_path(named, context.environ)
                    file_reader(context.base)(str(path))
                except SecretMissing as error:
                    expected = error.remedy if reference.kind == "credential" else ""
                    raise wrong(error.message, expected or "a readable file with the value in it") from None
    return text


Secret: TypeAlias = Annotated[
    InstanceOf[Text],
    BeforeValidator(_secret),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string"}),
]
"""Text that may be a secret. A dump of a model shows it as its repr does: without values."""
Str: TypeAlias = Annotated[StrictStr, BeforeValidator(plain_text)]
Verbatim: TypeAlias = Annotated[StrictStr, BeforeValidator(verbatim_text)]


def _name(value: Plain) -> str:
    text = text_of(value)
    if not re.fullmatch(NAME_PATTERN, text):
        raise wrong(
            f'"{text}" is not a name',
            "letters, digits, . _ and -, beginning with a letter or digit, at most 63 characters",
            re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:63],
        )
    return text


Name: TypeAlias = Annotated[
    StrictStr, BeforeValidator(_name), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})
]


def _variable(value: Plain) -> str:
    text = text_of(value)
    if not re.fullmatch(VARIABLE_PATTERN, text):
        raise wrong(
            f'"{text}" cannot be an environment variable',
            "letters, digits and _, not beginning with a digit",
            re.sub(r"[^A-Za-z0-9_]+", "_", text).lstrip("0123456789"),
        )
    return text


Variable: TypeAlias = Annotated[
    StrictStr, BeforeValidator(_variable), WithJsonSchema({"type": "string", "pattern": VARIABLE_PATTERN})
]


def _duration(value: Plain) -> timedelta:
    try:
        return units.parse_duration(str(value) if type(value) in (int, float) else text_of(value))
    except units.UnitError as error:
        raise wrong(str(error), units.DURATION_EXAMPLES, error.suggestion) from None


def _positive_duration(value: Plain) -> timedelta:
    duration = _duration(value)
    if duration < timedelta(milliseconds=100):
        raise wrong("this is shorter than 100ms", units.DURATION_EXAMPLES)
    return duration


_DURATION_SCHEMA = WithJsonSchema(
    {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d|w) ?)+$", "x-unit": "duration"}
)
Duration: TypeAlias = Annotated[timedelta, BeforeValidator(_positive_duration), _DURATION_SCHEMA]
Pause: TypeAlias = Annotated[timedelta, BeforeValidator(_duration), _DURATION_SCHEMA]
"""A Duration that may be 0s."""


def _size(value: Plain) -> int:
    try:
        size = units.parse_size(str(value) if type(value) in (int, float) else text_of(value))
    except units.UnitError as error:
        raise wrong(str(error), units.SIZE_EXAMPLES, error.suggestion) from None
    if size < 1:
        raise wrong("this is less than one byte", units.SIZE_EXAMPLES)
    return size


Size: TypeAlias = Annotated[
    int,
    BeforeValidator(_size),
    WithJsonSchema(
        {"type": "string", "pattern": r"^\d+(\.\d+)? ?([kmgtKMGT](i?[bB])?|[bB])$", "x-unit": "size"}
    ),
]


def _reserved(value: Plain) -> Reserve:
    text = str(value).strip() if type(value) in (int, float) else text_of(value).strip()
    if text == "0":
        return Reserve()
    if text.endswith("%"):
        share = re.fullmatch(r"(\d{1,2}(?:\.\d+)?)\s*%", text)
        if share is None:
            raise wrong(f'"{text}" is not a share of a disk', RESERVE_EXAMPLES)
        return Reserve(share=float(share[1]) / 100)
    try:
        return Reserve(size=units.parse_size(text))
    except units.UnitError as error:
        raise wrong(str(error), RESERVE_EXAMPLES, error.suggestion) from None


def _as_written(reserve: Reserve) -> str:
    if reserve.share:
        return f"{reserve.share * 100:g}%"
    return units.format_size(reserve.size) if reserve.size else "0"


Reserved: TypeAlias = Annotated[
    InstanceOf[Reserve],
    BeforeValidator(_reserved),
    PlainSerializer(_as_written, return_type=str),
    WithJsonSchema(
        {
            "type": ["string", "integer"],
            "pattern": r"^(0|\d+(\.\d+)? ?([kmgtKMGT](i?[bB])?|[bB]|%))$",
            "maximum": 0,
            "x-unit": "size",
        }
    ),
]
"""Room that stays free on a disk."""


def _path(value: Plain, info: ValidationInfo) -> Path:
    text = plain_text(value, info)
    if not text.strip() or "\0" in text:
        raise wrong("the path is empty", "a path, relative to the configuration folder or absolute")
    return absolute(text, context_of(info).base)


def absolute(text: str, base: Path) -> Path:
    """`text` as an absolute path without `..`; relative ones count from `base`. Symlinks stay."""
    import os

    return Path(os.path.normpath(base.absolute() / Path(text).expanduser()))


def _folder(value: Plain, info: ValidationInfo) -> Path:
    path = _path(value, info)
    if context_of(info).check_paths and not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise wrong(
            f"{path} {what}",
            "an existing folder (relative paths count from the configuration folder)",
            near(path),
        )
    return path


def _file(value: Plain, info: ValidationInfo) -> Path:
    path = _path(value, info)
    if context_of(info).check_paths and not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise wrong(
            f"{path} {what}",
            "an existing file (relative paths count from the configuration folder)",
            near(path),
        )
    return path


def near(path: Path) -> str:
    """A neighbour of a missing path with a similar name, or an empty string."""
    from orchestrator.config.problems import closest

    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    found = closest(path.name, names)
    return str(path.parent / found) if found and found != path.name else ""


_PATH_SCHEMA = WithJsonSchema({"type": "string", "minLength": 1})
LocalPath: TypeAlias = Annotated[Path, BeforeValidator(_path), _PATH_SCHEMA]
ExistingFolder: TypeAlias = Annotated[Path, BeforeValidator(_folder), _PATH_SCHEMA]
ExistingFile: TypeAlias = Annotated[Path, BeforeValidator(_file), _PATH_SCHEMA]


def _inside(value: Plain) -> str:
    text = verbatim_text(value)
    parts = text.split("/")
    if (
        not text
        or text.startswith(("/", "~"))
        or ".." in parts
        or "\\" in text
        or any(ord(c) < 32 for c in text)
    ):
        raise wrong(f'"{text}" leaves its folder', "a relative path with forward slashes and without ..")
    return text


Inside: TypeAlias = Annotated[StrictStr, BeforeValidator(_inside), _PATH_SCHEMA]
"""A path or glob pattern inside the repository or the output folder."""
