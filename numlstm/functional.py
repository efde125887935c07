"""Recurrent layers as plain functions on arrays, for pipelines that bring their own parameters or automatic differentiation.

Strict: float32 or float64, and all arrays alike. Everything is batch-first; gates stand in the order i, f, g, o.
"""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from . import _threads, _validate, cells
from ._validate import Array
from ._workspace import aligned_empty, borrow, give_back
from .cells import Spec
from .jitting import (
    FGRState,
    GRUState,
    LSTMState,
    NormedState,
    Part,
    ProjectedState,
    RNNState,
    SequenceState,
    SLSTMState,
    Step,
    numbers_of_products,
    zero_state,
)

if TYPE_CHECKING:
    from .backend import step

__all__ = [
    "FGRState",
    "GRUState",
    "Gradients",
    "LSTMOutput",
    "LSTMState",
    "LSTMWeights",
    "NormedState",
    "PackedWeights",
    "ProjectedState",
    "RNNGradients",
    "RNNOptions",
    "RNNOutput",
    "RNNState",
    "SLSTMState",
    "SequenceState",
    "Tape",
    "jit",
    "lstm",
    "lstm_backward",
    "pack",
    "rnn",
    "rnn_backward",
    "step",
]

RECOMPUTE = ("gates", "states")
COMPUTE_DTYPES = ("bfloat16",)
_LSTM = cells.CellSpec()


def __getattr__(name: str) -> Any:
    if name == "step":  # from where Numba is: importing this module does not import it
        from .backend import step

        return step
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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

    def __init__(self, spec: Spec, weights: Sequence[Array], packed: Any, compute_dtype: str | None) -> None:
        self._spec, self._packed, self.compute_dtype = spec, packed, compute_dtype
        self.dtype = weights[0].dtype
        self.inputs = weights[0].shape[1]
        self.hidden, self.outputs = _sizes(spec, weights)

    def __reduce__(self) -> NoReturn:
        raise TypeError("packed weights hold this machine's own layout: copy or pickle the weights, then call pack again")

    def __repr__(self) -> str:
        rounded = "" if self.compute_dtype is None else f", compute_dtype={self.compute_dtype!r}"
        return f"PackedWeights(inputs={self.inputs}, hidden={self.hidden}, dtype={self.dtype}{rounded})"


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


class RNNOutput(NamedTuple):
    """Result of `rnn`.

    y : (N, T, H)  output of every step; read-only if there is a tape, which refers to it
    states : tuple of (N, H)  h, and what else the cell has, such as c, after the last step
    tape : what `rnn_backward` needs, or None
    """

    y: Array
    states: tuple[Array, ...]
    tape: Tape | None


class RNNOptions(NamedTuple):
    """What may be done to the states of any cell, for `rnn`.

    cell_clip : c is limited to -cell_clip..cell_clip before h is made of it; of the LSTM family
    zoneout : probabilities in 0..1 with which a unit's h, and its c, stay as they were before a step (Krueger et al. 2017)
    seed : of zoneout's masks, in training; without it the states are mixed by the probabilities, as inference does
    recurrent_mask : (N, H), by which h is multiplied before every product: with zeros in some places and 1 / (1 - rate) in
        the others that is recurrent dropout, with one mask a sequence (Gal and Ghahramani 2016). A tape refers to it: leave
        it unchanged
    """

    cell_clip: float | None = None
    zoneout: tuple[float, float] = (0.0, 0.0)
    seed: int | None = None
    recurrent_mask: Array | None = None


class RNNGradients(NamedTuple):
    """Gradients of one layer, shaped as what they belong to.

    x : (N, T, I); weights : tuple as the weights came; states : tuple of (N, H), of the states before the first step
    """

    x: Array
    weights: tuple[Array, ...]
    states: tuple[Array, ...]


