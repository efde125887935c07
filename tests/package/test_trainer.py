"""`fit` and `Trainer`: what is refused, what is reported, validation, shuffling, and the same bits for the same seed."""

import copy
import pickle

import numpy as np
import pytest
from support import assert_same_bits

import numlstm
from numlstm import LSTM, Dense, Dropout, Embedding, History, Input, Sequential, Trainer
from numlstm.callbacks import Callback
from numlstm.optimizers import SGD, Adam, AdamW
from numlstm.utils import set_random_seed


def _model(dropout=0.0, dtype="float64"):
    set_random_seed(6)
    return Sequential([Input((None, 3)), LSTM(5, dropout=dropout), Dropout(dropout), Dense(2)], dtype=dtype)


@pytest.fixture
def data(rng):
    return rng.standard_normal((20, 6, 3)), rng.standard_normal((20, 2))


def _fit(model, x, y, seed=1, optimizer=None, loss="mse", **options):
    """Return weights and the history of a training."""
    trainer = Trainer(model, optimizer or SGD(0.1), loss, seed=seed, metrics=options.pop("metrics", ()))
    history = trainer.fit(x, y, **{"batch_size": 8, "epochs": 3, "verbose": 0, **options})
    return tuple(model.get_weights()), history.history


# --- what is reported ---


def test_history(data):
    x, y = data
    model = _model()
    model.compile(SGD(0.0), "mse", metrics=["mae", "rmse"])
    history = model.fit(x, y, epochs=3, validation_data=(x[:5], y[:5]), verbose=0)
    assert isinstance(history, History) and history.epoch == [0, 1, 2]
    assert list(history.history) == ["loss", "mae", "rmse", "val_loss", "val_mae", "val_rmse"]
    for prefix, part in (("", slice(None)), ("val_", slice(5))):
        error = model.predict(x[part]) - y[part]
        for name, want in (("loss", (error**2).mean()), ("mae", np.abs(error).mean()), ("rmse", (error**2).mean() ** 0.5)):
            assert history.history[prefix + name] == pytest.approx([want] * 3, rel=1e-12)
    assert all(isinstance(value, float) for values in history.history.values() for value in values)


def test_metrics_by_hand(rng):
    """Means over samples, also where the last batch is smaller."""
    x, labels = rng.standard_normal((11, 4, 3)), rng.integers(0, 3, 11)
    model = Sequential([LSTM(4), Dense(3, "softmax")], dtype="float64")
    loss = "sparse_categorical_crossentropy"
    _, history = _fit(model, x, labels, optimizer=SGD(0.0), loss=loss, metrics=["accuracy", loss], epochs=1)
    p = model.predict(x)
    surprise = -np.log(p[np.arange(11), labels]).mean()
    assert history["loss"] == pytest.approx([surprise], rel=1e-12)
    assert history["sparse_categorical_crossentropy"] == pytest.approx([surprise], rel=1e-6)
    assert history["accuracy"] == pytest.approx([(p.argmax(axis=1) == labels).mean()], rel=1e-12)


def test_evaluate(data):
    x, y = data
    model = _model()
    model.compile("sgd", "mse")
    error = model.predict(x) - y
    assert model.evaluate(x, y) == pytest.approx((error**2).mean(), rel=1e-12)
    weights = np.arange(20.0)
    weighted = model.evaluate(x, y, batch_size=7, sample_weight=weights)
    assert weighted == pytest.approx(((error**2).mean(axis=1) * weights).mean(), rel=1e-12)
    model.compile("sgd", "mse", metrics=["mae"])
    assert model.evaluate(x, y) == [model.evaluate(x, y, return_dict=True)[name] for name in ("loss", "mae")]
    before = model.get_weights()
    model.evaluate(x, y)
    assert_same_bits(tuple(model.get_weights()), tuple(before))


def test_step_returns_the_loss_before_the_update(data):
    x, y = data
    model = _model()
    trainer = Trainer(model, SGD(0.5))
    want = ((model.predict(x) - y) ** 2).mean()
    assert trainer.step(x, y) == pytest.approx(want, rel=1e-12)
    assert trainer.step(x, y) < want


# --- validation ---


def test_the_last_samples_validate_and_are_not_trained_on(data):
    x, y = data
    weights, split = _fit(_model(0.3), x, y, validation_split=0.25)
    apart = _fit(_model(0.3), x[:15], y[:15], validation_data=(x[15:], y[15:]))
    assert_same_bits(weights, apart[0])
    assert split == apart[1]
    model = _model()
    model.set_weights(weights)
    model.compile("sgd", "mse")
    assert split["val_loss"][-1] == model.evaluate(x[15:], y[15:])
    assert_same_bits(_fit(_model(0.3), x[:15], y[:15])[0], weights)  # validation has no part in training


