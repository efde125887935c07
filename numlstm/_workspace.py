"""Memory that calls use again: a second call with the same shapes allocates none."""

import math
import os
import threading

import numpy as np
import numpy.typing as npt

_ALIGNMENT = 64  # bytes: a cache line, and the widest vector
_LEAST = 64 << 20  # bytes that may always be held
_TIMES_LARGEST = 4  # as much again as the tapes of a few layers take

_free: list[npt.NDArray[np.floating]] = []  # the longest unused first
_held = 0
_largest = 0
_lock = threading.Lock()


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> npt.NDArray[np.floating]:
    """Return an uninitialised C-contiguous array that starts at a cache line."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def take(shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> npt.NDArray[np.floating]:
    """Return an uninitialised aligned array, one that was given back if there is any of that shape."""
    global _held
    with _lock:
        for place in range(len(_free) - 1, -1, -1):
            if _free[place].shape == shape and _free[place].dtype == dtype:
                array = _free.pop(place)
                _held -= array.nbytes
                return array
    return aligned_empty(shape, dtype)


def give_back(*arrays: npt.NDArray[np.floating]) -> None:
    """Offer arrays from `take` for use by later calls, which nobody may use any more.

    What is held is at most 64 MB or four times the largest array so far, and 256 arrays; the longest unused go first.
    """
    global _held, _largest
    with _lock:
        for array in arrays:
            _free.append(array)
            _held += array.nbytes
            _largest = max(_largest, array.nbytes)
        while _held > max(_LEAST, _TIMES_LARGEST * _largest) or len(_free) > 256:
            _held -= _free.pop(0).nbytes


def _after_fork() -> None:
    """Let a forked child begin with an open lock: another thread of the parent may have held it."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
