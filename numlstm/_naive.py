"""Forecasts that need no model, which a model must beat to be worth anything, and the measures that compare them."""

import numpy as np

from . import dates
from ._validate import Array
from .series import Series

_WEEK = 7  # days


def naive_forecasts(series: Series, target: Array, rows: Array) -> tuple[dict[str, Array], str]:
    """Return the naive forecasts of a target (T,) for rows (N, H), and why that by the last year is left out, if it is.

    "persistence" repeats the value before the first of the H rows; "last_week", for at most seven rows a day apart, is that
    of seven days earlier, and "last_year" that of the same day one year earlier.
    """
    naive = {"persistence": np.broadcast_to(target[rows[:, :1] - 1], rows.shape)}
    if series.dates is None or series.step is None:
        return naive, "the rows have no dates"
    if str(series.step) == "1 day" and rows.shape[1] <= _WEEK:
        naive["last_week"] = target[rows - _WEEK]
    if not series.step.is_within_a_year:
        return naive, f"the rows are {series.step} apart"
    earlier = np.array(dates.positions_a_year_before(series.dates, series.step))[rows]
    if earlier.min() < 0:
        return naive, "the series begins less than a year before its test part"
    if (earlier >= rows[:, :1]).any():
        return naive, "the horizon is longer than a year"
    return {**naive, "last_year": target[earlier]}, ""


def errors(forecast: Array, truth: Array) -> dict[str, float]:
    """Return the mean absolute error, "mae", and the root of the mean squared one, "rmse"."""
    error = forecast - truth
    return {"mae": float(np.abs(error).mean()), "rmse": float(np.sqrt(np.square(error).mean()))}
