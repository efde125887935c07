"""A layer's weights in the kernels' layouts."""

from typing import Any

import numpy as np

from numlstm._validate import Array
from numlstm._workspace import Take
from numlstm.kernels import cells, gradients, layout, parallel, target

from .runtime import parts, runtime


class Weights:
    """Memory for the weights of one layer, I, H, in the kernels' layouts, and for sums of their gradients: for any batch.

    cell : as the forward sweep reads them, once loaded
    columns : of W_ih and W_hh, for the backward sweep to fill; panels, copies : see `parallel.weight_gradients`
    nbytes : of all the memory taken
    """

    columns: tuple[Array, Array]
    panels: Array

    def __init__(self, inputs: int, hidden: int, dtype: np.dtype[Any], take: Take) -> None:
        self._sizes, self._dtype, self._take, self.nbytes = (inputs, hidden), dtype, take, 0
        self.cell = cells.LSTM(
            self._memory(layout.gate_panels_shape(hidden, inputs, dtype), dtype),
            self._memory(layout.gate_panels_shape(hidden, hidden, dtype), dtype),
            self._memory((4, layout.padded(hidden, dtype)), dtype),
        )
        self.copies: Array | None = None

    def _memory(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        array = self._take(shape, dtype)
        self.nbytes += array.nbytes
        return array

    def load(self, W_ih: Array, W_hh: Array, b: Array) -> None:
        """Bring the weights into the layout of the forward sweep."""
        most = parts(self.cell.x.shape[0], 4 * (W_ih.size + W_hh.size))
        parallel.pack_cell(runtime(self._dtype, most), W_ih, W_hh, b, self.cell)

    def prepare_backward(self, parts: int, inputs_gradient: bool) -> None:
        """Take the memory of backward passes, if it is not there.

        parts : into how many the sums over the batch fall; inputs_gradient : whether there is a dx, each time the same
        """
        (inputs, hidden), dtype, width = self._sizes, self._dtype, target.lanes(self._dtype)
        if self.copies is None:
            w = layout.column_panels_shape(4 * hidden, inputs, dtype) if inputs_gradient else (0, 0, 4 * width)
            u = layout.column_panels_shape(4 * hidden, hidden, dtype)
            self.columns = self._memory(w, dtype), self._memory(u, dtype)
            self.panels = self._memory((-(-hidden // width), inputs + hidden + 1, 4 * width), dtype)
        elif self.copies.shape[0] < parts:
            self.nbytes -= self.copies.nbytes
            self.copies = None
        if self.copies is None:
            self.copies = self._memory((parts, gradients.SUMMED, gradients.CHUNK), dtype)
