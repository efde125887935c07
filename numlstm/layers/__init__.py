"""Layers, by the names that Keras has for them."""

from .base import Input, InputLayer, Layer
from .bidirectional import Bidirectional
from .dense import Dense
from .dropout import Dropout
from .embedding import Embedding
from .gru import GRU
from .lstm import LSTM
from .recurrent import Recurrent
from .rnn import RNN
from .simple_rnn import SimpleRNN
from .slstm import SLSTM

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "SLSTM",
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
    kind.__name__: kind for kind in (LSTM, GRU, SimpleRNN, SLSTM, RNN, Bidirectional, Dense, Dropout, Embedding)
}
