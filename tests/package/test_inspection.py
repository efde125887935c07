"""What goes on inside a model: how far back gradients reach, against central differences."""

import numpy as np
import pytest
from support import assert_same_bits
from training import central_differences, relative_error

from numlstm import GRU, LSTM, Dense, Dropout, Embedding, Sequential, SimpleRNN
from numlstm.utils import set_random_seed

MODELS = {
    "last output": lambda: [LSTM(5, dropout=0.5), Dropout(0.5), Dense(2, "tanh")],
    "each output": lambda: [GRU(5, return_sequences=True, recompute="states"), SimpleRNN(4, return_sequences=True)],
    "backwards": lambda: [LSTM(4, go_backwards=True, stateful=True)],
}


@pytest.mark.parametrize("name", MODELS)
def test_gradients_by_lag_are_central_differences(rng, name):
    set_random_seed(1)
    x = rng.standard_normal((3, 6, 2))
    model = Sequential(MODELS[name](), dtype="float64")
    model.predict(x)
    states = [layer.states for layer in model.layers]
    got = model.gradient_by_lag(x)
    assert got.shape == (3, 6)

    squares = np.zeros((3, 6))
    for sequence in range(3):
        part = x[sequence : sequence + 1].copy()
        model.reset_states()
        for output in range(model.predict(part).shape[-1]):

            def last(part=part, output=output):
                model.reset_states()
                y = model.predict(part)[0]
                return (y if y.ndim == 1 else y[-1])[output]

            squares[sequence] += (central_differences(last, part)[0] ** 2).sum(axis=1)
    assert relative_error(got, np.sqrt(squares)[:, ::-1]) < 1e-6

    for layer, before in zip(model.layers, states, strict=True):
        layer.states = before
    model.gradient_by_lag(x)
    assert all(layer.states is before for layer, before in zip(model.layers, states, strict=True))
    assert_same_bits(model.gradient_by_lag(x), got)


def test_gradients_by_lag_of_an_embedding_are_by_its_vectors(rng):
    words, set_of_layers = rng.integers(0, 7, (3, 6)), [LSTM(4, seed=1), Dense(1, seed=2)]
    embedding = Embedding(7, 5, seed=3)
    want = Sequential(set_of_layers).gradient_by_lag(embedding(words))
    assert_same_bits(Sequential([embedding, *set_of_layers]).gradient_by_lag(words), want)


def test_lags_are_steps():
    with pytest.raises(ValueError, match=r"x must be sequences \(N, T, F\), of which lags are steps, not of shape \(2, 3\)"):
        Sequential([Dense(2)]).gradient_by_lag(np.ones((2, 3)))
