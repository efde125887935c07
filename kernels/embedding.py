"""Embedding: rows of a table by index, and the sums of their gradients."""

from .compiling import jit
from .memory import copy, pointer


@jit
def gather(tile, table, indices, y, start, stop):
    """Write rows `start` to `stop` of ``y = table[indices]``.

    table : (V, C); indices : (R,) int64 in 0..V-1; y : (R, C)
    """
    columns = table.shape[1]
    for r in range(start, stop):
        copy(pointer(table, indices[r] * columns), pointer(y, r * columns), columns)


@jit
def scatter(tile, indices, dy, dtable, start, stop):
    """Add columns `start` to `stop` of dy's rows to the table's gradient, in order: the same bits for any split.

    indices : (R,) int64; dy : (R, C); dtable : (V, C)  accumulated into
    """
    for r in range(indices.shape[0]):
        for c in range(start, stop):
            dtable[indices[r], c] += dy[r, c]
