"""Models: first scripts as people write them, building, prediction, and data of many kinds."""

import copy
import pickle
import threading

import numpy as np
import pytest
from support import assert_same_bits

import numlstm
from numlstm import LSTM, Dense, Dropout, Embedding, Input, Sequential
from numlstm.callbacks import LearningRateScheduler
from numlstm.utils import set_random_seed, to_categorical

DATA = """
import numpy as np
rng = np.random.default_rng(0)
x_train, y_train, x_test = rng.random((50, 60, 1)), rng.random(50), rng.random((7, 60, 1))
"""

NEWCOMER = """
import numlstm
from numlstm import Sequential, LSTM, Dense
model = Sequential()
model.add(LSTM(units=50, return_sequences=True, input_shape=(60, 1)))
model.add(LSTM(units=50))
model.add(Dense(units=1))
model.compile(optimizer="adam", loss="mean_squared_error")
history = model.fit(x_train, y_train, epochs=3, batch_size=32, validation_split=0.2)
y = model.predict(x_test)
model.save("model.safetensors");  model = numlstm.load("model.safetensors")

assert list(history.history) == ["loss", "val_loss"] and history.epoch == [0, 1, 2]
assert history.history["loss"][-1] < history.history["loss"][0]
assert y.shape == (7, 1) and (model.predict(x_test) == y).all()
"""

KERAS = """
from numlstm.callbacks import EarlyStopping, ModelCheckpoint
from numlstm.layers import LSTM, Dense, Dropout, Embedding, Input
from numlstm.losses import Huber
from numlstm.models import Sequential, load_model
from numlstm.optimizers import Adam
from numlstm.optimizers.schedules import ExponentialDecay
from numlstm.utils import set_random_seed, to_categorical

set_random_seed(42)
model = Sequential([
    Input(shape=(60, 1)),
    LSTM(32, return_sequences=True),
    Dropout(0.2),
    LSTM(16, activation="tanh", recurrent_activation="sigmoid"),
    Dense(8, activation="relu"),
    Dense(1),
], name="forecaster")
model.summary()
schedule = ExponentialDecay(1e-2, decay_steps=10, decay_rate=0.9)
model.compile(optimizer=Adam(learning_rate=schedule, clipnorm=1.0), loss=Huber(), metrics=["mae"])
callbacks = [EarlyStopping(monitor="val_loss", patience=5, restore_best_weights=True),
             ModelCheckpoint("best.safetensors", save_best_only=True)]
history = model.fit(x_train, y_train, validation_data=(x_train[:9], y_train[:9]), batch_size=16, epochs=4,
                    callbacks=callbacks, verbose=2)
loss, mae = model.evaluate(x_train, y_train, verbose=0)
assert list(history.history) == ["loss", "mae", "val_loss", "val_mae"]
best = min(history.history["val_loss"])
assert abs(load_model("best.safetensors").evaluate(x_train[:9], y_train[:9])[0] - best) < 1e-7

words = rng.integers(0, 100, (50, 12))
labels = to_categorical(rng.integers(0, 3, 50), num_classes=3)
model = Sequential()
model.add(Embedding(input_dim=100, output_dim=16))
model.add(LSTM(24))
model.add(Dense(3, activation="softmax"))
model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
model.fit(words, labels, epochs=2, batch_size=10, verbose=0)
assert np.allclose(model.predict(words, verbose=0).sum(axis=1), 1, atol=1e-6)
"""


@pytest.mark.parametrize("script", [NEWCOMER, KERAS], ids=["newcomer", "keras"])
def test_first_scripts_run_as_written(run_python, script):
    run_python(DATA + script)


def _model(*layers, **options):
    set_random_seed(11)
    return Sequential(layers or [LSTM(9, return_sequences=True), Dropout(0.5), LSTM(7), Dense(2, "tanh")], **options)


# --- building ---


def test_weights_are_made_with_the_first_data(rng):
    x = rng.standard_normal((3, 5, 4))
    known = _model(Input((None, 4)), *_model().layers)
    assert known.built
    by_hand = _model()
    by_hand.build((None, 5, 4))
    assert_same_bits(by_hand.predict(x), known.predict(x))
    deferred = _model()
    assert not deferred.built and deferred.output_shape is None
    assert_same_bits(deferred.predict(x), known.predict(x))
    assert deferred.input_shape == (None, 4) and deferred.output_shape == (2,)
    assert deferred.predict(x[:, :2]).shape == (3, 2)
    with pytest.raises(ValueError, match=r"x must have shape \(N, any, 4\), not \(3, 5, 3\)"):
        deferred.predict(x[:, :, :3])


