"""Staying with a run until its end: executing it here when no server does, else following the server."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from orchestrator.bootstrap import Application
from orchestrator.cli.follow import Follower
from orchestrator.cli.output import print_json, say
from orchestrator.cli.settings import UNKNOWN
from orchestrator.cli.verdict import print_verdict
from orchestrator.cli.views import exit_code, full_json, reference, why_waiting
from orchestrator.domain.run import Run


def stay_with(app: Application, run: Run, *, show_log: bool, as_json: bool) -> int:
    """Wait for a run's end, telling how it goes; the exit code.

    Interrupted once, it lets go of the run, whose containers go on; interrupted again, it ends at once.
    """
    servers = app.live_servers()
    if servers:
        say(f"{reference(run)}: executed by the server at {servers[0].url or servers[0].owner}")
        follower = Follower(app, run, show_log=show_log, alive=lambda: bool(app.live_servers()))
        with _terminated_like_interrupted():
            try:
                ended = follower.watch()
            except KeyboardInterrupt:
                say(f"{reference(run)} goes on in the server. Watch it: orchestrator runs resume {run.id}")
                return UNKNOWN
        if ended is None:
            say(f"the server has gone. Start it again, or: orchestrator runs resume {run.id}")
            return UNKNOWN
        return _conclude(app, ended, as_json)
    return _execute_here(app, run, show_log=show_log, as_json=as_json)


def _execute_here(app: Application, run: Run, *, show_log: bool, as_json: bool) -> int:
    from orchestrator.cli.execution import LocalExecution

    follower = Follower(app, run, show_log=show_log)
    execution = LocalExecution(app, run, follower.board)
    with _terminated_like_interrupted():
        execution.start()
        try:
            ended = follower.watch()
        except KeyboardInterrupt:
            say("letting go (once more to end at once) …")
            execution.stop()
            _tell_how_it_goes_on(app, run)
            return UNKNOWN
        except BaseException:
            execution.stop()
            raise
        execution.stop()
    return _conclude(app, ended or run, as_json)


def _tell_how_it_goes_on(app: Application, run: Run) -> None:
    now = app.store.runs.get(run.id)
    if now.state.final:
        say(f"{reference(run)} has ended: {now.state.value}")
        return
    started = any(a.state.active for a in app.store.attempts.of_run(run.id))
    what = "goes on in its container" if started else "stays queued"
    say(f"{reference(run)} {what}.")
    say(f"  pick it up:  orchestrator runs resume {run.id}     or start: orchestrator serve")
    say(f"  end it:      orchestrator runs cancel {run.id}")


def _conclude(app: Application, run: Run, as_json: bool) -> int:
    if as_json:
        print_json(full_json(app, run, why_waiting(app, run)))
    else:
        print_verdict(app, run)
    return exit_code(run)


class _terminated_like_interrupted:  # noqa: N801 - used as a function is
    """SIGTERM means what Ctrl-C means, so that a stopped script leaves the run in good order."""

    def __enter__(self) -> None:
        self._before = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, _interrupt)

    def __exit__(self, *exc: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt
