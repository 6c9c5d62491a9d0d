"""How far a training has come is read from what it has printed."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.adapters.collectors import format_readers
from orchestrator.domain.chart import CurveChart
from orchestrator.domain.check import parse_check
from orchestrator.domain.gate import Gate
from orchestrator.domain.pipeline import CollectSpec, Pipeline
from orchestrator.domain.run import Attempt, AttemptState
from orchestrator.ports.engine import LogLine
from orchestrator.services.under_way import curves_so_far, printed_so_far, so_far
from tests.unit.services.worlds import pipeline

RUNNING = Attempt(1, 1, 0, 1, 7, AttemptState.RUNNING)


class Written:
    """Logs of which only the lines are asked for."""

    def __init__(self, *lines: bytes) -> None:
        self._lines = lines

    def lines(self, attempt_id: int, offset: int = 0) -> Iterator[tuple[int, LogLine]]:
        for at, line in enumerate(self._lines):
            yield at, LogLine("2026-11-23T05:44:59Z", line)


def judged(**changes: object) -> Pipeline:
    return pipeline(gate=Gate((parse_check("accuracy >= 0.5"),)), **changes)


def test_lines_of_json_make_a_curve_and_the_last_value_of_what_is_judged() -> None:
    logs = Written(
        *(f'{{"step": {n}, "accuracy": {n / 10}, "val_loss": {1 / n}}}'.encode() for n in range(1, 6))
    )
    metrics, series = printed_so_far(logs, format_readers(), [RUNNING], judged())  # type: ignore[arg-type]
    assert so_far(metrics, judged()) == "accuracy 0.5 so far"
    charts = curves_so_far(series, judged())
    assert [chart.title for chart in charts if isinstance(chart, CurveChart)] == ["accuracy", "val_loss"]
    first = charts[0]
    assert isinstance(first, CurveChart)
    assert list(first.lines[0].y) == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_the_declared_pattern_is_read_before_the_end() -> None:
    declared = judged(readings=(CollectSpec("", r"epoch (?P<step>\d+): (?P<accuracy>[0-9.]+)"),))
    logs = Written(b"epoch 1: 0.6", b"noise", b"epoch 2: 0.7")
    metrics, series = printed_so_far(logs, format_readers(), [RUNNING], declared)  # type: ignore[arg-type]
    assert so_far(metrics, declared) == "accuracy 0.7 so far"
    assert len(curves_so_far(series, declared)) == 1


def test_what_is_printed_in_words_has_its_last_value() -> None:
    logs = Written(b"accuracy: 0.61", b"accuracy: 0.72")
    metrics, _ = printed_so_far(logs, format_readers(), [RUNNING], judged())  # type: ignore[arg-type]
    assert so_far(metrics, judged()) == "accuracy 0.72 so far"


def test_nothing_is_said_before_a_command_runs_or_prints_numbers() -> None:
    for attempts, lines in (([], (b"accuracy: 1",)), ([RUNNING], (b"hello",)), ([RUNNING], ())):
        found = printed_so_far(Written(*lines), format_readers(), attempts, judged())  # type: ignore[arg-type]
        assert so_far(found[0], judged()) == ""
        assert curves_so_far(found[1], judged()) == ()
