"""The simple recurrent network."""

from typing import Any

import numpy as np

from .cell_activations import ACTIVATIONS


def simple_rnn(activation: str) -> dict[str, Any]:
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
