"""Projection of h, by the second product that a step may have."""

from typing import Any

import numpy as np
from numba.extending import register_jitable


def projected(content: dict[str, Any]) -> dict[str, Any]:
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
