"""The layers' passes: what a layer does with batches of one shape, on memory that is taken once.

A run is made by its layer's `begin`, for a `layers.base.Setting`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _random
from ._engine_weights import wide_shape
from ._validate import Array
from ._workspace import Take

if TYPE_CHECKING:
    from . import layers
    from .layers.base import Setting


class Run:
    """A layer's passes over batches of one shape; what they return, the next pass overwrites."""

    y: Array
    piece = 0  # the next pass is of this piece of a batch of long sequences

    def load(self) -> None:
        """Bring the parameters into the kernels' layout; they may have changed."""

    def forward(self, x: Array, key: int, lengths: Array | None = None) -> Array:
        """Return y; `key` is of the random masks of training.

        lengths : (N,) int64 in 0..T of x (N, T, ..), for a run that was made for such; past them x and dy are 0, and so
            are dx, and y of all layers but a dense one
        """
        raise NotImplementedError

    def last_states(self) -> tuple[Array, ...]:
        """Return the states that the last pass ended with, of a layer that has some, in memory that the next overwrites."""
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

    def __init__(self, layer: "layers.Recurrent", setting: "Setting") -> None:
        shape, dtype, take, training, first, ragged, backend = setting
        batch, steps, features = shape
        self._layer, self._backend = layer, backend
        self.states: tuple[Array, ...] | None = None
        without, none = backend.zeros(0 if layer.use_bias else layer.bias_size, dtype), backend.zeros(0, dtype)
        self._zeros = lambda size, _: without if size else none
        self._wide = [self._recurrent_matrix(take, dtype) for _ in range(1 + training)]  # and its gradient
        self._vector = take((layer.vector_size,), dtype) if layer.spec.layer_norm else None
        kind = backend.kind_of(layer.spec.name)
        sizes = batch, steps, features, layer.units
        self._packed = backend.Weights(kind, features, layer.units, dtype, take, layer.outputs)
        clip, zoneout = layer.cell_clip, layer.zoneouts
        self._masks = training and layer.recurrent_dropout > 0
        mask = take((batch if self._masks else 0, layer.outputs), dtype)
        self._cell = backend.options_of(self._packed.cell, clip, zoneout, 0 if training and layer.random else None, mask)
        self._sweep = backend.Recurrent(
            kind,
            sizes,
            dtype,
            training,
            take,
            layer.recompute,
            ragged=ragged,
            options=self._cell.options is not None,
            outputs=layer.outputs,
        )
        self._lengths: Array | None = None
        self._given = tuple(take((batch, size), dtype) for size in layer.state_sizes)
        self._first: tuple[Array, ...] | None = None
        self._last = tuple(take((batch, size), dtype) for size in layer.state_sizes)
        needless = training and layer.recompute == "states" and not layer.return_sequences
        self._steps = None if needless else take((batch, steps, layer.outputs), dtype)
        self.y = self._steps if layer.return_sequences and self._steps is not None else self._last[0]
        self._drops = training and layer.dropout > 0
        self._own_x = take(shape, dtype) if self._drops or layer.go_backwards else None
        if training:
            self._packed.prepare_backward(self._sweep.summing, inputs_gradient=not first)
            self._dx = take((batch, steps, 0 if first else features), dtype)
            self._turned = take(self._dx.shape, dtype) if layer.go_backwards else None
            self._db = backend.zeros(without.shape, dtype)
            self._vectors: dict[str, Array] = {}  # of gradients that the engine has in one array and the layer apart
            if layer.spec.layer_norm:
                self._db = backend.zeros(layer.vector_size, dtype)
                self._vectors = {name: a for name, a in layer.vectors(self._db).items() if name in layer.parameters}
            self._no_others = (None,) * (layer.spec.states - 1)  # gradients of other last states than h

    def _recurrent_matrix(self, take: Take, dtype: np.dtype[Any]) -> Array | None:
        """Return memory for the recurrent matrix as the engine takes it, None where the layer has it so."""
        shape = 4 * self._layer.units, self._layer.units
        return take(wide_shape(shape), dtype) if "R" in self._layer.spec.weights else None

    def load(self) -> None:
        backend, memory = self._backend, (self._wide[0], self._backend.widen, True, self._vector)
        self._weights = self._layer.weights_inside(self._zeros, *memory, lambda to, source: backend.copy(source, to))
        self._packed.load(self._weights)

    def forward(self, x: Array, key: int, lengths: Array | None = None) -> Array:
        self._lengths = lengths
        if self._own_x is not None:
            if self._layer.go_backwards:
                self._backend.turn(x, lengths, self._own_x)
                x = self._own_x
            if self._drops:
                self._key = key
                self._backend.drop(key, self._layer.dropout, x, self._own_x)
        self._x = x if self._own_x is None else self._own_x
        states = self.states
        if states is None and self._layer.stateful:
            states = self._layer.states_for(len(x), x.dtype, self._backend.zeros)
        self._first = None
        if states is not None:
            self._first = self._given
            self._copy(states, self._given)
        if self._cell.options is not None:
            self._new_masks(key)
        self._sweep.forward(self._cell, self._x, self._first, self._steps, self._last, lengths)
        if lengths is not None and self.y is self._steps:
            self._backend.clear(self.y, lengths)
        if states is not None:
            self._copy(self._last, states)
        return self.y

    def _new_masks(self, key: int) -> None:
        options = self._cell.options
        if any(self._layer.zoneouts) and options.key.size:
            self._backend.set_key(options, _random.stream_key(key, 3, self.piece))  # its masks differ from step to step
        if self._masks:
            self._backend.fill(options.mask, 1)
            mask = options.mask.reshape(len(options.mask), 1, -1)
            self._backend.drop(_random.stream_key(key, 2), self._layer.recurrent_dropout, mask, mask)

    def last_states(self) -> tuple[Array, ...]:
        return self._last

    def traces(self) -> dict[str, dict[str, Array]]:
        assert self._steps is not None
        found = {**self._sweep.kept(), "h": self._steps}
        return {"": {name: self._in_order(array) for name, array in found.items()}}

    def _in_order(self, found: Array) -> Array:
        """Return what there is of each step (N, T, H) in order of the steps of x, with 0 past the lengths."""
        backwards = self._layer.go_backwards
        if self._lengths is None:
            return found[:, ::-1] if backwards else found
        out = found.copy()
        if backwards:
            self._backend.turn(found, self._lengths, out)
        self._backend.clear(out, self._lengths)
        return out

    def backward(self, dy: Array, gradients: Mapping[str, Array], add: bool) -> Array | None:
        upstream = (dy, None) if self._layer.return_sequences else (None, (dy, *self._no_others))
        dW_hh, wide = gradients["W_hh"], self._wide[1]
        if wide is not None and add:
            self._backend.widen(dW_hh, gradients["R"], wide)
        recurrent = dW_hh if wide is None else wide
        b, p = gradients.get("b", self._db), gradients.get("p", self._weights[3])
        if self._vectors:
            b = self._db
            for name, vector in self._vectors.items() if add else ():
                self._backend.copy(gradients[name], vector)
        sums: tuple[Array, ...] = gradients["W_ih"], recurrent, b, p
        if "W_p" in gradients:
            sums = (*sums, gradients["W_p"])
        inputs = self._x, None if self._first is None else self._first[0], self._steps
        self._sweep.backward(self._packed, self._weights, inputs, upstream, self._dx, None, sums, add)
        if wide is not None:
            self._backend.narrow(wide, dW_hh, gradients["R"])
        for name, vector in self._vectors.items():
            self._backend.copy(vector, gradients[name])
        if self._dx.shape[2] == 0:
            return None
        if self._drops:
            self._backend.drop(self._key, self._layer.dropout, self._dx, self._dx)
        dx = self._dx
        if self._turned is not None:
            self._backend.turn(dx, self._lengths, self._turned)
            dx = self._turned
        if self._lengths is not None:
            self._backend.clear(dx, self._lengths)
        return dx

    def _copy(self, states: Sequence[Array], to: Sequence[Array]) -> None:
        for source, place in zip(states, to, strict=True):
            self._backend.copy(source, place)


