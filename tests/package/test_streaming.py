"""Sequential.stream: the bits of predict, a step at a time from Python; states that can be kept, bad input that is named."""

import copy
import pickle
import re

import numpy as np
import pytest
from support import assert_same_bits

from numlstm import GRU, LSTM, Bidirectional, Dense, Dropout, Embedding, Sequential, SimpleRNN

LAYERS = {
    "lstm": lambda: [LSTM(20, return_sequences=True), Dense(3)],
    "stack": lambda: [
        GRU(17, return_sequences=True, reset_after=False),
        Dropout(0.5),
        SimpleRNN(70, return_sequences=True),
        LSTM(5, return_sequences=True, variant="peephole", stateful=True),
        Dense(2, "softmax"),
    ],
}


def _model(layers, shape=(None, 4), dtype="float32"):
    model = Sequential(layers, dtype=dtype)
    model.build((None, *shape))
    return model


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("name", "dtype"), [("lstm", "float32"), ("lstm", "float64"), ("stack", "float32")])
def test_the_bits_of_the_whole(rng, name, dtype, batch):
    model = _model(LAYERS[name](), dtype=dtype)
    x = rng.standard_normal((batch, 9, 4)).astype(dtype)
    s = model.stream(batch)
    want = model.predict(x)
    for _ in range(2):
        assert_same_bits(np.stack([s(x[:, t]) for t in range(9)], axis=1), want)
        s.reset()


def test_without_sequences_the_output_for_the_sequence_so_far(rng):
    model = _model([LSTM(6), Dense(2)])
    x, s = rng.standard_normal((2, 5, 4)), model.stream(batch=2)
    for t in range(5):
        assert_same_bits(s(x[:, t]), model.predict(x[:, : t + 1]))


@pytest.fixture
def stream():
    return _model(LAYERS["lstm"]()).stream()


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int32, "big", "strided", "read-only", list])
def test_numbers_of_any_kind(rng, stream, kind):
    x = rng.integers(-5, 5, 4).astype(np.float32)
    want = stream(x)
    stream.reset()
    changed = {
        "big": lambda: x.astype(">f4"),
        "strided": lambda: np.repeat(x, 2)[::2],
        "read-only": lambda: np.frombuffer(x.tobytes(), np.float32),
        list: x.tolist,
    }
    assert_same_bits(stream(changed[kind]() if kind in changed else x.astype(kind)), want)


def test_shapes_that_leave_out_what_is_one(rng, stream):
    x = rng.standard_normal(4)
    assert stream(x).shape == (3,) and stream(x[np.newaxis]).shape == (1, 3)
    series = _model([LSTM(3), Dense(2)], (None, 1))
    want = series.predict(np.array([[[0.5]]]))
    for x_t, shape in ((0.5, (2,)), ([0.5], (2,)), ([[0.5]], (1, 2)), (np.float32(0.5), (2,))):
        assert_same_bits(series.stream()(x_t), want.reshape(shape))
    assert_same_bits(series.stream(2)([0.5, 0.5]), np.concatenate([want, want]))


def test_integers(rng):
    model = _model([Embedding(11, 6), GRU(8, return_sequences=True), Dense(3)], (None,))
    x = rng.integers(0, 11, (2, 7))
    want, one, both = model.predict(x), model.stream(), model.stream(2)
    for t in range(7):
        assert_same_bits(one(int(x[0, t])), want[0, t])
        assert_same_bits(both(x[:, t]), want[:, t])
    assert one([3]).shape == (1, 3)
    for bad in (11, -1, [11]):
        with pytest.raises(ValueError, match=r"x_t must be whole numbers from 0 to 10, but x_t\[0\] is (11|-1)"):
            one(bad)
    with pytest.raises(ValueError, match=re.escape("x_t must be whole numbers, but x_t[0] is 0.5")):
        one(0.5)
    masked = _model([Embedding(11, 6, mask_zero=True), GRU(8), Dense(3)], (None,))
    x[0, 3:], x[1] = 0, x[1] % 10 + 1
    x[0, :3] += x[0, :3] == 0
    both = masked.stream(2)
    for t in range(3):
        y = both(x[:, t])
    assert_same_bits(y[0], masked.predict(x)[0])
    with pytest.raises(ValueError, match="x_t must not be 0: with mask_zero=True it stands for no number"):
        both(x[:, 3])


