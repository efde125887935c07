"""The LSTM layer."""

from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from numlstm import _random, _validate, initializers
from numlstm._validate import Array
from numlstm._workspace import Take
from numlstm.functional import RECOMPUTE, LSTMWeights
from numlstm.initializers import Initializer

from .base import Layer, Shape, sizes_text

if TYPE_CHECKING:
    from numlstm.passes import LSTMRun


class LSTM(Layer):
    """A layer of long short-term memory units over sequences (N, T, F).

    Hochreiter and Schmidhuber 1997, with the forget gate of Gers, Schmidhuber and Cummins 2000; the equations stand at
    `numlstm.functional.lstm`.

    Parameters
    ----------
    units : int
        Number of hidden units H.
    activation, recurrent_activation : "tanh", "sigmoid"
        Of the cell's input and output, and of the gates; this version has no others.
    use_bias : bool
        Whether there is a bias.
    kernel_initializer, recurrent_initializer, bias_initializer
        Names or `numlstm.initializers`, of the input weights, the recurrent weights and the bias.
    unit_forget_bias : bool
        Whether the forget gate's bias begins at 1 (Jozefowicz, Zaremba and Sutskever 2015).
    dropout : float in 0..1
        Fraction of the input features that is left out in training, the same ones at every step of a sequence (Gal and
        Ghahramani 2016).
    seed : int, optional
        Of the first weights and of the dropout. Without it they follow from `numlstm.utils.set_random_seed` and the
        training's seed, or differ each time.
    return_sequences : bool
        Whether y is the output of every step (N, T, H) or of the last one (N, H).
    return_state : bool
        Whether a call of the layer, or `predict` of a model that ends with it, also returns the last h and c (N, H).
    go_backwards : bool
        Whether sequences are read from their end; the outputs stand in the order in which they arise.
    stateful : bool
        Whether a batch begins with the states that the batch before it ended with, row by row, until `reset_states`.
    recompute : None, "gates" or "states"
        What training does not keep in memory but computes again, with the same bits: nothing; the gates and cell states of
        each step; or also its output, unless the layer returns it. For long sequences.
    name : str, optional
    input_shape : (T, F), optional
        Shape of one sequence, None for any T; without it, it is taken from the first data.
    """

    traits = attrgetter("units", "use_bias", "return_sequences", "return_state", "go_backwards")
    _TRANSPOSED = frozenset({"W_ih", "W_hh"})

    def __init__(
        self,
        units: int,
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
        *,
        use_bias: bool = True,
        kernel_initializer: str | Initializer = "glorot_uniform",
        recurrent_initializer: str | Initializer = "orthogonal",
        bias_initializer: str | Initializer = "zeros",
        unit_forget_bias: bool = True,
        dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        recompute: str | None = None,
        name: str | None = None,
        input_shape: Sequence[int | None] | None = None,
    ) -> None:
        super().__init__(name, input_shape, seed)
        self.units = _validate.whole("units", units)
        self.activation = _validate.choice("activation", activation, ["tanh"])
        self.recurrent_activation = _validate.choice("recurrent_activation", recurrent_activation, ["sigmoid"])
        self.use_bias, self.unit_forget_bias = bool(use_bias), bool(unit_forget_bias)
        self.kernel_initializer = initializers.get(kernel_initializer, "kernel_initializer")
        self.recurrent_initializer = initializers.get(recurrent_initializer, "recurrent_initializer")
        self.bias_initializer = initializers.get(bias_initializer, "bias_initializer")
        self.dropout = _validate.real("dropout", dropout, least=0, below=1)
        self.random = self.dropout > 0
        self.return_sequences, self.return_state = bool(return_sequences), bool(return_state)
        self.go_backwards, self.stateful = bool(go_backwards), bool(stateful)
        self.recompute = _validate.optional_choice("recompute", recompute, RECOMPUTE)

    @property
    def params(self) -> LSTMWeights:
        """The weights as `numlstm.functional` takes them: views, not copies."""
        if not self.built:
            raise ValueError("the layer has no weights yet: give it an input_shape, or show it data, first")
        W_ih, W_hh = self.parameters["W_ih"], self.parameters["W_hh"]
        b = self.parameters["b"] if self.use_bias else np.zeros(4 * self.units, W_ih.dtype)
        return LSTMWeights(W_ih, W_hh, b)

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 2 or input_shape[1] is None:
            hint = ": the LSTM before it needs return_sequences=True" if len(input_shape) == 1 else ""
            raise ValueError(f"an LSTM takes sequences (N, T, F) with F known, not {sizes_text(input_shape)}{hint}")
        return (input_shape[0], self.units) if self.return_sequences else (self.units,)

    def parameter_shapes(self, input_shape: Shape) -> dict[str, tuple[int, ...]]:
        gates, features = 4 * self.units, input_shape[1] or 0
        shapes: dict[str, tuple[int, ...]] = {"W_ih": (gates, features), "W_hh": (gates, self.units)}
        return {**shapes, "b": (gates,)} if self.use_bias else shapes

    def _initializers(self) -> dict[str, Initializer]:
        bias = _ForgetBias(self.bias_initializer) if self.unit_forget_bias else self.bias_initializer
        return {"W_ih": self.kernel_initializer, "W_hh": self.recurrent_initializer, "b": bias}

    def begin(self, shape: tuple[int, ...], dtype: np.dtype[Any], take: Take, training: bool, first: bool) -> "LSTMRun":
        from numlstm.passes import LSTMRun

        return LSTMRun(self, shape, dtype, take, training, first)

    def states_for(self, batch: int, dtype: np.dtype[Any]) -> tuple[Array, Array]:
        """Return the states (h, c) of a stateful layer, (N, H) each, which passes change in place."""
        if self.states is None:
            self.states = np.zeros((batch, self.units), dtype), np.zeros((batch, self.units), dtype)
        h, c = self.states
        if len(h) != batch:
            was = len(h)
            raise ValueError(
                f"a stateful LSTM carries the states of {was} sequences, but a batch has {batch}: choose a batch_size that "
                f"divides the number of sequences, or begin anew with reset_states"
            )
        return h, c

    def __call__(self, x: Any, *, training: bool = False, initial_state: Sequence[Array] | None = None) -> Any:
        """Return y for an array x (N, T, F), with return_state as a list [y, h, c].

        initial_state : (h, c), (N, H) each; zeros, or a stateful layer's own, if left out
        """
        from numlstm.passes import LSTMRun

        run, array = self._begin_once(x, training)
        assert isinstance(run, LSTMRun)
        if initial_state is not None:
            run.states = self._checked_states(initial_state, array)
            self.states = run.states if self.stateful else None
        y = run.forward(array, _random.new_seed() if training else 0)
        return [y, *run.last_states()] if self.return_state else y

    def _checked_states(self, states: Sequence[Array], x: Array) -> tuple[Array, Array]:
        if not isinstance(states, (tuple, list)) or len(states) != 2:
            raise TypeError("initial_state must be a pair (h, c) of arrays (N, H)")
        h, c = (_validate.numeric(f"initial_state[{i}]", state, x.dtype).copy() for i, state in enumerate(states))
        for i, state in enumerate((h, c)):
            _validate.shape(f"initial_state[{i}]", state, {"N": x.shape[0], "H": self.units})
        return h, c


class _ForgetBias(Initializer):
    """A bias whose second quarter, the forget gate's, begins at 1."""

    def __init__(self, others: Initializer) -> None:
        self._others = others

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        values = np.array(self._others(shape, rng))
        values.reshape(4, -1)[1] = 1
        return values
