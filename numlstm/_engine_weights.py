"""A cell's weights as the engine takes them, from those that users have, and back."""

from collections.abc import Sequence

import numpy as np

from ._validate import Array
from .cells import Spec


def inside(spec: Spec, weights: Sequence[Array]) -> tuple[Array, ...]:
    """Return a cell's weights as the engine takes them: W_ih, W_hh with all columns, biases and gains, peepholes, W_p."""
    named = dict(zip(spec.weights, weights, strict=True))
    W_ih, W_hh, b = named["W_ih"], named["W_hh"], [each for name, each in named.items() if name.startswith(("b", "gain"))]
    if "R" in named:
        W_hh = np.empty(wide_shape(W_hh.shape), W_hh.dtype)
        widen(named["W_hh"], named["R"], W_hh)
    arrays = W_ih, W_hh, b[0] if len(b) == 1 else np.concatenate(b), named.get("p", np.empty(0, W_ih.dtype))
    return (*arrays, named["W_p"]) if "W_p" in named else arrays


def outside(spec: Spec, arrays: Sequence[Array]) -> tuple[Array, ...]:
    """Return what `inside` made of a cell's weights, or its gradients, as it came: views, of recurrent gates copies."""
    W_ih, W_hh, b, p, *W_p = arrays
    hidden, start = W_hh.shape[0] // spec.weights["W_hh"][0], 0
    named = {"W_ih": W_ih, "W_hh": W_hh, "p": p, **dict(zip(["W_p"], W_p, strict=False))}
    if "R" in spec.weights:
        named |= {"W_hh": np.empty((4 * hidden, hidden), p.dtype), "R": np.empty((3 * hidden, 3 * hidden), p.dtype)}
        narrow(W_hh, named["W_hh"], named["R"])
    for name, (count, _) in spec.weights.items():
        if name not in named:
            named[name] = b[start : start + count * hidden]
            start += named[name].size
    return tuple([named[name] for name in spec.weights])


def wide_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return the shape of the engine's recurrent matrix from that of W_hh: products also see i, f and o."""
    return shape[0], 4 * shape[1]


def widen(W_hh: Array, R: Array, wide: Array) -> None:
    """Write the engine's recurrent matrix (4H, 4H): behind W_hh the columns of R, 0 in the rows of g."""
    hidden = W_hh.shape[1]
    wide[:, :hidden] = W_hh
    wide[2 * hidden : 3 * hidden, hidden:] = 0
    wide[: 2 * hidden, hidden:], wide[3 * hidden :, hidden:] = R[: 2 * hidden], R[2 * hidden :]


def narrow(wide: Array, W_hh: Array, R: Array) -> None:
    """Write W_hh (4H, H) and R (3H, 3H) from the engine's recurrent matrix, or from its gradient."""
    hidden = W_hh.shape[1]
    W_hh[...] = wide[:, :hidden]
    R[: 2 * hidden], R[2 * hidden :] = wide[: 2 * hidden, hidden:], wide[3 * hidden :, hidden:]
