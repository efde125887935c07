"""What the pictures of `plot` are drawn with."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._validate import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID, TEXT = "#e3e6ea", "#3a4149"
TRUTH, FORECAST = TEXT, "#d55e00"
# Okabe and Ito's, to be told apart without seeing red or green; the styles without seeing colours.
COLOURS = (FORECAST, "#0072b2", "#009e73", "#cc79a7", "#e69f00", TEXT)
STYLES = ("-", "--", "-.", ":")
CLOSE_UP = 60  # steps
_MARKED = 30  # a curve of so few values shows each
_GATES = {"i": "input gate i", "f": "forget gate f", "o": "output gate o", "r": "reset gate r", "z": "update gate z"}
_STATES = {"g": "cell input g", "n": "new state n", "c": "cell state c", "h": "output h"}
# Ticks a year, month, day, hour, minute or less apart, and how the first within the next larger unit is written.
_DATES = ["%Y", "%b", "%d %b", "%H:%M", "%H:%M", "%H:%M:%S"]
_FIRST_DATES = ["", "%b\n%Y", "%d %b", "%H:%M\n%d %b", "%H:%M", "%H:%M"]


def figure(size: tuple[float, float]) -> "Figure":
    """Return an empty figure of so many inches, without the state of pyplot."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('pictures need matplotlib: pip install "numlstm[plot]"', name="matplotlib") from error
    return Figure(figsize=size, layout="constrained", facecolor="white")


def finished(figure: Any, path: str | os.PathLike[str] | None) -> "Figure":
    """Return the figure, saved if there is a path."""
    if path is not None:
        figure.savefig(path, dpi=150)
    saved: Figure = figure
    return saved


def curve(axes: "Axes", x: Sequence[Any] | Array, y: Sequence[float] | Array, number: int, label: str) -> None:
    """Draw the curve with this number among several."""
    marker = "o" if len(x) <= _MARKED else ""
    colour, line = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
    axes.plot(x, y, color=colour, linestyle=line, linewidth=1.8, marker=marker, markersize=3.5, label=label)


def forecast(
    axes: "Axes", times: Sequence[Any], truth: Array, forecast: Array, band: Array | None, band_label: str, label: str
) -> None:
    """Draw a forecast over the truth."""
    if band is not None:
        axes.fill_between(times, *band, color=FORECAST, alpha=0.16, linewidth=0, label=band_label)
    marker = "o" if len(truth) <= CLOSE_UP else ""
    axes.plot(times, truth, color=TRUTH, linewidth=1.3, marker=marker, markersize=3.5, label="truth")
    axes.plot(times, forecast, color=FORECAST, linewidth=1.8, label="forecast")
    axes.margins(x=0.01)
    axes.set_ylabel(label)
    style(axes, dates=not isinstance(times[0], (int, float, np.number)))


def maps(figure: Any, arrays: Mapping[str, Array], rows: int) -> None:
    """Draw a layer's arrays (T, H): lines of means over the units, and maps below them."""
    names = {name: text for name, text in {**_GATES, **_STATES}.items() if name in arrays}
    means, *maps = figure.subplots(rows, 1, sharex=True)
    gates = [name for name in names if name in _GATES]
    for number, name in enumerate(gates or ["h"]):
        curve(means, range(len(arrays[name])), arrays[name].mean(axis=1), number, name)
    if gates:
        means.set_ylim(-0.02, 1.02)
    means.set_ylabel("mean")
    means.set_title("mean of all units", loc="left", fontsize=9, color=TEXT, pad=3)
    style(means)
    where = {"loc": "lower right", "bbox_to_anchor": (1.01, 0.94), "borderaxespad": 0.0}
    means.legend(**where, ncols=len(gates) or 1, frameon=False, labelcolor=TEXT, handlelength=2.6, fontsize=9)
    for axes, (name, text) in zip(maps, names.items(), strict=False):
        reach = 1.0 if name in _GATES else max(1.0, float(np.abs(arrays[name]).max()))
        low, colours = (0.0, "YlGnBu") if name in _GATES else (-reach, "RdBu_r")
        image = axes.imshow(arrays[name].T, vmin=low, vmax=reach, cmap=colours, aspect="auto", interpolation="nearest")
        axes.set_title(text, loc="left", fontsize=9, color=TEXT, pad=3)
        axes.set_ylabel("unit")
        style(axes)
        axes.grid(False)
        axes.yaxis.get_major_locator().set_params(integer=True, nbins=4)
        bar = figure.colorbar(image, ax=axes, aspect=10, pad=0.01, ticks=[low, (low + reach) / 2, reach], format="%.2g")
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, colors=TEXT, labelsize=8)
    axes.set_xlabel("time step")
    axes.tick_params(labelbottom=True)
    for unused in maps[len(names) :]:
        unused.remove()


def title(axes: "Axes", text: str, pad: float | None = None) -> None:
    """Write a title, if there is one."""
    if text:
        axes.set_title(text, loc="left", fontsize=13, fontweight="bold", color=TEXT, pad=pad)


def legend(axes: "Axes", **where: Any) -> None:
    """Draw the legend of what has a label."""
    axes.legend(frameon=False, labelcolor=TEXT, handlelength=2.6, **where)


def style(axes: "Axes", dates: bool = False) -> None:
    """Give axes the look of all pictures, and an x axis of dates or of whole numbers."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import MaxNLocator

    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, colors=TEXT, labelsize=9)
    axes.yaxis.label.set_color(TEXT)
    axes.xaxis.label.set_color(TEXT)
    if not dates:
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        return
    locator = AutoDateLocator(minticks=4, maxticks=10)
    formatter = ConciseDateFormatter(locator, formats=_DATES, zero_formats=_FIRST_DATES, show_offset=False)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(formatter)
