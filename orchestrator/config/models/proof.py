"""What is done on a server around a switch, and what proves that a release serves."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from orchestrator.config.models.common import (
    Duration,
    Items,
    Model,
    Str,
    Verbatim,
    kind_of,
    wrong,
)
from orchestrator.config.yaml_loader import Plain
from orchestrator.domain.activation import (
    Activation,
    Command,
    Health,
    HttpRequest,
    Probe,
    Smoke,
    TcpConnect,
)

_ARGUMENTS: Final = "an argument list such as [systemctl, --user, restart, wine]"
_PROBES: Final = 'a URL, "tcp://HOST:PORT" or an argument list'
_ADDRESS: Final = ("http://", "https://", "tcp://")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class _OrShort:
    """In the JSON Schema: a list of these, one of them, or a short form."""

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        several = handler(core)
        short: list[JsonSchemaValue] = [{"type": "string"}, {"type": "array"}]
        return {"anyOf": [several, several["items"], *short]}


def _arguments(value: Plain) -> Plain:
    if isinstance(value, str):
        try:
            guess = f"[{', '.join(shlex.split(value))}]"
        except ValueError:
            guess = ""
        raise wrong(f'"{value}" is shell text, and no shell reads it', _ARGUMENTS, guess)
    if not isinstance(value, list) or not value:
        raise wrong(f"{kind_of(value)} is no command", _ARGUMENTS)
    arguments: list[Plain] = []
    for item in value:
        if isinstance(item, bool) or not isinstance(item, str | int | float) or "\0" in str(item):
            raise wrong(f"{kind_of(item)} is no argument", _ARGUMENTS)
        arguments.append(str(item))
    if not arguments[0] or "=" in str(arguments[0]) or str(arguments[0]).startswith("-"):
        raise wrong(f'"{arguments[0]}" is no name of a program', _ARGUMENTS)
    return arguments


Arguments = Annotated[Items[Verbatim], BeforeValidator(_arguments)]


class Run(Model):
    """A command on the server, in the release's folder."""

    run: Arguments = Field(
        description="Program and arguments. No shell reads them.",
        examples=[["systemctl", "--user", "restart", "wine"]],
    )
    timeout: Duration = Field(
        default=timedelta(minutes=1),
        description="How long it may take; it is stopped then, and has failed.",
        examples=["1m"],
    )

    def value(self) -> Command:
        """As the domain has it."""
        return Command(self.run, self.timeout.total_seconds())


def _commands(value: Plain) -> tuple[Plain, ...]:
    """One command or several, each as an argument list or a mapping."""
    items = value if isinstance(value, list) else [value]
    if isinstance(value, str) or (items and not any(isinstance(item, list | dict) for item in items)):
        items = [value]
    return tuple(item if isinstance(item, dict) else {"run": item} for item in items)


Commands = Annotated[tuple[Run, ...], BeforeValidator(_commands), _OrShort()]


def _address(value: str) -> str:
    try:
        url = urlsplit(value)
        good = url.scheme in ("http", "https", "tcp") and bool(url.hostname) and url.port != 0
        if url.scheme == "tcp":
            good = good and url.port is not None and not url.path and not url.query
    except ValueError:
        good = False
    if not good or "@" in url.netloc or any(ord(c) <= 32 or ord(c) > 126 for c in value):
        raise wrong(
            f'"{value}" is no address that can be asked',
            "http://localhost:9000/health, or tcp://localhost:9000",
        )
    return value


Address = Annotated[Str, WithJsonSchema({"type": "string"})]


class _Asks(Model):
    url: Address | None = Field(
        default=None,
        description="What to ask, as the server itself sees it: `http://`, `https://` or `tcp://HOST:PORT`.",
        examples=["http://localhost:9000/health"],
    )
    run: Arguments | None = Field(
        default=None,
        description="A command on the server in place of `url`; it has to end with status 0.",
        examples=[["./check", "--quick"]],
    )
    headers: Mapping[str, Verbatim] = Field(
        default_factory=dict, description="More headers of the request.", examples=[{"Accept": "text/plain"}]
    )
    status: Items[Annotated[int, Field(ge=100, le=599)]] = Field(
        default=(),
        description="HTTP status codes that are fine; without it, 200 to 299.",
        examples=[[200, 204]],
    )

    @model_validator(mode="after")
    def _one_way_of_asking(self) -> _Asks:
        if (self.url is None) == (self.run is None):
            raise wrong("it is unclear what to ask", "exactly one of url and run")
        if self.url is not None:
            _address(self.url)
        http = self.url is not None and not self.url.startswith("tcp:")
        if not http and (self.headers or self.status):
            raise wrong("headers and status belong to HTTP", "a url that begins with http:// or https://")
        for name, value in self.headers.items():
            if not _TOKEN.fullmatch(name) or any(ord(c) < 32 or ord(c) > 126 for c in value):
                raise wrong(f'"{name}" is no header', "a name and a value of printable ASCII")
        return self

    def probe(self, timeout: float, body: str = "") -> Probe:
        """What is asked, as the domain has it."""
        if self.run is not None:
            return Command(self.run, timeout)
        url = urlsplit(self.url or "")
        if url.scheme == "tcp":
            return TcpConnect(url.hostname or "", url.port or 0)
        return HttpRequest(self.url or "", body, tuple(self.headers.items()), tuple(self.status))


