"""Models from Keras and to it: the same input gives the same output on both sides."""

import os

import numpy as np
import pytest

import numlstm
from numlstm import Sequential, interop

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("torch", reason="PyTorch, the backend of Keras, is not installed (extra `torch`)")
keras = pytest.importorskip("keras", reason="Keras is not installed (extra `keras`)")

L = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # Keras' own variables, with NumPy 2
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
N, T, F, H = 3, 7, 4, 5

STACKS = {
    "lstm": lambda k: [k.LSTM(H, return_sequences=True), k.Dropout(0.2), k.LSTM(6), k.Dense(2)],
    "gru": lambda k: [k.GRU(H, return_sequences=True, go_backwards=True), k.GRU(3, use_bias=False)],
    "gru before": lambda k: [
        k.GRU(H, return_sequences=True, reset_after=False),
        k.Bidirectional(k.GRU(3, use_bias=False, reset_after=False)),
    ],
    "simple": lambda k: [k.SimpleRNN(H, activation="relu", return_sequences=True), k.Dense(2, activation="softmax")],
    "others": lambda k: [k.LSTM(H, activation="relu", recurrent_activation="hard_sigmoid"), k.Dense(2, activation="tanh")],
    "concat": lambda k: [k.Bidirectional(k.LSTM(H, return_sequences=True)), k.Bidirectional(k.GRU(3))],
    "sum": lambda k: [k.Bidirectional(k.SimpleRNN(H, return_sequences=True), merge_mode="sum"), k.Dense(2)],
    "mul": lambda k: [k.Bidirectional(k.GRU(H), merge_mode="mul"), k.Dense(2, use_bias=False)],
    "ave": lambda k: [k.Bidirectional(k.LSTM(H, use_bias=False), merge_mode="ave")],
    "two": lambda k: [k.Bidirectional(k.LSTM(H), backward_layer=k.GRU(3, go_backwards=True))],
    "state": lambda k: [k.LSTM(H, return_state=True)],
    "embedding": lambda k: [k.Embedding(9, F), k.GRU(H), k.Dense(3, activation="sigmoid")],
    "masked": lambda k: [
        k.Embedding(9, F, mask_zero=True),
        k.Bidirectional(k.LSTM(H, return_sequences=True)),
        k.Dropout(0.2),
        k.GRU(H, return_sequences=True),
        k.Dense(4, activation="tanh"),
        k.Bidirectional(k.SimpleRNN(3, return_sequences=True), merge_mode="mul"),
        k.LSTM(3),
        k.Dense(2),
    ],
    "dense": lambda k: [k.Dense(3, activation="relu"), k.Dense(2)],
}


def _keras_model(rng, name, dtype="float32"):
    keras.config.set_dtype_policy(dtype)
    layers = STACKS[name](L)
    keras.config.set_dtype_policy("float32")
    shape = {"embedding": (None,), "masked": (None,), "dense": (F,)}.get(name, (None, F))
    model = keras.Sequential([keras.Input(shape, dtype="int32" if shape == (None,) else dtype), *layers])
    model.set_weights([rng.normal(size=w.shape) / 2 for w in model.get_weights()])
    return model


def _data(rng, name, dtype=np.float32):
    if name == "embedding":
        return rng.integers(0, 9, (N, T))
    if name == "masked":
        return np.where(np.arange(T) < [[4], [T], [1]], rng.integers(1, 9, (N, T)), 0)
    return rng.standard_normal((N, F) if name == "dense" else (N, T, F)).astype(dtype)


def _assert_close(got, want):
    got, want = ([value] if isinstance(value, np.ndarray) else value for value in (got, want))
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, theirs, **CLOSE)


@pytest.mark.parametrize("name", STACKS)
def test_a_model_from_keras(rng, name):
    model, x = _keras_model(rng, name), _data(rng, name)
    made = interop.keras.from_model(model)
    _assert_close(made.predict(x), model.predict(x, verbose=0))
    assert [layer.name for layer in made.layers] == [layer.name for layer in model.layers]


