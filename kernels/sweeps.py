"""The loops over time of one recurrent layer, forward and backward, in parts.

A part is a range of batch rows, which are independent, or, where rows are too few for that, a range of hidden units of all
rows: then the parts meet after every step. Any split gives the same bits. The caller hands over everything; nothing is
allocated. Sequences may differ in length: see `ragged`, which all functions here take in the form that is described there.

A pass runs over a window of the steps: x, dy and dx hold all steps, c and z those of the window, y those from a step of its
own on. So a sequence can be taken in pieces, for each of which what a backward pass needs is computed again.
"""

from typing import Any, NamedTuple

from .cells import cell_forward, load_slots, load_states, panel, places, store_all
from .compiling import inlined, jit
from .memory import constant_row, load, pointer, store
from .norm import add_second, gradients_before_cell, gradients_of_products, of_second, sums_of_products
from .products import packed_product, padded_product
from .ragged import end_of, row_of, rows_at, rows_of_part
from .simd import lanes
from .subnormal import put_back, take_for_zeros
from .team import join, meet
from .tile import ROWS, VECTORS, Left, Out, Right, panel_product, panel_products
from .units import backward_units, first_backward_units, first_units, forward_units
from .zoneout import arrived

# Steps are taken in blocks: what a block leaves behind is read again while it is still in the second-level cache. A block
# has at least so many rows times steps that the input weights, read once a block, do not slow it down.
BLOCK_ELEMENTS = 1 << 16
BLOCK_ROWS = 128


class Window(NamedTuple):
    """Steps `start` to `stop` of `steps` that the longest sequence has, which are `pairs` of a row and a step.

    y holds those from `y_start` on; x, for gradients of weights alone, those from `x_start` on, elsewhere all.
    """

    start: Any
    stop: Any
    y_start: Any
    steps: Any
    pairs: Any
    x_start: Any


