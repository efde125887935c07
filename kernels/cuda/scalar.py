"""The mathematics of the cells over scalars: the CPU's own code, with what it rests on replaced by twins.

cells.py is written over lanes, with operators and a few functions. A lane of a GPU's thread is a scalar, so that the same
code serves with the scalar versions of those functions.
"""

import builtins
import types

from numlstm.kernels import elementary as vector_elementary
from numlstm.kernels import masks, simd

from . import elementary
from .machine import constant, device, exp, fma, load, tanh

_TWINS = {
    simd.constant: constant,
    simd.fma: fma,
    simd.load: load,
    simd.maximum: elementary.maximum,
    simd.minimum: elementary.minimum,
    masks.where: elementary.where,
    vector_elementary.exp: exp,
    vector_elementary.tanh: tanh,
    **{
        getattr(vector_elementary, name): getattr(elementary, name)
        for name in ("hard_sigmoid", "hard_sigmoid_slope", "log_sigmoid", "positive", "relu", "sigmoid")
    },
}
_PLAIN = (int, float, str)


def scalar(function):
    """Return the device function of a cell's function over vectors, and so of all that it calls."""
    code = function.__code__
    named = {name: function.__globals__[name] for name in code.co_names if name in function.__globals__}
    names = {"__builtins__": builtins, "__name__": __name__, **{name: _twin(value) for name, value in named.items()}}
    closure = tuple(types.CellType(_twin(cell.cell_contents)) for cell in function.__closure__ or ())
    return device(types.FunctionType(code, names, function.__name__, function.__defaults__, closure))


def _twin(value):
    """Return what stands in for something that a cell's function refers to."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, types.FunctionType):
        return scalar(value)
    if value not in _TWINS:
        raise NotImplementedError(f"{getattr(value, '__name__', value)!r} has no version over scalars yet")
    return _TWINS[value]
