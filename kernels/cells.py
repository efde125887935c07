"""The element-wise mathematics of each cell and of its adjoint, written once, over lanes.

A lane is a SIMD vector on the CPU; the functions only use operators and the elementary functions, and write numbers through
``constant``, so that nothing is computed in a wider type. The type of a cell's parameters selects its functions.

For each step and hidden unit a cell has some numbers in slots: first the pre-activations, the sums of the bias and of the
products with x and with h; then what the cell keeps for its adjoint, mostly the gates; in the end the gradients of the
pre-activations. Beside h it may have states of its own, such as c.
"""

import functools
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.extending import intrinsic, overload, register_jitable

from .compiling import jit, source_hash, stamped_name
from .elementary import exp, hard_sigmoid, hard_sigmoid_slope, log_sigmoid, positive, relu, sigmoid, tanh
from .masks import where
from .options import limited, within
from .simd import (
    constant,
    element_pointer,
    fma,
    int_constant,
    load,
    load_vector,
    maximum,
    minimum,
    store_first,
    store_vector,
    vec_of,
)


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


# --- activations, and their slopes as functions of their values ---


@register_jitable
def _linear(x):
    return x


@register_jitable
def _sigmoid_slope(y):
    return y * (constant(y, 1) - y)


@register_jitable
def _tanh_slope(y):
    return constant(y, 1) - y * y


@register_jitable
def _linear_slope(y):
    return constant(y, 1)


ACTIVATIONS = {
    "sigmoid": (sigmoid, _sigmoid_slope),
    "hard_sigmoid": (hard_sigmoid, hard_sigmoid_slope),
    "tanh": (tanh, _tanh_slope),
    "relu": (relu, positive),
    "linear": (_linear, _linear_slope),
}


# --- the cells ---


def _lstm(
    input_gate: bool,
    forget_gate: str,
    output_gate: bool,
    gate_activation: str,
    input_activation: str,
    output_activation: str,
    peepholes: bool,
    cell_input: str,
    gate_recurrence: bool,
    gate_sets: str,
    projected: bool,
) -> dict[str, Any]:
    """A member of the LSTM family; the options are those of numlstm.CellSpec. Gates that are seen are states behind c."""
    has = {"i": input_gate, "f": forget_gate == "learned", "g": True, "o": output_gate}
    present = [name for name in "ifgo" if has[name]]
    h_only = cell_input == "h_only"
    named = [name for name in "ifgo" if not has[name]] + sorted(present, key=lambda name: h_only and name != "g")
    with_x = [name for name in present if not (h_only and name == "g")]
    first = 4 - len(present)
    looks = [(name, int(name == "o")) for name in "ifo" if has[name]] if peepholes else []
    numbers = tuple("ifgo".index(name) for name in named)  # of the gates i, f, g, o, which stand in slots 0 to 3
    slot = {name: named.index(name) for name in "ifgo"}
    place = {name: k for k, (name, _) in enumerate(looks)}
    I, F, G, O = (slot[name] for name in "ifgo")  # noqa: E741
    P_I, P_F, P_O = (place.get(name, 0) for name in "ifo")
    HAS_I, HAS_F, HAS_O = has["i"], has["f"], has["o"]
    COUPLED, PEEPS, SEEN = forget_gate == "coupled", peepholes, gate_recurrence
    A, B, C, D = numbers
    kept = tuple(name if has[name] or (COUPLED and name == "f") else "" for name in named)
    gate, gate_slope = ACTIVATIONS[gate_activation]
    squash_in, slope_in = ACTIVATIONS[input_activation]
    squash_out, slope_out = ACTIVATIONS[output_activation]

    def forward(cell, at, z, states):
        c, units = states[0], cell.b.shape[1]
        one = constant(c, 1)
        i, f, o = one, one, one
        g = squash_in(z[G])
        if HAS_I:
            i = gate(fma(load(cell.p, P_I * units + at), c, z[I]) if PEEPS else z[I])
        if HAS_F:
            f = gate(fma(load(cell.p, P_F * units + at), c, z[F]) if PEEPS else z[F])
        elif COUPLED:
            f = one - i
        c = limited(cell, fma(f, c, i * g))
        if HAS_O:
            o = gate(fma(load(cell.p, P_O * units + at), c, z[O]) if PEEPS else z[O])
        gates = (i, f, g, o)
        kept = gates[A], gates[B], gates[C], gates[D]
        if SEEN:
            return kept, (c, i, f, o), o * squash_out(c)
        return kept, (c,), o * squash_out(c)

    def backward(cell, at, z, before, after, dh, dstates):
        i, f, g, o = z[I], z[F], z[G], z[O]
        c_before, c, dc, units = before[0], after[0], dstates[0], cell.b.shape[1]
        squashed = squash_out(c)
        zero = constant(c, 0)
        dz_i, dz_f, dz_o = zero, zero, zero
        if HAS_O:
            do = dh * squashed
            if SEEN:
                do = do + dstates[3]
            dz_o = do * gate_slope(o)
        dc = fma(dh * o, slope_out(squashed), dc)
        if PEEPS and HAS_O:
            dc = fma(dz_o, load(cell.p, P_O * units + at), dc)
        dc = within(cell, c, dc)
        if HAS_I:
            di = dc * (g - c_before if COUPLED else g)
            if SEEN:
                di = di + dstates[1]
            dz_i = di * gate_slope(i)
        if HAS_F:
            df = dc * c_before
            if SEEN:
                df = df + dstates[2]
            dz_f = df * gate_slope(f)
        dz_g = dc * i * slope_in(g)
        dc = dc * f
        if PEEPS and HAS_I:
            dc = fma(dz_i, load(cell.p, P_I * units + at), dc)
        if PEEPS and HAS_F:
            dc = fma(dz_f, load(cell.p, P_F * units + at), dc)
        slopes = (dz_i, dz_f, dz_g, dz_o)
        dz = slopes[A], slopes[B], slopes[C], slopes[D]
        if SEEN:
            return dz, (dc, zero, zero, zero)  # gates before the step reach nothing but the product
        return dz, (dc,)

    states = ("c", "i", "f", "o") if gate_recurrence else ("c",)
    content = {
        "slots": 4,
        "states": len(states),
        "seen": len(states) - 1,
        "x_slots": (4 - len(with_x), len(with_x)),
        "h_slots": (first, len(present)),
        "rows": _rows(named, with_x, present, present),
        "state_names": states,
        "kept": kept,
        "peepholes": np.array([(slot[name], after) for name, after in looks], np.int64).reshape(-1, 2),
        "forward": forward,
        "backward": backward,
    }
    content = content if gate_sets == "1" else _in_two_sets(content)
    return _projected(content) if projected else content


