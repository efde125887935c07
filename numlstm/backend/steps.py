"""Parameters of layers and models as `step` reads them: copies."""

from collections.abc import Iterable
from typing import Any

import numba
import numpy as np

from numlstm._validate import Array
from numlstm._workspace import aligned_empty
from numlstm.kernels import chain, layout, norm
from numlstm.kernels.stream import stream

from .feedforward import Dense
from .runtime import compiled_for
from .weights import Parameters, Weights, kind_of, options_of


def recurrent_step(name: str, weights: Parameters, clip: float | None, zoneout: tuple[float, float]) -> Any:
    """Return the parameters of a recurrent layer with a cell of this name (kernels.cells.cell_type) and options."""
    kind, inputs = kind_of(name), weights[0].shape[1]
    outputs = weights[1].shape[1] // kind.seen
    hidden = weights[4].shape[1] if len(weights) > 4 else outputs
    packed = Weights(kind, inputs, hidden, weights[0].dtype, aligned_empty, outputs)
    packed.load(weights)
    none = np.empty((0, outputs), weights[0].dtype)
    packed.cell = options_of(packed.cell, clip, zoneout, None, none)
    return packed.for_steps()


def work_sizes(params: Any) -> tuple[int, ...]:
    """Return the sizes of the arrays that a recurrent layer's step works in, none for a cell with one product."""
    if params.second is None:
        return ()
    slots, units = params.b.shape
    numbers = slots * units if params.base is None else int(norm.numbers_of_step(slots, units))
    return params.second.shape[1], numbers


def numbers_of_step(name: str, units: int, dtype: np.dtype[Any]) -> int:
    """Return how many numbers a step works on beside states and work, of a cell whose products are normalised."""
    cell = kind_of(name).cell
    return 0 if cell.second_product else int(norm.numbers_of_step(cell.slots, layout.padded(units, dtype)))


def dense_step(W: Array, b: Array | None, activation: str) -> Any:
    """Return the parameters of a dense layer, W (C, K), b (C,)."""
    passes = Dense(1, W.shape[1], W.shape[0], W.dtype, False, aligned_empty)
    passes.load(W, b)
    return chain.stamped(f"Dense_of_{activation}", passes.panels, np.zeros(len(W), W.dtype) if b is None else b.copy())


def embedding_step(table: Array, first: int) -> Any:
    """Return the parameters of an embedding, table (V, C), of numbers from `first` on."""
    return chain.stamped(f"Embedding_of_{first}", table.copy())


def batch_step(params: Any, states: Any, x: Array, y: Array) -> Any:
    """Return kernels.stream.stream compiled for arguments of these types (runtime.compiled_for)."""
    types = tuple(numba.typeof(argument) for argument in (params, states, x, y))
    return compiled_for(stream, types, params, states, x, y)


def chain_step(layers: Iterable[Any]) -> Any:
    """Return the parameters of a model from those of its layers."""
    return chain.stamped("Chain", tuple(layers))
