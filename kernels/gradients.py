"""Gradients of the weights: sums over batch and time, split over outputs and never over the sum.

Each element of dW is one chain over batch and time in order, whatever the thread count. The products are computed
transposed, ``dW' = [x | h | 1]' dz``, because dz is padded to whole vectors: there are no column tails.

A task is one panel of dz against a chunk of the rows of dW'. Measured, and the reason for the order of the loops: the left
operand, read down its columns, must stay in the second-level cache (124 instead of 280 GFLOP/s at H = 1024), so a
few tasks are taken through a block of the sum together; the panel of dz is copied to where it is contiguous.
"""

from .compiling import jit
from .simd import constant_row, lanes, load, load_element, pointer, stack_array, store
from .target import WIDTH
from .tile import VECTORS, Left, Out, Right, panel_product
from .transpose import transpose_square

CHUNK = 768  # rows of dW' in one task at the most
SUMMED = 128  # (row, step) pairs summed before the next task's
TOGETHER = 4  # tasks taken through a block of the sum together
PANEL_COPY = SUMMED * VECTORS * WIDTH
FEWEST_TASKS = 24  # enough to deal out evenly


@jit
def chunk_count(x, y, dz):
    """Return into how many chunks the rows of dW' fall."""
    rows = x.shape[2] + y.shape[2] + 1
    panels = dz.shape[3] // lanes(dz)
    return max(-(-rows // CHUNK), min(-(-rows // 24), -(-FEWEST_TASKS // panels)))


@jit
def task_count(x, y, dz):
    """Return into how many tasks the gradients fall."""
    return dz.shape[3] // lanes(dz) * chunk_count(x, y, dz)


@jit
def gradient_tasks(tile, dz, x, y, h0, sums, dW_ih, dW_hh, db, start, stop):
    """Add the gradients of tasks `start` to `stop` to dW_ih, dW_hh and db.

    dz : (N, T, 4, H'); x : (N, T, I); y : (N, T, H) outputs of all steps; h0 : (N, H)
    sums : (H'/L, I + H + 1, 4L)  workspace: dW', a panel of gates after the other
    dW_ih : (4H, I); dW_hh : (4H, H); db : (4H,)  accumulated into
    """
    batch, steps = x.shape[0], x.shape[1]
    rows = x.shape[2] + y.shape[2] + 1
    panels, chunks = dz.shape[3] // lanes(dz), chunk_count(x, y, dz)
    steps_at_once = min(steps, SUMMED)
    batch_at_once = max(1, SUMMED // steps)
    for first in range(start, stop, TOGETHER):
        last = min(stop, first + TOGETHER)
        for n0 in range(0, batch, batch_at_once):
            n1 = min(batch, n0 + batch_at_once)
            for t0 in range(0, steps, steps_at_once):
                t1 = min(steps, t0 + steps_at_once)
                for task in range(first, last):
                    chunk, panel = divmod(task, panels)
                    r0, r1 = rows * chunk // chunks, rows * (chunk + 1) // chunks
                    _add_products(tile, dz, x, y, h0, sums, panel, r0, r1, n0, n1, t0, t1)
        for task in range(first, last):
            chunk, panel = divmod(task, panels)
            _add_to_gradients(sums, dz, panel, rows * chunk // chunks, rows * (chunk + 1) // chunks, dW_ih, dW_hh, db)


@jit
def _add_products(tile, dz, x, y, h0, sums, panel, r0, r1, n0, n1, t0, t1):
    """Add the products of sequences n0 to n1 at steps t0 to t1 to rows r0 to r1 of one panel of `sums`."""
    width = lanes(dz)
    size = VECTORS * width
    steps, inputs, hidden = x.shape[1], x.shape[2], y.shape[2]
    gates, length = 4 * dz.shape[3], t1 - t0
    copy = stack_array(dz, PANEL_COPY)
    for n in range(n0, n1):
        for t in range(t0, t1):
            source, place = (n * steps + t) * gates + panel * size, ((n - n0) * length + t - t0) * size
            for v in range(0, size, width):
                store(copy, place + v, load(dz, source + v))
    right = Right(pointer(copy, 0), size, length * size)
    sums_at = panel * (inputs + hidden + 1) * size
    fresh = n0 == 0 and t0 == 0

    # rows of x
    first, last = r0, min(r1, inputs)
    if first < last:
        out = Out(pointer(sums, sums_at + first * size), size, width)
        init = Out(constant_row(dz, 0), 0, width) if fresh else out
        left = Left(pointer(x, (n0 * steps + t0) * inputs + first), 1, inputs, steps * inputs)
        panel_product(tile, last - first, VECTORS, out, init, left, right, length, n1 - n0)
    # rows of h: step 0 meets h0, the others the output of the step before
    first, last = max(r0, inputs), min(r1, inputs + hidden)
    if first < last:
        out = Out(pointer(sums, sums_at + first * size), size, width)
        init = Out(constant_row(dz, 0), 0, width) if fresh else out
        unit, later = first - inputs, max(1, t0)
        if t0 == 0:
            left = Left(pointer(h0, n0 * hidden + unit), 1, hidden, 0)
            at_start = Right(right.start, length * size, 0)
            panel_product(tile, last - first, VECTORS, out, init, left, at_start, n1 - n0, 1)
        left = Left(pointer(y, (n0 * steps + later - 1) * hidden + unit), 1, hidden, steps * hidden)
        right_later = Right(pointer(copy, (later - t0) * size), size, length * size)
        panel_product(tile, last - first, VECTORS, out, out, left, right_later, t1 - later, n1 - n0)
    # the row of ones
    if r1 == inputs + hidden + 1:
        out = Out(pointer(sums, sums_at + (inputs + hidden) * size), size, width)
        init = Out(constant_row(dz, 0), 0, width) if fresh else out
        panel_product(tile, 1, VECTORS, out, init, Left(constant_row(dz, 1), 0, 0, 0), right, length, n1 - n0)


@jit
def _add_to_gradients(sums, dz, panel, r0, r1, dW_ih, dW_hh, db):
    """Add rows r0 to r1 of one panel of `sums`, transposed and without padding, to the gradients."""
    width = lanes(dz)
    units, inputs, hidden = dz.shape[3], dW_ih.shape[1], dW_hh.shape[1]
    for v in range(VECTORS):
        column = (panel * VECTORS + v) * width
        gate, unit = divmod(column, units)
        valid = min(width, hidden - unit)
        row = gate * hidden + unit
        sums_at = panel * (inputs + hidden + 1) * VECTORS * width + v * width
        _add_transposed(sums, sums_at, r0, min(r1, inputs), dW_ih, 0, row, valid)
        _add_transposed(sums, sums_at, max(r0, inputs), min(r1, inputs + hidden), dW_hh, inputs, row, valid)
        if r1 == inputs + hidden + 1:
            for lane in range(valid):
                db[row + lane] += sums[panel, inputs + hidden, v * width + lane]


@jit
def _add_transposed(sums, at, first, last, gradient, skipped, row, valid):
    """Add rows `first` to `last` of the vector of `sums` at `at`, less the `skipped` rows, to `gradient` from `row` on."""
    width = lanes(sums)
    columns, step = gradient.shape[1], sums.shape[2]
    count = max(0, last - first)
    place = row * columns + first - skipped
    squares = count // width * width if valid == width else 0
    for m in range(0, squares, width):
        transpose_square(sums, at + (first + m) * step, step, gradient, place + m, columns, True)
    for lane in range(valid):
        for m in range(squares, count):
            gradient[row + lane, first + m - skipped] += load_element(sums, at + (first + m) * step + lane)
