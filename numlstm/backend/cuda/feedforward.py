"""The passes of dense layers over a batch on a GPU."""

from typing import TYPE_CHECKING, Any

import numpy as np

from numlstm._workspace import Take
from numlstm.backend.feedforward import ACTIVATIONS

if TYPE_CHECKING:
    from .device import Cuda

_LINEAR = ACTIVATIONS["linear"]


class Dense:
    """The passes of ``y = activation(x W' + b)`` over batches of so many rows; arguments are those of the CPU's."""

    def __init__(
        self, device: "Cuda", rows: int, inputs: int, outputs: int, dtype: np.dtype[Any], training: bool, take: Take
    ) -> None:
        self._device, self._dtype, self._sizes = device, dtype, (rows, inputs, outputs)
        chosen = {"tile": device.tile, "stream": device.stream, "precision": device.precision}
        self._passes = device.recurrent.Dense(dtype.type, **chosen)
        self.y = take((rows, outputs), dtype)
        none = device.empty((1, 0), dtype)
        self._none = {shape: device.empty(shape, dtype) for shape in ((0,), (outputs, 0), (1, rows, 0), (1, 0, 0))}
        self._layer = device.recurrent.Layer(
            None,
            none,
            device.constant((1,), np.int64, rows),
            self._none[1, rows, 0],
            none,
            device.empty((1, rows + 1, 0, 0), dtype),
            self.y.reshape(1, rows, 1, outputs),
        )
        self._no_state = none
        if training:
            self._dz = take((rows, outputs), dtype)
            self._sums = take((1, 1, outputs, inputs + 1), dtype)

    def load(self, W: Any, b: Any) -> None:
        """Take over the parameters that there are now."""
        outputs = self._sizes[2]
        b = self._device.constant((1, outputs), self._dtype) if b is None else b.reshape(1, outputs)
        self._cell = self._device.recurrent.Weights(W, self._none[outputs, 0], b, self._none[0,])

    def forward(self, x: Any, activation: int) -> Any:
        """Return y, in memory that the next pass overwrites."""
        rows, inputs, _ = self._sizes
        self._layer = self._layer._replace(x=x.reshape(1, rows, inputs))
        self._passes.forward(self._cell, self._layer)
        if activation != _LINEAR:
            self.activate(activation, self.y)
        return self.y

    def activate(self, activation: int, out: Any) -> None:
        """Write the activation of y to `out`, which may be y."""
        self._device.operations.activate(self._device.stream, activation, self.y, out)

    def backward(self, x: Any, dy: Any, activation: int, W: Any, sums: tuple[Any, Any], dx: Any, add: bool) -> None:
        """Write the gradients of the last forward pass."""
        device, (rows, inputs, outputs) = self._device, self._sizes
        if activation != _LINEAR:
            device.operations.differentiate(device.stream, activation, self.y, dy, self._dz)
            dy = self._dz
        parts, none = device.recurrent, self._none
        dx = none[1, rows, 0] if dx is None else dx.reshape(1, rows, inputs)
        layer = self._layer._replace(z=dy.reshape(1, rows, 1, outputs))
        inner = parts.Gradients(none[1, rows, 0], self._no_state, none[1, 0, 0], dx)
        d_W, d_b = sums
        outer = parts.WeightGradients(d_W, none[outputs, 0], d_b.reshape(1, outputs), none[0,], self._sums)
        self._passes.backward(self._cell, layer, inner, outer, add)
