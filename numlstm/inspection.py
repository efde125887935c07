"""What goes on inside a model: how far back gradients reach."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._validate import Array
from ._workspace import aligned_empty
from .layers import Embedding, Layer

if TYPE_CHECKING:
    from .passes import Run


class Passes:
    """Passes of layers over a batch as in inference, but with all kept that a backward pass needs.

    runs : of each layer; gradients : of each layer's parameters by name, after a backward pass
    """

    def __init__(self, layers: Sequence[Layer], x: Array, dtype: np.dtype[Any]) -> None:
        self.runs: list[Run] = []
        sample: tuple[int, ...] = x.shape[1:]
        for layer in layers:
            run = layer.plain().begin((len(x), *sample), dtype, aligned_empty, True, False)
            run.load()
            self.runs.append(run)
            sample = tuple(size for size in layer.output_shape(sample) if size is not None)
        self._x, self.gradients = x, [{name: np.empty_like(p) for name, p in layer.parameters.items()} for layer in layers]

    def forward(self) -> Array:
        x = self._x
        for run in self.runs:
            x = run.forward(x, 0)
        return x

    def backward(self, dy: Array) -> Array:
        """Return the gradient of x, once for each forward pass."""
        for run, gradients in zip(reversed(self.runs), reversed(self.gradients), strict=True):
            dx = run.backward(dy, gradients, False)
            assert dx is not None
            dy = dx
        return dy


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
