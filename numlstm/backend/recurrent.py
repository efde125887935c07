"""The recurrent layers' passes over a batch."""

from typing import Any

import numpy as np

from numlstm import _threads
from numlstm._validate import Array
from numlstm._workspace import Take
from numlstm.kernels import cells, gradients, layout, parallel, sweeps, target
from numlstm.kernels.team import new_team

from .runtime import parts, runtime

_WORTH_A_STEP = 32_000  # multiply-adds of one step for each thread of a team, which meets once a step
_FEW_ROWS = 32  # for each thread
_CACHED_BYTES = 1 << 20  # of weights that a second-level cache holds beside all else


def _split(batch: int, steps: int, hidden: int, inputs: int, dtype: np.dtype[Any]) -> tuple[int, bool]:
    """Return into how many parts a sweep falls, and whether each takes hidden units of all rows instead of some rows.

    Rows need no barrier, but each thread reads all recurrent weights at every step: where these do not stay in its cache and
    few rows make use of them, or there are not enough rows, units are split.
    """
    work = batch * steps * 4 * hidden * (inputs + hidden)
    recurrent = 4 * hidden * hidden
    threads = parts(hidden // target.lanes(dtype), work)
    scarce = batch < threads or (batch < _FEW_ROWS * threads and recurrent * dtype.itemsize > _CACHED_BYTES)
    if scarce and batch * recurrent >= _WORTH_A_STEP * threads:
        return threads, threads > 1
    return parts(batch, work), False


def empty_cell(inputs: int, hidden: int, dtype: np.dtype[Any], take: Take) -> cells.LSTM:
    """Return memory for `pack`."""
    return cells.LSTM(
        take(layout.gate_panels_shape(hidden, inputs, dtype), dtype),
        take(layout.gate_panels_shape(hidden, hidden, dtype), dtype),
        take((4, layout.padded(hidden, dtype)), dtype),
    )


def pack(W_ih: Array, W_hh: Array, b: Array, cell: cells.LSTM) -> None:
    """Write the weights to `cell` as the forward sweep reads them."""
    most = parts(cell.x.shape[0], 4 * (W_ih.size + W_hh.size))
    parallel.pack_cell(runtime(most, W_ih.dtype), W_ih, W_hh, b, cell)


class Recurrent:
    """The passes of one layer over batches of one shape.

    With `keep`, a forward pass leaves behind what the next backward pass needs. `arrays` is all the memory taken.
    """

    def __init__(self, sizes: tuple[int, int, int, int], dtype: np.dtype[Any], keep: bool, take: Take) -> None:
        self._sizes = batch, steps, inputs, hidden = sizes  # N, T, I, H
        self._dtype, self._keep, self._take = dtype, keep, take
        self.arrays: list[Array] = []
        units = layout.padded(hidden, dtype)
        split, by_units = _split(*self._sizes[:2], hidden, inputs, dtype)
        rows = batch if by_units else -(-batch // split)
        slots = steps if keep else min(steps, sweeps.block_steps.py_func(rows, units))
        self.c = self._memory(batch, steps + 1 if keep else 1, units)
        self.z = self._memory(batch, slots, 4, units)

    def _memory(self, *shape: int) -> Array:
        array = self._take(shape, self._dtype)
        self.arrays.append(array)
        return array

    def _deal(self) -> tuple[parallel.Runtime, Array]:
        """Return the runtime and the team, from the threads that there are now."""
        batch, steps, inputs, hidden = self._sizes
        split, by_units = _split(batch, steps, hidden, inputs, self._dtype)
        return runtime(split, self._dtype), new_team(split if by_units else 1)

    def forward(self, x: Array, cell: cells.LSTM, h0: Array, c0: Array | None, y: Array) -> None:
        """Write y (N, T, H); the last c is then in ``c[:, -1, :H]``."""
        batch, steps, _, hidden = self._sizes
        self.c[:, 0, hidden:] = 0
        self.c[:, 0, :hidden] = 0 if c0 is None else c0
        if batch and steps:
            parallel.forward(*self._deal(), cell, x, h0, y, self.c, self.z, self._keep)

    def prepare_backward(self, inputs_gradient: bool) -> None:
        """Take the memory of backward passes; `inputs_gradient` says whether they have a dx."""
        batch, _, features, hidden = self._sizes
        units, width = self.z.shape[3], target.lanes(self._dtype)
        w = layout.column_panels_shape(4 * hidden, features, self._dtype) if inputs_gradient else (0, 0, 4 * width)
        self._for_backward = (
            self._memory(2, batch, units),
            self._memory(*layout.column_panels_shape(4 * hidden, hidden, self._dtype)),
            self._memory(*w),
            self._memory(units // width, features + hidden + 1, 4 * width),
            self._memory(_threads.get_num_threads(), gradients.SUMMED, gradients.CHUNK),
        )

    def backward(
        self,
        cell: cells.LSTM,
        weights: tuple[Array, Array],
        inputs: tuple[Array, Array, Array],
        upstream: tuple[Array | None, Array | None, Array | None],
        dx: Array,
        sums: tuple[Array, Array, Array],
        add: bool,
    ) -> tuple[Array, Array]:
        """Write the gradients of the last forward pass, once, and return views of those of h0 and c0.

        weights : W_ih and W_hh; inputs : x, h0 and y, all as in the forward pass
        upstream : gradients of y, of the last h and of the last c, None for zero
        dx : (N, T, I), or (N, T, 0) to leave it out; sums : gradients of W_ih, W_hh and b, with `add` accumulated into
        """
        batch, steps, features, hidden = self._sizes
        dtype, (W_ih, W_hh), (x, h0, y), (dy, dh, dc) = self._dtype, weights, inputs, upstream
        states, u, w, panels, copies = self._for_backward
        states[:] = 0
        for state, gradient in zip(states, (dh, dc), strict=True):
            if gradient is not None:
                state[:, :hidden] = gradient
        if batch and steps:
            for matrix, packed in ((W_hh, u), (W_ih, w)):
                if packed.size:
                    parallel.pack_columns(runtime(parts(packed.shape[0], 4 * matrix.size), dtype), matrix, packed)
            dy = np.zeros((1, 1, hidden), dtype) if dy is None else dy
            parallel.backward(*self._deal(), cell, u, w, dy, states[0], states[1], self.c, self.z, dx)
            tasks = panels.shape[0] * gradients.chunk_count.py_func(panels.shape[1], panels.shape[0])
            split = min(parts(tasks, batch * steps * 4 * hidden * (features + hidden)), copies.shape[0])
            parallel.weight_gradients(runtime(split, dtype), self.z, x, y, h0, panels, copies, *sums, add)
        elif not add:
            for gradient in sums:
                gradient[...] = 0
        return states[0, :, :hidden], states[1, :, :hidden]
