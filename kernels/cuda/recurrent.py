"""The passes of one recurrent layer: which kernels, with how many blocks, in which order."""

import functools
from typing import Any, NamedTuple

from numlstm.kernels.cells import cell_type

from . import gradients, sweeps
from .gradients import THREADS, WeightGradients, chunks
from .product import Tile
from .sweeps import GROUPS, Gradients, Layer

__all__ = ["Gradients", "Kernels", "Layer", "Recurrent", "Tile", "WeightGradients", "chunks", "kernels"]

TILE = Tile()


class Kernels(NamedTuple):
    """All kernels of a cell for one dtype, compiled at their first launch."""

    input_product: Any
    forward_step: Any
    backward_step: Any
    input_gradient: Any
    weight_products: Any
    weight_sums: Any
    peephole_sums: Any


@functools.cache
def kernels(name: str, dtype, tile: Tile = TILE) -> Kernels:
    """Return the kernels of a cell (cells.cell_type) for float32 or float64."""
    kind = cell_type(name)
    of_sweeps = sweeps.input_product, sweeps.forward_step, sweeps.backward_step, sweeps.input_gradient
    return Kernels(
        *(make(kind, dtype, tile) for make in of_sweeps),
        gradients.weight_products(kind, dtype, tile),
        gradients.weight_sums(kind, dtype),
        gradients.peephole_sums(kind, dtype),
    )


def _blocks(elements: int, each: int) -> int:
    return -(-elements // each)


class Recurrent:
    """The launches of a layer's passes, all on one stream: nothing waits, and nothing comes back to the host.

    name : of the cell; dtype : numpy.float32 or numpy.float64; tile : of all products
    """

    def __init__(self, name: str, dtype, tile: Tile = TILE, stream: Any = 0) -> None:
        self._kernels, self._tile, self._stream = kernels(name, dtype, tile), tile, stream
        self._peepholes = len(cell_type(name).peepholes)

    def _launch(self, kernel: str, blocks: tuple[int, ...], *arguments: Any) -> None:
        if all(blocks):
            threads = THREADS if kernel.endswith("sums") else self._tile.threads
            getattr(self._kernels, kernel)[blocks, threads, self._stream](*arguments)

    def _tiles(self, rows: int, columns: int, groups: int = GROUPS) -> tuple[int, int]:
        """Return the blocks of a product with so many groups of columns a thread."""
        return _blocks(rows, self._tile.height), _blocks(columns, groups * self._tile.across)

    def forward(self, cell: Any, layer: Layer) -> None:
        """Run the layer over time: write y, h, c and z."""
        batch, steps, units = layer.y.shape
        self._launch("input_product", self._tiles(batch * steps, units, 1), cell, layer)
        for t in range(steps):
            self._launch("forward_step", self._tiles(batch, units, 1), cell, layer, t)

    def backward(
        self,
        cell: Any,
        layer: Layer,
        inner: Gradients,
        outer: WeightGradients,
        add: bool,
    ) -> None:
        """Run the layer back through time, after `forward`, once: overwrite z, dh and dc; write dx and the weights'.

        add : whether to accumulate into the weights' gradients
        """
        batch, steps, units = layer.y.shape
        for t in range(steps - 1, -2, -1):
            self._launch("backward_step", self._tiles(batch, units), cell, layer, inner, t)
        self._launch("input_gradient", self._tiles(batch * steps, layer.x.shape[2]), cell, layer, inner)
        parts, slots, _, columns = outer.sums.shape
        self._launch("weight_products", (*self._tiles(slots * units, columns), parts), layer, outer)
        self._launch("weight_sums", (_blocks(slots * units * columns, THREADS),), outer, add)
        if self._peepholes:
            self._launch("peephole_sums", (_blocks(units, THREADS), self._peepholes), layer, outer, add)
