"""What a model is trained on and evaluated with: samples, checked and converted."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _lengths, _validate, devices, losses
from ._validate import Array

if TYPE_CHECKING:
    from .losses import Loss
    from .models import Sequential


class Data(NamedTuple):
    """Samples, checked: x (N, ..); y (N, ..), targets or classes; weights (N, rows of y a sample), or (N, 0) for 1.

    A large x is of its own dtype and strides until `Step.gather` or `Step.part`.
    lengths : (N,) int64 of sequences, past which all is 0; None where they have all steps
    """

    x: Array
    y: Array
    weights: Array
    lengths: Array | None = None

    def each(self, change: Callable[[str, Array], Array]) -> "Data":
        """Return what a function makes of each array and its name."""
        pairs = zip(self._fields, self, strict=True)
        return Data(*(None if array is None else change(name, array) for name, array in pairs))  # type: ignore[arg-type]

    def part(self, start: int, stop: int) -> "Data":
        """Return the samples from `start` to `stop`."""
        return self.each(lambda _, array: array[start:stop])


def checked(
    model: "Sequential",
    loss: "Loss",
    x: Any,
    y: Any,
    weights: Any,
    lengths: Any = None,
    prefix: str = "",
    whole: bool = False,
) -> Data:
    """Return samples for a model and a loss; the model is built if it is not. Messages call them `prefix` x and y.

    whole : whether a large x may not be left to `Step` to convert

    Raises
    ------
    TypeError, ValueError
        For what does not fit the model or the loss, no samples, NaN or infinity: the message names the place.
    """
    name_x, name_y = f"{prefix}x", f"{prefix}y"
    if y is None:
        raise TypeError(f"{name_y} is missing: fit and evaluate need targets")
    count, targets = _length(x), _length(y)
    if count != targets and None not in (count, targets):
        raise ValueError(f"{name_x} and {name_y} must have as many samples, not {count} and {targets}")
    array, ends = _lengths.read(model, name_x, x, lengths, f"{prefix}lengths", whole)
    if len(array) == 0:
        raise ValueError(f"{name_x} holds no samples: its shape is {array.shape}")
    _finite(model, name_x, array)
    if model.layers[-1].return_state:
        raise ValueError("a model whose last layer returns its states cannot be trained: make it without return_state")
    output = (len(array), *model.output_shape_for(array.shape[1:]))
    name_weights = f"{prefix}sample_weight"
    y = _adopted(model, loss, name_y, y)
    if ends is not None and len(output) == 3:
        y = y if devices.on_gpu(y) else _lengths.of_steps(name_y, y, ends, output[1])
        weights = None if weights is None else _lengths.of_steps(name_weights, weights, ends, output[1])
    target = _targets(model, loss, name_y, y, output)
    if ends is not None and len(output) == 3 and devices.on_gpu(target):
        target = model.backend.cleared(target, ends)
    _finite(model, name_y, target)
    rows = losses.row_weights(name_weights, weights, output[:-1], model.dtype)
    return Data(array, target, rows.reshape(len(array), -1 if rows.size else 0), ends)


def _finite(model: "Sequential", name: str, array: Any) -> None:
    if isinstance(array, np.ndarray):
        _validate.finite(name, array, model.x_dtype if array.dtype.kind == "f" else None)
    elif not model.backend.is_finite(array):
        raise ValueError(f"{name} must be finite, but has NaN or infinity in it")


def _adopted(model: "Sequential", loss: "Loss", name: str, y: Any) -> Any:
    """Return targets that are on the model's GPU as passes read them, or on the host if their values are to be checked."""
    if model.device == "cpu":
        return y
    classes = isinstance(loss, losses.SparseCategoricalCrossentropy)
    y = model.adopted(name, y, np.dtype(np.int64) if classes else model.dtype)
    checked = type(loss).targets is not losses.Loss.targets
    return model.backend.host(y) if checked and devices.on_gpu(y) else y


def _targets(model: "Sequential", loss: "Loss", name: str, y: Any, output: tuple[int, ...]) -> Any:
    """Return targets as the loss's kernel reads them."""
    if model.device == "cpu" or not devices.on_gpu(y):
        return loss.targets(name, y, output, model.dtype)
    if y.shape not in (output, output[:-1] if output[-1] == 1 else output):
        raise ValueError(f"{name} must have the shape {output} of the model's output, not {y.shape}")
    return y.reshape(*output)


def _length(value: Any) -> int | None:
    try:
        return len(value)
    except TypeError:  # such a value is refused elsewhere
        return None


def split(data: Data, fraction: float) -> tuple[Data, Data]:
    """Return the samples without their last part, and that part."""
    count = len(data.x)
    at = int(count * (1 - fraction))
    if not 0 < at < count:
        raise ValueError(f"validation_split={fraction} of {count} samples leaves none to train on or to validate with")
    return data.part(0, at), data.part(at, count)
