"""What a GPU can do of what layers are asked for. Whatever is not named here is refused before anything starts."""

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

from numlstm import cells
from numlstm.devices import DeviceError

_ARGUMENTS = frozenset(
    """units activation recurrent_activation use_bias kernel_initializer recurrent_initializer bias_initializer
    unit_forget_bias dropout seed return_sequences return_state go_backwards stateful name input_shape variant forget_gate
    cell reset_after rate input_dim output_dim embeddings_initializer mask_zero layer merge_mode backward_layer""".split()
)
_PARTS = frozenset(
    """input_gate forget_gate output_gate recurrent_activation input_activation output_activation peepholes cell_input
    activation""".split()
)


def check(layers: Any) -> None:
    """Refuse layers that ask for something that the GPU has no kernels for; DeviceError names it."""
    for layer in layers:
        for within in (getattr(layer, "forward_layer", None), getattr(layer, "backward_layer", None)):
            if within is not None:
                check([within])
        spec, name = getattr(layer, "spec", None), layer.name or type(layer).__name__
        if spec is not None and type(spec) not in (cells.CellSpec, cells.GRUSpec, cells.RNNSpec, cells.SLSTMSpec):
            raise DeviceError(f"layer {name} has the cell {spec!r}, which a GPU cannot run yet: leave it on the CPU")
        for option, value in (*_unusual(layer), *_unusual(spec)):
            raise DeviceError(f"layer {name} has {option}={value!r}, which a GPU cannot do yet: leave it on the CPU")


def _unusual(thing: Any) -> Iterator[tuple[str, Any]]:
    """Yield arguments of a layer, or parts of a cell, that are not their defaults and not among those that are there."""
    if dataclasses.is_dataclass(thing):
        for field in dataclasses.fields(thing):
            if field.name not in _PARTS and getattr(thing, field.name) != field.default:
                yield field.name, getattr(thing, field.name)
    elif thing is not None:
        for name, parameter in inspect.signature(type(thing)).parameters.items():
            if name not in _ARGUMENTS and getattr(thing, name) != parameter.default:
                yield name, getattr(thing, name)