def pack(
    weights: Sequence[Array] | PackedWeights, cell: str | Spec = "lstm", compute_dtype: str | None = None
) -> PackedWeights:
    """Bring weights into the engine's layout once, for many calls of `lstm` or `rnn` with ``tape=False``.

    Parameters
    ----------
    weights : (W_ih (4H, I), W_hh (4H, H), b (4H,)), or those of another cell as `rnn` takes them
        All float32 or all float64, gate blocks in the order i, f, g, o. Packed weights are returned as they are.
    cell : as for `rnn`
    compute_dtype : None or "bfloat16"
        "bfloat16", for float32 and the plain LSTM: W_ih and W_hh are rounded to bfloat16, to nearest, ties to even. An
        element changes by up to 1/256 of itself (by up to 5e-41, if that is more); beyond bfloat16's range it becomes
        infinite, and NaN stays NaN. Nothing else is rounded: b, x, h, c and all sums are float32, so the result is bit for
        bit that of float32 with weights rounded before. A pre-activation moves by up to
        ``(sum |W_ih x| + sum |W_hh h|) / 256``; with weights as PyTorch draws them outputs moved by 0.0005 to 0.004 at most
        (100 to 1000 steps, H = 8 to 512). It halves what is read from memory at each step, by which one sequence of many
        units is limited, and brings nothing for a batch.

    Raises
    ------
    TypeError
        For a dtype other than float32 or float64, or a mixture; for float64 with "bfloat16".
    ValueError
        For shapes that do not fit together, an unknown compute_dtype or one that the cell has not, or weights that are
        packed for another one.
    """
    from . import backend

    if compute_dtype is not None:
        _validate.choice("compute_dtype", compute_dtype, COMPUTE_DTYPES)
    if isinstance(weights, PackedWeights):
        if compute_dtype not in (None, weights.compute_dtype):
            raise ValueError(f"weights are packed in {weights.dtype}: pack them as they were with {compute_dtype=}")
        return weights
    spec = _LSTM if cell == "lstm" else cells.spec(cell)
    arrays = _checked(spec, weights)
    if compute_dtype is not None and spec != _LSTM:
        raise ValueError(f"{compute_dtype=} is for cell='lstm' alone, not for {spec}")
    if compute_dtype is not None and arrays[0].dtype != np.float32:
        raise TypeError(f"{compute_dtype=} goes with float32 weights, not {arrays[0].dtype}")
    hidden, outputs = _sizes(spec, arrays)
    sizes = arrays[0].shape[1], hidden, arrays[0].dtype
    packed = backend.Weights(backend.kind_of(spec.name), *sizes, aligned_empty, outputs)
    packed.load(cells.inside(spec, arrays))
    if compute_dtype is not None:
        packed.round()
    return PackedWeights(spec, arrays, packed, compute_dtype)


def jit(
    weights: Sequence[Array] | PackedWeights, cell: str | Spec = "lstm", compute_dtype: str | None = None
) -> tuple[Step, Any, LSTMState | RNNState | GRUState | ProjectedState | SLSTMState | FGRState | NormedState]:
    """Return ``(step, params, state)`` to run the layer a step at a time inside of ``@njit`` functions.

    ``step(params, state, x, y)`` brings one sequence one step on: x (I,) is read, y (H,) and the states are written, with
    the bits that `lstm` gives. It allocates nothing and needs neither Python nor the GIL. It is the same function each time,
    `numlstm.functional.step`, whose docstring says more.

    Parameters
    ----------
    weights, cell, compute_dtype : as for `pack`

    Returns
    -------
    step : function
    params : namedtuple of arrays
        In the layout of this machine's vectors and this version of numlstm; a copy or a pickled one is as good, here and in
        other processes. To keep them for longer, keep the weights.
    state : LSTMState, or RNNState for a GRU or simple RNN, GRUState for one with reset_after=False, ProjectedState,
        SLSTMState or FGRState
        Zeros: h (H,), and what else the cell has. With layer normalisation a NormedState, which has that as its ``states``.
        One for each sequence: ``state.copy()`` is another.

    Raises
    ------
    TypeError, ValueError
        As `pack`.
    """
    from . import backend

    packed = pack(weights, cell, compute_dtype)
    params = packed._packed.for_steps()
    spec = packed._spec
    sizes, products = spec.state_sizes(packed.hidden, packed.outputs), numbers_of_products(spec, packed.hidden, packed.dtype)
    part = Part(params, packed.outputs, spec.state_names, sizes, backend.work_sizes(params), products)
    return backend.step, params, zero_state(part, packed.dtype)


