"""Matrix products on the register tile: rows times a panel, rows times a packed matrix, and sums over the batch."""

from .compiling import jit
from .memory import advance, pointer, stack_array, store_element
from .simd import lanes
from .tile import ROWS, VECTORS, Left, Out, Right, panel_product, panel_products


@jit
def packed_product(tile, rows, out, columns, bias, left, panels, p, blocks):
    """Compute panel `p` of ``out[row, j] = bias[j] + left right``, with the right operand packed by `pack_columns`.

    tile : address of the panel product
    out : Out of column 0, whose vector_step is one vector; nothing is written past `columns`
    bias : pointer to the panel's V elements
    left : Left over `blocks` blocks; panels : (ceil(columns / V), K, V), K rows in all blocks together
    """
    width = lanes(panels)
    panel, k = VECTORS * width, panels.shape[1] // blocks
    first = p * panel
    init = Out(bias, 0, width)
    right = Right(pointer(panels, p * panels.shape[1] * panel), panel, k * panel)
    place = Out(advance(out.start, first), out.row_step, width)
    whole = min(VECTORS, (columns - first) // width)
    if whole > 0:
        panel_product(tile, rows, whole, place, init, left, right, k, blocks)
    rest = min(panel, columns - first) - whole * width
    if rest > 0:  # columns that are no whole vector, by way of the stack
        skip = whole * width
        strip = stack_array(panels, ROWS)
        for row in range(0, rows, ROWS):
            some = min(ROWS, rows - row)
            panel_product(
                tile,
                some,
                1,
                Out(pointer(strip, 0), width, width),
                Out(advance(bias, skip), 0, width),
                Left(advance(left.start, row * left.row_step), left.row_step, left.k_step, left.block_step),
                Right(advance(right.start, skip), right.k_step, right.block_step),
                k,
                blocks,
            )
            for r in range(some):
                for lane in range(rest):
                    store_element(place.start, (row + r) * out.row_step + skip + lane, strip[r * width + lane])


@jit
def padded_product(tile, rows, columns, out, init, left, panels, first, blocks, q, q0, q1):
    """Compute panel `q` of q0 to q1 of a product with `columns` columns, packed; return how many vectors it holds.

    What is written ends with a whole vector. Of one row, two whole panels are taken at once: with the first the second one.

    out, init : Out of column 0; panels : (.., K, V), panel 0 at `first`, K rows in all blocks together
    """
    width = lanes(panels)
    panel, k = VECTORS * width, panels.shape[1] // blocks
    whole = q0 + max(0, min(q1, columns // panel) - q0) // 2 * 2 if rows == 1 else q0
    vectors = min(VECTORS, -(-columns // width) - q * VECTORS)
    if q >= whole or (q - q0) % 2 == 0:
        place = Out(advance(out.start, q * panel), out.row_step, width)
        apart = panel if init.row_step > 0 else 0
        begin = Out(advance(init.start, q * apart), init.row_step, width)
        right = Right(pointer(panels, (first + q) * panels.shape[1] * panel), panel, k * panel)
        second = panel, apart, panels.shape[1] * panel * (q < whole)
        panel_products(tile, rows, vectors, place, begin, left, right, k, blocks, second)
    return vectors


@jit
def dense_rows(tile, x, panels, bias, y, start, stop):
    """Compute rows `start` to `stop` of a dense layer, ``y = x W + b``.

    x : (R, K); panels : W (K, C) by layout.pack_columns; bias : (ceil(C / V) * V,), padded with zeros; y : (R, C) written
    """
    inputs, columns = x.shape[1], y.shape[1]
    out = Out(pointer(y, start * columns), columns, lanes(y))
    left = Left(pointer(x, start * inputs), inputs, 1, 0)
    for p in range(panels.shape[0]):
        packed_product(tile, stop - start, out, columns, pointer(bias, p * panels.shape[2]), left, panels, p, 1)
