"""Recurrent layers in both directions."""

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from numlstm import _random, _registry, _validate
from numlstm._validate import Array

from .base import Layer, Setting, Shape
from .gru import GRU
from .lstm import LSTM
from .recurrent import Recurrent
from .rnn import RNN
from .simple_rnn import SimpleRNN
from .slstm import SLSTM

if TYPE_CHECKING:
    from numlstm.passes import BidirectionalRun

MERGE_MODES = ("concat", "sum", "mul", "ave")
_KNOWN: dict[str, type[Recurrent]] = {kind.__name__: kind for kind in (LSTM, GRU, SimpleRNN, SLSTM, RNN)}


class Bidirectional(Layer):
    """A recurrent layer that goes through sequences (N, T, F) from the start, and another one from the end.

    Schuster and Paliwal 1997, "Bidirectional recurrent neural networks". `get_weights` returns the weights of the forward
    layer, then those of the backward one; a call with return_state returns a list of y, the forward layer's states and the
    backward layer's.

    Parameters
    ----------
    layer : LSTM, GRU, SimpleRNN, SLSTM or RNN
        What both layers are made like, with weights of their own: ``forward_layer`` and ``backward_layer``. With a seed,
        the backward layer's is the next one.
    merge_mode : "concat", "sum", "mul", "ave" or None
        How the outputs of the two become one: side by side (.., 2H), their sum, product or mean. With None a call of the
        layer returns both, and a `Sequential` does not take it. With return_sequences both stand in order of time.
    backward_layer : LSTM, GRU, SimpleRNN, SLSTM or RNN, optional
        Another layer for the way back, with ``go_backwards`` other than the layer's, and the same return_sequences,
        return_state and stateful.
    name : str, optional
    input_shape : (T, F), optional
        Shape of one sequence, None for any T; without it, that of the layer, or of the first data.

    Raises
    ------
    TypeError
        For something else than such a layer.
    ValueError
        For an unknown merge_mode, or two layers that do not go together.
    """

    def __init__(
        self,
        layer: Recurrent,
        merge_mode: str | None = "concat",
        *,
        backward_layer: Recurrent | None = None,
        name: str | None = None,
        input_shape: Sequence[int | None] | None = None,
    ) -> None:
        self.forward_layer = _copy_of("layer", layer, "forward_")
        if backward_layer is None:
            seed = None if self.forward_layer.seed is None else self.forward_layer.seed + 1
            self.backward_layer = _copy_of("layer", layer, "backward_", go_backwards=True, seed=seed)
        else:
            self.backward_layer = _copy_of("backward_layer", backward_layer, "backward_")
        forward, backward = self._directions
        super().__init__(name, forward.input_shape if input_shape is None else input_shape, forward.seed)
        self.merge_mode = _validate.optional_choice("merge_mode", merge_mode, MERGE_MODES)
        if forward.go_backwards == backward.go_backwards:
            hint = "leave it to Bidirectional" if backward_layer is None else "one of them must"
            raise ValueError(f"layer and backward_layer both have go_backwards={forward.go_backwards}: {hint}")
        for option in ("return_sequences", "return_state", "stateful"):
            ours, theirs = getattr(forward, option), getattr(backward, option)
            if ours != theirs:
                raise ValueError(f"layer has {option}={ours}, but backward_layer {option}={theirs}: they must be the same")
        if merge_mode in ("sum", "mul", "ave") and forward.outputs != backward.outputs:
            units = f"{forward.outputs} units, but backward_layer {backward.outputs}"
            raise ValueError(f"layer has {units}: merge_mode={merge_mode!r} needs as many, 'concat' does not")
        self.return_sequences, self.return_state = forward.return_sequences, forward.return_state
        self.stateful, self.random = forward.stateful, forward.random or backward.random
        self.several_outputs = merge_mode is None

    @staticmethod
    def traits(layer: Layer) -> Any:
        """Return what passes without training and shapes depend on."""
        assert isinstance(layer, Bidirectional)
        return layer.merge_mode, *(direction.traits(direction) for direction in layer._directions)

    @property
    def _directions(self) -> tuple[Recurrent, Recurrent]:
        return self.forward_layer, self.backward_layer

    @property
    def layer(self) -> Recurrent:
        """The forward layer, by the name of the argument."""
        return self.forward_layer

    @property
    def units(self) -> int:
        """Number of outputs of both layers together: hidden units, or what they are projected to."""
        return sum(layer.outputs for layer in self._directions)

    # --- shapes and parameters: those of the two layers, by names with a prefix ---

    def output_shape(self, input_shape: Shape) -> Shape:
        forward = self.forward_layer.output_shape(input_shape)
        return (*forward[:-1], self.units) if self.merge_mode == "concat" else forward

    def parameter_shapes(self, input_shape: Shape) -> dict[str, tuple[int, ...]]:
        return _joined(*(layer.parameter_shapes(input_shape) for layer in self._directions))

    def build(self, input_shape: Shape, dtype: np.dtype[Any]) -> None:
        for layer in self._directions:
            layer.build(input_shape, dtype)
        self._take_over(input_shape)

    def adopt(self, input_shape: Shape, dtype: np.dtype[Any], values: Mapping[str, Array]) -> None:
        for layer, own in zip(self._directions, self.parted(values), strict=True):
            layer.adopt(input_shape, dtype, own)
        self._take_over(input_shape)

    def regroup(self) -> None:
        for layer, own in zip(self._directions, self.parted(self.parameters), strict=True):
            layer.parameters = own

    def _take_over(self, input_shape: Shape) -> None:
        self.parameters = _joined(*(layer.parameters for layer in self._directions))
        self.built_for = self.built_for or input_shape

    @staticmethod
    def parted(values: Mapping[str, Array]) -> list[dict[str, Array]]:
        """Return what goes by the names of the parameters as two dicts, by the names of the layers' own."""
        return [
            {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
            for prefix in _PREFIXES
        ]

    def to_keras(self, name: str, value: Array) -> Array:
        layer, own = self._whose(name)
        return layer.to_keras(own, value)

    def from_keras(self, name: str, value: Array) -> Array:
        layer, own = self._whose(name)
        return layer.from_keras(own, value)

    def _whose(self, name: str) -> tuple[Recurrent, str]:
        backward = name.startswith(_PREFIXES[1])
        return self._directions[backward], name.removeprefix(_PREFIXES[backward])

    # --- passes and states ---

    def begin(self, setting: Setting) -> "BidirectionalRun":
        from numlstm.passes import BidirectionalRun

        return BidirectionalRun(self, setting)

    def plain(self) -> "Bidirectional":
        layer = copy.copy(self)
        layer.forward_layer, layer.backward_layer = (direction.plain() for direction in self._directions)
        return layer

    @property
    def states(self) -> tuple[Array, ...] | None:
        """States of a stateful layer between batches: the forward layer's, then the backward layer's."""
        forward, backward = (layer.states for layer in self._directions)
        return None if forward is None or backward is None else (*forward, *backward)

    @states.setter
    def states(self, states: tuple[Array, ...] | None) -> None:
        forward, backward = self._directions
        count = forward.spec.states
        forward.states, backward.states = (None, None) if states is None else (states[:count], states[count:])

    def __call__(self, x: Any, *, training: bool = False, initial_state: Any = None, lengths: Any = None) -> Any:
        """Return y for an array x (N, T, F); both layers' outputs with merge_mode None, with return_state the states behind.

        initial_state : the states, (N, H) each, the forward layer's and then the backward layer's; zeros, or a stateful
            layer's own, if left out
        lengths : (N,) integers from 1 to T, as for an `LSTM`; each direction begins at its end of a sequence
        """
        from numlstm.passes import BidirectionalRun

        run, array, ends = self._begin_once(x, training, lengths)
        assert isinstance(run, BidirectionalRun)
        if initial_state is not None:
            self._set_states(run, initial_state, array)
        key = _random.new_seed() if training else 0
        if self.merge_mode is None:
            y = [np.ascontiguousarray(output) for output in run.both(array, key, ends)]
        else:
            y = [run.forward(array, key, ends)]
        outputs = [*y, *(state.copy() for state in run.last_states())] if self.return_state else y
        return outputs if len(outputs) > 1 else outputs[0]

    def _set_states(self, run: "BidirectionalRun", states: Any, x: Array) -> None:
        counts = [layer.spec.states for layer in self._directions]
        if not isinstance(states, (tuple, list)) or len(states) != sum(counts):
            came = f"{len(states)} items" if isinstance(states, (tuple, list)) else type(states).__name__
            raise TypeError(
                f"initial_state must be {sum(counts)} arrays (N, H), first those of the forward layer, not {came}"
            )
        parts = states[: counts[0]], states[counts[0] :]
        checked = [layer._checked_states(part, x) for layer, part in zip(self._directions, parts, strict=True)]
        for layer, direction, own in zip(self._directions, run.runs, checked, strict=True):
            direction.states = own
            layer.states = own if self.stateful else None


_PREFIXES = ("forward.", "backward.")


def _joined(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what two layers have by name as one dict."""
    return {prefix + name: value for prefix, part in zip(_PREFIXES, parts, strict=True) for name, value in part.items()}


def _copy_of(name: str, layer: Any, prefix: str, **changes: Any) -> Recurrent:
    """Return a layer like this one, or like the description of one that a file holds, without its weights."""
    if not isinstance(layer, (Recurrent, dict)):
        hint = ": an instance, with its arguments" if isinstance(layer, type) else ""
        raise TypeError(f"{name} must be an LSTM, GRU, SimpleRNN, SLSTM or RNN layer, not {layer!r}{hint}")
    made = _registry.make(name, Recurrent, _KNOWN, layer) if isinstance(layer, dict) else layer
    arguments = {argument: getattr(made, argument) for argument in inspect.signature(type(made)).parameters}
    called = (made.name or type(made).__name__.lower()).removeprefix(prefix)
    return type(made)(**{**arguments, "name": f"{prefix}{called}", **changes})
