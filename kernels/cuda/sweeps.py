"""The steps of a recurrent layer forward and backward, each a launch of its own: for any cell, size and card.

Products come first, through the arrays that the cell then reads: their sums are addressed by constants, which is what keeps
them in registers, and the cell stands in the code once.
"""

from typing import Any, NamedTuple

from numlstm.kernels.cells import Cell

from .machine import cuda, device, kernel, load, store
from .product import Tile, product
from .scalar import scalar

GROUPS = 4  # of columns a thread, where they are not the slots of a cell


class Layer(NamedTuple):
    """One layer over a batch of sequences, on the device.

    x : (N, T, I); h0 : (N, H)
    lengths : (N,) int64; past the length of a sequence y is 0 and its states stay; x may hold anything there
    y : (N, T, H)  written: h of every step
    h : (N, H)  holds what h0 does; overwritten with the last
    c : (N, T+1, states, H)  the first holds the initial ones; what follows is written
    z : (N, T, slots, H)  written: what the cell keeps
    """

    x: Any
    h0: Any
    lengths: Any
    y: Any
    h: Any
    c: Any
    z: Any


class Gradients(NamedTuple):
    """What goes back through a layer, on the device.

    dy : (N, T, H)
    dh : (N, H); dc : (N, states, H)  gradients of the last states; overwritten with those of the first
    dx : (N, T, I)  written
    """

    dy: Any
    dh: Any
    dc: Any
    dx: Any


def packed(blocks) -> int:
    """Return small numbers, 15 for -1, as the digits of one: a table that compiled code holds in no memory."""
    return sum((int(block) & 15) << 4 * k for k, block in enumerate(blocks))


@device
def digit(table, k):
    return table >> 4 * k & 15


def reader(count):
    """Return a device function (array, at, step): the tuple of `count` elements, `step` apart from `at` on."""
    if count == 0:
        return device(lambda array, at, step: ())
    rest, last = reader(count - 1), count - 1
    return device(lambda array, at, step: (*rest(array, at, step), load(array, at + last * step)))


def writer(count):
    """Return a device function (array, at, step, elements) that writes what a `reader` reads."""
    rest, last = writer(count - 1) if count > 1 else None, count - 1

    @device
    def write_one(array, at, step, elements):
        store(array, at, elements[0])

    @device
    def write(array, at, step, elements):
        rest(array, at, step, elements)
        store(array, at + last * step, elements[last])

    @device
    def write_none(array, at, step, elements):
        pass

    return write_none if count == 0 else write_one if count == 1 else write


def input_product(kind: type[Cell], dtype, tile: Tile):
    """Return the kernel (cell, layer) that begins all slots of z with ``x W + b``.

    Blocks: tiles of sequences and steps, tiles of units.
    """
    (first, count), slots = kind.x_slots, kind.slots
    blocks, biases = packed(kind.rows[0, first : first + count]), packed(kind.rows[2])
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
                    store(sums, r * count + g, load(cell.b, digit(biases, first + g) * units + unit))
        add((cell, layer), row, 0, layer.x.shape[2], sums)
        for r in range(rows):
            at = (row + r * down + y) * slots * units + unit
            if row + r * down + y < total and unit < units:
                for g in range(count):
                    store(layer.z, at + (first + g) * units, load(sums, r * count + g))
                for slot in range(slots):
                    if slot < first or slot >= first + count:
                        bias = digit(biases, slot)
                        value = load(cell.b, bias * units + unit) if bias < 15 else dtype(0)
                        store(layer.z, at + slot * units, value)

    return input_product


def forward_step(kind: type[Cell], dtype, tile: Tile):
    """Return the kernel (cell, layer, t) that adds the recurrent product to step t of z and applies the cell.

    Blocks: tiles of sequences, tiles of units.
    """
    (first, count), slots, states = kind.h_slots, kind.slots, kind.states
    blocks = packed(kind.rows[1, first : first + count])
    across, down, rows, height = tile.across, tile.down, tile.rows, tile.height
    forward = scalar(kind.forward)
    read_slots, write_slots = reader(slots), writer(slots)
    read_states, write_states = reader(states), writer(states)

    @device
    def left(arguments, row, k):
        _, layer, t = arguments
        batch, steps, hidden = layer.y.shape
        if row >= batch:
            return dtype(0)
        return load(layer.h0, row * hidden + k) if t == 0 else load(layer.y, (row * steps + t - 1) * hidden + k)

    @device
    def right(arguments, k, group, column):
        cell, layer, _ = arguments
        hidden = layer.y.shape[2]
        unit = cuda.blockIdx.y * across + column
        inside = unit < hidden
        return load(cell.h, (digit(blocks, group) * hidden + unit) * hidden + k) if inside else dtype(0)

    add = product(tile, dtype, count, left, right, True, True)
    sums_size = rows * count

    @kernel(tile.threads)
    def forward_step(cell, layer, t):
        sums = cuda.local.array(sums_size, dtype)
        x, y = cuda.threadIdx.x % across, cuda.threadIdx.x // across
        row, unit = cuda.blockIdx.x * height, cuda.blockIdx.y * across + x
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
        add((cell, layer, t), row, 0, units, sums)
        for r in range(rows):
            n = row + r * down + y
            for g in range(count):
                if n < batch and unit < units:
                    store(layer.z, n * z_row + z_at + g * units, load(sums, r * count + g))
        if unit >= units:
            return
        for n in range(row + y, min(row + height, batch), down):
            at, y_at = n * z_row + t * slots * units + unit, (n * steps + t) * units + unit
            c_at = (n * (steps + 1) + t) * states * units + unit
            before, length = read_states(layer.c, c_at, units), load(layer.lengths, n)
            if t < length:
                kept, after, h = forward(cell, unit, read_slots(layer.z, at, units), before)
                write_slots(layer.z, at, units, kept)
                write_states(layer.c, c_at + states * units, units, after)
                store(layer.y, y_at, h)
                if t == length - 1:
                    store(layer.h, n * units + unit, h)
            else:
                write_states(layer.c, c_at + states * units, units, before)
                store(layer.y, y_at, dtype(0))

    return forward_step


