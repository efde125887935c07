"""How weights and workspace lie in memory.

L is the number of lanes, V = 4 L the width of a panel, H' (written ``padded``) the hidden units rounded up to whole vectors.
Gates stand in the order i, f, g, o. Padding holds zeros in weights, so that padded lanes stay finite.
"""

from . import target
from .compiling import jit
from .simd import copy, lanes, load_first, pointer, store
from .transpose import transpose_square


def padded(units: int, dtype) -> int:
    """Return `units` rounded up to whole vectors of `dtype`."""
    width = target.lanes(dtype)
    return -(-units // width) * width


def gate_panels_shape(units: int, inputs: int, dtype) -> tuple[int, int, int]:
    """Return the shape that `pack_gates` fills for weights (4 units, inputs)."""
    width = target.lanes(dtype)
    return -(-units // width), inputs, 4 * width


def column_panels_shape(rows: int, columns: int, dtype) -> tuple[int, int, int]:
    """Return the shape that `pack_columns` fills for a matrix (rows, columns)."""
    width = 4 * target.lanes(dtype)
    return -(-columns // width), rows, width


@jit
def pack_gates(tile, weights, panels, start, stop):
    """Pack panels `start` to `stop` for gates = x W': one panel holds i, f, g, o of one vector of hidden units.

    weights : (4H, K); panels : (H'/L, K, 4L), element [p, k, gate * L + lane] is weights[gate * H + p * L + lane, k].
    """
    width = lanes(weights)
    units = weights.shape[0] // 4
    for p in range(start, stop):
        for gate in range(4):
            _pack_vector(weights, gate * units + p * width, min(width, units - p * width), panels, p, gate)


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
    inputs = weights.shape[1]
    squares = inputs // width * width if valid == width else 0
    for k in range(0, squares, width):
        place = (p * inputs + k) * 4 * width + v * width
        transpose_square(weights, row * inputs + k, inputs, panels, place, 4 * width, False)
    for lane in range(width):
        for k in range(squares, inputs):
            if lane < valid:
                panels[p, k, v * width + lane] = weights[row + lane, k]
            else:
                panels[p, k, v * width + lane] = 0


@jit
def pack_columns(tile, matrix, panels, start, stop):
    """Pack panels `start` to `stop` for a product with `matrix` on the right: one panel holds V of its columns.

    matrix : (K, C); panels : (ceil(C / V), K, V), element [p, k, j] is matrix[k, p * V + j], or zero past column C.
    """
    width = lanes(matrix)
    rows, columns, panel = matrix.shape[0], matrix.shape[1], panels.shape[2]
    for p in range(start, stop):
        for k in range(rows):
            for j in range(0, panel, width):
                at = p * panel + j
                vector = load_first(matrix, k * columns + min(at, columns), columns - at)
                store(panels, (p * rows + k) * panel + j, vector)


@jit
def pad_states(states, rows, padded, step):
    """Write states (N, H), or zeros for (0, H), to `rows` rows of H' elements that begin `step` elements apart."""
    width, hidden = lanes(padded), states.shape[1]
    for n in range(rows):
        for j in range(0, hidden, width):
            count = hidden - j if states.shape[0] > 0 else 0
            store(padded, n * step + j, load_first(states, n * hidden + j, count))


@jit
def copy_states(source, start, step, states):
    """Write states (N, H) from rows that begin `step` elements apart, the first one `start` elements on."""
    hidden = states.shape[1]
    for n in range(states.shape[0]):
        copy(pointer(source, start + n * step), pointer(states, n * hidden), hidden)
