"""ONNX' recurrent operators step by step in NumPy: what they have beyond numlstm's cells.

That is clipped pre-activations and other activations. Weights come in ONNX' order of
blocks: W (G, H, I), R (G, H, H), biases of both (G, H); LSTM i, o, f, c with peepholes P (3, H) of i, o, f; GRU z, r, h.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from numlstm._validate import Array

if TYPE_CHECKING:
    from ._recurrent import Blocks, Recurrent


def run(
    node: "Recurrent", way: int, x: Array, blocks: "Blocks", states: list[Array], lengths: Array
) -> tuple[Array, list[Array]]:
    """Return y (N, T, H) and the last states of one direction, for x (N, T, I) in the order in which it is read.

    Past a sequence's length y is 0 and the states stay.
    """
    y = np.zeros((*x.shape[:2], node.hidden), x.dtype)
    step = _STEPS[node.kind]
    for t in range(x.shape[1]):
        valid = (t < lengths)[:, np.newaxis]
        after = step(node, way, x[:, t], blocks, *states)
        states = [np.where(valid, new, old).astype(x.dtype) for new, old in zip(after, states, strict=True)]
        y[:, t] = np.where(valid, states[0], 0)
    return y, states


def _lstm(node: "Recurrent", way: int, x: Array, blocks: "Blocks", h: Array, c: Array) -> tuple[Array, ...]:
    f, g, squash = node.activations[way]
    z_i, z_o, z_f, z_c = _product(blocks.W, x) + _product(blocks.R, h) + (blocks.W_b + blocks.R_b)[:, np.newaxis]
    p_i, p_o, p_f = blocks.P
    i = f(node.clipped(z_i + p_i * c))
    forget = 1 - i if node.input_forget else f(node.clipped(z_f + p_f * c))
    c = forget * c + i * g(node.clipped(z_c))
    return f(node.clipped(z_o + p_o * c)) * squash(node.clipped(c)), c


def _gru(node: "Recurrent", way: int, x: Array, blocks: "Blocks", h: Array) -> tuple[Array, ...]:
    f, g = node.activations[way]
    x_z, x_r, x_n = _product(blocks.W, x) + blocks.W_b[:, np.newaxis]
    h_z, h_r = _product(blocks.R[:2], h) + blocks.R_b[:2, np.newaxis]
    z, r = f(node.clipped(x_z + h_z)), f(node.clipped(x_r + h_r))
    if node.linear_before_reset:
        h_n = r * (h @ blocks.R[2].T + blocks.R_b[2])
    else:
        h_n = (r * h) @ blocks.R[2].T + blocks.R_b[2]
    return ((1 - z) * g(node.clipped(x_n + h_n)) + z * h,)


def _rnn(node: "Recurrent", way: int, x: Array, blocks: "Blocks", h: Array) -> tuple[Array, ...]:
    (f,) = node.activations[way]
    z = _product(blocks.W, x) + _product(blocks.R, h) + (blocks.W_b + blocks.R_b)[:, np.newaxis]
    return (f(node.clipped(z[0])),)


_STEPS: dict[str, Callable[..., tuple[Array, ...]]] = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}


def _product(blocks: Array, x: Array) -> Array:
    """Return x times the transpose of each block, (G, N, H)."""
    return x @ blocks.swapaxes(1, 2)
