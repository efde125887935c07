"""The loops over time of one recurrent layer, forward and backward, in parts.

A part is a range of batch rows, which are independent, or, where rows are too few for that, a range of hidden units of all
rows: then the parts meet after every step. Any split gives the same bits. The caller hands over everything; nothing is
allocated.
"""

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


@jit
def block_steps(rows, units):
    """Return how many steps of `rows` sequences with gates of `units` units each make up a block."""
    rows = max(1, rows)
    return max(BLOCK_ELEMENTS // (rows * 4 * units), BLOCK_ROWS // rows, 1)


@jit
def _share(total, parts, part):
    return total * part // parts, total * (part + 1) // parts


@jit
def forward_part(tile, team, threads, cell, x, h0, y, c, z, keep, start, stop):
    """Run a part of one layer over time: rows `start` to `stop`, or as a member of a team some hidden units of all rows.

    team : team.new_team; empty for none
    threads : how many members the team can be expected to have
    cell : packed parameters (cells.LSTM)
    x : (N, T, I); h0 : (N, H)
    y : (N, T, H)  written: h of every step
    c : (N, T+1, H') with `keep`, else (N, 1, H')  slot 0 holds the initial state; the next slots, or slot 0, are written
    z : (N, T, 4, H') with `keep`, else (N, any number of steps, 4, H')  written: the gates, after activation
    keep : whether all steps' c and z are stored, for the backward pass
    """
    steps = x.shape[1]
    rank, members = join(team, threads)
    if rank < 0:
        return
    if team.size > 0:
        start, stop = 0, x.shape[0]
    p0, p1 = _share(cell.h.shape[0], members, rank)
    block = block_steps(stop - start, z.shape[3]) if keep else z.shape[1]
    for t0 in range(0, steps, block):
        t1 = min(steps, t0 + block)
        first = 0 if keep else t0  # the step that slot 0 of z holds
        _project_inputs(tile, cell, x, z, first, t0, t1, start, stop, p0, p1)
        for t in range(t0, t1):
            _forward_step(tile, cell, h0, y, c, z, t - first, keep, t, start, stop, p0, p1)
            meet(team, members, t + 1)


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
def _forward_step(tile, cell, h0, y, c, z, slot, keep, t, start, stop, p0, p1):
    """Add the recurrent product to panels p0 to p1 of step `t` of z and apply the cell, a vector of units at a time."""
    width = lanes(y)
    steps, hidden = y.shape[1], y.shape[2]
    units = z.shape[3]
    z_row, z_at = z.shape[1] * 4 * units, slot * 4 * units
    c_row, c_step = c.shape[1] * units, units if keep else 0
    for p in range(p0, p1):
        j = p * width
        out = Out(pointer(z, start * z_row + z_at + j), z_row, units)
        right = Right(pointer(cell.h, p * hidden * VECTORS * width), VECTORS * width, 0)
        if t == 0:
            left = Left(pointer(h0, start * hidden), hidden, 1, 0)
        else:
            left = Left(pointer(y, (start * steps + t - 1) * hidden), steps * hidden, 1, 0)
        panel_product(tile, stop - start, VECTORS, out, out, left, right, hidden, 1)
        for n in range(start, stop):
            at, c_at = n * z_row + z_at + j, n * c_row + (t * c_step) + j
            i, f, g, o, state, h = cell_forward(
                cell,
                load(z, at),
                load(z, at + units),
                load(z, at + 2 * units),
                load(z, at + 3 * units),
                load(c, c_at),
            )
            store(c, c_at + c_step, state)
            store_first(y, (n * steps + t) * hidden + j, h, hidden - j)
            if keep:
                store(z, at, i)
                store(z, at + units, f)
                store(z, at + 2 * units, g)
                store(z, at + 3 * units, o)


@jit
def backward_part(tile, team, threads, cell, u, w, dy, dh, dc, c, z, dx, start, stop):
    """Run a part of one layer back through time: rows `start` to `stop`, or as a member of a team some units of all rows.

    team, threads : as in forward_part
    u : recurrent weights (4H, H) and w : input weights (4H, I), by layout.pack_columns; w unused without dx
    dy : (N, T, H), or (1, 1, H) where it is the same at every step
    dh, dc : (N, H')  gradients of the final states, zero in the padding; overwritten with those of the initial ones
    c : (N, T+1, H'), as forward_part left it
    z : (N, T, 4, H')  gates; overwritten with the gradients of the pre-activations
    dx : (N, T, I)  written; with I = 0 the inputs' gradient is left out
    """
    steps = z.shape[1]
    rank, members = join(team, threads)
    if rank < 0:
        return
    if team.size > 0:
        start, stop = 0, z.shape[0]
    q0, q1 = _share(u.shape[0], members, rank)
    block = block_steps(stop - start, z.shape[3])
    t1 = steps
    while t1 > 0:
        t0 = max(0, t1 - block)
        for t in range(t1 - 1, t0 - 1, -1):
            _backward_step(tile, cell, u, dy, dh, dc, c, z, t, start, stop, q0, q1)
            meet(team, members, steps - t)
        if dx.shape[2] > 0:
            p0, p1 = _share(w.shape[0], members, rank)
            _input_gradient(tile, w, dx, z, t0, t1, start, stop, p0, p1)
        t1 = t0
    for q in range(q0, q1):
        _recurrent_product(tile, u, dh, z, q, -1, start, stop)


@jit
def _recurrent_product(tile, u, dh, z, q, t, start, stop):
    """Write ``dh = dz[t + 1] U`` for panel `q` of hidden units."""
    width = lanes(z)
    units, hidden = z.shape[3], u.shape[1] // 4
    panel = VECTORS * width
    z_row = z.shape[1] * 4 * units
    vectors = min(VECTORS, units // width - q * VECTORS)
    out = Out(pointer(dh, start * units + q * panel), units, width)
    left = Left(pointer(z, start * z_row + (t + 1) * 4 * units), z_row, 1, units)
    right = Right(pointer(u, q * 4 * hidden * panel), panel, hidden * panel)
    init = Out(constant_row(z, 0), 0, width)
    panel_product(tile, stop - start, vectors, out, init, left, right, hidden, 4)


@jit
def _backward_step(tile, cell, u, dy, dh, dc, c, z, t, start, stop, q0, q1):
    """Bring dh from step t + 1 to step t and apply the cell's adjoint, for panels q0 to q1 of hidden units."""
    width = lanes(z)
    steps, units = z.shape[1], z.shape[3]
    hidden = dy.shape[2]
    z_row, c_row = steps * 4 * units, c.shape[1] * units
    dy_row, dy_step = (dy.shape[1] * hidden, hidden) if dy.shape[1] == steps and dy.shape[0] == z.shape[0] else (0, 0)
    for q in range(q0, q1):
        vectors = min(VECTORS, units // width - q * VECTORS)
        if t + 1 < steps:
            _recurrent_product(tile, u, dh, z, q, t, start, stop)
        for n in range(start, stop):
            for v in range(vectors):
                j = (q * VECTORS + v) * width
                at, c_at = n * z_row + t * 4 * units + j, n * c_row + t * units + j
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
def _input_gradient(tile, w, dx, z, t0, t1, start, stop, p0, p1):
    """Write panels p0 to p1 of ``dx = dz W`` for steps t0 to t1; tiles run along the longer of time and batch."""
    steps, units, inputs = z.shape[1], z.shape[3], dx.shape[2]
    z_step, z_row = 4 * units, steps * 4 * units
    width, zeros = lanes(z), constant_row(z, 0)
    for p in range(p0, p1):
        if t1 - t0 >= stop - start:
            for n in range(start, stop):
                out = Out(pointer(dx, (n * steps + t0) * inputs), inputs, width)
                left = Left(pointer(z, n * z_row + t0 * z_step), z_step, 1, units)
                packed_product(tile, t1 - t0, out, inputs, zeros, left, w, p, 4)
        else:
            for t in range(t0, t1):
                out = Out(pointer(dx, (start * steps + t) * inputs), steps * inputs, width)
                left = Left(pointer(z, start * z_row + t * z_step), z_row, 1, units)
                packed_product(tile, stop - start, out, inputs, zeros, left, w, p, 4)
