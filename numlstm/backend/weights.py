"""A layer's weights in the kernels' layouts."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from numlstm._validate import Array
from numlstm._workspace import Take
from numlstm.kernels import cells, gradients, layout, options, parallel, target

from . import own
from .runtime import parts, runtime


class Kind(NamedTuple):
    """A cell, and what the passes need to know of it.

    rows, orders : as `parallel.pack_cell` wants them; gates : slots that the products with x and with h are added to
    first : first slot that has parameters; spread : vectors of hidden units in a panel of weights
    seen : how many arrays (N, H) the recurrent product sees, h and some of the other states
    second_rows : (3, slots), `rows` as they are for the gradients of the second product
    """

    cell: type[cells.Cell]
    rows: Array
    orders: tuple[Array, Array]
    gates: tuple[int, int]
    first: int
    spread: int
    seen: int
    second_rows: Array

    @property
    def products(self) -> tuple[int, int]:
        """How many multiply-adds a unit needs for each input feature, and for each hidden unit."""
        return self.gates[0], self.gates[1] * self.seen + bool(self.cell.second_product)

    @property
    def normalised(self) -> bool:
        """Whether the products are normalised (kernels.norm)."""
        return self.cell.base is not None

    @property
    def more_than_outputs(self) -> bool:
        """Whether outputs alone do not tell the gates."""
        return self.normalised or self.seen > 1 or bool(self.cell.second_product)

    def gradient_panels(self, hidden: int, dtype: np.dtype[Any], slots: int | None = None) -> int:
        """Return how many panels the slots with parameters make up, or so many slots, for the gradients of the weights."""
        by_slot: int = layout.padded(hidden, dtype) // target.lanes(dtype)
        return -(-by_slot * (int(self.cell.slots) - self.first if slots is None else slots) // 4)

    def parted(self, weights: Sequence[Array]) -> tuple[Array, Array, Array, Array, Array | None]:
        """Return W_ih, W_hh, b, p and the weights of the second product: views."""
        W_ih, W_hh, b, p, *W_p = weights
        if self.cell.second_product == "W_hh":
            rows = W_hh.shape[0] - W_hh.shape[1]
            return W_ih, W_hh[:rows], b, p, W_hh[rows:]
        return W_ih, W_hh, b, p, W_p[0] if W_p else None


@functools.cache
def kind_of(name: str) -> Kind:
    """Return the kind of cell of a name (kernels.cells.cell_type)."""
    own.define(name)
    cell = cells.cell_type(name)
    slots = [range(first, first + count) for first, count in (cell.x_slots, cell.h_slots)]
    x_order, h_order = (np.array([cell.rows[i, slot] for slot in slots[i]]) for i in range(2))
    gates = cell.x_slots[1], cell.h_slots[1]
    first = int(gradients.first_slot.py_func(cell.rows))
    second_rows = np.full_like(cell.rows, -1)
    second_rows[::2, cell.second_slot] = 0  # with weights and a bias, which nobody reads
    orders = x_order, h_order
    return Kind(cell, cell.rows, orders, gates, first, cells.spread_of(cell), 1 + cell.seen, second_rows)


def options_of(
    cell: cells.Cell, clip: float | None, zoneout: tuple[float, float], seed: int | None, mask: Array
) -> cells.Cell:
    """Return a cell with options (kernels.options.Options), or as it is where all of them are at rest.

    clip : None for no bound; zoneout : probabilities for h and for c; seed : of its masks, None for their expectation
    mask : (N, H), or (0, H) for none; it may change from pass to pass
    """
    if clip is None and not any(zoneout) and not mask.shape[0]:
        return cell
    with np.errstate(over="ignore"):  # a bound that no c can reach is none
        numbers = np.array([np.inf if clip is None else clip, *zoneout]).astype(mask.dtype)
    return cell._replace(options=options.Options(numbers, np.array([] if seed is None else [seed], np.uint64), mask))


Parameters = Sequence[Array]  # W_ih, W_hh (G H, K), b and peepholes p, in blocks of H rows; of a projected cell W_p (P, H)


class Weights:
    """Memory for the weights of one layer, I, H, in the kernels' layouts, and for sums of their gradients: for any batch.

    outputs : size of h, if it is not H
    cell : as the forward sweep reads them, once loaded
    columns : of W_ih and W_hh, for the backward sweep to fill; panels, copies : see `parallel.weight_gradients`
    peephole_sums : see `parallel.peephole_gradients`; nbytes : of all the memory taken
    second_columns, second_panels, second_bias : of the second product what columns, panels and a bias's gradient are of the
        others, if there is one
    """

    columns: tuple[Array, Array]
    panels: Array
    peephole_sums: Array
    second_columns: Array
    second_panels: Array
    second_bias: Array

    def __init__(
        self, kind: Kind, inputs: int, hidden: int, dtype: np.dtype[Any], take: Take, outputs: int | None = None
    ) -> None:
        outputs = hidden if outputs is None else outputs
        self._kind, self._sizes, self._dtype, self._take, self.nbytes = kind, (inputs, hidden, outputs), dtype, take, 0
        units, (x, h) = layout.padded(hidden, dtype), kind.gates
        self.cell = kind.cell(
            self._memory(layout.gate_panels_shape(hidden, inputs, x, kind.spread, dtype)),
            self._memory(layout.gate_panels_shape(hidden, outputs + hidden * (kind.seen - 1), h, kind.spread, dtype)),
            self._memory((kind.cell.slots, units)),
            self._memory((len(kind.cell.peepholes), units)),
        )
        if kind.cell.second_product:
            self.cell = self.cell._replace(second=self._memory(layout.row_panels_shape(outputs, hidden, dtype)))
        self.copies: Array | None = None

    def _memory(self, shape: tuple[int, ...], dtype: np.dtype[Any] | None = None) -> Array:
        array = self._take(shape, dtype or self._dtype)
        self.nbytes += array.nbytes
        return array

    def load(self, weights: Parameters) -> None:
        """Bring the weights into the layout of the forward sweep."""
        kind, cell = self._kind, self.cell
        if weights[0].dtype != self._dtype or weights[1].dtype != self._dtype:
            raise TypeError(f"weights must be {self._dtype}, not {weights[0].dtype} and {weights[1].dtype}")
        run = runtime(self._dtype, parts(cell.x.shape[0], 4 * (weights[0].size + weights[1].size)))
        if cell.second is not None:
            W_ih, W_hh, b, p, second = kind.parted(weights)
            assert second is not None
            parallel.pack_dense(run, second, second[0, :0], cell.second, second[0, :0])
            weights = W_ih, W_hh, b, p
        parallel.pack_cell(run, *weights, kind.rows, kind.orders, kind.spread, *cell[:4])

    def prepare_backward(self, parts: int, inputs_gradient: bool) -> None:
        """Take the memory of backward passes, if it is not there.

        parts : into how many the sums over the batch fall; inputs_gradient : whether there is a dx, each time the same
        """
        (inputs, hidden, outputs), dtype, width = self._sizes, self._dtype, target.lanes(self._dtype)
        if self.copies is None:
            x_rows, h_rows = (gates * hidden for gates in self._kind.gates)
            w = layout.column_panels_shape(x_rows, inputs, dtype) if inputs_gradient else (0, 0, 4 * width)
            kind, more = self._kind, self._kind.seen - 1
            of_set, *panel = layout.column_panels_shape(h_rows, outputs, dtype)
            self.columns = self._memory(w), self._memory(((1 + more) * of_set, *panel))
            rows = inputs + 1 + outputs + more * hidden
            self.panels = self._memory((kind.gradient_panels(hidden, dtype), rows, 4 * width))
            self.peephole_sums = self._memory(self.cell.p.shape)
            if self._kind.cell.second_product:
                self.second_columns = self._memory(layout.column_panels_shape(outputs, hidden, dtype))
                panels = self._kind.gradient_panels(outputs, dtype, 1)
                self.second_panels = self._memory((panels, hidden + 1, 4 * width))
                self.second_bias = self._memory((outputs,))
        elif self.copies.shape[0] < parts:
            self.nbytes -= self.copies.nbytes
            self.copies = None
        if self.copies is None:
            self.copies = self._memory((parts, gradients.SUMMED, gradients.CHUNK))

    def round(self) -> None:
        """Round both matrices of the cell to bfloat16, for inference; the recurrent one is then held as pairs."""
        x = self._memory(self.cell.x.shape)
        layout.unpair(layout.pair(self.cell.x), x)
        self.cell = self.cell._replace(x=x, h=_paired(self.cell.h, self._memory))

    def for_steps(self) -> cells.Cell:
        """Return the cell as `step` reads it: where the recurrent weights are pairs, the input weights are too."""
        cell = self.cell
        return cells.stamped(cell if cell.h.dtype == cell.x.dtype else cell._replace(x=_paired(cell.x, self._take)))


def _paired(panels: Array, take: Take) -> Array:
    pairs: Array = take((*panels.shape[:2], panels.shape[2] // 2), np.dtype(np.uint32))
    pairs[...] = layout.pair(panels)
    return pairs
