"""Pictures of forecasts and of training, by matplotlib (``pip install "numlstm[plot]"``) without the state of pyplot."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._validate import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["forecast", "gates", "gradient_by_lag", "history"]

_TRUTH, _FORECAST, _GRID, _TEXT = "#3a4149", "#e4572e", "#e3e6ea", "#3a4149"
_COLOURS = (_FORECAST, "#2274a5", "#3f8f4f", "#8a5aab", "#c9971c", _TRUTH)
_GATES = {"i": "input gate i", "f": "forget gate f", "o": "output gate o", "r": "reset gate r", "z": "update gate z"}
_STATES = {"g": "cell input g", "n": "new state n", "c": "cell state c", "h": "output h"}
_CLOSE_UP = 60  # steps
# Ticks a year, month, day, hour, minute or less apart, and how the first within the next larger unit is written.
_DATES = ["%Y", "%b", "%d %b", "%H:%M", "%H:%M", "%H:%M:%S"]
_FIRST_DATES = ["", "%b\n%Y", "%d %b", "%H:%M\n%d %b", "%H:%M", "%H:%M"]


def forecast(
    truth: npt.ArrayLike,
    forecast: npt.ArrayLike,
    times: Sequence[Any] | None = None,
    band: npt.ArrayLike | None = None,
    label: str = "",
    title: str = "",
    path: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Draw a forecast over the truth, all of it and its end close up.

    Parameters
    ----------
    truth, forecast : (T,)
        At least two values.
    times : sequence of T datetimes or numbers, optional
        0, 1, .. if left out.
    band : (2, T), optional
        Lower and upper end of the range around the forecast.
    label : str
        Of the values, with their unit.
    title : str
    path : path, optional
        Where to save the picture; the ending says the format.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ModuleNotFoundError
        Without matplotlib: the message says how to install it.
    ValueError
        For shapes that do not fit together.
    OSError
        If the picture cannot be saved.
    """
    true, made = np.asarray(truth, np.float64), np.asarray(forecast, np.float64)
    if true.ndim != 1 or true.shape != made.shape or len(true) < 2:
        raise ValueError(f"truth and forecast must have one shape (T,) with T at least 2, not {true.shape} and {made.shape}")
    when = list(range(len(true))) if times is None else list(times)
    around = None if band is None else np.asarray(band, np.float64)
    if len(when) != len(true) or (around is not None and around.shape != (2, len(true))):
        raise ValueError(f"times and band must go with the {len(true)} values: T times, and a band of shape (2, T)")
    figure = _figure((10, 6.4))
    panels = figure.subplots(2, 1)
    for axes, first in zip(panels, (0, max(0, len(true) - _CLOSE_UP)), strict=True):
        part = slice(first, None)
        _curves(axes, when[part], true[part], made[part], None if around is None else around[:, part])
        axes.set_ylabel(label)
        _style(axes, numbers=isinstance(when[0], (int, float, np.number)))
    whole, close_up = panels
    whole.axvspan(when[first], when[-1], color=_GRID, alpha=0.4, linewidth=0)
    whole.set_title(title, loc="left", fontsize=13, fontweight="bold", color=_TEXT, pad=28)
    whole.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=3, frameon=False, labelcolor=_TEXT)
    close_up.set_title(f"The last {len(true) - first} values", loc="left", fontsize=10, color=_TEXT)
    figure.align_ylabels(panels)
    return _finished(figure, path)


