"""What happens to arrays on a GPU between the passes of layers: what `numlstm.backend.moves` is for the CPU."""

import math
from typing import Any

import numpy as np

from numlstm._validate import Array

from . import training
from .arrays import Arrays, DeviceArray


class Moves(Arrays):
    """Arrays, and what happens to them."""

    def cleared(self, array: DeviceArray, lengths: Array) -> DeviceArray:
        """Return a copy of an array (N, T, ..) with 0 past the lengths, which are the host's."""
        out = self.empty(array.shape, array.dtype)
        self._steps(array, self.constant(lengths.shape, np.int64), self.lengths(lengths), False, out)
        return out

    def is_finite(self, array: DeviceArray) -> bool:
        """Return whether there is neither NaN nor infinity in an array: whether the sum of its squares is."""
        sums = training.workspace(self, array.size)
        self.operations.sum_of_squares(self.stream, array.reshape(array.size), sums)
        return bool(np.isfinite(self.host(sums)[0]))

    def add(self, array: DeviceArray, other: DeviceArray) -> None:
        self._combine("ADD", array, other, array)

    def _combine(self, kind: str, a: DeviceArray, b: DeviceArray, y: DeviceArray) -> None:
        if y.size:
            flat = (array.reshape(y.size) for array in (a, b, y))
            self.operations.combine(self.stream, getattr(self.operations.moves, kind), *flat)

    def _steps(self, array: DeviceArray, starts: Any, counts: Any, backwards: bool, out: DeviceArray) -> None:
        if out.size:
            each = math.prod(out.shape[2:])
            flat = (a.reshape(*a.shape[:2], each) for a in (array, out))
            source, target = flat
            self.operations.steps(self.stream, source, starts, counts, backwards, target)

    def clear(self, array: DeviceArray, lengths: DeviceArray) -> None:
        self._steps(array, self.constant(lengths.shape, np.int64), lengths, False, array)

    def turn(self, array: DeviceArray, lengths: DeviceArray | None, out: DeviceArray) -> None:
        counts = self.full(array) if lengths is None else lengths
        self._steps(array, self.constant(counts.shape, np.int64), counts, True, out)

    def full(self, array: DeviceArray) -> DeviceArray:
        """Return the lengths of sequences (N, T, ..) that all have T steps."""
        return self.constant(array.shape[:1], np.int64, array.shape[1])

    def cut(self, array: DeviceArray, start: Any, stop: Any, out: DeviceArray) -> None:
        first, count = (np.broadcast_to(np.asarray(k, np.int64), (len(out),)) for k in (start, stop - start))
        self._steps(array, self.scratch("first", first), self.scratch("count", count), False, out)

    def merge(self, mode: str, first: DeviceArray, second: DeviceArray, y: DeviceArray) -> None:
        if mode == "concat":
            for part, at in ((first, 0), (second, first.shape[-1])):
                columns = part.shape[-1]
                self.copy_rows(part, (0, columns), y, (at, y.shape[-1]), part.size // columns, columns)
        else:
            self._combine({"sum": "ADD", "mul": "MULTIPLY", "ave": "AVERAGE"}[mode], first, second, y)

    def unmerge(self, mode: str, dy: DeviceArray, outputs: Any, gradients: Any) -> None:
        (first, second), at = outputs, 0
        for gradient, other in zip(gradients, (second, first), strict=True):
            if mode == "concat":
                columns = gradient.shape[-1]
                self.copy_rows(dy, (at, dy.shape[-1]), gradient, (0, columns), gradient.size // columns, columns)
                at += columns
            elif mode == "sum":
                self.copy(dy, gradient)
            else:
                self._combine("MULTIPLY" if mode == "mul" else "HALVE", dy, other, gradient)

    def widen(self, W_hh: DeviceArray, R: DeviceArray, wide: DeviceArray) -> None:
        """As numlstm._engine_weights.widen."""
        hidden = W_hh.shape[1]
        zero = self.constant((hidden, 3 * hidden), wide.dtype)
        self.copy_rows(zero, (0, 3 * hidden), wide, ((8 * hidden + 1) * hidden, 4 * hidden), hidden, 3 * hidden)
        for part, rows, of_wide, count in _parts_of_wide(W_hh, R):
            self.copy_rows(part, rows, wide, of_wide, count, rows[1])

    def narrow(self, wide: DeviceArray, W_hh: DeviceArray, R: DeviceArray) -> None:
        """As numlstm._engine_weights.narrow."""
        for part, rows, of_wide, count in _parts_of_wide(W_hh, R):
            self.copy_rows(wide, of_wide, part, rows, count, rows[1])


def _parts_of_wide(W_hh: DeviceArray, R: DeviceArray) -> Any:
    """Yield parts of the matrix that `widen` writes: of what, from where there and in the whole, and how many rows."""
    H = W_hh.shape[1]
    yield W_hh, (0, H), (0, 4 * H), 4 * H
    yield R, (0, 3 * H), (H, 4 * H), 2 * H
    yield R, (6 * H * H, 3 * H), ((12 * H + 1) * H, 4 * H), H