def _in_two_sets(cell: dict[str, Any]) -> dict[str, Any]:
    """An LSTM with a second set of weights of its gates: slots i, f, g, o, then i, f, o, and a, the first set's share."""
    forward_mixed, backward_mixed = register_jitable(cell["forward"]), register_jitable(cell["backward"])

    def forward(cell, at, z, states):
        a = sigmoid(z[7])
        i, f, o = z[0] - z[4], z[1] - z[5], z[3] - z[6]
        mixed = fma(a, i, z[4]), fma(a, f, z[5]), z[2], fma(a, o, z[6])
        kept, after, h = forward_mixed(cell, at, mixed, states)
        return (kept[0], kept[1], kept[2], kept[3], i, f, o, a), after, h

    def backward(cell, at, z, before, after, dh, dstates):
        (i, f, g, o), dbefore = backward_mixed(cell, at, z, before, after, dh, dstates)
        a, da = z[7], fma(i, z[4], fma(f, z[5], o * z[6]))
        b = constant(a, 1) - a
        return (i * a, f * a, g, o * a, i * b, f * b, o * b, da * a * b), dbefore

    eight = (0, 8)
    counts = {"slots": 8, "x_slots": eight, "h_slots": eight, "rows": np.array([range(8)] * 3)}
    return {**cell, **counts, "kept": (*"ifgo", "", "", "", "a"), "forward": forward, "backward": backward}


def _projected(content: dict[str, Any]) -> dict[str, Any]:
    """A cell as the first part of one whose h is W_p times what it was: the sum of the second product in a slot more."""
    cell_forward, cell_backward = register_jitable(content["forward"]), register_jitable(content["backward"])

    def first(cell, at, z, states):
        kept, after, h = cell_forward(cell, at, z[1:], states)
        return (z[0], *kept), after, h

    def forward(cell, at, z, states):
        return (z[0],), (), z[0]

    def backward(cell, at, z, before, after, dh, dstates):
        return (dh,), ()

    def first_backward(cell, at, z, before, after, du, dstates):
        dz, dbefore = cell_backward(cell, at, z[1:], before, after, du, dstates)
        return (z[0], *dz), dbefore

    shifted = {name: (content[name][0] + 1, content[name][1]) for name in ("x_slots", "h_slots")}
    return {
        **content,
        **shifted,
        "slots": content["slots"] + 1,
        "rows": np.pad(content["rows"], ((0, 0), (1, 0)), constant_values=-1),
        "peepholes": content["peepholes"] + np.array([1, 0]),
        "kept": ("", *content["kept"]),
        "second_product": "W_p",
        "forward": forward,
        "backward": backward,
        "first": first,
        "first_backward": first_backward,
    }


