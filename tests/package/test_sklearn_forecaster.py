import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.utils import estimator_checks
from support import assert_same_bits

from numlstm import datasets, optimizers
from numlstm.sklearn import LSTMForecaster

QUICK = {"lookback": 8, "horizon": 3, "hidden": 8, "epochs": 3, "random_state": 0}


@pytest.fixture
def walk(rng):
    """Return a series (T,) that moves tomorrow as one of two exogenous columns (T, 2) says today."""
    x = rng.standard_normal((400, 2))
    return 100 + np.cumsum(np.r_[0, x[:-1, 0]]), x


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_do_not_raise_errors_in_init_or_set_params,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
        estimator_checks.check_valid_tag_types,
    ],
    ids=lambda check: check.__name__,
)
def test_estimator_checks_that_need_no_samples(check):
    check("LSTMForecaster", LSTMForecaster())


def test_the_weather_is_forecast_with_intervals():
    weather = datasets.seattle_weather()
    names = [name for name in weather.numeric_columns() if name != "temp_max"]
    y, X = weather.column("temp_max"), np.column_stack([weather.column(name) for name in names])
    model = LSTMForecaster(horizon=3, random_state=0).fit(y[:1169], X[:1169])
    forecasts = model.predict_rolling(y[1139:], X[1139:])
    truth = np.lib.stride_tricks.sliding_window_view(y[1169:], 3)
    assert forecasts.shape == (290, 3, 3)
    assert (np.diff(forecasts, axis=2) >= 0).all()
    held = (forecasts[:, :, 0] <= truth) & (truth <= forecasts[:, :, 2])
    assert 0.72 < held.mean() < 0.88  # 0.8 is meant
    naive = np.abs(y[1168:-3, np.newaxis] - truth).mean()
    assert np.abs(forecasts[:, :, 1] - truth).mean() < 0.9 * naive
    squares = ((forecasts[:, :, 1] - truth) ** 2).sum(axis=0) / ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    assert model.score(y[1139:], X[1139:]) == pytest.approx(1 - squares.mean())


def test_exogenous_columns_tell(walk):
    y, X = walk
    settings = {**QUICK, "horizon": 1, "hidden": 16, "epochs": 40, "dropout": 0.0, "learning_rate": 0.01}
    with_columns = LSTMForecaster(**settings).fit(y[:300], X[:300]).predict_rolling(y[300:], X[300:])[:, 0, 1]
    alone = LSTMForecaster(**settings).fit(y[:300]).predict_rolling(y[300:])[:, 0, 1]
    assert np.abs(with_columns - y[308:]).mean() < 0.4 * np.abs(alone - y[308:]).mean()


def test_a_trend_is_followed():
    t = np.arange(400)
    y = 5.0 * t + 10 * np.sin(t / 5)
    model = LSTMForecaster(20, 5, dropout=0.0, learning_rate=0.01, random_state=0).fit(y[:300])
    assert np.abs(model.predict() - y[300:305]).max() < 3
    assert np.abs(model.predict(y=y[:395]) - y[395:]).max() < 3


def test_each_step_ahead_has_its_own_forecast():
    y = 10 * np.sin(2 * np.pi * np.arange(400) / 7)
    model = LSTMForecaster(14, 4, dropout=0.0, learning_rate=0.01, random_state=0).fit(y[:300])
    assert np.abs(model.predict() - y[300:304]).max() < 1


def test_quantiles_that_would_cross_are_sorted(walk):
    y, _ = walk
    quantiles = [0.5, *np.linspace(0.51, 0.6, 10)]
    model = LSTMForecaster(**{**QUICK, "epochs": 1}, quantiles=quantiles).fit(y)
    assert (np.diff(model.predict_rolling(y), axis=2) >= 0).all()