def history(logs: Mapping[str, Sequence[float]], path: str | os.PathLike[str] | None = None) -> "Figure":
    """Draw how the loss fell from epoch to epoch, and that of the validation beside it.

    Parameters
    ----------
    logs : mapping of str to sequence of float
        ``history.history`` of what `fit` returned.
    path : path, optional
        Where to save the picture; the ending says the format.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ModuleNotFoundError
        Without matplotlib: the message says how to install it.
    ValueError
        If there is no loss in it.
    OSError
        If the picture cannot be saved.
    """
    if not len(logs.get("loss", ())):
        raise ValueError("logs must be the history.history of what fit returned, with 'loss' for at least one epoch")
    figure = _figure((7, 4))
    axes = figure.subplots()
    for name, text, colour in (("loss", "training", _TRUTH), ("val_loss", "validation", _FORECAST)):
        if name in logs:
            axes.plot(range(1, len(logs[name]) + 1), logs[name], color=colour, linewidth=1.8, label=text)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    _style(axes, numbers=True)
    axes.legend(frameon=False, labelcolor=_TEXT)
    return _finished(figure, path)


def gates(
    trace: Mapping[str, Mapping[str, Array]],
    n: int = 0,
    layer: str | None = None,
    title: str = "",
    path: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Draw gates and states over time for one sequence: each as a map of units by steps, and the means of the gates.

    Parameters
    ----------
    trace : Trace
        From `Sequential.trace`.
    n : int
        Number of the sequence.
    layer : str, optional
        Which layer of the trace; all of them, side by side, if left out.
    title : str
    path : path, optional
        Where to save the picture; the ending says the format.

    Returns
    -------
    matplotlib.figure.Figure
        The colours of gates go from 0 to 1; those of states are symmetric, from -1 to 1 or as far as they reach.

    Raises
    ------
    ModuleNotFoundError
        Without matplotlib: the message says how to install it.
    ValueError
        If the trace has no such layer or sequence.
    OSError
        If the picture cannot be saved.
    """
    if layer is not None and layer not in trace:
        raise ValueError(f"layer {layer!r} is not in the trace: it has {', '.join(trace)}")
    shown = dict(trace) if layer is None else {layer: trace[layer]}
    count = min((len(arrays["h"]) for arrays in shown.values()), default=0)
    if not -count <= n < count:
        raise ValueError(f"n is {n}, but the trace has {count} sequences")
    most = max(len(arrays) for arrays in shown.values())
    figure = _figure((1.5 + 5.5 * len(shown), 1.6 + 1.25 * (1 + most)))
    parts = figure.subfigures(1, len(shown), squeeze=False)[0]
    for part, (name, arrays) in zip(parts, shown.items(), strict=True):
        part.suptitle(name, x=0.02, ha="left", fontsize=11, fontweight="bold", color=_TEXT)
        _maps(part, {key: np.asarray(values[n]) for key, values in arrays.items()}, 1 + most)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=_TEXT)
    return _finished(figure, path)


def _maps(figure: Any, arrays: Mapping[str, Array], rows: int) -> None:
    """Draw a layer's arrays (T, H): lines of means over the units, and maps below them."""
    names = {name: text for name, text in {**_GATES, **_STATES}.items() if name in arrays}
    means, *maps = figure.subplots(rows, 1, sharex=True)
    gates = [name for name in names if name in _GATES]
    for name, colour in zip(gates or ["h"], _COLOURS, strict=False):
        means.plot(arrays[name].mean(axis=1), color=colour, linewidth=1.6, label=name)
    if gates:
        means.set_ylim(-0.02, 1.02)
    means.set_ylabel("mean of units")
    _style(means, numbers=True)
    means.legend(loc="upper left", bbox_to_anchor=(1, 1.05), frameon=False, labelcolor=_TEXT, handlelength=1, fontsize=9)
    for axes, (name, text) in zip(maps, names.items(), strict=False):
        reach = 1.0 if name in _GATES else max(1.0, float(np.abs(arrays[name]).max()))
        low, colours = (0.0, "YlGnBu") if name in _GATES else (-reach, "RdBu_r")
        image = axes.imshow(arrays[name].T, vmin=low, vmax=reach, cmap=colours, aspect="auto", interpolation="nearest")
        axes.set_title(text, loc="left", fontsize=9, color=_TEXT, pad=3)
        axes.set_ylabel("unit")
        _style(axes, numbers=True)
        axes.grid(False)
        axes.yaxis.get_major_locator().set_params(integer=True, nbins=4)
        bar = figure.colorbar(image, ax=axes, aspect=10, pad=0.01, ticks=[low, (low + reach) / 2, reach], format="%.2g")
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, colors=_TEXT, labelsize=8)
    axes.set_xlabel("time step")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(labelbottom=True)
    for unused in maps[len(names) :]:
        unused.remove()


