"""Reading what trainings leave: TensorBoard's scalars beside its own reader, and predictions."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

from orchestrator.adapters.collectors.formats import FormatReaders
from orchestrator.ports.collecting import Claim, LeftFile
from tests.benchmarks.harness import Figures, Parameters, in_turns, ratios_to_first, table

_TAGS = 10


def measure(parameters: Parameters) -> Figures:
    """Seconds for a file of ``scalars`` (1,000,000) and for predictions of ``megabytes`` (200).

    ``rounds``: 3. The other reader is TensorBoard's EventAccumulator, told to keep all scalars.
    """
    scalars, size = parameters.number("scalars", 1_000_000), parameters.number("megabytes", 200)
    rounds = parameters.number("rounds", 3)
    with tempfile.TemporaryDirectory() as folder:
        events = _write_events(Path(folder), scalars)
        table_file = _write_predictions(Path(folder) / "predictions.csv", size << 20)
        readers = FormatReaders()
        claim = Claim("tensorboard:", (events.name,))
        read = readers.read(claim, {events.name: _left(events)})
        assert sum(len(series.values) for series in read.series) == scalars
        samples = in_turns(
            {
                "readers": _timed(lambda: readers.read(claim, {events.name: _left(events)})),
                "event_accumulator": _timed(partial(_accumulate, Path(folder) / "events")),
            },
            rounds,
        )
        table(f"{scalars} scalars of {_TAGS} tags", samples, "s", 1)
        ratios = ratios_to_first(samples)
        rows = readers.predictions(_left(table_file), frozenset, 4 << 30).rows
        predictions = in_turns(
            {"predictions": _timed(lambda: readers.predictions(_left(table_file), frozenset, 4 << 30))},
            rounds,
        )
        table(f"{rows} predictions, {table_file.stat().st_size / 1e6:.0f} MB", predictions, "s", 1)
    return Figures(ratios, {**samples, **predictions}, {"scalars": scalars, "prediction_rows": rows})


def _timed(act: Callable[[], object]) -> Callable[[], float]:
    def run() -> float:
        began = time.perf_counter()
        act()
        return time.perf_counter() - began

    return run


def _left(path: Path) -> LeftFile:
    def opened() -> BinaryIO:
        return path.open("rb")

    return LeftFile(path.name, path.stat().st_size, opened)


def _accumulate(folder: Path) -> object:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()


def _write_events(folder: Path, scalars: int) -> Path:
    """Events as TensorBoard's own writer makes them, but for its thread."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    made = random.Random(1)  # noqa: S311 - the same numbers each time
    path = folder / "events" / "events.out.tfevents.1.host"
    path.parent.mkdir()
    writer = RecordWriter(path.open("wb"))
    writer.write(Event(wall_time=1.5e9, file_version="brain.Event:2").SerializeToString())
    for number in range(scalars):
        step, tag = divmod(number, _TAGS)
        value = Summary.Value(tag=f"train/metric_{tag}", simple_value=made.random())
        event = Event(wall_time=1.5e9 + step / 7, step=step, summary=Summary(value=[value]))
        writer.write(event.SerializeToString())
    writer.close()
    return path


def _write_predictions(path: Path, size: int) -> Path:
    made = random.Random(2)  # noqa: S311 - the same numbers each time
    classes = ("cat", "dog", "bird")
    block = "".join(
        f"{{row}},{made.choice(classes)},{made.choice(classes)},{made.random():.6f},{made.randrange(9)}\n"
        for _ in range(1000)
    )
    row = 0
    with path.open("w") as file:
        file.write("row_id,label,prediction,score,region\n")
        while file.tell() < size:
            lines = block.split("{row}")
            file.write("".join(f"{row + at}{line}" for at, line in enumerate(lines[1:])))
            row += len(lines) - 1
    return path
