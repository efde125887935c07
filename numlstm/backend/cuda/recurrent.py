"""The recurrent layers' passes over a batch on a GPU: what `numlstm.backend.recurrent` is for the CPU."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from numlstm._workspace import Take
from numlstm.backend.weights import Kind

if TYPE_CHECKING:
    from .arrays import DeviceArray
    from .device import Cuda


class Cell:
    """A cell's weights as the kernels take them, once loaded, with options (kernels.options.Options) or None."""

    weights: Any = None
    options: Any = None


class Weights:
    """The weights of one layer as the kernels read them: as they are."""

    def __init__(
        self,
        device: "Cuda",
        kind: Kind,
        inputs: int,
        hidden: int,
        dtype: np.dtype[Any],
        take: Take,
        outputs: int | None = None,
    ) -> None:
        self._device, self._kind, self._hidden = device, kind, hidden
        self._none = device.empty((0,), dtype)
        self.cell = Cell()

    def load(self, weights: Sequence["DeviceArray"]) -> None:
        """Take over the weights that there are now."""
        *four, second = self.arranged(weights)
        self.cell.weights = self._device.recurrent.Weights(*four, self.cell.options or (), second)

    def arranged(self, weights: Sequence["DeviceArray"]) -> tuple[Any, ...]:
        """Return W_ih, W_hh, b (blocks, H), p and those of the second product, or (), from weights, or their gradients."""
        W_ih, W_hh, b, p, second = self._kind.parted(weights)
        biases = b.reshape(b.size // self._hidden, self._hidden)
        return W_ih, W_hh, biases, p if p.size else self._none, () if second is None else second

    def prepare_backward(self, parts: int, inputs_gradient: bool) -> None:
        """Do nothing: what the CPU packs is read as it is."""


class Recurrent:
    """The passes of one layer over batches of one shape, N, T, I, H; arguments are those of the CPU's."""

    summing = 1

    def __init__(
        self,
        device: "Cuda",
        kind: Kind,
        sizes: tuple[int, int, int, int],
        dtype: np.dtype[Any],
        keep: bool,
        take: Take,
        *,
        ragged: bool = False,
        options: bool = False,
        outputs: int | None = None,
    ) -> None:
        batch, steps, inputs, hidden = self._sizes = sizes
        outputs = self._outputs = hidden if outputs is None else outputs
        self._device, self._kind, self._dtype = device, kind.cell, dtype
        self._passes = device.passes(kind.cell.__name__, dtype, options)
        states, slots = kind.cell.states + options, kind.cell.slots
        self._in_c, second, normed = states, bool(kind.cell.second_product), kind.normalised
        self._c = take((batch, steps + 1, states, hidden), dtype)
        self._z = take((batch, steps, slots, hidden), dtype)
        self._u = take((batch, steps, hidden), dtype) if second else ()
        self._scale = take((batch, steps, len(device.recurrent.products_of(kind.cell))), dtype) if normed else ()
        self._layer: Any = None
        if keep:
            self._dh, self._dc = take((batch, outputs), dtype), take((batch, states, hidden), dtype)
            self._du = take((batch, hidden), dtype) if second else ()
            self._norm = take((batch, slots, hidden), dtype) if normed else ()
            columns = inputs + outputs + hidden * kind.cell.seen
            shapes = device.recurrent.sums_shapes(kind.cell, batch, columns, hidden, outputs)
            self._sums, self._second_sums = take(shapes[0], dtype), take(shapes[1], dtype) if second else ()

    def forward(
        self,
        cell: Cell,
        x: Any,
        first: Any,
        y: Any,
        last: tuple[Any, ...],
        lengths: Any = None,
        outside: tuple[int, int] = (0, 0),
    ) -> None:
        """Write y (N, T, H) and the states after the last step to `last`; past its length y is 0.

        outside : as in kernels.cuda.layer.Layer
        """
        device, (batch, steps, _, hidden) = self._device, self._sizes
        zero, zero_h = (device.constant((batch, size), self._dtype) for size in (hidden, self._outputs))
        states = (zero_h, *(zero,) * self._kind.states) if first is None else tuple(first)
        device.copy(states[0], last[0])
        self._of_step(0, self._inner(states), False)
        lengths = device.full(x) if lengths is None else lengths
        memory = self._c, self._z, self._u, self._scale
        self._layer = device.recurrent.Layer(x, states[0], lengths, y, last[0], *memory, outside)
        self._passes.forward(cell.weights, self._layer)
        self._of_step(steps, last[1:], True)

    def _inner(self, states: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the states that stand in c, from h and those behind it."""
        inner = self._kind.states
        return (*states[1:inner], states[0]) if self._kind.h_is_state else states[1 : inner + 1]

    def _of_step(self, t: int, states: tuple[Any, ...], out: bool) -> None:
        """Copy states (N, H) to their places in c before step t, or from there."""
        steps, hidden, count = self._sizes[1], self._sizes[3], self._in_c
        for k, state in enumerate(states):
            here, there = ((t * count + k) * hidden, (steps + 1) * count * hidden), (0, hidden)
            if out:
                self._device.copy_rows(self._c, here, state, there, self._sizes[0], hidden)
            else:
                self._device.copy_rows(state, there, self._c, here, self._sizes[0], hidden)

    def backward(
        self,
        packed: Weights,
        weights: Sequence[Any],
        inputs: tuple[Any, Any, Any],
        upstream: tuple[Any, Any],
        dx: Any,
        first: None,
        sums: Sequence[Any],
        add: bool,
    ) -> None:
        """Write the gradients of the last forward pass, once."""
        dy, last = upstream
        self.begin_backward(last)
        self.back(packed, dy, dx, sums, add)

    def begin_backward(self, last: Any) -> None:
        """Begin with the gradients of the last states, None for zero."""
        self._device.fill(self._dc, 0)
        if last is None:
            self._device.fill(self._dh, 0)
        else:
            self._device.copy(last[0], self._dh)

    def back(self, packed: Weights, dy: Any, dx: Any, sums: Sequence[Any], add: bool) -> None:
        """Go back through the last forward pass; then gradients of the states before it are where those of the last were."""
        parts = self._device.recurrent
        if dy is None:
            dy = self._device.constant(self._layer.y.shape, self._dtype)
        inner = parts.Gradients(dy, self._dh, self._dc, dx, self._du, self._norm)
        *four, second = packed.arranged(sums)
        outer = parts.WeightGradients(*four, self._sums, second, self._second_sums)
        self._passes.backward(packed.cell.weights, self._layer, inner, outer, add)

    def carry(self) -> None:
        """Let the gradients of the states before the last pass be those of the last states of another one."""
        if self._kind.h_is_state:  # its gradient is in dh, all of it
            batch, _, _, hidden = self._sizes
            zero, place = self._device.constant((batch, hidden), self._dtype), (self._kind.states - 1) * hidden
            self._device.copy_rows(zero, (0, hidden), self._dc, (place, self._in_c * hidden), batch, hidden)
