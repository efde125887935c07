"""Losses and metrics, row by row: the value of each row, and the gradient of the predictions.

Each has a params namedtuple, whose type selects its functions at compile time, as a cell's does. Some compare element by
element (`_ELEMENTS`), the others look at a whole row (`_ROWS`).
"""

import math
from typing import Any, NamedTuple

import numpy as np

from .activations import softmax_row
from .compiling import jit, overload

# Probabilities are kept this far from 0 and 1, so that their logarithms are finite (Keras does the same).
_LEAST_PROBABILITY = 1e-7


class Squared(NamedTuple):
    """(p - t)**2."""

    unit: Any = 1


class Absolute(NamedTuple):
    """|p - t|."""

    unit: Any = 1


class Huber(NamedTuple):
    """d**2 / 2 for |d| <= delta, else delta (|d| - delta / 2), of d = p - t (Huber 1964)."""

    delta: Any


class Quantile(NamedTuple):
    """max(q (t - p), (q - 1) (t - p)), with q of the column (Koenker and Bassett 1978)."""

    levels: Any  # (Q,) float64; column c has level c modulo Q


class BinaryLogits(NamedTuple):
    """Cross-entropy of t in 0..1 with sigmoid(p)."""

    unit: Any = 1


class BinaryProbabilities(NamedTuple):
    """Cross-entropy of t in 0..1 with p."""

    unit: Any = 1


class BinaryHits(NamedTuple):
    """1 where p is on the same side of the threshold as t is of 1/2, else 0."""

    threshold: Any


class Logits(NamedTuple):
    """Cross-entropy of class t, or of the weights t of all classes, with softmax(p)."""

    unit: Any = 1


class Probabilities(NamedTuple):
    """Cross-entropy of class t, or of the weights t of all classes, with p / sum(p)."""

    unit: Any = 1


class Hits(NamedTuple):
    """1 where the greatest p is that of class t, or of the greatest t, else 0."""

    unit: Any = 1