def test_forecasts_agree(walk):
    y, X = walk
    model = LSTMForecaster(**QUICK).fit(y[:300], X[:300])
    every = model.predict_quantiles()
    assert every.shape == (3, 3)
    assert_same_bits(model.predict(), every[:, 1])
    assert_same_bits(model.predict(2), every[:2, 1])
    assert_same_bits(model.predict_interval(1), every[:1, [0, 2]])
    assert_same_bits(model.predict_quantiles(y=y[:300], X=X[:300]), every)
    assert_same_bits(model.predict_quantiles(y=y[292:300], X=X[292:300]), every)
    rolling = model.predict_rolling(y[:310], X[:310])
    assert rolling.shape == (300, 3, 3)
    assert_same_bits(rolling[292], every)
    assert_same_bits(model.last_rows_, np.column_stack([y, X])[292:300])


def test_quantiles(walk):
    y, _ = walk
    model = LSTMForecaster(**QUICK, quantiles=[0.05, 0.25, 0.5, 0.95]).fit(y)
    assert model.predict_quantiles().shape == (3, 4)
    assert_same_bits(model.predict(), model.predict_quantiles()[:, 2])
    assert_same_bits(model.predict_interval(), model.predict_quantiles()[:, [0, 3]])
    median = LSTMForecaster(**QUICK, quantiles=0.5).fit(y)
    assert median.predict().shape == (3,)
    with pytest.raises(ValueError, match=r"^quantiles must hold the ends of an interval beside 0\.5, such as"):
        median.predict_interval()


def test_what_is_held_out_is_the_end(walk):
    y, _ = walk
    model = LSTMForecaster(**QUICK).fit(y)
    assert set(model.history_) == {"loss", "val_loss"}
    changed = np.r_[y[:340], y[:60]]
    other = LSTMForecaster(**QUICK).fit(changed)
    assert other.history_["loss"] == model.history_["loss"]
    assert other.history_["val_loss"] != model.history_["val_loss"]
    everything = LSTMForecaster(**QUICK, early_stopping=False).fit(y)
    assert set(everything.history_) == {"loss"}
    assert everything.history_["loss"] != LSTMForecaster(**QUICK, early_stopping=False).fit(changed).history_["loss"]


def test_training_ends_early():
    noise = np.random.default_rng(0).normal(size=300)
    model = LSTMForecaster(8, hidden=8, epochs=500, n_iter_no_change=4, random_state=0).fit(noise)
    losses = model.history_["val_loss"]
    assert model.n_iter_ == len(losses) == np.argmin(losses) + 5 < 500


def test_clone_and_pickle(walk):
    model = LSTMForecaster(**QUICK).fit(*walk)
    copy = clone(model)
    with pytest.raises(NotFittedError):
        copy.predict()
    assert_same_bits(copy.fit(*walk).predict_quantiles(), model.predict_quantiles())
    assert_same_bits(pickle.loads(pickle.dumps(model)).predict_quantiles(), model.predict_quantiles())
    rate = optimizers.schedules.CosineDecay(0.01, 100)
    assert clone(LSTMForecaster(learning_rate=rate)).learning_rate.get_config() == rate.get_config()


def test_a_search_with_splits_in_order_of_time(walk):
    y, X = walk
    splits = TimeSeriesSplit(3)
    search = GridSearchCV(LSTMForecaster(**QUICK), {"epochs": [1, 20]}, n_jobs=2, cv=splits, error_score="raise").fit(y, X)
    scores = []
    for learnt, tested in splits.split(y):
        model = LSTMForecaster(**{**QUICK, **search.best_params_}).fit(y[learnt], X[learnt])
        scores.append(model.score(y[tested], X[tested]))
    assert search.best_score_ == np.mean(scores)
    assert_same_bits(
        search.best_estimator_.predict(), LSTMForecaster(**{**QUICK, **search.best_params_}).fit(y, X).predict()
    )


