"""The bridge to the compiled kernels, and their only importer: lays out memory, chooses the split, calls.

Arrays that come in are checked already (`_validate`); nothing is checked here.
"""

from typing import Any, NamedTuple

import numba
import numpy as np

from numlstm.kernels import cells, gradients, layout, parallel, sweeps, target
from numlstm.kernels.team import new_team
from numlstm.kernels.tile import panel_product_address

from . import _threads
from ._validate import Array
from ._workspace import give_back, take

# Multiply-adds for which another thread pays; waking one takes 5 to 10 microseconds.
_WORTH_A_THREAD = 500_000
_WORTH_A_STEP = 32_000  # of one step for each thread of a team, which meets once a step
_FEW_ROWS = 32  # for each thread
_CACHED_BYTES = 1 << 20  # of weights that a second-level cache holds beside all else


Weights = tuple[Array, Array, Array]


class Tape(NamedTuple):
    """What a forward pass leaves behind for its backward pass."""

    cell: cells.LSTM
    weights: Weights
    x: Array
    h0: Array
    y: Array
    c: Array  # (N, T+1, H')
    z: Array  # (N, T, 4, H'), the gates after activation


def _parts(most: int, multiply_adds: int) -> int:
    """Return into how many parts, at most so many, work of so many multiply-adds falls."""
    return max(1, min(most, _threads.get_num_threads(), multiply_adds // _WORTH_A_THREAD))


def _split(batch: int, steps: int, hidden: int, inputs: int, dtype: np.dtype[Any]) -> tuple[int, bool]:
    """Return into how many parts a sweep falls, and whether each takes hidden units of all rows instead of some rows.

    Rows need no barrier, but each thread reads all recurrent weights at every step: where these do not stay in its cache and
    few rows make use of them, or there are not enough rows, units are split.
    """
    work = batch * steps * 4 * hidden * (inputs + hidden)
    recurrent = 4 * hidden * hidden
    threads = _parts(hidden // target.lanes(dtype), work)
    scarce = batch < threads or (batch < _FEW_ROWS * threads and recurrent * dtype.itemsize > _CACHED_BYTES)
    if scarce and batch * recurrent >= _WORTH_A_STEP * threads:
        return threads, threads > 1
    return _parts(batch, work), False


def _runtime(parts: int, dtype: np.dtype[Any]) -> parallel.Runtime:
    """Return what an entry point of `parallel` needs to run in so many parts."""
    tile = panel_product_address(dtype)
    if parts == 1:
        return parallel.Runtime(tile, 0, 1, 1)
    if _threads.layer_may_harm():
        return parallel.Runtime(tile, _threads.pool_region_address(), parts, min(parts, _threads.available_cpus()))
    return parallel.Runtime(tile, parallel.region_address(), parts, min(parts, numba.config.NUMBA_NUM_THREADS))


def pack(W_ih: Array, W_hh: Array, b: Array) -> cells.LSTM:
    """Return the weights as the forward sweep reads them."""
    dtype, hidden, inputs = W_ih.dtype, W_hh.shape[1], W_ih.shape[1]
    cell = cells.LSTM(
        take(layout.gate_panels_shape(hidden, inputs, dtype), dtype),
        take(layout.gate_panels_shape(hidden, hidden, dtype), dtype),
        take((4, layout.padded(hidden, dtype)), dtype),
    )
    runtime = _runtime(_parts(cell.x.shape[0], 4 * (W_ih.size + W_hh.size)), dtype)
    parallel.pack_cell(runtime, W_ih, W_hh, b, cell)
    return cell


def forward(
    x: Array, weights: Weights | cells.LSTM, h0: Array | None, c0: Array | None, keep: bool
) -> tuple[Array, Array, Array, Tape | None]:
    """Return y (N, T, H), the last h and c (N, H), and with `keep`, from weights not packed, the tape for `backward`."""
    batch, steps, inputs = x.shape
    dtype = x.dtype
    packed = isinstance(weights, cells.LSTM)
    cell: Any = weights if packed else pack(*weights)
    hidden, units = cell.h.shape[1], cell.b.shape[1]
    y = np.empty((batch, steps, hidden), dtype)
    if h0 is None:
        h0 = np.zeros((batch, hidden), dtype)
    c = take((batch, steps + 1 if keep else 1, units), dtype)
    c[:, 0, hidden:] = 0
    c[:, 0, :hidden] = 0 if c0 is None else c0
    parts, by_units = _split(batch, steps, hidden, inputs, dtype)
    rows = batch if by_units else -(-batch // parts)
    slots = steps if keep else min(steps, sweeps.block_steps.py_func(rows, units))
    z = take((batch, slots, 4, units), dtype)
    if batch and steps:
        parallel.forward(_runtime(parts, dtype), new_team(parts if by_units else 1), cell, x, h0, y, c, z, keep)
    last_h = y[:, -1].copy() if steps else h0.copy()
    last_c = c[:, -1, :hidden].copy()
    if keep:
        return y, last_h, last_c, Tape(cell, weights, x, h0, y, c, z)
    give_back(c, z, *(() if packed else cell))
    return y, last_h, last_c, None


def backward(tape: Tape, dy: Array | None, dh: Array | None, dc: Array | None) -> tuple[Array, ...]:
    """Return the gradients of x, W_ih, W_hh, b, h0, c0. The tape's gates are overwritten, its memory is given back."""
    cell, (W_ih, W_hh, b), x, h0, y, c, z = tape
    batch, steps, inputs = x.shape
    hidden, units, dtype = W_hh.shape[1], z.shape[3], x.dtype
    empty = batch == 0 or steps == 0
    dx = np.empty_like(x)
    dW_ih, dW_hh, db = ((np.zeros_like if empty else np.empty_like)(array) for array in (W_ih, W_hh, b))
    states = take((2, batch, units), dtype)
    states[:] = 0
    for state, gradient in zip(states, (dh, dc), strict=True):
        if gradient is not None:
            state[:, :hidden] = gradient
    if not empty:
        u = take(layout.column_panels_shape(4 * hidden, hidden, dtype), dtype)
        w = take(layout.column_panels_shape(4 * hidden, inputs, dtype), dtype)
        if dy is None:
            dy = np.zeros((1, 1, hidden), dtype)
        work = batch * steps * 4 * hidden * (inputs + hidden)
        for weights, panels in ((W_hh, u), (W_ih, w)):
            parallel.pack_columns(_runtime(_parts(panels.shape[0], 4 * weights.size), dtype), weights, panels)
        parts, by_units = _split(batch, steps, hidden, inputs, dtype)
        team = new_team(parts if by_units else 1)
        parallel.backward(_runtime(parts, dtype), team, cell, u, w, dy, states[0], states[1], c, z, dx)
        panels = units // target.lanes(dtype)
        rows = inputs + hidden + 1
        parts = _parts(panels * gradients.chunk_count.py_func(rows, panels), work)
        sums = take((panels, rows, 4 * target.lanes(dtype)), dtype)
        copies = take((parts, gradients.SUMMED, gradients.CHUNK), dtype)
        parallel.weight_gradients(_runtime(parts, dtype), z, x, y, h0, sums, copies, dW_ih, dW_hh, db, False)
        give_back(u, w, sums, copies)
    dh0, dc0 = states[0, :, :hidden].copy(), states[1, :, :hidden].copy()
    give_back(states, c, z, *cell)
    return dx, dW_ih, dW_hh, db, dh0, dc0