class Look(_Asks):
    """A look at whether a release serves."""

    contains: Verbatim = Field(
        default="", description="Text that the answer has to hold.", examples=["ready"]
    )
    tries: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=10, description="How many looks it gets until one succeeds.", examples=[10]
    )
    interval: Duration = Field(
        default=timedelta(seconds=2), description="Time between two looks.", examples=["2s"]
    )
    timeout: Duration = Field(
        default=timedelta(seconds=5), description="How long one look may take.", examples=["5s"]
    )

    def value(self) -> Health:
        """As the domain has it."""
        timeout = self.timeout.total_seconds()
        probe = self.probe(timeout)
        return Health(probe, self.contains, self.tries, self.interval.total_seconds(), timeout)


def _looks(value: Plain) -> tuple[Plain, ...]:
    """One look or several, each as an address, an argument list or a mapping."""
    if isinstance(value, list) and value:
        plain = all(not isinstance(item, list | dict) for item in value)
        if plain and not all(isinstance(item, str) and item.startswith(_ADDRESS) for item in value):
            return ({"run": value},)
        return tuple(_look(item) for item in value)
    return (_look(value),)


def _look(value: Plain) -> Plain:
    match value:
        case dict():
            return value
        case list():
            return {"run": value}
        case str():
            return {"url": value}
        case _:
            raise wrong(f"{kind_of(value)} is nothing that can be asked", _PROBES)


class Prediction(_Asks):
    """One prediction whose answer is known."""

    send: JsonValue = Field(
        default=None,
        description="What is posted, as JSON; without it, the address is just read.",
        examples=[{"x": [1]}],
    )
    expect: JsonValue = Field(
        description="The answer. A mapping may hold more than is named here.", examples=[{"y": [0.5]}]
    )
    tolerance: Annotated[float, Field(ge=0)] = Field(
        default=1e-6,
        description="How far numbers may be off; of large ones, as a share of them.",
        examples=[0.001],
    )
    timeout: Duration = Field(
        default=timedelta(seconds=30), description="How long the answer may take.", examples=["30s"]
    )

    @model_validator(mode="after")
    def _asks_for_an_answer(self) -> Prediction:
        if self.url is not None and self.url.startswith("tcp:"):
            raise wrong("a TCP connection gives no prediction", "a url that begins with http://, or run")
        if self.run is not None and self.send is not None:
            raise wrong("a command gets nothing sent", "its input among its arguments")
        return self

    def value(self) -> Smoke:
        """As the domain has it."""
        timeout = self.timeout.total_seconds()
        body = "" if self.send is None else json.dumps(self.send)
        probe = self.probe(timeout, body)
        if isinstance(probe, TcpConnect):
            raise TypeError("a TCP connection gives no prediction")
        return Smoke(probe, json.dumps(self.expect), self.tolerance, timeout)


def _predictions(value: Plain) -> tuple[Plain, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


class Proof(Model):
    """What happens on a server around the switch to a release."""

    before: Commands = Field(
        default=(),
        description="Commands while the old release is still live. One that fails leaves it live.",
        examples=[["./check-model"]],
    )
    activate: Commands = Field(
        default=(),
        description="Commands right after the switch, which make the service take the release up.",
        examples=[["systemctl", "--user", "restart", "wine"]],
    )
    health: Annotated[tuple[Look, ...], BeforeValidator(_looks), _OrShort()] = Field(
        default=(),
        description="What has to answer: a URL or `tcp://HOST:PORT` as the server sees it, or a command.",
        examples=["http://localhost:9000/health"],
    )
    smoke: Annotated[tuple[Prediction, ...], BeforeValidator(_predictions), _OrShort()] = Field(
        default=(),
        description="Predictions whose answers are known.",
        examples=[{"url": "http://localhost:9000/predict", "send": {"x": [1]}, "expect": {"y": [0.5]}}],
    )
    bake: Duration | None = Field(
        default=None,
        description="How long a release is on probation, healthy all along, before it counts as live.",
        examples=["5m"],
    )
    after: Commands = Field(
        default=(),
        description="Commands at the end, when the release has proved itself.",
        examples=[["./warm-cache"]],
    )
    logs: Commands = Field(
        default=(),
        description="Commands that tell what a release said that failed; kept with the deployment.",
        examples=[["journalctl", "--user", "--unit", "wine", "--lines", "50"]],
    )

    def activation(self) -> Activation:
        """As the domain has it."""
        return Activation(
            _values(self.before),
            _values(self.activate),
            _values(self.after),
            tuple(look.value() for look in self.health),
            tuple(prediction.value() for prediction in self.smoke),
            self.bake.total_seconds() if self.bake else 0.0,
            _values(self.logs),
        )


def _values(commands: Sequence[Run]) -> tuple[Command, ...]:
    return tuple(command.value() for command in commands)
