"""The forms in which a secret shows, and a search for many of them at once.

Carriage returns and newlines count for nothing: a value is found although a tool broke it into lines. So no
form holds one, and whoever searches takes them out of the text first.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus

SHORTEST_SECRET: Final = 6
"""What has fewer bytes is not masked: it would hit half of all words."""

_BREAKS: Final = b"\r\n"
_WRAPS: Final = (64, 76)
_GRAM: Final = 3
_FAR: Final = 300
_COMMON: Final = bytes(
    b"zqjxkvbywgpfmucdlhrsniotae.-_/:=,0123456789 ".find(code) + 1 + 20 * chr(code).isdecimal()
    for code in range(256)
)
"""How common a byte is in logs, by rule of thumb: capitals and signs are rare, then come letters, digits."""
Span = tuple[int, int]


def without_breaks(text: bytes) -> bytes:
    """``text`` as it is searched: without carriage returns and newlines."""
    return text.translate(None, _BREAKS) if b"\n" in text or b"\r" in text else text


def forms_of(value: str) -> frozenset[bytes]:
    """All byte strings that give a value away: itself and each of its lines, plain and encoded."""
    parts = {value, value.strip(), *(line.strip() for line in value.splitlines())}
    found = (without_breaks(form) for part in parts if len(part) >= SHORTEST_SECRET for form in _forms(part))
    return frozenset(form for form in found if len(form) >= SHORTEST_SECRET)


def _forms(value: str) -> Iterator[bytes]:
    raw = value.encode("utf-8", "surrogateescape")
    yield raw
    yield from _base64_forms(raw)
    yield from (raw.hex().encode(), raw.hex().upper().encode())
    yield json.dumps(value)[1:-1].encode()
    yield json.dumps(value, ensure_ascii=False)[1:-1].encode("utf-8", "surrogateescape")
    yield repr(value)[1:-1].encode("utf-8", "surrogateescape")
    yield repr(raw)[2:-1].encode()
    for quoted in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        yield quoted.encode()
        yield re.sub(r"%[0-9A-F]{2}", lambda m: m[0].lower(), quoted).encode()
    for markup in (html.escape(value), html.escape(value, quote=False), _numeric_quotes(value)):
        yield markup.encode("utf-8", "surrogateescape")
    for inside in ("'\"'\"'", "'\\''"):
        yield value.replace("'", inside).encode("utf-8", "surrogateescape")


def _numeric_quotes(value: str) -> str:
    """Markup as templates write it, with numbers for both quotes."""
    return html.escape(value, quote=False).replace('"', "&#34;").replace("'", "&#39;")


def _base64_forms(value: bytes) -> Iterator[bytes]:
    """The text that ``value`` becomes inside a longer base64 text, at each of the three alignments.

    Characters that also depend on the neighbours are left out. The encoding of the value alone is there too,
    whole and in the lines that openssl (64 characters) and coreutils (76) break it into.
    """
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + value)
        own = encoded[-(-before * 8 // 6) : (before + len(value)) * 8 // 6]
        yield own
        yield own.translate(bytes.maketrans(b"+/", b"-_"))
    alone = base64.b64encode(value)
    yield alone
    for width in _WRAPS:
        yield from (alone[start : start + width] for start in range(0, len(alone), width))


class Forms:
    """A search for any of many byte strings. Immutable.

    Each has an anchor: six of its bytes, from the one on that is rarest in logs. The anchors are searched for
    together, as a tree, in one pass; few places in a text pass that, and only there whole forms are compared.
    """

    def __init__(self, forms: Iterable[bytes] = ()) -> None:
        self.all = frozenset(forms)
        self.longest = max(map(len, self.all), default=0)
        self._by_anchor: dict[bytes, list[tuple[bytes, int]]] = {}
        self._by_head: dict[bytes, list[bytes]] = {}
        self._grams: set[bytes] = set()
        for form in self.all:
            start = _rarest(form)
            self._by_anchor.setdefault(form[start : start + SHORTEST_SECRET], []).append((form, start))
            self._by_head.setdefault(form[:SHORTEST_SECRET], []).append(form)
            self._grams.update(form[n : n + _GRAM] for n in range(len(form) - _GRAM))
        self._anchor = re.compile(_tree(set(self._by_anchor))) if self.all else None
        self._head = re.compile(_tree(set(self._by_head))) if self.all else None
        self._beginnings = frozenset(form[:n] for form in self.all for n in range(1, SHORTEST_SECRET))

    def spans(self, text: bytes) -> list[Span]:
        """Where forms lie in ``text``: start and end, in order, overlapping ones as one."""
        found = self._anchor.search(text) if self._anchor is not None else None
        if found is None or self._anchor is None:
            return []
        spans: list[Span] = []
        while found is not None:
            place = found.start()
            for form, before in self._by_anchor[found[0]]:
                start = place - before
                if start >= 0 and text.startswith(form, start):
                    spans.append((start, start + len(form)))
            found = self._anchor.search(text, place + 1)
        return joined(spans)

    def tail(self, text: bytes) -> int:
        """How many bytes at the end of ``text`` are the beginning of a form, and not the whole of it."""
        # Nearly every text ends with what no form holds; that is known after three looks at sets.
        if text[-_GRAM:] in self._grams and self._head is not None:
            end = len(text)
            found = self._head.search(text, max(0, end - self.longest + 1))
            while found is not None:
                start = found.start()
                rest = text[start:]
                if any(len(rest) < len(form) and form.startswith(rest) for form in self._by_head[found[0]]):
                    return end - start
                found = self._head.search(text, start + 1)
            for length in range(SHORTEST_SECRET - 1, _GRAM - 1, -1):
                if len(text) >= length and text[-length:] in self._beginnings:
                    return length
        for length in range(_GRAM - 1, 0, -1):
            if len(text) >= length and text[-length:] in self._beginnings:
                return length
        return 0


def joined(spans: list[Span]) -> list[Span]:
    """The spans in order; those that overlap become one."""
    result: list[Span] = []
    for start, end in sorted(spans):
        if result and start < result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def _rarest(form: bytes) -> int:
    """Where the anchor of a form begins, within its first few hundred bytes."""
    last = min(len(form) - SHORTEST_SECRET, _FAR)
    return min(range(last + 1), key=lambda n: (_COMMON[form[n]], form[n], n))


def _tree(words: set[bytes]) -> bytes:
    """A pattern for any of these words, all of the same length, with common beginnings written once."""
    rests: dict[int, set[bytes]] = {}
    for word in words:
        rests.setdefault(word[0], set()).add(word[1:])
    if all(rest == {b""} for rest in rests.values()):
        return b"[" + b"".join(re.escape(bytes([first])) for first in sorted(rests)) + b"]"
    branches = [re.escape(bytes([first])) + _tree(rest) for first, rest in sorted(rests.items())]
    return b"(?:" + b"|".join(branches) + b")"
