"""What a cell is, and how the type of its parameters selects the code of its step and of its adjoint.

That code is the element-wise mathematics of a cell, written once, over lanes: lstm.py, gru.py, simple_rnn.py, slstm.py. A
lane is a SIMD vector on the CPU; the functions only use operators and the elementary functions, and write numbers through
``constant``, so that nothing is computed in a wider type.

For each step and hidden unit a cell has some numbers in slots: first the pre-activations, the sums of the bias and of the
products with x and with h; then what the cell keeps for its adjoint, mostly the gates; in the end the gradients of the
pre-activations. Beside h it may have states of its own, such as c.
"""

import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from .compiling import jit, overload, source_hash, stamped_name
from .gru import gru
from .lstm import lstm
from .memory import element_pointer, load_vector, store_first, store_vector
from .projection import projected
from .simd import int_constant, vec_of
from .simple_rnn import simple_rnn
from .slstm import slstm


class _Parameters(NamedTuple):
    """A cell's packed parameters. G, K: slots that a product is added to, and its length; H padded to whole vectors: H'.

    x : (panels, I, G L)  input weights (layout.pack_gates); h : (panels, K, G L)  recurrent weights, or with G = 4 pairs of
        bfloat16 (panels, K, 2L) (layout.pair); for `step` both. K is H, and as much again for each state that is seen
    b : (slots, H')  bias; p : (peepholes, H'); padding holds zeros
    options : options.Options, or None
    second : (panels, H, V)  weights of the second product (layout.pack_rows), or None for a cell without
    norm : norm.Work, or None
    """

    x: Any
    h: Any
    b: Any
    p: Any
    options: Any = None
    second: Any = None
    norm: Any = None


class Cell(_Parameters):
    """Packed parameters, with what is to be known of a cell in its class.

    slots, states : how many numbers a unit has in slots, and how many states beside h
    x_slots, h_slots : (first, number) of the slots that the products with x and with h are added to
    rows : (3, slots)  which block of H rows of W_ih, of W_hh, of b belongs to a slot; -1 for none
    peepholes : (number, 2)  the slot of each, and whether it sees the state before the step (0) or after it (1)
    h_is_state : whether the last state is h itself
    seen : how many states the recurrent product sees behind h: those from the second on
    second_product : whose the weights of the second product are, which is added to slot 0: "" for none, "W_hh", of which
        they are the last block of rows, or "W_p", a matrix (P, H) of its own
    second_slot : the slot that it stands in itself: 0, or where it is normalised one behind those of the other products
    state_names : (states,)
    kept : (slots,)  names of the gates that stand in the slots behind a forward pass, "" for what else there is
    stamp : of parameters for users' code: by which kernels they were made
    base : of a cell whose products are normalised, the cell without, whose slots are the first ones (norm.py); or None
    """

    __slots__ = ()
    slots: ClassVar[int]
    states: ClassVar[int]
    x_slots: ClassVar[tuple[int, int]]
    h_slots: ClassVar[tuple[int, int]]
    rows: ClassVar[Any]
    peepholes: ClassVar[Any] = np.empty((0, 2), np.int64)
    h_is_state: ClassVar[bool] = False
    seen: ClassVar[int] = 0
    second_product: ClassVar[str] = ""
    second_slot: ClassVar[int] = 0
    state_names: ClassVar[tuple[str, ...]]
    kept: ClassVar[tuple[str, ...]]
    stamp: ClassVar[str] = ""
    base: ClassVar[Any] = None
    forward: ClassVar[Any]  # (cell, at, z, states) -> (kept, new states, h), for the units from `at` on
    backward: ClassVar[Any]  # (cell, at, kept, states before, after, dh, dstates) -> (dz, dstates before)
    # Of a cell with a second product, what comes before it, and its adjoint. What the two parts return are the first of the
    # slots, the others stay as they are; and all of the states, or () where the other part makes them.
    first: ClassVar[Any] = None  # (cell, at, z, states) -> (kept, new states, u)
    first_backward: ClassVar[Any] = None  # (cell, at, kept, states before, after, du, dstates) -> (dz, dstates before)


# --- their types ---


