"""The bridge to the compiled kernels, and their only importer: lays out memory, chooses the split, calls.

Arrays that come in are checked already (`_validate`); nothing is checked here. What keeps memory from call to call gets it
from the function `take` that it is made with, and is good for batches of the one shape it was made for.
"""

from numlstm.kernels.step import step

from .feedforward import ACTIVATIONS, Dense, drop, gather, scatter
from .recurrent import Recurrent, States
from .runtime import describe
from .steps import batch_step, chain_step, dense_step, embedding_step, recurrent_step
from .training import LOSSES, RULES, SLOTS, Updates, norm, run_loss, shrink
from .weights import Kind, Parameters, Weights, kind_of, options_of

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "RULES",
    "SLOTS",
    "Dense",
    "Kind",
    "Parameters",
    "Recurrent",
    "States",
    "Updates",
    "Weights",
    "batch_step",
    "chain_step",
    "dense_step",
    "describe",
    "drop",
    "embedding_step",
    "gather",
    "kind_of",
    "norm",
    "options_of",
    "recurrent_step",
    "run_loss",
    "scatter",
    "shrink",
    "step",
]
