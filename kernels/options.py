"""What may be done to the states of any cell: recurrent dropout and clipping; zoneout.py has the third.

A cell without options has None in their place. Numba leaves out what stands behind ``options is not None`` where an argument
of that name is None: then it costs nothing, not even time to compile. With options, c of the sweeps has one slot more, which
holds the first state as the cell left it, before zoneout; and dc one more, for the part of dh that goes past the cell to the
step before.
"""

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from .compiling import jit, overload
from .memory import load_first, store_first
from .simd import clamp, lanes, splat


class Options(NamedTuple):
    """The options of one layer.

    numbers : (3,)  the bound of c, infinity for none; the probabilities that zoneout keeps h, and the first other state
    key : (1,) uint64  of the masks of zoneout; (0,) to mix states by the probabilities, as inference does
    mask : (N, H)  what h is multiplied by before every product; (0, H) for ones
    """

    numbers: Any
    key: Any
    mask: Any


def has_options(cell) -> bool:
    """Tell from the Numba type of a cell's parameters whether there are options."""
    return not isinstance(cell.types[cell.fields.index("options")], types.NoneType)


# --- recurrent dropout ---


@jit
def masked(options, row, unit, hidden, h):
    """Return what the products see of a vector of h."""
    if options.mask.shape[0] > 0:
        h = h * load_first(options.mask, row * hidden + unit, hidden - unit)
    return h


def masked_u(cell, options, row, unit, hidden, u):
    """Return what the second product sees of a vector of u, or the gradient of u: where it is made of h, under h's mask."""
    raise NotImplementedError("compiled code only")


@overload(masked_u)
def _choose_masked_u(cell, options, row, unit, hidden, u):
    if cell.instance_class.h_is_state:
        return lambda cell, options, row, unit, hidden, u: masked(options, row, unit, hidden, u)
    return lambda cell, options, row, unit, hidden, u: u


@jit
def mask_row(mask, row, start, values, at, count):
    """Multiply `count` elements of `values` from `at` on by a row of the mask, from unit `start` on."""
    if mask.shape[0] > 0:
        for j in range(0, count, lanes(values)):
            factors = load_first(mask, row * mask.shape[1] + start + j, count - j)
            store_first(values, at + j, load_first(values, at + j, count - j) * factors, count - j)


# --- clipping ---


def limited(cell, c):
    """Return c within the bound of the options."""
    raise NotImplementedError("compiled code only")


@overload(limited)
def _choose_limited(cell, c):
    if not has_options(cell):
        return lambda cell, c: c
    return lambda cell, c: clamp(c, splat(cell.options.numbers, cell.options.numbers[0]))


def within(cell, c, dc):
    """Return the gradient of c as it was before `limited`: none at the bound."""
    raise NotImplementedError("compiled code only")


@overload(within)
def _choose_within(cell, c, dc):
    if not has_options(cell):
        return lambda cell, c, dc: dc
    return lambda cell, c, dc: _zero_beyond(dc, c, splat(cell.options.numbers, cell.options.numbers[0]))


@intrinsic
def _zero_beyond(typingctx, value, c, bound):
    """Return `value`, but 0 where c is not between -bound and bound; kept where c is a NaN."""

    def emit(context, builder, sig, args):
        value, c, bound = args
        inside = builder.and_(builder.fcmp_unordered("<", c, bound), builder.fcmp_unordered(">", c, builder.fneg(bound)))
        return builder.select(inside, value, ir.Constant(value.type, None))

    return signature(value, value, c, bound), emit
