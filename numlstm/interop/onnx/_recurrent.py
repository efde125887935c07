"""ONNX' LSTM, GRU and RNN operators, by numlstm's cells where there is one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from numlstm import _validate, cells, functional
from numlstm._validate import Array

from . import _activations, _plain
from ._activations import Activation

KINDS = ("LSTM", "GRU", "RNN")
_DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_REVERSE = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
# Which of ONNX' blocks (LSTM i o f c, GRU z r h) are numlstm's, in its order; and those of the peepholes (i o f).
_ORDERS = {"LSTM": [0, 2, 3, 1], "coupled": [0, 3, 1], "GRU": [1, 0, 2], "RNN": [0]}
_PEEPHOLES = {"LSTM": [0, 2, 1], "coupled": [0, 1]}


class Blocks(NamedTuple):
    """Weights of one direction: W (G, H, I), R (G, H, H), their biases (G, H), peepholes P (3, H)."""

    W: Array
    R: Array
    W_b: Array
    R_b: Array
    P: Array


@dataclass
class Weights:
    """Weights of one direction in both layouts.

    spec : numlstm's cell, or None where it has none; packed : the weights for it
    """

    blocks: Blocks
    spec: cells.Spec | None
    packed: functional.PackedWeights | None


@dataclass
class Recurrent:
    """What the attributes of a node say.

    reverse : for each direction, whether it goes backwards; activations : of each direction
    """

    kind: str
    hidden: int
    reverse: tuple[bool, ...]
    activations: list[list[Activation]]
    clip: float | None
    input_forget: bool
    linear_before_reset: bool
    batch_first: bool

    @property
    def states(self) -> int:
        """How many states there are."""
        return 1 + (self.kind == "LSTM")

    def clipped(self, z: Array) -> Array:
        """Return what an activation takes."""
        return z if self.clip is None else np.clip(z, -self.clip, self.clip)

    def spec(self, way: int, peepholes: bool) -> cells.Spec | None:
        """Return numlstm's cell for one direction, or None if it has none."""
        names: list[Any] = [activation.in_numlstm for activation in self.activations[way]]
        if self.clip is not None or None in names:
            return None
        try:
            if self.kind == "LSTM":
                forget = "coupled" if self.input_forget else "learned"
                gates, inputs, outputs = names
                return cells.CellSpec(
                    forget_gate=forget,
                    recurrent_activation=gates,
                    input_activation=inputs,
                    output_activation=outputs,
                    peepholes=peepholes,
                )
            if self.kind == "GRU":
                return cells.GRUSpec(names[1], names[0], self.linear_before_reset)
            return cells.RNNSpec(names[0])
        except ValueError:  # an activation that its gates do not have
            return None

    def blocks(self, W: Array, R: Array, B: Array | None, P: Array | None) -> list[Blocks]:
        """Return the weights of each direction, from W (D, G H, I), R (D, G H, H), B (D, 2 G H) and P (D, 3 H)."""
        dtype = W.dtype if W.dtype in _validate.FLOATS else np.dtype(np.float32)
        ways, hidden = len(self.reverse), self.hidden
        count = W.shape[1] // hidden
        B = np.zeros((ways, 2 * count * hidden)) if B is None else B
        P = np.zeros((ways, 3 * hidden)) if P is None else P
        made = []
        for way in range(ways):
            matrices = W[way].reshape(count, hidden, -1), R[way].reshape(count, hidden, hidden)
            vectors = *B[way].reshape(2, count, hidden), P[way].reshape(3, hidden)
            made.append(Blocks(*(part.astype(dtype) for part in (*matrices, *vectors))))
        return made

    def weights(self, W: Array, R: Array, B: Array | None, P: Array | None) -> list[Weights]:
        """Return the weights of each direction, ready to run."""
        made = []
        for way, blocks in enumerate(self.blocks(W, R, B, P)):
            spec = self.spec(way, bool(blocks.P.any()))
            packed = None if spec is None else functional.pack(in_numlstm(spec, blocks), spec)
            made.append(Weights(blocks, spec, packed))
        return made

    def run(
        self,
        x: Array,
        weights: Sequence[Weights],
        lengths: Array | None = None,
        first: Sequence[Array | None] = (None, None),
    ) -> tuple[Array, ...]:
        """Return Y (T, D, N, H), Y_h and, of an LSTM, Y_c (D, N, H), for X (T, N, I) and first states (D, N, H); with
        layout 1 N comes first.
        """
        dtype = weights[0].blocks.W.dtype
        inputs = np.asarray(x if self.batch_first else x.swapaxes(0, 1), dtype, order="C")
        batch, steps, _ = inputs.shape
        lengths = np.full(batch, steps) if lengths is None else lengths
        ys, last = [], []
        for way, own in enumerate(weights):
            start = [self._first(state, way, (batch, self.hidden), dtype) for state in first[: self.states]]
            order = _backwards(lengths, steps) if self.reverse[way] else None
            y, states = self._run_way(way, _reordered(inputs, order), own, start, lengths)
            ys.append(_reordered(y, order))
            last.append(states)
        axis = 1 if self.batch_first else 0
        outputs = [np.stack(ys, axis=2) if self.batch_first else np.stack(ys, axis=1).transpose(2, 1, 0, 3)]
        outputs += [np.stack(states, axis=axis) for states in zip(*last, strict=True)]
        return tuple(output.astype(x.dtype) for output in outputs)

    def _first(self, state: Array | None, way: int, shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
        if state is None:
            return np.zeros(shape, dtype)
        return np.asarray(state[:, way] if self.batch_first else state[way], dtype, order="C")

    def _run_way(
        self, way: int, x: Array, weights: Weights, states: list[Array], lengths: Array
    ) -> tuple[Array, Sequence[Array]]:
        """Return y (N, T, H) and the last states of one direction, for x in the order in which it is read."""
        if weights.spec is None or weights.packed is None:
            return _plain.run(self, way, x, weights.blocks, states, lengths)
        rows = lengths > 0
        if rows.all():
            own = None if (lengths == x.shape[1]).all() else lengths
            out = functional.rnn(x, weights.packed, states, cell=weights.spec, lengths=own, tape=False)
            return out.y, out.states
        y, last = np.zeros((*x.shape[:2], self.hidden), x.dtype), [state.copy() for state in states]
        if rows.any():  # numlstm has no sequences without steps
            some, ends = self._run_way(way, x[rows], weights, [state[rows] for state in states], lengths[rows])
            y[rows] = some
            for state, end in zip(last, ends, strict=True):
                state[rows] = end
        return y, last


def in_numlstm(spec: cells.Spec, blocks: Blocks) -> tuple[Array, ...]:
    """Return the weights of a cell as `functional.rnn` takes them."""
    kind = "coupled" if isinstance(spec, cells.CellSpec) and spec.forget_gate == "coupled" else spec.kind
    order = _ORDERS[kind]
    W, R, W_b, R_b = (part[order] for part in blocks[:4])
    both = W_b + R_b
    if "b_hn" in spec.weights:
        both[2] = W_b[2]
    arrays = W.reshape(-1, W.shape[2]), R.reshape(-1, R.shape[2]), both.reshape(-1)
    if "b_hn" in spec.weights:
        return *arrays, R_b[2]
    return (*arrays, blocks.P[_PEEPHOLES[kind]].reshape(-1)) if "p" in spec.weights else arrays


def read(kind: str, attributes: dict[str, Any]) -> Recurrent:
    """Return what the attributes of a node say.

    Raises
    ------
    ValueError
        For a direction or an activation that ONNX does not have, or no hidden_size.
    """
    direction = attributes.get("direction", "forward")
    if direction not in _REVERSE or "hidden_size" not in attributes:
        raise ValueError(f"direction {direction}" if direction not in _REVERSE else "no hidden_size")
    reverse, each = _REVERSE[direction], len(_DEFAULTS[kind])
    names = attributes.get("activations") or _DEFAULTS[kind] * len(reverse)
    if len(names) != each * len(reverse):
        raise ValueError(f"{len(names)} activations instead of {each * len(reverse)}")
    alphas, betas = (attributes.get(f"activation_{name}", []) for name in ("alpha", "beta"))
    activations = _activations.read(names, alphas, betas)
    return Recurrent(
        kind,
        attributes["hidden_size"],
        reverse,
        [activations[way * each : (way + 1) * each] for way in range(len(reverse))],
        attributes.get("clip"),
        bool(attributes.get("input_forget", 0)),
        bool(attributes.get("linear_before_reset", 0)),
        bool(attributes.get("layout", 0)),
    )


def _backwards(lengths: Array, steps: int) -> Array:
    """Return (N, T), which step is read at each time; those past a sequence's length stay where they are."""
    step = np.arange(steps)
    return np.where(step < lengths[:, np.newaxis], lengths[:, np.newaxis] - 1 - step, step)


def _reordered(x: Array, order: Array | None) -> Array:
    return x if order is None else np.take_along_axis(x, order[:, :, np.newaxis], axis=1)