def test_validation_with_weights(data):
    x, y = data
    weights = np.arange(20.0)
    options = {"optimizer": SGD(0.0), "sample_weight": weights, "validation_data": (x, y, weights)}
    _, history = _fit(_model(), x, y, **options)
    assert history["val_loss"] == pytest.approx(history["loss"], rel=1e-12)
    _, split = _fit(_model(), x, y, optimizer=SGD(0.0), sample_weight=weights, validation_split=0.5)
    assert split["val_loss"] == pytest.approx(_model_loss(x[10:], y[10:], weights[10:]), rel=1e-12)


def _model_loss(x, y, weights):
    return [((_model().predict(x) - y) ** 2).mean(axis=1) @ weights / len(x)] * 3


# --- order and seeds ---


class _Losses(Callback):
    """Keeps the loss of the first batch of each epoch."""

    def __init__(self):
        self.first = []

    def on_train_batch_end(self, batch, logs=None):
        if batch == 0:
            self.first.append(logs["loss"])


def test_each_epoch_has_an_order_of_its_own(data):
    x, y = data
    losses, plain = _Losses(), _Losses()
    _, history = _fit(_model(), x, y, optimizer=SGD(0.0), callbacks=[losses])
    _fit(_model(), x, y, optimizer=SGD(0.0), callbacks=[plain], shuffle=False)
    assert len(set(losses.first)) == 3 and len(set(plain.first)) == 1
    trainer = Trainer(_model(), SGD(0.0), seed=1)
    for _ in range(3):  # also where each is a training of its own
        trainer.fit(x, y, batch_size=8, verbose=0, callbacks=[losses])
    assert losses.first[3:] == losses.first[:3]
    assert history["loss"] == pytest.approx([((_model().predict(x) - y) ** 2).mean()] * 3, rel=1e-12)  # each sample once


def test_seeds(data):
    x, y = data
    same = [_fit(_model(0.3), x, y, seed=4) for _ in range(2)]
    assert_same_bits(same[0][0], same[1][0])
    assert same[0][1] == same[1][1]
    for dropout, shuffle in ((0.3, False), (0.0, True)):
        left, right = (_fit(_model(dropout), x, y, seed=seed, shuffle=shuffle)[0] for seed in (4, 5))
        assert not np.array_equal(left[0], right[0])
    left, right = (_fit(_model(), x, y, seed=seed, shuffle=False)[0] for seed in (4, 5))
    assert_same_bits(left, right)


def test_set_random_seed_decides_all(data):
    results = []
    for seed in (3, 3, 4):
        set_random_seed(seed)
        model = Sequential([LSTM(5, dropout=0.3), Dropout(0.3), Dense(2)])
        model.compile("adam", "mse")
        model.fit(*data, epochs=2, verbose=0)
        results.append(tuple(model.get_weights()))
    assert_same_bits(results[0], results[1])
    assert not np.array_equal(results[0][0], results[2][0])


def test_a_layer_with_a_seed_has_masks_of_its_own(data):
    x, y = data

    def weights(layer_seed, seed):
        set_random_seed(6)
        model = Sequential([Input((None, 3)), LSTM(5), Dropout(0.5, seed=layer_seed), Dense(2)])
        return _fit(model, x, y, seed=seed, shuffle=False)[0]

    assert_same_bits(weights(1, 4), weights(1, 5))
    assert not np.array_equal(weights(1, 4)[0], weights(2, 4)[0])


NUMBERS = [LSTM(96, return_sequences=True, dropout=0.2), Dropout(0.3), LSTM(64, go_backwards=True), Dense(700, "tanh")]
WORDS = [Embedding(300, 64), LSTM(40, return_sequences=True), Dense(40, "relu")]