@pytest.mark.parametrize("name", STACKS)
def test_a_model_to_keras(rng, name):
    x = _data(rng, name)
    model = Sequential(STACKS[name](numlstm.layers))
    model.predict(x)
    model.set_weights([rng.normal(size=w.shape) / 2 for w in model.get_weights()])
    made = interop.keras.to_model(model)
    _assert_close(made.predict(x, verbose=0), model.predict(x))
    assert [layer.name for layer in made.layers] == [layer.name for layer in model.layers]


@pytest.mark.parametrize("name", STACKS)
def test_weights_pass_between_the_two(rng, name):
    """The same lists of weights mean the same, without `interop`."""
    theirs, x = _keras_model(rng, name), _data(rng, name)
    ours = Sequential(STACKS[name](numlstm.layers))
    ours.predict(x)
    ours.set_weights(theirs.get_weights())
    _assert_close(ours.predict(x), theirs.predict(x, verbose=0))
    for got, want in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        if got.shape[0] != 2:  # the two biases of a GRU, which become one
            np.testing.assert_array_equal(got, want)
    theirs.set_weights([weight * 0.5 for weight in ours.get_weights()])
    ours.set_weights(theirs.get_weights())
    _assert_close(ours.predict(x), theirs.predict(x, verbose=0))


@pytest.mark.parametrize("loss", ["mse", "sparse_categorical_crossentropy"])
def test_means_over_masked_steps(rng, loss):
    """Losses, metrics and a step of training, with a target at each step and sample weights."""
    x = _data(rng, "masked")
    y = rng.integers(0, 2, (N, T)) if loss.startswith("sparse") else rng.standard_normal((N, T, 2))
    layers = [L.Embedding(9, F, mask_zero=True), L.Bidirectional(L.LSTM(H, return_sequences=True)), L.Dense(2, "softmax")]
    theirs = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
    ours = interop.keras.from_model(theirs)
    metric = "sparse_categorical_accuracy" if loss.startswith("sparse") else "mae"
    for model in (theirs, ours):
        model.compile("sgd", loss, metrics=[metric])
    weights = rng.random((N, T)).astype(np.float32)
    want = theirs.evaluate(x, y, batch_size=N, verbose=0)
    np.testing.assert_allclose(ours.evaluate(x, y), want, rtol=1e-5)
    for model in (theirs, ours):
        model.fit(x, y, batch_size=N, sample_weight=weights, verbose=0)
    _assert_close(ours.get_weights(), theirs.get_weights())


def test_double_precision(rng):
    model, x = _keras_model(rng, "concat", "float64"), _data(rng, "concat", np.float64)
    made = interop.keras.from_model(model)
    got = made.predict(x)
    assert got.dtype == np.float64
    for theirs in (model, interop.keras.to_model(made)):
        want = keras.ops.convert_to_numpy(theirs(x))  # `predict` would round x to float32
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


def test_chains_in_other_words(rng):
    """A functional model, a model in a model, TimeDistributed, and activations as layers."""
    inputs = keras.Input((None, F))
    y = L.LSTM(H, return_sequences=True)(inputs)
    y = L.TimeDistributed(L.Dense(6))(y)
    y = L.Activation("tanh")(y)
    y = keras.Sequential([keras.Input((None, 6)), L.GRU(H), L.Dense(4), L.ReLU()])(y)
    model = keras.Model(inputs, L.Softmax()(L.Activation("linear")(L.Dense(2)(y))))
    x = _data(rng, "")
    made = interop.keras.from_model(model)
    _assert_close(made.predict(x), model.predict(x, verbose=0))
    assert [getattr(layer, "activation", None) for layer in made.layers] == ["tanh", "tanh", "tanh", "relu", "softmax"]


def test_a_stateful_model_keeps_its_batch_size(rng):
    model = keras.Sequential([keras.Input(batch_shape=(N, T, F)), L.LSTM(H, stateful=True)])
    made, x = interop.keras.from_model(model), _data(rng, "")
    assert made.batch_size == N and made.input_shape == (T, F)
    for _ in range(2):
        _assert_close(made.predict(x), model.predict(x, verbose=0, batch_size=N))
    assert interop.keras.to_model(made).input_shape == (N, T, F)


