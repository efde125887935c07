"""What a GPU can do of what layers are asked for: options that are not named here are refused before anything starts."""

import inspect
from collections.abc import Iterator
from typing import Any

from numlstm.backend.weights import kind_of
from numlstm.devices import DeviceError
from numlstm.kernels.cuda.missing import cell_on_gpu, everything

_ARGUMENTS = frozenset(
    """units activation recurrent_activation use_bias kernel_initializer recurrent_initializer bias_initializer
    unit_forget_bias dropout recurrent_dropout zoneout cell_clip seed return_sequences return_state go_backwards stateful
    name input_shape variant forget_gate cell reset_after rate input_dim output_dim embeddings_initializer mask_zero
    layer merge_mode backward_layer""".split()
)


def check(layers: Any) -> None:
    """Refuse layers that ask for something that the GPU has no kernels for; DeviceError names it."""
    for layer in layers:
        for within in (getattr(layer, "forward_layer", None), getattr(layer, "backward_layer", None)):
            if within is not None:
                check([within])
        name, spec = layer.name or type(layer).__name__, getattr(layer, "spec", None)
        if spec is not None:
            kind_of(spec.name)  # defines a cell of the user's own
            try:
                cell_on_gpu(spec.name)
            except NotImplementedError as error:
                raise DeviceError(f"layer {name}: {error}") from error
        for option, value in _unusual(layer):
            raise DeviceError(
                f"layer {name} has {option}={value!r}, which a GPU cannot do yet; all that it lacks: {everything()}"
            )


def _unusual(layer: Any) -> Iterator[tuple[str, Any]]:
    """Yield arguments of a layer that are not their defaults and not among those that are there."""
    for name, parameter in inspect.signature(type(layer)).parameters.items():
        if name not in _ARGUMENTS and getattr(layer, name) != parameter.default:
            yield name, getattr(layer, name)
