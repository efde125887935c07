"""Memory that calls use again: a second call with the same shapes allocates none."""

import math

import numpy as np
import numpy.typing as npt

_ALIGNMENT = 64  # bytes: a cache line, and the widest vector
_SHAPES = 64
_EACH = 4

_free: dict[tuple[tuple[int, ...], np.dtype[np.floating]], list[npt.NDArray[np.floating]]] = {}


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> npt.NDArray[np.floating]:
    """Return an uninitialised C-contiguous array that starts at a cache line."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def take(shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> npt.NDArray[np.floating]:
    """Return an uninitialised aligned array, one that was given back if there is any."""
    try:
        return _free[shape, dtype].pop()
    except (KeyError, IndexError):
        return aligned_empty(shape, dtype)


def give_back(*arrays: npt.NDArray[np.floating]) -> None:
    """Offer arrays from `take` for use by later calls. What is held is bounded; single steps are atomic, so no lock."""
    for array in arrays:
        if len(_free) > _SHAPES:
            _free.clear()
        kept = _free.setdefault((array.shape, array.dtype), [])
        if len(kept) < _EACH:
            kept.append(array)
