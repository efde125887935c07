"""Memory that calls use again: a second call with the same shapes allocates none."""

import math
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

_ALIGNMENT = 64  # bytes: a cache line, and the widest vector
_LEAST = 64 << 20  # bytes that may always be held
_TIMES_LARGEST = 4  # as much again as the tapes of a few layers take
_LEAST_BLOCK = 1 << 20  # bytes of an arena's blocks; up to the large ones they are powers of two, to be used again
_LARGE_BLOCK = 1 << 26

Take = Callable[[tuple[int, ...], np.dtype[Any]], npt.NDArray[Any]]  # what gives memory for an array: `take` and the like

_free: list[npt.NDArray[Any]] = []  # the longest unused first
_held = 0
_largest = 0
_lock = threading.Lock()


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return an uninitialised C-contiguous array that starts at a cache line."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def take(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return an uninitialised aligned array, one that was given back if there is any of that shape."""
    global _held
    with _lock:
        for place in range(len(_free) - 1, -1, -1):
            if _free[place].shape == shape and _free[place].dtype == dtype:
                array = _free.pop(place)
                _held -= array.nbytes
                return array
    return aligned_empty(shape, dtype)


def give_back(*arrays: npt.NDArray[Any]) -> None:
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


class Arena:
    """Memory of plans of which one is at work at a time: after `restart` the same blocks are dealt out again."""

    def __init__(self) -> None:
        self._blocks: list[npt.NDArray[Any]] = []
        self.restart()

    def restart(self) -> None:
        """Begin at the first block."""
        self._block, self._used, self.taken = 0, 0, 0

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks; `taken` are those since the last `restart`."""
        return sum(block.nbytes for block in self._blocks)

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return an uninitialised aligned array, different from all since the last `restart`."""
        size = -(-math.prod(shape) * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
        while self._block < len(self._blocks) and self._used + size > self._blocks[self._block].nbytes:
            self._block, self._used = self._block + 1, 0
        if self._block == len(self._blocks):
            length = max(_LEAST_BLOCK, 1 << (size - 1).bit_length() if size < _LARGE_BLOCK else size)
            self._blocks.append(take((length,), np.dtype(np.uint8)))
        start, self._used = self._used, self._used + size
        self.taken += size
        bytes_taken = self._blocks[self._block][start : start + math.prod(shape) * dtype.itemsize]
        return bytes_taken.view(dtype).reshape(shape)

    def release(self) -> None:
        """Offer the blocks for use by others; nobody may use what was taken any more."""
        give_back(*self._blocks)
        self._blocks = []
        self.restart()


def _after_fork() -> None:
    """Let a forked child begin with an open lock: another thread of the parent may have held it."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
