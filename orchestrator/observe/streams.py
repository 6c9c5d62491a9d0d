"""Masking what arrives piece by piece: a secret is found wherever it was cut.

A piece that does not end its line may end within a secret; what may be the beginning of one is held back, at
most one byte less than the longest form has, and comes with the next piece. A line that has ended is never
held back, so that logs stay live: six or more bytes at its end that may be the beginning of a secret are
masked at once, whatever follows, and fewer are shown. Either way the next line is searched together with
them, so that the rest of the secret is masked there.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from orchestrator.observe.forms import SHORTEST_SECRET, joined, without_breaks
from orchestrator.observe.masking import MASK, Masker, Offsets

ADD_MASK = b"::add-mask::"
MASK_ADDED = ADD_MASK + MASK
"""What stands in a log in place of a line by which a program asked to mask a value."""
MOST_ADDED = 100
"""Values that one program may have masked."""
_LONGEST_ADDED = 64 * 1024


class StreamMask:
    """One stream of bytes. For one thread."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._context = b""
        """What was given out already of that which may be the beginning of a secret, without line breaks."""
        self._held = b""
        """What was not, as it came."""
        self._shown = False
        """Whether the context ends in a mask on the line that goes on."""

    def feed(self, piece: bytes, *, ended: bool = True) -> bytes:
        """What may be shown now. ``ended``: the piece ends its line; the newline itself is not part of it."""
        raw = self._held + piece if self._held else piece
        done = len(self._context)
        text = self._context + without_breaks(raw) if done else without_breaks(raw)
        forms = self._masker.forms
        spans, tail = forms.spans(text), forms.tail(text)
        beginning = len(text) - tail
        if ended and tail >= SHORTEST_SECRET:
            spans = joined([*spans, (beginning, len(text))])
        if not spans and (ended or not tail):
            self._context, self._held, self._shown = text[beginning:], b"", False
            return raw
        offsets = Offsets(raw)
        pieces: list[bytes] = []
        position, given, shown = 0, done, self._shown
        for start, end in spans:
            if end <= done or (start >= beginning and not ended):
                continue
            first, last = offsets.of((max(start - done, 0), end - done))
            if start >= done or not self._shown:
                pieces += (raw[position:first], MASK)
            position, given, shown = last, end, True
        if ended:
            pieces.append(raw[position:])
            self._context, self._held, self._shown = text[beginning:], b"", False
        else:
            if given < beginning:
                upto = offsets.of((beginning - done - 1, beginning - done))[1]
                pieces.append(raw[position:upto])
                position, given, shown = upto, beginning, False
            self._context, self._held, self._shown = text[beginning:given], raw[position:], shown
        return b"".join(pieces)

    def finish(self) -> bytes:
        """What is still held back, once nothing more can come: as the end of a line."""
        return self.feed(b"") if self._held else b""


class LogMask:
    """A program's output, line by line and stream by stream. For one thread.

    A line ``::add-mask::VALUE`` asks to mask a value from then on; ``::add-mask::***`` takes its place. It is
    lost on whoever reads the log from a later place, so that a mask that is made anew needs what came since.
    """

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._streams: dict[int, StreamMask] = {}
        self._asked: set[bytes] = set()
        self._asking: set[int] = set()
        self.requests = 0
        """Lines that asked to mask a value, over all beginnings."""

    @property
    def context(self) -> int:
        """How many bytes before a line decide on how it is masked."""
        return self._masker.forms.longest

    def begin(self) -> None:
        """What follows does not follow on what came before. Values that were asked for stay masked."""
        self._streams.clear()
        self._asking.clear()

    def line(self, text: bytes, stream: int = 0, *, cut: bool = False) -> bytes:
        """A line as it may be kept. ``cut``: it goes on in the stream's next one."""
        if stream in self._asking:
            self._asking -= set() if cut else {stream}
            return b""
        if ADD_MASK in text and text.lstrip().startswith(ADD_MASK):
            self.requests += 1
            if cut:
                self._asking.add(stream)
            else:
                self._add(text.lstrip()[len(ADD_MASK) :])
            return MASK_ADDED
        mask = self._streams.get(stream)
        if mask is None:
            mask = self._streams[stream] = StreamMask(self._masker)
        return mask.feed(text, ended=not cut)

    def _add(self, escaped: bytes) -> None:
        # As on GitHub, a percent sign and line breaks come as %25, %0D and %0A.
        value = escaped
        for code in (b"%0D", b"%0A", b"%25"):
            value = value.replace(code, unquote_to_bytes(code))
        value = value.strip()
        if value not in self._asked and len(self._asked) < MOST_ADDED and len(value) <= _LONGEST_ADDED:
            self._asked.add(value)
            self._masker.add(value.decode("utf-8", "surrogateescape"))