@jit
def block_steps(rows, numbers, least):
    """Return how many steps of `rows` sequences make up a block, with so many numbers in the slots of a step."""
    rows = max(1, rows)
    return max(BLOCK_ELEMENTS // (rows * numbers), BLOCK_ROWS // rows, least)


@jit
def _share(total, parts, part):
    return total * part // parts, total * (part + 1) // parts


@jit
def forward_part(tile, recurrent, team, threads, window, ragged, cell, x, h0, h, y, c, z, u, keep, start, stop):
    """Run a part of one layer over time: rows (ragged.rows_of_part), or as a member of a team some hidden units of all.

    recurrent : address of the panel product for cell.h, as `tile` is for cell.x
    team : team.new_team; empty for none
    threads : how many members the team can be expected to have
    window : Window of S steps
    cell : packed parameters (cells.Cell)
    x : (N, T, I)
    h0 : (N, H), the state before the window
    h : (2N, K), with what the products see of it in the first N rows, by length, overwritten: h and the states that the
        cell lets be seen; or (0, K) where they see h itself, in the order of y
    y : (N, S or more, H)  written: h of every step
    c : (N, S+1, states, H') with `keep`, else (N, 1, states, H')  the first holds the initial ones; what follows is written;
        with options a slot more than states
    z : (N, S, slots, H') with `keep`, else (N, any number of steps, slots, H')  written: what the cell keeps
    u : (N, S, H) with `keep`, else (N, 1, H)  written: what the cell's second product sees, rows by length; None without one
    keep : whether all steps' c, z and u are stored, for the backward pass
    """
    rank, members = join(team, threads)
    if rank < 0:
        return
    start, stop = (0, x.shape[0]) if team.size > 0 else rows_of_part(ragged, start, stop)
    if start == stop:
        return
    (p0, p1), normed, meets = _share(cell.h.shape[0], members, rank), places(cell).normed, places(cell).meets
    least = 1 if ragged.shape[1] == 0 else ROWS  # rows lie anywhere: tiles run along time alone
    block = block_steps(stop - start, z.shape[2] * z.shape[3], least) if keep else z.shape[1]
    end, rows = end_of(ragged, window, start), stop
    for t0 in range(window.start, end, block):
        t1 = min(end, t0 + block)
        first = window.start if keep else t0  # the step that slot 0 of z holds
        rows = rows_at(ragged, t0, start, rows)
        _project_inputs(tile, window, ragged, cell, cell.norm, x, z, first, t0, t1, start, rows, p0, p1)
        for t in range(t0, t1):
            rows = rows_at(ragged, t, start, rows)
            done, slot = t - window.start, t - first
            options, norm, share = cell.options, cell.norm, (start, rows, p0, p1)
            _forward_step(
                recurrent, team, members, window, ragged, cell, options, norm, x, h0, h, y, c, z, u, slot, keep, t, *share
            )
            if u is not None:
                meet(team, members, done * meets + 1 + normed)
                share, then = (start, rows, *_share(cell.second.shape[0], members, rank)), of_second(cell)
                _second_step(
                    tile, team, members, window, ragged, cell, options, then, x, h0, h, y, c, z, u, slot, keep, t, *share
                )
            meet(team, members, (done + 1) * meets)


@jit
def _project_inputs(tile, window, ragged, cell, norm, x, z, first, t0, t1, start, stop, p0, p1):
    """Begin z with ``x W + b``, panels p0 to p1 of steps t0 to t1; tiles run along the longer of time and batch.

    With `norm`, the product alone is written, to its slots.
    """
    width, to = lanes(x), places(cell)
    steps, inputs = x.shape[1], x.shape[2]
    units = z.shape[3]
    z_step, z_row = to.slots * units, z.shape[1] * to.slots * units
    for p in range(p0, p1):
        j, some, apart = panel(cell, p, units, width)
        for gate in range(0, to.x_count, VECTORS):  # a tile takes so many
            vectors = min(VECTORS, to.x_count - gate) * some
            at = (to.x_first + gate) * units + j
            right = Right(pointer(cell.x, p * inputs * cell.x.shape[2] + gate * width), cell.x.shape[2], 0)
            init = Out(pointer(cell.b, at) if norm is None else constant_row(z, 0), 0, apart if norm is None else width)
            if ragged.shape[1] > 0 or t1 - t0 >= stop - start:
                for n in range(start, stop):
                    count = min(t1, end_of(ragged, window, n)) - t0
                    out = Out(pointer(z, n * z_row + (t0 - first) * z_step + at), z_step, apart)
                    left = Left(pointer(x, (row_of(ragged, n) * steps + t0) * inputs), inputs, 1, 0)
                    panel_product(tile, count, vectors, out, init, left, right, inputs, 1)
            else:
                for t in range(t0, t1):
                    out = Out(pointer(z, start * z_row + (t - first) * z_step + at), z_row, apart)
                    left = Left(pointer(x, (start * steps + t) * inputs), steps * inputs, 1, 0)
                    panel_product(tile, stop - start, vectors, out, init, left, right, inputs, 1)
        if norm is None:
            for slot in range(to.slots):
                if slot < to.x_first or slot >= to.x_first + to.x_count:  # of the bias alone
                    bias = load(cell.b, slot * units + j)
                    for n in range(start, stop):
                        for t in range(t0, min(t1, end_of(ragged, window, n))):
                            store(z, n * z_row + (t - first) * z_step + slot * units + j, bias)


@inlined
def _forward_step(
    recurrent, team, members, window, ragged, cell, options, norm, x, h0, h, y, c, z, u, slot, keep, t, start, stop, p0, p1
):
    """Add the recurrent product to panels p0 to p1 of step `t` of z and apply the cell, a vector of units at a time.

    Of a cell with a second product, whose u it writes, that is the first part.
    """
    width, to = lanes(y), places(cell)
    hidden, units, k_end = y.shape[2], z.shape[3], cell.h.shape[1]
    y_row, y_at = y.shape[1] * hidden, (t - window.y_start) * hidden
    z_row, z_at = z.shape[1] * to.slots * units, slot * to.slots * units
    half = (t - window.start) % 2 * y.shape[0]  # of h, where that of the step before is
    if h.shape[0] > 0:
        left = Left(pointer(h, (half + start) * k_end), k_end, 1, 0)
    elif t == window.start:
        left = Left(pointer(h0, start * hidden), hidden, 1, 0)
    else:
        left = Left(pointer(y, start * y_row + y_at - hidden), y_row, 1, 0)
    whole = p0 + max(0, min(p1, units // (to.spread * width)) - p0) // 2 * 2 if stop - start == 1 else p0
    if norm is not None:
        of_gates, part = (hidden if u is None else u.shape[2]), (start, stop, p0, p1, whole)
        sums_of_products(recurrent, team, members, cell, norm, left, of_gates, z, t - window.start, slot, keep, *part)
    for p in range(p0, p1):
        j, some, apart = panel(cell, p, units, width)
        if norm is None and (p >= whole or (p - p0) % 2 == 0):
            second = to.spread * width, to.spread * width, k_end * cell.h.shape[2] * (p < whole)
            for gate in range(0, to.h_count, VECTORS):
                vectors = min(VECTORS, to.h_count - gate) * some
                out = Out(pointer(z, start * z_row + z_at + (to.h_first + gate) * units + j), z_row, apart)
                right = Right(pointer(cell.h, p * k_end * cell.h.shape[2] + gate * width), cell.h.shape[2], 0)
                panel_products(recurrent, stop - start, vectors, out, out, left, right, k_end, 1, second)
        for n in range(start, stop):
            for unit in range(j, j + some * width, width):
                if u is None:
                    forward_units(window, ragged, cell, options, x.shape[1], h0, h, y, c, z, slot, keep, t, n, unit)
                else:
                    first_units(window, ragged, cell, options, x.shape[1], c, z, u, slot, keep, t, n, unit)


@jit
def _second_step(
    tile, team, members, window, ragged, cell, options, norm, x, h0, h, y, c, z, u, slot, keep, t, start, stop, q0, q1
):
    """Add the second product to panels q0 to q1 of the first slot of step `t` of z and apply the cell."""
    width, units, hidden, inputs = lanes(y), z.shape[3], y.shape[2], u.shape[2]
    z_row, z_at, u_row = z.shape[1] * z.shape[2] * units, slot * z.shape[2] * units, u.shape[1] * inputs
    j0, j1 = q0 * VECTORS * width, min(q1 * VECTORS * width, -(-hidden // width) * width)
    left = Left(pointer(u, start * u_row + (t - window.start if keep else 0) * inputs), u_row, 1, 0)
    out = Out(pointer(z, start * z_row + z_at + places(cell).second * units), z_row, width)
    init = out if norm is None else Out(constant_row(z, 0), 0, width)
    for q in range(q0, q1):
        padded_product(tile, stop - start, hidden, out, init, left, cell.second, 0, 1, q, q0, q1)
    if norm is not None:
        add_second(team, members, cell, norm, z, t - window.start, slot, keep, hidden, start, stop, j0, j1)
    for n in range(start, stop):
        for unit in range(j0, j1, width):
            forward_units(window, ragged, cell, options, x.shape[1], h0, h, y, c, z, slot, keep, t, n, unit)


@jit
def recompute_part(tile, window, ragged, cell, x, h0, y, c, z, p0, p1):
    """Compute the gates of a window once more from the outputs, which are known: panels p0 to p1 of hidden units.

    Without a step that waits for the one before, the products run along time as well as the batch. Arguments are those of
    forward_part with `keep`, except that y is read, and h0 with rows by length; c and z get the same bits. For cells without
    options and normalisation, of which the products see nothing but h.
    """
    rows, first, hidden, to = rows_at(ragged, window.start, 0, x.shape[0]), window.start, y.shape[2], places(cell)
    width, units, steps = lanes(y), z.shape[3], window.stop - window.start
    z_step, z_row, y_row = to.slots * units, z.shape[1] * to.slots * units, y.shape[1] * hidden
    y_at, c_step = (first - window.y_start) * hidden, to.states * units
    _project_inputs(tile, window, ragged, cell, None, x, z, first, first, window.stop, 0, rows, p0, p1)
    for p in range(p0, p1):
        j, some, apart = panel(cell, p, units, width)
        for gate in range(0, to.h_count, VECTORS):
            vectors, at = min(VECTORS, to.h_count - gate) * some, (to.h_first + gate) * units + j
            right = Right(pointer(cell.h, p * hidden * cell.h.shape[2] + gate * width), cell.h.shape[2], 0)
            out = Out(pointer(z, at), z_row, apart)
            panel_product(tile, rows, vectors, out, out, Left(pointer(h0, 0), hidden, 1, 0), right, hidden, 1)
            if ragged.shape[1] > 0 or steps > rows:
                for n in range(rows):
                    count = end_of(ragged, window, n) - first - 1
                    out = Out(pointer(z, n * z_row + z_step + at), z_step, apart)
                    left = Left(pointer(y, row_of(ragged, n) * y_row + y_at), hidden, 1, 0)
                    panel_product(tile, count, vectors, out, out, left, right, hidden, 1)
            else:
                for t in range(1, steps):
                    out = Out(pointer(z, t * z_step + at), z_row, apart)
                    left = Left(pointer(y, y_at + (t - 1) * hidden), y_row, 1, 0)
                    panel_product(tile, rows, vectors, out, out, left, right, hidden, 1)
        for n in range(rows):
            for t in range(end_of(ragged, window, n) - first):
                for unit in range(j, j + some * width, width):
                    at, state_at = n * z_row + t * z_step + unit, (n * c.shape[1] + t) * c_step + unit
                    slots, before = load_slots(cell, z, at, units), load_states(cell, c, state_at, units)
                    kept, after, _ = cell_forward(cell, unit, slots, before)
                    store_all(c, state_at + c_step, units, after)
                    store_all(z, at, units, kept)


@jit
def backward_part(tile, team, threads, window, ragged, cell, u, w, second, dy, dh, dc, c, z, dx, start, stop):
    """Run a part of one layer back through time: some rows, or as a member of a team some units of all rows.

    Gradients that fade to subnormal numbers are taken for zeros.

    team, threads, window, start, stop : as in forward_part
    u : recurrent weights (G H, K), in sets of H columns, and w : input weights (G H, I), by layout.pack_columns, gates in
        the order of their slots
    second : weights of the second product, by layout.pack_columns; None without one
    dy : (N, T, H), or (1, 1, H) where it is the same at every step
    dh : (N, H'), dc : (N, states, H'), with options a slot more  gradients of the states after the window, zero in the
        padding and in that slot; overwritten with those before it
    c : (N, S+1, states, H'), as forward_part left it
    z : (N, S, slots, H')  what the cell kept; overwritten with the gradients of the pre-activations, and of both products
        where these are normalised
    dx : (N, T, I)  written in the window; with I = 0 the inputs' gradient is left out
    """
    rank, members = join(team, threads)
    if rank < 0:
        return
    start, stop = (0, z.shape[0]) if team.size > 0 else rows_of_part(ragged, start, stop)
    if start == stop:
        return
    mode = take_for_zeros()
    (q0, q1), meets = _share(u.shape[0] // (1 + places(cell).seen), members, rank), places(cell).meets
    least = 1 if ragged.shape[1] == 0 else ROWS  # rows lie anywhere: tiles run along time alone
    block = block_steps(stop - start, z.shape[2] * z.shape[3], least)
    end = end_of(ragged, window, start)
    t1, rows = end, start
    while t1 > window.start:
        t0 = max(window.start, t1 - block)
        for t in range(t1 - 1, t0 - 1, -1):
            later, rows = rows, rows_at(ragged, t, start, stop)
            place = t, end, start, rows, later, q0, q1
            if second is None:
                _backward_step(
                    tile, team, members, window, ragged, cell, cell.options, cell.norm, u, dy, dh, dc, c, z, dx, *place
                )
            else:
                then, part = of_second(cell), (t, end, start, rows, *_share(second.shape[0], members, rank))
                _backward_step(
                    tile, team, members, window, ragged, cell, cell.options, then, u, dy, dh, dc, c, z, dx, *place
                )
                meet(team, members, (end - 1 - t) * meets + 1 + (places(cell).second > 0))
                _first_backward_step(
                    tile, team, members, window, ragged, cell, cell.options, cell.norm, u, second, dh, dc, c, z, dx, *part
                )
            meet(team, members, (end - t) * meets)
        if dx.shape[2] > 0:
            p0, p1 = _share(w.shape[0], members, rank)
            _input_gradient(tile, window, ragged, cell, w, dx, z, t0, t1, start, rows, p0, p1)
        t1 = t0
    _recurrent_products(tile, ragged, cell, cell.options, u, dh, dc, z, q0, q1, 0, start, rows)
    put_back(mode)


@jit
def _recurrent_products(tile, ragged, cell, options, u, dh, dc, z, q0, q1, slot, start, stop):
    """Write ``dh = dz U``, with dz of one step of z, and what else reaches h before it, for panels q0 to q1 of units.

    The gradients of states that the product sees are written likewise, to their places in dc.
    """
    width, to = lanes(z), places(cell)
    units, panel, panels = z.shape[3], VECTORS * width, u.shape[0] // (1 + to.seen)
    z_step, z_row = to.slots * units, z.shape[1] * to.slots * units
    left = Left(pointer(z, start * z_row + slot * z_step + to.h_first * units), z_row, 1, units)
    init = Out(constant_row(z, 0), 0, width)
    for part in range(1 + to.seen):
        out = Out(pointer(dh, start * units), units, width)
        if part > 0:
            out = Out(pointer(dc, (start * dc.shape[1] + part) * units), dc.shape[1] * units, width)
        for q in range(q0, q1):
            padded_product(tile, stop - start, units, out, init, left, u, part * panels, to.h_count, q, q0, q1)
    if options is not None:
        for n in range(start, stop):
            for j in range(q0 * panel, min(q1 * panel, units), width):
                dc_at = n * dc.shape[1] * units + j
                row, hidden = row_of(ragged, n), options.mask.shape[1]
                whole_dh = arrived(cell, options, row, dc, dc_at, units, j, hidden, load(dh, n * units + j))
                store(dh, n * units + j, whole_dh)


@jit
def _backward_step(
    tile, team, members, window, ragged, cell, options, norm, u, dy, dh, dc, c, z, dx, t, end, start, stop, later, q0, q1
):
    """Bring dh from step t + 1 to step t and apply the cell's adjoint, for panels q0 to q1 of hidden units.

    Rows `start` to `later` take part in step t + 1, too; for the others dh is that of their last state. The first step, from
    the `end` on, is end - 1. norm : of the product that comes right before the cell, None where that is not normalised
    """
    width = lanes(z)
    if later > start:
        _recurrent_products(tile, ragged, cell, options, u, dh, dc, z, q0, q1, t + 1 - window.start, start, later)
    for q in range(q0, q1):
        vectors = min(VECTORS, -(-dy.shape[2] // width) - q * VECTORS)
        for n in range(start, stop):
            for v in range(vectors):
                unit = (q * VECTORS + v) * width
                backward_units(window, ragged, cell, options, dx.shape[1], dy, dh, dc, c, z, t, n, unit)
    if norm is not None:
        j0, j1 = q0 * VECTORS * width, min(q1 * VECTORS * width, z.shape[3])
        place = end - 1 - t, t - window.start, dy.shape[2], start, stop, j0, j1
        gradients_before_cell(team, members, cell, norm, z, *place)


@jit
def _first_backward_step(
    tile, team, members, window, ragged, cell, options, norm, u, second, dh, dc, c, z, dx, t, end, start, stop, q0, q1
):
    """Write ``du = dz W`` of the second product to dh, which nobody needs any more, and apply the first part's adjoint."""
    width, to, units, hidden = lanes(z), places(cell), z.shape[3], u.shape[1] // places(cell).h_count
    z_row = z.shape[1] * to.slots * units
    left = Left(pointer(z, start * z_row + ((t - window.start) * to.slots + to.second) * units), z_row, 1, 0)
    out, init = Out(pointer(dh, start * units), units, width), Out(constant_row(z, 0), 0, width)
    for q in range(q0, q1):
        vectors = padded_product(tile, stop - start, units, out, init, left, second, 0, 1, q, q0, q1)
        for n in range(start, stop):
            for v in range(vectors):
                unit = (q * VECTORS + v) * width
                first_backward_units(window, ragged, cell, options, dx.shape[1], hidden, dh, dc, c, z, t, n, unit)
    if norm is not None:
        j0, j1 = q0 * VECTORS * width, min(q1 * VECTORS * width, units)
        gradients_of_products(team, members, cell, norm, z, end - 1 - t, t - window.start, hidden, start, stop, j0, j1)


@jit
def _input_gradient(tile, window, ragged, cell, w, dx, z, t0, t1, start, stop, p0, p1):
    """Write panels p0 to p1 of ``dx = dz W`` for steps t0 to t1; tiles run along the longer of time and batch."""
    to, first = places(cell), window.start
    steps, units, inputs = dx.shape[1], z.shape[3], dx.shape[2]
    z_step, z_row, z_at = to.slots * units, z.shape[1] * to.slots * units, to.x_first * units
    width, zeros = lanes(z), constant_row(z, 0)
    for p in range(p0, p1):
        if ragged.shape[1] > 0 or t1 - t0 >= stop - start:
            for n in range(start, stop):
                count = min(t1, end_of(ragged, window, n)) - t0
                out = Out(pointer(dx, (row_of(ragged, n) * steps + t0) * inputs), inputs, width)
                left = Left(pointer(z, n * z_row + (t0 - first) * z_step + z_at), z_step, 1, units)
                packed_product(tile, count, out, inputs, zeros, left, w, p, to.x_count)
        else:
            for t in range(t0, t1):
                out = Out(pointer(dx, (start * steps + t) * inputs), steps * inputs, width)
                left = Left(pointer(z, start * z_row + (t - first) * z_step + z_at), z_row, 1, units)
                packed_product(tile, stop - start, out, inputs, zeros, left, w, p, to.x_count)
