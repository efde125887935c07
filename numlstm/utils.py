"""Helpers by the names that Keras gives them."""

from typing import Any

import numpy as np

from . import _random, _validate
from ._validate import Array

__all__ = ["set_random_seed", "to_categorical"]


def set_random_seed(seed: int) -> None:
    """Make what is random from here on in this process repeatable: first weights, shuffling, dropout.

    Unlike Keras', it leaves the generators of NumPy and Python as they are.
    """
    _random.restart(_validate.whole("seed", seed, 0))


def to_categorical(x: Any, num_classes: int | None = None) -> Array:
    """Return classes (N, ..) as vectors (N, .., num_classes) of zeros with a one, in float32.

    num_classes : one more than the largest class, if left out

    Raises
    ------
    ValueError
        For a class outside of 0..num_classes - 1.
    """
    array = np.asarray(x)
    if num_classes is None:
        num_classes = int(array.max()) + 1 if array.size else 1
    labels = _validate.indices("x", array, _validate.whole("num_classes", num_classes))
    return np.eye(num_classes, dtype=np.float32)[labels]
