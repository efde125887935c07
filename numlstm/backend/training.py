"""Losses, updates of parameters, and the size of a gradient."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from numlstm._validate import Array
from numlstm._workspace import aligned_empty
from numlstm.kernels import losses, parallel, target, updates

from .runtime import elementwise

LOSSES = losses
RULES = updates
SLOTS = updates.SLOTS  # by rule: how many numbers it keeps for each parameter
_ALL = np.empty(0, np.int64)  # lengths, where all rows count


def run_loss(
    loss: Any,
    prediction: Array,
    labels: Array,
    weights: Array,
    lengths: Array | None,
    scale: float,
    gradient: Array,
    values: Array,
) -> float:
    """Return the sum of a loss over rows; write `scale` times its gradient.

    prediction, gradient : (R, C), the latter (0, C) to leave it out; labels : (R, C), or (R,) classes
    weights : of R rows, or of none; lengths : (N,) of sequences of R / N rows, those past them do not count; None if all do
    values : (R,) float64, workspace
    """
    run = elementwise(prediction.shape[0], 4 * prediction.size, prediction.dtype)
    lengths = _ALL if lengths is None else lengths
    return float(parallel.loss(run, loss, prediction, labels, weights.reshape(-1), lengths, scale, gradient, values))


class Updates:
    """Parameters that move together: their gradients, and what a rule keeps of them.

    Parameters are changed in place, so they must be C-contiguous; they have P elements together.

    gradient : (P,)  of all of them, one after the other; gradients : (p,) each, its parts
    slots : (S, p) each, zeros
    """

    def __init__(self, parameters: Sequence[Array], slots: int, dtype: np.dtype[Any]) -> None:
        self._parameters = list(parameters)  # whose addresses are in the table
        bounds = list(itertools.accumulate((p.size for p in self._parameters), initial=0))
        parts = list(itertools.pairwise(bounds))
        self.gradient = aligned_empty((bounds[-1],), dtype)
        self.gradients = [self.gradient[start:stop] for start, stop in parts]
        kept = np.zeros(slots * bounds[-1], dtype)
        self.slots = [kept[slots * start : slots * stop].reshape(slots, stop - start) for start, stop in parts]
        self._slots = kept.reshape(slots, bounds[-1])
        self._table = np.array([(p.ctypes.data, p.size) for p in self._parameters], np.int64).reshape(-1, 2)
        self._factors = np.empty(len(parts))
        self._vectors = -(-bounds[-1] // target.lanes(dtype))

    def kept(self) -> list[Array]:
        """Return what the rule keeps of each parameter, (S, p)."""
        return self.slots

    def take(self, kept: Sequence[Array]) -> None:
        """Take up what `kept` returned."""
        for mine, other in zip(self.slots, kept, strict=True):
            mine[...] = other

    def waiting(self) -> Array:
        """Return the gradient (P,) of all parameters."""
        return self.gradient

    def wait(self, gradient: Array) -> None:
        """Take up what `waiting` returned."""
        self.gradient[...] = gradient

    def apply(self, rule: Any, scale: float, limit: float | None, each_limit: float | None, bound: float | None) -> None:
        """Move the parameters by a step against their gradients times `scale`.

        limit, each_limit, bound : to which the norm of all is limited before, that of each one, and their elements
        """
        if limit is not None:
            scale *= shrink(norm(self.gradient) * scale, limit)
        self._factors.fill(scale)
        if each_limit is not None:
            for k, gradient in enumerate(self.gradients):
                self._factors[k] *= shrink(norm(gradient) * scale, each_limit)
        run = elementwise(self._vectors, self.gradient.size, self.gradient.dtype)
        parallel.update(run, rule, self._table, self.gradient, self._slots, self._factors, bound or 0.0)


def shrink(norm: float, limit: float) -> float:
    """Return by what to multiply a gradient of some norm, so that it has at most `limit`."""
    return limit / norm if norm > limit else 1.0


def norm(gradient: Array) -> float:
    """Return the Euclidean norm of a gradient (P,): the same bits at any thread count."""
    sums = np.empty(-(-gradient.size // updates.SUM_LENGTH))
    run = elementwise(sums.size, gradient.size // 4, gradient.dtype)
    return float(np.sqrt(parallel.sum_of_squares(run, gradient, sums)))
