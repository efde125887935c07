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
    sums, second_sums : workspace, see `sums_shapes`
    second : (O, H)  of the second product, () without one
    """

    x: Any
    h: Any
    b: Any
    p: Any
    sums: Any
    second: Any = ()
    second_sums: Any = ()


def chunks(batch: int) -> int:
    """Return into how many chunks so many sequences fall."""
    return max(1, min(CHUNKS, batch))


def first_slot(kind: type[Cell]) -> int:
    """Return the first slot that takes part in products; those before have no weights."""
    return min(kind.x_slots[0], kind.h_slots[0])


def sums_shapes(kind: type[Cell], batch: int, columns: int, units: int, outputs: int) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of the workspace: of the sums for x, b and h, and for the second product.

    columns : how many W_ih and W_hh have together
    """
    return (chunks(batch), kind.slots - first_slot(kind), units, columns + 1), (chunks(batch), 1, outputs, units)


def _chunk_products(dtype, tile: Tile, left, right):
    """Return a device function (options, layer, sums) for each chunk's sums (chunks, slots, H, columns) of a product.

    left(arguments, row, k), right(arguments, k, group, column) : of the product; arguments : (options, layer, n)
    Blocks: tiles of slots and units, tiles of GROUPS times as many columns, chunks.
    """
    across, down, rows, height = tile.across, tile.down, tile.rows, tile.height
    add = product(tile, dtype, GROUPS, left, right, False, False)
    sums_size = rows * GROUPS

    @device
    def chunk_products(options, layer, found):
        sums = cuda.local.array(sums_size, dtype)
        x, y = cuda.threadIdx.x % across, cuda.threadIdx.x // across
        row, first = cuda.blockIdx.x * height, cuda.blockIdx.y * GROUPS * across + x
        batch, columns, size = layer.x.shape[0], found.shape[3], found.shape[1] * found.shape[2]
        chunk, parts = cuda.blockIdx.z, found.shape[0]
        for i in range(sums_size):
            store(sums, i, dtype(0))
        for n in range(batch * chunk // parts, batch * (chunk + 1) // parts):
            add((options, layer, n), row, 0, load(layer.lengths, n), sums)
        for r in range(rows):
            m = row + r * down + y
            for g in range(GROUPS):
                q = first + g * across
                if m < size and q < columns:
                    store(found, (chunk * size + m) * columns + q, load(sums, r * GROUPS + g))

    return chunk_products


def weight_products(kind: type[Cell], dtype, tile: Tile, options: bool = False):
    """Return the kernel (options, layer, gradients) that computes each chunk's ``dz' [x | 1 | h]``, with h before the step.

    options : of the cell; layer : as the backward steps left it
    Blocks: tiles of slots and units, tiles of GROUPS times as many columns, chunks.
    """
    slots, masked, in_c, seen, first = kind.slots, masker(options), kind.states + options, kind.seen, first_slot(kind)
    across = tile.across

    @device
    def left(arguments, row, k):
        _, layer, n = arguments
        size, skipped = slots * layer.z.shape[3], first * layer.z.shape[3]
        inside = row + skipped < size
        return load(layer.z, (n * layer.z.shape[1] + k) * size + skipped + row) if inside else dtype(0)

    @device
    def of_seen(layer, n, k, q):
        _, steps, _, units = layer.z.shape
        state, unit = q // units + 1, q % units
        return load(layer.c, ((n * (steps + 1) + k) * in_c + state) * units + unit) if state <= seen else dtype(0)

    beyond = of_seen if seen else device(lambda layer, n, k, q: dtype(0))

    @device
    def right(arguments, k, group, column):
        options, layer, n = arguments
        _, steps, inputs = layer.x.shape
        outputs = layer.y.shape[2]
        q = (cuda.blockIdx.y * GROUPS + group) * across + column
        if q < inputs:
            return load(layer.x, (n * steps + k) * inputs + q)
        if q == inputs:
            return dtype(1)
        q -= inputs + 1
        if q >= outputs:
            return beyond(layer, n, k, q - outputs)
        h = load(layer.h0, n * outputs + q) if k == 0 else load(layer.y, (n * steps + k - 1) * outputs + q)
        return masked(options, n, q, outputs, h)

    products = _chunk_products(dtype, tile, left, right)

    @kernel(tile.threads)
    def weight_products(options, layer, gradients):
        products(options, layer, gradients.sums)

    return weight_products


def second_products(kind: type[Cell], dtype, tile: Tile):
    """Return the kernel (layer, gradients) that computes each chunk's ``dz' u`` for the second product; blocks as before."""
    slots, second, across = kind.slots, kind.second_slot, tile.across

    @device
    def left(arguments, row, k):
        _, layer, n = arguments
        _, steps, _, units = layer.z.shape
        inside = row < layer.y.shape[2]
        return load(layer.z, ((n * steps + k) * slots + second) * units + row) if inside else dtype(0)

    @device
    def right(arguments, k, group, column):
        _, layer, n = arguments
        _, steps, units = layer.u.shape
        q = (cuda.blockIdx.y * GROUPS + group) * across + column
        return load(layer.u, (n * steps + k) * units + q) if q < units else dtype(0)

    products = _chunk_products(dtype, tile, left, right)

    @kernel(tile.threads)
    def second_products(layer, gradients):
        products((), layer, gradients.second_sums)

    return second_products


@device
def _total(sums, at):
    """Return the sum over the chunks, in order, of element `at` of each."""
    size, total = sums.shape[1] * sums.shape[2] * sums.shape[3], load(sums, at)
    for chunk in range(1, sums.shape[0]):
        total += load(sums, chunk * size + at)
    return total


def weight_sums(kind: type[Cell]):
    """Return the kernel (gradients, add) that adds up the chunks and brings them to the weights.

    add : whether to accumulate. Blocks: THREADS elements of a chunk. Biases of normalised cells come from elsewhere.
    """
    start, biased = first_slot(kind), kind.base is None
    (x_first, x_count), (h_first, h_count) = ((first - start, count) for first, count in (kind.x_slots, kind.h_slots))
    blocks_x = packed(kind.rows[0, start + x_first :][:x_count])
    blocks_h = packed(kind.rows[1, start + h_first :][:h_count])
    blocks_b = packed(kind.rows[2, start:] if biased else ())

    @kernel(THREADS)
    def weight_sums(gradients, add):
        _, slots, units, columns = gradients.sums.shape
        at, inputs = place(), gradients.x.shape[1]
        if at >= slots * units * columns:
            return
        total = _total(gradients.sums, at)
        slot, unit, q = at // columns // units, at // columns % units, at % columns
        if q < inputs:
            if x_first <= slot < x_first + x_count:
                _bring(total, add, gradients.x, digit(blocks_x, slot - x_first), units, unit, inputs, q)
        elif q == inputs:
            if biased:
                _bring(total, add, gradients.b, digit(blocks_b, slot), units, unit, 1, 0)
        elif h_first <= slot < h_first + h_count:
            block = digit(blocks_h, slot - h_first)
            _bring(total, add, gradients.h, block, units, unit, columns - 1 - inputs, q - inputs - 1)

    return weight_sums


@device
def _bring(total, add, gradient, block, units, unit, columns, column):
    """Bring a sum to its gradient, unless its slot has no weights there."""
    if block < 15:
        at = (block * units + unit) * columns + column
        store(gradient, at, load(gradient, at) + total if add else total)


def second_sums():
    """Return the kernel (sums, second, add) that adds up the chunks' sums for the second product; blocks as before."""

    @kernel(THREADS)
    def second_sums(sums, second, add):
        at = place()
        if at < second.shape[0] * second.shape[1]:
            total = _total(sums, at)
            store(second, at, load(second, at) + total if add else total)

    return second_sums


def peephole_sums(kind: type[Cell], dtype, options: bool = False):
    """Return the kernel (layer, gradients, add) of the peepholes' gradients, each of which one thread sums.

    Blocks: THREADS units, peepholes.
    """
    slots, states, size = kind.slots, kind.states, kind.states + options
    raw = states if options else 0  # with options, c as the cell left it has a slot of its own
    slot_of, after = packed(kind.peepholes[:, 0]), packed(kind.peepholes[:, 1])

    @kernel(THREADS)
    def peephole_sums(layer, gradients, add):
        batch, steps, _, units = layer.z.shape
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
