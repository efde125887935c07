"""How weights and workspace lie in memory.

L is the number of lanes, V = 4 L the width of a panel, H' (written ``padded``) the hidden units rounded up to whole vectors.
Padding holds zeros in weights, so that padded lanes stay finite.
"""

import numpy as np

from . import target
from .compiling import jit
from .memory import copy, load_first, pointer, store
from .ragged import row_of
from .simd import lanes
from .transpose import transpose_square


def padded(units: int, dtype) -> int:
    """Return `units` rounded up to whole vectors of `dtype`."""
    width = target.lanes(dtype)
    return -(-units // width) * width


def gate_panels_shape(units: int, inputs: int, gates: int, spread: int, dtype) -> tuple[int, int, int]:
    """Return the shape that `pack_gates` fills for weights of so many gates, with `spread` vectors of units in a panel."""
    width = target.lanes(dtype)
    return -(-units // (width * spread)), inputs, gates * spread * width


def row_panels_shape(rows: int, columns: int, dtype) -> tuple[int, int, int]:
    """Return the shape that `pack_rows` fills for a matrix (rows, columns)."""
    return column_panels_shape(columns, rows, dtype)


def column_panels_shape(rows: int, columns: int, dtype) -> tuple[int, int, int]:
    """Return the shape that `pack_columns` fills for a matrix (rows, columns)."""
    width = 4 * target.lanes(dtype)
    return -(-columns // width), rows, width


SMALLEST = 0x2000  # upper half of 1e-19, below which the upper of a pair does not go; see pair
LARGEST = 0x7F7F  # upper half of 3.4e38, the last one before infinity


def round_to_bfloat16(values):
    """Return float32 values rounded to bfloat16, to nearest even, as words whose upper half they are; a NaN stays one."""
    bits = values.view(np.uint32)
    rounded = bits + (np.uint32(0x7FFF) + (bits >> 16 & 1))
    return np.where(np.isnan(values), bits | np.uint32(0x400000), rounded) & np.uint32(0xFFFF0000)


def pair(panels):
    """Return float32 panels (P, K, 4L) as pairs of bfloat16 (P, K, 2L), words that start at a cache line; see tile.py.

    Of vectors 2v and 2v + 1 the first is rounded to bfloat16, the lower half of the words. The second is read with those
    bits below its own 8 significant ones, and no mask: its upper half is the one with which the whole comes nearest, as near
    as by rounding. Below 1e-19 it stays 1e-19 in magnitude, for a zero would become a subnormal number, which is slow; what
    is infinite stays finite, for it would become NaN. Where both are zeros, as in padding, both stay.
    """
    vectors = panels.reshape(*panels.shape[:2], 2, 2, -1)
    low, wanted = round_to_bfloat16(vectors[:, :, :, 0]) >> 16, np.ascontiguousarray(vectors[:, :, :, 1])
    bits = wanted.view(np.uint32)
    sign, below = bits & np.uint32(0x80000000), ((bits & np.uint32(0x7FFFFFFF)).astype(np.int64) - low) >> 16
    uppers = (np.clip(upper, SMALLEST, LARGEST).astype(np.uint32) << 16 for upper in (below, below + 1))
    smaller, greater = (sign | upper | low for upper in uppers)
    # In float64, for the greater may lie in the next binade, where numbers lie twice as far from each other.
    distances = (np.abs(word.view(np.float32).astype(np.float64) - wanted) for word in (smaller, greater))
    words = np.where(np.less(*distances), smaller, greater)
    words = np.where(np.isnan(wanted), bits & np.uint32(0xFFFF0000) | np.uint32(0x400000) | low, words)
    return np.where((wanted == 0) & (low == 0), bits, words).reshape(*panels.shape[:2], -1)


def unpair(words, panels):
    """Write the float32 numbers that pairs of bfloat16 (P, K, 2L) stand for to panels (P, K, 4L)."""
    vectors = panels.view(np.uint32).reshape(*panels.shape[:2], 2, 2, -1)
    vectors[:, :, :, 1] = words.reshape(*panels.shape[:2], 2, -1)
    vectors[:, :, :, 0] = vectors[:, :, :, 1] << 16


@jit
def pack_gates(tile, weights, blocks, spread, panels, start, stop):
    """Pack panels `start` to `stop` for gates = x W': one panel holds all gates of `spread` vectors of hidden units.

    weights : (blocks of H rows, K); blocks : (G,)  which block each gate is
    panels : (.., K, G spread L), element [p, k, (gate spread + s) L + lane] is row (p spread + s) L + lane of its block
    """
    width = lanes(weights)
    gates = blocks.shape[0]
    units = weights.shape[0] // gates
    for p in range(start, stop):
        for gate in range(gates):
            for s in range(spread):
                unit = (p * spread + s) * width
                row, valid = blocks[gate] * units + unit, max(0, min(width, units - unit))
                _pack_vector(weights, row, valid, panels, p, gate * spread + s)


@jit
def pack_rows(tile, weights, panels, start, stop):
    """Pack panels `start` to `stop` for y = x W': one panel holds V rows of the weights.

    weights : (C, K); panels : (ceil(C / V), K, V), element [p, k, j] is weights[p * V + j, k], or zero past row C.
    """
    width = lanes(weights)
    for p in range(start, stop):
        for v in range(4):
            row = (4 * p + v) * width
            _pack_vector(weights, row, max(0, min(width, weights.shape[0] - row)), panels, p, v)


@jit
def _pack_vector(weights, row, valid, panels, p, v):
    """Write `valid` rows of the weights from `row` on to vector `v` of panel `p`, and zeros to its other lanes."""
    width = lanes(weights)
    inputs, panel = weights.shape[1], panels.shape[2]
    squares = inputs // width * width if valid == width else 0
    for k in range(0, squares, width):
        place = (p * inputs + k) * panel + v * width
        transpose_square(weights, row * inputs + k, inputs, panels, place, panel, False)
    for lane in range(width):
        for k in range(squares, inputs):
            if lane < valid:
                panels[p, k, v * width + lane] = weights[row + lane, k]
            else:
                panels[p, k, v * width + lane] = 0


@jit
def pack_columns(tile, matrix, blocks, sets, panels, start, stop):
    """Pack panels `start` to `stop` for a product with `matrix` on the right: one panel holds V of its columns.

    matrix : (K, sets C), of which each set of C columns begins with a panel
    blocks : (B,)  the order in which B blocks of its rows are wanted
    panels : (sets ceil(C / V), K, V), element [p, k, j] of the first set is matrix[k, p * V + j] before that order, or zero
        past column C
    """
    width = lanes(matrix)
    columns, panel, of_set = matrix.shape[1] // sets, panels.shape[2], panels.shape[0] // sets
    rows = matrix.shape[0] // blocks.shape[0]
    for p in range(start, stop):
        first = p // of_set * columns
        for block in range(blocks.shape[0]):
            for r in range(rows):
                row, to = blocks[block] * rows + r, (p * matrix.shape[0] + block * rows + r) * panel
                for j in range(0, panel, width):
                    at = p % of_set * panel + j
                    place = row * matrix.shape[1] + first + min(at, columns)
                    store(panels, to + j, load_first(matrix, place, columns - at))


@jit
def pad_row(values, start, count, padded, row):
    """Write `count` values from `start` on, or zeros where that is negative, and zeros behind them, to a row."""
    for j in range(padded.shape[1]):
        padded[row, j] = values[start + j] if j < count and start >= 0 else 0


@jit
def pad_states(ragged, states, rows, padded, start, step):
    """Write states (N, H), or zeros for (0, H), to `rows` rows of H' elements, `step` elements apart from `start` on.

    ragged : in whose order the rows are
    """
    width, hidden = lanes(padded), states.shape[1]
    for n in range(rows):
        for j in range(0, hidden, width):
            count = hidden - j if states.shape[0] > 0 else 0
            store(padded, start + n * step + j, load_first(states, row_of(ragged, n) * hidden + j, count))


@jit
def copy_states(ragged, source, start, step, states):
    """Write states (N, H) from rows in the order of `ragged`, `step` elements apart, the first one `start` elements on."""
    hidden = states.shape[1]
    for n in range(states.shape[0]):
        copy(pointer(source, start + n * step), pointer(states, row_of(ragged, n) * hidden), hidden)
