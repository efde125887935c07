import dataclasses
import json
from datetime import date, timedelta

import numpy as np
import pytest

import numlstm
from numlstm import datasets, forecast, series
from numlstm._inputs import Inputs
from numlstm.forecast import Forecaster, Samples, Settings

SMALL = Settings("a", ("a", "b"), lookback=6, horizon=2, hidden=8, epochs=3, seed=1)


def _text(columns, first=None):
    """Return a CSV file of columns by name, with daily dates if there is a first one."""
    names = [*(["date"] if first else []), *columns]
    lines = [",".join(names)]
    for row, values in enumerate(zip(*columns.values(), strict=True)):
        day = [(first + timedelta(days=row)).isoformat()] if first else []
        lines.append(",".join([*day, *map(repr, map(float, values))]))
    return "\n".join(lines) + "\n"


@pytest.fixture
def make(tmp_path):
    """Return a function that reads a series of columns by name."""

    def run(first=None, **columns):
        path = tmp_path / "made.csv"
        path.write_text(_text(columns, first), encoding="utf-8")
        return series.read(path)

    return run


@pytest.fixture
def waves(make):
    """Return 200 days of two sines."""
    t = np.arange(200)
    return make(date(2020, 1, 1), a=np.sin(t / 5) + t / 50, b=np.cos(t / 5))


def test_samples_of_a_series(waves):
    samples = Samples(waves, SMALL)
    a, b = waves.column("a"), waves.column("b")
    assert samples.x.shape == (193, 6, 4)
    assert samples.x.dtype == np.float32
    for k in (0, 70, 192):
        assert samples.last[k] == a[k + 5]
        assert samples.rows[k].tolist() == [k + 6, k + 7]
        assert samples.y[k].tolist() == a[k + 6 : k + 8].tolist()
        np.testing.assert_allclose(samples.x[k, :, 3] * samples.inputs.spread[1], b[k : k + 6] - b[k + 5], atol=1e-6)
        np.testing.assert_allclose(samples.x[k, :, 1], (b[k : k + 6] - b[:130].mean()) / b[:130].std(), atol=1e-5)
    np.testing.assert_allclose(
        samples.inputs.levels.offset, [a[:130].mean(), b[:130].mean()]
    )  # of what is learnt from alone


def test_levels_stay_within_what_was_learnt_from():
    values = np.array([[0.0], [2.0], [4.0]])
    inputs = Inputs.fit(values, 2, ["a"])
    made = inputs(np.array([[[100.0], [101.0]], [[-9.0], [2.0]]]))
    std = np.sqrt(8 / 3)
    np.testing.assert_allclose(made[:, :, 0], np.array([[2, 2], [-2, 0]]) / std, rtol=1e-6)
    np.testing.assert_allclose(made[:, :, 1], np.array([[-1, 0], [-11, 0]]) / np.sqrt(2), rtol=1e-6)


def test_looking_back_one_row(waves):
    samples = Samples(waves, dataclasses.replace(SMALL, lookback=1))
    assert samples.x[:, :, 2:].tolist() == np.zeros((198, 1, 2)).tolist()


