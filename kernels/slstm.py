"""The sLSTM (Beck et al. 2024)."""

from typing import Any

import numpy as np

from .cell_activations import ACTIVATIONS
from .elementary import exp, log_sigmoid
from .masks import where
from .simd import constant, fma, maximum, minimum


def slstm(forget_gate: str, activation: str, recurrent_activation: str) -> dict[str, Any]:
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