def backward_step(kind: type[Cell], dtype, tile: Tile):
    """Return the kernel (cell, layer, gradients, t) that brings dh from step t + 1 to t and applies the adjoint there.

    z of step t, what the cell kept, is overwritten with the gradients of the pre-activations. With t = -1 only dh is
    brought to the state before the first step. Blocks: tiles of sequences, tiles of GROUPS times as many units.
    """
    (first, count), slots, states = kind.h_slots, kind.slots, kind.states
    h_is_state = kind.h_is_state
    blocks = packed(kind.rows[1, first : first + count])
    across, down, rows, height = tile.across, tile.down, tile.rows, tile.height
    backward = scalar(kind.backward)
    read_slots, write_slots = reader(slots), writer(slots)
    read_states, write_states = reader(states), writer(states)

    @device
    def left(arguments, row, k):
        _, layer, t, block = arguments
        batch, steps, hidden = layer.y.shape
        inside = row < batch
        at = ((row * steps + t + 1) * slots + first + block) * hidden + k
        return load(layer.z, at) if inside else dtype(0)

    @device
    def right(arguments, k, group, column):
        cell, layer, _, block = arguments
        hidden = layer.y.shape[2]
        unit = (cuda.blockIdx.y * GROUPS + group) * across + column
        inside = unit < hidden
        at = (digit(blocks, block) * hidden + k) * hidden + unit
        return load(cell.h, at) if inside else dtype(0)

    add = product(tile, dtype, GROUPS, left, right, True, False)
    sums_size = rows * GROUPS

    @kernel(tile.threads)
    def backward_step(cell, layer, gradients, t):
        sums = cuda.local.array(sums_size, dtype)
        x, y = cuda.threadIdx.x % across, cuda.threadIdx.x // across
        row, unit = cuda.blockIdx.x * height, cuda.blockIdx.y * GROUPS * across + x
        batch, steps, units = layer.y.shape
        for i in range(sums_size):
            store(sums, i, dtype(0))
        for block in range(count if t + 1 < steps else 0):
            add((cell, layer, t, block), row, 0, units, sums)
        for r in range(rows):
            n = row + r * down + y
            for g in range(GROUPS):
                j = unit + g * across
                if n < batch and j < units:
                    length, at = load(layer.lengths, n), n * units + j
                    # The gradient of the last state waits where it is until the last step.
                    if t + 1 < length:
                        store(gradients.dh, at, load(sums, r * GROUPS + g))
                    if t < 0 and h_is_state:
                        part = load(gradients.dc, n * states * units + j)
                        store(gradients.dh, at, load(gradients.dh, at) + part)
        if t < 0:
            return
        for n in range(row + y, min(row + height, batch), down):
            for j in range(unit, min(unit + GROUPS * across, units), across):
                at, dc_at = (n * steps + t) * slots * units + j, n * states * units + j
                c_at, dh_at = (n * (steps + 1) + t) * states * units + j, n * units + j
                if t < load(layer.lengths, n):
                    dz, dstates = backward(
                        cell,
                        j,
                        read_slots(layer.z, at, units),
                        read_states(layer.c, c_at, units),
                        read_states(layer.c, c_at + states * units, units),
                        load(gradients.dh, dh_at) + load(gradients.dy, (n * steps + t) * units + j),
                        read_states(gradients.dc, dc_at, units),
                    )
                    write_slots(layer.z, at, units, dz)
                    write_states(gradients.dc, dc_at, units, dstates)
                else:
                    for slot in range(slots):
                        store(layer.z, at + slot * units, dtype(0))

    return backward_step


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
