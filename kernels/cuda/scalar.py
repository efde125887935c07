"""The CPU's own mathematics over scalars: the code of cells, losses and rules, with what it rests on replaced by twins.

That code is written over lanes, with operators and a few functions. A lane of a GPU's thread is a scalar, so that the same
code serves with the scalar versions of those functions.
"""

import builtins
import types

import numba
import numpy as np
from numlstm.kernels import elementary as vector_elementary
from numlstm.kernels import masks, memory, options, simd, zoneout

from . import elementary, own
from .machine import constant, device, exp, fma, load, sqrt, store, tanh

_TWINS = {
    zoneout._random_keeps: elementary.random_keeps,
    options._zero_beyond: elementary.zero_beyond,
    simd.clamp: elementary.clamp,
    simd.constant: constant,
    simd.fma: fma,
    memory.load: load,
    memory.load_first: device(lambda array, at, count: load(array, at)),
    simd.maximum: elementary.maximum,
    simd.minimum: elementary.minimum,
    masks.where: elementary.where,
    vector_elementary.exp: exp,
    simd.splat: device(lambda like, number: number),
    simd.sqrt: sqrt,
    memory.store: store,
    vector_elementary.tanh: tanh,
    **{
        getattr(vector_elementary, name): getattr(elementary, name)
        for name in ("hard_sigmoid", "hard_sigmoid_slope", "log_sigmoid", "positive", "relu", "sigmoid")
    },
}
_CHOOSERS = {
    # Before others that call them.
    "_mixed_states": zoneout._choose_mixed_states,
    "_with_h": zoneout._choose_with_h,
    **{name: getattr(options, f"_choose_{name}") for name in ("limited", "within", "masked_u")},
    **{
        name: getattr(zoneout, f"_choose_{name}")
        for name in (
            *("settled_states", "settled_states_one", "settled_h_one", "unsettled", "arrived"),
            *("to_cell_h", "to_cell_states", "past_cell_h", "past_cell_states"),
        )
    },
}
_KEPT = (int, float, str, np.generic, types.ModuleType)


def scalar(function, **chosen):
    """Return the device function of a function over vectors, and so of all that it calls.

    chosen : device functions by name, for those that the type of an argument selects on the CPU
    """
    function = getattr(function, "py_func", function)
    code = function.__code__
    named = {name: function.__globals__[name] for name in code.co_names if name in function.__globals__}
    names = {name: chosen.get(name) or _twin(value, chosen) for name, value in named.items()}
    closure = tuple(types.CellType(_twin(cell.cell_contents, chosen)) for cell in function.__closure__ or ())
    names |= {"__builtins__": builtins, "__name__": __name__}
    return device(types.FunctionType(code, names, function.__name__, function.__defaults__, closure))


def of_type(kind, with_options, stateless=False):
    """Return device functions by name for those that the type of a cell's parameters selects on the CPU.

    kind : of cells.Cell; with_options : whether parameters have options
    stateless : of a part of a cell that makes none of its states
    """
    cell = types.SimpleNamespace(
        instance_class=kind, fields=("options",), types=(None if with_options else numba.types.none,)
    )
    found = {}
    for name, choose in _CHOOSERS.items():
        arguments = choose.__code__.co_argcount - 1
        states = zoneout._NO_STATES if stateless else None
        found[name] = scalar(choose(cell, *[states] * arguments), **found)
    return found


def _twin(value, chosen):
    """Return what stands in for something that a function refers to."""
    if isinstance(value, _KEPT):
        return value
    if value in _TWINS:
        return _TWINS[value]
    if hasattr(value, "takes"):
        return own.traced(value)
    if hasattr(value, "order"):
        return own.picked(value.order)
    if isinstance(value, types.FunctionType) or hasattr(value, "py_func"):
        return scalar(value, **chosen)
    raise NotImplementedError(f"{getattr(value, '__name__', value)!r} has no version over scalars yet")
