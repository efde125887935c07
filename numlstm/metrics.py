"""Metrics: what is reported beside the loss. Names are those of Keras.

``mse``, ``mae``, ``rmse``, ``accuracy`` (which of the three follows from loss and output), ``binary_accuracy``,
``categorical_accuracy``, ``sparse_categorical_accuracy``, and the names of all losses.
"""

import difflib
import math
from collections.abc import Callable, Sequence
from typing import Any

from . import _registry, losses
from ._validate import Array
from .losses import Loss

__all__ = ["Metric", "get"]


class Metric:
    """A mean over all elements or rows.

    name : by which logs and `History` call it; loss : what it is the mean of; root : whether its square root is taken
    given : whether the loss was given as such, not by a name
    """

    def __init__(self, name: str, loss: Loss, root: bool = False, given: bool = False) -> None:
        self.name, self.loss, self.root, self.given = name, loss, root, given


class _BinaryHits(losses.BinaryCrossentropy):
    def _kernel_name(self, raw: bool) -> str:
        return "BinaryHits"

    def _kernel_arguments(self) -> tuple[Any, ...]:
        return (0.0 if self.from_logits else 0.5,)


class _Hits(losses.CategoricalCrossentropy):
    def _kernel_name(self, raw: bool) -> str:
        return "Hits"


class _SparseHits(losses.SparseCategoricalCrossentropy):
    def _kernel_name(self, raw: bool) -> str:
        return "Hits"


_ACCURACIES = {"binary_accuracy": _BinaryHits, "categorical_accuracy": _Hits, "sparse_categorical_accuracy": _SparseHits}
_ROOTS = ("rmse", "root_mean_squared_error")
_NAMES = sorted([*losses._KNOWN, *_ACCURACIES, *_ROOTS, "acc", "accuracy"])


def get(value: Any, loss: Loss) -> Metric:
    """Return a metric from its name or a loss; `loss` is what the model trains, which settles what "accuracy" means.

    Raises
    ------
    ValueError
        For an unknown name (the message lists the known ones), or a metric whose targets are not of the loss's kind.
    """
    metric = _make(value, loss)
    theirs, ours = (isinstance(each, losses.SparseCategoricalCrossentropy) for each in (loss, metric.loss))
    if (ours and not theirs) or (theirs and not isinstance(metric.loss, losses.CategoricalCrossentropy)):
        which = "the loss" if theirs else "the metric"
        raise ValueError(f"metric {metric.name!r} does not go with {type(loss).__name__}: {which} takes numbers of classes")
    return metric


def _make(value: Any, loss: Loss) -> Metric:
    if not isinstance(value, str):
        value = _registry.make("metric", Loss, losses._KNOWN, value)
        return Metric(_snake_case(type(value).__name__), value, given=True)
    name = value.lower()
    if name in _ROOTS:
        return Metric(value, losses.MeanSquaredError(), root=True)
    if name in _ACCURACIES:
        return Metric(value, _ACCURACIES[name](getattr(loss, "from_logits", False)))
    if name in ("accuracy", "acc"):
        return Metric(value, _accuracy_for(loss))
    if name in losses._KNOWN:
        return Metric(value, losses.get(name))
    close = difflib.get_close_matches(name, _NAMES, 1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise ValueError(f"metric {value!r} is unknown{hint}; known are {', '.join(_NAMES)}")


def _accuracy_for(loss: Loss) -> Loss:
    for kind, accuracy in (
        (losses.SparseCategoricalCrossentropy, _SparseHits),
        (losses.CategoricalCrossentropy, _Hits),
        (losses.BinaryCrossentropy, _BinaryHits),
    ):
        if isinstance(loss, kind):
            return accuracy(loss.from_logits)
    raise ValueError(
        f"metric 'accuracy' goes with a cross-entropy, not with {type(loss).__name__}: name binary_accuracy, "
        f"categorical_accuracy or sparse_categorical_accuracy"
    )


def _snake_case(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def count_of(metric: Metric | Loss, rows: Array, lengths: Array | None = None) -> int:
    """Return over how many elements or rows (R, C) the mean is taken; with lengths those of the steps within them."""
    loss = metric.loss if isinstance(metric, Metric) else metric
    count = rows.shape[0] if lengths is None else int(lengths.sum())
    return count if loss.by_rows else count * rows.shape[1]


class Meter:
    """The loss and the metrics, as means over all that was added.

    totals : (1 + M,) float64  sums of the loss and of each metric, where passes add to them; `host` returns them as an array
    """

    def __init__(self, metrics: Sequence[Metric], totals: Any, host: Callable[[Any], Array]) -> None:
        self._metrics, self.totals, self._host = metrics, totals, host
        self._counts = [0] * (1 + len(self._metrics))

    def count(self, place: int, count: int) -> None:
        """Say that a sum over so many elements or rows was added to the loss (place 0) or a metric (from 1 on)."""
        self._counts[place] += count

    def loss(self) -> float:
        return float(self._host(self.totals)[0]) / self._counts[0]

    def logs(self) -> dict[str, float]:
        """Return the means by name."""
        totals = self._host(self.totals).tolist()
        logs = {"loss": totals[0] / self._counts[0]}
        for metric, total, count in zip(self._metrics, totals[1:], self._counts[1:], strict=True):
            logs[metric.name] = math.sqrt(total / count) if metric.root else total / count
        return logs
