"""What a model is trained on and evaluated with: samples, checked and converted."""

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _validate, losses
from ._validate import Array

if TYPE_CHECKING:
    from .losses import Loss
    from .models import Sequential


class Data(NamedTuple):
    """Samples, checked: x (N, ..); y (N, ..), targets or classes; weights (N, rows of y a sample), or (N, 0) for 1.

    A large x is of its own dtype and strides until `Step.gather` or `Step.part`.
    """

    x: Array
    y: Array
    weights: Array


def checked(model: "Sequential", loss: "Loss", x: Any, y: Any, weights: Any, prefix: str = "", whole: bool = False) -> Data:
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
    with contextlib.suppress(TypeError):  # what has no length is refused below
        if len(x) != len(y):
            raise ValueError(f"{name_x} and {name_y} must have as many samples, not {len(x)} and {len(y)}")
    array = model.cast(name_x, x, whole)
    if len(array) == 0:
        raise ValueError(f"{name_x} holds no samples: its shape is {array.shape}")
    _validate.finite(name_x, array, model.x_dtype)
    if model.layers[-1].return_state:
        raise ValueError("a model whose last layer returns its states cannot be trained: make it without return_state")
    output = (len(array), *model.output_shape_for(array.shape[1:]))
    target = loss.targets(name_y, y, output, model.dtype)
    _validate.finite(name_y, target)
    rows = losses.row_weights(f"{prefix}sample_weight", weights, output[:-1], model.dtype)
    return Data(array, target, rows.reshape(len(array), -1 if rows.size else 0))


def split(data: Data, fraction: float) -> tuple[Data, Data]:
    """Return the samples without their last part, and that part."""
    count = len(data.x)
    at = int(count * (1 - fraction))
    if not 0 < at < count:
        raise ValueError(f"validation_split={fraction} of {count} samples leaves none to train on or to validate with")
    return Data(*(array[:at] for array in data)), Data(*(array[at:] for array in data))
