"""Backward passes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from numlstm import _validate
from numlstm._engine_weights import outside
from numlstm._validate import Array
from numlstm._workspace import give_back

from ._forward import Tape, checked_states


class Gradients(NamedTuple):
    """Gradients of one layer, shaped as what they belong to.

    x : (N, T, I); W_ih : (4H, I); W_hh : (4H, H); b : (4H,); h0, c0 : (N, H)
    """

    x: Array
    W_ih: Array
    W_hh: Array
    b: Array
    h0: Array
    c0: Array


class RNNGradients(NamedTuple):
    """Gradients of one layer, shaped as what they belong to.

    x : (N, T, I); weights : tuple as the weights came; states : tuple of (N, H), of the states before the first step
    """

    x: Array
    weights: tuple[Array, ...]
    states: tuple[Array, ...]


def lstm_backward(tape: Tape | None, dy: Array | None, dh: Array | None = None, dc: Array | None = None) -> Gradients:
    """Return the gradients of one call of `lstm`, by backpropagation through time (Werbos 1990).

    Parameters
    ----------
    tape : Tape
        From ``lstm(..., tape=True)``; it is consumed.
    dy : (N, T, H) or None
        Gradient of the loss with respect to y; None for zero. Past a sequence's length it is not read.
    dh, dc : (N, H), optional
        Gradients with respect to the states after the last step, beyond what reaches h through y.

    Returns
    -------
    Gradients
        Named x (N, T, I), 0 past the lengths, W_ih (4H, I), W_hh (4H, H), b (4H,), h0 (N, H), c0 (N, H).

    Raises
    ------
    TypeError
        If tape is not a tape, or for a dtype other than the tape's.
    ValueError
        If the tape is consumed already, or for shapes other than y's and h's.
    """
    dx, (dW_ih, dW_hh, db, _), (dh0, dc0) = _backward("lstm", tape, dy, (("dh", dh), ("dc", dc)))
    return Gradients(dx, dW_ih, dW_hh, db, dh0, dc0)


def rnn_backward(tape: Tape | None, dy: Array | None, dstates: Sequence[Array | None] | None = None) -> RNNGradients:
    """Return the gradients of one call of `rnn`, by backpropagation through time.

    Parameters
    ----------
    tape : Tape
        From ``rnn(..., tape=True)``; it is consumed.
    dy : (N, T, H) or None; of a projected cell (N, T, P)
        Gradient of the loss with respect to y; None for zero.
    dstates : tuple of (N, H) or None, optional; of a projected cell the first is (N, P)
        Gradients with respect to the states after the last step, beyond what reaches h through y.

    Returns
    -------
    RNNGradients
        x (N, T, I), weights and states, as they came.

    Raises
    ------
    TypeError
        If tape is not a tape, or for a dtype other than the tape's.
    ValueError
        If the tape is consumed already, or for shapes other than y's and the states'.
    """
    count = tape._spec.states if isinstance(tape, Tape) else 0
    given = (None,) * count if dstates is None else dstates
    if not isinstance(given, (tuple, list)) or (count and len(given) != count):
        raise TypeError(f"dstates must be a tuple of {count}, like the states")
    named = [(f"dstates[{i}]", state) for i, state in enumerate(given)]
    dx, sums, first = _backward("rnn", tape, dy, named)
    assert tape is not None
    return RNNGradients(dx, outside(tape._spec, sums), first)


def _backward(
    function: str, tape: Tape | None, dy: Array | None, dstates: Sequence[tuple[str, Any]]
) -> tuple[Array, tuple[Array, Array, Array, Array], tuple[Array, ...]]:
    """Return the gradients of x, of the weights as the engine takes them, and of the first states."""
    if not isinstance(tape, Tape):
        raise TypeError(f"tape must be the tape of functional.{function}(..., tape=True), not {type(tape).__name__}")
    (batch, steps, outputs), dtype = tape._shape, tape._dtype
    if dy is not None:
        dy = _validate.floating("dy", dy, ("y", dtype))
        _validate.shape("dy", dy, {"N": batch, "T": steps, "H": outputs}, ", that of y")
    last = checked_states(dstates, batch, tape._sizes, ("y", dtype))
    if len(dstates) != tape._spec.states:
        raise TypeError(f"tape is of {tape._spec}: pass it to rnn_backward")
    try:
        key, own, sweep, packed, inputs, weights = tape._box.pop()
    except IndexError:
        raise ValueError(
            f"tape is consumed: one call of {function} serves one backward pass; run {function} again"
        ) from None
    new = np.zeros if sweep.ragged else np.empty
    dx, first = new(inputs[0].shape, dtype), tuple([np.empty((batch, size), dtype) for size in tape._sizes])
    sums = tuple([np.empty_like(array) for array in weights])
    packed.prepare_backward(sweep.summing, inputs_gradient=True)
    sweep.backward(packed, weights, inputs, (dy, last), dx, first, sums, False)
    give_back(key, sweep)
    give_back(own, packed)
    return dx, sums, first
