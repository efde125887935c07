"""Made-up sequences of different lengths, and models for them."""

import numpy as np

from numlstm import Input, Sequential
from numlstm.utils import set_random_seed

LENGTHS = np.array([4, 9, 1, 7, 9])


def make_sequences(rng, lengths=LENGTHS, features=3):
    return [rng.standard_normal((steps, features)) for steps in lengths]


def past(lengths, steps):
    """Return where (N, T) steps lie past the lengths."""
    return np.arange(steps) >= np.asarray(lengths)[:, np.newaxis]


def filled(array, lengths, value=np.nan):
    """Return an array with something past the lengths."""
    array = array.copy()
    array[past(lengths, array.shape[1])] = value
    return array


def built(*layers):
    """Return a model of sequences (N, T, 3), with biases too."""
    set_random_seed(4)
    model = Sequential([Input((None, 3)), *layers], dtype="float64")
    for layer in model.layers:
        layer.set_weights([weight + 0.1 for weight in layer.get_weights()])
    return model
