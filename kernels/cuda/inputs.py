"""The products of a layer that wait for no step: with all inputs, and their gradient."""

from numlstm.kernels.cells import Cell

from .layer import GROUPS, bias_reader, digit, packed
from .machine import cuda, device, kernel, load, store
from .product import Tile, product


def input_product(kind: type[Cell], dtype, tile: Tile):
    """Return the kernel (cell, layer) that begins all slots of z with ``x W + b``, or if it is normalised with ``x W`` or 0.

    Blocks: tiles of sequences and steps, tiles of units.
    """
    (first, count), slots = kind.x_slots, kind.slots
    blocks = packed(kind.rows[0, first : first + count])
    bias = device(lambda cell, slot, unit: dtype(0)) if kind.base else bias_reader(kind.rows[2], dtype)
    across, down, rows, height = tile.across, tile.down, tile.rows, tile.height

    @device
    def left(arguments, row, k):
        _, layer = arguments
        inputs = layer.x.shape[2]
        inside = row < layer.x.shape[0] * layer.x.shape[1]
        return load(layer.x, row * inputs + k) if inside else dtype(0)

    @device
    def right(arguments, k, group, column):
        cell, layer = arguments
        units, inputs = layer.z.shape[3], layer.x.shape[2]
        unit = cuda.blockIdx.y * across + column
        inside = unit < units
        return load(cell.x, (digit(blocks, group) * units + unit) * inputs + k) if inside else dtype(0)

    add = product(tile, dtype, count, left, right, True, True)
    sums_size = rows * count

    @kernel(tile.threads)
    def input_product(cell, layer):
        sums = cuda.local.array(sums_size, dtype)
        x, y = cuda.threadIdx.x % across, cuda.threadIdx.x // across
        row, unit = cuda.blockIdx.x * height, cuda.blockIdx.y * across + x
        units, total = layer.z.shape[3], layer.x.shape[0] * layer.x.shape[1]
        for i in range(sums_size):
            store(sums, i, dtype(0))
        for r in range(rows):
            for g in range(count):
                if unit < units:
                    store(sums, r * count + g, bias(cell, first + g, unit))
        add((cell, layer), row, 0, layer.x.shape[2], sums)
        for r in range(rows):
            at = (row + r * down + y) * slots * units + unit
            if row + r * down + y < total and unit < units:
                for g in range(count):
                    store(layer.z, at + (first + g) * units, load(sums, r * count + g))
                for slot in range(slots):
                    if slot < first or slot >= first + count:
                        store(layer.z, at + slot * units, bias(cell, slot, unit))

    return input_product


def input_gradient(kind: type[Cell], dtype, tile: Tile):
    """Return the kernel (cell, layer, gradients) that writes ``dx = dz W``.

    Blocks: tiles of sequences and steps, tiles of GROUPS times as many inputs.
    """
    (first, count), slots = kind.x_slots, kind.slots
    blocks = packed(kind.rows[0, first : first + count])
    across, down, rows, height = tile.across, tile.down, tile.rows, tile.height

    @device
    def left(arguments, row, k):
        _, layer, block = arguments
        units = layer.z.shape[3]
        inside = row < layer.x.shape[0] * layer.x.shape[1]
        return load(layer.z, (row * slots + first + block) * units + k) if inside else dtype(0)

    @device
    def right(arguments, k, group, column):
        cell, layer, block = arguments
        units, inputs = layer.z.shape[3], layer.x.shape[2]
        i = (cuda.blockIdx.y * GROUPS + group) * across + column
        return load(cell.x, (digit(blocks, block) * units + k) * inputs + i) if i < inputs else dtype(0)

    add = product(tile, dtype, GROUPS, left, right, True, False)
    sums_size = rows * GROUPS

    @kernel(tile.threads)
    def input_gradient(cell, layer, gradients):
        sums = cuda.local.array(sums_size, dtype)
        x, y = cuda.threadIdx.x % across, cuda.threadIdx.x // across
        row, first_input = cuda.blockIdx.x * height, cuda.blockIdx.y * GROUPS * across + x
        total, inputs = layer.x.shape[0] * layer.x.shape[1], layer.x.shape[2]
        for i in range(sums_size):
            store(sums, i, dtype(0))
        for block in range(count):
            add((cell, layer, block), row, 0, layer.z.shape[3], sums)
        for r in range(rows):
            at = row + r * down + y
            for g in range(GROUPS):
                i = first_input + g * across
                if at < total and i < inputs:
                    store(gradients.dx, at * inputs + i, load(sums, r * GROUPS + g))

    return input_gradient
