"""Gradients of the weights: sums over batch and time, always in the same order and without atomic operations.

The sequences fall into chunks, by their number alone; blocks sum chunks, and another kernel adds those in order.
"""

from typing import Any, NamedTuple

from numlstm.kernels.cells import Cell

from .elementwise import THREADS, place
from .layer import GROUPS, digit, masker, packed
from .machine import cuda, device, fma, kernel, load, store
from .product import Tile, product

CHUNKS = 16  # at the most: so many parts of the sums are held in memory


class WeightGradients(NamedTuple):
    """Gradients of a cell's weights, written or accumulated into, in the shapes of cells.Cell's fields before packing.

    x : (G H, I); h : (G H, K); b : (B, H); p : (P H,)
    sums : (chunks, slots, H, I + 1 + K)  workspace
    """

    x: Any
    h: Any
    b: Any
    p: Any
    sums: Any


def chunks(batch: int) -> int:
    """Return into how many chunks so many sequences fall."""
    return max(1, min(CHUNKS, batch))


def weight_products(kind: type[Cell], dtype, tile: Tile, options: bool = False):
    """Return the kernel (options, layer, gradients) that computes each chunk's ``dz' [x | 1 | h]``, with h before the step.

    options : of the cell; layer : as the backward steps left it
    Blocks: tiles of slots and units, tiles of GROUPS times as many columns, chunks.
    """
    slots, masked, in_c, seen = kind.slots, masker(options), kind.states + options, kind.seen
    across, down, rows, height = tile.across, tile.down, tile.rows, tile.height

    @device
    def left(arguments, row, k):
        _, layer, n = arguments
        size = slots * layer.z.shape[3]
        return load(layer.z, (n * layer.z.shape[1] + k) * size + row) if row < size else dtype(0)

    @device
    def of_seen(layer, n, k, q):
        _, steps, hidden = layer.y.shape
        inside = q < (1 + seen) * hidden
        return load(layer.c, ((n * (steps + 1) + k) * in_c + q // hidden) * hidden + q % hidden) if inside else dtype(0)

    beyond = of_seen if seen else device(lambda layer, n, k, q: dtype(0))

    @device
    def right(arguments, k, group, column):
        options, layer, n = arguments
        _, steps, inputs = layer.x.shape
        hidden = layer.y.shape[2]
        q = (cuda.blockIdx.y * GROUPS + group) * across + column
        if q < inputs:
            return load(layer.x, (n * steps + k) * inputs + q)
        if q == inputs:
            return dtype(1)
        q -= inputs + 1
        if q >= hidden:
            return beyond(layer, n, k, q)
        h = load(layer.h0, n * hidden + q) if k == 0 else load(layer.y, (n * steps + k - 1) * hidden + q)
        return masked(options, n, q, hidden, h)

    add = product(tile, dtype, GROUPS, left, right, False, False)
    sums_size = rows * GROUPS

    @kernel(tile.threads)
    def weight_products(options, layer, gradients):
        sums = cuda.local.array(sums_size, dtype)
        x, y = cuda.threadIdx.x % across, cuda.threadIdx.x // across
        row, first = cuda.blockIdx.x * height, cuda.blockIdx.y * GROUPS * across + x
        batch, size, columns = layer.x.shape[0], slots * layer.z.shape[3], gradients.sums.shape[3]
        chunk, parts = cuda.blockIdx.z, gradients.sums.shape[0]
        for i in range(sums_size):
            store(sums, i, dtype(0))
        for n in range(batch * chunk // parts, batch * (chunk + 1) // parts):
            add((options, layer, n), row, 0, load(layer.lengths, n), sums)
        for r in range(rows):
            m = row + r * down + y
            for g in range(GROUPS):
                q = first + g * across
                if m < size and q < columns:
                    store(gradients.sums, (chunk * size + m) * columns + q, load(sums, r * GROUPS + g))

    return weight_products


def weight_sums(kind: type[Cell], dtype):
    """Return the kernel (gradients, add) that adds up the chunks and brings them to the weights.

    add : whether to accumulate. Blocks: THREADS elements of a chunk.
    """
    slots = kind.slots
    blocks_x, blocks_h, blocks_b = (packed(row) for row in kind.rows)

    @kernel(THREADS)
    def weight_sums(gradients, add):
        parts, _, units, columns = gradients.sums.shape
        at, size, inputs = place(), slots * units * columns, gradients.x.shape[1]
        if at >= size:
            return
        total = dtype(0)
        for chunk in range(parts):
            total += load(gradients.sums, chunk * size + at)
        slot, unit, q = at // columns // units, at // columns % units, at % columns
        if q < inputs:
            _bring(total, add, gradients.x, digit(blocks_x, slot), units, unit, inputs, q)
        elif q == inputs:
            _bring(total, add, gradients.b, digit(blocks_b, slot), units, unit, 1, 0)
        else:
            _bring(total, add, gradients.h, digit(blocks_h, slot), units, unit, columns - 1 - inputs, q - inputs - 1)

    return weight_sums


@device
def _bring(total, add, gradient, block, units, unit, columns, column):
    """Bring a sum to its gradient, unless its slot has no weights there."""
    if block < 15:
        at = (block * units + unit) * columns + column
        store(gradient, at, load(gradient, at) + total if add else total)


def peephole_sums(kind: type[Cell], dtype, options: bool = False):
    """Return the kernel (layer, gradients, add) of the peepholes' gradients, each of which one thread sums.

    Blocks: THREADS units, peepholes.
    """
    slots, states, size = kind.slots, kind.states, kind.states + options
    raw = states if options else 0  # with options, c as the cell left it has a slot of its own
    slot_of, after = packed(kind.peepholes[:, 0]), packed(kind.peepholes[:, 1])

    @kernel(THREADS)
    def peephole_sums(layer, gradients, add):
        batch, steps, units = layer.y.shape
        unit, peephole = place(), cuda.blockIdx.y
        if unit >= units:
            return
        total = dtype(0)
        for n in range(batch):
            for t in range(load(layer.lengths, n)):
                dz = load(layer.z, ((n * steps + t) * slots + digit(slot_of, peephole)) * units + unit)
                later = digit(after, peephole)
                c = load(layer.c, ((n * (steps + 1) + t + later) * size + later * raw) * units + unit)
                total = fma(dz, c, total)
        at = peephole * units + unit
        store(gradients.p, at, load(gradients.p, at) + total if add else total)

    return peephole_sums
