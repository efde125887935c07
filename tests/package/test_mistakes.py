"""Mistakes that newcomers make: one message each, which names the argument, what was expected and what came."""

import numpy as np
import pytest
from numba.core.errors import TypingError

from numlstm import GRU, LSTM, Dense, Embedding, Sequential, callbacks, data, functional, losses, optimizers, plot

X, Y = np.zeros((8, 5, 3)), np.zeros((8, 1))
OF_A_STEP = np.zeros(3, np.float32)
UNLIKE = [np.zeros((5, 3)), np.zeros((4, 3))]


def _model():
    model = Sequential([LSTM(4), Dense(1)])
    model.compile("adam", "mse")
    return model


def _step(x=OF_A_STEP, units=4):
    """Run a step from Python, with the state of a model of so many units."""
    step, params, _ = Sequential([LSTM(4, input_shape=(5, 3)), Dense(1)]).jit()
    _, _, state = Sequential([LSTM(units, input_shape=(5, 3)), Dense(1)]).jit()
    step(params, state, x, np.zeros(1, np.float32))


@pytest.mark.parametrize(
    ("make", "name", "came"),
    [
        (lambda: LSTM(4, return_sequences="no"), "return_sequences", "'no'"),
        (lambda: GRU(4, return_state=None), "return_state", "None"),
        (lambda: LSTM(4, stateful="False"), "stateful", "'False'"),
        (lambda: LSTM(4, go_backwards=2), "go_backwards", "2"),
        (lambda: LSTM(4, use_bias="False"), "use_bias", "'False'"),
        (lambda: LSTM(4, unit_forget_bias="x"), "unit_forget_bias", "'x'"),
        (lambda: Dense(4, use_bias=[]), "use_bias", r"\[\]"),
        (lambda: Embedding(4, 2, mask_zero="a"), "mask_zero", "'a'"),
        (lambda: callbacks.EarlyStopping(restore_best_weights="no"), "restore_best_weights", "'no'"),
        (lambda: callbacks.ModelCheckpoint("a", save_best_only="no"), "save_best_only", "'no'"),
        (lambda: callbacks.CSVLogger("a", append="no"), "append", "'no'"),
        (lambda: optimizers.SGD(nesterov="no"), "nesterov", "'no'"),
        (lambda: losses.BinaryCrossentropy(from_logits="no"), "from_logits", "'no'"),
        (lambda: _model().fit(X, Y, shuffle="yes"), "shuffle", "'yes'"),
    ],
)
def test_a_flag_is_true_or_false(make, name, came):
    with pytest.raises(TypeError, match=f"{name} must be True or False, not {came}"):
        make()


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: Sequential(LSTM(4)), TypeError, r"layers must be a list of layers, not LSTM: Sequential\(\[layer\]\)"),
        (lambda: _model().predict(X[:, :, 0]), ValueError, r"for a first layer x\[\.\.\., np\.newaxis\] has one feature"),
        (
            lambda: _model().fit(data.Batches(X, Y, batch_size=4), shuffle=False),
            TypeError,
            "shuffle=False cannot be given beside Batches as x: give it to Batches",
        ),
        *(
            (call, TypeError, "x must be one array of .*, not a list of sequences of different lengths: numlstm.data.pad")
            for call in (
                lambda: LSTM(4)(UNLIKE),
                lambda: data.Batches(UNLIKE),
                lambda: functional.lstm(UNLIKE, (np.zeros((4, 3)), np.zeros((4, 1)), np.zeros(4))),
            )
        ),
        (
            lambda: LSTM(4, input_shape=(5, 3))(np.zeros((8, 5, 4))),
            ValueError,
            r"x must have shape \(N, 5, 3\), the layer's input_shape, not \(8, 5, 4\)",
        ),
        (
            lambda: data.pad([[1, 2], [3]], value=np.nan, dtype=np.int32),
            ValueError,
            "value must be one that int32 can hold, not nan",
        ),
        (lambda: _step(x=np.zeros(3)), TypingError, "^x must be a contiguous 1-D array of float32, not array"),
        (lambda: _step(x=np.zeros((1, 3), np.float32)), TypingError, r"^x must be a .* 1-D array .*float32, 2d"),
        (lambda: _step(units=5), ValueError, "the arrays of state must have shape"),
    ],
)
def test_one_message_says_what_to_do(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_pictures_of_what_there_is_nothing_of():
    pytest.importorskip("matplotlib", reason="pictures need the extra plot")
    with pytest.raises(ValueError, match="norms of b are 0 throughout"):
        plot.gradient_by_lag({"a": np.ones((2, 3)), "b": np.zeros((2, 3))})
    history = _model().fit(X, Y, epochs=2, verbose=0)
    assert plot.history(history) is not None


@pytest.mark.parametrize(
    ("sequences", "value", "dtype"),
    [([[1, 2], [3]], 0, np.int64), ([[1, 2], [3]], np.nan, np.float64), ([[1, 2], [3]], 0.5, np.float64)],
)
def test_what_is_filled_up_with_is_what_was_asked_for(sequences, value, dtype):
    x, lengths = data.pad(sequences, value=value)
    assert x.dtype == dtype and lengths.tolist() == [2, 1]
    np.testing.assert_array_equal(x, np.array([[1, 2], [3, value]], dtype))
