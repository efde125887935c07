"""Layers, with the names, arguments and defaults of Keras 3."""

from .base import Input, InputLayer, Layer
from .dense import Dense
from .dropout import Dropout
from .embedding import Embedding
from .lstm import LSTM

__all__ = ["LSTM", "Dense", "Dropout", "Embedding", "Input", "InputLayer", "Layer"]

KNOWN: dict[str, type[Layer]] = {kind.__name__: kind for kind in (LSTM, Dense, Dropout, Embedding)}
