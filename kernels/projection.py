"""Projection of h, by the second product that a step may have."""

from typing import Any

import numpy as np
from numba.extending import register_jitable


def projected(base: Any) -> dict[str, Any]:
    """A cell as the first part of one whose h is W_p times what it was: the sum of the second product in a slot more.

    base : type of the cell (cells.Cell), whose h is none of its states
    """
    cell_forward, cell_backward = register_jitable(base.forward), register_jitable(base.backward)

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

    return {
        "slots": base.slots + 1,
        "states": base.states,
        "x_slots": (base.x_slots[0] + 1, base.x_slots[1]),
        "h_slots": (base.h_slots[0] + 1, base.h_slots[1]),
        "rows": np.pad(base.rows, ((0, 0), (1, 0)), constant_values=-1),
        "peepholes": base.peepholes + np.array([1, 0]),
        "state_names": base.state_names,
        "kept": ("", *base.kept),
        "second_product": "W_p",
        "forward": forward,
        "backward": backward,
        "first": first,
        "first_backward": first_backward,
    }
