"""The loops over time of one recurrent layer, forward and backward, in parts.

A part is a range of batch rows, which are independent, or, where rows are too few for that, a range of hidden units of all
rows: then the parts meet after every step. Any split gives the same bits. The caller hands over everything; nothing is
allocated.

A pass runs over a window of the steps: x, dy and dx hold all steps, c and z those of the window, y those from a step of its
own on. So a sequence can be taken in pieces, for each of which what a backward pass needs is computed again.
"""

from typing import Any, NamedTuple

from .cells import cell_backward, cell_forward
from .compiling import jit
from .products import packed_product
from .simd import constant_row, lanes, load, load_first, pointer, store, store_first
from .team import join, meet
from .tile import VECTORS, Left, Out, Right, panel_product

# Steps are taken in blocks: what a block leaves behind is read again while it is still in the second-level cache. A block
# has at least so many rows times steps that the input weights, read once a block, do not slow it down.
BLOCK_ELEMENTS = 1 << 16
BLOCK_ROWS = 64


class Window(NamedTuple):
    """Steps `start` to `stop` of a sequence, of which y holds those from `y_start` on."""

    start: Any
    stop: Any
    y_start: Any


@jit
def block_steps(rows, units):
    """Return how many steps of `rows` sequences with gates of `units` units each make up a block."""
    rows = max(1, rows)
    return max(BLOCK_ELEMENTS // (rows * 4 * units), BLOCK_ROWS // rows, 1)


@jit
def _share(total, parts, part):
    return total * part // parts, total * (part + 1) // parts


@jit
def forward_part(tile, team, threads, window, cell, x, h0, y, c, z, keep, start, stop):
    """Run a part of one layer over time: rows `start` to `stop`, or as a member of a team some hidden units of all rows.

    team : team.new_team; empty for none
    threads : how many members the team can be expected to have
    window : Window of S steps
    cell : packed parameters (cells.LSTM)
    x : (N, T, I); h0 : (N, H), the state before the window
    y : (N, S or more, H)  written: h of every step
    c : (N, S+1, H') with `keep`, else (N, 1, H')  slot 0 holds the initial state; the next slots, or slot 0, are written
    z : (N, S, 4, H') with `keep`, else (N, any number of steps, 4, H')  written: the gates, after activation
    keep : whether all steps' c and z are stored, for the backward pass
    """
    rank, members = join(team, threads)
    if rank < 0:
        return
    if team.size > 0:
        start, stop = 0, x.shape[0]
    p0, p1 = _share(cell.h.shape[0], members, rank)
    block = block_steps(stop - start, z.shape[3]) if keep else z.shape[1]
    for t0 in range(window.start, window.stop, block):
        t1 = min(window.stop, t0 + block)
        first = window.start if keep else t0  # the step that slot 0 of z holds
        _project_inputs(tile, cell, x, z, first, t0, t1, start, stop, p0, p1)
        for t in range(t0, t1):
            _forward_step(tile, window, cell, h0, y, c, z, t - first, keep, t, start, stop, p0, p1)
            meet(team, members, t + 1 - window.start)


@jit
def _project_inputs(tile, cell, x, z, first, t0, t1, start, stop, p0, p1):
    """Write ``z = x W + b`` of panels p0 to p1 for steps t0 to t1; tiles run along the longer of time and batch."""
    width = lanes(x)
    steps, inputs = x.shape[1], x.shape[2]
    units = z.shape[3]
    z_step, z_row = 4 * units, z.shape[1] * 4 * units
    for p in range(p0, p1):
        right = Right(pointer(cell.x, p * inputs * VECTORS * width), VECTORS * width, 0)
        init = Out(pointer(cell.b, p * width), 0, units)
        if t1 - t0 >= stop - start:
            for n in range(start, stop):
                out = Out(pointer(z, n * z_row + (t0 - first) * z_step + p * width), z_step, units)
                left = Left(pointer(x, (n * steps + t0) * inputs), inputs, 1, 0)
                panel_product(tile, t1 - t0, VECTORS, out, init, left, right, inputs, 1)
        else:
            for t in range(t0, t1):
                out = Out(pointer(z, start * z_row + (t - first) * z_step + p * width), z_row, units)
                left = Left(pointer(x, (start * steps + t) * inputs), steps * inputs, 1, 0)
                panel_product(tile, stop - start, VECTORS, out, init, left, right, inputs, 1)


@jit
def _forward_step(tile, window, cell, h0, y, c, z, slot, keep, t, start, stop, p0, p1):
    """Add the recurrent product to panels p0 to p1 of step `t` of z and apply the cell, a vector of units at a time."""
    width = lanes(y)
    hidden, units = y.shape[2], z.shape[3]
    y_row, y_at = y.shape[1] * hidden, (t - window.y_start) * hidden
    z_row, z_at = z.shape[1] * 4 * units, slot * 4 * units
    c_row, c_step = c.shape[1] * units, units if keep else 0
    for p in range(p0, p1):
        j = p * width
        out = Out(pointer(z, start * z_row + z_at + j), z_row, units)
        right = Right(pointer(cell.h, p * hidden * VECTORS * width), VECTORS * width, 0)
        if t == window.start:
            left = Left(pointer(h0, start * hidden), hidden, 1, 0)
        else:
            left = Left(pointer(y, start * y_row + y_at - hidden), y_row, 1, 0)
        panel_product(tile, stop - start, VECTORS, out, out, left, right, hidden, 1)
        for n in range(start, stop):
            at, c_at = n * z_row + z_at + j, n * c_row + (t - window.start) * c_step + j
            h = _apply_cell(cell, z, at, c, c_at, c_at + c_step, keep)
            store_first(y, n * y_row + y_at + j, h, hidden - j)


@jit
def _apply_cell(cell, z, at, c, c_at, c_next, keep):
    """Return h of one vector of units from the pre-activations at `at` of z; write c and, with `keep`, the gates to z."""
    units = z.shape[3]
    i, f, g, o, state, h = cell_forward(
        cell,
        load(z, at),
        load(z, at + units),
        load(z, at + 2 * units),
        load(z, at + 3 * units),
        load(c, c_at),
    )
    store(c, c_next, state)
    if keep:
        store(z, at, i)
        store(z, at + units, f)
        store(z, at + 2 * units, g)
        store(z, at + 3 * units, o)
    return h


@jit
def recompute_part(tile, window, cell, x, h0, y, c, z, p0, p1):
    """Compute the gates of a window once more from the outputs, which are known: panels p0 to p1 of hidden units.

    Without a step that waits for the one before, the products run along time as well as the batch. Arguments are those of
    forward_part with `keep`, except that y is read; c and z get the same bits.
    """
    rows, first, hidden = x.shape[0], window.start, y.shape[2]
    width, units, steps = lanes(y), z.shape[3], window.stop - window.start
    z_step, z_row, y_row = 4 * units, z.shape[1] * 4 * units, y.shape[1] * hidden
    y_at = (first - window.y_start) * hidden
    _project_inputs(tile, cell, x, z, first, first, window.stop, 0, rows, p0, p1)
    for p in range(p0, p1):
        j = p * width
        right = Right(pointer(cell.h, p * hidden * VECTORS * width), VECTORS * width, 0)
        out = Out(pointer(z, j), z_row, units)
        panel_product(tile, rows, VECTORS, out, out, Left(pointer(h0, 0), hidden, 1, 0), right, hidden, 1)
        if steps > rows:
            for n in range(rows):
                out = Out(pointer(z, n * z_row + z_step + j), z_step, units)
                left = Left(pointer(y, n * y_row + y_at), hidden, 1, 0)
                panel_product(tile, steps - 1, VECTORS, out, out, left, right, hidden, 1)
        else:
            for t in range(1, steps):
                out = Out(pointer(z, t * z_step + j), z_row, units)
                left = Left(pointer(y, y_at + (t - 1) * hidden), y_row, 1, 0)
                panel_product(tile, rows, VECTORS, out, out, left, right, hidden, 1)
        for n in range(rows):
            for t in range(steps):
                c_at = (n * c.shape[1] + t) * units + j
                _apply_cell(cell, z, n * z_row + t * z_step + j, c, c_at, c_at + units, True)


@jit
def backward_part(tile, team, threads, window, cell, u, w, dy, dh, dc, c, z, dx, start, stop):
    """Run a part of one layer back through time: rows `start` to `stop`, or as a member of a team some units of all rows.

    team, threads, window : as in forward_part
    u : recurrent weights (4H, H) and w : input weights (4H, I), by layout.pack_columns; w unused without dx
    dy : (N, T, H), or (1, 1, H) where it is the same at every step
    dh, dc : (N, H')  gradients of the states after the window, zero in the padding; overwritten with those before it
    c : (N, S+1, H'), as forward_part left it
    z : (N, S, 4, H')  gates; overwritten with the gradients of the pre-activations
    dx : (N, T, I)  written in the window; with I = 0 the inputs' gradient is left out
    """
    rank, members = join(team, threads)
    if rank < 0:
        return
    if team.size > 0:
        start, stop = 0, z.shape[0]
    q0, q1 = _share(u.shape[0], members, rank)
    block = block_steps(stop - start, z.shape[3])
    t1 = window.stop
    while t1 > window.start:
        t0 = max(window.start, t1 - block)
        for t in range(t1 - 1, t0 - 1, -1):
            _backward_step(tile, window, cell, u, dy, dh, dc, c, z, t, start, stop, q0, q1)
            meet(team, members, window.stop - t)
        if dx.shape[2] > 0:
            p0, p1 = _share(w.shape[0], members, rank)
            _input_gradient(tile, w, dx, z, window.start, t0, t1, start, stop, p0, p1)
        t1 = t0
    for q in range(q0, q1):
        _recurrent_product(tile, u, dh, z, q, 0, start, stop)


@jit
def _recurrent_product(tile, u, dh, z, q, slot, start, stop):
    """Write ``dh = dz U``, with dz in a slot of z, for panel `q` of hidden units."""
    width = lanes(z)
    units, hidden = z.shape[3], u.shape[1] // 4
    panel = VECTORS * width
    z_row = z.shape[1] * 4 * units
    vectors = min(VECTORS, units // width - q * VECTORS)
    out = Out(pointer(dh, start * units + q * panel), units, width)
    left = Left(pointer(z, start * z_row + slot * 4 * units), z_row, 1, units)
    right = Right(pointer(u, q * 4 * hidden * panel), panel, hidden * panel)
    init = Out(constant_row(z, 0), 0, width)
    panel_product(tile, stop - start, vectors, out, init, left, right, hidden, 4)


@jit
def _backward_step(tile, window, cell, u, dy, dh, dc, c, z, t, start, stop, q0, q1):
    """Bring dh from step t + 1 to step t and apply the cell's adjoint, for panels q0 to q1 of hidden units."""
    width = lanes(z)
    slot, units, hidden = t - window.start, z.shape[3], dy.shape[2]
    z_row, c_row = z.shape[1] * 4 * units, c.shape[1] * units
    dy_row, dy_step = (dy.shape[1] * hidden, hidden) if dy.shape[0] * dy.shape[1] > 1 else (0, 0)
    for q in range(q0, q1):
        vectors = min(VECTORS, units // width - q * VECTORS)
        if t + 1 < window.stop:
            _recurrent_product(tile, u, dh, z, q, slot + 1, start, stop)
        for n in range(start, stop):
            for v in range(vectors):
                j = (q * VECTORS + v) * width
                at, c_at = n * z_row + slot * 4 * units + j, n * c_row + slot * units + j
                dz_i, dz_f, dz_g, dz_o, dc_before = cell_backward(
                    cell,
                    load(z, at),
                    load(z, at + units),
                    load(z, at + 2 * units),
                    load(z, at + 3 * units),
                    load(c, c_at),
                    load(c, c_at + units),
                    load(dh, n * units + j) + load_first(dy, n * dy_row + t * dy_step + j, hidden - j),
                    load(dc, n * units + j),
                )
                store(z, at, dz_i)
                store(z, at + units, dz_f)
                store(z, at + 2 * units, dz_g)
                store(z, at + 3 * units, dz_o)
                store(dc, n * units + j, dc_before)


@jit
def _input_gradient(tile, w, dx, z, first, t0, t1, start, stop, p0, p1):
    """Write panels p0 to p1 of ``dx = dz W`` for steps t0 to t1; tiles run along the longer of time and batch."""
    steps, units, inputs = dx.shape[1], z.shape[3], dx.shape[2]
    z_step, z_row = 4 * units, z.shape[1] * 4 * units
    width, zeros = lanes(z), constant_row(z, 0)
    for p in range(p0, p1):
        if t1 - t0 >= stop - start:
            for n in range(start, stop):
                out = Out(pointer(dx, (n * steps + t0) * inputs), inputs, width)
                left = Left(pointer(z, n * z_row + (t0 - first) * z_step), z_step, 1, units)
                packed_product(tile, t1 - t0, out, inputs, zeros, left, w, p, 4)
        else:
            for t in range(t0, t1):
                out = Out(pointer(dx, (start * steps + t) * inputs), steps * inputs, width)
                left = Left(pointer(z, start * z_row + (t - first) * z_step), z_row, 1, units)
                packed_product(tile, stop - start, out, inputs, zeros, left, w, p, 4)
