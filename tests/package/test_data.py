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


@given(
    st.integers(1, 60),
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(1, 7),
    st.sampled_from([None, 1, [2, 0], slice(1, 3)]),
)
def test_samples_are_slices(rows, lookback, horizon, stride, targets):
    values = np.arange(3.0 * rows).reshape(rows, 3)
    if rows < lookback + horizon:
        with pytest.raises(ValueError, match=f"^values has {rows} rows, too few to look back {lookback} and forecast"):
            data.samples(values, lookback, horizon, targets, stride)
        return
    x, y = data.samples(values, lookback, horizon, targets, stride)
    assert len(x) == len(y) == (rows - lookback - horizon) // stride + 1
    assert np.shares_memory(x, values) and (isinstance(targets, list) or np.shares_memory(y, values))
    wanted = values if targets is None else values[:, targets]
    for k in range(len(x)):
        first, end = k * stride, k * stride + lookback
        assert x[k].tolist() == values[first:end].tolist()
        assert y[k].tolist() == wanted[end : end + horizon].tolist()


def test_samples_of_one_column():
    x, y = data.samples(range(6), 3, 2)
    assert x.tolist() == [[[0], [1], [2]], [[1], [2], [3]]] and y.tolist() == [[3, 4], [4, 5]]
    with pytest.raises(ValueError, match=r"^targets chooses columns of values \(T, F\), but values has shape \(6,\): leave"):
        data.samples(range(6), 3, 2, targets=0)
    with pytest.raises(IndexError, match=r"^targets must choose from 2 columns by their numbers, not 2$"):
        data.samples(np.zeros((6, 2)), 3, targets=2)
    with pytest.raises(ValueError, match=re.escape("values must have shape (T,) or (T, F), not (2, 2, 2)")):
        data.samples(np.zeros((2, 2, 2)), 1)


def test_samples_of_a_mapped_file_stay_in_it(tmp_path):
    values = np.memmap(tmp_path / "a", np.float32, "w+", shape=(50, 2))
    assert all(np.shares_memory(part, values) for part in data.samples(values, 30, 5, stride=2))


def _targets(part, lookback, horizon):
    return {k + lookback + h for k in range(part.start, part.stop) for h in range(horizon)}


def test_parts_of_the_weather():
    parts = data.chronological_parts(1461, 30)
    assert parts == (slice(0, 920), slice(920, 1139), slice(1139, 1431), 950)


@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 6), st.integers(1, 8), st.data())
def test_parts_that_begin_at_rows(rows, lookback, horizon, stride, drawn):
    starts = sorted(drawn.draw(st.tuples(st.integers(0, rows), st.integers(0, rows))))
    first, second = starts
    try:
        parts = data.chronological_parts(rows, lookback, horizon, least=1, stride=stride, starts=starts)
    except ValueError as error:
        assert str(error).startswith(f"starts={(first, second)} leaves {first} rows to train on, {second - first} to")
        return
    every = range((rows - lookback - horizon) // stride + 1)
    last = -1
    for part, start, end in zip(parts[:3], (lookback, *starts), (*starts, rows), strict=True):
        of_part = [k for k in every if start <= k * stride + lookback and k * stride + lookback + horizon <= end]
        assert list(every[part]) == of_part
        assert len(of_part) > 0 or start == end
        assert all(k > last for k in of_part)
        last = max([last, *of_part])
    assert parts.rows_to_train == first


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
        ({"stride": 0}, "stride must be at least 1, not 0"),
        ({"starts": (60, 50)}, r"starts must be two rows in order of time, at most 100, not \(60, 50\)"),
        ({"starts": (60, 101)}, r"starts must be two rows in order of time, at most 100, not \(60, 101\)"),
        ({"starts": (60,)}, r"starts must be two rows, of validation and of test, not \(60,\)"),
        (
            {"starts": (5, 50)},
            r"starts=\(5, 50\) leaves 5 rows to train on, 45 to validate with and 50 to test with: too few to look back 5 "
            r"and forecast 1",
        ),
        ({"validation": 0.5, "test": 0.5}, "validation and test must leave something to train on, not be 0.5 and 0.5"),
    ],
)
def test_parts_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        data.chronological_parts(**{"rows": 100, "lookback": 5, **arguments})
