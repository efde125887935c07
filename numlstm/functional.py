"""The LSTM as plain functions on arrays, for pipelines that bring their own parameters or automatic differentiation.

Strict: float32 or float64, and all arrays alike. Everything is batch-first; gates stand in the order i, f, g, o.
"""

from typing import Any, NamedTuple, NoReturn

import numpy as np

from . import _threads, _validate
from ._validate import Array
from ._workspace import aligned_empty, borrow, give_back

__all__ = ["Gradients", "LSTMOutput", "LSTMWeights", "PackedWeights", "Tape", "lstm", "lstm_backward", "pack"]


RECOMPUTE = ("gates", "states")


class LSTMWeights(NamedTuple):
    """Weights of one LSTM layer with I input features and H hidden units, gate blocks in the order i, f, g, o.

    W_ih : (4H, I)
    W_hh : (4H, H)
    b : (4H,)  one bias: the sum of PyTorch's two
    """

    W_ih: Array
    W_hh: Array
    b: Array


class PackedWeights:
    """A copy of weights in the engine's own layout, from `pack`; later changes to the weights do not reach it."""

    def __init__(self, weights: LSTMWeights, packed: Any) -> None:
        self._packed = packed
        self.dtype = weights.W_ih.dtype
        self.inputs = weights.W_ih.shape[1]
        self.hidden = weights.W_hh.shape[1]

    def __reduce__(self) -> NoReturn:
        raise TypeError("packed weights hold this machine's own layout: copy or pickle the weights, then call pack again")

    def __repr__(self) -> str:
        return f"PackedWeights(inputs={self.inputs}, hidden={self.hidden}, dtype={self.dtype})"


