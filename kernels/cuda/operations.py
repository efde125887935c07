"""Launches of all that has no product, under the names that the CPU's entry points have (kernels/parallel.py).

All go to one stream, and nothing comes back to the host. Arguments are those of the CPU's kernels unless said otherwise.
"""

import functools
from typing import Any

from numlstm.kernels.activations import SOFTMAX

from . import elementwise, losses, moves, updates
from .elementwise import THREADS

_kernel = functools.cache(lambda make, *options: make(*options))


def _launch(stream: Any, kernel: Any, threads: int, *arguments: Any, across: int = 1) -> None:
    """Launch enough blocks for so many threads, times `across`."""
    if threads and across:
        kernel[(-(-threads // THREADS), across), THREADS, stream](*arguments)


def drop(stream: Any, key: Any, rate: float, x: Any, y: Any) -> None:
    _launch(stream, _kernel(elementwise.drop, x.dtype.type), x.size, key, rate, x, y)


def gather(stream: Any, table: Any, indices: Any, y: Any) -> None:
    _launch(stream, _kernel(elementwise.gather), y.size, table, indices, y)


def scatter(stream: Any, indices: Any, dy: Any, dtable: Any) -> None:
    columns = -(-dtable.shape[1] // THREADS)
    _launch(stream, _kernel(elementwise.scatter), indices.size * THREADS, indices, dy, dtable, across=columns)


def activate(stream: Any, kind: int, z: Any, y: Any) -> None:
    _launch(stream, _kernel(elementwise.activate, z.dtype.type), z.shape[0] if kind == SOFTMAX else z.size, kind, z, y)


def differentiate(stream: Any, kind: int, y: Any, dy: Any, dz: Any) -> None:
    """Write dz (R, C), which has no padding here."""
    threads = y.shape[0] if kind == SOFTMAX else y.size
    _launch(stream, _kernel(elementwise.differentiate, y.dtype.type), threads, kind, y, dy, dz)


def loss(stream: Any, loss: Any, prediction: Any, target: Any, *more: Any, values: Any, sums: Any) -> None:
    """Compute a loss; its sum over the rows is then element 0 of `sums` (1 + B,) float64.

    more : weights, lengths, scale, gradient
    """
    of_rows = _kernel(losses.loss, type(loss), len(target.shape) == 1)
    _launch(stream, of_rows, prediction.shape[0], loss, prediction, target, *more, values)
    _sum(stream, values, False, sums)


def _sum(stream: Any, values: Any, squared: bool, sums: Any) -> None:
    """Sum values (V,), or their squares, to element 0 of `sums` (1 + B,), by B blocks, then by one: always in one order."""
    for stage, source, target in ((squared, values, sums[1:]), (False, sums[1:], sums[:1])):
        _launch(stream, _kernel(updates.sums, stage), target.size * THREADS, source, target)


def sum_of_squares(stream: Any, gradient: Any, sums: Any) -> None:
    """Sum the squares of a gradient (P,) to element 0 of `sums` (1 + B,) float64."""
    _sum(stream, gradient, True, sums)


def clip(stream: Any, square: Any, limit: float, factor: Any) -> None:
    """Shrink `factor` (1,) so that a gradient whose squares' sum is `square` (1,), times it, has no greater norm."""
    _launch(stream, _kernel(updates.clip), 1, square, limit, factor)


def fill(stream: Any, array: Any, value: float) -> None:
    _launch(stream, _kernel(moves.fill, array.dtype.type), array.size, array, value)


def copy_rows(stream: Any, source: tuple[Any, int, int], target: tuple[Any, int, int], rows: int, columns: int) -> None:
    """Copy rows of so many columns; source, target : an array (V,), where the first row begins, and how far the next is."""
    _launch(stream, _kernel(moves.copy_rows), rows * columns, *source, *target, rows, columns)


def steps(stream: Any, array: Any, starts: Any, counts: Any, backwards: bool, out: Any) -> None:
    _launch(stream, _kernel(moves.steps, out.dtype.type), out.size, array, starts, counts, backwards, out)


def within(stream: Any, lengths: Any, start: int, most: int, found: Any) -> None:
    _launch(stream, _kernel(moves.within), found.size, lengths, start, most, found)


def combine(stream: Any, kind: int, a: Any, b: Any, y: Any) -> None:
    _launch(stream, _kernel(moves.combine, y.dtype.type), y.size, kind, a, b, y)


def scale(stream: Any, array: Any, factor: Any) -> None:
    _launch(stream, _kernel(moves.scale), array.size, array, factor)


def add_total(stream: Any, sums: Any, totals: Any, k: int) -> None:
    _launch(stream, _kernel(moves.add_total), 1, sums, totals, k)


def update(stream: Any, rule: Any, parameters: Any, gradient: Any, slots: Any, factor: Any, bound: float) -> None:
    """Move parameters (P,), which lie together here, by one step."""
    kernel = _kernel(updates.update, type(rule), gradient.dtype.type)
    _launch(stream, kernel, parameters.size, rule, parameters, gradient, slots, factor, bound)
