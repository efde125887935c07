"""What goes on inside a model: gates and states over time, and how far back gradients reach."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import backend
from ._validate import Array
from ._workspace import aligned_empty
from .layers import Embedding, Layer
from .layers.base import Setting

if TYPE_CHECKING:
    from .passes import Run


class Passes:
    """Passes of layers over a batch as in inference, but with all kept that a backward pass needs.

    runs : of each layer; gradients : of each layer's parameters by name, after a backward pass
    """

    def __init__(self, layers: Sequence[Layer], x: Array, dtype: np.dtype[Any], lengths: Array | None = None) -> None:
        self.runs: list[Run] = []
        self._lengths = lengths
        sample: tuple[int, ...] = x.shape[1:]
        for layer in layers:
            setting = Setting((len(x), *sample), dtype, aligned_empty, True, False, lengths is not None, backend)
            run = layer.plain().begin(setting)
            run.load()
            self.runs.append(run)
            sample = tuple(size for size in layer.output_shape(sample) if size is not None)
        self._x, self.gradients = x, [{name: np.empty_like(p) for name, p in layer.parameters.items()} for layer in layers]

    def forward(self) -> Array:
        x, lengths = self._x, self._lengths
        for run in self.runs:
            x = run.forward(x, 0, lengths)
            lengths = None if x.ndim < 3 else lengths
        if lengths is not None:
            backend.clear(x, lengths)
        return x

    def backward(self, dy: Array) -> Array:
        """Return the gradient of x, once for each forward pass."""
        for run, gradients in zip(reversed(self.runs), reversed(self.gradients), strict=True):
            dx = run.backward(dy, gradients, False)
            assert dx is not None
            dy = dx
        return dy


class Trace(dict[str, dict[str, Array]]):
    """Gates and states of a model's recurrent layers over time, from `Sequential.trace`.

    ``trace["lstm"]["f"]`` is an array (N, T, H), by the name of the layer and of the gate or state; those of a bidirectional
    layer have the names ``"bidirectional/forward"`` and ``"bidirectional/backward"``.

    y : the model's output, (N, ..); lengths : (N,) how many steps each sequence has, None where all have T
    """

    def __init__(self, layers: Mapping[str, dict[str, Array]], y: Array, lengths: Array | None = None) -> None:
        super().__init__(layers)
        self.y, self.lengths = y, lengths

    def __repr__(self) -> str:
        rows = [(name, ", ".join(arrays), arrays["h"].shape) for name, arrays in self.items()]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        lines = [f"{name:<{widths[0]}}   {arrays:<{widths[1]}}   (N, T, H) = {shape}" for name, arrays, shape in rows]
        return "\n".join(["Trace of gates and states", *lines])


def trace(layers: Sequence[Layer], x: Array, dtype: np.dtype[Any], lengths: Array | None) -> Trace:
    """Return what all recurrent layers did; see `Sequential.trace`."""
    passes = Passes(layers, x, dtype, lengths)
    y = passes.forward()
    found = {
        f"{layer.name}/{part}" if part else str(layer.name): arrays
        for layer, run in zip(layers, passes.runs, strict=True)
        for part, arrays in run.traces().items()
    }
    if not found:
        raise ValueError("the model has no recurrent layer: there are no gates to trace")
    return Trace(found, y, lengths)


def gradient_by_lag(layers: Sequence[Layer], x: Array, dtype: np.dtype[Any]) -> Array:
    """Return (N, T): how strongly the last output depends on x so many steps before; see `Sequential.gradient_by_lag`."""
    if isinstance(layers[0], Embedding):
        x, layers = layers[0](x), layers[1:]
    if x.ndim != 3:
        raise ValueError(f"x must be sequences (N, T, F), of which lags are steps, not of shape {x.shape}")
    passes = Passes(layers, x, dtype)
    squares = np.zeros(x.shape[:2])
    outputs = passes.forward().shape
    for output in range(outputs[-1]):
        if output > 0:
            passes.forward()  # what the last one kept is used up
        dy = np.zeros(outputs, dtype)
        (dy if dy.ndim == 2 else dy[:, -1])[:, output] = 1
        dx = passes.backward(dy).astype(np.float64)  # whose squares do not underflow
        squares += np.einsum("ntf,ntf->nt", dx, dx)
    return np.sqrt(squares[:, ::-1])
