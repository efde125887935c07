"""How weights and workspace lie in memory.

L is the number of lanes, V = 4 L the width of a panel, H' (written ``padded``) the hidden units rounded up to whole vectors.
Gates stand in the order i, f, g, o. Padding holds zeros in weights, so that padded lanes stay finite.
"""

from . import target
from .compiling import jit
from .simd import lanes, load_first, store
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
    units, inputs = weights.shape[0] // 4, weights.shape[1]
    for p in range(start, stop):
        valid = min(width, units - p * width)
        squares = inputs // width * width if valid == width else 0
        if valid < width:
            for k in range(inputs):
                for lane in range(4 * width):
                    panels[p, k, lane] = 0
        for gate in range(4):
            row, column = gate * units + p * width, gate * width
            for k in range(0, squares, width):
                place = (p * inputs + k) * 4 * width + column
                transpose_square(weights, row * inputs + k, inputs, panels, place, 4 * width, False)
            for lane in range(valid):
                for k in range(squares, inputs):
                    panels[p, k, column + lane] = weights[row + lane, k]


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
