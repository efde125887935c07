"""Sequences of different lengths: how they come, one by one or in one array with their lengths, and what lies past them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from . import _validate, devices
from ._validate import Array
from .data.ragged import padded

if TYPE_CHECKING:
    from .models import Sequential


def listed(value: Any) -> bool:
    """Return whether sequences come one by one, and not all with the same number of steps."""
    if isinstance(value, np.ndarray):
        if value.dtype != object or value.ndim != 1:
            return False
    elif not isinstance(value, (list, tuple)):
        return False
    return len({len(item) if hasattr(item, "__len__") else None for item in value}) > 1


def read(
    model: "Sequential", name: str, x: Any, lengths: Any, label: str = "lengths", whole: bool = True
) -> tuple[Array, Array | None]:
    """Return data as the model reads it, 0 past the lengths, and these, or None where all sequences have all steps.

    Messages call the lengths `label`; the model is built for the data; `whole` as for its `cast`.

    Raises
    ------
    TypeError, ValueError
        For data that the model cannot take, or lengths that are not of its sequences.
    """
    given = lengths is not None
    on_gpu = model.device == "cuda"
    if on_gpu and model.layers:
        x = model.adopted(name, x, model.x_dtype)
    if given and on_gpu and devices.on_gpu(x):
        ends = _validate.lengths(label, lengths, *x.shape[:2])
        x, lengths = model.backend.cleared(x, ends), ends
    elif listed(x):
        if given:
            raise ValueError(f"{label} go with one array, but {name} is a list of sequences, each as long as it is")
        x, lengths = padded(name, x, None)
        x = _widened(x, (model.input_shape or (None,))[0] or 0)
    elif given:
        x = _validate.numbers(name, x)
        if x.ndim < 2:
            raise ValueError(f"{label} go with sequences (N, T, F), but {name} has shape {x.shape}")
        lengths = _validate.lengths(label, lengths, *x.shape[:2])
        x = cleared(x, lengths)
    array = model.cast(name, x, whole)
    found = model.layers[0].lengths_in(name, array, lengths)
    if found is not None and not (array.ndim == 3 or (array.ndim == 2 and model.x_dtype == np.int64)):
        wanted = "(N, T, F), or (N, T) whole numbers for an Embedding"
        raise ValueError(f"sequences of different lengths must have shape {wanted}, but {name} has {array.shape}")
    return array, found


def _widened(array: Array, steps: int) -> Array:
    """Return an array (N, T, ..) with at least so many steps, 0 in those that it did not have."""
    more = max(0, steps - array.shape[1])
    return np.pad(array, [(0, 0), (0, more)] + [(0, 0)] * (array.ndim - 2)) if more else array


def of_steps(name: str, value: Any, lengths: Array, steps: int) -> Any:
    """Return what comes for each step of sequences as an array with 0 past their lengths; anything else as it comes."""
    if listed(value) and len(value) == len(lengths):
        array, own = padded(name, value, None)
        if (own != lengths).any():
            row = int(np.argmax(own != lengths))
            raise ValueError(f"{name}[{row}] must have {lengths[row]} steps, as many as the sequence has, not {own[row]}")
        return _widened(array, steps)
    array = _validate.numbers(name, value)
    return cleared(array, lengths) if array.shape[:2] == (len(lengths), steps) else value


def cleared(array: Array, lengths: Array) -> Array:
    """Return an array (N, T, ..) with 0 past the lengths; itself if it is that already."""
    if not any(row[length:].any() for row, length in zip(array, lengths.tolist(), strict=True)):
        return array
    array = array.copy()
    for row, length in zip(array, lengths.tolist(), strict=True):
        row[length:] = 0
    return array
