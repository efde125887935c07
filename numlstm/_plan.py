"""A model's passes over batches of one shape, layer after layer, on memory that is taken once."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import passes
from ._feedforward import DenseRun
from ._validate import Array
from ._workspace import Take
from .layers.base import Layer, Setting


class Plan:
    """What a model does with batches (N, ..) of one shape.

    shape, dtype : of the batches
    training : whether there will be backward passes and dropout is at work
    raw : whether the last layer, a Dense, leaves its activation to the loss
    ragged : whether sequences may differ in length; backend : what computes
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        take: Take,
        training: bool,
        raw: bool,
        ragged: bool,
        backend: Any,
    ) -> None:
        self._backend = backend
        self.runs: list[passes.Run] = []
        self.keys: list[int] = [0] * len(layers)  # of the random masks of the next pass
        self.carried = False  # whether recurrent layers go on with states that are given to them
        sample: tuple[int, ...] = shape[1:]
        # Below the first layer that has parameters nobody wants a gradient.
        self._first = next((i for i, layer in enumerate(layers) if layer.parameters), len(layers))
        for i, layer in enumerate(layers):
            setting = Setting((shape[0], *sample), dtype, take, training, i <= self._first, ragged, backend)
            self.runs.append(layer.begin(setting))
            sample = tuple(size for size in layer.output_shape(sample) if size is not None)
        self.output_shape = (shape[0], *sample)
        self._last = self.runs[-1] if raw else None
        if isinstance(self._last, DenseRun):
            self._last.leave_raw(take)

    def load(self) -> None:
        """Bring all parameters into the kernels' layout."""
        for run in self.runs:
            run.load()

    def forward(self, x: Array, lengths: Array | None) -> Array:
        """Return the model's output, in memory that the next pass overwrites; past the lengths it may be anything finite."""
        lengths = self._backend.lengths(lengths)
        for run, key in zip(self.runs, self.keys, strict=True):
            x = run.forward(x, key, lengths)
            if x.ndim < 3:  # one row for each sequence
                lengths = None
        return x

    def activated(self, y: Array) -> Array:
        """Return the output of the last pass with the activation that was left to the loss."""
        return self._last.activated() if isinstance(self._last, DenseRun) else y

    def backward(self, dy: Array, gradients: Sequence[Mapping[str, Array]], add: bool) -> None:
        """Write the gradients of each layer's parameters, or add to them."""
        for i in range(len(self.runs) - 1, self._first - 1, -1):
            dx = self.runs[i].backward(dy, gradients[i], add)
            if dx is None:
                return
            dy = dx

    def states(self) -> tuple[Array, ...]:
        """Return the last states of the last layer, none if it is one without."""
        return self.runs[-1].last_states()


class Predictor:
    """Passes of a model without training, over batches of one shape at a time, on memory of their own.

    layers, traits, backend : for which it is good
    """

    def __init__(
        self, layers: list[Layer], traits: list[Any], dtype: np.dtype[Any], x_dtype: np.dtype[Any], backend: Any
    ) -> None:
        self.layers, self.traits, self.backend = layers, traits, backend
        self._dtype, self._x_dtype, self._arena = dtype, x_dtype, backend.Arena()
        self._shape: tuple[Any, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of the memory."""
        return int(self._arena.nbytes)

    def begin(self, x: Array, ragged: bool) -> None:
        """Prepare for batches like x, with the weights that there are now."""
        shape = x.shape, ragged
        if self._shape != shape:
            self._arena.restart()
            self._x, self._shape = self._arena.take(x.shape, self._x_dtype), shape
            self._plan = Plan(self.layers, x.shape, self._dtype, self._arena.take, False, False, ragged, self.backend)
        self._plan.load()

    def forward(self, x: Array, lengths: Array | None) -> tuple[Array, ...]:
        """Return the model's output, 0 past the lengths, and the last states of a last layer that returns them.

        x is not referred to.
        """
        y = self._plan.forward(self.backend.converted(x, self._x), lengths)
        if lengths is not None and y.ndim > 2:
            self.backend.clear(y, self.backend.lengths(lengths))
        states = self._plan.states() if self.layers[-1].return_state else ()
        return tuple(self.backend.returned(array, x) for array in (y, *states))

    def release(self) -> None:
        """Offer the memory for use by others; the predictor is of no more use."""
        self._arena.release()
