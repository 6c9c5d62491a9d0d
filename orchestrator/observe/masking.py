"""Secret values, blanked out of texts."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterable

from orchestrator.observe.forms import SHORTEST_SECRET, Forms, Span, forms_of, without_breaks

__all__ = ["MASK", "SHORTEST_SECRET", "Masker", "Offsets"]

MASK = b"***"


class Masker:
    """Replaces secret values, and the forms in which they commonly show, by ``***``.

    Forms: the value, each of its lines, base64 at any alignment, hexadecimal, percent-encoded, as a string of
    JSON, Python, HTML or a shell; all of them also where line breaks lie within. Safe to use and to extend
    from any thread; a value that is added counts from then on.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._values: set[str] = set()
        self._forms = Forms()
        self.add(*values)

    def __repr__(self) -> str:
        return f"Masker({len(self._values)} values)"

    @property
    def forms(self) -> Forms:
        """What is searched for now."""
        return self._forms

    def add(self, *values: str) -> None:
        """Mask these values too. Values and lines of fewer than 6 characters are left alone."""
        with self._lock:
            fresh = set(values) - self._values
            if not fresh:
                return
            self._values |= fresh
            new = frozenset().union(*map(forms_of, fresh))
            if not new <= self._forms.all:
                self._forms = Forms(self._forms.all | new)

    def mask_bytes(self, text: bytes) -> bytes:
        """``text`` with every secret in it replaced."""
        spans = self._forms.spans(without_breaks(text))
        if not spans:
            return text
        offsets = Offsets(text)
        pieces: list[bytes] = []
        position = 0
        for span in spans:
            start, end = offsets.of(span)
            pieces += (text[position:start], MASK)
            position = end
        return b"".join((*pieces, text[position:]))

    def mask_text(self, text: str) -> str:
        """The same for text; whatever UTF-8 cannot hold comes through as it is."""
        encoded = text.encode("utf-8", "surrogatepass")
        masked = self.mask_bytes(encoded)
        return text if masked is encoded else masked.decode("utf-8", "surrogatepass")


class Offsets:
    """From places in a text without line breaks to places in the text as it is."""

    def __init__(self, text: bytes) -> None:
        # For each break, how many other bytes come before it.
        self._breaks: list[int] = []
        if b"\n" in text or b"\r" in text:
            places = (place for place, byte in enumerate(text) if byte in b"\r\n")
            self._breaks = [place - number for number, place in enumerate(places)]

    def of(self, span: Span) -> Span:
        """The same bytes in the text as it is, with the breaks between them and none around them."""
        start, end = span
        return self._place(start), self._place(end - 1) + 1

    def _place(self, index: int) -> int:
        return index + bisect_right(self._breaks, index)
