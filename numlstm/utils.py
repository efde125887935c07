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
    most = np.iinfo(np.int64).max if num_classes is None else _validate.whole("num_classes", num_classes)
    labels = _validate.indices("x", x, most)
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]  # as Keras
    count = int(labels.max(initial=0)) + 1 if num_classes is None else most
    vectors = np.zeros((*labels.shape, count), np.float32)
    np.put_along_axis(vectors, labels[..., np.newaxis], 1, axis=-1)
    return vectors
