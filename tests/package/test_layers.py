"""Layers: outputs against the textbook, gradients of whole models against central differences, Keras' layout of weights."""

import numpy as np
import pytest
import reference
from support import assert_close, assert_same_bits
from training import Problem, relative_error

import numlstm
from numlstm import GRU, LSTM, Bidirectional, Dense, Dropout, Embedding, Sequential, SimpleRNN
from numlstm.initializers import Orthogonal
from numlstm.layers import Input
from numlstm.utils import set_random_seed

DTYPES = [np.float32, np.float64]


def _softmax(z):
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


ACTIVATIONS = {
    "linear": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "tanh": np.tanh,
    "sigmoid": reference.sigmoid,
    "softmax": _softmax,
}

MODELS = {
    "last output": lambda: [LSTM(5), Dense(2)],
    "each output": lambda: [LSTM(5, return_sequences=True), Dense(2)],
    "nothing behind": lambda: [LSTM(2)],
    "nothing behind each output": lambda: [LSTM(2, return_sequences=True)],
    "more units than lanes": lambda: [LSTM(19, return_sequences=True), LSTM(9), Dense(2)],
    "other cells": lambda: [
        GRU(5, return_sequences=True, dropout=0.2),
        LSTM(4, variant="peephole", return_sequences=True),
        SimpleRNN(3, return_sequences=True),
        GRU(4, go_backwards=True, use_bias=False),
        Dense(2),
    ],
    "both directions": lambda: [
        Bidirectional(LSTM(4, return_sequences=True, dropout=0.3)),
        Bidirectional(GRU(3, return_sequences=True), "mul"),
        Dropout(0.2),
        Bidirectional(SimpleRNN(4, return_sequences=True), "ave"),
        Bidirectional(LSTM(5, variant="peephole", recompute="states", use_bias=False), "sum"),
        Dense(2),
    ],
    "other layers in each direction": lambda: [
        Bidirectional(GRU(4, go_backwards=True, return_sequences=True), backward_layer=LSTM(3, return_sequences=True)),
        Bidirectional(SimpleRNN(3), "mul", backward_layer=GRU(3, go_backwards=True, dropout=0.3)),
    ],
    "three stacked": lambda: [LSTM(4, return_sequences=True), LSTM(3, return_sequences=True), LSTM(5), Dense(2)],
    "backwards": lambda: [LSTM(4, go_backwards=True, return_sequences=True), LSTM(5, go_backwards=True), Dense(2)],
    "no bias": lambda: [LSTM(4, use_bias=False, return_sequences=True), LSTM(5, use_bias=False), Dense(2, use_bias=False)],
    "dropout of inputs": lambda: [LSTM(6, dropout=0.4, return_sequences=True), LSTM(5, dropout=0.5), Dense(2)],
    "dropout of inputs, backwards": lambda: [Dense(6), LSTM(5, dropout=0.5, go_backwards=True), Dense(2)],
    "dropout all over": lambda: [Dropout(0.2), LSTM(6, return_sequences=True), Dropout(0.5), LSTM(5), Dropout(0.3)],
    "normalised products": lambda: [
        LSTM(5, layer_norm=True, return_sequences=True),
        Bidirectional(GRU(4, layer_norm=True, use_bias=False, return_sequences=True)),
        LSTM(9, layer_norm=True, projection=3),
        Dense(2),
    ],
    "dense before": lambda: [Dense(7, "tanh"), LSTM(5), Dense(2)],
    "dense alone": lambda: [Dense(7, "sigmoid"), Dense(5, "relu"), Dense(2)],
}


def _problem(rng, layers, loss="mse", outputs=2, weights=None, dtype="float64"):
    """Return a problem with 4 sequences of 6 steps of 3 features and targets that go with the loss."""
    x = rng.standard_normal((4, 6, 3))
    model = Sequential(layers, dtype=dtype)
    shape = model.predict(x).shape
    if "sparse" in loss:
        y = rng.integers(0, outputs, shape[:-1])
    elif "crossentropy" in loss:
        y = rng.random(shape) if "binary" in loss else np.eye(outputs)[rng.integers(0, outputs, shape[:-1])]
    else:
        y = rng.standard_normal(shape)
    return Problem(layers, loss, x, y, weights, dtype)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_models(rng, name):
    set_random_seed(1)
    problem = _problem(rng, MODELS[name]())
    assert relative_error(problem.gradient(), problem.differences()) < 1e-6


