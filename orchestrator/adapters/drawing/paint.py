"""The child process: charts as JSON on standard input, PNGs in base64 as JSON on standard output.

Told apart by shape and line style before colour (Okabe and Ito's colours, which colour-blind people tell
apart), on white: mail readers in dark mode leave pictures as they are.
"""

from __future__ import annotations

import base64
import io
import json
import math
import sys
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_WIDTH, _HEIGHT = 552, 220
"""CSS pixels; the file has twice as many, for dense screens."""
_DPI = 96
_BLUE, _ORANGE, _GREY, _INK = "#0072b2", "#d55e00", "#7a838c", "#1f2933"
_STYLES = ("-", "--", "-.", ":")
_LINE_COLOURS = (_BLUE, _ORANGE, "#009e73", "#cc79a7", _INK)
_MARKS = {"passed": ("o", _BLUE), "rejected": ("X", _ORANGE)}


def main() -> None:
    """Paint what standard input asks for; a chart that fails is told of, and the others are painted."""
    mpl.rcParams["text.parse_math"] = False
    mpl.rcParams["font.size"] = 9
    answers = []
    for chart in json.load(sys.stdin.buffer):
        try:
            answers.append(_painted(chart))
        except (ValueError, TypeError, OverflowError, RuntimeError, ArithmeticError) as error:
            answers.append({"name": chart["name"], "error": str(error)})
    sys.stdout.write(json.dumps(answers))


def _painted(chart: dict[str, Any]) -> dict[str, Any]:
    figure = Figure(figsize=(_WIDTH / _DPI, _HEIGHT / _DPI), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(chart["heading"], loc="left", fontsize=10, color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e3e7ea", linewidth=0.8)
    axes.set_axisbelow(True)
    if chart["kind"] == "trend":
        _trend(axes, chart)
    else:
        _curves(axes, chart)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=2 * _DPI, metadata={"Software": None})
    png = base64.b64encode(out.getvalue()).decode()
    return {"name": chart["name"], "png": png, "width": _WIDTH, "height": _HEIGHT}


def _trend(axes: Axes, chart: dict[str, Any]) -> None:
    values = [value if math.isfinite(value) else math.nan for value in chart["values"]]
    places = range(len(values))
    axes.plot(places, values, color=_GREY, linewidth=1, zorder=2)
    if math.isfinite(chart["low"]) and math.isfinite(chart["high"]):
        axes.axhspan(
            chart["low"],
            chart["high"],
            facecolor="#56b4e9",
            alpha=0.25,
            hatch="//",
            edgecolor="#a9c9dd",
            label="twice the noise of one run",
        )
    if math.isfinite(chart["baseline"]):
        label = chart["baseline_label"] or "baseline"
        axes.axhline(chart["baseline"], color=_INK, linestyle="--", linewidth=1, label=label)
    if math.isfinite(chart["limit"]):
        axes.axhline(chart["limit"], color=_ORANGE, linestyle=":", linewidth=1.5, label="limit")
    for place, (value, spread, state) in enumerate(
        zip(values, chart["spreads"], chart["states"], strict=True)
    ):
        last = place == len(values) - 1
        mark, colour = _MARKS.get(state, ("s", _GREY))
        axes.errorbar(
            place,
            value,
            yerr=spread if spread > 0 and math.isfinite(spread) else None,
            fmt=mark,
            color=colour,
            markersize=10 if last else 5,
            markeredgecolor=_INK if last else "white",
            markeredgewidth=1.5 if last else 0.5,
            capsize=2,
            zorder=4 if last else 3,
            label=f"{chart['labels'][-1]}, this run ({state})" if last else None,
        )
    step = max(1, -(-len(values) // 8))
    shown = sorted(range(len(values) - 1, -1, -step))
    axes.set_xticks(shown, [chart["labels"][place] for place in shown])
    axes.margins(y=0.15)
    axes.legend(
        fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, -0.42), ncols=4, markerscale=0.6
    )


def _curves(axes: Axes, chart: dict[str, Any]) -> None:
    shown = False
    for number, line in enumerate(chart["lines"]):
        ys = [y if math.isfinite(y) else math.nan for y in line["y"]]
        shown = shown or any(math.isfinite(y) for y in ys)
        axes.plot(
            line["x"],
            ys,
            color=_LINE_COLOURS[number % len(_LINE_COLOURS)],
            linestyle=_STYLES[number % len(_STYLES)],
            linewidth=1.5,
            label=line["name"],
            marker="o" if len(ys) <= 20 else None,
            markersize=3,
        )
    if not shown:
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", color=_GREY)
    if chart["diagonal"]:
        axes.axline((0, 0), slope=1, color=_GREY, linestyle=":", linewidth=1)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=chart["x_label"] in ("step", "epoch")))
    axes.set_xlabel(chart["x_label"])
    axes.set_ylabel(chart["y_label"])
    if len(chart["lines"]) > 1:
        axes.legend(fontsize=8, frameon=False)


if __name__ == "__main__":
    main()
