"""What all ways in have: layers that are described before they are made, and the error that names all that cannot be."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from numlstm._validate import Array
from numlstm.layers import Bidirectional, Embedding, Layer, Recurrent
from numlstm.models import Sequential

WAYS = "forward", "backward"


@dataclass
class Part:
    """A layer to be made, as ``make(**options)``.

    features : size of the last axis of what it takes, if it depends on that
    values : its parameters, in the engine's layout
    place : of use to the module that made the part
    """

    make: Callable[..., Layer]
    options: dict[str, Any] = field(default_factory=dict)
    features: int | None = None
    values: dict[str, Array] = field(default_factory=dict)
    place: Any = None


def both_ways(values: Sequence[dict[str, Array]]) -> dict[str, Array]:
    """Return the parameters of one layer, or of two as a `Bidirectional` has them."""
    if len(values) == 1:
        return values[0]
    forward, backward = (
        {f"{way}.{name}": array for name, array in own.items()} for way, own in zip(WAYS, values, strict=True)
    )
    return {**forward, **backward}


def recurrent(
    kind: type[Recurrent], units: int, bidirectional: bool, name: str | None = None, **given: Any
) -> Callable[..., Layer]:
    """Return what makes such a layer from further options, `merge_mode` among them."""

    def make(merge_mode: str = "concat", **options: Any) -> Layer:
        layer = kind(units, **given, **options)
        return Bidirectional(layer, merge_mode, name=name) if bidirectional else layer

    return make


def changed_states(layer: Recurrent) -> list[str]:
    """Return the options that change a layer's states in inference too, as no other library has them."""
    given = {"cell_clip": layer.cell_clip, "zoneout": layer.zoneout if any(layer.zoneouts) else None}
    given["layer_norm"] = layer.spec.layer_norm or None
    return [f"{name}={value!r}" for name, value in given.items() if value is not None]


def refuse(what: str, problems: Iterable[str]) -> None:
    """Raise ValueError if there are problems, naming all of them."""
    found = list(dict.fromkeys(problems))
    if found:
        raise ValueError(f"{what}: {'; '.join(found)}")


def sequential(parts: Sequence[Part], dtype: np.dtype[Any], steps: bool = False) -> Sequential:
    """Return the model of these layers, with their parameters and any number of steps.

    steps : whether data has steps even where no layer goes through them
    """
    layers = [part.make(**part.options) for part in parts]
    model = Sequential(dtype=dtype)
    shape = _first_shape(layers, parts, steps)
    for layer, part in zip(layers, parts, strict=True):
        if shape is not None:
            layer.output_shape(shape)
            layer.adopt(shape, dtype, part.values)
        model.add(layer)
        shape = model.output_shape
    return model


def _first_shape(layers: Sequence[Layer], parts: Sequence[Part], steps: bool) -> tuple[int | None, ...] | None:
    """Return the shape of one sample: steps come first where there is a layer that goes through them."""
    if isinstance(layers[0], Embedding):
        return (None,)
    features = next((part.features for part in parts if part.features is not None), None)
    if features is None:
        return None
    steps = steps or any(isinstance(layer, (Recurrent, Bidirectional)) for layer in layers)
    return (None, features) if steps else (features,)
