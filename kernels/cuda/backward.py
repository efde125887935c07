"""The steps of a recurrent layer back through time, for any cell and size: launches for each, or one for all."""

from numlstm.kernels.cells import Cell

from .layer import GROUPS, digit, packed
from .machine import cuda, device, kernel, load, store
from .product import Tile, product
from .scalar import of_type
from .units import backward_unit


def _arrival(kind: type[Cell], options: bool):
    """Return a device function (cell, gradients, n, unit, outputs, dh): h's gradient, of which products brought dh."""
    if not options:
        return device(lambda cell, gradients, n, unit, outputs, dh: dh)
    arrived, size = of_type(kind, options)["arrived"], kind.states + options

    @device
    def arrive(cell, gradients, n, unit, outputs, dh):
        units = gradients.dc.shape[2]
        return arrived(cell, cell.options, n, gradients.dc, n * size * units + unit, units, unit, outputs, dh)

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
    apply, arrive = backward_unit(kind, dtype, options), _arrival(kind, options)

    @device
    def left(arguments, row, k):
        _, layer, t, block, _, _, _ = arguments
        batch, steps, _, units = layer.z.shape
        inside = row < batch
        at = ((row * steps + t + 1) * slots + first + block) * units + k
        return load(layer.z, at) if inside else dtype(0)

    @device
    def right(arguments, k, group, column):
        cell, layer, _, block, start, end, origin = arguments
        j = start + origin + group * across + column
        inside = j < end
        return load(cell.h, (digit(blocks, block) * layer.z.shape[3] + k) * cell.h.shape[1] + j) if inside else dtype(0)

    add = product(tile, dtype, GROUPS, left, right, True, False)
    sums_size = rows * GROUPS

    @device
    def backward_tile(cell, layer, gradients, t, row, origin):
        sums = cuda.local.array(sums_size, dtype)
        x, y = cuda.threadIdx.x % across, cuda.threadIdx.x // across
        unit = origin + x
        batch, steps, outputs = layer.y.shape
        units, start, end = layer.z.shape[3], 0, outputs
        for part in range(wide):  # of what the product saw: h, and states
            for i in range(sums_size):
                store(sums, i, dtype(0))
            for block in range(count if t + 1 < steps else 0):
                add((cell, layer, t, block, start, end, origin), row, 0, units, sums)
            for r in range(rows):
                n = row + r * down + y
                for g in range(GROUPS):
                    j = unit + g * across
                    if n < batch and start + j < end:
                        length, at = load(layer.lengths, n), n * outputs + j
                        # The gradients of the last states wait where they are until the last step.
                        if t + 1 < length:
                            if part == 0:
                                dh = arrive(cell, gradients, n, j, outputs, load(sums, r * GROUPS + g))
                                store(gradients.dh, at, dh)
                            else:  # the product is all that such a state reaches
                                store(gradients.dc, (n * size + part) * units + j, load(sums, r * GROUPS + g))
                        if t < 0 and h_is_state:
                            before = load(gradients.dc, (n * size + states - 1) * units + j)
                            store(gradients.dh, at, load(gradients.dh, at) + before)
            start, end = end, end + units
        if t < 0:
            return
        for n in range(row + y, min(row + height, batch), down):
            for j in range(unit, min(unit + GROUPS * across, outputs), across):
                dh = load(gradients.dh, n * outputs + j) + load(gradients.dy, (n * steps + t) * outputs + j)
                apply(cell, layer, gradients, n, t, j, dh)

    return backward_tile


def backward_step(kind: type[Cell], dtype, tile: Tile, options: bool = False):
    """Return the kernel (cell, layer, gradients, t) that takes a layer back to step t, of two parts through the second.

    Blocks: tiles of sequences, tiles of GROUPS times as many units, of y or, if the product sees states, of the cell.
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


def second_backward_step(kind: type[Cell], dtype, tile: Tile, options: bool = False):
    """Return the kernel (cell, layer, gradients, t) that brings u's gradient to step t and applies the first part's adjoint.

    Blocks: tiles of sequences, tiles of GROUPS times as many units.
    """
    across, down, rows, height = tile.across, tile.down, tile.rows, tile.height
    apply, slots, second = backward_unit(kind, dtype, options, True), kind.slots, kind.second_slot
    width = GROUPS * across

    @device
    def left(arguments, row, k):
        _, layer, t, _ = arguments
        batch, steps, _, units = layer.z.shape
        inside = row < batch
        return load(layer.z, ((row * steps + t) * slots + second) * units + k) if inside else dtype(0)

    @device
    def right(arguments, k, group, column):
        cell, layer, _, origin = arguments
        units, unit = layer.z.shape[3], origin + group * across + column
        inside = unit < units
        return load(cell.second, k * units + unit) if inside else dtype(0)

    add = product(tile, dtype, GROUPS, left, right, True, False)
    sums_size = rows * GROUPS

    @kernel(tile.threads)
    def second_backward_step(cell, layer, gradients, t):
        sums = cuda.local.array(sums_size, dtype)
        x, y = cuda.threadIdx.x % across, cuda.threadIdx.x // across
        row, origin = cuda.blockIdx.x * height, cuda.blockIdx.y * width
        batch, units = layer.z.shape[0], layer.z.shape[3]
        for i in range(sums_size):
            store(sums, i, dtype(0))
        add((cell, layer, t, origin), row, 0, cell.second.shape[0], sums)
        for r in range(rows):
            n = row + r * down + y
            for g in range(GROUPS):
                j = origin + x + g * across
                if n < batch and j < units:
                    store(gradients.du, n * units + j, load(sums, r * GROUPS + g))
        for n in range(row + y, min(row + height, batch), down):
            for j in range(origin + x, min(origin + width, units), across):
                apply(cell, layer, gradients, n, t, j, load(gradients.du, n * units + j))

    return second_backward_step
