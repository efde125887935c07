"""From a long series to samples to learn from: sliding windows, scaling, and parts in order of time."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from . import _validate
from ._validate import Array

__all__ = ["Parts", "Scaler", "chronological_parts", "sliding_windows"]


def sliding_windows(values: npt.ArrayLike, length: int) -> Array:
    """Return all windows of so many successive rows, without a copy.

    Parameters
    ----------
    values : (T,) or (T, F)
    length : int
        From 1 to T.

    Returns
    -------
    (T - length + 1, length) or (T - length + 1, length, F)
        A read-only view of `values`: element [k, t] is row k + t.

    Raises
    ------
    ValueError
        If values has another number of axes, or fewer rows than `length`.
    """
    array, length = np.asarray(values), _validate.whole("length", length)
    if array.ndim not in (1, 2):
        raise ValueError(f"values must have shape (T,) or (T, F), not {array.shape}")
    if length > len(array):
        raise ValueError(f"values has {len(array)} rows, too few for windows of {length}")
    view = np.lib.stride_tricks.sliding_window_view(array, length, axis=0)
    return view if array.ndim == 1 else view.swapaxes(1, 2)


class Scaler:
    """Brings columns to mean 0 and standard deviation 1, and back.

    mean, std : (F,) float64
        Of the data that it is fitted on: take the training part alone, or the test knows of the future.
    """

    def __init__(self, mean: npt.ArrayLike, std: npt.ArrayLike) -> None:
        self.mean, self.std = np.array(mean, np.float64), np.array(std, np.float64)
        _validate.shape("std", self.std, {"F": self.mean.size}, ", that of mean")
        if self.mean.ndim != 1 or not (
            np.isfinite(self.mean).all() and np.isfinite(self.std).all() and (self.std > 0).all()
        ):
            raise ValueError("mean and std must be finite numbers, one of each for each column, and std positive")

    @classmethod
    def fit(cls, values: npt.ArrayLike, names: Sequence[str] | None = None) -> "Scaler":
        """Return a scaler for columns like those of values (T, F), which may be called by names in messages.

        Raises
        ------
        ValueError
            If values is not (T, F) with T at least 1, or a column is constant, or not finite, or too large to be squared.
        """
        array = np.asarray(values, np.float64)
        _validate.shape("values", array, {"T": None, "F": None})
        if len(array) == 0:
            raise ValueError("values has no rows to fit a scaling on")
        with np.errstate(over="ignore", invalid="ignore"):
            mean, std = array.mean(axis=0), array.std(axis=0)
        for column in range(array.shape[1]):
            name = f"column {column}" if names is None else f"column {names[column]!r}"
            if (array[:, column] == array[0, column]).all():
                raise ValueError(
                    f"{name} is constant, {array[0, column]:g} in all of the {len(array)} rows to learn from: leave it out"
                )
            if not (np.isfinite(std[column]) and std[column] > 0):
                raise ValueError(f"{name} cannot be scaled, its values are not finite, too large or too close: rescale it")
        return cls(mean, std)

    def transform(self, values: npt.ArrayLike) -> Array:
        """Return values (.., F) scaled."""
        return np.asarray((np.asarray(values) - self.mean) / self.std)

    def inverse(self, values: npt.ArrayLike) -> Array:
        """Return what `transform` was given, from what it returned."""
        return np.asarray(np.asarray(values) * self.std + self.mean)


class Parts(NamedTuple):
    """Which samples to train on, to validate with and to test with: slices of the windows.

    rows_to_train : int
        How many of the first rows the training part may know, for scaling.
    """

    training: slice
    validation: slice
    test: slice
    rows_to_train: int


def chronological_parts(
    rows: int, lookback: int, horizon: int = 1, validation: float = 0.15, test: float = 0.2, least: int = 1
) -> Parts:
    """Split samples of a series in order of time, so that no part's targets are among another's.

    Sample k looks back at rows k .. k + lookback - 1, and its targets are the `horizon` rows after these.

    Parameters
    ----------
    rows : int
        Of the series.
    lookback, horizon : int
    validation, test : float in 0..1
        Fractions of the rows, the last but one and the last, in which these parts have their targets; 0 for no such part.
    least : int
        How many samples there must be to train on.

    Raises
    ------
    ValueError
        If there are too few rows: the message says how many it takes.
    """
    _validate.whole("lookback", lookback), _validate.whole("horizon", horizon), _validate.whole("least", least, 0)
    fractions = tuple(_validate.real(*pair, least=0, below=1) for pair in (("validation", validation), ("test", test)))
    if sum(fractions) >= 1:
        raise ValueError(f"validation and test must leave something to train on, not be {validation} and {test}")

    def ends(rows: int) -> tuple[int, int, int]:
        sizes = [round(fraction * rows) for fraction in fractions]
        return rows - sum(sizes), rows - sizes[1], rows

    def enough(rows: int) -> bool:
        a, b, c = ends(rows)
        sizes = zip(fractions, (b - a, c - b), strict=True)
        return a >= lookback + horizon - 1 + least and all(size >= horizon for fraction, size in sizes if fraction)

    if not enough(rows):
        held_out = [(horizon - 0.5) / fraction for fraction in fractions if fraction]  # which is rounded
        at_least = [(lookback + horizon - 1 + least) / (1 - sum(fractions)), *held_out]
        needed = next(count for count in itertools.count(max(1, int(max(at_least)) - 4)) if enough(count))
        wanted = [f"look back {lookback} rows", f"forecast {horizon}"]
        wanted += [verb for verb, fraction in zip(("validate", "test"), fractions, strict=True) if fraction]
        tasks = f"{', '.join(wanted[:-1])} and {wanted[-1]}"
        raise ValueError(f"{rows} rows are too few: it takes {needed} to {tasks}")
    a, b, c = ends(rows)
    training, validating, testing = (
        slice(first, end - lookback - horizon + 1) for first, end in ((0, a), (a - lookback, b), (b - lookback, c))
    )
    return Parts(training, validating, testing, rows_to_train=a)
