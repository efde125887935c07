"""Dropout, with masks from a counter-based generator: the same bits at any thread count, and nothing to store."""

import numpy as np

from .compiling import jit

GOLDEN, *MIXES = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
SHIFTS = 30, 27, 31
_GOLDEN, _MIX_1, _MIX_2 = (np.uint64(number) for number in (GOLDEN, *MIXES))
_S30, _S27, _S31, _S32 = (np.uint64(shift) for shift in (*SHIFTS, 32))


@jit
def random_word(key, counter):
    """Return the 64 random bits of place `counter` in the stream `key`: SplitMix64 (Steele, Lea and Flood 2014)."""
    z = key + (np.uint64(counter) + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@jit
def random_bits(key, counter):
    """Return the upper 32 of those bits."""
    return random_word(key, counter) >> _S32


@jit
def dropout(tile, key, rate, x, y, start, stop):
    """Write ``y = x / (1 - rate)``, or 0 with probability `rate`, for rows `start` to `stop` (Srivastava et al. 2014).

    key : uint64, which with the place (row, column) determines the mask; rate : in 0..1
    x, y : (R, T, C); the mask of a row is the same at all T steps; y may be x
    """
    columns = x.shape[2]
    threshold = np.uint64(rate * 4294967296.0)
    scale = x.dtype.type(1 / (1 - rate))
    for r in range(start, stop):
        for t in range(x.shape[1]):
            for c in range(columns):
                kept = random_bits(key, r * columns + c) >= threshold
                y[r, t, c] = x[r, t, c] * scale if kept else x.dtype.type(0)
