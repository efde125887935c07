"""Models from ONNX."""

import os

import numpy as np
import onnx

from numlstm.interop._parts import refuse, sequential
from numlstm.models import Sequential

from ._chain import Chain


def from_model(model: onnx.ModelProto | str | os.PathLike[str]) -> Sequential:
    """Return a model with the layers and weights of an ONNX model whose graph is a chain of layers.

    Those are LSTM, GRU and RNN nodes with what numlstm's cells have, Gather from a table, MatMul or Gemm with Add and
    activations behind, and the Transpose, Squeeze, Reshape, Gather, Slice and Concat nodes between them that change the
    order of axes, pass on the last step, or bring both directions together; first states may be zeros. A second input of
    the graph may be the sequence_lens of all recurrent nodes: they become the `lengths` of `predict`. `Backend` runs any
    graph of the nodes that it knows.

    Parameters
    ----------
    model : onnx.ModelProto or path

    Returns
    -------
    Sequential
        In float64 if the graph's output is, else in float32. It takes and returns sequences batch-first, (N, T, F), also
        where the graph has steps first.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        For what is not such a chain; the message names all of it.
    """
    if isinstance(model, (str, os.PathLike)):
        model = onnx.load(os.fspath(model))
    if not isinstance(model, onnx.ModelProto):
        raise TypeError(f"model must be an onnx.ModelProto or the path of a file, not {type(model).__name__}")
    chain = Chain(model)
    refuse("numlstm cannot take over this ONNX model", chain.problems or ([] if chain.parts else ["it has no layers"]))
    double = model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.DOUBLE
    return sequential(chain.parts, np.dtype(np.float64 if double else np.float32), chain.rank == 3)
