"""Durations and sizes as people write them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")
_BYTES: Final = {
    "b": 1,
    "k": 1 << 10,
    "m": 1 << 20,
    "g": 1 << 30,
    "t": 1 << 40,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_WORDS: Final = {
    "min": "m", "mins": "m", "minute": "m", "minutes": "m",
    "sec": "s", "secs": "s", "second": "s", "seconds": "s",
    "hr": "h", "hrs": "h", "hour": "h", "hours": "h",
    "day": "d", "days": "d", "week": "w", "weeks": "w", "msec": "ms", "milliseconds": "ms",
}  # fmt: skip

LONGEST: Final = timedelta(days=3650)
DURATION_EXAMPLES: Final = "a duration such as 500ms, 30s, 10m, 2h, 1h30m or 7d"
SIZE_EXAMPLES: Final = "a size such as 512m, 8g or 8GiB (1024 based), or 8GB (1000 based)"


class UnitError(ValueError):
    """A quantity that cannot be read; `suggestion` is what was probably meant, or empty."""

    def __init__(self, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.suggestion = suggestion


def parse_duration(text: str) -> timedelta:
    """`1h30m` as a timedelta. Each unit stands once, the largest first. Raises UnitError."""
    compact = text.replace(" ", "")
    parts = _DURATION_PART.findall(compact)
    factors = [_SECONDS[unit] for _, unit in parts]
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise UnitError(f'"{text}" is not a duration', _duration_guess(compact))
    if sorted(set(factors), reverse=True) != factors:
        raise UnitError(f'"{text}" is not a duration: each unit once, the largest first')
    seconds = sum(float(number) * factor for (number, _), factor in zip(parts, factors, strict=True))
    if seconds > LONGEST.total_seconds():
        raise UnitError(f'"{text}" is longer than ten years')
    return timedelta(seconds=seconds)


def _duration_guess(compact: str) -> str:
    if re.fullmatch(r"\d+", compact):
        return f"{compact}s"
    words = re.findall(r"(\d+(?:\.\d+)?)([A-Za-z]+)", compact)
    units = [_WORDS.get(unit.lower(), unit.lower()) for _, unit in words]
    if words and "".join(n + u for n, u in words) == compact and all(unit in _SECONDS for unit in units):
        return "".join(number + unit for (number, _), unit in zip(words, units, strict=True))
    return ""


def parse_size(text: str) -> int:
    """`8g` in bytes. k, m, g, t and KiB … TiB are powers of 1024, kB … TB of 1000. Raises UnitError."""
    found = _SIZE.fullmatch(text.strip())
    if found and (factor := _BYTES.get(found.group(2).lower())):
        return int(float(found.group(1)) * factor)
    if re.fullmatch(r"\d+(\.\d+)?", text.strip()):
        raise UnitError(f'"{text}" has no unit', f"{text.strip()}g")
    if found and found.group(2)[0].lower() in "kmgt":
        raise UnitError(f'"{text}" is not a size', found.group(1) + found.group(2)[0].lower())
    raise UnitError(f'"{text}" is not a size')


def format_duration(duration: timedelta) -> str:
    """The shortest form with one unit: 90 minutes are `90m`, 24 hours are `24h`."""
    milliseconds = round(duration / timedelta(milliseconds=1))
    for unit in ("h", "m", "s"):
        factor = int(_SECONDS[unit] * 1000)
        if milliseconds and milliseconds % factor == 0:
            return f"{milliseconds // factor}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


def format_size(size: int) -> str:
    """The shortest exact form: 2147483648 is `2g`."""
    for unit in ("t", "g", "m", "k"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}b"
