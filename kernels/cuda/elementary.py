"""The elementary functions of kernels/elementary.py over scalars. A NaN is handed on by all of them."""

import numpy as np
from numlstm.kernels import dropout

from .machine import constant, device, exp, fma, log1p

random_word = device(dropout.random_word.py_func)


@device
def sigmoid(x):
    """Return 1 / (1 + e**-x), from e**-|x|, so that small results keep their relative accuracy."""
    one, e = constant(x, 1), exp(-abs(x))
    return (e if x < constant(x, 0) else one) / (one + e)


@device
def log_sigmoid(x):
    """Return the logarithm of 1 / (1 + e**-x), from e**-|x|, so that small results keep their relative accuracy."""
    zero = constant(x, 0)
    return (zero if x > zero else x) - log1p(exp(-abs(x)))


@device
def maximum(a, b):
    """Return the greater of two, `a` where either is a NaN."""
    return b if a < b else a


@device
def minimum(a, b):
    """Return the lesser of two, `a` where either is a NaN."""
    return b if a > b else a


@device
def clamp(value, bound):
    """Return the value limited to -bound..bound."""
    value = -bound if value < -bound else value
    return bound if value > bound else value


@device
def zero_beyond(value, c, bound):
    """Return `value`, but 0 where c is not between -bound and bound; kept where c is a NaN."""
    return constant(value, 0) if c <= -bound or c >= bound else value


@device
def random_keeps(like, key, counter, half, rate):
    """Return 1 with probability `rate`, else 0, from 32 of the 64 random bits of a place: with `half` the lower ones."""
    word = random_word(key, counter)
    bits = word & np.uint64(0xFFFFFFFF) if half else word >> np.uint64(32)
    return constant(rate, 1) if bits < np.uint64(rate * constant(rate, 4294967296.0)) else constant(rate, 0)


@device
def where(condition, a, b):
    """Return `a` where the condition holds, else `b`."""
    return a if condition else b


@device
def relu(x):
    """Return max(x, 0)."""
    zero = constant(x, 0)
    return zero if x < zero else x


@device
def positive(y):
    """Return 1 above 0, else 0."""
    return constant(y, 1) if y > constant(y, 0) else constant(y, 0)


@device
def hard_sigmoid(x):
    """Return min(max(x / 6 + 1/2, 0), 1)."""
    zero, one = constant(x, 0), constant(x, 1)
    y = fma(x, constant(x, 1 / 6), constant(x, 0.5))
    y = zero if y < zero else y
    return one if y > one else y


@device
def hard_sigmoid_slope(y):
    """Return hard_sigmoid's slope from its value."""
    return constant(y, 1 / 6) if constant(y, 0) < y < constant(y, 1) else constant(y, 0)