def _rows(slots, x, h, b):
    """Return the table of blocks, from the names of the slots and of the blocks of W_ih, W_hh and b."""
    return np.array([[blocks.index(slot) if slot in blocks else -1 for slot in slots] for blocks in (x, h, b)])


def _gru(activation: str, recurrent_activation: str, reset_after: bool) -> dict[str, Any]:
    """A GRU; gates r, z, n."""
    return (_gru_after if reset_after else _gru_before)(activation, recurrent_activation)


def _gru_after(activation: str, recurrent_activation: str) -> dict[str, Any]:
    """A GRU with its reset gate after the product."""
    gate, gate_slope = ACTIVATIONS[recurrent_activation]
    squash, slope = ACTIVATIONS[activation]

    def forward(cell, at, z, states):
        r, u = gate(z[1]), gate(z[2])
        n = squash(fma(r, z[3], z[0]))
        h = fma(u, states[0] - n, n)
        return (n, r, u, z[3]), (h,), h

    def backward(cell, at, z, before, after, dh, dstates):
        n, r, u = z[0], z[1], z[2]
        dh = dh + dstates[0]
        dz_n = dh * (constant(u, 1) - u) * slope(n)
        dz_r = dz_n * z[3] * gate_slope(r)
        dz_u = dh * (before[0] - n) * gate_slope(u)
        return (dz_n, dz_r, dz_u, dz_n * r), (dh * u,)

    return {
        "slots": 4,
        "states": 1,
        "x_slots": (0, 3),
        "h_slots": (1, 3),
        "rows": np.array([(2, 0, 1, -1), (-1, 0, 1, 2), (2, 0, 1, 3)]),  # the bias of the product with h is the last block
        "h_is_state": True,
        "state_names": ("h",),
        "kept": ("n", "r", "z", ""),
        "forward": forward,
        "backward": backward,
    }


def _gru_before(activation: str, recurrent_activation: str) -> dict[str, Any]:
    """A GRU with its reset gate before the product: the second one, with r h."""
    gate, gate_slope = ACTIVATIONS[recurrent_activation]
    squash, slope = ACTIVATIONS[activation]

    def first(cell, at, z, states):
        r = gate(z[1])
        return (z[0], r), (), r * states[0]

    def forward(cell, at, z, states):
        n, u = squash(z[0]), gate(z[2])
        h = fma(u, states[0] - n, n)
        return (n, z[1], u), (h,), h

    def backward(cell, at, z, before, after, dh, dstates):
        n, u = z[0], z[2]
        dh = dh + dstates[0]
        dz_n = dh * (constant(u, 1) - u) * slope(n)
        return (dz_n, z[1], dh * (before[0] - n) * gate_slope(u)), (dh * u,)

    def first_backward(cell, at, z, before, after, du, dstates):
        r = z[1]
        return (z[0], du * before[0] * gate_slope(r)), (fma(du, r, dstates[0]),)

    return {
        "slots": 3,
        "states": 1,
        "x_slots": (0, 3),
        "h_slots": (1, 2),
        "rows": np.array([(2, 0, 1), (-1, 0, 1), (2, 0, 1)]),
        "h_is_state": True,
        "second_product": "W_hh",
        "state_names": ("h",),
        "kept": ("n", "r", "z"),
        "forward": forward,
        "backward": backward,
        "first": first,
        "first_backward": first_backward,
    }


def _rnn(activation: str) -> dict[str, Any]:
    """A simple recurrent network (Elman 1990)."""
    squash, slope = ACTIVATIONS[activation]

    def forward(cell, at, z, states):
        h = squash(z[0])
        return (h,), (), h

    def backward(cell, at, z, before, after, dh, dstates):
        return (dh * slope(z[0]),), ()

    one = (0, 1)
    counts = {"slots": 1, "states": 0, "x_slots": one, "h_slots": one, "rows": np.zeros((3, 1), np.int64)}
    return {**counts, "state_names": (), "kept": ("h",), "forward": forward, "backward": backward}


