"""Layers, by the names that Keras has for them."""

from .base import Input, InputLayer, Layer
from .bidirectional import Bidirectional
from .dense import Dense
from .dropout import Dropout
from .embedding import Embedding
from .gru import GRU
from .lstm import LSTM
from .recurrent import Recurrent
from .simple_rnn import SimpleRNN

__all__ = [
    "GRU",
    "LSTM",
    "Bidirectional",
    "Dense",
    "Dropout",
    "Embedding",
    "Input",
    "InputLayer",
    "Layer",
    "Recurrent",
    "SimpleRNN",
]

KNOWN: dict[str, type[Layer]] = {
    kind.__name__: kind for kind in (LSTM, GRU, SimpleRNN, Bidirectional, Dense, Dropout, Embedding)
}