def test_what_only_matters_in_training_is_left_out_with_a_warning(rng):
    layers = [
        L.LSTM(H, bias_regularizer="l1", kernel_regularizer="l2"),
        L.Dense(2, trainable=False, bias_constraint="non_neg"),
    ]
    model, x = keras.Sequential([keras.Input((None, F)), *layers]), _data(rng, "")
    first, last = (layer.name for layer in model.layers)
    left_out = f"kernel_regularizer in {first}, bias_regularizer in {first}, trainable=False in {last}, "
    left_out += f"bias_constraint in {last}"
    with pytest.warns(UserWarning, match=left_out) as warned:
        made = interop.keras.from_model(model)
    assert str(warned[0].message).startswith("numlstm has no ") and warned[0].filename == __file__
    _assert_close(made.predict(x), model.predict(x, verbose=0))


def test_all_that_is_unsupported_is_named():
    inputs = keras.Input((12,), dtype="int32")
    y = L.Embedding(9, F, name="words")(inputs)
    y = L.LayerNormalization(name="norm")(y)
    y = L.LSTM(H, activation="elu", return_sequences=True, name="odd")(y)
    y = L.Bidirectional(L.GRU(3, recurrent_activation="tanh", name="named"))(y)
    y = L.Activation("relu", name="after")(y)
    y = L.Dense(2, activation="gelu", dtype="float16", name="head")(y)
    model = keras.Model(inputs, L.Add(name="add")([y, y]), name="net")
    with pytest.raises(ValueError) as error:
        interop.keras.from_model(model)
    text = str(error.value)
    assert text.startswith(
        "numlstm cannot take over the model net: net (Functional) whose layers do not follow one another; "
    )
    wanted = [
        "norm (LayerNormalization); ",
        "odd (LSTM): activation must be one of 'tanh', 'relu', 'linear', 'sigmoid', 'hard_sigmoid', not 'elu'",
        "forward_named (GRU): recurrent_activation must be one of",
        "backward_named (GRU): recurrent_activation must be one of",
        "after (Activation) of relu; ",
        "head (Dense): activation must be one of",
        "head (Dense) of dtype float16; ",
        "add (Add)",
    ]
    assert not [part for part in wanted if part not in text], text


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: keras.Sequential(), ValueError, "no weights yet: give it an Input"),
        (lambda: keras.Sequential([L.LSTM(3)]), ValueError, "no weights yet: give it an Input"),
        (lambda: Sequential(), TypeError, "model must be a Keras model, not Sequential"),
        (lambda: L.LSTM(3), TypeError, "model must be a Keras model, not LSTM"),
    ],
)
def test_what_is_no_model_with_weights(make, error, message):
    with pytest.raises(error, match=message):
        interop.keras.from_model(make())


def test_what_keras_does_not_have():
    layers = [numlstm.LSTM(H, variant="peephole", return_sequences=True, name="first"), numlstm.LSTM(3, name="second")]
    model = Sequential([numlstm.Input((None, F)), *layers, numlstm.Bidirectional(numlstm.LSTM(2, variant="cifg"))][:3])
    with pytest.raises(ValueError, match=r"sequential: first \(LSTM\) with variant='peephole'$"):
        interop.keras.to_model(model)
    with pytest.raises(ValueError, match="no weights yet"):
        interop.keras.to_model(Sequential([numlstm.LSTM(3)]))


def test_options_that_change_states_are_refused():
    layers = [
        numlstm.LSTM(3, cell_clip=1.0, zoneout=(0.1, 0.2), return_sequences=True, input_shape=(None, F)),
        numlstm.GRU(3, zoneout=0.1, return_sequences=True),
        numlstm.LSTM(3, layer_norm=True),
    ]
    says = r"zoneout=\[0.1, 0.2\].*cell_clip=1.0; gru \(GRU\) with zoneout=0.1;.* \(LSTM\) with layer_norm=True$"
    with pytest.raises(ValueError, match=says):
        interop.keras.to_model(Sequential(layers))


def test_without_keras_the_error_names_the_extra(run_python):
    done = run_python("import sys; sys.modules['keras'] = None; import numlstm.interop.keras", check=False)
    assert 'ModuleNotFoundError: numlstm.interop.keras needs Keras 3: pip install "numlstm[keras]"' in done.stderr
