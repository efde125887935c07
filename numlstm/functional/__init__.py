"""Recurrent layers as plain functions on arrays, for pipelines that bring their own parameters or automatic differentiation.

Strict: float32 or float64, and all arrays alike. Everything is batch-first; gates stand in the order i, f, g, o.
"""

from typing import TYPE_CHECKING, Any

from numlstm.jitting import (
    FGRState,
    GRUState,
    LSTMState,
    NormedState,
    ProjectedSLSTMState,
    ProjectedState,
    RNNState,
    SequenceState,
    SLSTMState,
)

from ._backward import Gradients, RNNGradients, lstm_backward, rnn_backward
from ._forward import RECOMPUTE as RECOMPUTE
from ._forward import LSTMOutput, RNNOutput, Tape, lstm, rnn
from ._options import RNNOptions
from ._packing import COMPUTE_DTYPES as COMPUTE_DTYPES
from ._packing import LSTMWeights, PackedWeights, jit, pack

if TYPE_CHECKING:
    from numlstm.backend import step

__all__ = [
    "FGRState",
    "GRUState",
    "Gradients",
    "LSTMOutput",
    "LSTMState",
    "LSTMWeights",
    "NormedState",
    "PackedWeights",
    "ProjectedSLSTMState",
    "ProjectedState",
    "RNNGradients",
    "RNNOptions",
    "RNNOutput",
    "RNNState",
    "SLSTMState",
    "SequenceState",
    "Tape",
    "jit",
    "lstm",
    "lstm_backward",
    "pack",
    "rnn",
    "rnn_backward",
    "step",
]


def __getattr__(name: str) -> Any:
    if name == "step":  # from where Numba is: importing this module does not import it
        from numlstm.backend import step

        return step
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