def gradient_by_lag(
    norms: npt.ArrayLike | Mapping[str, npt.ArrayLike],
    title: str = "",
    path: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Draw how far back gradients reach: their norm by time lag, the median of the sequences with half of them around it.

    Parameters
    ----------
    norms : (N, T) or (T,), or several of them by name
        What `Sequential.gradient_by_lag` returned, lag 0 first; by the names of models to compare them. Zeros, which a
        logarithmic axis has no place for, are left out.
    title : str
    path : path, optional
        Where to save the picture; the ending says the format.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ModuleNotFoundError
        Without matplotlib: the message says how to install it.
    ValueError
        For other shapes.
    OSError
        If the picture cannot be saved.
    """
    named = norms if isinstance(norms, Mapping) else {"": norms}
    curves = {name: np.atleast_2d(np.asarray(values, np.float64)) for name, values in named.items()}
    for name, values in curves.items():
        if values.ndim != 2 or values.size == 0:
            raise ValueError(f"norms{f' of {name}' if name else ''} must have shape (N, T) or (T,), not {values.shape}")
    if not curves:
        raise ValueError("norms must be of at least one model")
    figure = _figure((7, 4))
    axes = figure.subplots()
    for i, (name, values) in enumerate(curves.items()):
        shown, colour = np.where(values > 0, values, np.nan), _COLOURS[i % len(_COLOURS)]
        with_any = (values > 0).any(axis=0)
        lags = np.flatnonzero(with_any)
        low, middle, high = np.nanquantile(shown[:, with_any], (0.25, 0.5, 0.75), axis=0)
        axes.fill_between(lags, low, high, color=colour, alpha=0.16, linewidth=0)
        axes.plot(lags, middle, color=colour, linewidth=1.8, label=name)
    axes.set_yscale("log")
    axes.set_xlabel("time lag k (steps)")
    axes.set_ylabel(r"gradient norm $\|\partial y_T\,/\,\partial x_{T-k}\|$")
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color=_TEXT)
    _style(axes, numbers=True)
    if any(curves):
        axes.legend(frameon=False, labelcolor=_TEXT)
    return _finished(figure, path)


def _figure(size: tuple[float, float]) -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('pictures need matplotlib: pip install "numlstm[plot]"', name="matplotlib") from error
    return Figure(figsize=size, layout="constrained", facecolor="white")


def _finished(figure: "Figure", path: str | os.PathLike[str] | None) -> "Figure":
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _curves(axes: "Axes", times: Sequence[Any], truth: Array, forecast: Array, band: Array | None) -> None:
    if band is not None:
        axes.fill_between(times, *band, color=_FORECAST, alpha=0.16, linewidth=0, label="80 % of the errors in validation")
    marker = "o" if len(truth) <= _CLOSE_UP else ""
    axes.plot(times, truth, color=_TRUTH, linewidth=1.3, marker=marker, markersize=3.5, label="truth")
    axes.plot(times, forecast, color=_FORECAST, linewidth=1.8, label="forecast")
    axes.margins(x=0.01)


def _style(axes: "Axes", numbers: bool) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=_TEXT, labelsize=9)
    axes.yaxis.label.set_color(_TEXT)
    axes.xaxis.label.set_color(_TEXT)
    if not numbers:
        locator = AutoDateLocator(minticks=4, maxticks=10)
        formatter = ConciseDateFormatter(locator, formats=_DATES, zero_formats=_FIRST_DATES, show_offset=False)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(formatter)
