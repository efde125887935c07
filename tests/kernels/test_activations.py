"""Activations and their derivatives: tails, padding and special values; what is ordinary, models' gradients cover."""

import numpy as np
import pytest
from numlstm.kernels import activations, parallel, target

ONE_PART = parallel.new_runtime(0, 0, 1, 1)
KINDS = {name: getattr(activations, name) for name in ("LINEAR", "RELU", "TANH", "SIGMOID", "SOFTMAX")}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [1, 7, 16, 37])
def test_nothing_but_the_rows_asked_for_is_written(rng, kind, columns, dtype):
    z, dy = rng.standard_normal((2, 3, columns)).astype(dtype)
    padded = -(-columns // target.lanes(dtype)) * target.lanes(dtype)
    memory, gradients = np.full(3 * columns + 64, 7, dtype), np.full(3 * padded + 64, 7, dtype)
    y, dz = memory[: 3 * columns].reshape(3, columns), gradients[: 3 * padded].reshape(3, padded)
    parallel.activate(ONE_PART, KINDS[kind], z, y)
    parallel.differentiate(ONE_PART, KINDS[kind], y, dy, dz)
    assert (memory[3 * columns :] == 7).all() and (gradients[3 * padded :] == 7).all()
    assert not dz[:, columns:].any()
    in_place = z.copy()
    parallel.activate(ONE_PART, KINDS[kind], in_place, in_place)
    np.testing.assert_array_equal(in_place, y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [3, 40])
def test_softmax_of_extremes(dtype, columns):
    z = np.full((4, columns), -1000, dtype)
    z[0, 1] = 1000
    z[1] = 1000
    z[2, 0] = -np.inf
    z[3, -1] = np.nan
    parallel.activate(ONE_PART, activations.SOFTMAX, z, z)
    np.testing.assert_array_equal(z[0], np.eye(columns)[1])
    allowed = 2 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(z[1], 1 / columns, rtol=allowed)
    np.testing.assert_allclose(z[2, 1:], 1 / (columns - 1), rtol=allowed)
    assert z[2, 0] == 0
    assert np.isnan(z[3]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_a_nan_stays_in_its_row_and_a_relu_has_no_slope_at_zero(rng, kind, dtype):
    z, dy = rng.standard_normal((3, 21)).astype(dtype), np.ones((3, 21), dtype)
    z[0, 5], z[1, 20] = 0, np.nan
    y, dz = np.empty_like(z), np.empty((3, -(-21 // target.lanes(dtype)) * target.lanes(dtype)), dtype)
    parallel.activate(ONE_PART, KINDS[kind], z, y)
    parallel.differentiate(ONE_PART, KINDS[kind], y, dy, dz)
    assert np.isfinite(y[[0, 2]]).all() and np.isnan(y[1, 20])
    assert kind == "LINEAR" or kind == "RELU" or np.isnan(dz[1, 20])
    assert np.isfinite(dz[[0, 2]]).all() and (kind != "RELU" or (dz[0, 5], y[0, 5]) == (0, 0))
