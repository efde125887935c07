"""The steps of a recurrent layer forward, for any cell and size: launches for each step, or one for all.

The product of a step comes first, through z, which the cell then reads: its sums are addressed by constants, which is what
keeps them in registers, and the cell stands in the code once.
"""

from numlstm.kernels.cells import Cell

from .layer import digit, masker, packed
from .machine import cuda, device, kernel, load, store
from .product import Tile, product
from .units import forward_unit


def _tile(dtype, tile: Tile, slots: tuple[int, int], left, right, sizes, apply):
    """Return a device function (cell, layer, t, row, origin) for a block's tile from a sequence and a unit on.

    It adds a product to some of the slots (first, number) of step t of z, and applies a part of the cell, or None.

    left(arguments, row, k), right(arguments, k, group, column) : of the product; arguments : (cell, layer, t, origin)
    sizes(cell, layer) : its length, and how many units it is for
    """
    first, count = slots
    across, down, rows, height = tile.across, tile.down, tile.rows, tile.height
    add = product(tile, dtype, count, left, right, True, True)
    sums_size, alone = rows * count, apply is None
    apply = apply or device(lambda cell, layer, n, t, unit: None)

    @device
    def forward_tile(cell, layer, t, row, origin):
        sums = cuda.local.array(sums_size, dtype)
        x, y = cuda.threadIdx.x % across, cuda.threadIdx.x // across
        unit = origin + x
        batch, steps, slots, units = layer.z.shape
        length, columns = sizes(cell, layer)
        z_row = steps * slots * units
        z_at = (t * slots + first) * units + unit
        for i in range(sums_size):
            store(sums, i, dtype(0))
        for r in range(rows):
            n = row + r * down + y
            for g in range(count):
                if n < batch and unit < columns:
                    store(sums, r * count + g, load(layer.z, n * z_row + z_at + g * units))
        add((cell, layer, t, origin), row, 0, length, sums)
        for r in range(rows):
            n = row + r * down + y
            for g in range(count):
                if n < batch and unit < columns:
                    store(layer.z, n * z_row + z_at + g * units, load(sums, r * count + g))
        if alone or unit >= columns:
            return
        for n in range(row + y, min(row + height, batch), down):
            apply(cell, layer, n, t, unit)

    return forward_tile


def _recurrent_tile(kind: type[Cell], dtype, tile: Tile, options: bool):
    """Return the device function of the recurrent product and, unless it is normalised, the cell or its first part."""
    first, count = kind.h_slots
    blocks = packed(kind.rows[1, first : first + count])
    masked, in_c = masker(options), kind.states + options

    @device
    def of_h(arguments, row, k):
        cell, layer, t, _ = arguments
        batch, steps, outputs = layer.y.shape
        if row >= batch:
            return dtype(0)
        h = load(layer.h0, row * outputs + k) if t == 0 else load(layer.y, (row * steps + t - 1) * outputs + k)
        return masked(cell.options, row, k, outputs, h)

    @device
    def of_all(arguments, row, k):
        _, layer, t, _ = arguments
        batch, steps, _, units = layer.z.shape
        outputs = layer.y.shape[2]
        if k < outputs or row >= batch:
            return of_h(arguments, row, k)
        state, unit = (k - outputs) // units + 1, (k - outputs) % units
        return load(layer.c, ((row * (steps + 1) + t) * in_c + state) * units + unit)

    left = of_all if kind.seen else of_h

    @device
    def right(arguments, k, group, column):
        cell, layer, _, origin = arguments
        units, unit = layer.z.shape[3], origin + column
        inside = unit < units
        return load(cell.h, (digit(blocks, group) * units + unit) * cell.h.shape[1] + k) if inside else dtype(0)

    @device
    def sizes(cell, layer):
        return cell.h.shape[1], layer.z.shape[3]

    apply = None if kind.base else forward_unit(kind, dtype, options, bool(kind.second_product))
    return _tile(dtype, tile, kind.h_slots, left, right, sizes, apply)


def forward_step(kind: type[Cell], dtype, tile: Tile, options: bool = False):
    """Return the kernel (cell, layer, t) that takes a layer through step t, or as far as its first product goes.

    Blocks: tiles of sequences, tiles of units.
    """
    forward_tile = _recurrent_tile(kind, dtype, tile, options)
    across, height = tile.across, tile.height

    @kernel(tile.threads)
    def forward_step(cell, layer, t):
        forward_tile(cell, layer, t, cuda.blockIdx.x * height, cuda.blockIdx.y * across)

    return forward_step


def forward_rows(kind: type[Cell], dtype, tile: Tile, options: bool = False):
    """Return the kernel (cell, layer) that takes a layer through all steps. Blocks: tiles of sequences."""
    forward_tile = _recurrent_tile(kind, dtype, tile, options)
    across, height = tile.across, tile.height

    @kernel(tile.threads)
    def forward_rows(cell, layer):
        for t in range(layer.y.shape[1]):
            for origin in range(0, layer.y.shape[2], across):
                forward_tile(cell, layer, t, cuda.blockIdx.x * height, origin)
            cuda.syncthreads()  # the next step reads what all threads wrote to y

    return forward_rows


def second_step(kind: type[Cell], dtype, tile: Tile, options: bool = False):
    """Return the kernel (cell, layer, t) that adds the second product of step t and, unless it is normalised, the cell.

    Blocks: tiles of sequences, tiles of what that product has as columns.
    """

    @device
    def left(arguments, row, k):
        _, layer, t, _ = arguments
        batch, steps, units = layer.u.shape
        inside = row < batch
        return load(layer.u, (row * steps + t) * units + k) if inside else dtype(0)

    @device
    def right(arguments, k, group, column):
        cell, _, _, origin = arguments
        rows, units = cell.second.shape
        inside = origin + column < rows
        return load(cell.second, (origin + column) * units + k) if inside else dtype(0)

    @device
    def sizes(cell, layer):
        return cell.second.shape[1], cell.second.shape[0]

    apply = None if kind.second_slot else forward_unit(kind, dtype, options)
    second_tile = _tile(dtype, tile, (kind.second_slot, 1), left, right, sizes, apply)
    across, height = tile.across, tile.height

    @kernel(tile.threads)
    def second_step(cell, layer, t):
        second_tile(cell, layer, t, cuda.blockIdx.x * height, cuda.blockIdx.y * across)

    return second_step
