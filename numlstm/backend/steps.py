"""Parameters of layers and models as `step` reads them: copies."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from numlstm._validate import Array
from numlstm._workspace import aligned_empty
from numlstm.kernels import chain

from .feedforward import Dense
from .weights import Parameters, Weights, kind_of


def recurrent_step(name: str, weights: Parameters) -> Any:
    """Return the parameters of a recurrent layer with a cell of this name (kernels.cells.cell_type)."""
    (_, inputs), hidden = weights[0].shape, weights[1].shape[1]
    packed = Weights(kind_of(name), inputs, hidden, weights[0].dtype, aligned_empty)
    packed.load(weights)
    return packed.for_steps()


def dense_step(W: Array, b: Array | None, activation: str) -> Any:
    """Return the parameters of a dense layer, W (C, K), b (C,)."""
    passes = Dense(1, W.shape[1], W.shape[0], W.dtype, False, aligned_empty)
    passes.load(W, b)
    return chain.stamped(f"Dense_of_{activation}", passes.panels, np.zeros(len(W), W.dtype) if b is None else b.copy())


def embedding_step(table: Array) -> Any:
    """Return the parameters of an embedding, table (V, C)."""
    return chain.stamped("Embedding", table.copy())


def chain_step(layers: Iterable[Any]) -> Any:
    """Return the parameters of a model from those of its layers."""
    return chain.stamped("Chain", tuple(layers))
