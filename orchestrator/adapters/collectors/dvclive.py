"""DVCLive's folder: ``metrics.json``, ``params.yaml``, ``plots/metrics/*.tsv``, pictures and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from orchestrator.adapters.collectors.common import Findings, as_float
from orchestrator.adapters.collectors.documents import note_params, numbers
from orchestrator.adapters.collectors.plain import load, load_mapping
from orchestrator.adapters.collectors.plots import kind_of_plot
from orchestrator.adapters.collectors.tables import note_table
from orchestrator.domain.collected import Plot, PlotKind, Reading
from orchestrator.domain.errors import InvalidInput
from orchestrator.ports.collecting import LeftFile

NAME: Final = "dvclive"
_CURVES: Final[Mapping[str, Mapping[str, str]]] = {
    "roc": {"key": "roc", "x": "fpr", "y": "tpr"},
    "precision_recall": {"key": "precision_recall", "x": "recall", "y": "precision"},
    "det": {"key": "det", "x": "fpr", "y": "fnr"},
    "calibration": {"key": "calibration", "x": "prob_pred", "y": "prob_true"},
}


def read_dvclive(folder: str, files: Sequence[LeftFile]) -> Reading:
    """One folder. Raises InvalidInput when ``metrics.json`` cannot be read; for other files a warning."""
    found = Findings(NAME, files[0].path)
    inside = {file.path.removeprefix(folder).lstrip("/"): file for file in files}
    main = inside.get("metrics.json")
    if main is not None:
        document = dict(load_mapping(main))
        step = document.pop("step", None)
        reached = as_float(step) if isinstance(step, (int, float)) else None
        for name, value in numbers(document):
            found.metric(name, value, source=main.path, step=reached)
    for name, file in inside.items():
        if file is main:
            continue
        try:
            _note(found, name, file)
        except InvalidInput as error:
            if main is None and len(inside) == 1:
                raise
            found.warn(str(error))
    return found.reading()


def _note(found: Findings, name: str, file: LeftFile) -> None:
    path = PurePosixPath(name)
    stem = str(path.with_suffix(""))
    if name in ("params.yaml", "params.yml"):
        note_params(found, load(file), file.path)
    elif name.startswith("plots/metrics/") and path.suffix == ".tsv":
        # The header has the name's last part alone, and the folder the rest of it.
        note_table(found, file, name=stem.removeprefix("plots/metrics/"))
    elif name.startswith("plots/sklearn/") and path.suffix == ".json":
        curve = _CURVES.get(path.stem)
        document = load(file)
        if isinstance(document, list):
            hints = {"x": "actual", "y": "predicted", "template": "confusion"}
            found.plot(Plot(file.path, PlotKind.CONFUSION, path.stem, hints, file.path))
        elif isinstance(document, Mapping):
            key = next((key for key, node in document.items() if isinstance(node, list)), "")
            hints = dict(curve) if curve else _axes(document, key)
            found.plot(Plot(file.path, PlotKind.CURVE, path.stem, hints, file.path))
    elif name.startswith("plots/custom/") and path.suffix == ".json":
        document = load(file)
        key = "" if isinstance(document, list) else path.stem
        found.plot(Plot(file.path, PlotKind.TABLE, path.stem, {"key": key} if key else {}, file.path))
    elif name.startswith("plots/") and (kind := kind_of_plot(name)) is not None:
        found.plot(
            Plot(file.path, kind, stem.removeprefix("plots/").removeprefix("images/"), source=file.path)
        )


def _axes(document: Mapping[str, object], key: str) -> dict[str, str]:
    rows = document.get(key)
    names = list(rows[0]) if isinstance(rows, list) and rows and isinstance(rows[0], Mapping) else []
    return {"key": key} | ({"x": str(names[0]), "y": str(names[1])} if len(names) > 1 else {})
