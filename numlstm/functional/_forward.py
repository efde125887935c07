"""Forward passes, and the tape that they keep for the backward pass."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from numlstm import _threads, _validate, cells
from numlstm._engine_weights import inside
from numlstm._validate import Array
from numlstm._workspace import aligned_empty, borrow, give_back
from numlstm.cells import Spec

from ._options import RNNOptions, checked_options
from ._packing import LSTM, LSTMWeights, PackedWeights, checked_weights, pack, sizes_of

RECOMPUTE = ("gates", "states")


class Tape:
    """What `lstm` or `rnn` kept for one call of `lstm_backward` or `rnn_backward`, which consumes it."""

    def __init__(
        self, content: Any, spec: Spec, shape: tuple[int, ...], dtype: np.dtype[Any], sizes: tuple[int, ...]
    ) -> None:
        self._box = [content]  # emptied by what consumes it, in one step even when threads compete
        self._spec, self._shape, self._dtype = spec, shape, dtype  # of y
        self._sizes = sizes  # of states

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


class RNNOutput(NamedTuple):
    """Result of `rnn`.

    y : (N, T, H)  output of every step; read-only if there is a tape, which refers to it
    states : tuple of (N, H)  h, and what else the cell has, such as c, after the last step
    tape : what `rnn_backward` needs, or None
    """

    y: Array
    states: tuple[Array, ...]
    tape: Tape | None


def lstm(
    x: Array,
    weights: LSTMWeights | tuple[Array, Array, Array] | PackedWeights,
    h0: Array | None = None,
    c0: Array | None = None,
    lengths: npt.ArrayLike | None = None,
    tape: bool = True,
    recompute: str | None = None,
    compute_dtype: str | None = None,
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
    lengths : (N,) of integers, optional
        How many steps each sequence has, from 1 to T; T if left out. What lies in x past a length is not read and may be
        anything; y is 0 there, and the states returned are those after the last step of each. Cost follows the sum of
        lengths: rows are taken in order of length, and each leaves when it ends.
    tape : bool
        Whether to keep what `lstm_backward` needs: about 5 H numbers for each step of each sequence. Without it is faster.
        The tape refers to x, h0, the weights and y without a copy: leave them unchanged until it is consumed; y is
        marked read-only for that.
    recompute : None, "gates" or "states"
        What the tape leaves out, for `lstm_backward` to compute again, with the same bits. "gates": all but the states every
        sqrt(T) steps, at least 16; some 7 sqrt(T) H numbers of each sequence are left. "states": not even y is referred to.
    compute_dtype : None or "bfloat16"
        "bfloat16", with float32 and ``tape=False``: the weights are rounded to bfloat16, as `pack` says, which is where it
        should be done once. Weights packed so need not be announced here.

    Returns
    -------
    LSTMOutput
        y (N, T, H), h (N, H), c (N, H), tape. The same bits at any thread count; a NaN in one sequence leaves the others
        untouched. With T = 0, y is empty and the states are the initial ones.

    Raises
    ------
    TypeError
        For a dtype other than float32 or float64, or a mixture; for lengths that are not integers; for float64 with
        "bfloat16".
    ValueError
        For shapes that do not fit together, a length out of range, or packed weights or a compute_dtype with a tape.
    """
    if compute_dtype is not None:
        if tape:
            raise ValueError(f"{compute_dtype=} is for inference: pass tape=False, or leave it at None")
        weights = pack(weights, "lstm", compute_dtype)
    y, (h, c), kept = _forward(LSTM, x, weights, (("h0", h0), ("c0", c0)), lengths, tape, recompute)
    return LSTMOutput(y, h, c, kept)


def rnn(
    x: Array,
    weights: Sequence[Array] | PackedWeights,
    states: Sequence[Array | None] | None = None,
    *,
    cell: str | Spec,
    lengths: npt.ArrayLike | None = None,
    tape: bool = True,
    recompute: str | None = None,
    options: RNNOptions | None = None,
) -> RNNOutput:
    """Run one recurrent layer of any cell over a batch of sequences.

    Parameters
    ----------
    x : (N, T, I)
        N sequences of T steps of I features, float32 or float64.
    weights : tuple of arrays, or what `pack` returned for this cell
        Of x's dtype, with a block of H rows for each gate that has weights. LSTM family: W_ih (G H, I), W_hh (G H, H),
        b (G H,), gates in the order i, f, g, o; with peepholes p, those of i, f and o; with gate recurrence R (3H, 3H), by
        which i, f and o (rows) see i, f and o of the step before (columns); with two sets of gates blocks as `CellSpec` has
        them. "gru": W_ih (3H, I),
        W_hh (3H, H), b (3H,), b_hn (H,), gates r, z, n. "rnn": W_ih (H, I), W_hh (H, H), b (H,). "slstm": as the LSTM.
        A projected cell's W_hh is (G H, P), and W_p (P, H) stands behind the others; y and h are (.., P) then. A
        `numlstm.Cell`: as its ``weights`` says, b_h last. With layer normalisation gain_ih and gain_hh follow, one number
        for each row of W_ih and of W_hh.
    states : (h, c), (h,), (h, c, n, m) or (h, c, i, f, o), (N, H) each, h of a projected cell (N, P), optional
        Before the first step; zeros if left out, or for None among them.
    cell : str, `numlstm.CellSpec`, `numlstm.GRUSpec`, `numlstm.RNNSpec`, `numlstm.SLSTMSpec` or `numlstm.Cell`
        A name of `numlstm.cells.VARIANTS`, "gru", "rnn" or "slstm", or one that was registered; a cell by its parts; or one
        of the user's own. Each is compiled at its first use.
    lengths, tape, recompute : as for `lstm`
    options : RNNOptions, optional
        Recurrent dropout, zoneout, a bound of c.

    Returns
    -------
    RNNOutput
        y (N, T, H), states, tape.

    Raises
    ------
    TypeError
        For a dtype other than float32 or float64, or a mixture; for lengths that are not integers.
    ValueError
        For an unknown name, shapes that do not fit together, a length out of range, or packed weights with a tape or of
        another cell.
    """
    spec = cells.spec(cell)
    given = (None,) * spec.states if states is None else states
    if not isinstance(given, (tuple, list)) or len(given) != spec.states:
        came = f"{len(given)} items" if isinstance(given, (tuple, list)) else type(given).__name__
        raise TypeError(f"states must be a tuple of {spec.states}, ({', '.join(spec.state_names)}), not {came}")
    named = [(f"states[{i}]", state) for i, state in enumerate(given)]
    return RNNOutput(*_forward(spec, x, weights, named, lengths, tape, recompute, options))


