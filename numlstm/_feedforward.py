"""Passes of the layers that know no time: dense, dropout, embedding."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ._validate import Array
from ._workspace import Take
from .passes import Run

if TYPE_CHECKING:
    from . import layers
    from .layers.base import Setting


class DenseRun(Run):
    """Passes of a dense layer.

    After `leave_raw`, y is left without its activation, for a loss that has it within; `activated` then does the rest.
    """

    def __init__(self, layer: "layers.Dense", setting: "Setting") -> None:
        shape, dtype, take, training, first, _, backend = setting
        rows, features = math.prod(shape[:-1]), shape[-1]
        self._layer, self._linear = layer, backend.ACTIVATIONS["linear"]
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
        self._applied = self._linear
        self._activated = take(self.y.shape, self.y.dtype)

    def load(self) -> None:
        self._passes.load(self._layer.parameters["W"], self._layer.parameters.get("b"))

    def forward(self, x: Array, key: int, lengths: Array | None = None) -> Array:
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

    def __init__(self, rate: float, setting: "Setting") -> None:
        shape, dtype, take, training, *_, self._backend = setting
        self._rate = rate if training else 0.0
        self._flat = shape[0], 1, math.prod(shape[1:])
        if self._rate > 0:
            self._out, self._dx = take(shape, dtype), take(shape, dtype)

    def forward(self, x: Array, key: int, lengths: Array | None = None) -> Array:
        self.y = x
        if self._rate > 0:
            self._key, self.y = key, self._out
            self._backend.drop(key, self._rate, x.reshape(self._flat), self._out.reshape(self._flat))
        return self.y

    def backward(self, dy: Array, gradients: Mapping[str, Array], add: bool) -> Array | None:
        if self._rate == 0:
            return dy
        self._backend.drop(self._key, self._rate, dy.reshape(self._flat), self._dx.reshape(self._flat))
        return self._dx


class EmbeddingRun(Run):
    """Passes of an embedding."""

    def __init__(self, layer: "layers.Embedding", setting: "Setting") -> None:
        shape, dtype, take, *_, self._backend = setting
        self._layer = layer
        self.y = take((*shape, layer.output_dim), dtype)

    def forward(self, x: Array, key: int, lengths: Array | None = None) -> Array:
        self._indices = x.reshape(-1)
        self._backend.gather(self._layer.parameters["table"], self._indices, self.y.reshape(-1, self._layer.output_dim))
        if lengths is not None:
            self._backend.clear(self.y, lengths)
        return self.y

    def backward(self, dy: Array, gradients: Mapping[str, Array], add: bool) -> Array | None:
        if not add:
            self._backend.fill(gradients["table"], 0)
        self._backend.scatter(self._indices, dy.reshape(-1, self._layer.output_dim), gradients["table"])
        return None
