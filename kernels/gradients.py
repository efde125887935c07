"""Gradients of the weights: sums over batch and time, split over outputs and never over the sum.

Each element of dW is one chain over batch and time, in an order that neither the thread count nor the windows change: groups
of steps, from the last to the first, and within a group row after row, in the order of `ragged`. The products are computed
transposed, ``dW' = [x | 1 | h]' dz``, because dz is padded to whole vectors: there are no column tails.

A task is one panel of dz against a chunk of the rows of dW'. Both operands of a stretch of the sum are first copied to where
they are contiguous, and a few tasks go through the stretch together. Without that, at H = 1024 the strides are powers of two
that meet in the same cache sets: 124 instead of 280 GFLOP/s.
"""

from .compiling import jit
from .memory import advance, constant_row, copy, load, load_element, pointer, stack_array, store
from .options import mask_row
from .ragged import end_of, row_of
from .simd import constant, fma, lanes
from .subnormal import put_back, take_for_zeros
from .tile import VECTORS, Left, Out, Right, panel_product
from .transpose import transpose_square

CHUNK = 768  # rows of dW' in one task at the most
SUMMED = 128  # (row, step) pairs in one stretch of the sum
GROUP = 16  # steps of a row that are read one after the other: with 8 it is slower. Windows begin at multiples of it
TOGETHER = 5 << 16  # elements of sums of the tasks that go through a stretch together: they stay in the second-level cache
PANEL_COPY = SUMMED * VECTORS  # vectors
FEWEST_ROWS = 24  # of a chunk that there is only to deal tasks out evenly