def test_a_model_that_takes_no_sequences(rng):
    model = _model([Dense(5, "relu"), Dense(2)], (4,))
    x = rng.standard_normal((3, 4))
    assert_same_bits(model.stream(3)(x), model.predict(x))


def test_states_are_kept_and_put_back(rng, stream):
    x = rng.standard_normal((6, 4))
    for t in range(3):
        stream(x[t])
    saved, other, sent = stream.state.copy(), copy.deepcopy(stream), pickle.loads(pickle.dumps(stream))
    want = [stream(x[t]) for t in (3, 4, 5)]
    for again in (other, sent):
        assert_same_bits(np.stack([again(x[t]) for t in (3, 4, 5)]), np.stack(want))
    stream.state = saved
    assert_same_bits(np.stack([stream(x[t]) for t in (3, 4, 5)]), np.stack(want))
    assert not np.shares_memory(saved.layers[0].h, stream.state.layers[0].h)


def test_states_that_do_not_fit_change_nothing(rng, stream):
    stream(rng.standard_normal(4))
    before = stream.state.copy()
    lstm, dense = before.layers
    for bad, error, message in (
        (
            before._replace(layers=(lstm._replace(c=np.zeros(3)), dense)),
            ValueError,
            "state.layers[0].c must have shape (1, 20)",
        ),
        (
            before._replace(layers=(lstm,)),
            TypeError,
            "state.layers must be a tuple of 2, as the stream's own is, not 1 items",
        ),
        (None, TypeError, "state must be a tuple of 2, as the stream's own is, not NoneType"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            stream.state = bad
        assert_same_bits(tuple(stream.state.layers[0]), tuple(lstm))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros(3), ValueError, "x_t must have shape (N=1, F=4), N may be missing, not (3,)"),
        (np.zeros((2, 4)), ValueError, "x_t must have shape (N=1, F=4), N may be missing, not (2, 4)"),
        (0.0, ValueError, "x_t must have shape (N=1, F=4), N may be missing, not ()"),
        (None, TypeError, "x_t must be an array of numbers, not None"),
        (["a"] * 4, TypeError, "x_t must be an array of numbers, not list"),
        (np.zeros(4, complex), TypeError, "x_t must be an array of numbers, not ndarray"),
        ([[1], [1, 2]], TypeError, "x_t must be an array of numbers: "),
    ],
)
def test_bad_input_is_named_and_changes_nothing(stream, x, error, message):
    stream(np.ones(4))
    before = stream.state.copy()
    with pytest.raises(error, match=re.escape(message)):
        stream(x)
    assert_same_bits(tuple(stream.state.layers[0]), tuple(before.layers[0]))


def test_bad_values_stay_in_their_sequence(rng):
    model = _model(LAYERS["lstm"]())
    x = rng.standard_normal((2, 4)).astype(np.float32)
    want = model.stream(2)(x)[1]
    x[0, 0] = np.nan
    y = model.stream(2)(x)
    assert np.isnan(y[0]).all()
    assert_same_bits(y[1], want)


def test_models_that_cannot_stream():
    with pytest.raises(ValueError, match="layer bidirectional, a Bidirectional, reads sequences from their end"):
        _model([Bidirectional(LSTM(2))]).stream()
    with pytest.raises(ValueError, match="the model has no weights yet"):
        Sequential([LSTM(2)]).stream()
    with pytest.raises(ValueError, match=re.escape("the model reads data of shape (N, 5, 6, 7), of which a step is not a")):
        _model([Dense(2)], (5, 6, 7)).stream()
    with pytest.raises(ValueError, match="batch must be at least 1, not 0"):
        _model([LSTM(2)]).stream(0)
