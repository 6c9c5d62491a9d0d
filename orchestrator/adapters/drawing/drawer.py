"""Draws charts in a short-lived child process: matplotlib takes 100 MB and a second to load, and its work is
bounded in time.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.domain.chart import Chart, CurveChart, CurveLine, Drawn, TrendChart
from orchestrator.domain.collected import Series
from orchestrator.domain.curves import thin
from orchestrator.domain.markdown import shortened
from orchestrator.domain.metrics import format_value

log = logging.getLogger(__name__)

_SECONDS = 60.0
_TEXT = 60
_POINTS = 2_000


class ChartDrawer:
    """Implements Drawer. ``cache`` is a folder for what matplotlib keeps about fonts; made when missing.

    ``mask`` blanks secrets out of every text before it becomes a picture. Trends and curves are drawn.
    """

    def __init__(self, cache: Path, mask: Callable[[str], str] = str) -> None:
        self._cache = cache
        self._mask = mask

    def draw(self, charts: Sequence[Chart]) -> Sequence[Drawn]:
        """See the port."""
        asked = []
        for chart in charts:
            if isinstance(chart, TrendChart):
                asked.append(self._trend(chart))
            elif isinstance(chart, CurveChart):
                asked.append(self._curves(chart))
        if not asked:
            return ()
        names: set[str] = set()
        for number, each in enumerate(asked):
            slug = re.sub(r"[^a-z0-9]+", "-", str(each["title"]).lower()).strip("-")[:40]
            name = f"{each['kind']}-{slug or 'chart'}"
            each["name"] = name if name not in names else f"{name}-{number}"
            names.add(str(each["name"]))
        try:
            return self._painted(asked)
        except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
            log.warning("the charts of a report could not be drawn: %s", error)
            return ()

    def _painted(self, asked: Sequence[dict[str, object]]) -> list[Drawn]:
        self._cache.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-I", "-m", "orchestrator.adapters.drawing.paint"],
            input=json.dumps(asked).encode(),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            env={"PATH": os.defpath, "MPLCONFIGDIR": str(self._cache), "OPENBLAS_NUM_THREADS": "1"},
        )
        if done.returncode:
            told = done.stderr.decode(errors="replace").strip().splitlines()
            raise ValueError(f"exit code {done.returncode}: {told[-1] if told else 'no output'}")
        words = {each["name"]: str(each["alt"]) for each in asked}
        drawn = []
        for each in json.loads(done.stdout):
            if "error" in each:
                log.warning("the chart %s could not be drawn: %s", each["name"], each["error"])
                continue
            png = base64.b64decode(each["png"])
            drawn.append(Drawn(each["name"], png, words[each["name"]], each["width"], each["height"]))
        return drawn

    def _text(self, text: str) -> str:
        return shortened(self._mask(text), _TEXT)

    def _trend(self, chart: TrendChart) -> dict[str, object]:
        last = chart.points[-1]
        title, unit = self._text(chart.metric), self._text(chart.unit)
        better = f", {chart.direction} is better" if chart.direction else ""
        alt = f"{title}{better}, over {len(chart.points)} runs: {format_value(last.value)} in {last.label}"
        if math.isfinite(chart.baseline):
            alt += f", baseline {format_value(chart.baseline)}"
        return {
            "kind": "trend",
            "title": title,
            "heading": f"{title}{f' [{unit}]' if unit else ''}{better}",
            "alt": alt + f" {unit}".rstrip(),
            "labels": [self._text(p.label) for p in chart.points],
            "values": [p.value for p in chart.points],
            "spreads": [p.spread for p in chart.points],
            "states": [p.state.value for p in chart.points],
            "baseline": chart.baseline,
            "baseline_label": self._text(chart.baseline_label),
            "low": chart.low,
            "high": chart.high,
            "limit": chart.limit,
        }

    def _curves(self, chart: CurveChart) -> dict[str, object]:
        title, unit = self._text(chart.title), self._text(chart.unit)
        count = max((len(line.x) for line in chart.lines), default=0)
        return {
            "kind": "curve",
            "title": title,
            "heading": f"{title}{f' [{unit}]' if unit else ''}",
            "alt": f"{title} over {self._text(chart.x_label)}, {count} points",
            "x_label": self._text(chart.x_label),
            "y_label": self._text(chart.y_label),
            "diagonal": chart.diagonal,
            "lines": [self._line(line) for line in chart.lines],
        }

    def _line(self, line: CurveLine) -> dict[str, object]:
        drawn = thin(Series(line.name, line.x, line.y), _POINTS)
        return {"name": self._text(line.name), "x": list(drawn.steps), "y": list(drawn.values)}
