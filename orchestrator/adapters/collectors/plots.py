"""Pictures, pages and charts: files that are shown and not read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

from orchestrator.adapters.collectors.common import Findings
from orchestrator.adapters.collectors.events import picture_type
from orchestrator.domain.collected import Plot, PlotKind, Reading
from orchestrator.ports.collecting import LeftFile

NAME: Final = "plot"
_IMAGES: Final = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".gif": "gif"}
_ACTIVE: Final = frozenset({".svg", ".html", ".htm"})
_VEGA: Final = (".vl.json", ".vega.json", ".vega-lite.json", ".vegalite.json")


def kind_of_plot(path: str) -> PlotKind | None:
    """How a file is shown, by its name; None for what is not."""
    low = path.lower()
    suffix = PurePosixPath(low).suffix
    if suffix in _IMAGES:
        return PlotKind.IMAGE
    if suffix in _ACTIVE:
        return PlotKind.ACTIVE
    return PlotKind.VEGA if low.endswith(_VEGA) else None


def read_plots(files: Sequence[LeftFile]) -> Reading:
    """A plot for each file. One that is empty, or no picture of the kind that its name says, is a warning."""
    found = Findings(NAME, files[0].path)
    for file in files:
        kind = kind_of_plot(file.path)
        if kind is None:
            continue
        with file.open() as stream:
            head = stream.read(16)
        wanted = _IMAGES.get(PurePosixPath(file.path.lower()).suffix, "")
        if not head or (wanted and picture_type(head) != wanted):
            what = f"it is no {wanted}" if head else "the file is empty"
            found.warn(f"{file.path}: {what}, and is not shown")
            continue
        found.plot(Plot(file.path, kind, PurePosixPath(file.path).name, source=file.path))
    return found.reading()
