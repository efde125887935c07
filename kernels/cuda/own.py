"""The functions of a user's own cell for a GPU: run once in Python on symbols, and compiled from what they did with them.

So numbers among the lanes take the lanes' type: compiled as they stand, 0.9 would make everything double precision. Such
functions go one way whatever the lanes hold, for on the CPU those are vectors: what they do with symbols is all they do.
"""

import functools
import types
from math import inf, nan

from numlstm.kernels.own import NAMES as LANES

from .elementary import hard_sigmoid, log_sigmoid, maximum, minimum, relu, sigmoid, where
from .machine import constant, device, exp, fma, sqrt, tanh


@device
def greater(a, b):
    """Return the greater of two, a NaN if either is one."""
    return b if b != b else maximum(a, b)


@device
def lesser(a, b):
    """Return the lesser of two, a NaN if either is one."""
    return b if b != b else minimum(a, b)


_CALLED = {
    "constant": constant,
    "exp": exp,
    "fma": fma,
    "hard_sigmoid": hard_sigmoid,
    "log_sigmoid": log_sigmoid,
    "maximum": greater,
    "minimum": lesser,
    "relu": relu,
    "sigmoid": sigmoid,
    "sqrt": sqrt,
    "tanh": tanh,
    "where": where,
    "inf": inf,
    "nan": nan,
}


class _Program:
    """Lines of code, each of which names a value."""

    def __init__(self, like):
        self.lines, self._like = [], like

    def add(self, text):
        name = f"v{len(self.lines)}"
        self.lines.append(f"    {name} = {text}")
        return name

    def text(self, value):
        """Return what stands for a value, or a tuple of values, in the code."""
        if isinstance(value, tuple):
            return f"({''.join(f'{self.text(item)}, ' for item in value)})"
        return value.name if isinstance(value, _Condition) else f"constant({self._like}, {float(value)!r})"

    def call(self, name, *arguments):
        return _Lane(self, self.add(f"{name}({', '.join(map(self.text, arguments))})"))


class _Condition:
    """What a comparison of lanes is."""

    def __init__(self, program, name):
        self.program, self.name = program, name


def _operator(sign, swapped=False, kind=None):
    def apply(self, other):
        pair = (other, self) if swapped else (self, other)
        left, right = map(self.program.text, pair)
        return (kind or _Lane)(self.program, self.program.add(f"{left} {sign} {right}"))

    return apply


class _Lane(_Condition):
    """A number of a unit."""

    __hash__ = None
    __add__, __sub__, __mul__, __truediv__ = map(_operator, "+-*/")
    __radd__, __rsub__, __rmul__, __rtruediv__ = (_operator(sign, True) for sign in "+-*/")
    __lt__, __le__, __gt__, __ge__, __eq__, __ne__ = (
        _operator(sign, kind=_Condition) for sign in ("<", "<=", ">", ">=", "==", "!=")
    )

    def __neg__(self):
        return _Lane(self.program, self.program.add(f"-{self.name}"))


def traced(function):
    """Return the device function of a user's, which says how long the tuples are that it `takes`, None for a lane."""
    names = [f"a{k}" if size is None else [f"a{k}[{i}]" for i in range(size)] for k, size in enumerate(function.takes)]
    program = _Program(next((name for name in names if isinstance(name, str)), names[0][0]))
    lanes = (
        _Lane(program, name) if isinstance(name, str) else tuple(_Lane(program, each) for each in name) for name in names
    )
    result = program.text(_on_symbols(function, program, {})(*lanes))
    head = f"def {function.__name__}({', '.join(f'a{k}' for k in range(len(names)))}):"
    found = {}
    exec("\n".join([head, *program.lines, f"    return {result}"]), dict(_CALLED), found)
    return device(found[function.__name__])


def _on_symbols(function, program, done):
    """Return a function whose calls of those of numlstm.lanes become lines of a program; done : those that there are."""
    if function in LANES:
        return functools.partial(program.call, LANES[function])
    if function in done:
        return done[function]

    def twin(value):
        if isinstance(value, types.ModuleType):  # no other than numlstm.lanes
            return types.SimpleNamespace(**{name: _on_symbols(each, program, done) for each, name in LANES.items()})
        return _on_symbols(value, program, done) if isinstance(value, types.FunctionType) else value

    names, cells = {}, tuple(types.CellType() for _ in function.__closure__ or ())
    done[function] = types.FunctionType(function.__code__, names, function.__name__, None, cells)
    names |= {name: twin(value) for name, value in function.__globals__.items() if name != "__builtins__"}
    names["__builtins__"] = function.__globals__["__builtins__"]
    for cell, outer in zip(cells, function.__closure__ or (), strict=True):
        cell.cell_contents = twin(outer.cell_contents)
    return done[function]


def picked(order):
    """Return a device function (like, values): the items of a tuple in another order."""
    if not order:
        return device(lambda like, values: ())
    rest, last = picked(order[:-1]), order[-1]
    return device(lambda like, values: (*rest(like, values), values[last]))