def normalised(base: type[Cell]) -> dict[str, Any]:
    """Return what is to be known of a cell whose products are normalised, from the one without.

    Behind its slots there are some for the product with x, some for that with h, and one for a second product with rows of
    W_hh; a projection is not normalised. The rows of b that belong to these are their gains, behind all biases: those of x
    by blocks of W_ih, then those of h by blocks of W_hh.
    """
    (x_first, x_count), (h_first, h_count) = base.x_slots, base.h_slots
    x, h, b = base.rows
    x, h, more = x[x_first : x_first + x_count], h[h_first : h_first + h_count], int(base.second_product == "W_hh")
    of_x, of_h = b.max() + 1 + x, b.max() + 1 + x_count + np.array([*h, *range(h_count, h_count + more)])
    none_of_cell, none_of_x, none_of_h = ([-1] * count for count in (base.slots, x_count, h_count))
    rows = (
        [*none_of_cell, *x, *none_of_h, *[-1] * more],
        [*none_of_cell, *none_of_x, *h, *[-1] * more],
        [*b, *of_x, *of_h],
    )
    same = ("states", "seen", "peepholes", "h_is_state", "second_product", "state_names")
    functions = ("forward", "backward", "first", "first_backward")
    end = base.slots + x_count + h_count
    return {
        **{name: getattr(base, name) for name in (*same, *functions)},
        "base": base,
        "slots": end + more,
        "x_slots": (base.slots, x_count),
        "h_slots": (base.slots + x_count, h_count),
        "second_slot": end * more,
        "rows": np.array(rows),
        "kept": (*base.kept, *[""] * (end + more - base.slots)),
    }


def _made_of(make: Callable[[type[Cell]], dict[str, Any]], *words: Any) -> dict[str, Any]:
    """Return what `make` makes of the cell that these words name."""
    base = cell_type("_of_".join(map(str, words)))
    return make(base) if hasattr(base, "forward") else {}


# A user's own cell is made by define_own; a process that has not made it reads its name in files, without its functions.
_KINDS = {
    "LSTM": lstm,
    "GRU": gru,
    "RNN": simple_rnn,
    "SLSTM": slstm,
    "Own": lambda digest: {},
    "Projected": functools.partial(_made_of, projected),
    "Normed": functools.partial(_made_of, normalised),
}


@functools.cache
def cell_type(name: str) -> type[Cell]:
    """Return the type of a cell's packed parameters from its name, the same at each call: a kind and its options.

    The words stand between "_of_": "RNN_of_tanh". So the name is one of a Python type, by which a process that has not made
    the type yet finds it when it loads compiled code that was kept on disk. "RNN_of_tanh_made_by_.." has a stamp and, if it
    is not of these kernels, no functions: its name can be read, whatever its words once meant.
    """
    words, _, stamp = name.partition("_made_by_")
    kind, *options = words.split("_of_")
    content = {"__slots__": (), "__module__": __name__, "stamp": stamp}
    if not stamp or stamp == source_hash():
        known = {"True": True, "False": False}
        content |= _KINDS[kind](*(known.get(option, option) for option in options))
    cell = type(name, (Cell,), content)
    globals()[name] = cell
    return cell


def define_own(name: str, content: dict[str, Any]) -> None:
    """Give the type of a user's own cell, "Own_of_..", its functions (own.content).

    The name says all that code compiled of them depends on. For there may be code on disk by that name.
    """
    for key, value in content.items():
        setattr(cell_type(name), key, value)


def stamped(cell: Cell) -> Cell:
    """Return parameters for users' code, whose type says by which kernels they were made."""
    kind = type(cell)
    made = cell_type(stamped_name(kind.__name__))
    if not hasattr(made, "forward"):  # a user's own
        said = vars(kind).items()
        define_own(made.__name__, {name: value for name, value in said if name in Cell.__annotations__ and name != "stamp"})
    return made(*cell)


def __getattr__(name: str) -> type[Cell]:
    if "_made_by_" not in name and name.split("_of_")[0] not in _KINDS:
        raise AttributeError(name)
    return cell_type(name)


# --- what the sweeps call ---


class Places(NamedTuple):
    """Constants of a cell.

    second : the slot of the second product, where that is normalised; else 0
    spread : how many vectors of hidden units there are in a panel of weights
    normed : whether the products with x and with h are normalised
    meets : how often the members of a team meet in a step
    """

    x_first: Any
    x_count: Any
    h_first: Any
    h_count: Any
    second: Any
    slots: Any
    states: Any
    spread: Any
    seen: Any
    normed: Any
    meets: Any


def spread_of(cell: type[Cell]) -> int:
    """Return how many vectors of units one panel holds: with a single gate four, so that the tile is as wide as ever."""
    return 4 if own_slots(cell) == 1 else 1


def own_slots(cell: type[Cell]) -> int:
    """Return how many slots the functions of a cell see, the first ones."""
    return int((cell.base or cell).slots)


