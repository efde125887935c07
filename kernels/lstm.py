"""The LSTM family: gates and states as options have it, and two sets of gates."""

from typing import Any

import numpy as np
from numba.extending import register_jitable

from .cell_activations import ACTIVATIONS
from .elementary import sigmoid
from .memory import load
from .options import limited, within
from .simd import constant, fma


def lstm(
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
    return content if gate_sets == "1" else _in_two_sets(content)


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


def _rows(slots, x, h, b):
    """Return the table of blocks, from the names of the slots and of the blocks of W_ih, W_hh and b."""
    return np.array([[blocks.index(slot) if slot in blocks else -1 for slot in slots] for blocks in (x, h, b)])