def test_a_missing_axis_of_one_feature_is_added(rng):
    model = _model(LSTM(3, input_shape=(6, 1)))
    x = rng.standard_normal((2, 6))
    assert_same_bits(model.predict(x), model.predict(x[:, :, np.newaxis]))
    with pytest.raises(ValueError, match=r"x must have shape \(N, 6, 1\), not \(2, 5, 1\)"):
        model.predict(x[:, :5])


def test_layers_are_named_and_counted():
    model = _model(LSTM(4, input_shape=(3, 2)), Dense(3), Dense(2, name="mine"), Dense(1))
    assert [layer.name for layer in model.layers] == ["lstm", "dense", "mine", "dense_1"]
    assert model.count_params() == (4 * 4 * (2 + 4 + 1)) + (3 * 5) + (2 * 4) + 3


def test_summary(capsys):
    _model(LSTM(50, return_sequences=True, input_shape=(60, 1)), Dropout(0.1), LSTM(50), Dense(1)).summary()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'Model: "sequential"' and lines[-1] == "30,651 parameters, float32, 119.7 KB"
    assert [line.split() for line in lines[4:8]] == [
        ["lstm", "(LSTM)", "(None,", "60,", "50)", "10,400"],
        ["dropout", "(Dropout)", "(None,", "60,", "50)", "0"],
        ["lstm_1", "(LSTM)", "(None,", "50)", "20,200"],
        ["dense", "(Dense)", "(None,", "1)", "51"],
    ]
    said = []
    _model(LSTM(50), dtype="float64").summary(print_fn=said.append)
    assert "?" in said[2] and "not built" in said[2]


@pytest.mark.parametrize(
    "make, error, says",
    [
        (lambda: Sequential([LSTM]), TypeError, "made of layers from numlstm.layers, not .*: add an instance"),
        (lambda: Sequential(["lstm"]), TypeError, "made of layers from numlstm.layers, not 'lstm'"),
        (lambda: Sequential(dtype="float16"), TypeError, "dtype must be 'float32' or 'float64', not 'float16'"),
        (lambda: Sequential(dtype="real"), TypeError, "dtype must be 'float32' or 'float64', not 'real'"),
        (lambda: Sequential([LSTM(3, input_shape=(4, 2)), LSTM(2)]), ValueError, "before it needs return_sequences=True"),
        (lambda: Sequential([LSTM(3, input_shape=(4,))]), ValueError, r"an LSTM takes sequences \(N, T, F\)"),
        (lambda: Sequential([LSTM(3, input_shape=(4, None))]), ValueError, "with F known"),
        (lambda: Sequential([Dense(3), Input((2,))]), ValueError, "an Input must be the first item"),
        (lambda: Sequential([layer := Dense(3), layer]), ValueError, "in the model already: make another one"),
        (lambda: Sequential([Dense(3, name="a"), Dense(3, name="a")]), ValueError, "names must differ"),
        (lambda: Sequential([LSTM(3, return_state=True), Dense(3)]), ValueError, "only the last layer"),
        (lambda: Sequential([Dense(3), Embedding(5, 2)]), ValueError, "an Embedding .* must be the first layer"),
        (lambda: Sequential([Dropout(0.1), Embedding(5, 2)]), ValueError, "an Embedding .* must be the first layer"),
        (lambda: Sequential().predict(np.ones((2, 3))), ValueError, "the model has no layers: add some first"),
        (lambda: Sequential([Dense(2)]).predict(np.ones(3)), ValueError, "at least two axes"),
        (
            lambda: Sequential([Dense(2)]).predict([[1, 2], [3]]),
            ValueError,
            r"sequences of different lengths must .* x has \(2, 2\)",
        ),
        (lambda: Sequential([Dense(2)]).predict([["a"]]), TypeError, "x must be an array of numbers"),
        (lambda: Sequential([Dense(2)]).predict(np.ma.zeros((2, 2))), TypeError, "not a masked one"),
        (lambda: Sequential([Dense(2)]).predict(np.ones((2, 3)), batch_size=0), ValueError, "batch_size must be at least 1"),
        (lambda: Sequential([LSTM(2)]).predict(np.ones((2, 0, 3))), ValueError, "at least one step and one feature"),
        (lambda: Sequential([Dense(2)]).fit([[1]], [1]), ValueError, "not compiled: call compile"),
        (lambda: Sequential([Dense(2)]).compile("adam"), ValueError, "loss must be a name"),
        (lambda: Sequential([Dense(2)]).compile("adam", "mes"), ValueError, "loss 'mes' is unknown"),
    ],
)
def test_what_is_refused(make, error, says):
    with pytest.raises(error, match=says):
        make()


def test_a_layer_that_is_refused_changes_nothing():
    model = _model(LSTM(3, input_shape=(4, 2), name="a"))
    refused = Dense(2, name="a")
    with pytest.raises(ValueError, match="names must differ"):
        model.add(refused)
    assert len(model.layers) == 1 and not refused.built


