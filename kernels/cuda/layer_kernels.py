"""The kernels of a recurrent layer's passes, by name."""

import functools
from typing import Any, NamedTuple

from numlstm.kernels.cells import Cell, cell_type

from . import backward, forward, gradients, inputs, norm, registers
from .product import Tile

TILE = Tile()
ROWS_TILE = Tile(64, 4, 2, 16)  # of a block that goes through all steps


class Kernels(NamedTuple):
    """All kernels of a cell for one dtype, compiled at their first launch; None for those that it has no need of."""

    input_product: Any
    forward_step: Any
    forward_rows: Any
    normalise_step: Any
    second_step: Any
    normalise_second_step: Any
    backward_step: Any
    backward_rows: Any
    differentiate_second_step: Any
    second_backward_step: Any
    differentiate_step: Any
    input_gradient: Any
    weight_products: Any
    weight_sums: Any
    second_products: Any
    second_sums: Any
    norm_sums: Any
    peephole_sums: Any


@functools.cache
def kernels(name: str, dtype, tile: Tile = TILE, rows_tile: Tile = ROWS_TILE, options: bool = False) -> Kernels:
    """Return the kernels of a cell (cells.cell_type) for float32 or float64.

    tile : of a block, rows_tile : of one that goes through all steps; options : whether cells come with options
    """
    kind = cell_type(name)
    plain, second, normed = is_plain(kind), bool(kind.second_product), bool(kind.base)
    of_tile, threads = (kind, dtype, tile), tile.threads
    return Kernels(
        inputs.input_product(*of_tile),
        forward.forward_step(*of_tile, options),
        forward.forward_rows(kind, dtype, rows_tile, options) if plain else None,
        norm.normalise_step(kind, dtype, threads, options) if normed else None,
        forward.second_step(*of_tile, options) if second else None,
        norm.normalise_second_step(kind, dtype, threads, options) if kind.second_slot else None,
        backward.backward_step(*of_tile, options),
        backward.backward_rows(kind, dtype, rows_tile, options) if plain else None,
        norm.differentiate_second_step(kind, dtype, threads) if kind.second_slot else None,
        backward.second_backward_step(*of_tile, options) if second else None,
        norm.differentiate_step(kind, dtype, threads) if normed else None,
        inputs.input_gradient(*of_tile),
        gradients.weight_products(*of_tile, options),
        gradients.weight_sums(kind),
        gradients.second_products(*of_tile) if second else None,
        gradients.second_sums() if second else None,
        norm.norm_sums(kind, dtype) if normed else None,
        gradients.peephole_sums(kind, dtype, options) if len(kind.peepholes) else None,
    )


def is_plain(kind: type[Cell]) -> bool:
    """Return whether a step of a cell has one product, which is not normalised."""
    return not kind.second_product and kind.base is None


@functools.cache
def in_registers(name: str, precision: str, width: int) -> tuple[Any, Any]:
    """Return the kernels forward and back of a cell whose recurrent weights, for `width` padded units, are in registers."""
    kind = cell_type(name)
    return registers.forward_registers(kind, precision, width), registers.backward_registers(kind, precision, width)
