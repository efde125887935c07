"""Sequences of different lengths: in one array, and in batches of like length."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numlstm import _validate
from numlstm._validate import Array

__all__ = ["Padded", "buckets", "pad", "unpad"]


class Padded(NamedTuple):
    """Sequences in one array.

    x : (N, T, ..)
        Each from step 0 on, then filled up.
    lengths : (N,) int64
        How many steps of each are its own.
    """

    x: Array
    lengths: Array


def pad(sequences: Iterable[npt.ArrayLike], steps: int | None = None, value: float = 0, dtype: Any = None) -> Padded:
    """Lay sequences of different lengths into one array, and fill up what is left at their ends.

    Parameters
    ----------
    sequences : N arrays (t, F), or all of them (t,)
        Each of its own number t of steps, at least 1.
    steps : int, optional
        Number T of steps of the array; that of the longest if left out.
    value : float
        What to fill up with.
    dtype : dtype, optional
        Of the array; one that holds the numbers of all sequences, and `value`, if left out.

    Returns
    -------
    Padded
        x (N, T, F) or (N, T), and lengths (N,).

    Raises
    ------
    TypeError, ValueError
        For no sequences, one that is empty, longer than `steps`, or unlike the first in its features: the message names it;
        and for a value that the dtype cannot hold.
    """
    return padded("sequences", sequences, steps, value, dtype)


def padded(name: str, sequences: Iterable[npt.ArrayLike], steps: int | None, value: float = 0, dtype: Any = None) -> Padded:
    """Do what `pad` does; messages call the sequences `name`."""
    arrays = [_validate.numbers(f"{name}[{i}]", sequence) for i, sequence in enumerate(sequences)]
    if not arrays:
        raise ValueError(f"{name} must be at least one, but there is none")
    for i, array in enumerate(arrays):
        if array.ndim not in (1, 2) or array.shape[1:] != arrays[0].shape[1:] or 0 in array.shape:
            features = arrays[0].shape[1:]
            expected = "(t,) or (t, F)" if i == 0 else f"(t, {features[0]})" if features else "(t,)"
            like = " like the first" if i else ""
            raise ValueError(f"{name}[{i}] must have shape {expected}{like}, with at least one step, not {array.shape}")
    lengths = np.array([len(array) for array in arrays], np.int64)
    longest = int(lengths.argmax())
    total = int(lengths[longest]) if steps is None else _validate.whole("steps", steps)
    if lengths[longest] > total:
        raise ValueError(f"steps is {total}, but {name}[{longest}] has {lengths[longest]}: shorten it, or take more steps")
    shape = (len(arrays), total, *arrays[0].shape[1:])
    x = np.full(shape, value, _dtype_for(arrays, value) if dtype is None else _checked(dtype, value))
    for row, array in zip(x, arrays, strict=True):
        row[: len(array)] = array
    return Padded(x, lengths)


def _dtype_for(arrays: Sequence[Array], value: float) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.result_type(*arrays)
    if not _holds(dtype, value):
        return np.promote_types(dtype, np.float64)
    return dtype


def _checked(dtype: Any, value: float) -> np.dtype[Any]:
    chosen: np.dtype[Any] = np.dtype(dtype)
    if not _holds(chosen, value):
        raise ValueError(f"value must be one that {chosen} can hold, not {value}")
    return chosen


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    """Return whether an array of a dtype can be filled with a value: of whole numbers, without changing it."""
    if dtype.kind not in "iub":
        return True
    least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return bool(least <= value <= most and value == int(value))


def unpad(x: npt.ArrayLike, lengths: Sequence[int] | Array) -> list[Array]:
    """Return the sequences in x (N, T, ..) without what was filled up, as views: what `pad` was given.

    Raises
    ------
    TypeError, ValueError
        For lengths that are not N integers from 1 to T.
    """
    array = np.asarray(x)
    if array.ndim < 2:
        raise ValueError(f"x must have shape (N, T, ..), not {array.shape}")
    counts = _lengths(lengths)
    if len(counts) != len(array) or (counts > array.shape[1]).any():
        raise ValueError(f"lengths must be {len(array)} integers from 1 to T={array.shape[1]}, one for each sequence in x")
    return [row[:count] for row, count in zip(array, counts, strict=True)]


def buckets(lengths: Sequence[int] | Array, batch_size: int, seed: Any = 0) -> list[Array]:
    """Deal sequences out to batches of like length, so that little is filled up.

    They are sorted by length, those of the same in an order by chance, and cut into batches, which then come in an order by
    chance too.

    Parameters
    ----------
    lengths : (N,) integers
    batch_size : int
        All batches but one, of any length, have so many.
    seed : int or sequence of ints
        The same one gives the same batches. For others in each epoch: ``(seed, epoch)``.

    Returns
    -------
    list of arrays of int64
        The sequences in each batch: each of 0 .. N - 1 once.

    Raises
    ------
    TypeError, ValueError
        For lengths that are not positive integers.
    """
    counts, size = _lengths(lengths), _validate.whole("batch_size", batch_size)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(counts))
    order = order[np.argsort(counts[order], kind="stable")]
    batches = [order[first : first + size] for first in range(0, len(order), size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def _lengths(given: Sequence[int] | Array) -> Array:
    array = _validate.numbers("lengths", given)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"lengths must be integers, not {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"lengths must have shape (N,), not {array.shape}")
    if (array < 1).any():
        first = int(np.argmax(array < 1))
        raise ValueError(f"lengths must be at least 1, but lengths[{first}] is {array[first]}")
    return array.astype(np.int64)
