"""Logs of a run on standard output."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence

from orchestrator.bootstrap import Application
from orchestrator.cli.follow import LogReader
from orchestrator.cli.output import json_text, say
from orchestrator.cli.settings import PASSED
from orchestrator.cli.views import reference
from orchestrator.domain.errors import NotFound
from orchestrator.domain.run import Attempt, Run, latest_tries

_TICK = 0.3


def print_logs(
    app: Application,
    run: Run,
    *,
    follow: bool,
    tail: int | None,
    replicate: int | None,
    number: int | None = None,
    timestamps: bool,
    as_json: bool = False,
) -> int:
    """Print the log of the latest try of each replicate, or of its try ``number``; with ``follow`` until the
    run has ended. Of tries before the one that is printed it is told how to see them.

    ``as_json``: one object a line, with timestamp, replicate and text.
    """
    attempts = _chosen(app, run, replicate, number)
    reader = LogReader(app)
    many = len(attempts) > 1

    def show(attempt: Attempt, when: str, text: str) -> None:
        if as_json:
            line = json_text({"timestamp": when, "replicate": attempt.replicate, "text": text})
        else:
            parts = (when if timestamps else "", f"[{attempt.replicate}]" if many else "", text)
            line = " ".join(part for part in parts if part)
        sys.stdout.write(line + "\n")

    printed = 0
    _tell_of_earlier(() if number else attempts, run)
    for attempt in attempts:
        if attempt.log_removed:
            which = f" [{attempt.replicate}]" if many else ""
            say(f"the log of {reference(run)}{which} was {attempt.log_removed}")
            printed += 1
            continue
        lines = reader.new(attempt.id)
        for when, text in lines if tail is None else deque(lines, maxlen=tail):
            show(attempt, when, text)
            printed += 1
    sys.stdout.flush()
    if not follow:
        if not printed and tail != 0:
            say(f"{reference(run)} has no log yet" if not run.state.final else f"{reference(run)} has no log")
        return PASSED
    while True:
        ended = app.store.runs.get(run.id).state.final
        for attempt in _chosen(app, run, replicate, number):
            for when, text in reader.new(attempt.id):
                show(attempt, when, text)
        sys.stdout.flush()
        if ended:
            return PASSED
        app.clock.sleep(_TICK)


def _tell_of_earlier(attempts: Sequence[Attempt], run: Run) -> None:
    for attempt in attempts:
        if attempt.number > 1:
            which = f"replicate {attempt.replicate}: " if run.replicates > 1 else ""
            before = attempt.number - 1
            say(f"{which}try {attempt.number} of {attempt.number}; --try {before} for the one before")


def _chosen(app: Application, run: Run, replicate: int | None, number: int | None) -> list[Attempt]:
    """The attempts to print: of each replicate the latest try, or the one of that number. Raises NotFound."""
    tries = app.store.attempts.of_run(run.id)
    latest = latest_tries(tries)
    known = ", ".join(str(a.replicate) for a in latest)
    if replicate is not None and all(a.replicate != replicate for a in latest):
        raise NotFound(f"{reference(run)} has no replicate {replicate}", f"it has: {known}")
    chosen = latest
    if number is not None:
        chosen = tuple(sorted((a for a in tries if a.number == number), key=lambda a: a.replicate))
    chosen = tuple(a for a in chosen if replicate is None or a.replicate == replicate)
    if number is not None and not chosen:
        last = max((a.number for a in latest if replicate in (None, a.replicate)), default=0)
        raise NotFound(f"{reference(run)} has no try {number}", f"its last one is {last}")
    return list(chosen)
