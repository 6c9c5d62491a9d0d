"""``dvc.yaml``: which files hold metrics and plots, and how the plots are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final

from orchestrator.adapters.collectors.common import Findings
from orchestrator.adapters.collectors.plain import load_mapping
from orchestrator.adapters.collectors.plots import kind_of_plot
from orchestrator.domain.collected import Plot, PlotKind, Reading
from orchestrator.domain.metrics import Json
from orchestrator.ports.collecting import LeftFile

NAME: Final = "dvc.yaml"
_HINTS: Final = ("template", "x", "y", "x_label", "y_label", "title")
_CONFUSIONS: Final = frozenset({"confusion", "confusion_normalized"})


def metrics_named(file: LeftFile) -> tuple[str, ...]:
    """The files of metrics that it names, from its own folder. Raises InvalidInput when it is no YAML."""
    document = load_mapping(file)
    folder = PurePosixPath(file.path).parent
    names = [name for name, _ in _entries(document.get("metrics"))]
    for stage in _stages(document):
        names += [name for name, _ in _entries(stage.get("metrics"))]
    return tuple(dict.fromkeys(str(folder / name) for name in names if _inside(name)))


def read_dvc_yaml(file: LeftFile) -> Reading:
    """The plots that it names, folders of them apart. Their files may or may not be there."""
    document = load_mapping(file)
    found = Findings(NAME, file.path)
    folder = PurePosixPath(file.path).parent
    for part in (document, *_stages(document)):
        for name, properties in _entries(part.get("plots")):
            hints = {
                key: str(properties[key])
                for key in _HINTS
                if isinstance(properties.get(key), (str, int, float))
            }
            for path, axis in _files(name, properties):
                if _inside(path) and PurePosixPath(path).suffix:
                    where = str(folder / path)
                    title = hints.get("title", name)
                    found.plot(Plot(where, _kind(where, hints), title, hints | axis))
    return found.reading()


def _kind(path: str, hints: Mapping[str, str]) -> PlotKind:
    if hints.get("template") in _CONFUSIONS:
        return PlotKind.CONFUSION
    return kind_of_plot(path) or PlotKind.TABLE


def _files(name: str, properties: Mapping[str, Json]) -> Iterator[tuple[str, dict[str, str]]]:
    """The files of one plot: its ``y`` may name several with their columns, else its name is the file."""
    y = properties.get("y")
    if not isinstance(y, Mapping):
        yield name, {}
        return
    x = properties.get("x")
    for path, columns in y.items():
        for column in columns if isinstance(columns, list) else [columns]:
            axis = {"y": str(column)}
            if isinstance(x, Mapping):
                axis |= {"x": str(x[path])} if path in x else {}
            yield str(path), axis


def _entries(node: Json) -> Iterator[tuple[str, Mapping[str, Json]]]:
    """The entries of a list of names, or of names with properties; of a mapping of such."""
    if isinstance(node, Mapping):
        node = [{name: value} for name, value in node.items()]
    if not isinstance(node, list):
        return
    for item in node:
        if isinstance(item, str):
            yield item, {}
        elif isinstance(item, Mapping):
            for name, properties in item.items():
                yield str(name), properties if isinstance(properties, Mapping) else {}


def _stages(document: Mapping[str, Json]) -> Iterator[Mapping[str, Json]]:
    stages = document.get("stages")
    for stage in stages.values() if isinstance(stages, Mapping) else ():
        if isinstance(stage, Mapping):
            yield stage


def _inside(path: str) -> bool:
    """Whether a path stays where it is."""
    pure = PurePosixPath(path)
    return bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts and "${" not in path
