"""What a GPU can do of what layers are asked for: options that are not named here are refused before anything starts."""

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from numlstm.backend.weights import kind_of
from numlstm.devices import DeviceError
from numlstm.kernels.cuda.missing import cell_on_gpu, everything

if TYPE_CHECKING:
    from .device import Cuda

_TENSOR_CORES = 8, 0  # the compute capability of those that are used
_ARGUMENTS = frozenset(
    """units activation recurrent_activation use_bias kernel_initializer recurrent_initializer bias_initializer
    unit_forget_bias dropout recurrent_dropout zoneout cell_clip layer_norm projection seed return_sequences return_state
    go_backwards stateful name input_shape variant forget_gate cell reset_after rate input_dim output_dim
    embeddings_initializer mask_zero layer merge_mode backward_layer""".split()
)


def check_layers(layers: Any) -> None:
    """Refuse layers that ask for something that the GPU has no kernels for; DeviceError names it."""
    for layer in _single(layers):
        spec = getattr(layer, "spec", None)
        if spec is not None:
            kind_of(spec.name)  # defines a cell of the user's own
            try:
                cell_on_gpu(spec.name)
            except NotImplementedError as error:
                raise DeviceError(f"{_named(layer)}: {error}") from error
        for option, value in _unusual(layer):
            raise DeviceError(
                f"{_named(layer)} has {option}={value!r}, which a GPU cannot do yet; all that it lacks: {everything()}"
            )


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


def _unusual(layer: Any) -> Iterator[tuple[str, Any]]:
    """Yield arguments of a layer that are not their defaults and not among those that are there."""
    for name, parameter in inspect.signature(type(layer)).parameters.items():
        if name not in _ARGUMENTS and getattr(layer, name) != parameter.default:
            yield name, getattr(layer, name)