def test_frames(walk):
    y, X = walk
    days = pd.date_range("2020-01-01", periods=400)
    frame = pd.DataFrame({"sales": y, "price": X[:, 0], "rain": X[:, 1]}, index=days)
    model = LSTMForecaster(**QUICK).fit(frame["sales"], frame[["price", "rain"]])
    assert (model.n_features_in_, model.feature_names_in_.tolist()) == (2, ["price", "rain"])
    assert_same_bits(model.predict(), LSTMForecaster(**QUICK).fit(y, X).predict())
    recent = frame[-20:]
    assert_same_bits(model.predict(y=recent[["sales"]], X=recent[["price", "rain"]]), model.predict())
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(y=recent["sales"], X=recent[["rain", "price"]])
    with pytest.raises(ValueError, match=r"^y and X must have the same index: align them first$"):
        model.fit(frame["sales"][:-1], frame[["price"]][1:])
    frame["flag"] = 1.0
    with pytest.raises(ValueError, match=r"^column 'flag' is constant, 1 in all of the 340 rows to learn from: leave"):
        model.fit(frame["sales"], frame[["flag"]])
    assert model.fit(frame["sales"]).n_features_in_ == 0
    assert not hasattr(model, "feature_names_in_")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lookback": 0}, "lookback must be at least 1, not 0"),
        ({"horizon": "x"}, "horizon must be an integer, not 'x'"),
        ({"quantiles": (0.1, 0.9)}, r"quantiles must ascend, and 0\.5, the median, must be among them, not \(0\.1, 0\.9\)"),
        ({"quantiles": (0.9, 0.5, 0.1)}, "quantiles must ascend"),
        ({"quantiles": (0, 0.5)}, "quantiles must be one number or several between 0 and 1"),
        ({"lookback": 390}, "400 rows are too few: it takes 463 to look back 390 rows, forecast 3 and validate"),
        (
            {"lookback": 399, "early_stopping": False},
            "400 rows are too few: it takes 403 to look back 399 rows and",
        ),
    ],
    ids=str,
)
def test_parameters_that_cannot_be(walk, changes, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        LSTMForecaster(**{**QUICK, **changes}).fit(*walk)


@pytest.mark.parametrize(
    ("y", "X", "message"),
    [
        (np.ones(100), None, "y is constant, 1 in all of the 85 rows to learn from: choose another target"),
        (3.0 * np.arange(100), None, "y changes by the same amount at each step: there is nothing to learn"),
        (np.ones((100, 2)), None, r"y must have shape \(T,\), not \(100, 2\): exogenous columns are given as X"),
        (np.r_[np.nan, np.arange(99)], None, "Input y contains NaN"),
        (np.sin(np.arange(100)), np.ones((99, 1)), "y and X must have as many rows, not 100 and 99"),
        (np.sin(np.arange(100)), np.ones((100, 1)), "column 'x0' is constant"),
        (np.sin(np.arange(100)), np.ones(100), "Expected 2D array, got 1D array instead"),
    ],
)
def test_series_that_cannot_be_learnt_from(y, X, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        LSTMForecaster(**QUICK).fit(y, X)


def test_data_unlike_that_of_fit(walk):
    y, X = walk
    alone, both = LSTMForecaster(**QUICK).fit(y), LSTMForecaster(**QUICK).fit(y, X)
    mistakes = [
        (lambda: alone.predict(4), "horizon must be at most 3, that of fit, not 4"),
        (lambda: alone.predict(0), "horizon must be at least 1, not 0"),
        (lambda: alone.predict(y=y, X=X), "X must be left out: there were no exogenous columns in fit"),
        (lambda: both.predict(y=y), "X must be given with y: there were 2 exogenous columns in fit"),
        (lambda: both.predict(X=X), "X must be given together with y"),
        (lambda: both.predict(y=y, X=X[:, :1]), "X has 1 features, but LSTMForecaster is expecting 2"),
        (lambda: alone.predict(y=y[:7]), "y must have at least 8 rows, those looked back on, not 7"),
        (lambda: alone.score(y[:10]), r"y must have at least 11 rows, lookback \+ horizon, not 10"),
    ]
    for call, message in mistakes:
        with pytest.raises(ValueError, match=f"^{message}"):
            call()
