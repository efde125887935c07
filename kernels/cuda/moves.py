"""What happens to arrays between the passes of layers: copies of parts, steps the other way round, sums of two."""

import numpy as np

from .elementwise import THREADS, place
from .machine import constant, kernel, load, store

ADD, AVERAGE, MULTIPLY, HALVE = range(4)  # what `combine` makes of a and b; HALVE looks at a alone


def fill(dtype):
    """Return the kernel (array, value) that writes a number to all of an array (V,)."""

    @kernel(THREADS)
    def fill(array, value):
        at = place()
        if at < array.shape[0]:
            store(array, at, dtype(value))

    return fill


def copy_rows():
    """Return the kernel (source, first, step, target, target_first, target_step, rows, columns) that copies a part.

    source, target : (V,) each; first, step : where the first row of so many columns begins, and how far the next ones are
    """

    @kernel(THREADS)
    def copy_rows(source, first, step, target, target_first, target_step, rows, columns):
        at = place()
        if at < rows * columns:
            row, column = at // columns, at % columns
            store(target, target_first + row * target_step + column, load(source, first + row * step + column))

    return copy_rows


def steps(dtype):
    """Return the kernel (array, starts, counts, backwards, out) that copies steps of sequences, with 0 behind them.

    array : (N, S, C); out : (N, T, C), which may be the array where nothing moves
    starts, counts : (N,) int64  the first step of each, and how many; backwards : whether the last comes first
    """

    @kernel(THREADS)
    def steps(array, starts, counts, backwards, out):
        at = place()
        rows, most, columns = out.shape
        if at < rows * most * columns:
            n, t = at // columns // most, at // columns % most
            count, value = load(counts, n), dtype(0)
            if t < count:
                step = load(starts, n) + (count - 1 - t if backwards else t)
                value = load(array, (n * array.shape[1] + step) * columns + at % columns)
            store(out, at, value)

    return steps


def within():
    """Return the kernel (lengths, start, most, found) that finds how many of `most` steps are within lengths.

    lengths, found : (N,) int64; start : the first of these steps
    """

    @kernel(THREADS)
    def within(lengths, start, most, found):
        at = place()
        if at < found.shape[0]:
            store(found, at, min(max(load(lengths, at) - start, np.int64(0)), np.int64(most)))

    return within


def combine(dtype):
    """Return the kernel (kind, a, b, y) that writes a sum, mean or product, or half of a; all (V,), y may be one of them."""

    @kernel(THREADS)
    def combine(kind, a, b, y):
        at = place()
        if at < y.shape[0]:
            value, other = load(a, at), load(b, at)
            if kind == MULTIPLY:
                value = value * other
            elif kind != HALVE:
                value = value + other
            if kind == AVERAGE or kind == HALVE:
                value = value * dtype(0.5)
            store(y, at, value)

    return combine


def scale():
    """Return the kernel (array, factor) that multiplies an array (V,) by a number (1,) float64."""

    @kernel(THREADS)
    def scale(array, factor):
        at = place()
        if at < array.shape[0]:
            value = load(array, at)
            store(array, at, value * constant(value, load(factor, 0)))

    return scale


def add_total():
    """Return the kernel (sums, totals, k) that adds the first of `sums` to element k of `totals`, float64 both."""

    @kernel(THREADS)
    def add_total(sums, totals, k):
        if place() == 0:
            store(totals, k, load(totals, k) + load(sums, 0))

    return add_total
