"""The steps of a recurrent layer back through time, for any cell and size: a launch for each, or one for all."""

from numlstm.kernels.cells import Cell
from numlstm.kernels.options import Place

from .layer import GROUPS, digit, packed, reader, writer
from .machine import cuda, device, kernel, load, store
from .product import Tile, product
from .scalar import of_type, scalar


def _adjoint(kind: type[Cell], options: bool):
    """Return a device function for the adjoint of a cell, with that of options around it: (dz, gradients of the states)."""
    chosen = of_type(kind, options)
    backward = scalar(kind.backward, **chosen)
    size = kind.states + options
    unsettled, to_cell_h, to_cell_states = (chosen[name] for name in ("unsettled", "to_cell_h", "to_cell_states"))
    past_cell_h, past_cell_states = chosen["past_cell_h"], chosen["past_cell_states"]

    @device
    def plain(cell, layer, gradients, n, t, unit, slots, before, after, dh, dstates):
        return backward(cell, unit, slots, before, after, dh, dstates)

    @device
    def with_options(cell, layer, gradients, n, t, unit, slots, before, after, dh, dstates):
        _, steps, units = layer.y.shape
        place = Place(n, t, steps, unit, units)
        after = unsettled(cell, layer.c, (n * (steps + 1) + t + 1) * size * units + unit, units, after)
        through, of_states = to_cell_h(cell, cell.options, place, dh, dstates)
        of_states = to_cell_states(cell, cell.options, place, of_states)
        dz, found = backward(cell, unit, slots, before, after, through, of_states)
        found = past_cell_states(cell, cell.options, place, dstates, found)
        at = n * size * units + unit
        return dz, past_cell_h(cell, cell.options, place, gradients.dc, at, units, dh, dstates, found)

    return with_options if options else plain


def _arrival(kind: type[Cell], options: bool):
    """Return a device function (cell, gradients, n, unit, units, dh): h's gradient, of which products brought dh."""
    if not options:
        return device(lambda cell, gradients, n, unit, units, dh: dh)
    arrived, size = of_type(kind, options)["arrived"], kind.states + options

    @device
    def arrive(cell, gradients, n, unit, units, dh):
        return arrived(cell, cell.options, n, gradients.dc, n * size * units + unit, units, unit, units, dh)

    return arrive


def _backward_tile(kind: type[Cell], dtype, tile: Tile, options: bool):
    """Return a device function (cell, layer, gradients, t, row, origin) for a block's tile from a sequence and a unit on.

    It brings dh from step t + 1 to t and applies the cell's adjoint there: z of step t, what the cell kept, is overwritten
    with the gradients of the pre-activations. With t = -1 only dh is brought to the state before the first step.
    """
    (first, count), slots, states = kind.h_slots, kind.slots, kind.states
    h_is_state, size, wide = kind.h_is_state, states + options, 1 + kind.seen
    blocks = packed(kind.rows[1, first : first + count])
    across, down, rows, height = tile.across, tile.down, tile.rows, tile.height
    adjoint, arrive = _adjoint(kind, options), _arrival(kind, options)
    read_slots, write_slots = reader(slots), writer(slots)
    read_states, write_states = reader(states), writer(states)

    @device
    def left(arguments, row, k):
        _, layer, t, block, _, _ = arguments
        batch, steps, hidden = layer.y.shape
        inside = row < batch
        at = ((row * steps + t + 1) * slots + first + block) * hidden + k
        return load(layer.z, at) if inside else dtype(0)

    @device
    def right(arguments, k, group, column):
        cell, layer, _, block, part, origin = arguments
        hidden = layer.y.shape[2]
        unit = origin + group * across + column
        inside = unit < hidden
        at = ((digit(blocks, block) * hidden + k) * wide + part) * hidden + unit
        return load(cell.h, at) if inside else dtype(0)

    add = product(tile, dtype, GROUPS, left, right, True, False)
    sums_size = rows * GROUPS

    @device
    def backward_tile(cell, layer, gradients, t, row, origin):
        sums = cuda.local.array(sums_size, dtype)
        x, y = cuda.threadIdx.x % across, cuda.threadIdx.x // across
        unit = origin + x
        batch, steps, units = layer.y.shape
        for part in range(wide):  # of what the product saw: h, and states
            for i in range(sums_size):
                store(sums, i, dtype(0))
            for block in range(count if t + 1 < steps else 0):
                add((cell, layer, t, block, part, origin), row, 0, units, sums)
            for r in range(rows):
                n = row + r * down + y
                for g in range(GROUPS):
                    j = unit + g * across
                    if n < batch and j < units:
                        length, at = load(layer.lengths, n), n * units + j
                        # The gradients of the last states wait where they are until the last step.
                        if t + 1 < length:
                            if part == 0:
                                store(gradients.dh, at, arrive(cell, gradients, n, j, units, load(sums, r * GROUPS + g)))
                            else:  # the product is all that such a state reaches
                                store(gradients.dc, (n * size + part) * units + j, load(sums, r * GROUPS + g))
                        if t < 0 and h_is_state:
                            before = load(gradients.dc, (n * size + states - 1) * units + j)
                            store(gradients.dh, at, load(gradients.dh, at) + before)
        if t < 0:
            return
        for n in range(row + y, min(row + height, batch), down):
            for j in range(unit, min(unit + GROUPS * across, units), across):
                at, dc_at = (n * steps + t) * slots * units + j, n * size * units + j
                c_at, dh_at = (n * (steps + 1) + t) * size * units + j, n * units + j
                if t < load(layer.lengths, n):
                    dz, dstates = adjoint(
                        cell,
                        layer,
                        gradients,
                        n,
                        t,
                        j,
                        read_slots(layer.z, at, units),
                        read_states(layer.c, c_at, units),
                        read_states(layer.c, c_at + size * units, units),
                        load(gradients.dh, dh_at) + load(gradients.dy, (n * steps + t) * units + j),
                        read_states(gradients.dc, dc_at, units),
                    )
                    write_slots(layer.z, at, units, dz)
                    write_states(gradients.dc, dc_at, units, dstates)
                else:
                    for slot in range(slots):
                        store(layer.z, at + slot * units, dtype(0))

    return backward_tile


def backward_step(kind: type[Cell], dtype, tile: Tile, options: bool = False):
    """Return the kernel (cell, layer, gradients, t) that takes a layer back to step t.

    Blocks: tiles of sequences, tiles of GROUPS times as many units.
    """
    backward_tile = _backward_tile(kind, dtype, tile, options)
    width, height = GROUPS * tile.across, tile.height

    @kernel(tile.threads)
    def backward_step(cell, layer, gradients, t):
        backward_tile(cell, layer, gradients, t, cuda.blockIdx.x * height, cuda.blockIdx.y * width)

    return backward_step


def backward_rows(kind: type[Cell], dtype, tile: Tile, options: bool = False):
    """Return the kernel (cell, layer, gradients) that takes a layer back through all steps. Blocks: tiles of sequences."""
    backward_tile = _backward_tile(kind, dtype, tile, options)
    width, height = GROUPS * tile.across, tile.height

    @kernel(tile.threads)
    def backward_rows(cell, layer, gradients):
        for t in range(layer.y.shape[1] - 1, -2, -1):
            for origin in range(0, layer.y.shape[2], width):
                backward_tile(cell, layer, gradients, t, cuda.blockIdx.x * height, origin)
            cuda.syncthreads()  # the next step reads what all threads wrote to z

    return backward_rows
