"""The steps of a recurrent layer forward, for any cell and size: a launch for each, or one for all.

The product of a step comes first, through z, which the cell then reads: its sums are addressed by constants, which is what
keeps them in registers, and the cell stands in the code once.
"""

from numlstm.kernels import options as of_options
from numlstm.kernels.cells import Cell
from numlstm.kernels.options import Before, Place

from .layer import digit, masker, packed, reader, writer
from .machine import cuda, device, kernel, load, store
from .product import Tile, product
from .scalar import of_type, scalar


def _settler(kind: type[Cell], options: bool, chosen):
    """Return a device function (cell, layer, n, t, unit, c_at, before, after, h): states and h that a step ends with.

    c_at : where in c the states are to go; with options the first is stored as the cell left it
    """
    if not options:
        return device(lambda cell, layer, n, t, unit, c_at, before, after, h: (after, h))
    settled_states, settled_h = chosen["settled_states"], scalar(of_options.settled_h, **chosen)

    @device
    def settle_step(cell, layer, n, t, unit, c_at, before, after, h):
        _, steps, units = layer.y.shape
        place = Place(n, t, steps, unit, units)
        lies = Before(t == 0, layer.h0, layer.y, (n * steps + t - 1) * units + unit)
        after = settled_states(cell, cell.options, place, layer.c, c_at, units, before, after)
        return settled_h(cell, cell.options, place, lies, after, h)

    return settle_step


def _forward_tile(kind: type[Cell], dtype, tile: Tile, options: bool):
    """Return a device function (cell, layer, t, row, origin) for a block's tile from a sequence and a unit on.

    It adds the recurrent product to step t of z and applies the cell.
    """
    (first, count), slots, states = kind.h_slots, kind.slots, kind.states
    blocks = packed(kind.rows[1, first : first + count])
    across, down, rows, height = tile.across, tile.down, tile.rows, tile.height
    chosen, masked, in_c, wide = of_type(kind, options), masker(options), states + options, 1 + kind.seen
    forward, settle = scalar(kind.forward, **chosen), _settler(kind, options, chosen)
    read_slots, write_slots = reader(slots), writer(slots)
    read_states, write_states = reader(states), writer(states)

    @device
    def of_h(arguments, row, k):
        cell, layer, t, _ = arguments
        batch, steps, hidden = layer.y.shape
        if row >= batch:
            return dtype(0)
        h = load(layer.h0, row * hidden + k) if t == 0 else load(layer.y, (row * steps + t - 1) * hidden + k)
        return masked(cell.options, row, k, hidden, h)

    @device
    def of_all(arguments, row, k):
        _, layer, t, _ = arguments
        batch, steps, hidden = layer.y.shape
        if k < hidden or row >= batch:
            return of_h(arguments, row, k)
        return load(layer.c, ((row * (steps + 1) + t) * in_c + k // hidden) * hidden + k % hidden)

    left = of_all if kind.seen else of_h

    @device
    def right(arguments, k, group, column):
        cell, layer, _, origin = arguments
        hidden = layer.y.shape[2]
        unit = origin + column
        inside = unit < hidden
        return load(cell.h, (digit(blocks, group) * hidden + unit) * wide * hidden + k) if inside else dtype(0)

    add = product(tile, dtype, count, left, right, True, True)
    sums_size = rows * count

    @device
    def forward_tile(cell, layer, t, row, origin):
        sums = cuda.local.array(sums_size, dtype)
        x, y = cuda.threadIdx.x % across, cuda.threadIdx.x // across
        unit = origin + x
        batch, steps, units = layer.y.shape
        z_row = steps * slots * units
        z_at = (t * slots + first) * units + unit
        for i in range(sums_size):
            store(sums, i, dtype(0))
        for r in range(rows):
            n = row + r * down + y
            for g in range(count):
                if n < batch and unit < units:
                    store(sums, r * count + g, load(layer.z, n * z_row + z_at + g * units))
        add((cell, layer, t, origin), row, 0, wide * units, sums)
        for r in range(rows):
            n = row + r * down + y
            for g in range(count):
                if n < batch and unit < units:
                    store(layer.z, n * z_row + z_at + g * units, load(sums, r * count + g))
        if unit >= units:
            return
        for n in range(row + y, min(row + height, batch), down):
            at, y_at = n * z_row + t * slots * units + unit, (n * steps + t) * units + unit
            c_at = (n * (steps + 1) + t) * in_c * units + unit
            before, length = read_states(layer.c, c_at, units), load(layer.lengths, n)
            if t < length:
                kept, after, h = forward(cell, unit, read_slots(layer.z, at, units), before)
                after, h = settle(cell, layer, n, t, unit, c_at + in_c * units, before, after, h)
                write_slots(layer.z, at, units, kept)
                write_states(layer.c, c_at + in_c * units, units, after)
                store(layer.y, y_at, h)
                if t == length - 1:
                    store(layer.h, n * units + unit, h)
            else:
                write_states(layer.c, c_at + in_c * units, units, before)
                store(layer.y, y_at, dtype(0))

    return forward_tile


def forward_step(kind: type[Cell], dtype, tile: Tile, options: bool = False):
    """Return the kernel (cell, layer, t) that takes a layer through step t. Blocks: tiles of sequences, tiles of units."""
    forward_tile = _forward_tile(kind, dtype, tile, options)
    across, height = tile.across, tile.height

    @kernel(tile.threads)
    def forward_step(cell, layer, t):
        forward_tile(cell, layer, t, cuda.blockIdx.x * height, cuda.blockIdx.y * across)

    return forward_step


def forward_rows(kind: type[Cell], dtype, tile: Tile, options: bool = False):
    """Return the kernel (cell, layer) that takes a layer through all steps. Blocks: tiles of sequences."""
    forward_tile = _forward_tile(kind, dtype, tile, options)
    across, height = tile.across, tile.height

    @kernel(tile.threads)
    def forward_rows(cell, layer):
        for t in range(layer.y.shape[1]):
            for origin in range(0, layer.y.shape[2], across):
                forward_tile(cell, layer, t, cuda.blockIdx.x * height, origin)
            cuda.syncthreads()  # the next step reads what all threads wrote to y

    return forward_rows