class Tape:
    """What `lstm` kept for one call of `lstm_backward`, which consumes it."""

    def __init__(self, content: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._box = [content]  # emptied by what consumes it, in one step even when threads compete
        self._shape, self._dtype = shape, dtype  # of y

    def __reduce__(self) -> NoReturn:
        raise TypeError("a tape serves one backward pass in its process: it cannot be copied or pickled")

    def __repr__(self) -> str:
        return f"Tape(shape={self._shape}, {'ready' if self._box else 'consumed'})"


class LSTMOutput(NamedTuple):
    """Result of `lstm`.

    y : (N, T, H)  output of every step; read-only if there is a tape, which refers to it
    h, c : (N, H)  states after the last step
    tape : what `lstm_backward` needs, or None
    """

    y: Array
    h: Array
    c: Array
    tape: Tape | None


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


def pack(weights: LSTMWeights | tuple[Array, Array, Array] | PackedWeights) -> PackedWeights:
    """Bring weights into the engine's layout once, for many calls of ``lstm(..., tape=False)``.

    Parameters
    ----------
    weights : (W_ih (4H, I), W_hh (4H, H), b (4H,))
        All float32 or all float64, gate blocks in the order i, f, g, o. Packed weights are returned as they are.

    Raises
    ------
    TypeError
        For a dtype other than float32 or float64, or a mixture.
    ValueError
        For shapes that do not fit together.
    """
    from . import backend

    if isinstance(weights, PackedWeights):
        return weights
    checked = LSTMWeights(*_validate.lstm_weights(weights))
    packed = backend.Weights(checked.W_ih.shape[1], checked.W_hh.shape[1], checked.b.dtype, aligned_empty)
    packed.load(*checked)
    return PackedWeights(checked, packed)


def lstm(
    x: Array,
    weights: LSTMWeights | tuple[Array, Array, Array] | PackedWeights,
    h0: Array | None = None,
    c0: Array | None = None,
    lengths: None = None,
    tape: bool = True,
    recompute: str | None = None,
    compute_dtype: None = None,
) -> LSTMOutput:
    """Run one LSTM layer over a batch of sequences.

    For each step, with ``z = W_ih x + W_hh h + b`` cut into i, f, g, o:
    ``c = sigmoid(f) c + sigmoid(i) tanh(g)`` and ``h = sigmoid(o) tanh(c)``
    (Gers, Schmidhuber and Cummins 2000, "Learning to Forget"; Greff et al. 2017, "LSTM: A Search Space Odyssey", without
    peepholes).

    Parameters
    ----------
    x : (N, T, I)
        N sequences of T steps of I features, float32 or float64.
    weights : (W_ih (4H, I), W_hh (4H, H), b (4H,)), LSTMWeights, or what `pack` returned
        Of x's dtype. Packed weights are for inference: they go with ``tape=False``.
    h0, c0 : (N, H), optional
        States before the first step; zeros if left out.
    tape : bool
        Whether to keep what `lstm_backward` needs: about 5 H numbers for each step of each sequence. Without it is faster.
        The tape refers to x, h0, the weights and y without a copy: leave them unchanged until it is consumed; y is
        marked read-only for that.
    recompute : None, "gates" or "states"
        What the tape leaves out, for `lstm_backward` to compute again, with the same bits. "gates": all but the states every
        sqrt(T) steps, at least 16; some 7 sqrt(T) H numbers of each sequence are left. "states": not even y is referred to.
    lengths, compute_dtype : None
        Not available in this version; anything else raises NotImplementedError.

    Returns
    -------
    LSTMOutput
        y (N, T, H), h (N, H), c (N, H), tape. The same bits at any thread count; a NaN in one sequence leaves the others
        untouched. With T = 0, y is empty and the states are the initial ones.

    Raises
    ------
    TypeError
        For a dtype other than float32 or float64, or a mixture.
    ValueError
        For shapes that do not fit together, or packed weights with a tape.
    """
    from . import backend

    if lengths is not None or compute_dtype is not None:
        _validate.not_yet(lengths=lengths, compute_dtype=compute_dtype)
    if recompute is not None:
        _validate.choice("recompute", recompute, RECOMPUTE)
        if not tape:
            raise ValueError("recompute is for the backward pass: without a tape nothing is kept, leave it at None")
    if isinstance(weights, PackedWeights):
        if tape:
            raise ValueError("weights are packed, which is for inference: pass tape=False, or the weights as they were")
        packed, checked = weights._packed, None
        features, hidden, dtype = weights.inputs, weights.hidden, weights.dtype
    else:
        packed, checked = None, _validate.lstm_weights(weights)
        features, hidden, dtype = checked[0].shape[1], checked[1].shape[1], checked[0].dtype
    like = "the weights", dtype
    x = _validate.floating("x", x, like)
    if x.ndim != 3 or x.shape[2] != features:
        if x.ndim == 2 and x.shape[1] == features:
            raise ValueError(f"x must have shape (N, T, I={features}), not {x.shape}: for one sequence pass x[np.newaxis]")
        _validate.shape("x", x, {"N": None, "T": None, "I": features}, " to go with the weights")
    batch, steps, _ = x.shape
    h0 = _validate.optional_state("h0", h0, batch, hidden, like)
    c0 = _validate.optional_state("c0", c0, batch, hidden, like)
    sizes = batch, steps, features, hidden
    keep = bool(tape)
    key = sizes, dtype, keep, recompute, _threads.get_num_threads()  # on which the memory depends
    sweep = borrow(key) or backend.Recurrent(sizes, dtype, keep, aligned_empty, recompute)
    if checked is not None:
        packed = borrow((features, hidden, dtype)) or backend.Weights(features, hidden, dtype, aligned_empty)
        packed.load(*checked)
    cell = packed.cell
    y, h, c = np.empty((batch, steps, hidden), dtype), np.empty((batch, hidden), dtype), np.empty((batch, hidden), dtype)
    sweep.forward(cell, x, (h0, c0), y, (h, c))
    if tape and checked is not None:
        inputs = x, h0, None if recompute == "states" else y[...]  # a view that keeps its flag: to Numba a type of its own
        if recompute != "states":
            y.flags.writeable = False  # the tape refers to it: a change in place would falsify the gradients
        return LSTMOutput(y, h, c, Tape((key, sweep, packed, inputs, checked), y.shape, dtype))
    give_back(key, sweep)
    if checked is not None:
        give_back((features, hidden, dtype), packed)
    return LSTMOutput(y, h, c, None)


def lstm_backward(tape: Tape | None, dy: Array | None, dh: Array | None = None, dc: Array | None = None) -> Gradients:
    """Return the gradients of one call of `lstm`, by backpropagation through time (Werbos 1990).

    Parameters
    ----------
    tape : Tape
        From ``lstm(..., tape=True)``; it is consumed.
    dy : (N, T, H) or None
        Gradient of the loss with respect to y; None for zero.
    dh, dc : (N, H), optional
        Gradients with respect to the states after the last step, beyond what reaches h through y.

    Returns
    -------
    Gradients
        Named x (N, T, I), W_ih (4H, I), W_hh (4H, H), b (4H,), h0 (N, H), c0 (N, H).

    Raises
    ------
    TypeError
        If tape is not a tape, or for a dtype other than the tape's.
    ValueError
        If the tape is consumed already, or for shapes other than y's and h's.
    """
    if not isinstance(tape, Tape):
        raise TypeError(f"tape must be the tape of functional.lstm(..., tape=True), not {type(tape).__name__}")
    (batch, steps, hidden), dtype = tape._shape, tape._dtype
    if dy is not None:
        dy = _validate.floating("dy", dy, ("y", dtype))
        _validate.shape("dy", dy, {"N": batch, "T": steps, "H": hidden}, ", that of y")
    dh = _validate.optional_state("dh", dh, batch, hidden, ("y", dtype))
    dc = _validate.optional_state("dc", dc, batch, hidden, ("y", dtype))
    try:
        content = tape._box.pop()
    except IndexError:
        raise ValueError("tape is consumed: one call of lstm serves one lstm_backward; run lstm again") from None
    key, sweep, packed, inputs, weights = content
    dx, dh0, dc0 = np.empty_like(inputs[0]), np.empty((batch, hidden), dtype), np.empty((batch, hidden), dtype)
    sums = dW_ih, dW_hh, db = tuple(np.empty_like(array) for array in weights)
    packed.prepare_backward(sweep.summing, inputs_gradient=True)
    sweep.backward(packed, weights[:2], inputs, (dy, dh, dc), dx, (dh0, dc0), sums, False)
    give_back(key, sweep)
    give_back((inputs[0].shape[2], hidden, dtype), packed)
    return Gradients(dx, dW_ih, dW_hh, db, dh0, dc0)
