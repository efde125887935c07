import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numlstm import data


def test_windows_are_a_view():
    values = np.arange(12.0).reshape(6, 2)
    windows = data.sliding_windows(values, 4)
    assert windows.shape == (3, 4, 2)
    assert np.shares_memory(windows, values)
    for k, t in itertools.product(range(3), range(4)):
        assert windows[k, t].tolist() == values[k + t].tolist()
    assert data.sliding_windows([1, 2, 3], 2).tolist() == [[1, 2], [2, 3]]
    assert data.sliding_windows([1, 2, 3], 3).tolist() == [[1, 2, 3]]


def test_windows_that_cannot_be():
    with pytest.raises(ValueError, match=r"^values has 3 rows, too few for windows of 4$"):
        data.sliding_windows([1, 2, 3], 4)
    with pytest.raises(ValueError, match=r"^length must be at least 1, not 0$"):
        data.sliding_windows([1, 2, 3], 0)
    with pytest.raises(ValueError, match=re.escape("values must have shape (T,) or (T, F), not (1, 2, 3)")):
        data.sliding_windows(np.zeros((1, 2, 3)), 1)


def test_scaling_and_back(rng):
    values = rng.normal([5, -1e6], [1e-3, 1e4], size=(200, 2))
    scaler = data.Scaler.fit(values)
    scaled = scaler.transform(values)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-9)
    np.testing.assert_allclose(scaler.inverse(scaled), values, rtol=1e-14)
    assert scaler.transform(values.reshape(20, 10, 2)).tolist() == scaled.reshape(20, 10, 2).tolist()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1, 7], [2, 7]], r"^column 'b' is constant, 7 in all of the 2 rows to learn from: leave it out$"),
        ([[1, 1e308], [2, -1e308]], r"^column 'b' cannot be scaled, its values are not finite, too large or too close"),
        ([[1, np.nan], [2, 1]], r"^column 'b' cannot be scaled"),
        (np.zeros((0, 2)), r"^values has no rows"),
        ([1, 2], r"^values must have shape \(T, F\), not \(2,\)"),
    ],
)
def test_what_cannot_be_scaled(values, message):
    with pytest.raises(ValueError, match=message):
        data.Scaler.fit(values, ["a", "b"])
    with pytest.raises(ValueError, match=message.replace("'b'", "1")):
        data.Scaler.fit(values)


@pytest.mark.parametrize("std", [[0], [-1], [np.inf], [1, 1]])
def test_no_scaler(std):
    with pytest.raises(ValueError, match="std"):
        data.Scaler([1], std)


def _targets(part, lookback, horizon):
    return {k + lookback + h for k in range(part.start, part.stop) for h in range(horizon)}


def test_parts_of_the_weather():
    parts = data.chronological_parts(1461, 30)
    assert parts == (slice(0, 920), slice(920, 1139), slice(1139, 1431), 950)


@given(
    st.integers(1, 600),
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(1, 50),
    st.sampled_from([(0.15, 0.2), (0.1, 0), (0, 0)]),
)
def test_parts_are_in_order_and_apart(rows, lookback, horizon, least, fractions):
    def parts_of(rows):
        return data.chronological_parts(rows, lookback, horizon, *fractions, least=least)

    try:
        parts = parts_of(rows)
    except ValueError as error:
        needed = int(re.search(r"it takes (\d+) ", str(error))[1])
        assert needed > rows
        parts_of(needed)
        with pytest.raises(ValueError, match=f"^{needed - 1} rows are too few: it takes {needed} "):
            parts_of(needed - 1)
        return
    training, validation, test = (_targets(part, lookback, horizon) for part in parts[:3])
    assert len(range(parts.training.start, parts.training.stop)) >= least
    assert min(training) == lookback
    assert max(training) == parts.rows_to_train - 1
    held_out = sorted(validation) + sorted(test)
    assert held_out == list(range(parts.rows_to_train, rows))
    assert (len(validation), len(test)) == tuple(round(fraction * rows) for fraction in fractions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lookback": 0}, "lookback must be at least 1, not 0"),
        ({"horizon": 0}, "horizon must be at least 1, not 0"),
        ({"test": -0.1}, "test must be at least 0 and below 1, not -0.1"),
        ({"rows": 6}, "6 rows are too few: it takes 9 to look back 5 rows, forecast 1, validate and test"),
        ({"rows": 6, "test": 0}, "6 rows are too few: it takes 7 to look back 5 rows, forecast 1 and validate"),
        ({"rows": 5, "validation": 0, "test": 0}, "5 rows are too few: it takes 6 to look back 5 rows and forecast 1"),
        ({"validation": 0.5, "test": 0.5}, "validation and test must leave something to train on, not be 0.5 and 0.5"),
    ],
)
def test_parts_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        data.chronological_parts(**{"rows": 100, "lookback": 5, **arguments})
