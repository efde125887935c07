"""A recurrent layer's arrays on the device, and how kernels read and write them."""

import functools
from typing import Any, NamedTuple

from numlstm.kernels import options

from .machine import device, load
from .scalar import scalar

GROUPS = 4  # of columns a thread, where they are not the slots of a cell


class Weights(NamedTuple):
    """A cell's weights, not packed: x (G H, I), h (G H, K), b (B, H), p (P H,).

    K is the size of h, and as much as H more for each state that is seen.
    options : kernels.options.Options, or () for none
    second : (O, H)  weights of the second product, () for none; O is H, or of a projection as much as y has
    Gains of normalised products are rows of b (cells.normalised).
    """

    x: Any
    h: Any
    b: Any
    p: Any
    options: Any = ()
    second: Any = ()


class Layer(NamedTuple):
    """One layer over a batch of sequences, on the device. H is the size of h and y too, but for a projection.

    x : (N, T, I); h0 : (N, H)
    lengths : (N,) int64; past the length of a sequence y is 0 and its states stay; x may hold anything there
    y : (N, T, H)  written: h of every step
    h : (N, H)  holds what h0 does; overwritten with the last
    c : (N, T+1, states, H)  the first holds the initial ones; what follows is written. With options there is a slot more,
        for the first state as the cell left it
    z : (N, T, slots, H)  written: what the cell keeps
    u : (N, T, H)  written: what the second product sees, () without one
    scale : (N, T, products)  written: 1 / standard deviation of each product of a step, () where they are not normalised
    outside : how many steps come before these T, and how many there are beside them in all: of the whole are random masks
    """

    x: Any
    h0: Any
    lengths: Any
    y: Any
    h: Any
    c: Any
    z: Any
    u: Any = ()
    scale: Any = ()
    outside: tuple[Any, Any] = (0, 0)


class Gradients(NamedTuple):
    """What goes back through a layer, on the device.

    dy : (N, T, H)
    dh : (N, H); dc : (N, states, H)  gradients of the last states; overwritten with those of the first. With options dc has
        a slot more, in which anything may be
    dx : (N, T, I)  written
    du : (N, H)  workspace, () without a second product
    norm : (N, slots, H)  written: what biases and gains have as gradients from each sequence; () if products are not
        normalised
    """

    dy: Any
    dh: Any
    dc: Any
    dx: Any
    du: Any = ()
    norm: Any = ()


def masker(with_options: bool):
    """Return a device function (options, row, unit, units, h): what the products see of h."""
    return scalar(options.masked) if with_options else device(lambda options, row, unit, units, h: h)


def packed(blocks) -> int:
    """Return small numbers, 15 for -1, as the digits of one: a table that compiled code holds in no memory."""
    return sum((int(block) & 15) << 4 * k for k, block in enumerate(blocks))


@device
def digit(table, k):
    return table >> 4 * k & 15


def bias_reader(rows, dtype):
    """Return a device function (cell, slot, unit): the bias of a slot, of which `rows` names the row of b; 0 for -1."""
    table = packed(rows)

    @device
    def bias(cell, slot, unit):
        row = digit(table, slot)
        return load(cell.b, row * cell.b.shape[1] + unit) if row < 15 else dtype(0)

    return bias


def unrolled(count, body):
    """Return a device function (arguments) that calls the device function ``body(arguments, k)`` for k in 0..count-1.

    There is no loop that a compiler could leave as one: so k is a constant, and what it indexes can lie in registers.
    """

    @functools.cache
    def part(size):
        if size == 1:
            return body
        middle = size // 2
        lower, upper = part(middle), part(size - middle)

        @device
        def both(arguments, k):
            lower(arguments, k)
            upper(arguments, k + middle)

        return both

    whole = part(count)
    return device(lambda arguments: whole(arguments, 0))


def reader(count):
    """Return a device function (array, at, step): the tuple of `count` elements, `step` apart from `at` on."""
    if count == 0:
        return device(lambda array, at, step: ())
    rest, last = reader(count - 1), count - 1
    return device(lambda array, at, step: (*rest(array, at, step), load(array, at + last * step)))
