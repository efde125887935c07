"""A model for `step`: its layers one after the other, and those of them that are not recurrent.

The type of a namedtuple selects the code, and is found by its name, as that of a cell is (cells.py).
"""

import functools
from typing import Any, NamedTuple

from numba import types
from numba.core.errors import TypingError

from . import activations
from .compiling import jit, overload, source_hash, stamped_name
from .memory import copy, pointer
from .row import dense_row
from .step import check_array, choose_step, step


class _Chain(NamedTuple):
    """Parameters of a model: those of each layer that does something, in order."""

    layers: Any


class _Embedding(NamedTuple):
    """Parameters of an embedding: table (V, C)."""

    table: Any


class _Dense(NamedTuple):
    """Parameters of a dense layer of K inputs and C outputs: W (panels, K, V) by layout.pack_rows, b (C,)."""

    W: Any
    b: Any


# --- what `step` does for them: functions of types that return the code ---


def _chain():
    def choose(params, state, x, y):
        if not isinstance(state, types.BaseNamedTuple) or state.fields != ("layers", "outputs"):
            raise TypingError(f"state must be what came with params, not {state}")
        layers, (states, outputs) = params[0], state
        if not len(layers) == len(states) == len(outputs) + 1:
            sizes = f"{len(states)} layers, not of {len(layers)}"
            raise TypingError(f"state must be what came with params, but it is that of a model of {sizes}")
        for arguments in zip(layers, states, [x, *outputs], [*outputs, y], strict=True):
            choose_step(*arguments)  # what is wrong is said here: from within, it would come under pages of Numba's own
        return lambda params, state, x, y: _run(params.layers, state.layers, state.outputs, x, y)

    return choose


def _run(layers, states, outputs, x, y):
    """Run layers one after the other; `outputs` has a place for what each but the last writes."""


@overload(_run, forceinline=True)
def _choose_run(layers, states, outputs, x, y):
    if len(layers) == 1:
        return lambda layers, states, outputs, x, y: step(layers[0], states[0], x, y)

    def run(layers, states, outputs, x, y):
        step(layers[0], states[0], x, outputs[0])
        _run(layers[1:], states[1:], outputs[1:], outputs[0], y)

    return run


def _embedding(first):
    least = int(first)

    def choose(params, state, x, y):
        if not isinstance(x, types.Integer):
            raise TypingError(f"x must be an integer, for the model begins with an embedding, not {x}")
        check_array("y", y, params[0].dtype)
        return lambda params, state, x, y: _copy_row(params.table, types.int64(x), least, y)

    return choose


@jit
def _copy_row(table, index, least, y):
    if index < least or index >= table.shape[0]:
        raise ValueError("x must be one of the integers that the embedding knows, 0, or 1 with mask_zero, to input_dim - 1")
    if y.shape[0] != table.shape[1]:
        raise ValueError("y must have shape (C,), C the length of the embedding's vectors")
    copy(pointer(table, index * table.shape[1]), pointer(y, 0), y.shape[0])


def _dense(activation):
    kind = getattr(activations, activation.upper())

    def choose(params, state, x, y):
        dtype = params[0].dtype
        check_array("x", x, dtype, written=False)
        check_array("y", y, dtype)
        if kind == activations.LINEAR:
            return lambda params, state, x, y: _dense_step(params, x, y)

        def activated(params, state, x, y):
            _dense_step(params, x, y)
            row = y.reshape((1, y.shape[0]))
            activations.activate(0, kind, row, row, 0, 1)

        return activated

    return choose


@jit
def _dense_step(params, x, y):
    if x.shape[0] != params.W.shape[1]:
        raise ValueError("x must have shape (K,), K the inputs of the dense layer")
    if y.shape[0] != params.b.shape[0]:
        raise ValueError("y must have shape (C,), C the units of the dense layer")
    dense_row(params.W, params.b, x, y)


_KINDS = {"Chain": (_Chain, _chain), "Embedding": (_Embedding, _embedding), "Dense": (_Dense, _dense)}


@functools.cache
def params_type(name: str) -> type:
    """Return the type of parameters from its name, the same at each call: a kind, its options, a stamp (cells.cell_type)."""
    words, _, stamp = name.partition("_made_by_")
    kind, *options = words.split("_of_")
    fields, chooser = _KINDS[kind]
    content = {"__slots__": (), "__module__": __name__, "stamp": stamp}
    if stamp == source_hash():
        content["choose_step"] = staticmethod(chooser(*options))
    found = type(name, (fields,), content)
    globals()[name] = found
    return found


def stamped(kind: str, *values: Any) -> Any:
    """Return parameters of a kind: "Chain", "Embedding_of_" its first number, "Dense_of_" an activation."""
    return params_type(stamped_name(kind))(*values)


def __getattr__(name: str) -> type:
    if name.split("_made_by_")[0].split("_of_")[0] not in _KINDS:
        raise AttributeError(name)
    return params_type(name)
