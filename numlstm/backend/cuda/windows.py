"""A layer's passes that keep little, window of steps after window: `recompute` on a GPU."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from numlstm._workspace import Take
from numlstm.backend.weights import Kind

from .recurrent import Cell, Recurrent, Weights

if TYPE_CHECKING:
    from .device import Cuda


class Windows:
    """The passes of one layer, of which a forward one leaves behind only the states every sqrt(T) steps.

    The backward pass computes what lies between once more, a window of steps after the other, in order from the last. To
    the passes within, a window is a batch of shorter sequences, in memory of its own; where T is no multiple of its size,
    all of them end within the last one. Arguments are those of `Recurrent`.
    """

    summing = 1

    def __init__(
        self,
        device: "Cuda",
        kind: Kind,
        sizes: tuple[int, int, int, int],
        dtype: np.dtype[Any],
        take: Take,
        **more: Any,
    ) -> None:
        batch, steps, inputs, hidden = self._sizes = sizes
        outputs = more.get("outputs") or hidden
        self._device, self._dtype = device, dtype
        self._size = math.isqrt(max(0, steps - 1)) + 1  # the square root of all, or the next whole number
        self._count = max(1, -(-steps // self._size))
        self._passes = Recurrent(device, kind, (batch, self._size, inputs, hidden), dtype, True, take, **more)
        widths = outputs, *[hidden] * (kind.cell.states - kind.cell.h_is_state)
        self._states = [tuple(take((batch, width), dtype) for width in widths) for _ in range(self._count + 1)]
        self._lengths = take((batch,), np.dtype(np.int64))

    def _memory(self, name: str, width: int) -> Any:
        """Return memory for a window of an array (N, T, width), which other layers have too."""
        return self._device.kept(f"window of {name}", (self._sizes[0], self._size, width), self._dtype)

    def forward(self, cell: Cell, x: Any, first: Any, y: Any, last: tuple[Any, ...], lengths: Any = None) -> None:
        """Write y (N, T, H), unless that is None, and the states after the last step to `last`; past its length y is 0."""
        device = self._device
        self._x, self._all_lengths = x, device.full(x) if lengths is None else lengths
        for k, state in enumerate(self._states[0]):
            if first is None:
                device.fill(state, 0)
            else:
                device.copy(first[k], state)
        for k in range(self._count):
            found = self._forward(cell, k, self._states[k + 1])
            if y is not None:
                self._copy(found, y, k, out=True)
        for state, to in zip(self._states[-1], last, strict=True):
            device.copy(state, to)

    def _forward(self, cell: Cell, k: int, last: tuple[Any, ...]) -> Any:
        """Run through window `k` and return y of it."""
        device, start, steps = self._device, k * self._size, self._sizes[1]
        x, y = self._memory("x", self._x.shape[2]), self._memory("y", self._states[0][0].shape[1])
        self._copy(self._x, x, k)
        device.operations.within(device.stream, self._all_lengths, start, self._size, self._lengths)
        self._passes.forward(cell, x, self._states[k], y, last, self._lengths, (start, steps - self._size))
        return y

    def _copy(self, source: Any, to: Any, k: int, out: bool = False) -> None:
        """Copy window `k` of all steps to its memory, or from there."""
        batch, steps = self._sizes[:2]
        columns, start = to.shape[2], k * self._size
        rows, window = (start * columns, steps * columns), (0, self._size * columns)
        count = (min(steps, start + self._size) - start) * columns
        self._device.copy_rows(source, window if out else rows, to, rows if out else window, batch, count)

    def backward(
        self,
        packed: Weights,
        weights: Sequence[Any],
        inputs: tuple[Any, Any, Any],
        upstream: tuple[Any, Any],
        dx: Any,
        first: None,
        sums: Sequence[Any],
        add: bool,
    ) -> None:
        """Write the gradients of the last forward pass, once."""
        (dy, last), dx_of_window = upstream, self._memory("dx", dx.shape[2])
        dy_of_window = None if dy is None else self._memory("dy", dy.shape[2])
        self._passes.begin_backward(last)
        for k in reversed(range(self._count)):
            self._forward(packed.cell, k, self._states[-1])
            if dy is not None:
                self._copy(dy, dy_of_window, k)
            self._passes.back(packed, dy_of_window, dx_of_window, sums, add or k < self._count - 1)
            self._passes.carry()
            self._copy(dx_of_window, dx, k, out=True)
