"""The one parallel region, and the entry points that deal their work out to its threads.

A parallel region costs as much to compile as a whole kernel. So there is one, behind a C address: it runs any serial kernel,
given as a C function and a pointer to its arguments. With one part the kernel runs in the calling thread and no
threading layer is touched.
"""

import numba
import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from . import activations, dropout, embedding, gradients, layout, losses, products, sweeps, updates
from .cells import places
from .compiling import CFunction, entry, jit
from .helpers import call_part
from .memory import copy, load, pointer, store
from .options import mask_row
from .ragged import end_of, row_of
from .simd import INT, constant, int_constant, lanes

_BYTES = ir.IntType(8).as_pointer()
_KERNEL = ir.FunctionType(ir.VoidType(), [_BYTES, INT, INT])


TILE, REGION, THREADS, PARTS = range(4)  # words of a runtime


def new_runtime(tile: int, region: int, threads: int, *parts: int) -> np.ndarray:
    """Return what entry points need to know of the process, as one array: Numba tells a namedtuple's type ten times slower.

    tile : tile.panel_product_address(dtype)
    region : region_address() or another function of its signature; 0 with one part each
    threads : how many threads Numba's layer may use, at most numba.config.NUMBA_NUM_THREADS
    parts : into how many parts work falls, one number for each work that the entry point deals out
    """
    return np.array([tile, region, threads, *parts], np.int64)


