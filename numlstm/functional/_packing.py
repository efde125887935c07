"""Weights in the engine's layout: packed for many calls, or the parameters of `step`."""

from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from numlstm import _validate, cells
from numlstm._engine_weights import inside
from numlstm._validate import Array
from numlstm._workspace import aligned_empty
from numlstm.cells import Spec
from numlstm.jitting import Part, State, Step, numbers_of_products, zero_state

COMPUTE_DTYPES = ("bfloat16",)
LSTM = cells.CellSpec()
_LSTM_OWNER = ", an LSTMWeights or what functional.pack returns"


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
        self.hidden, self.outputs = sizes_of(spec, weights)

    def __reduce__(self) -> NoReturn:
        raise TypeError("packed weights hold this machine's own layout: copy or pickle the weights, then call pack again")

    def __repr__(self) -> str:
        rounded = "" if self.compute_dtype is None else f", compute_dtype={self.compute_dtype!r}"
        return f"PackedWeights(inputs={self.inputs}, hidden={self.hidden}, dtype={self.dtype}{rounded})"


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
        "bfloat16", for float32 and the plain LSTM: the weights in W_ih and W_hh of i and g are rounded to bfloat16, to
        nearest, ties to even. Those of f and o take 16 bits too, and are read with the bits of i's and g's behind them,
        which saves the time to mask them: their upper halves are those with which the whole comes nearest. So each
        weight changes by up to 1/256 of itself (by up to 1.1e-19, if that is more); beyond 3.38e38 it becomes infinite
        or bfloat16's largest, and NaN stays NaN. Nothing else is rounded: b, x, h, c and all sums are float32, so the
        result is bit for bit that of float32 with those weights. A pre-activation moves by up to
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
    from numlstm import backend

    if compute_dtype is not None:
        _validate.choice("compute_dtype", compute_dtype, COMPUTE_DTYPES)
    if isinstance(weights, PackedWeights):
        if compute_dtype not in (None, weights.compute_dtype):
            raise ValueError(f"weights are packed in {weights.dtype}: pack them as they were with {compute_dtype=}")
        return weights
    spec = LSTM if cell == "lstm" else cells.spec(cell)
    arrays = checked_weights(spec, weights)
    if compute_dtype is not None and spec != LSTM:
        raise ValueError(f"{compute_dtype=} is for cell='lstm' alone, not for {spec}")
    if compute_dtype is not None and arrays[0].dtype != np.float32:
        raise TypeError(f"{compute_dtype=} goes with float32 weights, not {arrays[0].dtype}")
    hidden, outputs = sizes_of(spec, arrays)
    sizes = arrays[0].shape[1], hidden, arrays[0].dtype
    packed = backend.Weights(backend.kind_of(spec.name), *sizes, aligned_empty, outputs)
    packed.load(inside(spec, arrays))
    if compute_dtype is not None:
        packed.round()
    return PackedWeights(spec, arrays, packed, compute_dtype)


def jit(
    weights: Sequence[Array] | PackedWeights, cell: str | Spec = "lstm", compute_dtype: str | None = None
) -> tuple[Step, Any, State]:
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
    state : LSTMState, or RNNState for a GRU or simple RNN, SLSTMState or FGRState
        Zeros: h (H,), and what else the cell has. With layer normalisation a NormedState, which has that as its ``states``.
        Of cells with two products a step, normalised or not, a state that holds a place for them, too: GRUState with
        reset_after=False or for a projected simple RNN, ProjectedState, ProjectedSLSTMState. One for each sequence:
        ``state.copy()`` is another.

    Raises
    ------
    TypeError, ValueError
        As `pack`.
    """
    from numlstm import backend

    packed = pack(weights, cell, compute_dtype)
    params = packed._packed.for_steps()
    spec = packed._spec
    sizes, products = spec.state_sizes(packed.hidden, packed.outputs), numbers_of_products(spec, packed.hidden, packed.dtype)
    part = Part(params, packed.outputs, spec.state_names, sizes, backend.work_sizes(params), products)
    return backend.step, params, zero_state(part, packed.dtype)


def sizes_of(spec: Spec, weights: Sequence[Array]) -> tuple[int, int]:
    """Return how many hidden units and outputs there are."""
    outputs: int = weights[1].shape[1]
    named = dict(zip(spec.weights, weights, strict=True))
    return (named["W_p"].shape[1] if "W_p" in named else outputs), outputs


def checked_weights(spec: Spec, weights: object) -> tuple[Array, ...]:
    return _validate.weights(spec.weights, weights, _LSTM_OWNER if spec is LSTM else " or what functional.pack returns")
