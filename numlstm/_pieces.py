"""Sequences cut into pieces, for backpropagation that goes back through a limited number of steps."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ._samples import Data
from ._validate import Array

Buffer = Callable[[str, tuple[int, ...], np.dtype[Any]], Array]  # memory by name, shape and dtype


Copy = Callable[[Array, Any, Any, Array], None]  # of steps: backend.cut


def pieces(batch: Data, length: int, by_step: bool, buffer: Buffer, copy: Copy) -> Iterator[tuple[Data, bool]]:
    """Cut a batch into pieces of so many steps; yield each, in memory that the next overwrites, and whether it has a loss.

    With targets for each step pieces are counted from the first step, and each has a loss. Else they are counted from the
    last, and that piece alone has one. Where lengths differ, the last step is that of each sequence: pieces in which it has
    not begun or has ended have no steps of it.
    """
    lengths, steps = batch.lengths, batch.x.shape[1]
    longest = steps if lengths is None else int(lengths.max())
    first = length if by_step else longest % length or length
    for start, stop in itertools.pairwise([0, *range(first, longest, length), longest]):
        if lengths is None:
            cut, size, own = _Cut(start, stop, copy), stop - start, None
        else:
            to_end = np.zeros_like(lengths) if by_step else longest - lengths
            begins, ends = ((at - to_end).clip(0, lengths) for at in (start, stop))
            cut = _Cut(begins, ends, copy)
            size, own = min(length, steps), cut.stop - cut.start
        x = cut.of("x", batch.x, size, buffer)
        y = cut.of("y", batch.y, size, buffer) if by_step else batch.y
        weights = cut.of("weights", batch.weights, size, buffer) if by_step else batch.weights
        yield Data(x, y, weights, own), by_step or stop == longest


class _Cut:
    """Steps from `start` to `stop`, of all sequences or (N,) of each."""

    def __init__(self, start: Any, stop: Any, copy: Copy) -> None:
        self.start, self.stop, self._copy = start, stop, copy

    def of(self, name: str, array: Array, size: int, buffer: Buffer) -> Array:
        """Return these steps of an array (N, T, ..) as one (N, size, ..), filled up with 0."""
        if array.shape[1] == 0:
            return array
        piece = buffer(f"piece of {name}", (len(array), size, *array.shape[2:]), array.dtype)
        self._copy(array, self.start, self.stop, piece)
        return piece
