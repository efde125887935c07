"""What each thread does to an element or a row of its own: dropout, embeddings, activations."""

import numpy as np
from numlstm.kernels import dropout
from numlstm.kernels.activations import RELU, SIGMOID, SOFTMAX, TANH

from .elementary import relu, sigmoid
from .machine import cuda, device, exp, kernel, load, store, tanh
from .scalar import scalar

THREADS = 128

random_bits = scalar(dropout.random_bits)


@device
def place():
    """Return the number of a thread of all blocks."""
    return cuda.blockIdx.x * THREADS + cuda.threadIdx.x


@device
def softmax_row(z, r, powers, write):
    """Return row r's maximum and the sum of ``exp(z - maximum)``; with `write`, write these to `powers` (R, C)."""
    columns = z.shape[1]
    top = load(z, r * columns)
    for c in range(1, columns):
        value = load(z, r * columns + c)
        top = value if value > top else top
    total = exp(load(z, r * columns) - top)
    if write:
        store(powers, r * columns, total)
    for c in range(1, columns):
        power = exp(load(z, r * columns + c) - top)
        if write:
            store(powers, r * columns + c, power)
        total += power
    return top, total


def drop(dtype):
    """Return the kernel (key, rate, x, y) of dropout, with the masks that the CPU draws; arguments as dropout.dropout's."""

    @kernel(THREADS)
    def drop(key, rate, x, y):
        at = place()
        rows, steps, columns = x.shape
        if at < rows * steps * columns:
            counter = at // columns // steps * columns + at % columns
            kept = random_bits(key, counter) >= np.uint64(rate * 4294967296.0)
            store(y, at, load(x, at) * dtype(1 / (1 - rate)) if kept else dtype(0))

    return drop


def gather():
    """Return the kernel (table, indices, y) that writes ``y = table[indices]``; arguments as embedding.gather's."""

    @kernel(THREADS)
    def gather(table, indices, y):
        at, columns = place(), table.shape[1]
        if at < indices.shape[0] * columns:
            store(y, at, load(table, load(indices, at // columns) * columns + at % columns))

    return gather


def scatter():
    """Return the kernel (indices, dy, dtable) that adds dy's rows to the table's gradient; arguments as embedding.scatter's.

    The first row with an index adds up all rows with it, in order. Blocks: rows, THREADS columns.
    """

    @kernel(THREADS)
    def scatter(indices, dy, dtable):
        row, column, columns = cuda.blockIdx.x, cuda.blockIdx.y * THREADS + cuda.threadIdx.x, dtable.shape[1]
        if column >= columns:
            return
        index = load(indices, row)
        for r in range(row):
            if load(indices, r) == index:
                return
        total = load(dtable, index * columns + column)
        for r in range(row, indices.shape[0]):
            if load(indices, r) == index:
                total += load(dy, r * columns + column)
        store(dtable, index * columns + column, total)

    return scatter


def activate(dtype):
    """Return the kernel (kind, z, y) that writes ``y = activation(z)``; arguments as activations.activate's.

    Blocks: THREADS elements, or with SOFTMAX rows.
    """

    @kernel(THREADS)
    def activate(kind, z, y):
        at, columns = place(), z.shape[1]
        if kind == SOFTMAX:
            if at < z.shape[0]:
                _, total = softmax_row(z, at, y, True)
                scale = dtype(1) / total
                for c in range(columns):
                    store(y, at * columns + c, load(y, at * columns + c) * scale)
        elif at < z.shape[0] * columns:
            value = load(z, at)
            if kind == RELU:
                value = relu(value)
            elif kind == TANH:
                value = tanh(value)
            elif kind == SIGMOID:
                value = sigmoid(value)
            store(y, at, value)

    return activate


def differentiate(dtype):
    """Return the kernel (kind, y, dy, dz) that writes ``dz = dy * activation'(z)`` from the activation's result y.

    y, dy, dz : (R, C). Blocks: THREADS elements, or with SOFTMAX rows.
    """

    @kernel(THREADS)
    def differentiate(kind, y, dy, dz):
        at, columns, one = place(), y.shape[1], dtype(1)
        if kind == SOFTMAX:
            if at < y.shape[0]:
                inner = dtype(0)
                for c in range(columns):
                    inner += load(dy, at * columns + c) * load(y, at * columns + c)
                for c in range(at * columns, (at + 1) * columns):
                    store(dz, c, (load(dy, c) - inner) * load(y, c))
        elif at < y.shape[0] * columns:
            value, slope = load(y, at), load(dy, at)
            if kind == SIGMOID:
                slope = slope * value * (one - value)
            elif kind == TANH:
                slope = slope * (one - value * value)
            elif kind == RELU and value <= dtype(0):  # a NaN is not: it goes on
                slope = dtype(0)
            store(dz, at, slope)

    return differentiate
