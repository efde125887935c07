"""The textbook: every cell and option in plain float64 NumPy, forward and backward through time, one step after the other.

The oracle of every test. It is checked against central differences itself, and written for reading: no speed.

`parts.py` has activations, layer normalisation and products, each with its adjoint; `lstm.py` the family of the LSTM and its
presets, `cells.py` the other cells; `layer.py` the loop over time with what all cells share. `vanilla.py` is the LSTM once
more, without options, for tests of large layers.
"""

from reference.cells import GRU, MGU, SLSTM, SimpleRNN
from reference.layer import rnn, rnn_backward, state_widths, weight_shapes
from reference.lstm import LSTM, PRESETS
from reference.parts import sigmoid
from reference.vanilla import lstm, lstm_backward, weight_gradients

__all__ = [
    "GRU",
    "LSTM",
    "MGU",
    "PRESETS",
    "SLSTM",
    "SimpleRNN",
    "lstm",
    "lstm_backward",
    "rnn",
    "rnn_backward",
    "sigmoid",
    "state_widths",
    "weight_gradients",
    "weight_shapes",
]