@pytest.mark.parametrize("kind", ["numbers", "words"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_seed_gives_the_same_bits_at_any_thread_count(rng, kind, dtype, all_dealt_out):
    x = rng.standard_normal((64, 9, 20)) if kind == "numbers" else rng.integers(0, 300, (64, 9))
    y = rng.integers(0, 5, 64 if kind == "numbers" else (64, 9))
    results = []
    for threads in (1, 2, 3, 8):
        numlstm.set_num_threads(threads)
        set_random_seed(2)
        layers = [type(layer)(**layer.get_config()) for layer in (NUMBERS if kind == "numbers" else WORDS)]
        model = Sequential([*layers, Dense(5, "softmax")], dtype=dtype)
        optimizer = AdamW(0.01, global_clipnorm=0.1)
        options = {"batch_size": 50, "epochs": 2, "validation_split": 0.1, "metrics": ["accuracy"]}
        results.append(_fit(model, x, y, optimizer=optimizer, loss="sparse_categorical_crossentropy", **options))
    for weights, history in results[1:]:
        assert_same_bits(weights, results[0][0])
        assert history == results[0][1]


# --- epochs ---


def test_epochs_are_counted_from_0_or_from_where_it_is_said(data):
    trainer = Trainer(_model())
    assert trainer.fit(*data, epochs=0, verbose=0).history == {}
    assert trainer.fit(*data, epochs=2, verbose=0).epoch == [0, 1]
    assert trainer.fit(*data, epochs=2, verbose=0).epoch == [0, 1]
    assert trainer.fit(*data, epochs=5, initial_epoch=3, verbose=0).epoch == [3, 4]
    assert trainer.fit(*data, epochs=2, initial_epoch=2, verbose=0).epoch == []


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_trains_on_like_the_model(data, copied):
    model = _model(0.3)
    model.compile("adam", "mse")
    model.fit(*data, epochs=2, verbose=0)
    twin = copied(model)
    histories = [each.fit(*data, epochs=2, verbose=0).history for each in (model, twin)]
    assert histories[0] == histories[1]
    assert_same_bits(tuple(model.get_weights()), tuple(twin.get_weights()))
    model.fit(*data, verbose=0)
    assert not np.array_equal(model.get_weights()[0], twin.get_weights()[0])


def test_a_loss_falls_and_a_layer_added_later_is_trained(data):
    x, y = data
    set_random_seed(6)
    model = Sequential([LSTM(8)])
    model.compile(Adam(0.01), "mse")
    model.fit(x, np.tile(y, 4), verbose=0)
    model.add(Dense(2))
    before = model.evaluate(x, y)
    history = model.fit(x, y, epochs=30, verbose=0)
    assert history.history["loss"][-1] < 0.9 * before


# --- what is refused ---


def _with(array, place, value):
    array = np.array(array, float)
    array[place] = value
    return array


X, Y = np.zeros((20, 6, 3)), np.zeros((20, 2))


@pytest.mark.parametrize(
    "x, y, options, error, says",
    [
        (_with(X, (3, 2, 1), np.nan), Y, {}, ValueError, r"x must be finite, but x\[3, 2, 1\] is nan \(1 such values"),
        (_with(X, (3, 2), [np.inf, -np.inf, 0]), Y, {}, ValueError, r"x\[3, 2, 0\] is inf \(2 such"),
        (_with(X, (3, 2, 1), 1e300), Y, {"dtype": "float32"}, ValueError, r"x must be finite, but x\[3, 2, 1\] is inf"),
        (X, _with(Y, (7, 1), np.nan), {}, ValueError, r"y must be finite, but y\[7, 1\] is nan"),
        (X, Y[:19], {}, ValueError, "x and y must have as many samples, not 20 and 19"),
        (X[:0], Y[:0], {}, ValueError, r"x holds no samples: its shape is \(0, 6, 3\)"),
        ([], [], {}, ValueError, "x must have shape"),
        (X[:, :, :2], Y, {}, ValueError, r"x must have shape \(N, any, 3\), not \(20, 6, 2\)"),
        (X[:, 0], Y, {}, ValueError, r"x must have shape \(N, any, 3\), not \(20, 3\)"),
        (X[:, :0], Y, {}, ValueError, "x must have at least one step"),
        (X, Y[:, :1], {}, ValueError, r"y must have the shape \(20, 2\) of the model's output, not \(20, 1\)"),
        (X, Y[:, 0], {}, ValueError, r"y must have the shape \(20, 2\)"),
        (X, None, {}, TypeError, "y is missing"),
        (None, Y, {}, TypeError, "x must be an array of numbers, not None"),
        (X.astype(str), Y, {}, TypeError, "x must be an array of numbers"),
        (X, Y.astype("datetime64[s]"), {}, TypeError, "y must be an array of numbers"),
        (np.ma.masked_equal(X, 0), Y, {}, TypeError, "not a masked one"),
        (X, Y, {"sample_weight": np.ones(19)}, ValueError, r"sample_weight must have shape \(20,\), not \(19,\)"),
        (X, Y, {"sample_weight": -np.ones(20)}, ValueError, "sample_weight must not be negative"),
        (X, Y, {"validation_data": (X, Y[:3])}, ValueError, "validation x and validation y must have as many samples"),
        (X, Y, {"validation_data": (X, _with(Y, (2, 1), np.nan))}, ValueError, r"validation y\[2, 1\] is nan"),
        (X, Y, {"validation_data": X}, TypeError, r"validation_data must be \(x, y\)"),
        (X, Y, {"validation_split": 1.0}, ValueError, "validation_split must be at least 0 and below 1"),
        (X, Y, {"validation_split": -0.1}, ValueError, "validation_split must be at least 0"),
        (X, Y, {"validation_split": 0.99}, ValueError, "of 20 samples leaves none to train on or to validate with"),
        (X[:1], Y[:1], {"validation_split": 0.2}, ValueError, "of 1 samples leaves none"),
        (X, Y, {"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        (X, Y, {"batch_size": 2.5}, TypeError, "batch_size must be an integer, not 2.5"),
        (X, Y, {"epochs": -1}, ValueError, "epochs must be at least 0"),
        (X, Y, {"epochs": True}, TypeError, "epochs must be an integer, not True"),
        (X, Y, {"verbose": 3}, ValueError, "verbose must be 0 .silent., 1 .a progress bar. or 2"),
        (X, Y, {"verbose": "loud"}, ValueError, "verbose must be 0"),
        (X, Y, {"callbacks": [Callback]}, TypeError, "callbacks must be instances of numlstm.*, not <class"),
        (X, Y, {"callbacks": 3}, TypeError, "callbacks must be"),
        (X, Y, {"initial_epoch": -1}, ValueError, "initial_epoch must be at least 0"),
    ],
)
def test_what_fit_refuses(x, y, options, error, says):
    options = dict(options)
    model = _model(dtype=options.pop("dtype", "float64"))
    before = tuple(model.get_weights())
    model.compile("sgd", "mse")
    with pytest.raises(error, match=says):
        model.fit(x, y, **{"verbose": 0, **options})
    assert_same_bits(tuple(model.get_weights()), before)


@pytest.mark.parametrize(
    "y, loss, says",
    [
        ([0, 1, 2, 5], "sparse_categorical_crossentropy", r"y must be whole numbers from 0 to 2, but y\[3\] is 5"),
        ([0, 1, -1, 2], "sparse_categorical_crossentropy", r"y\[2\] is -1"),
        ([0, 1, np.nan, 2], "sparse_categorical_crossentropy", r"y must be whole numbers, but y\[2\] is nan"),
        ([0, 1, 2, 2], "categorical_crossentropy", "use sparse_categorical_crossentropy"),
        (np.eye(4, 3) * 2, "categorical_crossentropy", r"y must lie between 0 and 1, but y\[0, 0\] is 2"),
        (np.eye(4, 3) - 0.5, "binary_crossentropy", r"y must lie between 0 and 1, but y\[0, 1\] is -0.5"),
        (_with(np.eye(4, 3), (1, 0), np.nan), "binary_crossentropy", r"y must be finite, but y\[1, 0\] is nan"),
    ],
)
def test_targets_out_of_range(y, loss, says):
    model = Sequential([Dense(3, "softmax")])
    model.compile("sgd", loss)
    with pytest.raises(ValueError, match=says):
        model.fit(np.ones((4, 2)), y, verbose=0)


@pytest.mark.parametrize(
    "make, error, says",
    [
        (lambda: Trainer(Sequential()).fit(X, Y), ValueError, "the model has no layers"),
        (lambda: Trainer(Sequential([LSTM(2, return_state=True)])).fit(X, Y), ValueError, "make it without return_state"),
        (lambda: Trainer(_model(), clip_norm=0), ValueError, "clip_norm must be positive"),
        (lambda: Trainer(_model(), clip_value=-1), ValueError, "clip_value must be positive"),
        (lambda: Trainer(_model(), Adam(clipnorm=1), clip_norm=1), ValueError, "the optimizer clips already"),
        (lambda: Trainer(_model(), truncate=0), ValueError, "truncate must be at least 1"),
        (lambda: Trainer(_model(), accumulate=0), ValueError, "accumulate must be at least 1"),
        (lambda: Trainer(_model(), seed="a"), TypeError, "seed must be an integer"),
        (lambda: Trainer(_model(), "adamm"), ValueError, "optimizer 'adamm' is unknown .did you mean"),
        (lambda: Trainer(_model(), loss=None), TypeError, "loss must be a name"),
        (lambda: Trainer(_model(), callbacks=["stop"]), TypeError, "callbacks must be instances"),
        (lambda: Trainer(_model()).evaluate(X[:0], Y[:0]), ValueError, "x holds no samples"),
        (lambda: Trainer(_model()).evaluate(X, Y, batch_size=0), ValueError, "batch_size must be at least 1"),
        (lambda: Sequential([Embedding(5, 2), LSTM(3)]).fit([[1]], [1]), ValueError, "not compiled"),
        (
            lambda: Trainer(Sequential([Embedding(5, 2), LSTM(3)])).fit([[1, 5]], [[1, 1, 1]]),
            ValueError,
            r"x must be whole numbers from 0 to 4, but x\[0, 1\] is 5",
        ),
    ],
)
def test_what_is_refused(make, error, says):
    with pytest.raises(error, match=says):
        make()
