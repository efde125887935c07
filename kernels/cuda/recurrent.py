"""The passes of one layer: which kernels, with how many blocks, in which order."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numlstm.kernels.cells import cell_type

from . import registers
from .elementwise import THREADS
from .gradients import WeightGradients, sums_shapes
from .layer import GROUPS, Gradients, Layer, Weights
from .layer_kernels import ROWS_TILE, TILE, Kernels, in_registers, is_plain, kernels
from .norm import products_of
from .product import Tile
from .replay import Replay
from .tensor import FORMATS

__all__ = [
    "SWEEPS",
    "Dense",
    "Gradients",
    "Kernels",
    "Layer",
    "Recurrent",
    "Tile",
    "WeightGradients",
    "Weights",
    "kernels",
    "products_of",
    "sums_shapes",
]

TENSOR_TILE = Tile(16, 8, 8, 32)  # of products on tensor cores, whatever the precision


Launches = Iterator[tuple[str, tuple[int, ...], tuple[Any, ...]]]  # of kernels by name: blocks, arguments


class Sweep(NamedTuple):
    """A way through the steps.

    units : up to how many it is taken if none is asked for, by the precision of products; tile : of a block's products
    """

    units: dict[str | None, float]
    tile: Tile | None = None


# The first that will do is taken. None of this has been measured on a GPU: the reasons are counts of bytes, registers and
# launches. To come, when a GPU has shown the need: a cluster of blocks that holds the weights of up to 512 units, and a
# cooperative grid.
SWEEPS = {
    # One launch: a block takes eight sequences through all steps, on tensor cores, with the recurrent weights in registers:
    # for so many units they are 64 a thread forward and 128 back. With 96 in tf32 168 bytes were spilled. For cells that
    # `registers.holds`, without options.
    "registers": Sweep({"bfloat16": 128, "tf32": 64}),
    # One launch: a block takes eight sequences through all steps, and reads all recurrent weights at each. Up to 128 units
    # these are 256 KB, which the L2 cache delivers in less time than a launch takes. Recurrent products are exact here. For
    # cells with one product a step that is not normalised: a second one would need as much shared memory again, of which
    # float64 back takes 34 of 48 KB.
    "rows": Sweep({None: 128}, ROWS_TILE),
    # The launches of "steps" as a graph, which spares the host all but one from the third pass over the same arrays on. Only
    # if asked for, until a GPU has shown it.
    "graph": Sweep({}, TILE),
    # A launch a step, and one more for a second product and for normalised ones.
    "steps": Sweep(dict.fromkeys((None, *FORMATS), math.inf), TILE),
}


def sweep_of(units: int, precision: str | None = None, apart: tuple[str, ...] = ()) -> str:
    """Return the name of the sweep for so many hidden units and a precision of products, of FORMATS or None.

    apart : those that will not do
    """
    sweeps = ((name, sweep.units.get(precision, 0)) for name, sweep in SWEEPS.items() if name not in apart)
    return next(name for name, most in sweeps if units <= most)


def _blocks(elements: int, each: int) -> int:
    return -(-elements // each)


def rounding(dtype, precision: str | None) -> str | None:
    """Return the name of the tensor cores' format for a precision of products, None for numbers of dtype as they are."""
    exact = np.dtype(dtype).name
    known = (exact, *FORMATS) if exact == "float32" else (exact,)
    if precision is not None and precision not in known:
        raise ValueError(f"precision: expected {' or '.join(known)} for a layer in {exact}, got {precision!r}")
    return None if precision == exact else precision