def checked_states(
    named: Sequence[tuple[str, Any]], batch: int, sizes: Sequence[int], like: tuple[str, np.dtype[Any]]
) -> tuple[Array | None, ...] | None:
    """Return states that come with their names, None for what is left out, all or some."""
    for _, state in named:
        if state is not None:
            return tuple(
                [
                    _validate.optional_state(name, state, batch, size, like)
                    for (name, state), size in zip(named, sizes, strict=False)
                ]
            )
    return None


@functools.cache
def _engine() -> Any:
    from numlstm import backend

    return backend


def _forward(
    spec: Spec,
    x: Array,
    weights: Any,
    states: Sequence[tuple[str, Any]],
    lengths: npt.ArrayLike | None,
    tape: bool,
    recompute: str | None,
    options: RNNOptions | None = None,
) -> tuple[Array, tuple[Array, ...], Tape | None]:
    """Return y, the last states and the tape; the states come with their names."""
    backend = _engine()

    if recompute is not None:
        _validate.optional_choice("recompute", recompute, RECOMPUTE)
        if not tape:
            raise ValueError("recompute is for the backward pass: without a tape nothing is kept, leave it at None")
    if isinstance(weights, PackedWeights):
        if tape:
            raise ValueError("weights are packed, which is for inference: pass tape=False, or the weights as they were")
        if weights._spec is not spec and weights._spec != spec:
            raise ValueError(f"weights are packed for {weights._spec}, not for {spec}")
        packed, checked, compute_dtype = weights._packed, None, weights.compute_dtype
        features, hidden, outputs, dtype = weights.inputs, weights.hidden, weights.outputs, weights.dtype
    else:
        packed, checked, compute_dtype = None, checked_weights(spec, weights), None
        features, (hidden, outputs), dtype = checked[0].shape[1], sizes_of(spec, checked), checked[0].dtype
    like = "the weights", dtype
    x = _validate.floating("x", x, like)
    if x.ndim != 3 or x.shape[2] != features:
        if x.ndim == 2 and x.shape[1] == features:
            raise ValueError(f"x must have shape (N, T, I={features}), not {x.shape}: for one sequence pass x[np.newaxis]")
        _validate.shape("x", x, {"N": None, "T": None, "I": features}, " to go with the weights")
    batch, steps, _ = x.shape
    of_states = spec.state_sizes(hidden, outputs)
    first, ends = checked_states(states, batch, of_states, like), _validate.lengths("lengths", lengths, batch, steps)
    sizes = batch, steps, features, hidden
    keep, kind, ragged = bool(tape), backend.kind_of(spec.name), ends is not None
    chosen = None if options is None else checked_options(spec, options, (batch, outputs), like)
    # All on which the memory depends.
    key = (
        spec.name,
        sizes,
        outputs,
        dtype,
        keep,
        recompute,
        compute_dtype,
        ragged,
        chosen is None,
        _threads.get_num_threads(),
    )
    own = spec.name, features, hidden, outputs, dtype
    sweep = borrow(key) or backend.Recurrent(
        kind, sizes, dtype, keep, aligned_empty, recompute, compute_dtype, ragged, chosen is not None, outputs
    )
    if checked is not None:
        checked = inside(spec, checked)
        packed = borrow(own) or backend.Weights(kind, features, hidden, dtype, aligned_empty, outputs)
        packed.load(checked)
    new = np.zeros if ragged else np.empty  # what lies past a length is not written
    y, last = new((batch, steps, outputs), dtype), tuple([np.empty((batch, size), dtype) for size in of_states])
    cell = packed.cell if chosen is None else backend.options_of(packed.cell, *chosen)
    sweep.forward(cell, x, first, y, last, ends)
    if tape and checked is not None:
        inputs = (
            x,
            None if first is None else first[0],
            None if recompute == "states" else y[...],
        )  # a view that keeps its flag: to Numba a type apart
        if recompute != "states":
            y.flags.writeable = False  # the tape refers to it: a change in place would falsify the gradients
        return y, last, Tape((key, own, sweep, packed, inputs, checked), spec, y.shape, dtype, of_states)
    give_back(key, sweep)
    if checked is not None:
        give_back(own, packed)
    return y, last, None
