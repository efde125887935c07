"""Sequences of different lengths that models refuse, and how NaN is found among them."""

import numpy as np
import pytest
from ragged import make_sequences
from support import assert_same_bits

from numlstm import LSTM, Dense, Embedding, Input, Sequential, data


def _model_of(kind):
    layers = {
        "steps": [LSTM(2, return_sequences=True)],
        "fixed": [Input((4, 3)), LSTM(2)],
        "vectors": [Dense(2)],
        "words": [Embedding(9, 2), LSTM(2)],
    }[kind]
    model = Sequential(layers)
    model.compile("sgd", "mse")
    return model


X3 = np.ones((3, 4, 3))


@pytest.mark.parametrize(
    ("kind", "x", "lengths", "error", "says"),
    [
        ("steps", X3, [4, 0, 2], ValueError, r"lengths must be from 1 to T=4, but lengths\[1\] is 0"),
        ("steps", X3, [4, 2, -1], ValueError, r"lengths\[2\] is -1"),
        ("steps", X3, [5, 2, 1], ValueError, r"lengths\[0\] is 5"),
        ("steps", X3, [4, 2.5, 1], TypeError, r"lengths must be integers, but lengths\[1\] is 2.5"),
        ("steps", X3, [4, 2], ValueError, r"lengths must have shape \(N=3\), one for each sequence, not \(2,\)"),
        ("vectors", X3[0], [3, 3, 3, 3], ValueError, r"sequences of different lengths must .* x has \(4, 3\)"),
        ("vectors", [1.0, 2.0], [1, 1], ValueError, r"lengths go with sequences \(N, T, F\), but x has shape \(2,\)"),
        ("steps", [X3[0], X3[0, :2]], [4, 2], ValueError, "lengths go with one array, but x is a list of sequences"),
        ("steps", [X3[0], X3[0, :0]], None, ValueError, r"x\[1\] must have shape \(t, 3\) .* with at least one step"),
        ("steps", [X3[0], X3[0, :2, :2]], None, ValueError, r"x\[1\] must have shape \(t, 3\) like the first"),
        ("steps", [X3[0], 3], None, ValueError, r"x\[1\] must have shape \(t, 3\) like the first"),
        ("fixed", [X3[0], np.ones((5, 3))], None, ValueError, r"x must have shape \(N, 4, 3\), not \(2, 5, 3\)"),
        ("words", [[1, 2], [3, 9, 4]], None, ValueError, r"x must be whole numbers from 0 to 8, but x\[1, 1\] is 9"),
    ],
)  # fmt: skip
def test_lengths_that_are_refused(kind, x, lengths, error, says):
    model = _model_of(kind)
    for call in (model.predict, lambda x, lengths: model.fit(x, np.ones((len(x), 2)), verbose=0, lengths=lengths)):
        with pytest.raises(error, match=says):
            call(x, lengths=lengths)


@pytest.mark.parametrize(
    ("y", "options", "says"),
    [
        ([np.ones((4, 2)), np.ones((3, 2))], {}, r"y\[1\] must have 2 steps, as many as the sequence has, not 3"),
        (np.ones((2, 3, 2)), {}, r"y must have the shape \(2, 4, 2\) of the model's output, not \(2, 3, 2\)"),
        ([np.ones((4, 2)), np.full((2, 2), np.nan)], {}, r"y must be finite, but y\[1, 0, 0\] is nan"),
        (
            [np.ones((4, 2)), np.ones((2, 2))],
            {"sample_weight": [np.ones(4), np.ones(1)]},
            r"sample_weight\[1\] must have 2 steps, as many as the sequence has, not 1",
        ),
        (
            [np.ones((4, 2)), np.ones((2, 2))],
            {"validation_data": (X3, np.ones((3, 4, 2)), None, [1, 0, 1])},
            r"validation lengths must be from 1 to T=4, but validation lengths\[1\] is 0",
        ),
    ],
)
def test_targets_that_are_refused(y, options, says):
    model = _model_of("steps")
    with pytest.raises(ValueError, match=says):
        model.fit([X3[0], X3[0, :2]], y, verbose=0, **options)


def test_a_nan_within_a_length_is_found():
    x = X3.copy()
    x[1, 1, 2] = x[1, 3] = np.nan
    model = _model_of("steps")
    with pytest.raises(ValueError, match=r"x must be finite, but x\[1, 1, 2\] is nan \(1 such values in all\)"):
        model.fit(x, np.ones((3, 4, 2)), verbose=0, lengths=[4, 2, 4])
    assert np.isnan(x[1, 3]).all()  # the caller's array is as it was
    y = model.predict(x, lengths=[4, 2, 4])
    assert np.isnan(y[1, 1]).all() and np.isfinite(y[[0, 2]]).all() and not y[1, 2:].any()


def test_a_fixed_number_of_steps_is_filled_up(rng):
    model = _model_of("fixed")
    sequences = make_sequences(rng, [2, 3])
    x, lengths = data.pad(sequences, steps=4)
    assert_same_bits(model.predict(sequences), model.predict(x, lengths=lengths))


def test_lags_need_one_length(rng):
    with pytest.raises(ValueError, match="sequences of one length"):
        _model_of("steps").gradient_by_lag(make_sequences(rng))
