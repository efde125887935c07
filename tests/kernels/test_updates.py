"""Sizes of gradients; the rules are tested with the optimisers, in tests/package/test_optimizers.py."""

import numpy as np
import pytest
from numlstm.kernels import parallel, updates

ONE_PART = parallel.new_runtime(0, 0, 1, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 5, 64, updates.SUM_LENGTH, updates.SUM_LENGTH + 1, 3 * updates.SUM_LENGTH - 7])
def test_sum_of_squares(rng, size, dtype):
    gradient = rng.standard_normal(size).astype(dtype)
    sums = np.full(-(-size // updates.SUM_LENGTH), np.nan)
    total = parallel.sum_of_squares(ONE_PART, gradient, sums)
    # Each lane adds up to SUM_LENGTH / lanes squares, all of one sign.
    want = (gradient.astype(np.float64) ** 2).sum()
    assert total == pytest.approx(want, rel=updates.SUM_LENGTH / 4 * float(np.finfo(dtype).eps))
    assert total == sums.sum()


def test_a_nan_or_infinity_shows_in_the_sum():
    for bad in (np.nan, np.inf):
        gradient = np.ones(100)
        gradient[77] = bad
        assert not np.isfinite(parallel.sum_of_squares(ONE_PART, gradient, np.empty(1)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", [updates.SGD(0.5), updates.Momentum(0.5, 0.9, 1.0), updates.Adam(0.5, 0.9, 0.9, 1e-7, 0.0)])
def test_nothing_past_the_parameters_is_written(rng, rule, dtype):
    for size in (1, 9, 40):
        slots = updates.SLOTS[type(rule)]
        memory, kept = np.full(size + 64, 7, dtype), np.full(slots * size + 64, 7, dtype)
        memory[:size], kept[: slots * size] = 0, 0
        gradient, table = rng.standard_normal(size).astype(dtype), np.array([[memory.ctypes.data, size]])
        kept_by_rule = kept[: slots * size].reshape(slots, size)
        parallel.update(ONE_PART, rule, table, gradient, kept_by_rule, np.ones(1), 0.0)
        assert (memory[size:] == 7).all() and (kept[slots * size :] == 7).all()
        assert (np.sign(memory[:size]) == -np.sign(gradient)).all()
