"""The passes of dense layers, embeddings and dropout over a batch."""

from typing import Any

import numpy as np

from numlstm import _threads
from numlstm._validate import Array
from numlstm._workspace import Take
from numlstm.kernels import activations, gradients, layout, parallel, target

from .runtime import elementwise, parts, runtime

ACTIVATIONS = {
    "linear": activations.LINEAR,
    "relu": activations.RELU,
    "tanh": activations.TANH,
    "sigmoid": activations.SIGMOID,
    "softmax": activations.SOFTMAX,
}

# To the sums of weights' gradients a dense layer is a cell with one slot, at one step and without recurrence.
_ROWS, _FULL = np.array(((0,), (-1,), (0,))), np.empty((3, 0), np.int64)
_ORDER = np.zeros(1, np.int64)


class Dense:
    """The passes of ``y = activation(x W' + b)`` over batches of so many rows: W (C, K), b (C,), x (R, K), y (R, C)."""

    def __init__(self, rows: int, inputs: int, outputs: int, dtype: np.dtype[Any], training: bool, take: Take) -> None:
        self._dtype, self._work = dtype, rows * inputs * outputs
        panels = layout.column_panels_shape(inputs, outputs, dtype)  # what pack_rows fills for W has the same shape
        self.panels, self._bias = take(panels, dtype), take((panels[0] * panels[2],), dtype)
        self.y = take((rows, outputs), dtype)
        self._no_bias = np.empty(0, dtype)
        if training:
            width = target.lanes(dtype)
            self._columns = take(layout.column_panels_shape(outputs, inputs, dtype), dtype)
            self._zeros = np.zeros(self._columns.shape[0] * self._columns.shape[2], dtype)
            self._dz = take((rows, panels[0] * panels[2]), dtype)
            self._dz_of_steps = self._dz.reshape(rows, 1, 1, self._dz.shape[1])
            self._sums = take((panels[0], inputs + 1, 4 * width), dtype)
            self._copies = take((_threads.get_num_threads(), gradients.SUMMED, gradients.CHUNK), dtype)
            self._tasks = panels[0] * gradients.most_chunks.py_func(inputs + 1)
            self._no_state = np.empty((rows, 1, 0), dtype), np.empty((rows, 0), dtype)
            self._no_other_states = np.empty((rows, 1, 0, 0), dtype)
            self._one_step = np.array((0, 1, 0, 1, rows, 0))
            self._no_weights = np.empty((outputs, 0), dtype)

    def load(self, W: Array, b: Array | None) -> None:
        """Bring the parameters into the kernels' layout."""
        run = runtime(self._dtype, parts(self.panels.shape[0], 4 * W.size))
        parallel.pack_dense(run, W, self._no_bias if b is None else b, self.panels, self._bias)

    def forward(self, x: Array, activation: int) -> Array:
        """Return y, in memory that the next pass overwrites."""
        parallel.dense(runtime(self._dtype, parts(x.shape[0], self._work)), x, self.panels, self._bias, self.y)
        if activation != activations.LINEAR:
            self.activate(activation, self.y)
        return self.y

    def activate(self, activation: int, out: Array) -> None:
        """Write the activation of y to `out`, which may be y."""
        run = elementwise(self.y.shape[0], self.y.size, self._dtype)
        parallel.activate(run, activation, self.y, out)

    def backward(
        self, x: Array, dy: Array, activation: int, W: Array, sums: tuple[Array, Array], dx: Array | None, add: bool
    ) -> None:
        """Write the gradients of the last forward pass.

        sums : gradients of W and b, with `add` accumulated into; dx : (R, K), or None to leave it out
        """
        (rows, outputs), dz = dy.shape, self._dz
        if activation == activations.LINEAR:
            dz[:, :outputs] = dy
            dz[:, outputs:] = 0
        else:
            parallel.differentiate(elementwise(rows, dy.size, self._dtype), activation, self.y, dy, dz)
        parallel.weight_gradients(
            runtime(self._dtype, min(parts(self._tasks, self._work), self._copies.shape[0])),
            self._one_step,
            _FULL,
            _ROWS,
            self._dz_of_steps,
            x.reshape(rows, 1, -1),
            *self._no_state,
            self._no_other_states,
            self._no_weights,
            self._sums,
            self._copies,
            sums[0],
            self._no_weights,
            sums[1],
            add,
        )
        if dx is not None:
            run = runtime(self._dtype, parts(rows, self._work), parts(self._columns.shape[0], 4 * W.size))
            parallel.dense_gradient(run, dz, W, _ORDER, self._columns, self._zeros, dx)


def drop(key: int, rate: float, x: Array, y: Array) -> None:
    """Write x (R, T, C) with dropout to y, which may be x; one mask (R, C), which `key` determines, for all steps."""
    parallel.drop(elementwise(x.shape[0], x.size, x.dtype), np.uint64(key), rate, x, y)


def gather(table: Array, indices: Array, y: Array) -> None:
    """Write the rows of the table (V, C) that `indices` (R,) names to y (R, C)."""
    parallel.gather(elementwise(indices.size, y.size // 4, y.dtype), table, indices, y)


def scatter(indices: Array, dy: Array, dtable: Array) -> None:
    """Add the rows of dy (R, C) to those of the table's gradient (V, C)."""
    parallel.scatter(elementwise(dtable.shape[1], dy.size, dy.dtype), indices, dy, dtable)
