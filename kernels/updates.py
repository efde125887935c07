"""Optimisers' update rules, over lanes, and the size of a gradient.

Each rule has a params namedtuple of float64 numbers, whose type selects its function at compile time, as a cell's does.
"""

from typing import Any, NamedTuple

import numpy as np

from .compiling import jit, overload
from .memory import array_at, load_first, stack_array, store, store_first
from .simd import clamp, constant, lanes, splat, sqrt

SUM_LENGTH = 4096  # elements in one partial sum of squares


class SGD(NamedTuple):
    """p - rate g."""

    rate: Any


class Momentum(NamedTuple):
    """v = momentum v - rate g, p + v (Polyak 1964); with nesterov = 1, p + momentum v - rate g (Sutskever et al. 2013)."""

    rate: Any
    momentum: Any
    nesterov: Any


class RMSprop(NamedTuple):
    """s = rho s + (1 - rho) g**2, p - rate g / sqrt(s + epsilon) (Tieleman and Hinton 2012)."""

    rate: Any
    rho: Any
    epsilon: Any


class Adam(NamedTuple):
    """Kingma and Ba 2015, in the form of the end of its section 2; Loshchilov and Hutter 2019 with a decay.

    rate : with both bias corrections in it; decay : learning rate times weight decay
    """

    rate: Any
    beta_1: Any
    beta_2: Any
    epsilon: Any
    decay: Any


SLOTS = {SGD: 0, Momentum: 1, RMSprop: 1, Adam: 2}  # numbers kept for each parameter


def moved(rule, like, p, g, a, b):
    """Return (p, a, b): a parameter and its slots after one step."""
    raise NotImplementedError("compiled code only")


def _sgd(rule, like, p, g, a, b):
    return p - splat(like, like.dtype.type(rule.rate)) * g, a, b


def _momentum(rule, like, p, g, a, b):
    momentum = splat(like, like.dtype.type(rule.momentum))
    step = splat(like, like.dtype.type(rule.rate)) * g
    a = momentum * a - step
    return p + (momentum * a - step if rule.nesterov else a), a, b


def _rmsprop(rule, like, p, g, a, b):
    rho = splat(like, like.dtype.type(rule.rho))
    a = rho * a + splat(like, like.dtype.type(1 - rule.rho)) * (g * g)
    return p - splat(like, like.dtype.type(rule.rate)) * g / sqrt(a + splat(like, like.dtype.type(rule.epsilon))), a, b


def _adam(rule, like, p, g, a, b):
    a = a + splat(like, like.dtype.type(1 - rule.beta_1)) * (g - a)
    b = b + splat(like, like.dtype.type(1 - rule.beta_2)) * (g * g - b)
    p = p - splat(like, like.dtype.type(rule.decay)) * p
    root = sqrt(b) + splat(like, like.dtype.type(rule.epsilon))
    return p - splat(like, like.dtype.type(rule.rate)) * a / root, a, b


_RULES = {SGD: _sgd, Momentum: _momentum, RMSprop: _rmsprop, Adam: _adam}


@overload(moved)
def _choose_rule(rule, like, p, g, a, b):
    return _RULES.get(getattr(rule, "instance_class", None))


@jit
def update(tile, rule, table, gradient, slots, factors, bound, start, stop):
    """Move vectors `start` to `stop` by one step; each parameter's are counted on from those before it.

    rule : one of this module's namedtuples
    table : (K, 2) int64  address and number of elements of each parameter; they are P together
    gradient : (P,)  of the parameters, one after the other; multiplied by its parameter's of the factors (K,) float64
    slots : (S, P) by its size  S numbers for each element of the first parameter, then of the second, ..; updated
    bound : the gradient is then limited to -bound..bound, unless that is 0
    """
    width, first, at = lanes(gradient), 0, 0
    for k in range(table.shape[0]):
        size = table[k, 1]
        vectors = -(-size // width)
        parameter = array_at(gradient, table[k, 0], size)
        factor = gradient.dtype.type(factors[k])
        for vector in range(max(0, start - first), min(vectors, stop - first)):
            _update_vector(rule, parameter, vector * width, gradient, at, slots, factor, bound)
        first += vectors
        at += size


@jit
def _update_vector(rule, parameter, i, gradient, at, slots, factor, bound):
    """Move elements from `i` on of a parameter whose gradient begins at `at`."""
    size, count = parameter.shape[0], parameter.shape[0] - i
    slots_at = slots.shape[0] * at + i
    g = load_first(gradient, at + i, count) * splat(gradient, factor)
    if bound > 0:
        g = clamp(g, splat(gradient, gradient.dtype.type(bound)))
    a = b = constant(g, 0)
    if slots.shape[0] > 0:
        a = load_first(slots, slots_at, count)
    if slots.shape[0] > 1:
        b = load_first(slots, slots_at + size, count)
    p, a, b = moved(rule, gradient, load_first(parameter, i, count), g, a, b)
    store_first(parameter, i, p, count)
    if slots.shape[0] > 0:
        store_first(slots, slots_at, a, count)
    if slots.shape[0] > 1:
        store_first(slots, slots_at + size, b, count)


@jit
def squares(tile, gradient, sums, start, stop):
    """Write the sums of squares of stretches `start` to `stop` of the gradient.

    gradient : (P,); sums : (ceil(P / SUM_LENGTH),) float64
    """
    width = lanes(gradient)
    parts = stack_array(gradient, 1)
    for stretch in range(start, stop):
        first, last = stretch * SUM_LENGTH, min(gradient.shape[0], (stretch + 1) * SUM_LENGTH)
        total = splat(gradient, gradient.dtype.type(0))
        for at in range(first, last, width):
            g = load_first(gradient, at, last - at)
            total = total + g * g
        store(parts, 0, total)
        total_sum = 0.0
        for lane in range(width):
            total_sum += np.float64(parts[lane])
        sums[stretch] = total_sum
