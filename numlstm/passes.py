"""The layers' passes: what a layer does with batches of one shape, on memory that is taken once.

A run is made by its layer's `begin`, for a shape with the batch, with memory from `take`. With `training` there will be
backward passes; with `first` nobody wants the gradient of x.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _random, backend
from ._validate import Array
from ._workspace import Take

if TYPE_CHECKING:
    from . import layers


class Run:
    """A layer's passes over batches of one shape; what they return, the next pass overwrites."""

    y: Array

    def load(self) -> None:
        """Bring the parameters into the kernels' layout; they may have changed."""

    def forward(self, x: Array, key: int) -> Array:
        """Return y; `key` is of the random masks of training."""
        raise NotImplementedError

    def last_states(self) -> tuple[Array, ...]:
        """Return copies of the states that the last pass ended with, of a layer that has some."""
        return ()

    def traces(self) -> dict[str, dict[str, Array]]:
        """Return gates and states of the last pass in training, (N, T, H) each, in order of the steps of x: views.

        By the name of what is within the layer, "" for itself; nothing of a layer that has none.
        """
        return {}

    def backward(self, dy: Array, gradients: Mapping[str, Array], add: bool) -> Array | None:
        """Return the gradient of x, or None if nobody wants it; write those of the parameters, or add to them."""
        raise NotImplementedError


class RecurrentRun(Run):
    """Passes of a recurrent layer.

    states : (N, H) each, which a pass begins with and leaves its last states in; None for the layer's own, or zeros
    """

    def __init__(
        self,
        layer: "layers.Recurrent",
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        take: Take,
        training: bool,
        first: bool,
    ) -> None:
        batch, steps, features = shape
        self._layer = layer
        self.states: tuple[Array, ...] | None = None
        self._without = np.zeros(0 if layer.use_bias else layer.bias_size, dtype)
        kind = backend.kind_of(layer.spec.name)
        sizes = batch, steps, features, layer.units
        self._packed = backend.Weights(kind, features, layer.units, dtype, take)
        self._sweep = backend.Recurrent(kind, sizes, dtype, training, take, layer.recompute)
        self._given = tuple(take((batch, layer.units), dtype) for _ in range(layer.spec.states))
        self._first: tuple[Array, ...] | None = None
        self._last = tuple(take((batch, layer.units), dtype) for _ in range(layer.spec.states))
        needless = training and layer.recompute == "states" and not layer.return_sequences
        self._steps = None if needless else take((batch, steps, layer.units), dtype)
        self.y = self._steps if layer.return_sequences and self._steps is not None else self._last[0]
        self._drops = training and layer.dropout > 0
        self._own_x = take(shape, dtype) if self._drops or layer.go_backwards else None
        if training:
            self._packed.prepare_backward(self._sweep.summing, inputs_gradient=not first)
            self._dx = take((batch, steps, 0 if first else features), dtype)
            self._turned = take(self._dx.shape, dtype) if layer.go_backwards else None
            self._db = self._without.copy()

    def load(self) -> None:
        self._weights = self._layer.weights_inside(lambda *_: self._without)
        self._packed.load(self._weights)

    def forward(self, x: Array, key: int) -> Array:
        if self._own_x is not None:
            if self._layer.go_backwards:
                self._own_x[...] = x[:, ::-1]
                x = self._own_x
            if self._drops:
                self._key = key
                backend.drop(key, self._layer.dropout, x, self._own_x)
        self._x = x if self._own_x is None else self._own_x
        states = self.states
        if states is None and self._layer.stateful:
            states = self._layer.states_for(len(x), x.dtype)
        self._first = None
        if states is not None:
            self._first = self._given
            _copy(states, self._given)
        self._sweep.forward(self._packed.cell, self._x, self._first, self._steps, self._last)
        if states is not None:
            _copy(self._last, states)
        return self.y

    def last_states(self) -> tuple[Array, ...]:
        return tuple(state.copy() for state in self._last)

    def traces(self) -> dict[str, dict[str, Array]]:
        assert self._steps is not None
        found = {**self._sweep.kept(), "h": self._steps}
        backwards = self._layer.go_backwards
        return {"": {name: found[name][:, ::-1] if backwards else found[name] for name in "ifgorznch" if name in found}}

    def backward(self, dy: Array, gradients: Mapping[str, Array], add: bool) -> Array | None:
        upstream = (dy, None) if self._layer.return_sequences else (None, (dy, *[None] * (self._layer.spec.states - 1)))
        sums = gradients["W_ih"], gradients["W_hh"], gradients.get("b", self._db), gradients.get("p", self._weights[3])
        inputs = self._x, None if self._first is None else self._first[0], self._steps
        self._sweep.backward(self._packed, self._weights, inputs, upstream, self._dx, None, sums, add)
        if self._dx.shape[2] == 0:
            return None
        if self._drops:
            backend.drop(self._key, self._layer.dropout, self._dx, self._dx)
        if self._turned is None:
            return self._dx
        self._turned[...] = self._dx[:, ::-1]
        return self._turned