@jit
def loss_rows(tile, loss, prediction, target, weights, lengths, scale, gradient, values, start, stop):
    """Compute rows `start` to `stop` of a loss.

    loss : one of this module's namedtuples
    prediction : (R, C); target : (R, C), or (R,) int64 classes
    weights : (R,) of the rows, or (0,) for 1
    lengths : (N,) of sequences of R / N rows each, whose value and gradient past them is 0; or (0,) where all rows count
    scale : by which the gradient is multiplied
    gradient : (R, C)  written: of ``scale * sum(values)``; (0, C) to leave it out
    values : (R,) float64  written: each row's sum over its elements, times its weight
    """
    steps = values.shape[0] // max(1, lengths.shape[0])
    for r in range(start, stop):
        if lengths.shape[0] > 0 and r % steps >= lengths[r // steps]:
            values[r] = 0
            for c in range(prediction.shape[1] if gradient.shape[0] > 0 else 0):
                gradient[r, c] = 0
            continue
        weight = np.float64(weights[r]) if weights.shape[0] > 0 else 1.0
        values[r] = weight * row_loss(loss, prediction, target, r, weight * scale, gradient)


def row_loss(loss, prediction, target, r, factor, gradient):
    """Return the loss of row `r`; write its gradient, times `factor`."""
    raise NotImplementedError("compiled code only")


def element_loss(loss, p, t, column):
    """Return (value, slope with respect to p) of one element."""
    raise NotImplementedError("compiled code only")


def _row_of_elements(loss, prediction, target, r, factor, gradient):
    value = 0.0
    for c in range(prediction.shape[1]):
        part, slope = element_loss(loss, np.float64(prediction[r, c]), np.float64(target[r, c]), c)
        value += part
        if gradient.shape[0] > 0:
            gradient[r, c] = slope * factor
    return value


def _squared(loss, p, t, column):
    return (p - t) ** 2, 2 * (p - t)


def _absolute(loss, p, t, column):
    d = p - t
    return abs(d), d / abs(d) if d != 0 else 0.0


def _huber(loss, p, t, column):
    d = p - t
    if abs(d) > loss.delta:
        return loss.delta * (abs(d) - loss.delta / 2), math.copysign(loss.delta, d)
    return d * d / 2, d


def _quantile(loss, p, t, column):
    level = loss.levels[column % loss.levels.shape[0]]
    d = t - p
    return (level * d, -level) if d > 0 else ((level - 1) * d, 1 - level + 0 * d)  # 0 * d hands a NaN on


def _binary_logits(loss, p, t, column):
    e = math.exp(-abs(p))
    sigmoid = (1.0 if p >= 0 else e) / (1 + e)
    return max(p, 0.0) - p * t + math.log1p(e), sigmoid - t


def _within(p):
    return min(max(p, _LEAST_PROBABILITY), 1 - _LEAST_PROBABILITY) if p == p else p


_within = jit(_within)


def _binary_probabilities(loss, p, t, column):
    q = _within(p)
    return -(t * math.log(q) + (1 - t) * math.log(1 - q)), (q - t) / (q * (1 - q))


def _binary_hits(loss, p, t, column):
    return 1.0 if (p > loss.threshold) == (t > 0.5) else 0.0, 0.0


def _weight_of(target, r, c):
    """Return the weight of class c in row r's target, whichever form that has."""
    raise NotImplementedError("compiled code only")


@overload(_weight_of)
def _choose_weight(target, r, c):
    if target.ndim == 1:
        return lambda target, r, c: 1.0 if target[r] == c else 0.0
    return lambda target, r, c: np.float64(target[r, c])


def _cross_entropy_of_logits(loss, prediction, target, r, factor, gradient):
    write = gradient.shape[0] > 0
    top, total = softmax_row(prediction, r, gradient, write)
    log_total = math.log(np.float64(total)) + np.float64(top)
    value, weights = 0.0, 0.0
    for c in range(prediction.shape[1]):
        weight = _weight_of(target, r, c)
        if weight != 0:
            value += weight * (log_total - np.float64(prediction[r, c]))
            weights += weight
    if write:
        scale = gradient.dtype.type(factor * weights / np.float64(total))
        for c in range(prediction.shape[1]):
            gradient[r, c] *= scale
        for c in range(prediction.shape[1]):
            weight = _weight_of(target, r, c)
            if weight != 0:
                gradient[r, c] -= gradient.dtype.type(factor * weight)  # rounded as `scale` is: sure and right gives 0
    return value


def _cross_entropy_of_probabilities(loss, prediction, target, r, factor, gradient):
    total = 0.0
    for c in range(prediction.shape[1]):
        total += _within(np.float64(prediction[r, c]))
    value, weights = 0.0, 0.0
    for c in range(prediction.shape[1]):
        weight = _weight_of(target, r, c)
        value += weight * (math.log(total) - math.log(_within(np.float64(prediction[r, c]))))
        weights += weight
    if gradient.shape[0] > 0:
        for c in range(prediction.shape[1]):
            slope = weights / total - _weight_of(target, r, c) / _within(np.float64(prediction[r, c]))
            gradient[r, c] = factor * slope
    return value


def _hits(loss, prediction, target, r, factor, gradient):
    found, wanted = 0, 0
    for c in range(1, prediction.shape[1]):
        found = c if prediction[r, c] > prediction[r, found] else found
        wanted = c if _weight_of(target, r, c) > _weight_of(target, r, wanted) else wanted
    return 1.0 if found == wanted else 0.0


_ELEMENTS = {
    Squared: _squared,
    Absolute: _absolute,
    Huber: _huber,
    Quantile: _quantile,
    BinaryLogits: _binary_logits,
    BinaryProbabilities: _binary_probabilities,
    BinaryHits: _binary_hits,
}
_ROWS = {Logits: _cross_entropy_of_logits, Probabilities: _cross_entropy_of_probabilities, Hits: _hits}


@overload(row_loss)
def _choose_row(loss, prediction, target, r, factor, gradient):
    kind = getattr(loss, "instance_class", None)
    return _row_of_elements if kind in _ELEMENTS else _ROWS.get(kind)


@overload(element_loss)
def _choose_element(loss, p, t, column):
    return _ELEMENTS.get(getattr(loss, "instance_class", None))
