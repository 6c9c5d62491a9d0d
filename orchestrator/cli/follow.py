"""A run while it goes on: a live panel on a terminal, plain lines elsewhere, all on standard error."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from orchestrator.bootstrap import Application
from orchestrator.cli.output import STYLES, console, is_terminal, say
from orchestrator.cli.views import reference, settled, why_waiting
from orchestrator.domain.action_spec import EmailAction, place_of
from orchestrator.domain.report import format_duration, format_size
from orchestrator.domain.run import Attempt, AttemptState, Run, RunState, latest_tries
from orchestrator.domain.text import clean, readable
from orchestrator.ports.progress import ProgressEvent

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.text import Text

_TICK = 0.3
_SHOWN_LINES = 10
_LOOK_FOR_SERVERS = 5.0


class LogReader:
    """The new whole lines of attempts' logs since the last look."""

    def __init__(self, app: Application) -> None:
        self._logs = app.logs
        self._offsets: dict[int, int] = {}

    def new(self, attempt_id: int) -> Iterator[tuple[str, str]]:
        """Each line as a person would see it, after its timestamp."""
        for offset, line in self._logs.lines(attempt_id, self._offsets.get(attempt_id, 0)):
            self._offsets[attempt_id] = offset
            yield line.timestamp, readable(line.text)


class ProgressBoard:
    """The latest of each kind of long work, told by working threads and read by the one that shows it."""

    def __init__(self, show_lines: bool) -> None:
        self._lock = threading.Lock()
        self._latest: dict[str, ProgressEvent] = {}
        self._lines: deque[str] = deque(maxlen=200)
        self._show_lines = show_lines

    def __call__(self, event: ProgressEvent) -> None:
        """Take an event."""
        with self._lock:
            if event.line and self._show_lines:
                self._lines.append(clean(event.line))
            if not event.line:
                self._latest.pop(event.what, None)
                self._latest[event.what] = event

    def latest(self) -> list[ProgressEvent]:
        """What was told of each kind of work, the newest last."""
        with self._lock:
            return list(self._latest.values())

    def lines(self) -> list[str]:
        """The output lines since the last call."""
        with self._lock:
            taken = list(self._lines)
            self._lines.clear()
            return taken


