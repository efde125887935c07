"""From a long series to samples to learn from, and parts of these in order of time."""

import itertools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numlstm import _validate
from numlstm._validate import Array

__all__ = ["Parts", "Samples", "chronological_parts", "samples", "sliding_windows"]


def sliding_windows(values: npt.ArrayLike, length: int, stride: int = 1) -> Array:
    """Return all windows of so many successive rows, without a copy.

    Parameters
    ----------
    values : (T,) or (T, F)
    length : int
        From 1 to T.
    stride : int
        From how many rows to how many the next window begins.

    Returns
    -------
    (N, length) or (N, length, F), with N = (T - length) // stride + 1
        A read-only view of `values`: element [k, t] is row k * stride + t.

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
    view = np.lib.stride_tricks.sliding_window_view(array, length, axis=0)[:: _validate.whole("stride", stride)]
    return view if array.ndim == 1 else view.swapaxes(1, 2)


class Samples(NamedTuple):
    """What a network is shown, and what it is to answer.

    x : (N, L, F)
        Windows of L rows.
    y : (N, H) or (N, H, K)
        The targets in the H rows after each.
    """

    x: Array
    y: Array


def samples(values: npt.ArrayLike, lookback: int, horizon: int = 1, targets: Any = None, stride: int = 1) -> Samples:
    """Cut a series into samples: windows, and the rows that follow each. Nothing is copied.

    Sample k looks back at the `lookback` rows from k * stride on, and its targets are in the `horizon` rows after these.
    `chronological_parts` says which samples are to be trained on and which tested with.

    Parameters
    ----------
    values : (T,) or (T, F)
    lookback, horizon : int
        Numbers L and H of rows.
    targets : int, slice or sequence of ints, optional
        Columns to forecast: one, for y (N, H), or several, for y (N, H, K); all of them if left out.
    stride : int
        From how many rows to how many the next sample begins.

    Returns
    -------
    Samples
        x (N, L, F) and y (N, H) or (N, H, K), with N = (T - L - H) // stride + 1; F is 1, and y is (N, H), for values (T,).
        Both are read-only views of `values`; y is one of a copy of the columns (T, K) if a sequence names them.

    Raises
    ------
    ValueError
        If values has another number of axes, or too few rows.
    IndexError
        If there is no such column.
    """
    array = np.asarray(values)
    lookback, horizon = _validate.whole("lookback", lookback), _validate.whole("horizon", horizon)
    if array.ndim not in (1, 2):
        raise ValueError(f"values must have shape (T,) or (T, F), not {array.shape}")
    if len(array) < lookback + horizon:
        raise ValueError(f"values has {len(array)} rows, too few to look back {lookback} and forecast {horizon}")
    if targets is None:
        wanted = array
    elif array.ndim == 2:
        wanted = _validate.columns("targets", targets, array)
    else:
        raise ValueError(f"targets chooses columns of values (T, F), but values has shape {array.shape}: leave it out")
    columns = array if array.ndim == 2 else array[:, np.newaxis]
    return Samples(
        sliding_windows(columns[: len(array) - horizon], lookback, stride),
        sliding_windows(wanted[lookback:], horizon, stride),
    )


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
    rows: int,
    lookback: int,
    horizon: int = 1,
    validation: float = 0.15,
    test: float = 0.2,
    least: int = 1,
    stride: int = 1,
    starts: tuple[int, int] | None = None,
) -> Parts:
    """Split samples of a series in order of time, so that no part's targets are among another's.

    Sample k looks back at rows k * stride .. k * stride + lookback - 1, and its targets are the `horizon` rows after these,
    as those of `samples`. A sample whose targets would lie in two parts is in none. The first samples of a part do look back
    at rows of the part before, as in use, when these are the past.

    Parameters
    ----------
    rows : int
        Of the series.
    lookback, horizon : int
    validation, test : float in 0..1
        Fractions of the rows, the last but one and the last, in which these parts have their targets; 0 for no such part.
    least : int
        How many samples there must be to train on.
    stride : int
        From how many rows to how many the next sample begins.
    starts : (int, int), optional
        The rows from which on validation and test have their targets, instead of fractions; the same row twice for no
        validation, and `rows` for no test.

    Raises
    ------
    ValueError
        If there are too few rows: the message says how many it takes.
    """
    cut = _Cut(*(_validate.whole(*size) for size in (("lookback", lookback), ("horizon", horizon), ("stride", stride))))
    _validate.whole("rows", rows, 0), _validate.whole("least", least, 0)
    if starts is not None:
        return cut.at(starts, rows, least)
    fractions = tuple(_validate.real(*pair, least=0, below=1) for pair in (("validation", validation), ("test", test)))
    if sum(fractions) >= 1:
        raise ValueError(f"validation and test must leave something to train on, not be {validation} and {test}")

    def split(rows: int) -> Parts | None:
        sizes = [round(fraction * rows) for fraction in fractions]
        first, second = rows - sum(sizes), rows - sizes[1]
        return cut.parts(first, second, rows, [fraction > 0 for fraction in fractions], least)

    parts = split(rows)
    if parts is None:
        held_out = [(cut.horizon - 0.5) / fraction for fraction in fractions if fraction]  # which is rounded
        at_least = [(cut.lookback + cut.horizon - 1 + least) / (1 - sum(fractions)), *held_out]
        needed = next(count for count in itertools.count(max(1, int(max(at_least)) - 4)) if split(count))
        wanted = [f"look back {lookback} rows", f"forecast {horizon}"]
        wanted += [verb for verb, fraction in zip(("validate", "test"), fractions, strict=True) if fraction]
        tasks = f"{', '.join(wanted[:-1])} and {wanted[-1]}"
        raise ValueError(f"{rows} rows are too few: it takes {needed} to {tasks}")
    return parts


class _Cut(NamedTuple):
    """How samples are cut out of a series."""

    lookback: int
    horizon: int
    stride: int

    def parts(self, first: int, second: int, rows: int, wanted: list[bool], least: int) -> Parts | None:
        """Return the samples with targets before two rows, between and behind them; None if a wanted part has too few."""

        def between(start: int, end: int) -> slice:
            stop = (end - self.lookback - self.horizon) // self.stride + 1
            return slice(-(-(start - self.lookback) // self.stride), stop)

        found = between(self.lookback, first), between(first, second), between(second, rows)
        training, *held_out = (part.stop - part.start for part in found)
        if first < self.lookback + self.horizon - 1 or training < least:
            return None
        if any(want and count < 1 for want, count in zip(wanted, held_out, strict=True)):
            return None
        return Parts(*found, rows_to_train=first)

    def at(self, starts: tuple[int, int], rows: int, least: int) -> Parts:
        """Return the parts whose targets begin at these rows."""
        if len(starts) != 2:
            raise ValueError(f"starts must be two rows, of validation and of test, not {starts}")
        first, second = (_validate.whole(f"starts[{i}]", start, 0) for i, start in enumerate(starts))
        if not first <= second <= rows:
            raise ValueError(f"starts must be two rows in order of time, at most {rows}, not {(first, second)}")
        parts = self.parts(first, second, rows, [second > first, rows > second], least)
        if parts is None:
            came = f"{first} rows to train on, {second - first} to validate with and {rows - second} to test with"
            raise ValueError(
                f"starts={(first, second)} leaves {came}: too few to look back {self.lookback} and forecast {self.horizon}"
            )
        return parts
