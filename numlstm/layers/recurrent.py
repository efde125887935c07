"""What all recurrent layers have: weights by gates, states, and the options of their passes."""

import copy
import itertools
from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from numlstm import _engine_weights, _random, _validate, cells, initializers
from numlstm._validate import Array
from numlstm.cells import GAINS
from numlstm.functional import RECOMPUTE
from numlstm.initializers import Initializer

from .base import Layer, Setting, Shape, sizes_text

if TYPE_CHECKING:
    from numlstm.passes import RecurrentRun


class Recurrent(Layer):
    """Base of the layers that go through sequences (N, T, F); see `numlstm.LSTM` for what they share."""

    traits = attrgetter(
        "units", "outputs", "spec", "use_bias", "return_sequences", "return_state", "go_backwards", "cell_clip", "zoneout"
    )
    _TRANSPOSED = frozenset({"W_ih", "W_hh", "R", "W_p"})

    def __init__(
        self,
        units: int,
        spec: cells.Spec,
        *,
        use_bias: bool,
        kernel_initializer: str | Initializer,
        recurrent_initializer: str | Initializer,
        bias_initializer: str | Initializer,
        dropout: float,
        recurrent_dropout: float,
        zoneout: float | tuple[float, float],
        seed: int | None,
        return_sequences: bool,
        return_state: bool,
        go_backwards: bool,
        stateful: bool,
        recompute: str | None,
        name: str | None,
        input_shape: Sequence[int | None] | None,
        cell_clip: float | None = None,
        projection: int | None = None,
    ) -> None:
        super().__init__(name, input_shape, seed)
        self.units, self.spec = _validate.whole("units", units), spec
        self.projection, self.outputs = projection, self.units if projection is None else projection
        if projection is not None and _validate.whole("projection", projection) >= self.units:
            raise ValueError(f"projection must be less than units, {self.units}, not {projection}")
        if ("W_p" in spec.weights) != (projection is not None):
            wanted = (
                "needs to know its outputs: give projection=" if projection is None else "has no projection: projected=True"
            )
            raise ValueError(f"the cell {spec} {wanted}")
        self.use_bias = _validate.flag("use_bias", use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer, "kernel_initializer")
        self.recurrent_initializer = initializers.get(recurrent_initializer, "recurrent_initializer")
        self.bias_initializer = initializers.get(bias_initializer, "bias_initializer")
        self.dropout = _validate.real("dropout", dropout, least=0, below=1)
        self.recurrent_dropout = _validate.real("recurrent_dropout", recurrent_dropout, least=0, below=1)
        self.cell_clip, self.zoneouts = cells.checked_options(spec, cell_clip, zoneout)
        self.zoneout = tuple(zoneout) if isinstance(zoneout, list) else zoneout
        self.random = self.dropout > 0 or self.recurrent_dropout > 0 or any(self.zoneouts)
        self.return_sequences, self.return_state = (
            _validate.flag("return_sequences", return_sequences),
            _validate.flag("return_state", return_state),
        )
        self.go_backwards, self.stateful = _validate.flag("go_backwards", go_backwards), _validate.flag("stateful", stateful)
        self.recompute = _validate.optional_choice("recompute", recompute, RECOMPUTE)

    @property
    def params(self) -> tuple[Array, ...]:
        """The weights as `numlstm.functional` takes them: views, not copies."""
        if not self.built:
            raise ValueError("the layer has no weights yet: give it an input_shape, or show it data, first")
        arrays = _engine_weights.outside(self.spec, self.weights_inside(np.zeros, gains=False))
        found = dict(zip(self.spec.weights, arrays, strict=True))
        return tuple({**found, **{name: self.parameters[name] for name in GAINS if name in found}}.values())

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """The last axis of each state."""
        return self.spec.state_sizes(self.units, self.outputs)

    def weights_inside(
        self,
        zeros: Any,
        wide: Array | None = None,
        widen: Any = _engine_weights.widen,
        gains: bool = True,
        vector: Array | None = None,
        copy: Any = np.copyto,
    ) -> tuple[Array, ...]:
        """Return the weights as the engine takes them; `zeros` makes those that the layer does without.

        wide : memory for the engine's recurrent matrix, of a cell that needs one, which `widen` fills
        gains : whether a copy of the biases has the gains behind it, where products are normalised
        vector : memory for that copy (vector_size,), which ``copy(to, source)`` fills
        """
        W_ih, W_hh = self.parameters["W_ih"], self.parameters["W_hh"]
        b = self.parameters["b"] if self.use_bias else zeros(self.bias_size, W_ih.dtype)
        p, R = self.parameters.get("p"), self.parameters.get("R")
        if R is not None:
            wide = np.empty(_engine_weights.wide_shape(W_hh.shape), W_hh.dtype) if wide is None else wide
            widen(W_hh, R, wide)
            W_hh = wide
        if self.spec.layer_norm and gains:
            vector = np.empty(self.vector_size, W_ih.dtype) if vector is None else vector
            for name, part in self.vectors(vector).items():
                copy(part, self.parameters.get(name, b))
            b = vector
        arrays = W_ih, W_hh, b, zeros(0, W_ih.dtype) if p is None else p
        return (*arrays, self.parameters["W_p"]) if "W_p" in self.parameters else arrays

    def vectors(self, b: Array) -> dict[str, Array]:
        """Return views of the biases and gains in the engine's one array, or of their gradients, by names of parameters."""
        ends = list(itertools.accumulate(self._vector_sizes))
        return dict(zip(("b", *GAINS), (b[start:end] for start, end in zip([0, *ends], ends, strict=False)), strict=True))

    @property
    def _vector_sizes(self) -> list[int]:
        return [self.bias_size, *(self.spec.weights[name][0] * self.units for name in GAINS)]

    @property
    def vector_size(self) -> int:
        """How many numbers biases and gains have together."""
        return sum(self._vector_sizes)

    @property
    def bias_size(self) -> int:
        """How many numbers all biases have together."""
        return self.units * sum(count for name, (count, _) in self.spec.weights.items() if name.startswith("b"))

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 2 or input_shape[1] is None:
            hint = ""
            if len(input_shape) == 1:
                hint = (
                    ": the layer before it needs return_sequences=True; for a first layer x[..., np.newaxis] has one feature"
                )
            article = "an" if type(self).__name__[0] in "LRS" and type(self).__name__ != "SimpleRNN" else "a"
            kind = f"{article} {type(self).__name__}"
            raise ValueError(f"{kind} takes sequences (N, T, F) with F known, not {sizes_text(input_shape)}{hint}")
        return (input_shape[0], self.outputs) if self.return_sequences else (self.outputs,)

    def parameter_shapes(self, input_shape: Shape) -> dict[str, tuple[int, ...]]:
        blocks = self.spec.weights
        x_rows, h_rows = (blocks[name][0] * self.units for name in ("W_ih", "W_hh"))
        shapes: dict[str, tuple[int, ...]] = {"W_ih": (x_rows, input_shape[1] or 0), "W_hh": (h_rows, self.outputs)}
        if self.use_bias:
            shapes["b"] = (self.bias_size,)
        for name in ("p", *GAINS):
            if name in blocks:
                shapes[name] = (blocks[name][0] * self.units,)
        if "R" in blocks:
            shapes["R"] = (blocks["R"][0] * self.units, blocks["R"][0] * self.units)
        if "W_p" in blocks:
            shapes["W_p"] = (self.outputs, self.units)
        return shapes

    def _initializers(self) -> dict[str, Initializer]:
        weights = {"W_ih": self.kernel_initializer, **dict.fromkeys(("W_hh", "R"), self.recurrent_initializer)}
        weights.update(b=self.bias_initializer, p=initializers.get("zeros"), W_p=self.kernel_initializer)
        return {**weights, **dict.fromkeys(GAINS, initializers.get("ones"))}

    def begin(self, setting: Setting) -> "RecurrentRun":
        from numlstm.passes import RecurrentRun

        return RecurrentRun(self, setting)

    def plain(self) -> "Recurrent":
        layer = copy.copy(self)
        layer.dropout, layer.recurrent_dropout, layer.random = 0.0, 0.0, False
        layer.stateful, layer.recompute = False, None
        return layer

    def new_states(self, batch: int, dtype: np.dtype[Any], zeros: Any) -> tuple[Array, ...]:
        """Return states of zeros, (N, H) each."""
        return tuple(zeros((batch, size), dtype) for size in self.state_sizes)

    def states_for(self, batch: int, dtype: np.dtype[Any], zeros: Any) -> tuple[Array, ...]:
        """Return the states of a stateful layer, (N, H) each, which passes change in place; `zeros` makes the first."""
        if self.states is None:
            self.states = self.new_states(batch, dtype, zeros)
        was = len(self.states[0])
        if was != batch:
            kind = type(self).__name__
            raise ValueError(
                f"a stateful {kind} carries the states of {was} sequences, but a batch has {batch}: choose a batch_size "
                f"that divides the number of sequences, or begin anew with reset_states"
            )
        return self.states

    def __call__(self, x: Any, *, training: bool = False, initial_state: Any = None, lengths: Any = None) -> Any:
        """Return y for an array x (N, T, F), with return_state as a list of y and the last states.

        initial_state : the states, (N, H) each, (h, c) for an LSTM; zeros, or a stateful layer's own, if left out
        lengths : (N,) integers from 1 to T, how many steps each sequence has; y is 0 past them, the last states are those
            after them, and go_backwards begins at each one's end
        """
        from numlstm.passes import RecurrentRun

        run, array, ends = self._begin_once(x, training, lengths)
        assert isinstance(run, RecurrentRun)
        if initial_state is not None:
            run.states = self._checked_states(initial_state, array)
            self.states = run.states if self.stateful else None
        y = run.forward(array, _random.new_seed() if training else 0, ends)
        return [y, *(state.copy() for state in run.last_states())] if self.return_state else y

    def _checked_states(self, states: Any, x: Array) -> tuple[Array, ...]:
        count = self.spec.states
        if count == 1 and isinstance(states, np.ndarray):
            states = (states,)
        if not isinstance(states, (tuple, list)) or len(states) != count:
            names = self.spec.state_names
            wanted = "an array h" if count == 1 else f"a {'pair' if count == 2 else 'tuple'} ({', '.join(names)}) of arrays"
            raise TypeError(f"initial_state must be {wanted} (N, H)")
        arrays = tuple(_validate.numeric(f"initial_state[{i}]", state, x.dtype).copy() for i, state in enumerate(states))
        for i, (state, size) in enumerate(zip(arrays, self.state_sizes, strict=True)):
            _validate.shape(f"initial_state[{i}]", state, {"N": x.shape[0], "H": size})
        return arrays