def test_training_and_forecasting(waves, tmp_path):
    report = forecast.train(Samples(waves, SMALL), verbose=0)
    truth = waves.column("a")
    assert report.rows.shape == (39, 2)
    assert (report.rows[0].tolist(), report.rows[-1].tolist()) == ([160, 161], [198, 199])
    assert report.truth.tolist() == truth[report.rows].tolist()
    assert len(report.history.epoch) == 3
    error = report.forecast - report.truth
    assert report.scores["model"]["mae"] == pytest.approx(np.abs(error).mean())
    assert report.scores["model"]["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    naive = truth[report.rows[:, :1] - 1] - report.truth
    assert report.scores["persistence"]["mae"] == pytest.approx(np.abs(naive).mean())
    assert report.scores["persistence"]["rmse"] == pytest.approx(np.sqrt((naive**2).mean()))
    assert report.no_last_year == "the series begins less than a year before its test part"
    assert (report.band[0] < report.band[1]).all()

    report.forecaster.save(tmp_path / "m.safetensors")
    loaded = Forecaster.load(tmp_path / "m.safetensors")
    assert (loaded.target, loaded.features, loaded.lookback, loaded.horizon) == ("a", ("a", "b"), 6, 2)
    made = loaded.predict(waves)
    assert made.shape == (2,)
    assert made.tolist() == report.forecaster.predict(waves).tolist()


def test_a_forecast_is_that_of_the_test(waves, make):
    """The forecast after the rows up to one of the test is the one that the test has."""
    report = forecast.train(Samples(waves, SMALL), verbose=0)
    a, b = waves.column("a")[:170], waves.column("b")[:170]
    np.testing.assert_allclose(report.forecaster.predict(make(date(2020, 1, 1), a=a, b=b)), report.forecast[10], rtol=1e-6)


def test_only_the_rows_looked_back_on_need_numbers(waves, tmp_path):
    forecaster = forecast.train(Samples(waves, dataclasses.replace(SMALL, epochs=1)), verbose=0).forecaster
    lines = (tmp_path / "made.csv").read_text(encoding="utf-8").splitlines()
    day = lines[-6].split(",")[0]  # the first that it looks back on
    (tmp_path / "holes.csv").write_text("\n".join([lines[0], f"{lines[1].split(',')[0]},,", *lines[2:]]), encoding="utf-8")
    assert forecaster.predict(series.read(tmp_path / "holes.csv")).tolist() == forecaster.predict(waves).tolist()
    (tmp_path / "holes.csv").write_text("\n".join([*lines[:-6], f"{day},,1", *lines[-5:]]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"holes\.csv, line 196, column 'a': the cell is empty: put a number there"):
        forecaster.predict(series.read(tmp_path / "holes.csv"))


def test_a_seed_decides_the_numbers(waves):
    def scores(seed):
        return forecast.train(Samples(waves, dataclasses.replace(SMALL, seed=seed)), verbose=0).scores["model"]

    first = scores(1)
    assert scores(1) == first
    assert scores(2) != first


def test_a_trend_beyond_what_was_learnt_from_is_followed(make):
    t = np.arange(300)
    trend = make(a=3.0 * t + 10 * np.sin(t / 4))
    scores = forecast.train(Samples(trend, Settings("a", ("a",), lookback=12, epochs=30)), verbose=0).scores
    assert scores["model"]["mae"] < 0.5 * scores["persistence"]["mae"]


def test_several_layers(waves):
    report = forecast.train(Samples(waves, dataclasses.replace(SMALL, layers=3)), verbose=0)
    names = [type(layer).__name__ for layer in report.forecaster.model.layers]
    assert names == ["LSTM", "Dropout"] * 3 + ["Dense"]


def test_the_same_day_last_year(make):
    rng = np.random.default_rng(0)
    values = rng.normal(size=1000)
    walk = make(date(2019, 1, 1), a=values)
    report = forecast.train(Samples(walk, Settings("a", ("a",), lookback=5, epochs=1, hidden=2)), verbose=0)
    days = [date(2019, 1, 1) + timedelta(days=i) for i in range(1000)]
    last_year = [values[days.index(days[row].replace(year=days[row].year - 1))] for row in range(800, 1000)]
    assert report.no_last_year == ""
    assert report.scores["last_year"]["mae"] == pytest.approx(np.abs(last_year - values[800:]).mean())
    assert report.scores["last_year"]["rmse"] == pytest.approx(np.sqrt(((last_year - values[800:]) ** 2).mean()))


@pytest.mark.parametrize("horizon", [2, 7, 8])
def test_the_same_day_last_week(make, horizon):
    values = np.random.default_rng(0).normal(size=300)
    settings = Settings("a", ("a",), lookback=5, horizon=horizon, epochs=1, hidden=2)
    report = forecast.train(Samples(make(date(2019, 1, 1), a=values), settings), verbose=0)
    if horizon > 7:  # the eighth day's last week is not known yet
        assert set(report.scores) == {"model", "persistence"}
        return
    error = values[report.rows - 7] - report.truth
    assert report.scores["last_week"]["mae"] == pytest.approx(np.abs(error).mean())
    assert report.scores["last_week"]["rmse"] == pytest.approx(np.sqrt((error**2).mean()))


@pytest.mark.parametrize(
    ("step", "horizon", "reason"),
    [
        (None, 1, "the rows have no dates"),
        (12, 1, "the rows are 1 year apart"),
        (1, 13, "the horizon is longer than a year"),
    ],
)
def test_no_last_year(tmp_path, step, horizon, reason):
    months = [f"{1700 + i * step // 12}-{i * step % 12 + 1:02}" for i in range(200)] if step else range(200)
    name = "date" if step else "count"
    rows = [f"{month},{np.sin(i)}" for i, month in enumerate(months)]
    path = tmp_path / "made.csv"
    path.write_text("\n".join([f"{name},a", *rows]), encoding="utf-8")
    settings = Settings("a", ("a",), lookback=2, horizon=horizon, epochs=1, hidden=2)
    report = forecast.train(Samples(series.read(path), settings), verbose=0)
    assert report.no_last_year == reason
    assert set(report.scores) == {"model", "persistence"}


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (
            np.ones(200),
            np.arange(200),
            "column 'a' is constant, 1 in all of the 130 rows to learn from: choose another target",
        ),
        (
            np.sin(np.arange(200)),
            np.r_[np.full(130, 7), np.arange(70)],
            r"column 'b' is constant, 7 in all of the 130 rows to learn from: leave it out \(--features\)",
        ),
        (
            0.1 * np.arange(200),
            np.sin(np.arange(200)),
            "column 'a' changes by the same amount at each step: there is nothing",
        ),
        (
            np.sin(np.arange(40)),
            np.cos(np.arange(40)),
            "40 rows are too few: it takes 60 to look back 6 rows, forecast 2, validate and test: "
            "add rows, or choose a smaller --lookback or --horizon",
        ),
    ],
)
def test_series_that_cannot_be_learnt_from(make, a, b, message):
    with pytest.raises(ValueError, match=rf"made\.csv: {message}"):
        Samples(make(a=a, b=b), SMALL)