def tiles(name: str, rounding: str | None = None) -> tuple[Tile, Tile]:
    """Return the tile of a block and that of one that goes through all steps, for a cell and `rounding`."""
    general, of_rows = TENSOR_TILE if rounding else TILE, SWEEPS["rows"].tile
    if cell_type(name).h_slots[1] > GROUPS:  # there are no registers and no shared memory for more
        general, of_rows = general._replace(rows=4, depth=16), of_rows._replace(across=of_rows.across // 2)
    return general._replace(precision=rounding), of_rows


class _Products:
    """The launches of the products that a layer has outside of its steps, all on one stream: nothing waits for them."""

    def __init__(
        self, name: str, dtype, tile: Tile | None, stream: Any, precision: str | None, options: bool = False
    ) -> None:
        tensor = rounding(dtype, precision)
        self._tile, self._rows_tile = (tile._replace(precision=tensor), tile) if tile else tiles(name, tensor)
        self._stream = stream
        self._kernels = kernels(name, dtype, self._tile, self._rows_tile, options)

    def _launch(self, kernel: str, blocks: tuple[int, ...], *arguments: Any, stream: Any = None) -> None:
        tile = self._rows_tile if kernel.endswith("rows") else self._tile
        if all(blocks):
            threads = THREADS if kernel.endswith("sums") else tile.threads
            getattr(self._kernels, kernel)[blocks, threads, self._stream if stream is None else stream](*arguments)

    def _tiles(self, rows: int, columns: int, groups: int = GROUPS) -> tuple[int, int]:
        """Return the blocks of a product with so many groups of columns a thread."""
        return _blocks(rows, self._tile.height), _blocks(columns, groups * self._tile.across)

    def _inputs(self, cell: Any, layer: Layer) -> None:
        batch, steps, _, units = layer.z.shape
        self._launch("input_product", self._tiles(batch * steps, units, 1), cell, layer)

    def _gradients(self, cell: Any, layer: Layer, inner: Gradients, outer: WeightGradients, add: bool) -> None:
        batch, steps, inputs = layer.x.shape
        if inner.dx.shape[2]:
            self._launch("input_gradient", self._tiles(batch * steps, inputs), cell, layer, inner)
        parts, slots, units, columns = outer.sums.shape
        self._launch("weight_products", (*self._tiles(slots * units, columns), parts), cell.options, layer, outer)
        self._launch("weight_sums", (_blocks(slots * units * columns, THREADS),), outer, add)


class Recurrent(_Products):
    """The passes of a recurrent layer.

    name : of the cell; dtype : numpy.float32 or numpy.float64; stream : that all launches go to
    sweep : one of SWEEPS, None for the one that its number of units suggests; tile : of all products, in tests. "registers"
        is for tensor cores, without options, and for cells that registers.holds; it and "rows" for those that `is_plain`
    precision : of products: "float32" or "float64", that of dtype, for which None stands too; or, for float32 on tensor
        cores (compute capability 8.0), "tf32" or "bfloat16", to which factors are rounded; sums, and all else, are in dtype
    options : whether cells come with options (kernels.options), in which the mask may change from pass to pass
    """

    def __init__(
        self,
        name: str,
        dtype,
        sweep: str | None = None,
        tile: Tile | None = None,
        stream: Any = 0,
        precision: str | None = None,
        options: bool = False,
    ) -> None:
        super().__init__(name, dtype, tile, stream, precision, options)
        self._kind, self._name, self._sweep = cell_type(name), name, sweep
        plain = is_plain(self._kind)
        held = plain and self._tile.precision and not options and registers.holds(self._kind)
        self._replay = Replay()
        self._apart = () if held else ("registers",) if plain else ("registers", "rows")
        if sweep in self._apart:
            needs = "tensor cores and " if sweep == "registers" else ""
            raise ValueError(f"sweep: {sweep!r} needs {needs}a plain cell, got precision {precision!r}, {name}")

    def _sweep_for(self, units: int) -> str:
        return self._sweep or sweep_of(units, self._tile.precision, self._apart)

    def check(self, units: int) -> None:
        """Refuse more hidden units than there are registers for, if that sweep was asked for."""
        most = SWEEPS["registers"].units.get(self._tile.precision, 0)
        if self._sweep == "registers" and units > most:
            raise ValueError(f"sweep: 'registers' is for up to {most} units in {self._tile.precision}, not {units}")

    def forward(self, cell: Any, layer: Layer) -> None:
        """Run the layer over time: write y, h, c and z, and u and scale where there are such."""
        batch, _, _, units = layer.z.shape
        sweep = self._sweep_for(units)
        self._inputs(cell, layer)
        if sweep == "registers":
            self._launch_in_registers(0, registers.forward_threads, cell, layer)
        elif sweep == "rows":
            self._launch("forward_rows", (_blocks(batch, self._rows_tile.height),), cell, layer)
        else:
            self._steps(sweep, self._steps_forward(cell, layer), "forward", cell, layer)

    def _steps(self, sweep: str, order: Launches, *which: Any) -> None:
        """Launch kernels (name, blocks, arguments), one by one or as a graph, of the pass that is `which`."""

        def launches(stream: Any) -> None:
            for kernel, blocks, arguments in order:
                self._launch(kernel, blocks, *arguments, stream=stream)

        if sweep == "graph":
            self._replay(launches, self._stream, *which)
        else:
            launches(self._stream)

    def _steps_forward(self, cell: Any, layer: Layer) -> Launches:
        """Yield all launches of the steps forward."""
        batch, steps, _, units = layer.z.shape
        for t in range(steps):
            arguments = cell, layer, t
            yield "forward_step", self._tiles(batch, units, 1), arguments
            if self._kind.base:
                yield "normalise_step", (batch,), arguments
            if self._kind.second_product:
                yield "second_step", self._tiles(batch, layer.y.shape[2], 1), arguments
            if self._kind.second_slot:
                yield "normalise_second_step", (batch,), arguments

    def _steps_back(self, cell: Any, layer: Layer, inner: Gradients) -> Launches:
        """Yield all launches of the steps back, to what was before the first one."""
        kind, (batch, steps, _, units) = self._kind, layer.z.shape
        blocks = self._tiles(batch, units if kind.seen else layer.y.shape[2])
        for t in range(steps - 1, -1, -1):
            arguments = cell, layer, inner, t
            yield "backward_step", blocks, arguments
            if kind.second_slot:
                yield "differentiate_second_step", (batch,), arguments
            if kind.second_product:
                yield "second_backward_step", self._tiles(batch, units), arguments
            if kind.base:
                yield "differentiate_step", (batch,), arguments
        yield "backward_step", blocks, (cell, layer, inner, -1)

    def _launch_in_registers(self, which: int, threads: Any, cell: Any, layer: Layer, *more: Any) -> None:
        batch, _, units = layer.y.shape
        width = registers.padded(units)
        if batch:
            kernel = in_registers(self._name, self._tile.precision, width)[which]
            kernel[(_blocks(batch, registers.ROWS),), threads(width), self._stream](cell, layer, *more)

    def backward(self, cell: Any, layer: Layer, inner: Gradients, outer: WeightGradients, add: bool) -> None:
        """Run the layer back through time, after `forward`, once: overwrite z, dh and dc; write dx and the weights'.

        add : whether to accumulate into the weights' gradients
        """
        kind, (batch, _, slots, units), outputs = self._kind, layer.z.shape, layer.y.shape[2]
        sweep = self._sweep_for(units)
        if sweep == "registers":
            self._launch_in_registers(1, registers.backward_threads, cell, layer, inner)
        elif sweep == "rows":
            self._launch("backward_rows", (_blocks(batch, self._rows_tile.height),), cell, layer, inner)
        else:
            self._steps(sweep, self._steps_back(cell, layer, inner), "backward", cell, layer, inner)
        self._gradients(cell, layer, inner, outer, add)
        if kind.second_product:
            parts = outer.second_sums.shape[0]
            self._launch("second_products", (*self._tiles(outputs, units), parts), layer, outer)
            elements = _blocks(outputs * units, THREADS)
            self._launch("second_sums", (elements,), outer.second_sums, outer.second, add)
        if kind.base:
            self._launch("norm_sums", (_blocks(slots * units, THREADS),), layer.lengths, inner.norm, outer.b, add)
        if len(kind.peepholes):
            self._launch("peephole_sums", (_blocks(units, THREADS), len(kind.peepholes)), layer, outer, add)


class Dense(_Products):
    """The passes of a dense layer before its activation: a slot of C units that is never anything but a product.

    Of a Layer they take x (1, R, I), lengths (1,), which is R, and z (1, R, 1, C), the result, and later its gradient; of
    all others the sizes, with no hidden units. cell : RNN_of_linear of W (C, I), (C, 0), b (1, C), (0,)
    Arguments are those of Recurrent.
    """

    def __init__(self, dtype, tile: Tile | None = None, stream: Any = 0, precision: str | None = None) -> None:
        super().__init__("RNN_of_linear", dtype, tile, stream, precision)

    forward, backward = _Products._inputs, _Products._gradients