class Follower:
    """Shows a run until nothing more is to be waited for."""

    def __init__(
        self, app: Application, run: Run, *, show_log: bool, alive: Callable[[], bool] = lambda: True
    ) -> None:
        self._app = app
        self._run_id = run.id
        self._show_log = show_log
        self._alive = alive
        self._reader = LogReader(app)
        self._recent: deque[str] = deque(maxlen=_SHOWN_LINES)
        self._told: set[str] = set()
        self._live: Live | None = None
        self.board = ProgressBoard(show_log)

    def watch(self) -> Run | None:
        """Show it until it is settled; the run then, or None when whoever executes it is gone."""
        with self._screen():
            looked = self._app.clock.monotonic()
            while True:
                run = self._app.store.runs.get(self._run_id)
                self._show(run)
                if settled(self._app, run):
                    return run
                if self._app.clock.monotonic() - looked > _LOOK_FOR_SERVERS:
                    looked = self._app.clock.monotonic()
                    if not self._alive():
                        return None
                self._app.clock.sleep(_TICK)

    def _screen(self) -> AbstractContextManager[object]:
        if not is_terminal():
            return nullcontext()
        from rich.live import Live

        self._live = Live(console=console(sys.stderr), transient=True, refresh_per_second=5)
        return self._live

    def _show(self, run: Run) -> None:
        attempts = latest_tries(self._app.store.attempts.of_run(run.id))
        if self._live is None:
            self._tell(run, attempts)
        for attempt in attempts if self._show_log else ():
            many = f"[{attempt.replicate}] " if len(attempts) > 1 else ""
            for _, line in self._reader.new(attempt.id):
                self._line(many + line)
        for line in self.board.lines():
            self._line(line)
        if self._live is not None:
            self._live.update(self._panel(run, attempts))

    def _line(self, line: str) -> None:
        self._recent.append(line)
        if self._live is None:
            say(f"  | {line}")

    def _tell(self, run: Run, attempts: tuple[Attempt, ...]) -> None:
        for attempt in attempts:
            place = f" on {attempt.host}" if attempt.host else ""
            many = f" replicate {attempt.replicate}" if run.replicates > 1 else ""
            again = f", try {attempt.number}" if attempt.number > 1 else ""
            self._once(f"{reference(run)}{many}: {attempt.state.value}{place}{again}")
        for event in self.board.latest():
            if event.what in set(AttemptState):
                continue
            self._once(f"{reference(run)}: {clean(event.what)}")
        for reason in why_waiting(self._app, run, in_process=True):
            self._once(f"{reference(run)}: {reason.partition(' is tried again in')[0]}")
        if run.state.final or run.state is RunState.EVALUATING:
            self._once(f"{reference(run)}: {run.state.value}")
        for action in self._app.store.actions.of_run(run.id):
            if action.state.value != "pending" or action.message:
                told = f"{action.spec.kind}: {action.state.value} {clean(action.message)}"
                self._once(f"{reference(run)}: {told.strip()}")

    def _once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            say(text)

    def _panel(self, run: Run, attempts: tuple[Attempt, ...]) -> RenderableType:
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        revision = run.change.revision
        rows: list[RenderableType] = [self._stages(run, attempts)]
        rows += [
            Text(f"waits: {reason}", style="cyan") for reason in why_waiting(self._app, run, in_process=True)
        ]
        rows += self._bars(run)
        rows += [Text(f"| {line}", style="dim", no_wrap=True, overflow="ellipsis") for line in self._recent]
        title = Text.assemble(
            (reference(run), "bold"),
            f"  {run.state.value.replace('_', ' ')}  {clean(revision.branch)} {revision.short} ",
            (f'"{clean(revision.subject)}"' if revision.subject else "", "dim"),
        )
        return Panel(Group(*rows), title=title, title_align="left", border_style="blue")

    def _stages(self, run: Run, attempts: tuple[Attempt, ...]) -> Text:
        from rich.text import Text

        stages = ("queued", "preparing", "running", "collecting")
        shown = Text()
        for stage in stages:
            count = sum(1 for a in attempts if a.state.value == stage)
            style = STYLES.get(stage, "blue") if count else "dim"
            many = f" x{count}" if count > 1 else ""
            shown.append(f"{stage}{many}", f"bold {style}" if count else style).append(" ─ ", "dim")
        judging = run.state is RunState.EVALUATING
        shown.append("judging", "bold blue" if judging else "dim").append(" ─ ", "dim")
        shown.append("acting", "bold blue" if run.state.final else "dim")
        ended = sum(1 for a in attempts if a.state is AttemptState.SUCCEEDED)
        if len(attempts) > 1:
            shown.append(f"   {ended} of {len(attempts)} replicates done", "dim")
        began = run.started_at or run.created_at
        end = run.finished_at or self._app.clock.now()
        return shown.append(f"   {format_duration((end - began).total_seconds())}", "dim")

    def _bars(self, run: Run) -> list[RenderableType]:
        from rich.text import Text

        busy = [a for a in self._app.store.actions.of_run(run.id) if a.state.value == "running"]
        rows: list[RenderableType] = [
            Text(
                a.spec.kind if isinstance(a.spec, EmailAction) else f"{a.spec.kind} {clean(place_of(a.spec))}"
            )
            for a in busy
        ]
        newest = self.board.latest()[-1:]
        rows += [
            Text(progress_text(event)) for event in newest if event.total is None or event.done < event.total
        ]
        return rows


def progress_text(event: ProgressEvent) -> str:
    """``building x``, ``staging wine v7 ▓▓▓▓░░ 12 of 40 MiB``."""
    what = clean(event.what)
    if event.total is None or event.total <= 0:
        return f"{what} …" if not event.done else f"{what} {_amount(event.done, event.unit)}"
    filled = round(20 * min(event.done / event.total, 1.0))
    bar = "▓" * filled + "░" * (20 - filled)
    return f"{what} {bar} {_amount(event.done, event.unit)} of {_amount(event.total, event.unit)}"


def _amount(count: int, unit: str) -> str:
    return format_size(count) if unit == "bytes" else f"{count} {unit}".strip()
