"""The bridge to the compiled kernels, and their only importer: lays out memory, chooses the split, calls.

Arrays that come in are checked already (`_validate`); nothing is checked here. What keeps memory from call to call gets it
from the function `take` that it is made with, and is good for batches of the one shape it was made for.
"""

from numlstm.kernels.step import step

from .feed import Feed
from .feedforward import ACTIVATIONS, Dense, drop, gather, scatter
from .moves import (
    VIEWS,
    Arena,
    add,
    add_loss,
    array,
    clear,
    converted,
    copy,
    cut,
    fill,
    host,
    joined,
    lengths,
    merge,
    narrow,
    place,
    returned,
    set_key,
    turn,
    unmerge,
    widen,
    zeros,
)
from .recurrent import Recurrent, States
from .runtime import describe
from .steps import batch_step, chain_step, dense_step, embedding_step, numbers_of_step, recurrent_step, work_sizes
from .training import LOSSES, RULES, SLOTS, Updates, norm, run_loss, shrink
from .weights import Kind, Parameters, Weights, kind_of, options_of

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "RULES",
    "SLOTS",
    "VIEWS",
    "Arena",
    "Dense",
    "Feed",
    "Kind",
    "Parameters",
    "Recurrent",
    "States",
    "Updates",
    "Weights",
    "add",
    "add_loss",
    "array",
    "batch_step",
    "chain_step",
    "clear",
    "converted",
    "copy",
    "cut",
    "dense_step",
    "describe",
    "drop",
    "embedding_step",
    "fill",
    "gather",
    "host",
    "joined",
    "kind_of",
    "lengths",
    "merge",
    "narrow",
    "norm",
    "numbers_of_step",
    "options_of",
    "place",
    "recurrent_step",
    "returned",
    "run_loss",
    "scatter",
    "set_key",
    "shrink",
    "step",
    "turn",
    "unmerge",
    "widen",
    "work_sizes",
    "zeros",
]