def test_series_that_do_not_fit_a_forecaster(waves, make):
    forecaster = forecast.train(Samples(waves, SMALL), verbose=0).forecaster
    t = np.arange(200.0)
    with pytest.raises(ValueError, match=r"made\.csv has too few rows, 5: the model looks back 6$"):
        forecaster.predict(make(date(2020, 1, 1), a=t[:5], b=t[:5]))
    with pytest.raises(ValueError, match=r"made\.csv has no column 'b' of numbers, only a$"):
        forecaster.predict(make(date(2020, 1, 1), a=t))
    message = r"made\.csv has rows without dates, but the model was trained on rows 1 day apart: train it on such rows$"
    with pytest.raises(ValueError, match=message):
        forecaster.predict(make(a=t, b=t))


@pytest.fixture
def saved(waves, tmp_path):
    """Return the path of a saved forecaster, and a function that changes what its metadata say."""
    path = tmp_path / "m.safetensors"
    forecast.train(Samples(waves, dataclasses.replace(SMALL, epochs=1)), verbose=0).forecaster.save(path)

    def change(**changes):
        model = numlstm.load(path)
        model.metadata["forecast"] = {**model.metadata["forecast"], **changes}
        model.save(path)

    return path, change


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": None},
        {"inputs": {}},
        {"inputs": {"mean": [0], "std": [0], "low": [0], "high": [1], "spread": [1]}},
        {"inputs": {"mean": [0], "std": [1], "low": [0, 0], "high": [1], "spread": [1]}},
        {"changes": {"mean": "x", "std": [1]}},
        {"changes": {"mean": [0], "std": [1]}},
        {"features": ["a"]},
        {"features": 3},
        {"horizon": 3},
        {"lookback": 0},
        {"lookback": "x"},
        {"target": 3},
        {"unknown": 1},
    ],
)
def test_notes_that_are_unusable(saved, changes):
    path, change = saved
    change(**changes)
    with pytest.raises(ValueError, match=r"m\.safetensors holds (unusable )?notes on its forecast .*: train it anew$"):
        Forecaster.load(path)


def test_a_model_that_is_no_forecaster(tmp_path):
    model = numlstm.Sequential([numlstm.LSTM(2, input_shape=(3, 1)), numlstm.Dense(1)])
    model.save(tmp_path / "m.safetensors")
    with pytest.raises(
        ValueError, match=r"m\.safetensors holds a model that was not made by `numlstm train`: give one that was$"
    ):
        Forecaster.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_weather_is_forecast_better_than_naively(seed):
    weather = datasets.seattle_weather()
    scores = forecast.train(
        Samples(weather, Settings("temp_max", tuple(weather.numeric_columns()), seed=seed)), verbose=0
    ).scores
    assert json.loads(json.dumps(scores)) == scores
    assert scores["persistence"] == pytest.approx({"mae": 2.35308, "rmse": 3.06172}, abs=1e-5)
    assert scores["last_year"] == pytest.approx({"mae": 3.84075, "rmse": 4.94241}, abs=1e-5)
    for measure in ("mae", "rmse"):
        assert scores["model"][measure] < 0.97 * scores["persistence"][measure]


def test_a_pattern_that_repeats_within_the_horizon_is_learnt(make):
    """Its change after a whole period is always the same, by which nothing can be divided."""
    rows = np.arange(300)
    weeks = make(a=2.0 * rows + 30 * (rows % 7 > 4))
    report = forecast.train(Samples(weeks, Settings("a", ("a",), horizon=7, hidden=4, epochs=2)), verbose=0)
    np.testing.assert_allclose(report.forecast[:, 6], report.truth[:, 6], atol=3)  # 14 more than seven days before
