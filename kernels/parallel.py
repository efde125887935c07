"""The one parallel region, and the entry points that deal their work out to its threads.

A parallel region costs as much to compile as a whole kernel. So there is one, behind a C address: it runs any serial kernel,
given as a C function and a pointer to its arguments. With one part the kernel runs in the calling thread and no
threading layer is touched.
"""

from typing import NamedTuple

import numba
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from . import activations, dropout, embedding, gradients, layout, losses, products, sweeps, updates
from .compiling import CFunction, entry
from .simd import INT, int_constant, lanes

_BYTES = ir.IntType(8).as_pointer()
_KERNEL = ir.FunctionType(ir.VoidType(), [_BYTES, INT, INT])


class Runtime(NamedTuple):
    """What a kernel needs to know of the process: addresses of compiled code, and how to split the work."""

    tile: int  # tile.panel_product_address(dtype)
    region: int  # region_address() or another function of its signature; 0 with one part
    parts: int  # into how many parts the work falls
    threads: int  # how many threads Numba's layer may use, at most numba.config.NUMBA_NUM_THREADS


@intrinsic
def _call_part(typingctx, kernel, arguments, start, stop):
    """Call ``kernel(arguments, start, stop)`` at an address."""

    def emit(context, builder, sig, args):
        builder.call(builder.bitcast(args[0], _KERNEL.as_pointer()), args[1:])
        return context.get_dummy_value()

    return signature(types.void, types.voidptr, types.voidptr, types.intp, types.intp), emit


@entry(parallel=True)
def _run_parts(kernel, arguments, total, parts):
    for part in prange(parts):
        _call_part(kernel, arguments, total * part // parts, total * (part + 1) // parts)


def _region(kernel, arguments, total, parts, threads):
    """Run `kernel` over 0..total in `parts` parts on at most `threads` threads, and put the caller's mask back."""
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    _run_parts(kernel, arguments, total, parts)
    numba.set_num_threads(before)


_REGION = CFunction(_region, types.void(types.voidptr, types.voidptr, types.intp, types.intp, types.intp))


def region_address() -> int:
    """Return the address of the parallel region; the first call starts Numba's threads."""
    return _REGION.address


@intrinsic
def _deal(typingctx, kernel, runtime, total, arguments):
    """Run ``kernel(runtime.tile, *arguments, start, stop)`` over 0..total, in as many parts as `runtime` says."""
    argument_types = (types.intp, *arguments, types.intp, types.intp)
    kernel.get_call_type(typingctx, argument_types, {})
    compiled = kernel.dispatcher.overloads[argument_types]

    def emit(context, builder, sig, args):
        _, runtime, total, arguments = args
        tile, region, parts, threads = (builder.extract_value(runtime, i) for i in range(4))
        context.add_linking_libs((compiled.library,))
        kernel_function = context.declare_function(builder.module, compiled.fndesc)

        record = cgutils.pack_struct(builder, [tile, arguments])
        place = cgutils.alloca_once_value(builder, record)
        part = ir.Function(builder.module, _KERNEL, builder.module.get_unique_name("part"))
        part.linkage = "internal"
        inner = ir.IRBuilder(part.append_basic_block("entry"))
        loaded = inner.load(inner.bitcast(part.args[0], place.type))
        tile, packed = (inner.extract_value(loaded, i) for i in range(2))
        values = [inner.extract_value(packed, i) for i in range(len(sig.args[3]))]
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

    return signature(types.void, kernel, runtime, types.intp, arguments), emit


@entry
def forward(runtime, team, cell, x, h0, y, c, z, keep):
    """sweeps.forward_part over the batch, or by a team."""
    total = runtime.parts if team.size > 0 else x.shape[0]
    _deal(sweeps.forward_part, runtime, total, (team, runtime.threads, cell, x, h0, y, c, z, keep))


@entry
def backward(runtime, team, cell, u, w, dy, dh, dc, c, z, dx):
    """sweeps.backward_part over the batch, or by a team."""
    total = runtime.parts if team.size > 0 else z.shape[0]
    _deal(sweeps.backward_part, runtime, total, (team, runtime.threads, cell, u, w, dy, dh, dc, c, z, dx))


@entry
def pack_cell(runtime, W_ih, W_hh, b, cell):
    """layout.pack_gates of both weights, and the bias (4H,) into (4, H')."""
    _deal(layout.pack_gates, runtime, cell.x.shape[0], (W_ih, cell.x))
    _deal(layout.pack_gates, runtime, cell.h.shape[0], (W_hh, cell.h))
    hidden, units = W_hh.shape[1], cell.b.shape[1]
    for gate in range(4):  # element by element: Numba takes seconds to compile an assignment of slices
        for j in range(units):
            cell.b[gate, j] = b[gate * hidden + j] if j < hidden else 0


@entry
def pack_columns(runtime, matrix, panels):
    """layout.pack_columns over all panels."""
    _deal(layout.pack_columns, runtime, panels.shape[0], (matrix, panels))


@entry
def weight_gradients(runtime, dz, x, y, h0, sums, copies, dW_ih, dW_hh, db, add):
    """gradients.gradient_tasks over all tasks."""
    total = sums.shape[0] * gradients.chunk_count(sums.shape[1], sums.shape[0])
    _deal(gradients.gradient_tasks, runtime, total, (runtime.parts, dz, x, y, h0, sums, copies, dW_ih, dW_hh, db, add))


@entry
def dense(runtime, x, panels, bias, y):
    """products.dense_rows over the rows."""
    _deal(products.dense_rows, runtime, x.shape[0], (x, panels, bias, y))


@entry
def pack_rows(runtime, weights, panels):
    """layout.pack_rows over all panels."""
    _deal(layout.pack_rows, runtime, panels.shape[0], (weights, panels))


@entry
def activate(runtime, kind, z, y):
    """activations.activate over the rows."""
    _deal(activations.activate, runtime, z.shape[0], (kind, z, y))


@entry
def differentiate(runtime, kind, y, dy, dz):
    """activations.differentiate over the rows."""
    _deal(activations.differentiate, runtime, dy.shape[0], (kind, y, dy, dz))


@entry
def drop(runtime, key, rate, x, y):
    """dropout.dropout over the rows."""
    _deal(dropout.dropout, runtime, x.shape[0], (key, rate, x, y))


@entry
def gather(runtime, table, indices, y):
    """embedding.gather over the rows."""
    _deal(embedding.gather, runtime, indices.shape[0], (table, indices, y))


@entry
def scatter(runtime, indices, dy, dtable):
    """embedding.scatter over the columns."""
    _deal(embedding.scatter, runtime, dtable.shape[1], (indices, dy, dtable))


@entry
def loss(runtime, loss, prediction, target, weights, scale, gradient, values):
    """losses.loss_rows over the rows; returns the sum of the values."""
    _deal(losses.loss_rows, runtime, values.shape[0], (loss, prediction, target, weights, scale, gradient, values))
    total = 0.0
    for r in range(values.shape[0]):
        total += values[r]
    return total


@entry
def update(runtime, rule, parameters, gradient, slots, scale, bound):
    """updates.update over the vectors of a parameter."""
    vectors = -(-gradient.shape[0] // lanes(gradient))
    _deal(updates.update, runtime, vectors, (rule, parameters, gradient, slots, scale, bound))


@entry
def sum_of_squares(runtime, gradient, sums):
    """updates.squares over all stretches; returns the sum."""
    _deal(updates.squares, runtime, sums.shape[0], (gradient, sums))
    total = 0.0
    for stretch in range(sums.shape[0]):
        total += sums[stretch]
    return total