@entry(parallel=True)
def _run_parts(kernel, arguments, total, parts):
    for part in prange(parts):
        call_part(kernel, arguments, total * part // parts, total * (part + 1) // parts)


# By their symbols, which Numba sets as its threads start. numba.set_num_threads holds an address of this process: what calls
# it is not cached.
_get_mask = types.ExternalFunction("get_num_threads", types.int32())
_set_mask = types.ExternalFunction("set_num_threads", types.void(types.int32))


def _region(kernel, arguments, total, parts, threads):
    """Run `kernel` over 0..total in `parts` parts on at most `threads` threads, and put the caller's mask back."""
    before = _get_mask()
    _set_mask(threads)
    _run_parts(kernel, arguments, total, parts)
    _set_mask(before)


_REGION = CFunction(_region, types.void(types.intp, types.intp, types.intp, types.intp, types.intp))


def region_address() -> int:
    """Return the address of the parallel region; the first call starts Numba's threads."""
    numba.get_num_threads()
    return _REGION.address


@intrinsic
def _deal(typingctx, kernel, runtime, work, total, arguments):
    """Run ``kernel(tile, *arguments, start, stop)`` over 0..total, in as many parts as `runtime` says of work 0, 1, .."""
    if not isinstance(work, types.IntegerLiteral):
        return None
    argument_types = (types.intp, *map(types.unliteral, arguments), types.intp, types.intp)
    kernel.get_call_type(typingctx, argument_types, {})
    compiled = kernel.dispatcher.overloads[argument_types]

    def emit(context, builder, sig, args):
        _, runtime, _, total, arguments = args
        words = context.make_array(sig.args[1])(context, builder, runtime).data
        places = TILE, REGION, THREADS, PARTS + work.literal_value
        tile, region, threads, parts = (builder.load(builder.gep(words, [int_constant(i)])) for i in places)
        threads = builder.select(builder.icmp_signed("<", parts, threads), parts, threads)
        context.add_linking_libs((compiled.library,))
        kernel_function = context.declare_function(builder.module, compiled.fndesc)

        record = cgutils.pack_struct(builder, [tile, arguments])
        place = cgutils.alloca_once_value(builder, record)
        part = ir.Function(builder.module, _KERNEL, builder.module.get_unique_name("part"))
        part.linkage = "internal"
        inner = ir.IRBuilder(part.append_basic_block("entry"))
        loaded = inner.load(inner.bitcast(part.args[0], place.type))
        tile, packed = (inner.extract_value(loaded, i) for i in range(2))
        values = [inner.extract_value(packed, i) for i in range(len(sig.args[4]))]
        context.call_conv.call_function(inner, kernel_function, types.none, argument_types, [tile, *values, *part.args[1:]])
        inner.ret_void()

        place = builder.bitcast(place, _BYTES)
        with builder.if_else(builder.icmp_signed(">", parts, int_constant(1))) as (several, one):
            with several:
                kind = ir.FunctionType(ir.VoidType(), [_BYTES, _BYTES, INT, INT, INT])
                function = builder.inttoptr(region, kind.as_pointer())
                builder.call(function, [builder.bitcast(part, _BYTES), place, total, parts, threads])
            with one:
                builder.call(part, [place, int_constant(0), total])
        return context.get_dummy_value()

    return signature(types.void, kernel, runtime, work, types.intp, arguments), emit


@jit
def _window(window):
    return sweeps.Window(window[0], window[1], window[2], window[3], window[4], window[5])


@jit
def _begin(ragged, options, first, h, c):
    """Bring the states before a window to slot 0 of c, and what products see of them to the first half of `h`, if any."""
    batch, slots, units = c.shape[0], c.shape[2], c.shape[3]
    for k in range(len(first) - 1):
        layout.pad_states(ragged, first[1 + k], batch, c, k * units, c.shape[1] * slots * units)
    if h.shape[0] > 0:
        hidden, k_end = first[0].shape[1], h.shape[1]
        for n in range(batch):
            row = row_of(ragged, n)
            for k in range(k_end // hidden):
                copy(pointer(first[k + (k > 0)], row * hidden), pointer(h, n * k_end + k * hidden), hidden)
            if options is not None:
                mask_row(options.mask, row, 0, h, n * k_end, hidden)


@jit
def _end(window, ragged, first, y, c, keep, last):
    """Write the states after a window, those before it of rows that had ended."""
    hidden, slots, units = y.shape[2], c.shape[2], c.shape[3]
    for n in range(y.shape[0]):
        row, steps = row_of(ragged, n), end_of(ragged, window, n) - window.start
        if last[0].shape[0] > 0:
            y_at = (row * y.shape[1] + window.start + steps - 1 - window.y_start) * hidden
            h = pointer(y, y_at) if steps > 0 else pointer(first[0], row * hidden)
            copy(h, pointer(last[0], row * hidden), hidden)
        for k in range(len(last) - 1):
            if last[1 + k].shape[0] > 0:
                at = ((n * c.shape[1] + (steps if keep else 0)) * slots + k) * units
                width = last[1 + k].shape[1]  # of h it may be another
                copy(pointer(c, at), pointer(last[1 + k], row * width), width)


@entry
def forward(runtime, team, recurrent, window, ragged, cell, x, first, h, y, last, c, z, u, keep):
    """sweeps.forward_part over the batch, or by a team.

    recurrent : tile.panel_product_address of cell.h's dtype
    window : (6,) integers, the fields of sweeps.Window; ragged : as ragged.py describes it
    first : (h, ..), (N, H) each, h and the cell's states before the window
    h : (2N, K)  workspace; (0, K) where rows are in order and the products see h itself, and nothing else
    last : (h, ..), (N, H)  written: those after the window; (0, H) to leave one out
    """
    now = _window(window)
    _begin(ragged, cell.options, first, h, c)
    batch = y.shape[0]
    if batch > 0 and now.stop > now.start:
        parts = runtime[PARTS]
        total, threads = now.pairs if ragged.shape[1] > 0 else batch, min(parts, runtime[THREADS])
        total = parts if team.size > 0 else total
        arguments = (recurrent, team, threads, now, ragged, cell, x, first[0], h, y, c, z, u, keep)
        _deal(sweeps.forward_part, runtime, 0, total, arguments)
    _end(now, ragged, first, y, c, keep, last)


@entry
def recompute(runtime, window, ragged, cell, x, first, h, y, c, z):
    """sweeps.recompute_part over the panels of hidden units; arguments as for `forward`."""
    _begin(ragged, cell.options, first, h, c)
    now = _window(window)
    h0 = h if ragged.shape[1] > 0 else first[0]
    if now.stop > now.start:  # z has a step
        _deal(sweeps.recompute_part, runtime, 0, cell.h.shape[0], (now, ragged, cell, x, h0, y, c, z))


@entry
def backward(runtime, team, window, ragged, cell, weights, orders, packed, second, dy, last, first, work, c, z, dx):
    """sweeps.backward_part over the batch, or by a team, once the weights are packed: with the last window.

    runtime : parts of the sweep and of the packing
    weights : W_ih and W_hh, and of a second product; packed : w and u, written
    orders : (2,) of the blocks of W_ih and of W_hh, those of the slots, and of the second product's
    second : the second product's weights packed, written; None without one
    last : (dh, ..), gradients of h and of the cell's states after the window; (0, H) for zeros
    first : (dh, ..), (N, H)  written: those before the window; (0, H) to leave them out
    work : (N, H'), of h, and (N, states, H'), workspace; with options a slot more
    """
    now = _window(window)
    batch, states, slots, units = z.shape[0], len(last) - 1, work[1].shape[1], z.shape[3]
    layout.pad_states(ragged, last[0], batch, work[0], 0, units)
    for k in range(states):
        layout.pad_states(ragged, last[1 + k], batch, work[1], k * units, slots * units)
    if slots > states:
        for n in range(batch):
            for j in range(0, units, lanes(z)):
                store(work[1], (n * slots + states) * units + j, constant(load(z, 0), 0))
    if batch > 0 and now.stop > now.start:
        if now.stop == now.steps:
            sets = 1 + places(cell).seen
            _deal(layout.pack_columns, runtime, 1, packed[0].shape[0], (weights[0], orders[0], 1, packed[0]))
            _deal(layout.pack_columns, runtime, 1, packed[1].shape[0], (weights[1], orders[1], sets, packed[1]))
            if second is not None:
                _deal(layout.pack_columns, runtime, 1, second.shape[0], (weights[2], orders[2], 1, second))
        parts = runtime[PARTS]
        total, threads = now.pairs if ragged.shape[1] > 0 else batch, min(parts, runtime[THREADS])
        total = parts if team.size > 0 else total
        arguments = (team, threads, now, ragged, cell, packed[1], packed[0], second, dy, work[0], work[1], c, z, dx)
        _deal(sweeps.backward_part, runtime, 0, total, arguments)
    layout.copy_states(ragged, work[0], 0, units, first[0])
    for k in range(states):
        layout.copy_states(ragged, work[1], k * units, slots * units, first[1 + k])


@entry
def pack_cell(runtime, W_ih, W_hh, b, p, rows, orders, spread, x_panels, h_panels, bias, peepholes):
    """layout.pack_gates of both weights; the bias (B H,) by slots, and peepholes (P H,), padded. It serves all cells.

    W_ih : (G H, I); W_hh : (G H, K)
    x_panels, h_panels, bias, peepholes : the first fields of the cell's parameters (cells.Cell), written
    rows : (3, slots), cells.Cell.rows; orders, spread : as for `backward` and layout.pack_gates
    """
    _deal(layout.pack_gates, runtime, 0, x_panels.shape[0], (W_ih, orders[0], spread, x_panels))
    _deal(layout.pack_gates, runtime, 0, h_panels.shape[0], (W_hh, orders[1], spread, h_panels))
    hidden = W_hh.shape[0] // orders[1].shape[0]
    for slot in range(bias.shape[0]):  # element by element: Numba takes seconds to compile an assignment of slices
        layout.pad_row(b, rows[2, slot] * hidden, hidden, bias, slot)
    for k in range(peepholes.shape[0]):
        layout.pad_row(p, k * hidden, hidden, peepholes, k)


@entry
def weight_gradients(runtime, window, ragged, rows, dz, x, y, h0, c, mask, sums, copies, dW_ih, dW_hh, db, add):
    """gradients.gradient_tasks over all tasks."""
    total = sums.shape[0] * gradients.chunk_count(sums.shape[1], sums.shape[0], runtime[PARTS])
    now = _window(window)
    arguments = (runtime[PARTS], now, ragged, rows, dz, x, y, h0, c, mask, sums, copies, dW_ih, dW_hh, db, add)
    _deal(gradients.gradient_tasks, runtime, 0, total, arguments)


@entry
def peephole_gradients(runtime, window, ragged, peepholes, raw, dz, c, sums, dp, add):
    """gradients.peephole_sums over the vectors of units."""
    now = _window(window)
    vectors = dz.shape[3] // lanes(dz)
    _deal(gradients.peephole_sums, runtime, 0, vectors, (now, ragged, peepholes, raw, dz, c, sums, dp, add))


@entry
def dense(runtime, x, panels, bias, y):
    """products.dense_rows over the rows."""
    _deal(products.dense_rows, runtime, 0, x.shape[0], (x, panels, bias, y))


@entry
def pack_dense(runtime, weights, b, panels, bias):
    """layout.pack_rows over all panels, and b (C,), or zeros for (0,), to the padded bias."""
    _deal(layout.pack_rows, runtime, 0, panels.shape[0], (weights, panels))
    for column in range(bias.shape[0]):
        bias[column] = b[column] if column < b.shape[0] else 0


@entry
def dense_gradient(runtime, dz, weights, order, panels, bias, dx):
    """products.dense_rows over the rows (work 0), once layout.pack_columns has packed the weights (work 1)."""
    _deal(layout.pack_columns, runtime, 1, panels.shape[0], (weights, order, 1, panels))
    _deal(products.dense_rows, runtime, 0, dz.shape[0], (dz, panels, bias, dx))


@entry
def activate(runtime, kind, z, y):
    """activations.activate over the rows."""
    _deal(activations.activate, runtime, 0, z.shape[0], (kind, z, y))


@entry
def differentiate(runtime, kind, y, dy, dz):
    """activations.differentiate over the rows."""
    _deal(activations.differentiate, runtime, 0, dy.shape[0], (kind, y, dy, dz))


@entry
def drop(runtime, key, rate, x, y):
    """dropout.dropout over the rows."""
    _deal(dropout.dropout, runtime, 0, x.shape[0], (key, rate, x, y))


@entry
def gather(runtime, table, indices, y):
    """embedding.gather over the rows."""
    _deal(embedding.gather, runtime, 0, indices.shape[0], (table, indices, y))


@entry
def scatter(runtime, indices, dy, dtable):
    """embedding.scatter over the columns."""
    _deal(embedding.scatter, runtime, 0, dtable.shape[1], (indices, dy, dtable))


@entry
def loss(runtime, loss, prediction, target, weights, lengths, scale, gradient, values):
    """losses.loss_rows over the rows; returns the sum of the values."""
    _deal(
        losses.loss_rows,
        runtime,
        0,
        values.shape[0],
        (loss, prediction, target, weights, lengths, scale, gradient, values),
    )
    total = 0.0
    for r in range(values.shape[0]):
        total += values[r]
    return total


@entry
def update(runtime, rule, table, gradient, slots, factors, bound):
    """updates.update over the vectors of all parameters."""
    width, vectors = lanes(gradient), 0
    for k in range(table.shape[0]):
        vectors += -(-table[k, 1] // width)
    _deal(updates.update, runtime, 0, vectors, (rule, table, gradient, slots, factors, bound))


@entry
def sum_of_squares(runtime, gradient, sums):
    """updates.squares over all stretches; returns the sum."""
    _deal(updates.squares, runtime, 0, sums.shape[0], (gradient, sums))
    total = 0.0
    for stretch in range(sums.shape[0]):
        total += sums[stretch]
    return total
