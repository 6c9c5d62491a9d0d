"""A part of an open file, as a file of its own."""

from __future__ import annotations

import io
from typing import BinaryIO


class Part(io.RawIOBase):
    """So many bytes of an open file, which it closes."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__()
        self._file, self._left = file, size

    def take(self, wanted: int) -> bytes:
        """At most so many bytes from where the file is."""
        return self._file.read(wanted)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the stub names a private protocol
        wanted = min(len(buffer), self._left)
        data = self.take(wanted) if wanted else b""
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
