"""Memory that calls use again: a second call with the same shapes allocates none."""

import math
import os
import threading
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

_ALIGNMENT = 64  # bytes: a cache line, and the widest vector
_LEAST = 64 << 20  # bytes that may always be held
_TIMES_LARGEST = 4  # as much again as the tapes of a few layers take
_LEAST_BLOCK = 1 << 16  # bytes of an arena's first block; up to the large ones they are powers of two, to be used again
_USUAL_BLOCK = 1 << 20
_LARGE_BLOCK = 1 << 26
_MOST = 256  # of what is held

Take = Callable[[tuple[int, ...], np.dtype[Any]], npt.NDArray[Any]]  # what gives memory: `aligned_empty` or the like


class Holder(Protocol):
    """What holds memory: an array, or what has several."""

    @property
    def nbytes(self) -> int: ...


_free: dict[Hashable, list[Any]] = {}  # by key, the longest unused key first
_held = 0
_count = 0
_largest = 0
_lock = threading.Lock()


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return an uninitialised C-contiguous array that starts at a cache line."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def borrow(key: Hashable) -> Any:
    """Return something that was given back under this key, for nobody else to use; None if there is nothing."""
    global _held, _count
    with _lock:
        kept = _free.get(key)
        if kept is None:
            return None
        holder = kept.pop()
        if not kept:
            del _free[key]
        _held -= holder.nbytes
        _count -= 1
        return holder


def give_back(key: Hashable, holder: Holder) -> None:
    """Offer what nobody uses any more for use by later calls, under a key that says what it is good for.

    What is held is at most 64 MB or four times the largest so far, and 256 of them; the longest unused keys go first.
    """
    global _held, _count, _largest
    size = holder.nbytes
    with _lock:
        kept = _free.pop(key, None) or []
        kept.append(holder)
        _free[key] = kept
        _held += size
        _count += 1
        _largest = max(_largest, size)
        while _held > max(_LEAST, _TIMES_LARGEST * _largest) or _count > _MOST:
            oldest = next(iter(_free))
            _held -= _free[oldest].pop(0).nbytes
            _count -= 1
            if not _free[oldest]:
                del _free[oldest]


class Room(Protocol):
    """Where an arena's blocks are. alignment : bytes"""

    alignment: int

    def block(self, size: int, held: int) -> Any:
        """Return memory of at least `size` bytes, for an arena that holds so many already."""

    def part(self, block: Any, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """Return an uninitialised array in a block, from byte `start` on."""

    def give_back(self, block: Any) -> None:
        """Let a block go."""


class _Host:
    """The host's memory, whose blocks others may use again."""

    alignment = _ALIGNMENT

    def block(self, size: int, held: int) -> Any:
        least = max(size, _LEAST_BLOCK, min(held, _USUAL_BLOCK))
        length = 1 << (least - 1).bit_length() if least < _LARGE_BLOCK else least
        block = borrow(("block", length))
        return aligned_empty((length,), np.dtype(np.uint8)) if block is None else block

    def part(self, block: Any, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        return block[start : start + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)

    def give_back(self, block: Any) -> None:
        give_back(("block", block.nbytes), block)


class Arena:
    """Memory of plans of which one is at work at a time: after `restart` the same blocks are dealt out again."""

    def __init__(self, room: Room | None = None) -> None:
        self._room = _Host() if room is None else room
        self._blocks: list[Any] = []
        self.restart()

    def restart(self) -> None:
        """Begin at the first block."""
        self._block, self._used, self.taken = 0, 0, 0

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks; `taken` are those since the last `restart`."""
        return sum(block.nbytes for block in self._blocks)

    def take(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return an uninitialised aligned array, different from all since the last `restart`."""
        room, dtype = self._room, np.dtype(dtype)
        size = -(-math.prod(shape) * dtype.itemsize // room.alignment) * room.alignment
        while self._block < len(self._blocks) and self._used + size > self._blocks[self._block].nbytes:
            self._block, self._used = self._block + 1, 0
        if self._block == len(self._blocks):
            self._blocks.append(room.block(size, self.nbytes))
        start, self._used = self._used, self._used + size
        self.taken += size
        return room.part(self._blocks[self._block], start, tuple(shape), dtype)

    def release(self) -> None:
        """Let the blocks go, of the host's for use by others; nobody may use what was taken any more."""
        for block in self._blocks:
            self._room.give_back(block)
        self._blocks = []
        self.restart()


def _after_fork() -> None:
    """Let a forked child begin with an open lock: another thread of the parent may have held it."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
