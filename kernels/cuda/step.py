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

from .elementary import relu, sigmoid
from .layer import Weights, reader
from .machine import constant, device, exp, fma, hold, load, store, tanh
from .missing import cell_on_gpu
from .scalar import of_type, scalar


class Chain(NamedTuple):
    """Parameters of a model: those of its layers, Weights, Dense or Embedding, in order.

    Weights of a step: x (H, I, G), h (H, K, G), both by units, inputs and slots; b (slots, H), p (P H,)
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


@device
def _get_column(array, n, k):
    return load(array, k * array.shape[1] + n)


@device
def _put_column(array, n, k, value):
    store(array, k * array.shape[1] + n, value)


__all__ = [
    "ACTIVATIONS",
    "Activated",
    "Chain",
    "Dense",
    "Embedding",
    "Gathered",
    "Recurrent",
    "Weights",
    "cell_on_gpu",
    "step",
]

_OWN = _Place(_get_own, _put_own)  # a vector that the caller has for itself, of any dtype and layout
_COLUMN = _Place(_get_column, _put_column)  # column n of an array (units, N)

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


_SETTLED = "settled_states_one", "settled_h_one"


def _recurrent(name, options, of_x, of_y):
    kind = cell_on_gpu(name)
    chosen = of_type(kind, options)
    forward, settled_states, settled_h = scalar(kind.forward, **chosen), *map(chosen.get, _SETTLED)
    own, seen, wide = kind.states - kind.h_is_state, kind.seen, 1 + kind.seen
    read_biases, add_x, add_h = reader(kind.slots), _adder(*kind.x_slots, kind.slots), _adder(*kind.h_slots, kind.slots)
    x_count, h_count = kind.x_slots[1], kind.h_slots[1]
    read_states, write_states = _states_reader(own, kind.h_is_state), _states_writer(own - seen)
    add_seen, (show, bring) = _seen_adder(seen, h_count, add_h), _room(seen)
    get_x, get_y, put_y = of_x.get, *of_y

    @device
    def recurrent(cell, state, n, x, y):
        units, inputs = cell.b.shape[1], cell.x.shape[1]
        for unit in range(units):
            sums = read_biases(cell.b, unit, units)
            for k in range(inputs):
                sums = add_x(cell.x, (unit * inputs + k) * x_count, get_x(x, n, k), sums)
            for k in range(units):
                sums = add_h(cell.h, (unit * wide * units + k) * h_count, _get_column(state.h, n, k), sums)
            sums = add_seen(cell.h, unit * wide * units, units, state, n, sums)
            before, h = read_states(state, n, unit), _get_column(state.h, n, unit)
            _, after, out = forward(cell, unit, sums, before)
            after, out = settled_h(cell, settled_states(cell, before, after), h, out)
            write_states(state, n, unit, after)
            show(state, n, unit, units, after)
            put_y(y, n, unit, out)
        for unit in range(units):  # all that the products see has been read
            _put_column(state.h, n, unit, get_y(y, n, unit))
            bring(state, n, unit, units)

    return recurrent


def _adder(first, count, slots):
    """Return a device function (weights, at, value, sums): sums with the products of `value` added to some of the slots."""
    if slots == 0:
        return device(lambda weights, at, value, sums: ())
    rest, slot = _adder(first, count, slots - 1), slots - 1
    if not first <= slot < first + count:
        return device(lambda weights, at, value, sums: (*rest(weights, at, value, sums), sums[slot]))
    column = slot - first

    @device
    def add(weights, at, value, sums):
        weight = load(weights, at + column)
        return (*rest(weights, at, value, sums), fma(weight, constant(weight, value), sums[slot]))

    return add


def _seen_adder(seen, count, add):
    """Return a device function (weights, at, units, state, n, sums): sums with the products of the states that are seen.

    weights, at : of a unit; count : of its sums that products are added to; add : an _adder
    """
    if seen == 0:
        return device(lambda weights, at, units, state, n, sums: sums)
    rest, index = _seen_adder(seen - 1, count, add), 1 + seen  # of a state, behind h and the first other

    @device
    def add_seen(weights, at, units, state, n, sums):
        sums = rest(weights, at, units, state, n, sums)
        for k in range(units):
            sums = add(weights, (at + seen * units + k) * count, _get_column(state[index], n, k), sums)
        return sums

    return add_seen


def _room(seen):
    """Return device functions that write a unit's states that are seen to the state's room, and bring them from there."""
    if seen == 0:
        return device(lambda state, n, unit, units, after: None), device(lambda state, n, unit, units: None)
    (show_others, bring_others), last = _room(seen - 1), seen - 1

    @device
    def show(state, n, unit, units, after):
        show_others(state, n, unit, units, after)
        store(state.room, (last * units + unit) * state.h.shape[1] + n, after[seen])

    @device
    def bring(state, n, unit, units):
        bring_others(state, n, unit, units)
        room = load(state.room, (last * units + unit) * state.h.shape[1] + n)
        _put_column(state[1 + seen], n, unit, room)

    return show, bring


def _states_reader(count, with_h):
    """Return a device function (state, n, unit): the tuple of a unit's own states, with h as the last if it is one."""
    if with_h:
        own = _states_reader(count, False)
        return device(lambda state, n, unit: (*own(state, n, unit), _get_column(state.h, n, unit)))
    if count == 0:
        return device(lambda state, n, unit: ())
    rest = _states_reader(count - 1, False)
    return device(lambda state, n, unit: (*rest(state, n, unit), _get_column(state[count], n, unit)))


def _states_writer(count):
    """Return a device function (state, n, unit, after) that writes a unit's own states."""
    if count == 0:
        return device(lambda state, n, unit, after: None)
    rest, last = _states_writer(count - 1), count - 1

    @device
    def write(state, n, unit, after):
        rest(state, n, unit, after)
        _put_column(state[count], n, unit, after[last])

    return write


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


_MAKERS = {Recurrent: _recurrent, Activated: _dense, Gathered: _embedding}
