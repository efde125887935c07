"""Activations of feed-forward layers and their derivatives, row by row, over lanes."""

from .compiling import jit
from .elementary import exp, sigmoid, tanh
from .memory import load, load_first, stack_array, store, store_first
from .simd import constant, lanes, maximum, splat

LINEAR, RELU, TANH, SIGMOID, SOFTMAX = range(5)


@jit
def activate(tile, kind, z, y, start, stop):
    """Write ``y = activation(z)`` for rows `start` to `stop`; y may be z.

    kind : one of this module's constants; z, y : (R, C)
    """
    width, columns = lanes(z), z.shape[1]
    for r in range(start, stop):
        if kind == SOFTMAX:
            _, total = softmax_row(z, r, y, True)
            scale = splat(z, z.dtype.type(1 / total))
            for at in range(0, columns, width):
                store_first(y, r * columns + at, load_first(y, r * columns + at, columns - at) * scale, columns - at)
        else:
            for at in range(0, columns, width):
                value = load_first(z, r * columns + at, columns - at)
                if kind == RELU:
                    value = maximum(value, constant(value, 0))
                elif kind == TANH:
                    value = tanh(value)
                elif kind == SIGMOID:
                    value = sigmoid(value)
                store_first(y, r * columns + at, value, columns - at)


@jit
def differentiate(tile, kind, y, dy, dz, start, stop):
    """Write ``dz = dy * activation'(z)``, from the activation's result, for rows `start` to `stop`.

    y, dy : (R, C); dz : (R, C')  written, zeros in the padding
    """
    width, columns, padded = lanes(dy), dy.shape[1], dz.shape[1]
    for r in range(start, stop):
        inner = dy.dtype.type(0)
        if kind == SOFTMAX:
            for c in range(columns):
                inner += dy[r, c] * y[r, c]
        for at in range(0, padded, width):
            count = max(0, columns - at)
            place = r * columns + min(at, columns)
            slope = load_first(dy, place, count)
            value, one = load_first(y, place, count), constant(slope, 1)
            if kind == SIGMOID:
                slope = slope * value * (one - value)
            elif kind == TANH:
                slope = slope * (one - value * value)
            elif kind == SOFTMAX:
                slope = (slope - splat(dy, inner)) * value
            store(dz, r * padded + at, slope)
        if kind == RELU:
            for c in range(columns):
                if y[r, c] <= 0:  # a NaN is not: it goes on
                    dz[r, c] = 0


@jit
def softmax_row(z, r, powers, write):
    """Return row r's maximum and the sum of ``exp(z - maximum)``; with `write`, write these to `powers` (R, C)."""
    width, columns = lanes(z), z.shape[1]
    top = z[r, 0]
    parts = stack_array(z, 1)
    if columns >= width:
        most = load(z, r * columns)
        for at in range(width, columns, width):  # the last vector overlaps the one before it
            most = maximum(most, load(z, r * columns + min(at, columns - width)))
        store(parts, 0, most)
        top = parts[0]
        for lane in range(1, width):
            top = max(top, parts[lane])
    else:
        for c in range(1, columns):
            top = max(top, z[r, c])
    shift, sums, rest = splat(z, top), splat(z, z.dtype.type(0)), z.dtype.type(0)
    for at in range(0, columns, width):
        power = exp(load_first(z, r * columns + at, columns - at) - shift)
        if write:
            store_first(powers, r * columns + at, power, columns - at)
        if at + width <= columns:
            sums = sums + power
        else:
            store(parts, 0, power)
            for lane in range(columns - at):
                rest += parts[lane]
    store(parts, 0, sums)
    for lane in range(width):
        rest += parts[lane]
    return top, rest
