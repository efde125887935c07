"""Update rules, the size of a gradient and its clipping, all on the GPU: the host learns of none of these numbers."""

import numpy as np
from numlstm.kernels import updates

from .elementwise import THREADS, place
from .machine import cuda, kernel, load, sqrt, store
from .scalar import scalar


def update(rule, dtype):
    """Return the kernel (rule, parameters, gradient, slots, factor, bound) that moves parameters by one step.

    rule : one of updates' namedtuples
    parameters, gradient : (P,); slots : (S, P)  what the rule keeps, updated
    factor : (1,) float64, by which the gradient is multiplied; bound : to which it is then limited, unless that is 0
    """
    moved, count = scalar(updates._RULES[rule]), updates.SLOTS[rule]

    @kernel(THREADS)
    def update(rule, parameters, gradient, slots, factor, bound):
        i, size = place(), parameters.shape[0]
        if i >= size:
            return
        g = load(gradient, i) * dtype(load(factor, 0))
        if bound > 0:
            limit = dtype(bound)
            g = -limit if g < -limit else g
            g = limit if g > limit else g
        a, b = dtype(0), dtype(0)
        if count > 0:
            a = load(slots, i)
        if count > 1:
            b = load(slots, size + i)
        p, a, b = moved(rule, gradient, load(parameters, i), g, a, b)
        store(parameters, i, p)
        if count > 0:
            store(slots, i, a)
        if count > 1:
            store(slots, size + i, b)

    return update


def sums(squared: bool):
    """Return the kernel (values, sums) of sums over stretches of the values, in float64: one for each block.

    squared : whether squares are summed; values : (V,); sums : (B,) float64. Each block sums the same stretches always.
    """

    @kernel(THREADS)
    def sums(values, sums):
        held = cuda.shared.array(THREADS, np.float64)
        thread, blocks = cuda.threadIdx.x, sums.shape[0]
        total = np.float64(0)
        for i in range(place(), values.shape[0], blocks * THREADS):
            value = np.float64(load(values, i))
            total += value * value if squared else value
        store(held, thread, total)
        cuda.syncthreads()
        width = THREADS // 2
        while width > 0:
            if thread < width:
                store(held, thread, load(held, thread) + load(held, thread + width))
            cuda.syncthreads()
            width //= 2
        if thread == 0:
            store(sums, cuda.blockIdx.x, load(held, 0))

    return sums


def clip():
    """Return the kernel (square, limit, factor) of one block: shrink `factor` so that the gradient's norm stays in a limit.

    square : (1,) float64, sum of the gradient's squares; factor : (1,) float64, by which it is multiplied
    """

    @kernel(THREADS)
    def clip(square, limit, factor):
        if cuda.threadIdx.x == 0:
            norm = sqrt(load(square, 0)) * load(factor, 0)
            if norm > limit:
                store(factor, 0, load(factor, 0) * (limit / norm))

    return clip
