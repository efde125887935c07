"""The GRU (Cho et al. 2014), with its reset gate after the product or before it."""

from typing import Any

import numpy as np

from .cell_activations import ACTIVATIONS
from .simd import constant, fma


def gru(activation: str, recurrent_activation: str, reset_after: bool) -> dict[str, Any]:
    """A GRU; gates r, z, n."""
    return (_after if reset_after else _before)(activation, recurrent_activation)


def _after(activation: str, recurrent_activation: str) -> dict[str, Any]:
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


def _before(activation: str, recurrent_activation: str) -> dict[str, Any]:
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
