"""What the person at the terminal sees while the demo goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from rich.console import Console
from rich.text import Text

from orchestrator.demo.errors import DemoFailed

T = TypeVar("T")

_POLL = 0.6
"""Seconds between two looks; each look is a command line of its own."""
_QUIET = 5.0
"""Seconds between two lines about one wait, where there is no terminal."""
_PLAIN_WIDTH = 140


@dataclass
class Terminal:
    """Prints chapters and progress; on a terminal, the line at the bottom lives."""

    screen: Console = field(default_factory=lambda: wide_screen())
    _began: float = field(default_factory=time.monotonic)
    phases: list[tuple[str, float]] = field(default_factory=list)
    """Each phase with the seconds that it took."""

    @property
    def elapsed(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._began

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """One part of the story, and how long it takes."""
        self.screen.print(Text.assemble((f"\n{self.elapsed:4.0f} s  ", "dim"), (title, "bold")))
        began = time.monotonic()
        yield
        self.phases.append((title, time.monotonic() - began))

    def say(self, text: str, style: str = "") -> None:
        """One line of the story."""
        self.screen.print(Text(f"        {text}", style=style), soft_wrap=True)

    def wait_for(
        self,
        what: str,
        look: Callable[[], T | None],
        seconds: float,
        now: Callable[[], str] = lambda: "",
        run: int | None = None,
    ) -> T:
        """What ``look`` returns once it is not None. ``now`` tells how things stand meanwhile.

        Raises DemoFailed after ``seconds``, naming ``what``, how it stood last, and the run it is about.
        """
        began = time.monotonic()
        stood = ""
        with self._live(f"waiting for {what}") as show:
            while True:
                seen = look()
                if seen is not None:
                    return seen
                stood = now() or stood
                waited = time.monotonic() - began
                show(waited, stood)
                if waited > seconds:
                    last = f"; at last: {stood}" if stood else ""
                    raise DemoFailed(f"waited {seconds:.0f} s for {what}, in vain{last}", run=run)
                time.sleep(_POLL)

    @contextmanager
    def _live(self, what: str) -> Iterator[Callable[[float, str], None]]:
        if not self.screen.is_terminal:
            told: list[str] = []

            def line(waited: float, stood: str) -> None:
                if not told or (waited > _QUIET * len(told) and told[-1] != stood):
                    told.append(stood)
                    self.say(f"{what}, {waited:.0f} s{': ' + stood if stood else ''}")

            yield line
            return
        with self.screen.status(Text(f"  {what}"), spinner="dots") as status:

            def update(waited: float, stood: str) -> None:
                text = Text.assemble(f"  {what} ", (f"{waited:.0f} s  ", "dim"), (stood, "cyan"))
                text.truncate(max(20, self.screen.width - 4), overflow="ellipsis")
                status.update(text)

            yield update


def wide_screen() -> Console:
    """Standard output; wide enough for the table where it is no terminal."""
    plain = bool(os.environ.get("NO_COLOR"))
    screen = Console(markup=False, highlight=False, emoji=False, force_terminal=False if plain else None)
    if not screen.is_terminal:
        screen.width = _PLAIN_WIDTH
    return screen