# --- prediction ---


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_batch_size_and_thread_count_predict_the_same_bits(rng, dtype, all_dealt_out):
    x = rng.standard_normal((67, 30, 5))
    model = _model(LSTM(40, return_sequences=True), Dropout(0.5), LSTM(33), Dense(50, "softmax"), dtype=dtype)
    want = model.predict(x)
    assert want.dtype == dtype and want.shape == (67, 50)
    for threads in (1, 2, 3, 8):
        numlstm.set_num_threads(threads)
        for batch_size in (1, 13, 66, 100, None):
            assert_same_bits(model.predict(x, batch_size=batch_size), want)
    assert_same_bits(model.predict(x[20:21]), want[20:21])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_value_stays_in_its_row(rng, bad):
    x = rng.standard_normal((9, 6, 3))
    for layers in ([LSTM(9, return_sequences=True), LSTM(5), Dense(21, "relu")], [Dense(5), LSTM(3), Dense(20, "softmax")]):
        model = _model(*layers)
        clean = model.predict(x)
        spoilt = x.copy()
        spoilt[4, 2, 1] = bad
        y = model.predict(spoilt)
        others = np.arange(9) != 4
        assert_same_bits(y[others], clean[others])
        assert np.isfinite(bad) or not np.isnan(bad) or np.isnan(y[4]).all()


def test_dropout_is_at_rest_in_prediction(rng):
    x = rng.standard_normal((4, 5, 3))
    model, plain = _model(Dropout(0.9), LSTM(6, dropout=0.9), Dropout(0.9)), _model(LSTM(6))
    model.predict(x)
    plain.predict(x)
    model.set_weights(plain.get_weights())
    assert_same_bits(model.predict(x), plain.predict(x))


class _Frame:
    """Something that says what it holds only when asked, like a pandas frame."""

    def __init__(self, values):
        self._values = np.asarray(values)

    def __array__(self, dtype=None, copy=None):
        return self._values if dtype is None else self._values.astype(dtype)

    def __len__(self):
        return len(self._values)


def _read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def test_data_of_many_kinds(rng):
    x = rng.integers(-4, 4, (6, 5, 2)).astype(np.float32)
    y = rng.integers(-4, 4, (6, 1)).astype(np.float32)
    kinds = [np.asarray, np.ndarray.tolist, _Frame, _read_only, np.asfortranarray, lambda a: a.astype(np.int16)]
    kinds += [lambda a: a.astype(">f8"), lambda a: np.repeat(a, 2, axis=0)[::2]]
    results = []
    for kind in kinds:
        model = _model(LSTM(4), Dense(1))
        model.compile("sgd", "mse")
        history = model.fit(kind(x), kind(y), batch_size=4, epochs=2, verbose=0, sample_weight=kind(np.ones(6)))
        results.append((model.predict(kind(x)), np.array(history.history["loss"])))
    for result in results[1:]:
        assert_same_bits(result, results[0])


def test_predictions_of_no_samples():
    for model, shape in (
        (_model(LSTM(3, return_sequences=True, input_shape=(None, 2))), (0, 5, 3)),
        (_model(LSTM(3, return_sequences=True), Dense(4), LSTM(6)), (0, 6)),
    ):
        y = model.predict(np.zeros((0, 5, 2)))
        assert y.shape == shape and y.dtype == np.float32


def test_states_of_a_model_that_ends_with_them(rng):
    x = rng.standard_normal((7, 5, 2))
    model = _model(LSTM(3, return_sequences=True), LSTM(4, return_sequences=True, return_state=True))
    y, h, c = model.predict(x, batch_size=3)
    assert_same_bits(y[:, -1], h)
    assert c.shape == (7, 4)
    for whole, part in zip((y, h, c), model.predict(x), strict=True):
        assert_same_bits(whole, part)


def test_a_stateful_model_goes_on_where_it_stopped(rng):
    x = rng.standard_normal((4, 10, 2))
    model = _model(Input(batch_shape=(4, None, 2)), LSTM(3, stateful=True, return_sequences=True), LSTM(5, stateful=True))
    whole = model.predict(x)
    model.reset_states()
    model.predict(x[:, :3])
    assert_same_bits(model.predict(x[:, 3:]), whole)
    assert not np.array_equal(model.predict(x), whole)
    model.reset_states()
    assert_same_bits(model.predict(x), whole)