@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_of_activations(rng, activation, steps):
    set_random_seed(2)
    layers = [LSTM(4, return_sequences=steps), Dense(11, activation), Dense(3, activation)]
    problem = _problem(rng, layers, weights=rng.random((4, 6) if steps else 4))
    assert relative_error(problem.gradient(), problem.differences()) < 1e-6


@pytest.mark.parametrize(
    "activation, loss, outputs",
    [
        ("softmax", "sparse_categorical_crossentropy", 5),
        ("softmax", "categorical_crossentropy", 5),
        ("sigmoid", "binary_crossentropy", 3),
    ],
)
def test_a_cross_entropy_takes_its_activation_in(rng, activation, loss, outputs):
    """A Dropout(0) behind the activation parts the two; then the loss is computed from probabilities."""
    values, gradients = [], []
    for behind in ([], [Dropout(0.0)]):
        set_random_seed(3)
        rng = np.random.default_rng(3)
        layers = [LSTM(4, return_sequences=True), Dense(outputs, activation), *behind]
        problem = _problem(rng, layers, loss, outputs, weights=rng.random((4, 6)))
        values.append(problem.loss())
        gradients.append(problem.gradient())
        assert relative_error(gradients[-1], problem.differences()) < 1e-6
    assert values[0] == pytest.approx(values[1], rel=1e-6)  # probabilities are kept 1e-7 from 0 and 1
    assert relative_error(*gradients) < 1e-5


def test_gradients_of_an_embedding(rng):
    set_random_seed(4)
    x = np.array([[0, 3, 3, 3], [6, 3, 0, 1]])  # one often, some never
    layers = [Embedding(7, 5), Dropout(0.3), LSTM(4), Dense(1)]
    problem = Problem(layers, "mse", x, rng.standard_normal((2, 1)))
    gradient = problem.gradient()
    assert relative_error(gradient, problem.differences()) < 1e-6
    table = gradient[:35].reshape(7, 5)
    assert not table[[2, 4, 5]].any() and table[[0, 1, 3, 6]].any(axis=1).all()
    np.testing.assert_array_equal(problem.gradient(), gradient)


def test_gradients_in_float32_are_those_in_float64(rng):
    set_random_seed(5)
    layers = [LSTM(20, return_sequences=True), LSTM(9), Dense(5, "tanh"), Dense(2)]
    double = _problem(np.random.default_rng(1), layers)
    single = _problem(np.random.default_rng(1), [type(layer)(**layer.get_config()) for layer in layers], dtype="float32")
    single.model.set_weights(double.model.get_weights())
    assert relative_error(single.gradient(), double.gradient()) < 1e-5  # eps times sums of a hundred terms


# --- outputs ---


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backwards", [False, True])
def test_lstm_is_the_textbooks(rng, dtype, backwards):
    x = rng.standard_normal((5, 7, 3)).astype(dtype)
    layer = LSTM(10, return_sequences=True, return_state=True, go_backwards=backwards, bias_initializer="normal")
    layer.build((7, 3), np.dtype(dtype))
    want = reference.lstm(x[:, ::-1] if backwards else x, *layer.params)
    for name, got in zip(("y", "h", "c"), layer(x), strict=True):
        assert_close(name, got, getattr(want, name), dtype)
    last = LSTM(10, go_backwards=backwards)
    last.build((7, 3), np.dtype(dtype))
    last.set_weights(layer.get_weights())
    assert_same_bits(last(x), layer(x)[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(6, 4), (3, 5, 4)])
def test_dense_is_the_textbooks(rng, dtype, activation, shape):
    x = 3 * rng.standard_normal(shape).astype(dtype)
    for units in (1, 8, 21):
        layer = Dense(units, activation, bias_initializer="normal")
        layer.build(shape[1:], np.dtype(dtype))
        W, b = (p.astype(np.float64) for p in layer.params)
        assert_close("y", layer(x), ACTIVATIONS[activation](x @ W.T + b), dtype)


@pytest.mark.parametrize("x", [[[0, 2], [2, 1]], [[0.0, 2.0]], np.array([[1, 1]], np.uint8), [1, 2, 0]])
def test_embedding_looks_up_rows(x):
    layer = Embedding(3, 5)
    y = layer(x)
    np.testing.assert_array_equal(y, layer.get_weights()[0][np.asarray(x, int)])
    assert y.dtype == np.float32


