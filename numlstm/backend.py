"""The bridge to the compiled kernels, and their only importer: lays out memory, chooses the split, calls.

Arrays that come in are checked already (`_validate`); nothing is checked here.
"""

from typing import Any, NamedTuple

import numba
import numpy as np

from numlstm.kernels import cells, gradients, layout, parallel, sweeps, target
from numlstm.kernels.tile import panel_product_address

from . import _threads
from ._validate import Array
from ._workspace import give_back, take

# Multiply-adds from which a second thread pays for waking it (measured: 5 to 10 microseconds).
_WORTH_A_THREAD = 500_000


class Tape(NamedTuple):
    """What a forward pass leaves behind for its backward pass."""

    cell: cells.LSTM
    weights: tuple[Array, Array, Array]
    x: Array
    h0: Array
    y: Array
    c: Array  # (N, T+1, H')
    z: Array  # (N, T, 4, H'), the gates after activation


class Gradients(NamedTuple):
    """Gradients of one layer, shaped as what they belong to."""

    x: Array
    W_ih: Array
    W_hh: Array
    b: Array
    h0: Array
    c0: Array


def _run(function: Any, parts: int, multiply_adds: int, dtype: np.dtype[Any], *arguments: Any) -> None:
    """Call an entry point of `parallel` on at most `parts` parts of work that takes so many multiply-adds."""
    most = min(parts, _threads.get_num_threads(), 1 + multiply_adds // _WORTH_A_THREAD)
    with _threads.threads_for(most) as allowed:
        region = parallel.region_address() if allowed > 1 else 0
        threads = min(allowed, numba.config.NUMBA_NUM_THREADS)
        function(parallel.Runtime(panel_product_address(dtype), region, allowed, threads), *arguments)


def pack(W_ih: Array, W_hh: Array, b: Array) -> cells.LSTM:
    """Return the weights as the forward sweep reads them."""
    dtype, hidden, inputs = W_ih.dtype, W_hh.shape[1], W_ih.shape[1]
    cell = cells.LSTM(
        take(layout.gate_panels_shape(hidden, inputs, dtype), dtype),
        take(layout.gate_panels_shape(hidden, hidden, dtype), dtype),
        take((4, layout.padded(hidden, dtype)), dtype),
    )
    _run(parallel.pack_cell, cell.b.shape[1], W_ih.size + W_hh.size, dtype, W_ih, W_hh, b, cell)
    return cell


def forward(
    x: Array, cell: cells.LSTM, hidden: int, h0: Array | None, c0: Array | None, weights: tuple[Array, Array, Array] | None
) -> tuple[Array, Array, Array, Tape | None]:
    """Return y (N, T, H), the last h and c (N, H), and with `weights` the tape of a backward pass."""
    batch, steps, inputs = x.shape
    dtype = x.dtype
    units = cell.b.shape[1]
    keep = weights is not None
    y = np.empty((batch, steps, hidden), dtype)
    if h0 is None:
        h0 = np.zeros((batch, hidden), dtype)
    c = take((batch, steps + 1 if keep else 1, units), dtype)
    c[:, 0, hidden:] = 0
    c[:, 0, :hidden] = 0 if c0 is None else c0
    parts = max(1, min(batch, _threads.get_num_threads()))
    slots = steps if keep else min(steps, sweeps.block_steps.py_func(-(-batch // parts), units))
    z = take((batch, slots, 4, units), dtype)
    if batch and steps:
        work = batch * steps * 4 * hidden * (inputs + hidden)
        _run(parallel.forward, batch, work, dtype, cell, x, h0, y, c, z, keep)
    last_h = y[:, -1].copy() if steps else h0.copy()
    last_c = c[:, -1, :hidden].copy()
    if weights is not None:
        return y, last_h, last_c, Tape(cell, weights, x, h0, y, c, z)
    give_back(c, z)
    return y, last_h, last_c, None


def backward(tape: Tape, dy: Array | None, dh: Array | None, dc: Array | None) -> Gradients:
    """Return all gradients of one layer. The tape's gates are overwritten and its memory is given back."""
    cell, (W_ih, W_hh, b), x, h0, y, c, z = tape
    batch, steps, inputs = x.shape
    hidden, units, dtype = W_hh.shape[1], z.shape[3], x.dtype
    result = Gradients(
        np.empty_like(x),
        np.zeros_like(W_ih),
        np.zeros_like(W_hh),
        np.zeros_like(b),
        np.empty((batch, hidden), dtype),
        np.empty((batch, hidden), dtype),
    )
    states = take((2, batch, units), dtype)
    states[:] = 0
    for state, gradient in zip(states, (dh, dc), strict=True):
        if gradient is not None:
            state[:, :hidden] = gradient
    if batch and steps:
        u = take(layout.column_panels_shape(4 * hidden, hidden, dtype), dtype)
        w = take(layout.column_panels_shape(4 * hidden, inputs, dtype), dtype)
        sums = take((units // target.lanes(dtype), inputs + hidden + 1, 4 * target.lanes(dtype)), dtype)
        if dy is None:
            dy = np.zeros((1, 1, hidden), dtype)
        work = batch * steps * 4 * hidden * (inputs + hidden)
        _run(parallel.pack_columns, u.shape[0], W_hh.size, dtype, W_hh, u)
        _run(parallel.pack_columns, w.shape[0], W_ih.size, dtype, W_ih, w)
        _run(parallel.backward, batch, work, dtype, cell, u, w, dy, states[0], states[1], c, z, result.x)
        copies = take((_threads.get_num_threads(), gradients.SUMMED, gradients.CHUNK), dtype)
        _run(parallel.weight_gradients, copies.shape[0], work, dtype, z, x, y, h0, sums, copies, *result[1:4])
        give_back(u, w, sums, copies)
    result.h0[:], result.c0[:] = states[0, :, :hidden], states[1, :, :hidden]
    give_back(states, c, z, *cell)
    return result
