"""LSTMRegressor and LSTMClassifier; LSTMForecaster is in test_sklearn_forecaster."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from support import assert_same_bits

import numlstm
from numlstm import losses, optimizers
from numlstm.sklearn import LSTMClassifier, LSTMRegressor
from numlstm.sklearn.network import Network

QUICK = {"hidden": 8, "epochs": 2, "random_state": 0}


@pytest.fixture
def recall(rng):
    """Return sequences (N, T, 2), and the first feature where the second is 1: what an LSTM is for."""
    x = rng.standard_normal((600, 12, 2))
    place = rng.integers(0, 12, len(x))
    x[:, :, 1] = np.arange(12) == place[:, np.newaxis]
    return x, x[np.arange(len(x)), place, 0]


@pytest.mark.parametrize("estimator", [LSTMRegressor(), LSTMClassifier()], ids=lambda estimator: type(estimator).__name__)
def test_estimator_checks(estimator):
    """All pass but the expected ones, each of which does fail."""
    expected = estimator.expected_failed_checks()
    results = check_estimator(estimator, expected_failed_checks=expected, on_skip=None, on_fail=None)
    failures = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert not failures
    assert {result["check_name"] for result in results if result["status"] == "xfail"} == set(expected)
    assert len(expected) <= 6 and len(results) > 50


def test_without_scikit_learn(run_python):
    done = run_python("import sys; sys.modules['sklearn'] = None; import numlstm.sklearn", check=False)
    last = done.stderr.splitlines()[-1]
    assert last == 'ModuleNotFoundError: numlstm.sklearn needs scikit-learn: pip install "numlstm[sklearn]"'


# --- what is learnt ---


def test_a_regressor_learns(recall):
    x, y = recall
    model = LSTMRegressor(random_state=0, epochs=60).fit(x[:500], y[:500])
    assert model.score(x[500:], y[500:]) > 0.9
    assert model.n_iter_ == len(model.history_["loss"]) == 60
    assert model.history_["loss"][-1] < 0.1 * model.history_["loss"][0]
    assert isinstance(model.model_, numlstm.Sequential)
    assert (model.sequence_shape_, model.n_features_in_) == ((None, 2), 2)


@pytest.mark.parametrize("labels", [["no", "yes"], [False, True], [3, -1, 7], np.array(["a", "b", "c"], object), [0.0, 1.0]])
def test_a_classifier_learns(recall, labels):
    x, values = recall
    labels = np.asarray(labels)
    y = labels[np.digitize(values, [0] if len(labels) == 2 else [-0.4, 0.4])]
    model = LSTMClassifier(random_state=0, epochs=40).fit(x[:500], y[:500])
    test = x[500:]
    assert model.score(test, y[500:]) > 0.85
    assert model.classes_.tolist() == sorted(labels.tolist())
    probability, decision = model.predict_proba(test), model.decision_function(test)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    assert decision.shape == ((100,) if len(labels) == 2 else (100, 3))
    logits = np.column_stack([np.zeros(100), decision]) if len(labels) == 2 else decision
    odds = np.exp(logits)
    np.testing.assert_allclose(probability, odds / odds.sum(axis=1, keepdims=True))
    assert (model.predict(test) == model.classes_[logits.argmax(axis=1)]).all()


def test_several_targets(recall):
    x, y = recall
    both = np.column_stack([y, 100 - 3 * y])
    model = LSTMRegressor(random_state=0, epochs=60).fit(x[:500], both[:500])
    assert model.predict(x).shape == (600, 2)
    assert model.score(x[500:], both[500:]) > 0.9


# --- layouts, units, weights ---


def test_two_axes_are_three(recall):
    x, y = recall
    whole = LSTMRegressor(**QUICK).fit(x, y)
    flat = LSTMRegressor(**QUICK, timesteps=12).fit(x.reshape(600, 24), y)
    assert (flat.sequence_shape_, flat.n_features_in_) == ((12, 2), 24)
    assert_same_bits(flat.predict(x.reshape(600, 24)), whole.predict(x))
    one_feature = LSTMRegressor(**QUICK).fit(x[:, :, 0], y)
    assert one_feature.sequence_shape_ == (12, 1)
    assert_same_bits(one_feature.predict(x[:, :, 0]), LSTMRegressor(**QUICK).fit(x[:, :, :1], y).predict(x[:, :, :1]))


def test_sequences_of_another_length(recall):
    x, y = recall
    model = LSTMRegressor(**QUICK).fit(x, y)
    assert model.predict(x[:, :7]).shape == (600,)
    assert_same_bits(model.predict(x.tolist()), model.predict(x))


def test_units_do_not_matter(recall):
    x, y = recall
    predicted = LSTMRegressor(**QUICK).fit(x, y).predict(x)
    elsewhere = np.array([1e6, -3.0]) + np.array([1000.0, 0.01]) * x
    np.testing.assert_allclose(
        LSTMRegressor(**QUICK).fit(elsewhere, 7 + 1e4 * y).predict(elsewhere), 7 + 1e4 * predicted, 1e-3
    )


def test_scalers_know_the_samples_learnt_from(recall):
    x, y = recall
    weights = np.arange(600) % 3
    model = LSTMRegressor(**QUICK).fit(x, y, weights)
    mean = np.average(x.mean(axis=1), axis=0, weights=weights)
    np.testing.assert_allclose(model.input_scaler_.offset, mean)
    variance = np.average(((x - mean) ** 2).mean(axis=1), axis=0, weights=weights)
    np.testing.assert_allclose(model.input_scaler_.scale, np.sqrt(variance))
    np.testing.assert_allclose(model.target_scaler_.offset, [np.average(y, weights=weights)])
    raw = LSTMRegressor(**QUICK, standardize=False).fit(x, y)
    assert (raw.input_scaler_.offset == 0).all() and (raw.target_scaler_.scale == 1).all()
    np.testing.assert_allclose(raw.predict(x), raw.model_.predict(x)[:, 0])


def test_a_constant_feature_and_a_constant_target(recall):
    x, _ = recall
    with_constant = np.concatenate([x, np.full((600, 12, 1), 0.1)], axis=2)
    model = LSTMRegressor(**QUICK).fit(with_constant, np.full(600, 42.0))
    assert model.input_scaler_.scale[2] == 1
    np.testing.assert_allclose(model.predict(with_constant), 42, atol=2)


def test_weights_are_copies_in_one_batch(recall, rng):
    x, y = (array[:40] for array in recall)
    weights = rng.integers(0, 4, 40)
    settings = {**QUICK, "dtype": "float64", "batch_size": 1000}
    weighted = LSTMRegressor(**settings).fit(x, y, weights)
    repeated = LSTMRegressor(**settings).fit(np.repeat(x, weights, axis=0), np.repeat(y, weights))
    np.testing.assert_allclose(weighted.predict(x), repeated.predict(x), rtol=1e-9)


@pytest.mark.parametrize("Estimator", [LSTMRegressor, LSTMClassifier])
def test_only_ratios_of_weights_matter(recall, Estimator):
    x, y = recall
    y, weights = y > 0, (np.arange(600) % 2).astype(float)
    odd = Estimator(**QUICK).fit(x[1::2], y[1::2], np.full(300, 4))
    assert_same_bits(Estimator(**QUICK).fit(x, y, weights).predict(x), odd.predict(x))
    assert_same_bits(Estimator(**QUICK).fit(x[1::2], y[1::2]).predict(x), odd.predict(x))


def test_precision(recall):
    x, y = recall
    assert LSTMRegressor(**QUICK).fit(x, y).model_.dtype == np.float32
    double = LSTMRegressor(**QUICK, dtype="float64").fit(x, y)
    assert double.model_.dtype == np.float64
    single = LSTMRegressor(**QUICK).fit(x.astype(np.float32), y)
    np.testing.assert_allclose(single.predict(x), double.predict(x), atol=1e-3)


# --- training ---


@pytest.fixture
def parts(monkeypatch):
    """Return a list that gets what a network is trained on, and what it is validated with."""
    seen = []
    train = Network._train

    def watched(self, rng, outputs, loss, *parts):
        seen.extend(parts)
        train(self, rng, outputs, loss, *parts)

    monkeypatch.setattr(Network, "_train", watched)
    return seen


def test_early_stopping(recall, parts):
    x, y = recall
    noise = np.random.default_rng(0).permutation(y)
    model = LSTMRegressor(early_stopping=True, n_iter_no_change=3, epochs=200, random_state=0).fit(x, noise)
    losses = model.history_["val_loss"]
    assert model.n_iter_ == len(losses) == np.argmin(losses) + 4 < 200
    training, validation = parts
    assert (len(training.x), len(validation.x)) == (540, 60)
    model.model_.compile(loss="mse")
    assert model.model_.evaluate(validation.x, validation.y) == pytest.approx(min(losses), rel=1e-6)  # of the best epoch


def test_what_is_held_out_has_all_classes(recall, parts):
    x, _ = recall
    y = np.repeat(["often", "rare"], [570, 30])
    LSTMClassifier(**QUICK, early_stopping=True, validation_fraction=0.2).fit(x, y)
    assert [np.bincount(part.y).tolist() for part in parts] == [[456, 24], [114, 6]]


def test_parameters_reach_the_network(recall):
    x, y = recall
    model = LSTMRegressor(5, 2, dropout=0.25, epochs=1, random_state=0).fit(x, y).model_
    assert [type(layer).__name__ for layer in model.layers] == ["LSTM", "Dropout"] * 2 + ["Dense"]
    assert (model.layers[0].units, model.layers[1].rate) == (5, 0.25)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "huber"},
        {"loss": losses.Quantile(0.9)},
        {"optimizer": "sgd"},
        {"learning_rate": 0.02},
        {"learning_rate": optimizers.schedules.PiecewiseConstantDecay([], [0.005])},
        {"batch_size": 64},
        {"clip_norm": 0.1},
        {"clip_norm": None},
        {"dropout": 0.5},
        {"random_state": 1},
    ],
    ids=str,
)
def test_parameters_that_change_training(recall, changes):
    x, y = recall
    model = LSTMRegressor(**{**QUICK, **changes})
    assert np.abs(clone(model).fit(x, y).predict(x) - LSTMRegressor(**QUICK).fit(x, y).predict(x)).max() > 1e-6


def test_a_quantile_of_a_number(recall):
    _, y = recall
    x = np.zeros((600, 1))  # tells nothing
    model = LSTMRegressor(loss=losses.Quantile(0.9), random_state=0).fit(x, y)
    np.testing.assert_allclose(model.predict(x[:1]), np.quantile(y, 0.9), atol=0.15)


def test_seeds(recall):
    x, y = recall
    settings = {**QUICK, "dropout": 0.5, "early_stopping": True}
    first = LSTMRegressor(**settings).fit(x, y).predict(x)
    numlstm.set_num_threads(1)
    assert_same_bits(LSTMRegressor(**settings).fit(x, y).predict(x), first)
    stream = np.random.RandomState(0)
    assert_same_bits(LSTMRegressor(**{**settings, "random_state": stream}).fit(x, y).predict(x), first)
    assert (LSTMRegressor(**{**settings, "random_state": stream}).fit(x, y).predict(x) != first).any()
    assert (LSTMRegressor(**{**settings, "random_state": None}).fit(x, y).predict(x) != first).any()


# --- with the rest of scikit-learn ---


@pytest.mark.parametrize("Estimator", [LSTMRegressor, LSTMClassifier])
def test_clone_and_pickle(recall, Estimator):
    x, y = recall
    model = Estimator(**QUICK).fit(x, y > 0)
    copy = clone(model)
    with pytest.raises(NotFittedError):
        copy.predict(x)
    assert_same_bits(copy.fit(x, y > 0).predict(x), model.predict(x))
    content = pickle.dumps(model)
    assert len(content) < 20_000
    assert_same_bits(pickle.loads(content).predict(x), model.predict(x))


def test_a_search_over_a_pipeline_in_two_processes(recall):
    x, y = recall
    pipeline = make_pipeline(StandardScaler(), LSTMRegressor(**QUICK, timesteps=12))
    grid = {"lstmregressor__hidden": [4, 8], "lstmregressor__epochs": [1, 10]}
    search = GridSearchCV(pipeline, grid, n_jobs=2, cv=2, error_score="raise").fit(x.reshape(600, 24), y)
    assert search.best_params_["lstmregressor__epochs"] == 10
    here = clone(pipeline).set_params(**search.best_params_).fit(x.reshape(600, 24), y)
    assert_same_bits(search.predict(x.reshape(600, 24)), here.predict(x.reshape(600, 24)))


def test_splits_in_order_of_time(recall):
    x, y = recall
    scores = cross_val_score(LSTMRegressor(**QUICK), x, y, cv=TimeSeriesSplit(3), error_score="raise")
    last = LSTMRegressor(**QUICK).fit(x[:450], y[:450])
    assert scores.shape == (3,)
    assert scores[2] == last.score(x[450:], y[450:])


def test_frames(recall):
    x, y = recall
    frame = pd.DataFrame(x[:, :, 0], columns=[f"lag {12 - t}" for t in range(12)], index=np.arange(600)[::-1])
    model = LSTMRegressor(**QUICK).fit(frame, pd.Series(y))
    assert model.feature_names_in_.tolist() == frame.columns.tolist()
    assert_same_bits(model.predict(frame), LSTMRegressor(**QUICK).fit(x[:, :, 0], y).predict(x[:, :, 0]))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[frame.columns[::-1]])
    labels = pd.Series(np.where(y > 0, "up", "down"), dtype="category")
    assert set(LSTMClassifier(**QUICK).fit(frame, labels).predict(frame)) <= {"up", "down"}


# --- mistakes ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": 0}, "hidden must be at least 1, not 0"),
        ({"layers": 1.5}, r"layers must be an integer, not 1\.5"),
        ({"dropout": 1}, "dropout must be at least 0 and below 1, not 1"),
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"batch_size": "all"}, "batch_size must be an integer, not 'all'"),
        ({"optimizer": "adan"}, "optimizer must be one of 'adam', .*, not 'adan': did you mean 'adam'"),
        ({"learning_rate": 0}, "learning_rate must be positive, not 0"),
        ({"clip_norm": -1}, "clip_norm must be positive, not -1"),
        ({"validation_fraction": 1.0}, r"validation_fraction must be positive and below 1, not 1\.0"),
        ({"n_iter_no_change": 0}, "n_iter_no_change must be at least 1, not 0"),
        ({"dtype": "float16"}, "dtype must be 'float32' or 'float64', not 'float16'"),
        ({"loss": "mean_squared"}, "loss 'mean_squared' is unknown"),
        (
            {"loss": "binary_crossentropy"},
            "loss must be one of numbers, .*, not of classes: Binary",
        ),
        (
            {"timesteps": 5},
            r"timesteps=5 is for X of shape .*, but X has shape \(600, 12, 2\): leave",
        ),
        (
            {"optimizer": "sgd", "learning_rate": 1e30, "clip_norm": None},
            "training diverged, .*: choose a smaller",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_parameters_that_cannot_be(recall, changes, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        LSTMRegressor(**{**QUICK, **changes}).fit(*recall)


@pytest.mark.parametrize(
    ("x", "y", "weights", "message"),
    [
        (np.zeros((4, 3, 2, 1)), np.zeros(4), None, r"X must have shape \(N, T, F\) or \(N, T \* F\), not \(4, 3, 2, 1\)"),
        (np.zeros((4, 0, 2)), np.zeros(4), None, r"X must have at least one step and one feature, not shape \(4, 0, 2\)"),
        (np.full((4, 3, 2), np.nan), np.zeros(4), None, "Input X contains NaN"),
        (1e200 * np.eye(4, 3)[:, :, None], np.arange(4), None, "X cannot be standardized, its values are too large"),
        (np.zeros((4, 3, 2)), np.zeros((4, 1, 1)), None, "Found array with dim 3"),
        (np.zeros((4, 3, 2)), np.zeros(3), None, "Found input variables with inconsistent numbers of samples"),
        (np.zeros((4, 3, 2)), np.arange(4), np.zeros(4), "sample_weight must be positive for at least one sample"),
        (np.zeros((4, 3, 2)), np.arange(4), [1, 1, 1, -1], "sample_weight must not be negative"),
        (np.zeros((4, 3, 2)), np.arange(4), [1, 1], r"sample_weight must have shape \(4,\), not \(2,\)"),
    ],
)
def test_data_that_cannot_be_learnt_from(x, y, weights, message):
    with pytest.raises(ValueError, match=message):
        LSTMRegressor(**QUICK).fit(x, y, weights)


def test_columns_that_are_no_whole_steps():
    with pytest.raises(ValueError, match=r"^timesteps=4 must divide the number of columns of X, not 10$"):
        LSTMRegressor(timesteps=4).fit(np.zeros((3, 10)), np.zeros(3))


def test_one_class(recall):
    x, _ = recall
    with pytest.raises(ValueError, match=r"^y must hold at least two classes, but has one class, no$"):
        LSTMClassifier(**QUICK).fit(x, np.full(600, "no"))


def test_data_unlike_that_of_fit(recall):
    x, y = recall
    whole, flat = LSTMRegressor(**QUICK).fit(x, y), LSTMRegressor(**QUICK).fit(x[:, :, 0], y)
    with pytest.raises(ValueError, match=r"^X must have shape \(N, T, F\), as it had in fit, not \(600, 12\)$"):
        whole.predict(x[:, :, 0])
    with pytest.raises(ValueError, match=r"^X must have shape \(N, T \* F\), as it had in fit, not \(600, 12, 2\)$"):
        flat.predict(x)
    with pytest.raises(ValueError, match=r"^X must have 2 features a step, as it had in fit, not 1$"):
        whole.predict(x[:, :, :1])
    with pytest.raises(ValueError, match=r"^X has 11 features, but LSTMRegressor is expecting 12 features as input"):
        flat.predict(x[:, :11, 0])
