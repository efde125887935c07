"""One step of one sequence by one thread, for a user's own kernel: the twin of kernels/step.py and kernels/chain.py.

A model's step is made of its layers', once for each chain of layers, whatever their sizes and weights. States, and what a
layer hands to the next, lie in arrays (units, N) of many sequences, so that neighbouring threads, each with a sequence of
its own, touch neighbouring numbers; all of them read the same weights at once. Sums stay in registers, and nothing is kept
in local memory. Nothing is checked, but a number that an embedding does not know gives NaN.
"""

import functools
from math import nan
from typing import Any, NamedTuple

import numpy as np
from numlstm.kernels.cells import cell_type

from .cell_step import get_column, put_column, recurrent_step
from .elementary import relu, sigmoid
from .layer import Weights
from .machine import constant, device, exp, fma, hold, load, tanh


class Chain(NamedTuple):
    """Parameters of a model: those of its layers, Weights, Dense or Embedding, in order.

    Weights of a step: x (H, I, G), h (H, K, G), both by units, inputs and slots; b (slots, H), p (P H,), second (O, H)
    """

    layers: Any


class Dense(NamedTuple):
    """Parameters of a dense layer: W (C, K), b (C,)."""

    W: Any
    b: Any


class Embedding(NamedTuple):
    """Parameters of an embedding: table (V, C)."""

    table: Any


class Recurrent(NamedTuple):
    """Which code a recurrent layer needs: of a cell (cells.cell_type), and whether its parameters have options."""

    cell: str
    options: bool


class Activated(NamedTuple):
    """Which code a dense layer needs: its activation, one of ACTIVATIONS, or "softmax"."""

    activation: str


class Gathered(NamedTuple):
    """Which code an embedding needs: the first number that it knows."""

    first: int


class _Place(NamedTuple):
    """How vectors of one sequence are read and written: device functions (array, n, k) and (array, n, k, value)."""

    get: Any
    put: Any


@device
def _get_own(array, n, k):
    return array[k]


@device
def _put_own(array, n, k, value):
    hold(array, value)
    array[k] = value


__all__ = [
    "ACTIVATIONS",
    "Activated",
    "Chain",
    "Dense",
    "Embedding",
    "Gathered",
    "Recurrent",
    "Weights",
    "step",
]

_OWN = _Place(_get_own, _put_own)  # a vector that the caller has for itself, of any dtype and layout
_COLUMN = _Place(get_column, put_column)  # column n of an array (units, N)

ACTIVATIONS = {"linear": device(lambda x: x), "relu": relu, "tanh": tanh, "sigmoid": sigmoid}


@functools.cache
def step(layers: tuple[Any, ...]) -> Any:
    """Return the device function (params, state, x, y) of a chain of layers: Recurrent, Activated, Gathered.

    params : Chain; state : (states, n) of numlstm.jitting, all sequences' and which one; x (I,) or an integer; y (C,)
    """
    run = _chain(layers, 0)

    @device
    def step(params, state, x, y):
        run(params.layers, state.states.layers, state.states.outputs, state.n, x, y)

    return step


def _chain(layers, k):
    """Return a device function (layers, states, outputs, n, x, y) for the layers from `k` on."""
    last = k == len(layers) - 1
    this = _MAKERS[type(layers[k])](*layers[k], _COLUMN if k else _OWN, _OWN if last else _COLUMN)
    rest = None if last else _chain(layers, k + 1)

    @device
    def run_last(layers, states, outputs, n, x, y):
        this(layers[k], states[k], n, x, y)

    @device
    def run(layers, states, outputs, n, x, y):
        this(layers[k], states[k], n, x, outputs[k])
        rest(layers, states, outputs, n, outputs[k], y)

    return run_last if last else run


def _dense(activation, of_x, of_y):
    get_x, get_y, put_y = of_x.get, *of_y
    activate = ACTIVATIONS["linear" if activation == "softmax" else activation]
    soften = activation == "softmax"

    @device
    def softmax(y, n, columns):
        top = get_y(y, n, 0)
        for c in range(1, columns):
            value = get_y(y, n, c)
            top = value if value > top else top
        total = constant(top, 0)
        for c in range(columns):
            power = exp(get_y(y, n, c) - top)
            put_y(y, n, c, power)
            total += power
        scale = constant(top, 1) / total
        for c in range(columns):
            put_y(y, n, c, get_y(y, n, c) * scale)

    @device
    def dense(params, state, n, x, y):
        columns, inputs = params.W.shape
        for c in range(columns):
            total = load(params.b, c)
            for k in range(inputs):
                weight = load(params.W, c * inputs + k)
                total = fma(weight, constant(weight, get_x(x, n, k)), total)
            put_y(y, n, c, activate(total))
        if soften:
            softmax(y, n, columns)

    return dense


def _embedding(first, of_x, of_y):
    put_y = of_y.put

    @device
    def embedding(params, state, n, x, y):
        numbers, columns = params.table.shape
        index = np.int64(x)
        known = first <= index < numbers
        for c in range(columns):
            element = load(params.table, index * columns + c if known else 0)
            put_y(y, n, c, element if known else constant(element, nan))

    return embedding


def _recurrent(name, options, of_x, of_y):
    return recurrent_step(cell_type(name), options, of_x.get, *of_y)


_MAKERS = {Recurrent: _recurrent, Activated: _dense, Gathered: _embedding}