def places(cell):
    """Return the cell's Places."""
    raise NotImplementedError("compiled code only")


@jit
def panel(cell, p, units, width):
    """Return the first unit of panel `p`, how many vectors of units it holds, and how far its gates' vectors are apart."""
    spread = places(cell).spread
    j = p * spread * width
    return j, min(spread, (units - j) // width), units if spread == 1 else width


def cell_forward(cell, at, z, states):
    """Return (kept, states, h) of one step for the vector of units at `at`, from pre-activations and states before."""
    raise NotImplementedError("compiled code only")


def cell_backward(cell, at, z, before, after, dh, dstates):
    """Return (dz, dstates before) from what was kept, the states and the gradients that reach h and the states after."""
    raise NotImplementedError("compiled code only")


def show(cell, to, at, step, count, after):
    """Store `count` elements of the states that the recurrent product sees, `step` elements apart from `at` on."""
    raise NotImplementedError("compiled code only")


def cell_first(cell, at, z, states):
    """Return (kept, states, u) of what comes before the second product."""
    raise NotImplementedError("compiled code only")


def cell_first_backward(cell, at, z, before, after, du, dstates):
    """Return (dz, dstates before) of what comes before the second product, from the gradient of u."""
    raise NotImplementedError("compiled code only")


def type_of(cell):
    """Return the class of a cell's parameters from their Numba type, None for anything else."""
    kind = getattr(cell, "instance_class", None)
    return kind if isinstance(kind, type) and issubclass(kind, Cell) else None


@overload(places)
def _places(cell):
    kind = type_of(cell)
    (x_first, x_count), (h_first, h_count) = kind.x_slots, kind.h_slots
    second, slots, states, spread, seen = kind.second_slot, kind.slots, kind.states, spread_of(kind), kind.seen
    normed = int(kind.base is not None)
    meets = 1 + normed + (kind.second_product != "") + (second > 0)
    return lambda cell: Places(x_first, x_count, h_first, h_count, second, slots, states, spread, seen, normed, meets)


@overload(cell_forward)
def _choose_forward(cell, at, z, states):
    return getattr(type_of(cell), "forward", None)


@overload(cell_backward)
def _choose_backward(cell, at, z, before, after, dh, dstates):
    return getattr(type_of(cell), "backward", None)


@overload(show)
def _choose_show(cell, to, at, step, count, after):
    seen = type_of(cell).seen
    if seen == 0:
        return lambda cell, to, at, step, count, after: None

    def show_states(cell, to, at, step, count, after):
        for k in range(seen):
            store_first(to, at + k * step, after[1 + k], count)

    return show_states


@overload(cell_first)
def _choose_first(cell, at, z, states):
    return getattr(type_of(cell), "first", None)


@overload(cell_first_backward)
def _choose_first_backward(cell, at, z, before, after, du, dstates):
    return getattr(type_of(cell), "first_backward", None)


def _loader(name, count, doc):
    def typed(typingctx, cell, array, at, step):
        kind = vec_of(array.dtype)
        tuple_type = types.UniTuple(kind, count(type_of(cell)))

        def emit(context, builder, sig, args):
            _, array, at, step = args
            places = (builder.add(at, builder.mul(step, int_constant(k))) for k in range(tuple_type.count))
            pointers = (element_pointer(context, builder, sig.args[1], array, place) for place in places)
            vectors = [load_vector(builder, pointer, kind.ir_type) for pointer in pointers]
            return context.make_tuple(builder, sig.return_type, vectors)

        return signature(tuple_type, cell, array, types.intp, types.intp), emit

    typed.__name__, typed.__doc__ = name, doc
    return intrinsic(typed)


load_slots = _loader(
    "load_slots", own_slots, "Return the cell's own slots, vectors that begin `step` elements apart from `at` on."
)
load_states = _loader(
    "load_states",
    lambda cell: cell.states,
    "Return the cell's states, vectors that begin `step` elements apart from `at` on.",
)


@intrinsic
def store_all(typingctx, array, at, step, vectors):
    """Store the vectors of a tuple `step` elements apart from `at` on."""

    def emit(context, builder, sig, args):
        array, at, step, vectors = args
        for k, vector in enumerate(cgutils.unpack_tuple(builder, vectors, len(sig.args[3]))):
            place = builder.add(at, builder.mul(step, int_constant(k)))
            store_vector(builder, element_pointer(context, builder, sig.args[0], array, place), vector)
        return context.get_dummy_value()

    return signature(types.void, array, types.intp, types.intp, vectors), emit
