"""Pictures of forecasts and of training, by matplotlib (``pip install "numlstm[plot]"``) without the state of pyplot."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import _drawing
from ._drawing import CLOSE_UP, GRID, TEXT
from ._validate import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["forecast", "gates", "gradient_by_lag", "history"]


def forecast(
    truth: npt.ArrayLike,
    forecast: npt.ArrayLike,
    times: Sequence[Any] | None = None,
    band: npt.ArrayLike | None = None,
    label: str = "value",
    title: str = "",
    path: str | os.PathLike[str] | None = None,
    *,
    time_label: str | None = None,
    band_label: str = "range",
    ax: "Axes | None" = None,
) -> "Figure":
    """Draw a forecast over the truth, all of it and, if it is long, its end close up.

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
    time_label : str, optional
        Of the times; "date" or "time step" if left out.
    band_label : str
        What the range is.
    ax : matplotlib.axes.Axes, optional
        Where to draw, all of it alone, instead of in a figure of its own.

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
    last = max(0, len(true) - CLOSE_UP)
    starts = [0, last] if last and ax is None else [0]
    panels = _panels(ax, (10, 6.4 if len(starts) > 1 else 4), len(starts))
    for axes, first in zip(panels, starts, strict=True):
        ranges = None if around is None else around[:, first:]
        _drawing.forecast(axes, when[first:], true[first:], made[first:], ranges, band_label, label)
    whole, end = panels[0], panels[-1]
    if whole is not end:
        whole.axvspan(when[last], when[-1], color=GRID, alpha=0.4, linewidth=0)
        end.set_title(f"The last {CLOSE_UP} values", loc="left", fontsize=10, color=TEXT)
    numbers = isinstance(when[0], (int, float, np.number))
    end.set_xlabel(("time step" if numbers else "date") if time_label is None else time_label)
    _drawing.title(whole, title, pad=28)
    _drawing.legend(whole, loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=3)
    return _drawing.finished(whole.figure, path)


def history(
    logs: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    label: str = "loss",
    title: str = "",
    ax: "Axes | None" = None,
) -> "Figure":
    """Draw how the loss and the metrics went from epoch to epoch, and those of the validation beside them.

    Parameters
    ----------
    logs : `numlstm.callbacks.History`, or mapping of str to sequence of float
        ``history.history`` of what `fit` returned.
    path : path, optional
        Where to save the picture; the ending says the format.
    label : str
        What the loss is, with its unit. Each metric has a panel of its own, under its name.
    title : str
    ax : matplotlib.axes.Axes, optional
        Where to draw the loss alone, instead of all in a figure of its own.

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
    logs = getattr(logs, "history", logs)
    if not len(logs.get("loss", ())):
        raise ValueError("logs must be the history.history of what fit returned, with 'loss' for at least one epoch")
    names = [name for name in logs if name == "loss" or not (ax or name.startswith("val_"))]
    panels = _panels(ax, (7, 4 if len(names) == 1 else 0.8 + 2.2 * len(names)), len(names))
    for axes, name in zip(panels, names, strict=True):
        for number, (key, text) in enumerate(((name, "training"), (f"val_{name}", "validation"))):
            if key in logs:
                _drawing.curve(axes, range(1, len(logs[key]) + 1), logs[key], number, text)
        axes.set_ylabel(label if name == "loss" else name)
        _drawing.style(axes)
    panels[-1].set_xlabel("epoch")
    _drawing.title(panels[0], title)
    _drawing.legend(panels[0])
    return _drawing.finished(panels[0].figure, path)


def gates(
    trace: Mapping[str, Mapping[str, Array]],
    n: int = 0,
    layer: str | None = None,
    title: str = "",
    path: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Draw gates and states over time for one sequence: each as a map of units by steps, and the means of the gates.

    A sequence that is shorter than others is drawn as far as it goes.

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
    lengths = getattr(trace, "lengths", None)
    steps = None if lengths is None else int(lengths[n])
    most = max(len(arrays) for arrays in shown.values())
    figure = _drawing.figure((1.5 + 5.5 * len(shown), 1.6 + 1.25 * (1 + most)))
    parts = figure.subfigures(1, len(shown), squeeze=False)[0]
    for part, (name, arrays) in zip(parts, shown.items(), strict=True):
        part.suptitle(name, x=0.02, ha="left", fontsize=11, fontweight="bold", color=TEXT)
        _drawing.maps(part, {key: np.asarray(values[n])[:steps] for key, values in arrays.items()}, 1 + most)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=TEXT)
    return _drawing.finished(figure, path)


def gradient_by_lag(
    norms: npt.ArrayLike | Mapping[str, npt.ArrayLike],
    title: str = "",
    path: str | os.PathLike[str] | None = None,
    *,
    ax: "Axes | None" = None,
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
    ax : matplotlib.axes.Axes, optional
        Where to draw, instead of in a figure of its own.

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
    (axes,) = _panels(ax, (7, 4), 1)
    for i, (name, values) in enumerate(curves.items()):
        shown, colour = np.where(values > 0, values, np.nan), _drawing.COLOURS[i % len(_drawing.COLOURS)]
        with_any = (values > 0).any(axis=0)
        if not with_any.any():
            raise ValueError(f"norms{f' of {name}' if name else ''} are 0 throughout: a logarithmic axis cannot show them")
        lags = np.flatnonzero(with_any)
        low, middle, high = np.nanquantile(shown[:, with_any], (0.25, 0.5, 0.75), axis=0)
        axes.fill_between(lags, low, high, color=colour, alpha=0.16, linewidth=0)
        _drawing.curve(axes, lags, middle, i, name)
    axes.set_yscale("log")
    axes.set_xlabel("time lag k (steps)")
    axes.set_ylabel(r"gradient norm $\|\partial y_T\,/\,\partial x_{T-k}\|$")
    _drawing.style(axes)
    _drawing.title(axes, title)
    if any(curves):
        _drawing.legend(axes)
    return _drawing.finished(axes.figure, path)


def _panels(ax: "Axes | None", size: tuple[float, float], count: int) -> "list[Axes]":
    """Return axes one above the other in a figure of this size, or the ones given."""
    if ax is not None:
        return [ax]
    figure = _drawing.figure(size)
    panels = list(figure.subplots(count, 1, squeeze=False)[:, 0])
    figure.align_ylabels(panels)
    return panels
