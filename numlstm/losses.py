"""Losses, with the names and arguments of Keras.

``loss(y_true, y_pred)`` is the mean over all elements (over all rows for the cross-entropies of classes); sample weights
multiply each row's part of it.
"""

import functools
from typing import Any

import numpy as np

from . import _registry, _validate
from ._validate import Array

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Quantile",
    "SparseCategoricalCrossentropy",
    "get",
]


@functools.cache
def _kernels() -> Any:
    from .backend import LOSSES

    return LOSSES


class Loss:
    """A number that training makes small: the base of all losses.

    fused : activation of a last layer that the loss takes in, computing from what goes into it, which is exact where the
        activation's result would be rounded to 0 or 1; None for none
    by_rows : whether the mean is over rows, not over elements
    """

    fused: str | None = None
    by_rows = False

    _KERNEL = ""

    def kernel(self, raw: bool) -> Any:
        """Return what selects the compiled function; `raw` says that predictions come without the `fused` activation."""
        return getattr(_kernels(), self._kernel_name(raw))(*self._kernel_arguments())

    def _kernel_name(self, raw: bool) -> str:
        return self._KERNEL

    def _kernel_arguments(self) -> tuple[Any, ...]:
        return ()

    def targets(self, name: str, y: Any, prediction: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return the targets of predictions of this shape, as the kernel reads them.

        Raises
        ------
        ValueError
            For another shape, or values that the loss cannot take.
        """
        target = _validate.numeric(name, y, dtype)
        if target.ndim == len(prediction) - 1 and prediction[-1] == 1:
            target = target[..., np.newaxis]
        if target.shape != prediction:
            raise ValueError(f"{name} must have the shape {prediction} of the model's output, not {np.shape(y)}")
        return target

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a loss like this one."""
        return _registry.config_of(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.get_config().items())})"

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        """Return the loss of predictions (N, ..) as a number.

        Raises
        ------
        ValueError
            For shapes or values that do not fit.
        """
        return self._run(y_true, y_pred, sample_weight, False)[0]

    def gradient(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Array:
        """Return the gradient of the loss with respect to y_pred, in its shape."""
        return self._run(y_true, y_pred, sample_weight, True)[1]

    def _run(self, y_true: Any, y_pred: Any, sample_weight: Any, with_gradient: bool) -> tuple[float, Array]:
        from . import backend

        dtype = np.dtype(np.float64 if getattr(y_pred, "dtype", None) == np.float64 else np.float32)
        prediction = _validate.numeric("y_pred", y_pred, dtype)
        if prediction.ndim == 0:
            raise ValueError("y_pred must have at least one axis")
        if prediction.ndim == 1:
            prediction = prediction[:, np.newaxis]
        if prediction.size == 0:
            raise ValueError(f"y_pred is empty: its shape is {prediction.shape}")
        target = self.targets("y_true", y_true, prediction.shape, dtype)
        rows = flat(prediction)
        weights = row_weights("sample_weight", sample_weight, prediction.shape[:-1], dtype)
        gradient = np.empty(rows.shape if with_gradient else (0, rows.shape[1]), dtype)
        count = rows.shape[0] if self.by_rows else rows.size
        total = backend.run_loss(
            self.kernel(raw=False),
            rows,
            flat_target(target, rows),
            weights,
            None,
            1 / count,
            gradient,
            np.empty(rows.shape[0]),
        )
        return total / count, gradient.reshape(np.shape(y_pred)) if with_gradient else gradient


def flat(prediction: Array) -> Array:
    """Return predictions (N, .., C) as rows (R, C)."""
    return prediction.reshape(-1, prediction.shape[-1])


def flat_target(target: Array, rows: Array) -> Array:
    """Return targets as rows (R, C), or as classes (R,)."""
    return target.reshape(-1) if target.dtype == np.int64 else target.reshape(rows.shape)


def row_weights(name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return weights of all rows (R,), from one a sample (N,) or a row (N, T), or (0,) for None."""
    if value is None:
        return np.zeros(0, dtype)
    weights = _validate.numeric(name, value, dtype)
    if weights.shape not in (shape, shape[:1]):
        raise ValueError(f"{name} must have shape {shape[:1]}{f' or {shape}' if shape[1:] else ''}, not {weights.shape}")
    _validate.finite(name, weights)
    if weights.size and weights.min() < 0:
        raise ValueError(f"{name} must not be negative, but its least value is {weights.min()}")
    spread = weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim))
    return np.ascontiguousarray(np.broadcast_to(spread, shape)).ravel()


class MeanSquaredError(Loss):
    """(y_pred - y_true)**2."""

    _KERNEL = "Squared"


class MeanAbsoluteError(Loss):
    """|y_pred - y_true|."""

    _KERNEL = "Absolute"


class Huber(Loss):
    """Half the square of an error up to `delta`, and beyond it linear (Huber 1964)."""

    _KERNEL = "Huber"

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = _validate.real("delta", delta, positive=True)

    def _kernel_arguments(self) -> tuple[Any, ...]:
        return (self.delta,)


class Quantile(Loss):
    """The pinball loss, least at the quantiles of y_true (Koenker and Bassett 1978).

    Parameters
    ----------
    quantiles : float or sequence of floats in 0..1
        One for all outputs, or one for each in turn: with outputs (N, 3) and ``(0.1, 0.5, 0.9)`` the outputs become a lower
        bound, the median and an upper bound. Targets may then be (N, 1) or (N,), the same for all of them.
    """

    _KERNEL = "Quantile"

    def __init__(self, quantiles: Any = 0.5) -> None:
        values = np.atleast_1d(np.asarray(quantiles, np.float64))
        if values.ndim != 1 or values.size == 0 or not ((values > 0) & (values < 1)).all():
            raise ValueError(f"quantiles must be one number or several between 0 and 1, not {quantiles!r}")
        self.quantiles = [float(value) for value in values]

    def _kernel_arguments(self) -> tuple[Any, ...]:
        return (np.array(self.quantiles),)

    def targets(self, name: str, y: Any, prediction: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        count = len(self.quantiles)
        if count > 1 and prediction[-1] % count:
            raise ValueError(f"the model has {prediction[-1]} outputs, which {count} quantiles do not divide")
        target = _validate.numeric(name, y, dtype)
        if count > 1 and target.ndim == len(prediction) - 1:
            target = target[..., np.newaxis]
        if count > 1 and target.shape == (*prediction[:-1], 1):
            target = np.ascontiguousarray(np.broadcast_to(target, prediction))
        return super().targets(name, target, prediction, dtype)


class BinaryCrossentropy(Loss):
    """-log of the probability of y_true, 0 or 1 (or between), where y_pred is that of 1.

    Parameters
    ----------
    from_logits : bool
        Whether y_pred is that probability before its sigmoid. A model that ends with a sigmoid needs no ``True`` here to be
        computed that way.
    """

    fused = "sigmoid"

    def __init__(self, from_logits: bool = False) -> None:
        self.from_logits = _validate.flag("from_logits", from_logits)

    def _kernel_name(self, raw: bool) -> str:
        return "BinaryLogits" if raw or self.from_logits else "BinaryProbabilities"

    def targets(self, name: str, y: Any, prediction: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        target = super().targets(name, y, prediction, dtype)
        _within_0_and_1(name, target)
        return target


class CategoricalCrossentropy(Loss):
    """-log of the probability of the class that y_true marks with 1; y_true may spread over classes.

    Parameters
    ----------
    from_logits : bool
        Whether y_pred is the probabilities before their softmax. A model that ends with a softmax needs no ``True`` here to
        be computed that way.
    """

    fused = "softmax"
    by_rows = True

    def __init__(self, from_logits: bool = False) -> None:
        self.from_logits = _validate.flag("from_logits", from_logits)

    def _kernel_name(self, raw: bool) -> str:
        return "Logits" if raw or self.from_logits else "Probabilities"

    def targets(self, name: str, y: Any, prediction: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        y = _validate.numeric(name, y, dtype)
        if y.ndim == len(prediction) - 1 and prediction[-1] > 1:
            raise ValueError(
                f"{name} must have the shape {prediction} of the model's output, one column a class, not {np.shape(y)}: for "
                f"numbers of classes use sparse_categorical_crossentropy"
            )
        target = super().targets(name, y, prediction, dtype)
        _within_0_and_1(name, target)
        return target


class SparseCategoricalCrossentropy(CategoricalCrossentropy):
    """-log of the probability of class y_true, a whole number from 0 on.

    Parameters
    ----------
    from_logits : bool
        As for CategoricalCrossentropy.
    """

    def targets(self, name: str, y: Any, prediction: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        labels = _validate.indices(name, y, prediction[-1])
        if labels.shape == (*prediction[:-1], 1):
            labels = labels[..., 0]
        if labels.shape != prediction[:-1]:
            raise ValueError(f"{name} must have shape {prediction[:-1]}, one class a row, not {labels.shape}")
        return labels


def _within_0_and_1(name: str, target: Array) -> None:
    outside = (target < 0) | (target > 1)
    if outside.any():
        place = np.unravel_index(int(np.argmax(outside)), target.shape)
        where = ", ".join(map(str, place))
        raise ValueError(f"{name} must lie between 0 and 1, but {name}[{where}] is {target[place]:g}")


_KNOWN: dict[str, type[Loss]] = {
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "mae": MeanAbsoluteError,
    "huber": Huber,
    "quantile": Quantile,
    "binary_crossentropy": BinaryCrossentropy,
    "categorical_crossentropy": CategoricalCrossentropy,
    "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
}


def get(value: Any) -> Loss:
    """Return a loss from its name, class or description.

    Raises
    ------
    ValueError
        For an unknown name; the message lists the known ones.
    """
    return _registry.make("loss", Loss, _KNOWN, value)