def test_several_threads_predict_at_once(rng):
    xs = [rng.standard_normal((20 + i, 15, 4)).astype(np.float32) for i in range(4)]
    model = _model()
    want = [model.predict(x) for x in xs]
    right = []

    def predict(i):
        right.extend(np.array_equal(model.predict(xs[i], batch_size=8), want[i]) for _ in range(30))

    threads = [threading.Thread(target=predict, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 120


def test_what_predict_returns_is_the_callers(rng):
    x = rng.standard_normal((3, 4)).astype(np.float32)
    model = _model(Dropout(0.5))
    y = model.predict(x)
    y[:] = 0
    assert x.all() and model.predict(x).all()


# --- helpers ---


def _classifier():
    return Sequential(
        [LSTM(5, return_sequences=True, input_shape=(None, 3), seed=1), LSTM(4, seed=2), Dense(2, "relu", seed=3)]
    )


def test_predict_follows_what_changes_between_two_calls(rng):
    """The second call uses the passes of the first again, where they are still right."""
    x = rng.standard_normal((2, 6, 3)).astype(np.float32)
    model = _classifier()
    before = model.predict(x)
    model.layers[-1].activation = "sigmoid"
    after = _classifier()
    after.layers[-1].activation = "sigmoid"
    assert_same_bits(model.predict(x), after.predict(x))
    model.layers[-1].activation = "relu"
    assert_same_bits(model.predict(x), before)
    model.layers[1].parameters["b"][...] = 0.5
    assert not np.array_equal(model.predict(x), before)
    model.layers.pop()
    assert model.predict(x).shape == (2, 4)
    model.layers[1].return_sequences = True
    assert model.predict(x).shape == (2, 6, 4)


def test_predict_keeps_neither_the_data_nor_much_memory(rng):
    import weakref

    model = _classifier()
    x = rng.standard_normal((2, 6, 3)).astype(np.float32)
    gone = weakref.ref(x)
    model.predict(x)
    del x
    assert gone() is None
    assert len(model._predictors) == 1
    model.predict(np.ones((1000, 100, 3)))
    assert sum(kept.nbytes for kept in model._predictors) < 2_000_000
    assert pickle.loads(pickle.dumps(model))._predictors == copy.deepcopy(model)._predictors == []


def test_to_categorical():
    assert to_categorical([0, 2]).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert to_categorical([[1], [0]], 2).shape == (2, 2) and to_categorical([0]).dtype == np.float32
    with pytest.raises(ValueError, match=r"x must be whole numbers from 0 to 1, but x\[1\] is 2"):
        to_categorical([0, 2], 2)


def test_a_seed_leaves_numpys_generator_alone():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    set_random_seed(5)
    _model().predict(np.zeros((1, 2, 3)))
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    with pytest.raises(ValueError, match="seed must be at least 0"):
        set_random_seed(-1)


def test_a_layer_that_was_called_before_can_be_saved_in_a_model(rng, tmp_path):
    x = rng.standard_normal((3, 4)).astype(np.float32)
    layer = Dense(2)
    y = layer(x)
    Sequential([layer]).save(tmp_path / "model")
    assert_same_bits(numlstm.load(tmp_path / "model").predict(x), y)


def test_weights_are_set_all_or_none():
    model = Sequential([Dense(2, input_shape=(3,)), Dense(1)])
    before = tuple(model.get_weights())
    new = [np.ones_like(weight) for weight in before]
    for bad in (None, [["a"]], [[1, 2], [3]], np.ones(1) * 1j):
        with pytest.raises(TypeError, match=r"weights\[3\] must be an array of numbers"):
            model.set_weights([*new[:3], bad])
        assert_same_bits(tuple(model.get_weights()), before)


def test_an_embedding_takes_sequences_of_any_length():
    model = Sequential([Embedding(5, 2), LSTM(3)])
    assert [model.predict(np.ones((2, steps), int)).shape for steps in (5, 7)] == [(2, 3), (2, 3)]


def test_no_samples_with_states():
    y, h, c = Sequential([LSTM(3, return_state=True, input_shape=(4, 2))]).predict(np.zeros((0, 4, 2)))
    assert y.shape == h.shape == c.shape == (0, 3)


def test_a_model_can_be_pickled_after_training_with_any_callback(rng):
    x, y = rng.standard_normal((4, 3)), rng.standard_normal((4, 1))
    model = Sequential([Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x, y, verbose=0, callbacks=[LearningRateScheduler(lambda epoch, rate: rate)])
    assert_same_bits(pickle.loads(pickle.dumps(model)).predict(x), model.predict(x))


def test_names_in_any_case_and_classes():
    model = Sequential([Dense(1, kernel_initializer="GlorotUniform", input_shape=(2,))])
    model.compile("Adam", "MSE", metrics=["MAE"])
    assert type(model.loss).__name__ == "MeanSquaredError"
    model.compile("RMSprop", "MeanAbsoluteError")
    assert type(model.loss).__name__ == "MeanAbsoluteError"


@pytest.mark.parametrize("classes", [[0], 5 * [1]])
def test_classes_as_vectors_take_no_table(classes):
    assert to_categorical(classes, 400_000).shape == (len(classes), 400_000)