def _slstm(forget_gate: str, activation: str, recurrent_activation: str) -> dict[str, Any]:
    """An sLSTM (Beck et al. 2024) with states c, n, m; the adjoint takes m, a choice of scale, as a constant."""
    gate, gate_slope = ACTIVATIONS[recurrent_activation]
    squash, slope = ACTIVATIONS[activation]
    SIGMOID = forget_gate == "sigmoid"

    def forward(cell, at, z, states):
        c, n, m = states[0], states[1], states[2]
        most = constant(m, 80)  # of exponents: only where c = n = 0 could one be above 0, and 0 times infinity is no number
        left = m + (log_sigmoid(z[1]) if SIGMOID else z[1])
        m = where(n == constant(n, 0), z[0], maximum(left, z[0]))
        i, f = exp(z[0] - m), exp(minimum(left - m, most))
        g, o = squash(z[2]), gate(z[3])
        c, n = fma(f, c, i * g), fma(f, n, i)
        return (i, f, g, o), (c, n, m), o * c / n

    def backward(cell, at, z, before, after, dh, dstates):
        i, f, g, o = z[0], z[1], z[2], z[3]
        one, ratio = constant(f, 1), after[0] / after[1]
        down = dh * o / after[1]
        dc, dn = dstates[0] + down, dstates[1] - down * ratio
        dlog_f = fma(dc, before[0], dn * before[1]) * f
        dz_f = dlog_f
        if SIGMOID:  # f in the scale before the step is the sigmoid
            dz_f = dlog_f * (one - f * exp(minimum(after[2] - before[2], constant(f, 80))))
        dz = fma(dc, g, dn) * i, dz_f, dc * i * slope(g), dh * ratio * gate_slope(o)
        return dz, (dc * f, dn * f, dlog_f)

    four = (0, 4)
    counts = {"slots": 4, "states": 3, "x_slots": four, "h_slots": four, "rows": np.array([range(4)] * 3)}
    names = {"kept": ("i", "f", "g", "o"), "state_names": ("c", "n", "m")}
    return {**counts, **names, "forward": forward, "backward": backward}


def normalised(base: type[Cell]) -> dict[str, Any]:
    """Return what is to be known of a cell whose products are normalised, from the one without.

    Behind its slots there are some for the product with x and some for that with h. The rows of b that belong to these are
    their gains, behind all biases: those of x by blocks of W_ih, then those of h by blocks of W_hh.
    """
    (x_first, x_count), (h_first, h_count) = base.x_slots, base.h_slots
    x, h, b = base.rows
    x, h = x[x_first : x_first + x_count], h[h_first : h_first + h_count]
    biases = b.max() + 1
    none_of_cell, none_of_x, none_of_h = ([-1] * count for count in (base.slots, x_count, h_count))
    rows = [*none_of_cell, *x, *none_of_h], [*none_of_cell, *none_of_x, *h], [*b, *(biases + x), *(biases + x_count + h)]
    same = ("states", "seen", "peepholes", "h_is_state", "state_names", "forward", "backward")
    return {
        **{name: getattr(base, name) for name in same},
        "base": base,
        "slots": base.slots + x_count + h_count,
        "x_slots": (base.slots, x_count),
        "h_slots": (base.slots + x_count, h_count),
        "rows": np.array(rows),
        "kept": (*base.kept, *[""] * (x_count + h_count)),
    }


def _normalised_by_name(*words: Any) -> dict[str, Any]:
    base = cell_type("_of_".join(map(str, words)))
    return normalised(base) if hasattr(base, "forward") else {}


# A user's own cell is made by define_own; a process that has not made it reads its name in files, without its functions.
_KINDS = {
    "LSTM": _lstm,
    "GRU": _gru,
    "RNN": _rnn,
    "SLSTM": _slstm,
    "Own": lambda digest: {},
    "Normed": _normalised_by_name,
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

    spread : how many vectors of hidden units there are in a panel of weights
    meets : how often the members of a team meet in a step
    """

    x_first: Any
    x_count: Any
    h_first: Any
    h_count: Any
    slots: Any
    states: Any
    spread: Any
    seen: Any
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
    slots, states, spread, seen = kind.slots, kind.states, spread_of(kind), kind.seen
    meets = 1 if kind.base is None else 2
    return lambda cell: Places(x_first, x_count, h_first, h_count, slots, states, spread, seen, meets)


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
