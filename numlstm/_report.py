"""What ``numlstm train`` prints and writes."""

import json
import math
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import files
from .callbacks import Callback, Logs

if TYPE_CHECKING:
    from .forecast import Report, Settings
    from .series import Series

_LINES = 10  # about so many of progress, where there is no terminal for a bar
_WIDTH = 79
_IN_METRICS = ("model", "persistence", "last_year")


class FewLines(Callback):
    """Prints a line on stderr after every so many epochs."""

    def __init__(self, epochs: int) -> None:
        self._epochs, self._every = epochs, max(1, epochs // _LINES)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if (epoch + 1) % self._every == 0:
            text = ", ".join(f"{name}: {value:.4g}" for name, value in (logs or {}).items())
            print(f"Epoch {epoch + 1}/{self._epochs}  {text}", file=sys.stderr, flush=True)


def opening(series: "Series", settings: "Settings") -> str:
    """Return what is going to be done, before it begins."""
    span = f" from {series.time_text(0)} to {series.time_text(series.rows - 1)}" if series.dates else ""
    task = (
        f"{', '.join(settings.features)} of the last {_duration(series, settings.lookback)} -> "
        f"{settings.target} of the next {_duration(series, settings.horizon)}"
    )
    lines = [f"{series.name}: {series.rows:,} rows{span}", _filled(task)]
    if series.text_columns():
        lines.append(_filled(f"not numbers, left out: {', '.join(series.text_columns())}"))
    return "\n".join(lines) + "\n"


def _filled(text: str) -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent="  ")


def table(series: "Series", report: "Report") -> str:
    """Return the errors of the model beside those of the naive forecasts, in the target's units."""
    step = "day" if str(series.step) == "1 day" else "time"
    names = {"model": "model", "persistence": "persistence"}
    names |= {"last_week": "the same day last week", "last_year": f"the same {step} last year"}
    first, last = (series.time_text(int(row)) for row in (report.rows[0, 0], report.rows[-1, -1]))
    label = series.label(report.forecaster.target)
    rows = [("", "MAE", "RMSE")]
    decimals = _decimals(report)
    for name, errors in report.scores.items():
        rows.append((names[name], f"{errors['mae']:,.{decimals}f}", f"{errors['rmse']:,.{decimals}f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"Error of {label} in the test, {first} to {last}:\n"]
    lines += [f"  {row[0]:<{widths[0]}}   {row[1]:>{widths[1]}}   {row[2]:>{widths[2]}}" for row in rows]
    if report.no_last_year:
        lines.append("\n" + textwrap.fill(f"No comparison with the year before: {report.no_last_year}.", _WIDTH))
    own = report.scores["model"]
    better = [names[name] for name, other in report.scores.items() if any(other[key] < own[key] for key in own)]
    if better:
        text = f"The model is no better here than {' and '.join(better)}: try other columns, --lookback or --epochs."
        lines.append("\n" + textwrap.fill(text, _WIDTH))
    losses = report.history.history["val_loss"]
    if len(losses) > 1 and losses[-1] < min(losses[:-1]):
        lines.append("\nThe validation error was still falling: more --epochs may help.")
    return "\n".join(lines)


def written(folder: Path, series: "Series", report: "Report", seconds: float) -> str:
    """Write the results into a folder and return what there is."""
    names = ["model.safetensors", "metrics.json"]
    epochs = len(report.history.epoch)
    done = "Replaced" if (folder / names[0]).exists() else "Wrote"
    report.forecaster.save(folder / names[0])
    scores = {name: report.scores[name] for name in _IN_METRICS if name in report.scores}
    metrics = {**scores, "seconds": round(seconds, 2), "epochs": epochs}
    files.replace(folder / names[1], (json.dumps(metrics, indent=2) + "\n").encode())
    try:
        _picture(folder / "forecast.png", series, report)
        names.append("forecast.png")
        hint = ""
    except ModuleNotFoundError as error:
        hint = f"\nNo picture: {error}."
    where = "" if folder == Path() else f" in {folder}"
    return f"\n{epochs} epochs, {seconds:.1f} s. {done} {', '.join(names)}{where}.{hint}"


def _picture(path: Path, series: "Series", report: "Report") -> None:
    """Draw forecasts that follow one another without overlap, each as long as the horizon."""
    from . import plot

    horizon = report.forecaster.horizon
    rows, truth, forecast = (values[::horizon].ravel() for values in (report.rows, report.truth, report.forecast))
    band = forecast + np.tile(report.band, len(forecast) // horizon)
    times = [row + 1 for row in rows.tolist()] if series.dates is None else [series.dates[row] for row in rows]
    ahead = _duration(series, horizon)
    title = f"{Path(series.name).stem}: {report.forecaster.target} {'up to ' if horizon > 1 else ''}{ahead} ahead"
    span = f"{series.time_text(int(rows[0]))} to {series.time_text(int(rows[-1]))}"
    label = series.label(report.forecaster.target)
    held = "80 % of the errors in validation"
    full_title = f"{title}, {span}"
    plot.forecast(truth, forecast, times, band, label, full_title, path, time_label=series.date_name, band_label=held)


def _duration(series: "Series", rows: int) -> str:
    """Return so many rows as a length of time, if there are dates."""
    return f"{rows} row{'s' if rows > 1 else ''}" if series.step is None else str(series.step.times(rows))


def _decimals(report: "Report") -> int:
    """Return how many decimals show three digits of the smallest error."""
    smallest = min(error for errors in report.scores.values() for error in errors.values())
    return min(12, max(0, 2 - math.floor(math.log10(smallest)))) if smallest > 0 else 3
