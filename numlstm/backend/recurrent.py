"""The recurrent layers' passes over a batch."""

from typing import Any, NamedTuple

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
_NO_TEAM = new_team(1)


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
    parallel.pack_cell(runtime(W_ih.dtype, most), W_ih, W_hh, b, cell)


States = tuple[Array | None, Array | None]  # of h and c, (N, H) each


class _ForBackward(NamedTuple):
    """Memory of backward passes; see `parallel.backward` and `parallel.weight_gradients`."""

    packed: tuple[Array, Array]
    states: tuple[Array, Array]
    sums: Array
    copies: Array


class Recurrent:
    """The passes of one layer over batches of one shape, N, T, I, H.

    With `keep`, a forward pass leaves behind what the next backward pass needs.

    c : (N, T+1, H') with `keep`, else (N, 1, H'); its last step is that of the last forward pass
    nbytes : of all the memory taken
    """

    def __init__(self, sizes: tuple[int, int, int, int], dtype: np.dtype[Any], keep: bool, take: Take) -> None:
        batch, steps, _, hidden = self._sizes = sizes
        self._dtype, self._keep, self._take, self.nbytes = dtype, keep, take, 0
        self._deal(_threads.get_num_threads())
        units = layout.padded(hidden, dtype)
        rows = -(-batch // (1 if self._members > 1 else self._parts))
        slots = steps if keep else min(steps, sweeps.block_steps.py_func(rows, units))
        self.c = self._memory((batch, steps + 1 if keep else 1, units), dtype)
        self._z = self._memory((batch, slots, 4, units), dtype)
        self._zeros = self._memory((max(1, batch), hidden), dtype)  # a pass fills it anew: others may use the memory between
        self._none = self._zeros[:0]
        self._cell: cells.LSTM | None = None
        self._back: _ForBackward | None = None

    def _memory(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        array = self._take(shape, dtype)
        self.nbytes += array.nbytes
        return array

    def _deal(self, threads: int) -> None:
        """Choose into how many parts each work falls, for so many threads."""
        batch, steps, inputs, hidden = self._sizes
        width, rows = target.lanes(self._dtype), inputs + hidden + 1
        panels = -(-hidden // width)
        weights = 4 * hidden * (inputs + hidden)
        self._threads = threads
        self._parts, by_units = _split(batch, steps, hidden, inputs, self._dtype)
        self._members = self._parts if by_units else 1
        self._packing = parts(-(-max(inputs, hidden) // (4 * width)), 4 * weights)
        self._summing = parts(panels * gradients.chunk_count.py_func(rows, panels), batch * steps * weights)

    def _now(self) -> tuple[Array, Array]:
        """Return the runtime of a sweep and the team, for the threads that there are now."""
        threads = _threads.get_num_threads()
        if threads != self._threads:
            self._deal(threads)
        return runtime(self._dtype, self._parts, self._packing), _NO_TEAM if self._members == 1 else new_team(self._members)

    def load(self, W_ih: Array, W_hh: Array, b: Array) -> cells.LSTM:
        """Return the weights as the forward sweep reads them, in memory that is taken at the first call."""
        if self._cell is None:
            self._cell = empty_cell(self._sizes[2], self._sizes[3], self._dtype, self._memory)
        pack(W_ih, W_hh, b, self._cell)
        return self._cell

    def forward(self, cell: cells.LSTM, x: Array, first: States, y: Array, last: States) -> None:
        """Write y (N, T, H) and the states after the last step to `last`, where that is not None.

        first : the states before the first step, None for zeros
        """
        zeros, none, (h0, c0), (h, c) = self._zeros, self._none, first, last
        zeros.fill(0)
        before = zeros if h0 is None else h0, zeros if c0 is None else c0
        after = none if h is None else h, none if c is None else c
        parallel.forward(*self._now(), cell, x, before, y, after, self.c, self._z, self._keep)

    def prepare_backward(self, inputs_gradient: bool) -> None:
        """Take the memory of backward passes, once; `inputs_gradient` says whether they have a dx."""
        if self._back is not None:
            return
        (batch, _, inputs, hidden), dtype, memory = self._sizes, self._dtype, self._memory
        units, width = self._z.shape[3], target.lanes(dtype)
        w = layout.column_panels_shape(4 * hidden, inputs, dtype) if inputs_gradient else (0, 0, 4 * width)
        self._back = _ForBackward(
            (memory(w, dtype), memory(layout.column_panels_shape(4 * hidden, hidden, dtype), dtype)),
            (memory((batch, units), dtype), memory((batch, units), dtype)),
            memory((units // width, inputs + hidden + 1, 4 * width), dtype),
            memory((_threads.get_num_threads(), gradients.SUMMED, gradients.CHUNK), dtype),
        )

    def backward(
        self,
        cell: cells.LSTM,
        weights: tuple[Array, Array],
        inputs: tuple[Array, Array | None, Array],
        upstream: tuple[Array | None, Array | None, Array | None],
        dx: Array,
        first: States,
        sums: tuple[Array, Array, Array],
        add: bool,
    ) -> None:
        """Write the gradients of the last forward pass, once.

        weights : W_ih and W_hh; inputs : x, the first h and y, all as in the forward pass
        upstream : gradients of y, of the last h and of the last c, None for zero
        dx : (N, T, I), or (N, T, 0) to leave it out; first : gradients of the first h and c, None to leave them out
        sums : gradients of W_ih, W_hh and b, with `add` accumulated into
        """
        assert self._back is not None
        back, zeros, none = self._back, self._zeros, self._none
        (x, h0, y), (dy, dh, dc), (dh0, dc0) = inputs, upstream, first
        after = none if dh is None else dh, none if dc is None else dc
        before = none if dh0 is None else dh0, none if dc0 is None else dc0
        dy = zeros[:1, np.newaxis] if dy is None else dy
        team = self._now()
        parallel.backward(*team, cell, weights, back.packed, dy, after, before, back.states, self.c, self._z, dx)
        if x.shape[0] and x.shape[1]:
            h0 = zeros if h0 is None else h0
            shared = runtime(self._dtype, min(self._summing, back.copies.shape[0]))
            parallel.weight_gradients(shared, self._z, x, y, h0, back.sums, back.copies, *sums, add)
        elif not add:
            for gradient in sums:
                gradient.fill(0)
