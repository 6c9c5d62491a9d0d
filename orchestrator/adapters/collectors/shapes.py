"""JSON documents that tools write: told by what they hold, since their names say little."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from orchestrator.adapters.collectors.common import Findings, as_float
from orchestrator.adapters.collectors.documents import numbers
from orchestrator.adapters.collectors.jsonlines import note_record
from orchestrator.domain.collected import Reading
from orchestrator.domain.metrics import Direction, Json

_Document = Mapping[str, Json]
_Shape = Callable[[str, _Document], Reading | None]


def read_shaped(path: str, document: _Document) -> Reading | None:
    """What a document of a known shape says; None for one of no known shape."""
    return next((reading for shape in _SHAPES if (reading := shape(path, document)) is not None), None)


def _lm_eval(path: str, document: _Document) -> Reading | None:
    """``results.<task>."acc,none"`` with ``"acc_stderr,none"``, and ``higher_is_better.<task>.acc``."""
    results = _mapping(document.get("results"))
    if not results or not ("higher_is_better" in document or "n-shot" in document):
        return None
    better = _mapping(document.get("higher_is_better"))
    found = Findings("lm-eval", path)
    for task, values in results.items():
        scores = _mapping(values)
        ways = _mapping(better.get(task))
        for key, value in scores.items():
            measure, comma, filtered = key.partition(",")
            if not comma or measure.endswith("_stderr"):
                continue
            score = _number(value)
            if score is None:
                continue
            higher = ways.get(measure)
            found.metric(
                f"{task}/{measure}" if filtered == "none" else f"{task}/{measure},{filtered}",
                score,
                stderr=_number(scores.get(f"{measure}_stderr,{filtered}")),
                direction=_direction(higher),
            )
    for name, value in _mapping(document.get("n-shot")).items():
        if (shots := _number(value)) is not None:
            found.param(f"n-shot/{name}", f"{shots:g}")
    if isinstance(model := document.get("model_name"), str):
        found.param("model", model)
    return found.reading()


def _direction(higher: Json) -> Direction | None:
    if not isinstance(higher, bool):
        return None
    return Direction.HIGHER if higher else Direction.LOWER


def _pytest_benchmark(path: str, document: _Document) -> Reading | None:
    """``benchmarks[].stats``, in seconds: the mean with its standard error, and other figures."""
    benchmarks = document.get("benchmarks")
    if not isinstance(benchmarks, list) or "machine_info" not in document:
        return None
    found = Findings("pytest-benchmark", path)
    for each in benchmarks:
        entry = _mapping(each)
        name, stats = entry.get("name"), _mapping(entry.get("stats"))
        if not isinstance(name, str):
            continue
        rounds, spread = _number(stats.get("rounds")), _number(stats.get("stddev"))
        stderr = None if rounds is None or spread is None or rounds < 2 else spread / rounds**0.5
        for figure in ("mean", "median", "min", "max", "stddev", "ops", "rounds"):
            value = _number(stats.get(figure))
            if value is None:
                continue
            time = figure not in ("ops", "rounds")
            found.metric(
                f"{name}/{figure}",
                value,
                stderr=stderr if figure == "mean" else None,
                direction=Direction.LOWER if time else Direction.HIGHER if figure == "ops" else None,
                unit="s" if time else "1/s" if figure == "ops" else "",
            )
        for extra, value in numbers(_mapping(entry.get("extra_info"))):
            found.metric(f"{name}/{extra}", value)
    return found.reading()


def _bencher(path: str, document: _Document) -> Reading | None:
    """``{benchmark: {measure: {value, lower_value?, upper_value?}}}``, Bencher's metric format."""
    found = Findings("bencher", path)
    count = 0
    for benchmark, measures in document.items():
        inner = _mapping(measures)
        if not inner:
            return None
        for measure, figures in inner.items():
            figure = _mapping(figures)
            value = _number(figure.get("value"))
            if value is None or not figure.keys() <= {"value", "lower_value", "upper_value"}:
                return None
            found.metric(f"{benchmark}/{measure}", value, direction=_BENCHER.get(measure))
            for bound in ("lower_value", "upper_value"):
                if (limit := _number(figure.get(bound))) is not None:
                    found.metric(f"{benchmark}/{measure}/{bound}", limit)
            count += 1
    return found.reading() if count else None


_BENCHER: Final[Mapping[str, Direction]] = {
    "latency": Direction.LOWER,
    "throughput": Direction.HIGHER,
    "file-size": Direction.LOWER,
    "build-time": Direction.LOWER,
}


def _trainer_state(path: str, document: _Document) -> Reading | None:
    """``log_history`` of the Hugging Face Trainer: a list of records with ``step`` and ``epoch``."""
    history = document.get("log_history")
    if not isinstance(history, list):
        return None
    found = Findings("trainer", path)
    note_history(found, history)
    best = _number(document.get("best_metric"))
    if best is not None:
        found.metric("best_metric", best, step=_number(document.get("best_global_step")))
    return found.reading()


def note_history(found: Findings, history: Sequence[Json]) -> None:
    """Note the records of a Trainer's history."""
    for count, record in enumerate(history):
        if isinstance(record, Mapping):
            note_record(found, record, count)


def _classification_report(path: str, document: _Document) -> Reading | None:
    """``classification_report(output_dict=True)`` of scikit-learn. Support is no score: no way is good."""
    if not {"macro avg", "weighted avg"} <= document.keys():
        return None
    found = Findings("scikit-learn", path)
    for name, value in numbers(document):
        score = name.rpartition("/")[2] != "support"
        found.metric(name, value, direction=Direction.HIGHER if score else None)
    return found.reading()


_SHAPES: Final[tuple[_Shape, ...]] = (
    _lm_eval,
    _pytest_benchmark,
    _trainer_state,
    _classification_report,
    _bencher,
)


def _mapping(node: Json) -> _Document:
    return node if isinstance(node, Mapping) else {}


def _number(node: Json) -> float | None:
    if isinstance(node, bool) or not isinstance(node, (int, float)):
        return None
    return as_float(node)


def points_of(node: Json) -> Iterator[_Document]:
    """The items of a list that are objects."""
    if isinstance(node, list):
        yield from (item for item in node if isinstance(item, Mapping))