def _sizes(spec: Spec, weights: Sequence[Array]) -> tuple[int, int]:
    """Return how many hidden units and outputs there are."""
    outputs: int = weights[1].shape[1]
    return (weights[-1].shape[1] if "W_p" in spec.weights else outputs), outputs


def _checked(spec: Spec, weights: object) -> tuple[Array, ...]:
    return _validate.weights(spec.weights, weights, _LSTM_OWNER if spec is _LSTM else " or what functional.pack returns")


_LSTM_OWNER = ", an LSTMWeights or what functional.pack returns"


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
    y, (h, c), kept = _forward(_LSTM, x, weights, (("h0", h0), ("c0", c0)), lengths, tape, recompute)
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
        A projected cell's W_hh is (G H, P), and W_p (P, H) is the last; y and h are (.., P) then. A `numlstm.Cell`: as its
        ``weights`` says, b_h last. With layer normalisation gain_ih and gain_hh follow, one number for each row of W_ih and
        of W_hh.
    states : (h, c), (h,), (h, c, n, m) or (h, c, i, f, o), (N, H) each, optional
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


def _states(
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
    from . import backend

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
        _validate.choice("recompute", recompute, RECOMPUTE)
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
        packed, checked, compute_dtype = None, _checked(spec, weights), None
        features, (hidden, outputs), dtype = checked[0].shape[1], _sizes(spec, checked), checked[0].dtype
    like = "the weights", dtype
    x = _validate.floating("x", x, like)
    if x.ndim != 3 or x.shape[2] != features:
        if x.ndim == 2 and x.shape[1] == features:
            raise ValueError(f"x must have shape (N, T, I={features}), not {x.shape}: for one sequence pass x[np.newaxis]")
        _validate.shape("x", x, {"N": None, "T": None, "I": features}, " to go with the weights")
    batch, steps, _ = x.shape
    of_states = spec.state_sizes(hidden, outputs)
    first, ends = _states(states, batch, of_states, like), _validate.lengths("lengths", lengths, batch, steps)
    sizes = batch, steps, features, hidden
    keep, kind, ragged = bool(tape), backend.kind_of(spec.name), ends is not None
    chosen = None if options is None else _checked_options(spec, options, (batch, outputs), like)
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
        checked = cells.inside(spec, checked)
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


def _checked_options(
    spec: Spec, options: Any, sizes: tuple[int, int], like: tuple[str, np.dtype[Any]]
) -> tuple[float | None, tuple[float, float], int | None, Array] | None:
    """Return what `backend.options_of` takes, None where all options are at rest."""
    if not isinstance(options, RNNOptions):
        raise TypeError(f"options must be an RNNOptions, not {type(options).__name__}")
    mask = np.empty((0, sizes[1]), like[1])
    if options.recurrent_mask is not None:
        mask = _validate.floating("recurrent_mask", options.recurrent_mask, like)
        _validate.shape("recurrent_mask", mask, dict(zip("NH", sizes, strict=True)))
    clip, zoneout = cells.checked_options(spec, options.cell_clip, options.zoneout)
    seed = None if options.seed is None else _validate.whole("seed", options.seed, 0)
    if seed is not None and seed >= 1 << 64:
        raise ValueError(f"seed must be below 2**64, not {seed}")
    if clip is None and not any(zoneout) and not len(mask):
        return None
    return clip, zoneout, seed, mask


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
    dy : (N, T, H) or None
        Gradient of the loss with respect to y; None for zero.
    dstates : tuple of (N, H) or None, optional
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
    return RNNGradients(dx, cells.outside(tape._spec, sums), first)


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
    last = _states(dstates, batch, tape._sizes, ("y", dtype))
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
