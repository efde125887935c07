"""Batches of sequences of different lengths: which rows take part in a step.

A sweep takes rows in descending order of length, so that those that take part in a step are the first ones, and what it
keeps for itself (z, c, gradients of the states) lies in this order. x, y, dx and dy stay in the caller's order; what lies in
them past a row's length is neither read nor written.

ragged : (3, N) int64, of each row in that order and for one window of the steps: its number in the caller's arrays; its end,
the step after its last one, or the window's start; and how many steps all rows before it have. (3, 0) stands for a full
batch, whose rows have all steps of a window and stay in their order.
"""

from .compiling import jit


@jit
def row_of(ragged, n):
    """Return the number in the caller's arrays of row `n`."""
    return ragged[0, n] if ragged.shape[1] > 0 else n


@jit
def end_of(ragged, window, n):
    """Return the step after the last one of row `n` in a window."""
    return ragged[1, n] if ragged.shape[1] > 0 else window.stop


@jit
def rows_at(ragged, t, start, stop):
    """Return the end of those rows from `start` to `stop` that take part in step `t`."""
    if ragged.shape[1] > 0:
        while stop > start and ragged[1, stop - 1] <= t:
            stop -= 1
    return stop


@jit
def rows_of_part(ragged, start, stop):
    """Return the rows of a part of a batch: `start` to `stop` of its rows, or of its pairs of a row and a step if ragged."""
    first = end = 0
    if ragged.shape[1] == 0:
        return start, stop
    for n in range(ragged.shape[1]):
        first += ragged[2, n] < start
        end += ragged[2, n] < stop
    return first, end
