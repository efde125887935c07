"""What the functions of a user's own cell (`numlstm.Cell`) compute with, beside ``+ - * /`` and comparisons.

Here they take NumPy arrays and numbers; in compiled code, the vectors that a cell is computed in.
"""

from typing import Any

import numpy as np

__all__ = [
    "exp",
    "fma",
    "hard_sigmoid",
    "log_sigmoid",
    "maximum",
    "minimum",
    "relu",
    "sigmoid",
    "sqrt",
    "tanh",
    "where",
]


def exp(x: Any) -> Any:
    """Return e**x."""
    return np.exp(x)


def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + e**-x); its slope is ``y * (1 - y)``."""
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1) / (1 + small)


def log_sigmoid(x: Any) -> Any:
    """Return log(sigmoid(x)), also where sigmoid(x) is 0 or 1 to rounding; its slope is ``sigmoid(-x)``."""
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


def tanh(x: Any) -> Any:
    """Return the hyperbolic tangent; its slope is ``1 - y * y``."""
    return np.tanh(x)


def relu(x: Any) -> Any:
    """Return max(x, 0)."""
    return np.maximum(x, 0)


def hard_sigmoid(x: Any) -> Any:
    """Return min(max(x / 6 + 1/2, 0), 1)."""
    return np.clip(x / 6 + 0.5, 0, 1)


def sqrt(x: Any) -> Any:
    """Return the square root."""
    return np.sqrt(x)


def maximum(a: Any, b: Any) -> Any:
    """Return the greater of two."""
    return np.maximum(a, b)


def minimum(a: Any, b: Any) -> Any:
    """Return the lesser of two."""
    return np.minimum(a, b)


def fma(a: Any, b: Any, c: Any) -> Any:
    """Return ``a * b + c``, rounded once where the CPU can."""
    return a * b + c


def where(condition: Any, a: Any, b: Any) -> Any:
    """Return `a` where the condition, a comparison, holds, else `b`."""
    return np.where(condition, a, b)
