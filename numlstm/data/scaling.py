"""Columns brought to like sizes, and back."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from numlstm import _validate
from numlstm._validate import Array

__all__ = ["Scaler"]


class Scaler:
    """Brings columns to like sizes, and back: ``(values - offset) / scale``.

    `standard` and `min_max` find the two in data: take the training part alone, or the test knows of the future.

    offset, scale : (F,) float64
        One of each for each column; scale is positive.
    """

    def __init__(self, offset: npt.ArrayLike, scale: npt.ArrayLike) -> None:
        self.offset, self.scale = np.array(offset, np.float64), np.array(scale, np.float64)
        _validate.shape("scale", self.scale, {"F": self.offset.size}, ", that of offset")
        if self.offset.ndim != 1 or not (
            np.isfinite(self.offset).all() and np.isfinite(self.scale).all() and (self.scale > 0).all()
        ):
            raise ValueError("offset and scale must be finite numbers, one of each for each column, and scale positive")

    def __repr__(self) -> str:
        return f"Scaler(offset={self.offset.tolist()}, scale={self.scale.tolist()})"

    @classmethod
    def standard(
        cls,
        values: npt.ArrayLike,
        names: Sequence[str] | None = None,
        keep_constant: bool = False,
        skip_nan: bool = False,
    ) -> "Scaler":
        """Return a scaler that brings the columns of values (T, F) to mean 0 and standard deviation 1.

        Parameters
        ----------
        values : (T, F)
            The training part.
        names : sequence of F str, optional
            What messages call the columns.
        keep_constant : bool
            Whether a constant column is let through, to become 0, instead of refused.
        skip_nan : bool
            Whether the scaling is that of the numbers beside NaN, which `transform` lets through, instead of refused.

        Raises
        ------
        ValueError
            If values is not (T, F) with T at least 1, or a column is constant, or not finite, or too large to be squared.
        """

        def mean_and_deviation(array: Array) -> tuple[Array, Array]:
            mean = array.mean(axis=0) if not skip_nan else np.nanmean(array, axis=0)
            return mean, array.std(axis=0) if not skip_nan else np.nanstd(array, axis=0)

        return cls(*_fitted(mean_and_deviation, values, names, keep_constant, skip_nan))

    @classmethod
    def min_max(
        cls,
        values: npt.ArrayLike,
        low: float = 0.0,
        high: float = 1.0,
        names: Sequence[str] | None = None,
        keep_constant: bool = False,
        skip_nan: bool = False,
    ) -> "Scaler":
        """Return a scaler that brings the least number of each column of values (T, F) to `low`, and the greatest to `high`.

        Later values may lie outside. Arguments and errors are those of `standard`; a constant column becomes `low`.
        """
        low, high = _validate.real("low", low), _validate.real("high", high)
        if not low < high:
            raise ValueError(f"low must be below high, but low is {low:g} and high {high:g}")

        def least_and_range(array: Array) -> tuple[Array, Array]:
            least, greatest = np.fmin.reduce(array, axis=0), np.fmax.reduce(array, axis=0)  # of numbers beside NaN
            return least, (greatest - least) / (high - low)

        least, scale = _fitted(least_and_range, values, names, keep_constant, skip_nan)
        return cls(least - low * scale, scale)

    def columns(self, columns: Any) -> "Scaler":
        """Return the scaler of some columns alone, such as to bring forecasts of them back to their units.

        Parameters
        ----------
        columns : int, slice or sequence of ints

        Raises
        ------
        IndexError
            If there is no such column.
        """
        both = _validate.columns("columns", columns, np.array([self.offset, self.scale]))
        return Scaler(*both.reshape(2, -1))

    def transform(self, values: npt.ArrayLike) -> Array:
        """Return values (.., F) scaled, as float64; with F = 1 values of any shape."""
        return np.asarray((self._read(values) - self.offset) / self.scale)

    def inverse(self, values: npt.ArrayLike) -> Array:
        """Return what `transform` was given, from what it returned."""
        return np.asarray(self._read(values) * self.scale + self.offset)

    def _read(self, values: npt.ArrayLike) -> Array:
        array, count = np.asarray(values), self.offset.size
        if count > 1 and array.shape[-1:] != (count,):
            raise ValueError(f"values must have shape (.., {count}), one for each column that is scaled, not {array.shape}")
        return array


def _fitted(
    measure: Callable[[Array], tuple[Array, Array]],
    values: npt.ArrayLike,
    names: Sequence[str] | None,
    keep_constant: bool,
    skip_nan: bool,
) -> tuple[Array, Array]:
    """Return where the columns lie and how wide they are by `measure`, or raise ValueError that names the column."""
    array = np.asarray(values, np.float64)
    _validate.shape("values", array, {"T": None, "F": None})
    if len(array) == 0:
        raise ValueError("values has no rows to fit a scaling on")
    if names is not None and len(names) != array.shape[1]:
        raise ValueError(f"names must be those of the {array.shape[1]} columns, not {len(names)}")
    called = [f"column {i}" if names is None else f"column {names[i]!r}" for i in range(array.shape[1])]
    numbers = ~np.isnan(array) if skip_nan else np.ones(array.shape, bool)
    for name, count in zip(called, numbers.sum(axis=0), strict=True):
        if count == 0:
            raise ValueError(f"{name} cannot be scaled, there are no numbers in it: leave it out")
    with np.errstate(over="ignore", invalid="ignore"):
        place, width = measure(array)
    for column, name in enumerate(called):
        present = array[numbers[:, column], column]
        if (present == present[0]).all() and np.isfinite(present[0]):
            if not keep_constant:
                raise ValueError(
                    f"{name} is constant, {present[0]:g} in all of the {len(present)} rows to learn from: leave it out"
                )
            place[column], width[column] = present[0], 1.0
        elif not (np.isfinite(present).all() and np.isfinite(width[column]) and width[column] > 0):
            hint = "fill gaps, or skip them (skip_nan=True)" if np.isnan(present).any() else "rescale it"
            raise ValueError(f"{name} cannot be scaled, its values are not finite, too large or too close: {hint}")
    return place, width
