"""Folders of training libraries: Lightning's CSVLogger, the Hugging Face Trainer, Ultralytics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Final

from orchestrator.adapters.collectors.common import Findings
from orchestrator.adapters.collectors.documents import note_params, numbers
from orchestrator.adapters.collectors.plain import load, load_mapping
from orchestrator.adapters.collectors.plots import kind_of_plot
from orchestrator.adapters.collectors.shapes import note_history
from orchestrator.adapters.collectors.tables import header_of, note_table, read_table
from orchestrator.domain.collected import Plot, Reading
from orchestrator.domain.errors import InvalidInput
from orchestrator.ports.collecting import LeftFile

TRAINER_RESULTS: Final = tuple(f"{part}_results.json" for part in ("train", "eval", "test", "predict", "all"))
TRAINER_STATE: Final = "trainer_state.json"


def read_lightning(files: Sequence[LeftFile]) -> Reading:
    """``version_N/metrics.csv`` and ``hparams.yaml``. Of several, the version precedes the names."""
    found = Findings("lightning", files[0].path)
    folders: dict[str, list[LeftFile]] = {}
    for file in files:
        folders.setdefault(str(PurePosixPath(file.path).parent), []).append(file)
    tables = [folder for folder, those in folders.items() if any(_is(file, "metrics.csv") for file in those)]
    for folder, those in folders.items():
        prefix = f"{PurePosixPath(folder).name}/" if len(tables) > 1 else ""
        for file in those:
            if _is(file, "metrics.csv"):
                with _warning(found, unless=len(tables) == 1):
                    note_table(found, file, prefix=prefix)
            else:
                with _warning(found):
                    _hparams(found, file, prefix)
    return found.reading()


def _is(file: LeftFile, name: str) -> bool:
    return PurePosixPath(file.path).name == name


def _hparams(found: Findings, file: LeftFile, prefix: str) -> None:
    if file.size > len("{}\n"):
        document = load(file)
        if isinstance(document, Mapping):
            note_params(found, {f"{prefix}{name}": value for name, value in document.items()}, file.path)


def read_trainer(files: Sequence[LeftFile]) -> Reading:
    """``{train,eval,test,predict,all}_results.json`` and the history in ``trainer_state.json``.

    Values of the same name are the same numbers: those in the results stand above the history's last ones.
    Of the states in checkpoints the longest counts, and only where the folder itself has none.
    """
    found = Findings("trainer", files[0].path)
    named = {PurePosixPath(file.path).name: file for file in files if "checkpoint-" not in file.path}
    states = [file for file in files if _is(file, TRAINER_STATE)]
    chosen = named.get(TRAINER_STATE) or max(states, key=_steps, default=None)
    alone = len(files) == 1
    if chosen is not None:
        with _warning(found, unless=alone):
            _note_state(found, chosen)
    for name in reversed(TRAINER_RESULTS):
        if (file := named.get(name)) is not None:
            with _warning(found, unless=alone):
                _note_results(found, file)
    return found.reading()


def _note_state(found: Findings, file: LeftFile) -> None:
    state = load_mapping(file)
    history = state.get("log_history")
    if not isinstance(history, list):
        raise InvalidInput(f"{file.path}: it has no list log_history", "the state that the Trainer saves")
    note_history(found, history)
    best = state.get("best_metric")
    if isinstance(best, float):
        found.metric("best_metric", best, source=file.path)


def _note_results(found: Findings, file: LeftFile) -> None:
    for name, value in numbers(load_mapping(file)):
        if name != "epoch":
            found.metric(name, value, source=file.path)


def _steps(file: LeftFile) -> int:
    digits = PurePosixPath(file.path).parent.name.rpartition("-")[2]
    return int(digits) if digits.isascii() and digits.isdigit() else -1


def read_ultralytics(files: Sequence[LeftFile]) -> Reading:
    """``results.csv`` with ``args.yaml`` and pictures beside it; any other table of that name as it is."""
    table = next((file for file in files if _is(file, "results.csv")), None)
    if table is not None and "epoch" not in header_of(table):
        return read_table(table)
    found = Findings("ultralytics", files[0].path)
    for file in files:
        kind = kind_of_plot(file.path)
        if file is table:
            # Its time is that since the training began, in seconds, and no figure of the model.
            note_table(found, file, without=("time",))
        elif kind is not None:
            found.plot(Plot(file.path, kind, PurePosixPath(file.path).stem, source=file.path))
        else:
            with _warning(found):
                note_params(found, load(file), file.path)
    return found.reading()


@contextmanager
def _warning(found: Findings, *, unless: bool = False) -> Iterator[None]:
    """Read one of several files, of which a broken one does not spoil the others."""
    try:
        yield
    except InvalidInput as error:
        if unless:
            raise
        found.warn(str(error))