def _copy(states: Sequence[Array], to: Sequence[Array]) -> None:
    for source, place in zip(states, to, strict=True):
        place[...] = source


class BidirectionalRun(Run):
    """Passes of two recurrent layers, one of which begins at the end.

    runs : of the forward layer and of the backward layer
    """

    def __init__(
        self,
        layer: "layers.Bidirectional",
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        take: Take,
        training: bool,
        first: bool,
    ) -> None:
        self._layer = layer
        both = layer.forward_layer, layer.backward_layer
        forward, backward = (direction.begin(shape, dtype, take, training, first) for direction in both)
        self.runs, single = (forward, backward), forward.y.shape
        if layer.merge_mode is not None:
            self.y = take((*single[:-1], layer.units) if layer.merge_mode == "concat" else single, dtype)
            if training:
                self._dy = [take(run.y.shape, dtype) for run in self.runs]

    def load(self) -> None:
        for run in self.runs:
            run.load()

    def _turned(self, array: Array) -> Array:
        """Return outputs of the backward layer, or their gradient, in the order of the forward layer's: a view."""
        return array[:, ::-1] if self._layer.return_sequences else array

    def both(self, x: Array, key: int) -> tuple[Array, Array]:
        """Return y of both layers in the order of the first one's."""
        forward, backward = self.runs
        other = _random.stream_key(key, 1) if self._layer.random else key
        return forward.forward(x, key), self._turned(backward.forward(x, other))

    def forward(self, x: Array, key: int) -> Array:
        mode = self._layer.merge_mode
        forward, backward = self._outputs = self.both(x, key)
        if mode == "concat":
            cut = forward.shape[-1]
            self.y[..., :cut], self.y[..., cut:] = forward, backward
        elif mode == "mul":
            np.multiply(forward, backward, out=self.y)
        else:
            np.add(forward, backward, out=self.y)
            if mode == "ave":
                self.y /= 2
        return self.y

    def last_states(self) -> tuple[Array, ...]:
        return tuple(state for run in self.runs for state in run.last_states())

    def traces(self) -> dict[str, dict[str, Array]]:
        return {name: run.traces()[""] for name, run in zip(("forward", "backward"), self.runs, strict=True)}

    def backward(self, dy: Array, gradients: Mapping[str, Array], add: bool) -> Array | None:
        mode, (forward, backward) = self._layer.merge_mode, self._outputs
        to_forward, to_backward = self._dy[0], self._turned(self._dy[1])
        if mode == "concat":
            cut = forward.shape[-1]
            to_forward[...], to_backward[...] = dy[..., :cut], dy[..., cut:]
        elif mode == "mul":
            np.multiply(dy, backward, out=to_forward)
            np.multiply(dy, forward, out=to_backward)
        else:
            np.divide(dy, 2 if mode == "ave" else 1, out=to_forward)
            to_backward[...] = to_forward
        dx, other = (
            run.backward(upstream, own, add)
            for run, upstream, own in zip(self.runs, self._dy, self._layer.parted(gradients), strict=True)
        )
        if dx is not None and other is not None:
            dx += other
        return dx


