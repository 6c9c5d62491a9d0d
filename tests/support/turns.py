"""Several servers in one test, of which one at a time takes one step.

So any interleaving can be had, and any point at which a process may be killed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Killed(BaseException):
    """The process ends here; no handler of the product sees it."""


class Turn:
    """Something that a server does, a step at a time. A step ends before and after each call of a port."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._go = threading.Semaphore(0)
        self._arrived = threading.Semaphore(0)
        self._killed = False
        self.done = False
        self.error: BaseException | None = None
        self._act = act
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def mine(self) -> bool:
        """Whether it is the thread of this turn that asks."""
        return threading.current_thread() is self._thread

    def step(self) -> None:
        """Let it go on until its next point, or its end."""
        if not self.done:
            self._go.release()
            assert self._arrived.acquire(timeout=30), "it did not come to its next point"

    def finish(self) -> None:
        """Let it go on until its end."""
        while not self.done:
            self.step()
        self._thread.join(30)

    def kill(self) -> None:
        """End it where it is."""
        self._killed = True
        self.finish()

    def point(self) -> None:
        """Wait to be let on; called by its own thread."""
        self._arrived.release()
        self._go.acquire()
        if self._killed:
            raise Killed

    def _run(self) -> None:
        self._go.acquire()
        try:
            self._act()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - told to the test, in its own thread
            self.error = error
        self.done = True
        self._arrived.release()


class Stepped:
    """A port of which each call is a point, before and after it."""

    def __init__(self, port: object, turn: Callable[[], Turn | None]) -> None:
        self._port = port
        self._turn = turn

    def __getattr__(self, name: str) -> Callable[..., object]:
        call = getattr(self._port, name)

        def stepped(*args: object, **named: object) -> object:
            self._point()
            found: object = call(*args, **named)
            self._point()
            return found

        return stepped

    def _point(self) -> None:
        turn = self._turn()
        if turn is not None and turn.mine:
            turn.point()
