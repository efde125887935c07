"""Cells of the user's own: two element-wise functions in plain arithmetic become what the sweeps call.

Such functions see their numbers in the order in which a user counts them. Vectors are put in order, and numbers among them
made vectors, as the code is compiled, at no cost at run time.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.extending import intrinsic, register_jitable

from . import elementary, masks, simd
from .masks import Mask
from .simd import Vec, number_as_vector

Function = Callable[..., Any]


class Counts(NamedTuple):
    """Of a user's cell: gates, of which the last `apart` have a sum of their own with h; states; numbers kept.

    with_h : whether the first of the states is h
    """

    gates: int
    apart: int
    states: int
    kept: int
    with_h: bool


def _vector_type(kinds: Iterable[Any]) -> Any:
    """Return the type of the vectors among some types and the items of tuples, None if there are none."""
    for kind in kinds:
        found = kind.compared if isinstance(kind, Mask) else kind
        if isinstance(kind, types.BaseTuple):
            found = _vector_type(kind)
        if isinstance(found, Vec):
            return found
    return None


def _arranged(order: Iterable[int]) -> Any:
    """Return an intrinsic (like, values): the items of a tuple in another order, as vectors like one in `like`."""
    order = tuple(order)

    @intrinsic
    def arranged(typingctx, like, values):
        kind = _vector_type([like, values])
        known = isinstance(values, types.BaseTuple) and all(isinstance(item, (Vec, types.Number)) for item in values)
        if kind is None or not known:
            return None

        def emit(context, builder, sig, args):
            items = cgutils.unpack_tuple(builder, args[1], len(values))
            vectors = [number_as_vector(context, builder, items[i], values[i], kind) for i in order]
            return context.make_tuple(builder, sig.return_type, vectors)

        return signature(types.UniTuple(kind, len(order)), like, values), emit

    arranged.order = order  # for other machines
    return arranged


_one, _two, _three = (_arranged(range(count)) for count in (1, 2, 3))


def _unary(function: Any) -> Function:
    def choose(x):
        return (lambda x: function(x)) if isinstance(x, Vec) else None

    return choose


@register_jitable
def _greater(a, b):
    return masks.where(b != b, b, simd.maximum(a, b))  # which returns a where either is a NaN


@register_jitable
def _lesser(a, b):
    return masks.where(b != b, b, simd.minimum(a, b))


def _binary(function: Any) -> Function:
    def choose(a, b):
        def call(a, b):
            pair = _two(a, (a, b))
            return function(pair[0], pair[1])

        return call if _vector_type([a, b]) else None

    return choose


def _fma(a, b, c):
    def call(a, b, c):
        three = _three(a, (a, b, c))
        return simd.fma(three[0], three[1], three[2])

    return call if _vector_type([a, b, c]) else None


def _where(condition, a, b):
    def call(condition, a, b):
        pair = _two(condition, (a, b))
        return masks.where(condition, pair[0], pair[1])

    return call if isinstance(condition, Mask) else None


# What users' functions may call, by name: for `numba.extending.overload`.
LANES: dict[str, Function] = {
    **{
        name: _unary(getattr(elementary, name)) for name in ("exp", "sigmoid", "log_sigmoid", "tanh", "relu", "hard_sigmoid")
    },
    "sqrt": _unary(simd.sqrt),
    "maximum": _binary(_greater),
    "minimum": _binary(_lesser),
    "fma": _fma,
    "where": _where,
}
NAMES: dict[Function, str] = {}  # of the functions that stand for them in users' code: numlstm.lanes'


def content(
    counts: Counts, names: tuple[tuple[str, ...], tuple[str, ...]], functions: tuple[Function, ...]
) -> dict[str, Any]:
    """Return what a class of cells.Cell says of a user's cell.

    names : of the numbers kept, "" for those without, and of the states
    functions : forward, backward, and those that they call
    """
    gates, apart, states, kept, with_h = counts
    slots, common = gates + apart, gates - apart
    functions[0].takes, functions[1].takes = (slots, states), (kept, states, states, None, states)  # type: ignore[attr-defined]
    forward, backward = map(register_jitable, functions[:2])
    for function in functions[2:]:
        register_jitable(function)
    # In slots, the sums of x alone come first, then those of both, then those of h alone; to users, those of h come last.
    slot = [*range(apart, gates), *range(apart), *range(gates, slots)]
    place = [slot.index(k) for k in range(slots)]
    last = states - 1  # where h is among the states, as the engine wants it
    inward = [*range(1, states), 0] if with_h else list(range(states))
    outward = [last, *range(last)] if with_h else list(range(states))
    to_user, to_slots, to_kept = _arranged(slot), _arranged(place), _arranged(range(kept))
    states_to_user, states_inside = _arranged(outward), _arranged(inward)
    gradients = _arranged(range(states) if with_h else range(1, 1 + states))

    def own_forward(cell, at, z, states):
        of_step, after, h = forward(to_user(z, z), states_to_user(z, states))
        return to_kept(z, of_step), states_inside(z, after), _one(z, (h,))[0]

    def own_backward(cell, at, z, before, after, dh, dstates):
        if with_h:
            dh = dh + dstates[last]
        given = to_kept(z, z), states_to_user(z, before), states_to_user(z, after)
        dz, dbefore = backward(given[0], given[1], given[2], dh, gradients(z, (dh, *dstates)))
        return to_slots(z, dz), states_inside(z, dbefore)

    alone = [-1] * apart
    blocks = [*range(common, gates), *range(common)]
    return {
        "slots": slots,
        "states": states,
        "x_slots": (0, gates),
        "h_slots": (apart, gates),
        "rows": np.array([blocks + alone, [*alone, *range(gates)], [*blocks, *range(gates, slots)]]),
        "h_is_state": with_h,
        "kept": names[0],
        "state_names": names[1],
        "forward": own_forward,
        "backward": own_backward,
    }
