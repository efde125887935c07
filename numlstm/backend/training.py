"""Losses, updates of parameters, and the size of a gradient."""

from typing import Any

import numpy as np

from numlstm._validate import Array
from numlstm.kernels import losses, parallel, target, updates

from .runtime import elementwise

LOSSES = losses
RULES = updates
SLOTS = updates.SLOTS  # by rule: how many numbers it keeps for each parameter


def run_loss(
    loss: Any, prediction: Array, labels: Array, weights: Array, scale: float, gradient: Array, values: Array
) -> float:
    """Return the sum of a loss over rows; write `scale` times its gradient.

    prediction, gradient : (R, C), the latter (0, C) to leave it out; labels : (R, C), or (R,) classes
    weights : (R,) or (0,); values : (R,) float64, workspace
    """
    run = elementwise(prediction.shape[0], prediction.size, prediction.dtype)
    return float(parallel.loss(run, loss, prediction, labels, weights, scale, gradient, values))


def update(rule: Any, parameters: Array, gradient: Array, slots: Array, scale: float, bound: float) -> None:
    """Move parameters by one step against their gradient (P,), multiplied by `scale` and limited to `bound` unless 0."""
    vectors = -(-gradient.size // target.lanes(gradient.dtype))
    run = elementwise(vectors, gradient.size, gradient.dtype)
    parallel.update(run, rule, parameters, gradient, slots, scale, bound)


def norm(gradient: Array) -> float:
    """Return the Euclidean norm of a gradient (P,): the same bits at any thread count."""
    sums = np.empty(-(-gradient.size // updates.SUM_LENGTH))
    run = elementwise(sums.size, gradient.size // 4, gradient.dtype)
    return float(np.sqrt(parallel.sum_of_squares(run, gradient, sums)))
