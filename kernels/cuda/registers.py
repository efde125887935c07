"""The steps of a recurrent layer with its recurrent weights in registers: one launch, forward or back, for up to 128 units.

A block takes eight sequences, the columns of a fragment, through all steps. Its warps hold the weights, rounded to a format
of tensor cores, as fragments a; what goes from a step to the next, h or dz, are fragments b, in one of two buffers of shared
memory: so one barrier a step is enough. What a step reads of z, states and dy is on its way while the step before computes.
"""

import numpy as np
from numlstm.kernels.cells import Cell

from .layer import GROUPS, digit, packed, reader, unrolled
from .machine import cuda, device, kernel, load, store, store_all
from .product import place_of
from .scalar import of_type, scalar
from .tensor import FORMATS, Format, fragments

ROWS = 8  # sequences of a block
WIDTH = 16  # units come in so many


def holds(kind: type[Cell]) -> bool:
    """Return whether there are registers for a plain cell: whose product is of h alone, with few slots and states."""
    return not kind.seen and kind.h_slots[1] <= GROUPS and kind.states < 3


def padded(units: int) -> int:
    """Return for how many units a kernel must be made."""
    return -(-units // WIDTH) * WIDTH


def forward_threads(width: int) -> int:
    """Return the threads of a block: a warp for 8 units."""
    return 4 * width


def backward_threads(width: int) -> int:
    """Return the threads of a block: a warp for 16 units."""
    return 2 * width


def _holder(given: Format, weight, high, warps, by_k):
    """Return what brings weights to registers, `high` fragments a warp for a part of k, and the size of its tile.

    That is a device function ((cell, units, weights, tile), part). tile : in shared memory, of given.element

    weight(cell, units, row, k) : of the fragments' rows, those of the first of all warps, then those of the second
    by_k : whether weights of neighbouring k are neighbours in memory. A block reads them in order, a part of k at a time.
    """
    depth, bits, rows = given.depth, given.bits, 16 * high * warps
    pitch, threads = depth + given.pad, 32 * warps
    size, place = rows * pitch, place_of(depth, rows, by_k)
    left_fragment, _ = fragments(given, pitch)

    @device
    def hold(arguments, part):
        cell, units, weights, tile = arguments
        thread = cuda.threadIdx.x
        for i in range(thread, depth * rows, threads):
            k, row = place(i)
            store(tile, row * pitch + k, bits(weight(cell, units, row, part * depth + k)))
        cuda.syncthreads()
        for m in range(high):
            fragment = left_fragment(tile, (m * warps + thread // 32) * 16, 0, thread % 32)
            store_all(weights, 4 * (part * high + m), 1, fragment)
        cuda.syncthreads()

    return hold, size


def forward_registers(kind: type[Cell], precision: str, width: int):
    """Return the kernel (cell, layer) that takes a layer in float32 through all steps.

    precision : of FORMATS; width : `padded` units. Blocks: ROWS sequences

    A fragment a has 8 units of a slot above, and of the next slot below. So a thread has the sums of all slots of a unit and
    two sequences.
    """
    (first, count), slots, states = kind.h_slots, kind.slots, kind.states
    blocks = packed(kind.rows[1, first : first + count])
    given = FORMATS[precision]
    bits, mma, depth = given.bits, given.mma, given.depth
    pitch, warps = width + given.pad, width // 8
    high, deep = (count + 1) // 2, width // depth
    weights_size, z_size, c_size, h_size = 4 * high * deep, 2 * slots, 2 * max(states, 1), 2 * ROWS * pitch
    sums_size = z_size + 2  # there is room for the slot that an odd number lacks
    element, threads = given.element, forward_threads(width)
    forward = scalar(kind.forward, **of_type(kind, False))
    read_slots, read_states = reader(slots), reader(states)
    read_four = reader(4)

    @device
    def weight(cell, units, row, k):
        slot, unit = row // 16 // warps * 2 + row % 16 // 8, row // 16 % warps * 8 + row % 8
        inside = slot < count and unit < units and k < units
        return load(cell.h, (digit(blocks, slot) * units + unit) * units + k) if inside else np.float32(0)

    hold, part_size = _holder(given, weight, high, warps, True)
    _, right_fragment = fragments(given, pitch)

    @device
    def multiply(arguments, i):
        weights, h_tile, row, lane, z = arguments
        at, b = 2 * first + i % high * 4, right_fragment(h_tile, row, i // high * depth, lane)
        store_all(z, at, 1, mma(read_four(weights, 4 * i, 1), b, read_four(z, at, 1)))

    @device
    def read(arguments, i):
        """Read an element of z, of a slot and one of two sequences; 0 past the ends."""
        layer, t, unit, n, z = arguments
        batch, steps, units = layer.y.shape
        row, slot = n + i % 2, i // 2
        inside = row < batch and unit < units and steps > 0
        store(z, i, load(layer.z, ((row * steps + t) * slots + slot) * units + unit) if inside else np.float32(0))

    @device
    def apply(arguments, s):
        """Apply the cell to one of two sequences."""
        cell, layer, t, unit, n, z, c, lengths, h_tile, h_row = arguments
        batch, steps, units = layer.y.shape
        row, h = n + s, np.float32(0)
        if t < load(lengths, s):
            kept, after, h = forward(cell, unit, read_slots(z, s, 2), read_states(c, s * states, 1))
            store_all(layer.z, (row * steps + t) * slots * units + unit, units, kept)
            store_all(c, s * states, 1, after)
            if t == load(lengths, s) - 1:
                store(layer.h, row * units + unit, h)
        if row < batch and unit < units:
            c_at = (row * (steps + 1) + t + 1) * states * units + unit
            store_all(layer.c, c_at, units, read_states(c, s * states, 1))
            store(layer.y, (row * steps + t) * units + unit, h)
        store(h_tile, (h_row + s) * pitch + unit, bits(h))

    @device
    def begin(arguments, s):
        """Read the length and the states of one of two sequences."""
        layer, unit, n, c, lengths = arguments
        batch, steps, units = layer.y.shape
        store(lengths, s, np.int64(0))
        if n + s < batch and unit < units:
            store(lengths, s, load(layer.lengths, n + s))
            c_at = (n + s) * (steps + 1) * states * units + unit
            store_all(c, s * states, 1, read_states(layer.c, c_at, units))

    hold_all, multiply_all, read_all = unrolled(deep, hold), unrolled(high * deep, multiply), unrolled(z_size, read)
    begin_both, apply_both, copy = unrolled(2, begin), unrolled(2, apply), unrolled(z_size, _copy)

    @kernel(threads)
    def forward_registers(cell, layer):
        weights, lengths = cuda.local.array(weights_size, np.uint32), cuda.local.array(2, np.int64)
        z, following = cuda.local.array(sums_size, np.float32), cuda.local.array(z_size, np.float32)
        c = cuda.local.array(c_size, np.float32)
        h_tile = cuda.shared.array(h_size, element)
        batch, steps, units = layer.y.shape
        thread = cuda.threadIdx.x
        lane, warp, row = thread % 32, thread // 32, cuda.blockIdx.x * ROWS
        column = lane % 4 * 2
        unit, n = warp * 8 + lane // 4, row + column
        hold_all((cell, units, weights, cuda.shared.array(part_size, element)))
        for i in range(thread, ROWS * width, threads):
            r, k = i // width, i % width
            inside = row + r < batch and k < units
            h = load(layer.h0, (row + r) * units + k) if inside else np.float32(0)
            store(h_tile, r * pitch + k, bits(h))
        begin_both((layer, unit, n, c, lengths))
        store(z, z_size, np.float32(0))
        store(z, z_size + 1, np.float32(0))
        read_all((layer, 0, unit, n, following))
        cuda.syncthreads()
        for t in range(steps):
            now, then = t % 2 * ROWS, (t + 1) % 2 * ROWS
            copy((following, z))
            read_all((layer, min(t + 1, steps - 1), unit, n, following))
            multiply_all((weights, h_tile, now, lane, z))
            apply_both((cell, layer, t, unit, n, z, c, lengths, h_tile, then + column))
            cuda.syncthreads()  # the next step reads what all threads wrote to h_tile

    return forward_registers


def backward_registers(kind: type[Cell], precision: str, width: int):
    """Return the kernel (cell, layer, gradients) that takes a layer in float32 back through all steps.

    precision : of FORMATS; width : `padded` units. Blocks: ROWS sequences

    A fragment a has 16 units, to which gradients come, and along k those of all slots one after the other, from which they
    come. So a thread has two units, 8 apart, of two sequences: unit i // 2 and sequence i % 2 of these for i in 0..3.
    """
    (first, count), slots, states = kind.h_slots, kind.slots, kind.states
    h_is_state, blocks = kind.h_is_state, packed(kind.rows[1, first : first + count])
    given = FORMATS[precision]
    bits, mma, depth = given.bits, given.mma, given.depth
    pitch, deep = count * width + given.pad, count * width // depth
    element, threads = given.element, backward_threads(width)
    weights_size, z_size, c_size, tile_size = 4 * deep, 4 * slots, 4 * max(states, 1), 2 * ROWS * pitch
    backward = scalar(kind.backward, **of_type(kind, False))
    read_slots, read_states = reader(slots), reader(states)
    read_four = reader(4)

    @device
    def weight(cell, units, row, k):
        slot, unit = k // width, k % width
        inside = row < units and unit < units
        return load(cell.h, (digit(blocks, slot) * units + unit) * units + row) if inside else np.float32(0)

    hold, part_size = _holder(given, weight, 1, width // 16, False)
    _, right_fragment = fragments(given, pitch)

    @device
    def multiply(arguments, k):
        weights, dz_tile, row, lane, sums = arguments
        at, b = k % 2 * 4, right_fragment(dz_tile, row, k * depth, lane)  # two sums, for none waits for itself
        store_all(sums, at, 1, mma(read_four(weights, 4 * k, 1), b, read_four(sums, at, 1)))

    @device
    def begin(arguments, i):
        """Read what one of four states and their gradients begins with."""
        layer, gradients, unit, n, lengths, c, dc, dh = arguments
        batch, steps, units = layer.y.shape
        row, j = n + i % 2, unit + i // 2 * 8
        store(lengths, i, np.int64(-1))  # of what does not exist
        if row < batch and j < units:
            store(lengths, i, load(layer.lengths, row))
            store(dh, i, load(gradients.dh, row * units + j))
            store_all(dc, i * states, 1, read_states(gradients.dc, row * states * units + j, units))
            c_at = (row * (steps + 1) + steps) * states * units + j
            store_all(c, i * states, 1, read_states(layer.c, c_at, units))

    @device
    def read(arguments, i):
        """Read for one of four what a step needs: what the cell kept, the states before the step, and dy."""
        layer, gradients, t, unit, n, lengths, z, c, dy = arguments
        _, steps, units = layer.y.shape
        if t >= 0 and load(lengths, i) >= 0:
            row, j = n + i % 2, unit + i // 2 * 8
            z_at, c_at = (row * steps + t) * slots * units + j, (row * (steps + 1) + t) * states * units + j
            store_all(z, i * slots, 1, read_slots(layer.z, z_at, units))
            store_all(c, i * states, 1, read_states(layer.c, c_at, units))
            store(dy, i, load(gradients.dy, (row * steps + t) * units + j))

    @device
    def turn(arguments, i):
        """Bring for one of four what was read ahead to where it is used."""
        t, lengths, z_ahead, c_ahead, dy_ahead, z, before, after, dy = arguments
        if t >= 0 and load(lengths, i) >= 0:
            store_all(z, i * slots, 1, read_slots(z_ahead, i * slots, 1))
            store_all(after, i * states, 1, read_states(before, i * states, 1))
            store_all(before, i * states, 1, read_states(c_ahead, i * states, 1))
            store(dy, i, load(dy_ahead, i))

    @device
    def bring(arguments, i):
        """Bring one of four dh to its step. The gradient of the last state waits where it is until the last step."""
        t, lengths, sums, dh = arguments
        if t + 1 < load(lengths, i):
            store(dh, i, load(sums, i) + load(sums, i + 4))

    @device
    def apply(arguments, i):
        """Apply the cell's adjoint to one of four."""
        cell, layer, t, unit, n, lengths, z, before, after, dy, dh, dc, dz_tile, dz_row = arguments
        _, steps, units = layer.y.shape
        row, j, length = n + i % 2, unit + i // 2 * 8, load(lengths, i)
        if t < length:
            dz, dstates = backward(
                cell,
                j,
                read_slots(z, i * slots, 1),
                read_states(before, i * states, 1),
                read_states(after, i * states, 1),
                load(dh, i) + load(dy, i),
                read_states(dc, i * states, 1),
            )
            store_all(z, i * slots, 1, dz)
            store_all(dc, i * states, 1, dstates)
        else:
            for slot in range(slots):
                store(z, i * slots + slot, np.float32(0))
        if length >= 0:
            store_all(layer.z, (row * steps + t) * slots * units + j, units, read_slots(z, i * slots, 1))
        for slot in range(count):
            at = (dz_row + i % 2) * pitch + slot * width + j
            store(dz_tile, at, bits(load(z, i * slots + first + slot)))

    @device
    def end(arguments, i):
        """Write the gradients of one of four initial states."""
        layer, gradients, unit, n, lengths, dc, dh = arguments
        units, row, j = layer.y.shape[2], n + i % 2, unit + i // 2 * 8
        if load(lengths, i) >= 0:
            part = load(dc, i * states + states - 1) if h_is_state else np.float32(0)
            store(gradients.dh, row * units + j, load(dh, i) + part)
            store_all(gradients.dc, row * states * units + j, units, read_states(dc, i * states, 1))

    hold_all, multiply_all, clear = unrolled(deep, hold), unrolled(deep, multiply), unrolled(8, _clear)
    begin_all, read_all, turn_all, bring_all, apply_all, end_all = (
        unrolled(4, body) for body in (begin, read, turn, bring, apply, end)
    )

    @kernel(threads)
    def backward_registers(cell, layer, gradients):
        weights, lengths = cuda.local.array(weights_size, np.uint32), cuda.local.array(4, np.int64)
        z, z_ahead = cuda.local.array(z_size, np.float32), cuda.local.array(z_size, np.float32)
        dy, dy_ahead = cuda.local.array(4, np.float32), cuda.local.array(4, np.float32)
        after, before = cuda.local.array(c_size, np.float32), cuda.local.array(c_size, np.float32)
        c_ahead, dc = cuda.local.array(c_size, np.float32), cuda.local.array(c_size, np.float32)
        dh, sums = cuda.local.array(4, np.float32), cuda.local.array(8, np.float32)
        dz_tile = cuda.shared.array(tile_size, element)
        steps, units = layer.y.shape[1], layer.y.shape[2]
        lane, warp = cuda.threadIdx.x % 32, cuda.threadIdx.x // 32
        column = lane % 4 * 2
        unit, n = warp * 16 + lane // 4, cuda.blockIdx.x * ROWS + column
        hold_all((cell, units, weights, cuda.shared.array(part_size, element)))
        begin_all((layer, gradients, unit, n, lengths, before, dc, dh))
        read_all((layer, gradients, steps - 1, unit, n, lengths, z_ahead, c_ahead, dy_ahead))
        for back in range(steps + 1):
            t, now, then = steps - 1 - back, back % 2 * ROWS, (back + 1) % 2 * ROWS
            turn_all((t, lengths, z_ahead, c_ahead, dy_ahead, z, before, after, dy))
            read_all((layer, gradients, t - 1, unit, n, lengths, z_ahead, c_ahead, dy_ahead))
            if back > 0:
                clear(sums)
                multiply_all((weights, dz_tile, now, lane, sums))
                bring_all((t, lengths, sums, dh))
            if t >= 0:
                apply_all((cell, layer, t, unit, n, lengths, z, before, after, dy, dh, dc, dz_tile, then + column))
                cuda.syncthreads()  # the next step reads what all threads wrote to dz_tile
        end_all((layer, gradients, unit, n, lengths, dc, dh))

    return backward_registers


@device
def _copy(arguments, i):
    source, target = arguments
    store(target, i, load(source, i))


@device
def _clear(sums, i):
    store(sums, i, np.float32(0))