class BidirectionalRun(Run):
    """Passes of two recurrent layers, one of which begins at the end.

    runs : of the forward layer and of the backward layer
    """

    def __init__(self, layer: "layers.Bidirectional", setting: "Setting") -> None:
        _, dtype, take, training, _, ragged, backend = setting
        self._layer, self._backend = layer, backend
        forward, backward = (direction.begin(setting) for direction in (layer.forward_layer, layer.backward_layer))
        self.runs, single = (forward, backward), forward.y.shape
        if layer.merge_mode is not None:
            self.y = take((*single[:-1], layer.units) if layer.merge_mode == "concat" else single, dtype)
            if training:
                self._dy = [take(run.y.shape, dtype) for run in self.runs]
        self._lengths: Array | None = None
        copied = ragged or not backend.VIEWS
        self._aligned = take(backward.y.shape, dtype) if copied and layer.return_sequences else None

    def load(self) -> None:
        for run in self.runs:
            run.load()

    def _turned(self, array: Array) -> Array:
        """Return memory for outputs of the backward layer, or their gradient, in the order of the forward layer's.

        A view, or where lengths differ the memory `_aligned`, to and from which `turn` copies.
        """
        if not self._layer.return_sequences:
            return array
        if self._lengths is None and self._backend.VIEWS:
            return array[:, ::-1]
        assert self._aligned is not None
        return self._aligned

    def both(self, x: Array, key: int, lengths: Array | None = None) -> tuple[Array, Array]:
        """Return y of both layers in the order of the first one's."""
        forward, backward = self.runs
        other = _random.stream_key(key, 1) if self._layer.random else key
        self._lengths = lengths
        first, second = forward.forward(x, key, lengths), backward.forward(x, other, lengths)
        turned = self._turned(second)
        if turned is self._aligned:
            self._backend.turn(second, lengths, turned)
            if lengths is not None:
                self._backend.clear(turned, lengths)
        return first, turned

    def forward(self, x: Array, key: int, lengths: Array | None = None) -> Array:
        self._outputs = self.both(x, key, lengths)
        self._backend.merge(self._layer.merge_mode, *self._outputs, self.y)
        return self.y

    def last_states(self) -> tuple[Array, ...]:
        return tuple(state for run in self.runs for state in run.last_states())

    def traces(self) -> dict[str, dict[str, Array]]:
        return {name: run.traces()[""] for name, run in zip(("forward", "backward"), self.runs, strict=True)}

    def backward(self, dy: Array, gradients: Mapping[str, Array], add: bool) -> Array | None:
        to_backward = self._turned(self._dy[1])
        self._backend.unmerge(self._layer.merge_mode, dy, self._outputs, (self._dy[0], to_backward))
        if to_backward is self._aligned:
            self._backend.turn(to_backward, self._lengths, self._dy[1])
        dx, other = (
            run.backward(upstream, own, add)
            for run, upstream, own in zip(self.runs, self._dy, self._layer.parted(gradients), strict=True)
        )
        if dx is not None and other is not None:
            self._backend.add(dx, other)
        return dx