@jit
def most_chunks(rows):
    """Return into how many chunks the rows of dW' may fall; there are as many tasks in each as panels."""
    return max(-(-rows // CHUNK), rows // FEWEST_ROWS)


@jit
def chunk_count(rows, panels, parts):
    """Return into how many chunks the rows of dW' fall: as few as can be dealt out evenly, for each reads all of dz."""
    count, most = -(-rows // CHUNK), most_chunks(rows)
    while count < most and -(-panels * count // parts) * parts * 16 > panels * count * 17:
        count += 1
    return count


@jit
def first_slot(rows):
    """Return the first slot that has parameters; those that have none come first."""
    slot = 0
    while rows[0, slot] < 0 and rows[1, slot] < 0:
        slot += 1
    return slot


@jit
def gradient_tasks(
    tile, parts, window, ragged, rows, dz, x, y, h0, c, mask, sums, copies, dW_ih, dW_hh, db, add, start, stop
):
    """Compute the gradients of tasks `start` to `stop`, from one window of the steps (sweeps.Window) after the other.

    Of several windows the last comes first; the sums go from one to the next, and are written with the one from step 0 on.

    parts : into how many all tasks fall
    rows : (3, slots), cells.Cell.rows
    dz : (N, S, slots, U') of U units; x : (N, T, I), or the steps from window.x_start on
    y : (N, S or more, H) outputs; h0 : (N, H)  output before the window
    c : (N, S+1, states, H'), of whose states the product has seen those from the second on, until K is reached
    mask : (N, H), options.Options.mask, that the product with h has seen h through
    sums : (panels of dz, I + 1 + K, 4L)  workspace: dW', a panel after the other
    copies : (parts, SUMMED, CHUNK)  workspace: each part of the tasks copies its left operand to a place of its own
    dW_ih : (G U, I); dW_hh : (G U, K); db : (B U,)  written, or with `add` accumulated into

    A recurrent layer has U = H units; a dense one, and a recurrent layer's second product, is a slot of U outputs and no
    recurrence (H = K = 0).
    """
    mode = take_for_zeros()
    total = x.shape[2] + dW_hh.shape[1] + 1
    panels = sums.shape[0]
    chunks = chunk_count(total, panels, parts)
    part = -(-start * parts // (panels * chunks))  # which begins at total * part // parts: another for each that has tasks
    task = start
    while task < stop:
        chunk, panel = task // panels, task % panels
        r0, r1 = total * chunk // chunks, total * (chunk + 1) // chunks
        together = min(max(1, TOGETHER // ((r1 - r0) * sums.shape[2])), stop - task, panels - panel)
        pair = _first(window)
        for first in range(0, window.pairs, SUMMED):
            count = min(window.pairs - first, SUMMED)
            following = _copy_rows(copies, part, window, ragged, x, y, h0, c, mask, pair, count, r0, r1)
            begins = window.stop == window.steps and first == 0
            for p in range(panel, panel + together):
                _add_products(tile, window, ragged, rows, dz, copies, part, sums, p, x.shape[2], r0, r1, pair, count, begins)
            pair = following
        if window.start == 0:
            for p in range(panel, panel + together):
                _write_gradients(sums, rows, dz, p, r0, r1, dW_ih, dW_hh, db, add)
        task += together
    put_back(mode)


@jit
def _first(window):
    """Return the row and the step that the sums over a window begin with."""
    return 0, (window.stop - 1) // GROUP * GROUP


@jit
def _next(window, ragged, rows, n, t):
    """Return the pair after (n, t)."""
    t += 1
    if t % GROUP > 0 and t < end_of(ragged, window, n):
        return n, t
    group = (t - 1) // GROUP * GROUP
    return (n + 1, group) if n + 1 < rows and end_of(ragged, window, n + 1) > group else (0, group - GROUP)


@jit
def _copy_rows(copies, part, window, ragged, x, y, h0, c, mask, pair, count, r0, r1):
    """Copy columns r0 to r1 of [x | 1 | h | states] of `count` pairs from `pair` on; these are before the step.

    Return the pair that follows.
    """
    steps, inputs, hidden = x.shape[1], x.shape[2], y.shape[2]
    x_end, h_start, h_end = min(r1, inputs), max(r0, inputs + 1), min(r1, inputs + 1 + hidden)
    n, t = pair
    for i in range(count):
        row, at = pointer(copies, part * SUMMED * CHUNK + i * (r1 - r0)), row_of(ragged, n)
        if r0 < x_end:
            copy(pointer(x, (at * steps + t - window.x_start) * inputs + r0), row, x_end - r0)
        if r0 <= inputs and r1 > inputs:
            copy(constant_row(x, 1), advance(row, inputs - r0), 1)
        if h_start < h_end:
            y_at = (at * y.shape[1] + t - 1 - window.y_start) * hidden
            before = pointer(h0, at * hidden) if t == window.start else pointer(y, y_at)
            copy(advance(before, h_start - inputs - 1), advance(row, h_start - r0), h_end - h_start)
            place = part * SUMMED * CHUNK + i * (r1 - r0) + h_start - r0
            mask_row(mask, at, h_start - inputs - 1, copies, place, h_end - h_start)
        c_at, column = (n * c.shape[1] + t - window.start) * c.shape[2], max(h_start, h_end)
        while column < r1:  # of the states that are seen
            state, unit = divmod(column - inputs - 1, hidden)
            some = min(hidden - unit, r1 - column)
            copy(pointer(c, (c_at + state) * c.shape[3] + unit), advance(row, column - r0), some)
            column += some
        n, t = _next(window, ragged, x.shape[0], n, t)
    return n, t


@jit
def _vectors(rows, dz, panel):
    """Return the first vector of a panel, counted over all slots, and the one after its last."""
    width = lanes(dz)
    by_slot = dz.shape[3] // width
    first = first_slot(rows) * by_slot + panel * VECTORS
    return first, min(first + VECTORS, dz.shape[2] * by_slot)


@jit
def _add_products(tile, window, ragged, rows, dz, copies, part, sums, panel, inputs, r0, r1, pair, count, begins):
    """Add the products of `count` pairs from `pair` on, copied by _copy_rows, to rows r0 to r1 of one panel of `sums`."""
    width = lanes(dz)
    v0, v1 = _vectors(rows, dz, panel)
    size, numbers = (v1 - v0) * width, dz.shape[2] * dz.shape[3]
    with_x, with_h = False, False
    for slot in range(v0 * width // dz.shape[3], (v1 * width - 1) // dz.shape[3] + 1):
        with_x, with_h = with_x or rows[0, slot] >= 0, with_h or rows[1, slot] >= 0
    a, b = r0 if with_x else max(r0, inputs), r1 if with_h else min(r1, inputs + 1)
    if a >= b:
        return
    panel_copy = stack_array(dz, PANEL_COPY)
    n, t = pair
    for i in range(count):
        place = (n * dz.shape[1] + t - window.start) * numbers + v0 * width
        copy(pointer(dz, place), pointer(panel_copy, i * size), size)
        n, t = _next(window, ragged, dz.shape[0], n, t)
    out = Out(pointer(sums, (panel * sums.shape[1] + a) * VECTORS * width), VECTORS * width, width)
    init = Out(constant_row(dz, 0), 0, width) if begins else out
    left = Left(pointer(copies, part * SUMMED * CHUNK + a - r0), 1, r1 - r0, 0)
    panel_product(tile, b - a, v1 - v0, out, init, left, Right(pointer(panel_copy, 0), size, 0), count, 1)


@jit
def _write_gradients(sums, rows, dz, panel, r0, r1, dW_ih, dW_hh, db, add):
    """Bring rows r0 to r1 of one panel of `sums`, transposed and without padding, to the gradients."""
    width = lanes(dz)
    padded, inputs, hidden = dz.shape[3], dW_ih.shape[1], dW_hh.shape[1]
    blocks = 0
    for slot in range(rows.shape[1]):
        blocks = max(blocks, rows[2, slot] + 1)
    units = db.shape[0] // blocks
    v0, v1 = _vectors(rows, dz, panel)
    for v in range(v0, v1):
        slot, unit = divmod(v * width, padded)
        valid = min(width, units - unit)
        at = panel * (inputs + 1 + hidden) * VECTORS * width + (v - v0) * width
        if rows[0, slot] >= 0:
            _write_transposed(sums, at, r0, min(r1, inputs), dW_ih, 0, rows[0, slot] * units + unit, valid, add)
        if rows[1, slot] >= 0:
            _write_transposed(sums, at, max(r0, inputs + 1), r1, dW_hh, inputs + 1, rows[1, slot] * units + unit, valid, add)
        if r0 <= inputs and r1 > inputs:
            for lane in range(valid):
                row, gradient = rows[2, slot] * units + unit + lane, sums[panel, inputs, (v - v0) * width + lane]
                db[row] = db[row] + gradient if add else gradient


@jit
def _write_transposed(sums, at, first, last, gradient, skipped, row, valid, add):
    """Bring rows `first` to `last` of the vector of `sums` at `at`, less the `skipped`, to `gradient` from `row` on."""
    width = lanes(sums)
    columns, step = gradient.shape[1], sums.shape[2]
    count = max(0, last - first)
    place = row * columns + first - skipped
    squares = count // width * width if valid == width else 0
    for m in range(0, squares, width):
        transpose_square(sums, at + (first + m) * step, step, gradient, place + m, columns, add)
    for lane in range(valid):
        for m in range(squares, count):
            element = load_element(sums, at + (first + m) * step + lane)
            column = first + m - skipped
            gradient[row + lane, column] = gradient[row + lane, column] + element if add else element


@jit
def peephole_sums(tile, window, ragged, peepholes, raw, dz, c, sums, dp, add, start, stop):
    """Compute the gradients of peepholes of the vectors of units `start` to `stop`, as `gradient_tasks` does.

    peepholes : (P, 2), cells.Cell.peepholes
    raw : the state that is c after a step as the cell left it: with options one of its own, else the first
    dz : (N, S, slots, H'); c : (N, S+1, states, H'); sums : (P, H')  workspace; dp : (P H,)  written or accumulated into
    """
    width, units = lanes(dz), dz.shape[3]
    hidden = dp.shape[0] // peepholes.shape[0]
    rows = dz.shape[0]
    z_step, c_step = dz.shape[2] * units, c.shape[2] * units
    for k in range(peepholes.shape[0]):
        for j in range(start * width, stop * width, width):
            total = load(sums, k * units + j)
            if window.stop == window.steps:
                total = constant(total, 0)
            n, t = _first(window)
            for _ in range(window.pairs):
                slot = t - window.start
                gradient = load(dz, (n * dz.shape[1] + slot) * z_step + peepholes[k, 0] * units + j)
                later = peepholes[k, 1]
                state = load(c, (n * c.shape[1] + slot + later) * c_step + later * raw * units + j)
                total = fma(gradient, state, total)
                n, t = _next(window, ragged, rows, n, t)
            store(sums, k * units + j, total)
            if window.start == 0:
                for lane in range(min(width, hidden - j)):
                    place = k * hidden + j + lane
                    gradient = load_element(sums, k * units + j + lane)
                    dp[place] = dp[place] + gradient if add else gradient