def test_layers_take_numbers_of_any_kind():
    x = np.arange(24).reshape(2, 4, 3) % 5
    layer = LSTM(3)
    want = layer(x.astype(np.float32))
    for form in (x, x.astype(np.float64), x.astype(np.uint8), x.tolist(), np.asfortranarray(x), x.astype(">f4")):
        assert_same_bits(layer(form), want)


# --- weights ---


def test_weights_are_in_keras_layout(rng):
    """As Keras computes: gates i, f, c, o along the columns of kernel (I, 4H) and recurrent kernel (H, 4H)."""
    layer = LSTM(2, return_sequences=True, input_shape=(3, 5))
    model = Sequential([layer, Dense(4)], dtype="float64")
    shapes = [(5, 8), (2, 8), (8,), (2, 4), (4,)]
    assert [w.shape for w in model.get_weights()] == shapes
    weights = [rng.standard_normal(shape) for shape in shapes]
    model.set_weights(weights)
    for got, want in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(got, want)

    kernel, recurrent_kernel, bias, dense_kernel, dense_bias = weights
    x = rng.standard_normal((2, 3, 5))
    h = c = np.zeros((2, 2))
    for t in range(3):
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
        c = reference.sigmoid(f) * c + reference.sigmoid(i) * np.tanh(g)
        h = reference.sigmoid(o) * np.tanh(c)
    np.testing.assert_allclose(model.predict(x)[:, -1], h @ dense_kernel + dense_bias, rtol=1e-12)

    model.get_weights()[0][:] = 0  # a copy
    np.testing.assert_array_equal(model.get_weights()[0], kernel)


def test_first_weights_are_keras():
    layer = LSTM(16, input_shape=(None, 6))
    Sequential([layer], dtype="float64")
    kernel, recurrent_kernel, bias = layer.get_weights()
    np.testing.assert_allclose(recurrent_kernel @ recurrent_kernel.T, np.eye(16), atol=1e-14)
    assert 0.9 < np.abs(kernel).max() / np.sqrt(6 / (6 + 64)) <= 1
    np.testing.assert_array_equal(bias, np.repeat([0, 1, 0, 0], 16))
    plain = LSTM(16, unit_forget_bias=False, bias_initializer="ones", input_shape=(None, 6))
    assert (Sequential([plain]).get_weights()[2] == 1).all()
    assert [w.shape for w in Sequential([Dense(3, input_shape=(2,)), Dense(1, use_bias=False)]).get_weights()] == [
        (2, 3),
        (3,),
        (3, 1),
    ]
    vectors = Sequential([Embedding(50, 40, input_shape=(3,))]).get_weights()[0]
    assert 0.045 < np.abs(vectors).max() <= 0.05


def test_seeds_of_first_weights():
    def weights(seed):
        return Sequential([LSTM(4, seed=seed, input_shape=(2, 3)), Dense(2, seed=seed)]).get_weights()

    def same(left, right):
        return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))

    assert same(weights(1), weights(1)) and not same(weights(1), weights(2)) and not same(weights(None), weights(None))
    set_random_seed(7)
    first = weights(None)
    assert not same(first, weights(None))
    set_random_seed(7)
    assert same(first, weights(None))


def test_set_weights_refuses_and_leaves_all_as_it_was():
    model = Sequential([Dense(3, input_shape=(2,)), Dense(1)])
    before = model.get_weights()
    for wrong in ([], before[:-1], [*before, before[0]], [before[0].T, *before[1:]], [before[0][:, :2], *before[1:]]):
        with pytest.raises(ValueError, match=r"weights must have the shapes \[\(2, 3\), \(3,\), \(3, 1\), \(1,\)\], not"):
            model.set_weights(wrong)
    for got, want in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, want)
    with pytest.raises(ValueError, match="no weights yet"):
        Sequential([Dense(1)]).set_weights(before)
    with pytest.raises(ValueError, match="no weights yet"):
        LSTM(3).params  # noqa: B018


# --- states ---


