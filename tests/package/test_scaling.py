import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from numlstm.data import Scaler

SCALERS = [Scaler.standard, Scaler.min_max, lambda values, **options: Scaler.min_max(values, -1, 1, **options)]


def test_standard(rng):
    values = rng.normal([5, -1e6], [1e-3, 1e4], size=(200, 2))
    scaler = Scaler.standard(values)
    scaled = scaler.transform(values)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-9)
    assert scaler.transform(values.reshape(20, 10, 2)).tolist() == scaled.reshape(20, 10, 2).tolist()


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (3, 3.5)])
def test_min_max(rng, low, high):
    values = rng.normal([5, -1e6], [1e-3, 1e4], size=(200, 2))
    scaled = Scaler.min_max(values, low, high).transform(values)
    np.testing.assert_allclose((scaled.min(axis=0), scaled.max(axis=0)), ([low] * 2, [high] * 2), atol=1e-9)
    assert scaled.argmin(axis=0).tolist() == values.argmin(axis=0).tolist()


@pytest.mark.parametrize("fit", SCALERS)
@given(values=hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.floats(-1e6, 1e6, width=32)))
def test_inverse_is_the_identity(fit, values):
    scaler = fit(values, keep_constant=True)
    error = np.abs(scaler.inverse(scaler.transform(values)) - values)
    assert (error <= 1e-15 * (np.abs(values) + np.abs(scaler.offset) + scaler.scale) * 4).all()


def test_target_columns_alone(rng):
    values = rng.normal(size=(50, 4)) * [1, 10, 100, 1000]
    scaler = Scaler.standard(values)
    scaled = scaler.transform(values)
    for columns in (2, [3, 1], slice(1, 3)):
        back = scaler.columns(columns).inverse(scaled[:, columns])
        np.testing.assert_allclose(back, values[:, columns], rtol=1e-13)
    for wrong in (4, [0, 5], "a"):
        with pytest.raises(
            IndexError, match=rf"^columns must choose from 4 columns by their numbers, not {re.escape(repr(wrong))}$"
        ):
            scaler.columns(wrong)
    with pytest.raises(ValueError, match=r"^values must have shape \(\.\., 4\), one for each column .*, not \(50, 1\)$"):
        scaler.inverse(values[:, :1])


@pytest.mark.parametrize("fit", SCALERS)
def test_constant_columns(fit):
    values = np.array([[1, 7], [2, 7], [4, 7]])
    with pytest.raises(ValueError, match=r"^column 'b' is constant, 7 in all of the 3 rows to learn from: leave it out$"):
        fit(values, names=["a", "b"])
    scaler = fit(values, keep_constant=True)
    scaled = scaler.transform([[1, 7], [1, 8]])
    assert scaled[0, 1] == (0 if fit == Scaler.standard else scaled[0, 0])  # min_max: the lower end
    assert scaled[1, 1] == scaled[0, 1] + 1
    assert scaler.inverse(scaled).tolist() == [[1, 7], [1, 8]]


@pytest.mark.parametrize("fit", SCALERS)
def test_gaps(fit, rng):
    values = rng.normal(size=(20, 2))
    gaps = values.copy()
    gaps[5:8, 1] = np.nan
    with pytest.raises(ValueError, match=r"^column 1 cannot be scaled, .* fill gaps, or skip them \(skip_nan=True\)$"):
        fit(gaps)
    scaler = fit(gaps, skip_nan=True)
    np.testing.assert_allclose(scaler.columns(1).offset, fit(np.delete(values, range(5, 8), axis=0)).offset[1], rtol=1e-12)
    np.testing.assert_allclose(scaler.columns(1).scale, fit(np.delete(values, range(5, 8), axis=0)).scale[1], rtol=1e-12)
    np.testing.assert_array_equal(np.isnan(scaler.transform(gaps)), np.isnan(gaps))
    gaps[:, 1] = np.nan
    with pytest.raises(ValueError, match=r"^column 1 cannot be scaled, there are no numbers in it: leave it out$"):
        fit(gaps, skip_nan=True)


@pytest.mark.parametrize("fit", SCALERS)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1, 1e308], [2, -1e308]], r"^column 'b' cannot be scaled, .* too large or too close: rescale it$"),
        ([[1, np.inf], [2, np.inf]], r"^column 'b' cannot be scaled, .* not finite, .*: rescale it$"),
        ([[1, np.nan], [2, 1]], r"^column 'b' cannot be scaled, .*: fill gaps, or skip them"),
        (np.zeros((0, 2)), r"^values has no rows"),
        ([1, 2], r"^values must have shape \(T, F\), not \(2,\)"),
    ],
)
def test_what_cannot_be_scaled(fit, values, message):
    with pytest.raises(ValueError, match=message):
        fit(values, names=["a", "b"])
    with pytest.raises(ValueError, match=message.replace("'b'", "1")):
        fit(values)


def test_other_arguments_that_cannot_be():
    with pytest.raises(ValueError, match=r"^names must be those of the 2 columns, not 1$"):
        Scaler.standard(np.eye(2), names=["a"])
    with pytest.raises(ValueError, match=r"^low must be below high, but low is 1 and high 1$"):
        Scaler.min_max(np.eye(2), 1, 1)


@pytest.mark.parametrize("scale", [[0], [-1], [np.inf], [1, 1]])
def test_no_scaler(scale):
    with pytest.raises(ValueError, match="scale"):
        Scaler([1], scale)
