"""Activation and proof: what is done on a server around the switch, and what shows that a release serves."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]

OUTPUT_LIMIT = 32 * 1024
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Command:
    """A command on the server as an argument list, which no shell reads. ``timeout`` is in seconds."""

    arguments: tuple[str, ...]
    timeout: float = 60.0

    def __str__(self) -> str:
        return shlex.join(self.arguments)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """An HTTP request as the server itself would make it; redirects are not followed.

    ``body`` is sent by POST, as JSON. ``status`` are those that are fine; empty for any 2xx.
    """

    url: str
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    status: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{'POST' if self.body else 'GET'} {self.url}"


@dataclass(frozen=True, slots=True)
class TcpConnect:
    """A TCP connection as the server itself would make it."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp {self.host}:{self.port}"


Probe = HttpRequest | TcpConnect | Command


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe met: an exit or HTTP status and what was said, or in ``problem`` why there was none."""

    status: int = 0
    text: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """A look at whether the release serves, ``tries`` times at most, ``interval`` seconds apart.

    ``contains`` has to be in the answer; ``timeout`` bounds one look in seconds.
    """

    probe: Probe
    contains: str = ""
    tries: int = 10
    interval: float = 2.0
    timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class Smoke:
    """One prediction whose answer is known.

    ``expected`` is JSON: mappings may hold more than is named, numbers may differ by ``tolerance``, times the
    expected number's size where that is above 1. Text of an answer that is no JSON is compared as text.
    """

    probe: HttpRequest | Command
    expected: str
    tolerance: float = 1e-6
    timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class Activation:
    """What happens on a server around the switch of ``current``, in this order.

    ``before`` while the old release is live, ``commands`` right after the switch, then ``health`` and
    ``smoke``, ``bake`` seconds on probation in which ``health`` is looked at again and again, and ``after``.
    ``logs`` are commands that tell what a release said that failed.
    """

    before: tuple[Command, ...] = ()
    commands: tuple[Command, ...] = ()
    after: tuple[Command, ...] = ()
    health: tuple[Health, ...] = ()
    smoke: tuple[Smoke, ...] = ()
    bake: float = 0.0
    logs: tuple[Command, ...] = ()

    @property
    def needs_commands(self) -> bool:
        """Whether the account has to be one that may run commands."""
        probes = [*(look.probe for look in self.health), *(look.probe for look in self.smoke)]
        run = (*self.before, *self.commands, *self.after, *self.logs)
        return bool(run) or any(isinstance(probe, Command) for probe in probes)

    @property
    def proves(self) -> bool:
        """Whether anything after the switch can fail, so that being switched to is not yet serving."""
        return bool(self.commands or self.after or self.health or self.smoke or self.bake)


def pause_after(health: Health, looks: int) -> float | None:
    """Seconds until the next look after so many in vain, None when there were enough."""
    return health.interval if looks < health.tries else None


def why_unhealthy(health: Health, answer: Answer) -> str:
    """What is wrong with an answer to a health check; empty when it serves."""
    if problem := _unfit(health.probe, answer):
        return problem
    if health.contains not in answer.text:
        return f"{health.probe} says {_short(answer.text)}, without {_short(health.contains)}"
    return ""


def why_other_answer(smoke: Smoke, answer: Answer) -> str:
    """How an answer differs from the one that is expected; empty when it does not."""
    if problem := _unfit(smoke.probe, answer):
        return problem
    expected: JsonValue = json.loads(smoke.expected)
    try:
        found: JsonValue = json.loads(answer.text)
    except ValueError:
        found = answer.text.strip()
    difference = _difference(expected, found, smoke.tolerance, "")
    return f"{smoke.probe}: {difference}" if difference else ""


def tail(text: str, limit: int = OUTPUT_LIMIT) -> str:
    """The end of a text, beginning with a whole line, with a note of what was cut off."""
    if len(text) <= limit:
        return text
    kept = text[-limit:]
    first, line, rest = kept.partition("\n")
    kept = rest if line and len(first) < limit // 2 else kept
    return f"[{len(text) - len(kept)} characters before this are left out]\n{kept}"


def _unfit(probe: Probe, answer: Answer) -> str:
    if answer.problem:
        return f"{probe}: {answer.problem}"
    match probe:
        case HttpRequest(status=wanted):
            if answer.status not in wanted if wanted else not 200 <= answer.status < 300:
                return f"{probe} answers with status {answer.status}: {_short(answer.text)}"
        case Command():
            if answer.status:
                said = f": {_short(answer.text)}" if answer.text.strip() else ""
                return f"{probe} ends with status {answer.status}{said}"
        case TcpConnect():
            pass
    return ""


def _difference(expected: JsonValue, found: JsonValue, tolerance: float, where: str) -> str:
    at = f" at {where}" if where else ""
    if isinstance(expected, dict):
        if not isinstance(found, dict):
            return f"a mapping is expected{at}, and it is {_short(json.dumps(found))}"
        for key, value in expected.items():
            inside = f"{where}.{key}" if where else key
            if key not in found:
                return f"the answer has no {inside}"
            if told := _difference(value, found[key], tolerance, inside):
                return told
        return ""
    if isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            return f"{len(expected)} values are expected{at}, and it is {_short(json.dumps(found))}"
        return _first(
            _difference(one, other, tolerance, f"{where}[{place}]")
            for place, (one, other) in enumerate(zip(expected, found, strict=True))
        )
    if _is_number(expected) and _is_number(found):
        same = _close(float(str(expected)), float(str(found)), tolerance)
    else:
        same = type(expected) is type(found) and expected == found
    if same:
        return ""
    return f"{json.dumps(expected)} is expected{at}, and it is {_short(json.dumps(found))}"


def _first(told: Iterable[str]) -> str:
    return next(filter(None, told), "")


def _is_number(value: JsonValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _close(expected: float, found: float, tolerance: float) -> bool:
    if math.isnan(expected) or math.isnan(found):
        return math.isnan(expected) and math.isnan(found)
    return expected == found or abs(expected - found) <= tolerance * max(1.0, abs(expected))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…")