class DenseRun(Run):
    """Passes of a dense layer.

    After `leave_raw`, y is left without its activation, for a loss that has it within; `activated` then does the rest.
    """

    def __init__(
        self, layer: "layers.Dense", shape: tuple[int, ...], dtype: np.dtype[Any], take: Take, training: bool, first: bool
    ) -> None:
        rows, features = math.prod(shape[:-1]), shape[-1]
        self._layer = layer
        self._flat = rows, features
        self._passes = backend.Dense(rows, features, layer.units, dtype, training, take)
        self._applied = self._activation = backend.ACTIVATIONS[layer.activation]
        self.y = self._passes.y.reshape(*shape[:-1], layer.units)
        self._activated = self.y
        if training:
            self._dx = None if first else take(shape, dtype)
            self._db = take((0 if layer.use_bias else layer.units,), dtype)

    def leave_raw(self, take: Take) -> None:
        """Let y be without its activation."""
        self._applied = backend.ACTIVATIONS["linear"]
        self._activated = take(self.y.shape, self.y.dtype)

    def load(self) -> None:
        self._passes.load(self._layer.parameters["W"], self._layer.parameters.get("b"))

    def forward(self, x: Array, key: int) -> Array:
        self._x = x.reshape(self._flat)
        self._passes.forward(self._x, self._applied)
        return self.y

    def activated(self) -> Array:
        """Return y of the last pass with its activation."""
        if self._activated is not self.y:
            self._passes.activate(self._activation, self._activated.reshape(self._passes.y.shape))
        return self._activated

    def backward(self, dy: Array, gradients: Mapping[str, Array], add: bool) -> Array | None:
        self._passes.backward(
            self._x,
            dy.reshape(self._passes.y.shape),
            self._applied,
            self._layer.parameters["W"],
            (gradients["W"], gradients.get("b", self._db)),
            None if self._dx is None else self._dx.reshape(self._flat),
            add,
        )
        return self._dx


class DropoutRun(Run):
    """Passes of a dropout layer."""

    def __init__(self, rate: float, shape: tuple[int, ...], dtype: np.dtype[Any], take: Take) -> None:
        self._rate = rate
        self._flat = shape[0], 1, math.prod(shape[1:])
        if rate > 0:
            self._out, self._dx = take(shape, dtype), take(shape, dtype)

    def forward(self, x: Array, key: int) -> Array:
        self.y = x
        if self._rate > 0:
            self._key, self.y = key, self._out
            backend.drop(key, self._rate, x.reshape(self._flat), self._out.reshape(self._flat))
        return self.y

    def backward(self, dy: Array, gradients: Mapping[str, Array], add: bool) -> Array | None:
        if self._rate == 0:
            return dy
        backend.drop(self._key, self._rate, dy.reshape(self._flat), self._dx.reshape(self._flat))
        return self._dx


class EmbeddingRun(Run):
    """Passes of an embedding."""

    def __init__(self, layer: "layers.Embedding", shape: tuple[int, ...], dtype: np.dtype[Any], take: Take) -> None:
        self._layer = layer
        self.y = take((*shape, layer.output_dim), dtype)

    def forward(self, x: Array, key: int) -> Array:
        self._indices = x.reshape(-1)
        backend.gather(self._layer.parameters["table"], self._indices, self.y.reshape(-1, self._layer.output_dim))
        return self.y

    def backward(self, dy: Array, gradients: Mapping[str, Array], add: bool) -> Array | None:
        if not add:
            gradients["table"][...] = 0
        backend.scatter(self._indices, dy.reshape(-1, self._layer.output_dim), gradients["table"])
        return None