def test_weights_put_in_the_place_of_others_are_not_misread():
    """Compiled sweeps that know the old ones' type are what a pass has."""
    x = np.ones((2, 3, 4), np.float32)
    model = numlstm.Sequential([LSTM(5, seed=0)])
    model.compile("sgd", "mse")
    model.fit(x, np.ones((2, 5)), verbose=0)
    for other in (np.ones((20, 4), np.int32), np.ones((20, 4)), np.ones((20, 4), np.dtype("f4").newbyteorder())):
        model.layers[0].parameters["W_ih"] = other
        with pytest.raises(TypeError, match="weights must be float32"):
            model.predict(x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_states_given_and_returned_carry_a_sequence(rng, dtype):
    x = rng.standard_normal((3, 9, 4)).astype(dtype)
    layer = LSTM(6, return_sequences=True, return_state=True)
    layer.build((9, 4), np.dtype(dtype))
    whole = layer(x)
    first = layer(x[:, :4])
    second = layer(x[:, 4:], initial_state=first[1:])
    assert_same_bits(whole[0], np.concatenate([first[0], second[0]], axis=1))
    assert_same_bits(tuple(whole[1:]), tuple(second[1:]))


def test_a_stateful_layer_goes_on_where_it_stopped(rng):
    x = rng.standard_normal((3, 9, 4))
    layer = LSTM(6, return_sequences=True, stateful=True)
    whole = layer(x)
    layer.reset_states()
    assert_same_bits(whole, np.concatenate([layer(x[:, :4]), layer(x[:, 4:])], axis=1))
    assert not np.array_equal(layer(x), whole)
    with pytest.raises(ValueError, match=r"carries the states of 3 sequences, but a batch has 2: .* reset_states"):
        layer(x[:2])
    layer.reset_states()
    assert_same_bits(layer(x[:2]), whole[:2])


# --- dropout ---


def test_dropout_keeps_the_mean():
    set_random_seed(1)
    x = np.ones((200, 500), np.float32)
    for rate in (0.1, 0.5, 0.9):
        y = Dropout(rate)(x, training=True)
        kept = y != 0
        assert (y[kept] == np.float32(1 / (1 - rate))).all()
        deviation = np.sqrt(rate * (1 - rate) / x.size)
        assert abs(kept.mean() - (1 - rate)) < 5 * deviation
        for part in (kept.mean(axis=0), kept.mean(axis=1)):  # no row or column of its own; 700 are within 5 deviations
            assert np.abs(part - (1 - rate)).max() < 5 * np.sqrt(rate * (1 - rate) / 200)
    assert_same_bits(Dropout(0.5)(x), x)
    assert_same_bits(Dropout(0.0)(x, training=True), x)


def test_dropout_of_a_layers_inputs_is_the_same_at_each_step():
    """With gates open, no recurrence and one feature, an output is 0 where the feature is left out, or else a constant."""
    layer = LSTM(1, dropout=0.5, return_sequences=True)
    layer.build((8, 1), np.dtype(np.float64))
    layer.set_weights([np.array([[0, 0, 0.5, 0]]), np.zeros((1, 4)), np.array([100.0, -1000, 0, 100])])
    set_random_seed(1)
    x = np.ones((500, 8, 1))
    y = layer(x, training=True)[:, :, 0]
    assert (y == y[:, :1]).all()
    kept = y[:, 0] != 0
    assert 0.4 < kept.mean() < 0.6
    np.testing.assert_allclose(y[kept], np.tanh(np.tanh(0.5 / (1 - 0.5))), rtol=1e-12)
    np.testing.assert_allclose(layer(x), np.tanh(np.tanh(0.5)), rtol=1e-12)


def test_masks_are_the_same_at_any_thread_count(all_dealt_out):
    x = np.ones((50, 9, 60), np.float32)
    for layer in (Dropout(0.3), LSTM(40, dropout=0.3)):
        layer(x)
        results = []
        for threads in (1, 2, 3, 8):
            numlstm.set_num_threads(threads)
            set_random_seed(3)
            results.append(layer(x, training=True))
        for several in results[1:]:
            assert_same_bits(results[0], several)
        assert not np.array_equal(layer(x, training=True), results[0])


# --- errors ---


@pytest.mark.parametrize(
    "make, error, says",
    [
        (lambda: LSTM(0), ValueError, "units must be at least 1, not 0"),
        (lambda: LSTM(2.5), TypeError, "units must be an integer, not 2.5"),
        (lambda: LSTM(3, "softmax"), ValueError, "activation must be one of 'tanh', 'relu'"),
        (lambda: LSTM(3, recurrent_activation="tanh"), ValueError, "recurrent_activation must be one of 'sigmoid'"),
        (lambda: LSTM(3, dropout=1.0), ValueError, "dropout must be at least 0 and below 1, not 1"),
        (lambda: LSTM(3, kernel_initializer="glorot"), ValueError, "kernel_initializer 'glorot' is unknown"),
        (lambda: LSTM(3, seed=-1), ValueError, "seed must be at least 0"),
        (lambda: LSTM(3, name=3), TypeError, "name must be a string"),
        (lambda: LSTM(3, input_shape=5), TypeError, r"input_shape must be a tuple such as \(60, 1\)"),
        (lambda: LSTM(3, input_shape=(0, 1)), ValueError, "each size in input_shape must be at least 1"),
        (lambda: Dense(3, "tanhh"), ValueError, "activation must be one of .* did you mean 'tanh'"),
        (lambda: Dense(-3), ValueError, "units must be at least 1"),
        (lambda: Dropout(1), ValueError, "rate must be at least 0 and below 1, not 1"),
        (lambda: Dropout("0.5"), TypeError, "rate must be a number, not '0.5'"),
        (lambda: Dropout(10**400), ValueError, "rate must be at least 0 and below 1"),
        (lambda: Dropout(np.array([0.5, 0.5])), TypeError, "rate must be a number"),
        (lambda: Embedding(0, 3), ValueError, "input_dim must be at least 1"),
        (lambda: Input(), ValueError, "Input needs either"),
        (lambda: LSTM(3)(np.zeros((2, 3))), ValueError, r"takes sequences \(N, T, F\) .*, not \(N, 3\): .* return_seq"),
        (lambda: LSTM(3)(np.zeros((2, 0, 3))), ValueError, "at least one step"),
        (lambda: LSTM(3)(np.zeros((2, 3, 0))), ValueError, "at least one step and one feature"),
        (lambda: LSTM(3)(None), TypeError, "x must be an array of numbers, not None"),
        (lambda: LSTM(3)(np.zeros((2, 3, 1)), initial_state=np.zeros((2, 3))), TypeError, "must be a pair"),
        (
            lambda: LSTM(3)(np.zeros((2, 3, 1)), initial_state=[np.zeros((2, 3)), np.zeros((2, 4))]),
            ValueError,
            r"initial_state\[1\] must have shape \(N=2, H=3\), not \(2, 4\)",
        ),
        (lambda: Dense(3)(np.zeros(4)), ValueError, "a Dense layer takes samples"),
        (lambda: Dense(3)(np.zeros((4, 0))), ValueError, "at least one step and one feature"),
        (lambda: Embedding(3, 2)([[0, 3]]), ValueError, r"x must be whole numbers from 0 to 2, but x\[0, 1\] is 3"),
        (lambda: Embedding(3, 2)([[0, 0.5]]), ValueError, r"x must be whole numbers, but x\[0, 1\] is 0.5"),
    ],
)
def test_what_is_refused(make, error, says):
    with pytest.raises(error, match=says):
        make()


def test_a_built_layer_says_what_it_takes():
    layer = LSTM(3)
    layer(np.zeros((2, 4, 5)))
    assert layer(np.zeros((2, 9, 5))).shape == (2, 3)
    with pytest.raises(ValueError, match=r"layer LSTM: W_ih is \(12, 5\) float32, but this input needs \(12, 6\) float32"):
        layer(np.zeros((2, 4, 6)))


def test_what_a_layer_returns_is_the_callers():
    x = np.ones((2, 3), np.float32)
    y = Dropout(0.5)(x)
    y[:] = 0
    assert (x == 1).all()
    assert Dropout(0.5)(np.zeros((0, 3)), training=True).shape == LSTM(3)(np.zeros((0, 4, 2))).shape == (0, 3)


def test_how_a_layer_is_shown():
    model = Sequential([LSTM(4, recurrent_initializer=Orthogonal(2.0), name="a"), Dense(2, "softmax", name="b")])
    assert repr(model) == (
        "Sequential([LSTM(units=4, recurrent_initializer=Orthogonal(gain=2.0), name='a'), "
        "Dense(units=2, activation='softmax', name='b')])"
    )
