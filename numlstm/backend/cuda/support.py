"""What a GPU can do of what is chosen for all layers: the rest is refused before anything starts."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from numlstm.backend.weights import kind_of
from numlstm.devices import DeviceError

if TYPE_CHECKING:
    from .device import Cuda

_TENSOR_CORES = 8, 0  # the compute capability of those that are used


def check_products(device: "Cuda", dtype: np.dtype[Any]) -> None:
    """Refuse a precision of products that is not for numbers of a model's dtype, or not for this GPU."""
    if device.recurrent.rounding(dtype, device.precision) and device.memory.capability() < _TENSOR_CORES:
        least, has = (".".join(map(str, version)) for version in (_TENSOR_CORES, device.memory.capability()))
        raise DeviceError(f"precision={device.precision!r} needs compute capability {least}, and this GPU has {has}")


def check_sweep(device: "Cuda", layers: Any, dtype: np.dtype[Any]) -> None:
    """Refuse layers that cannot go through their steps as was chosen; ValueError says why."""
    for layer in _single(layers):
        if hasattr(layer, "spec"):
            options = layer.cell_clip is not None or any(layer.zoneouts) or layer.recurrent_dropout > 0
            kind_of(layer.spec.name)  # defines a cell of the user's own
            try:
                device.passes(layer.spec.name, dtype, options).check(layer.units)
            except ValueError as error:
                raise ValueError(f"{_named(layer)}: {error}") from error


def _single(layers: Any) -> Iterator[Any]:
    """Yield layers, and those within them before."""
    for layer in layers:
        for name in ("forward_layer", "backward_layer"):
            if getattr(layer, name, None) is not None:
                yield getattr(layer, name)
        yield layer


def _named(layer: Any) -> str:
    return f"layer {layer.name or type(layer).__name__}"
