"""The masks of dropout: those of SplitMix64, and unrelated from key to key."""

import numpy as np
import pytest
from numlstm.kernels import dropout, parallel
from support import callable_from_python

ONE_PART = parallel.new_runtime(0, 0, 1, 1)
BITS = 2**64 - 1


def _splitmix64(key, counter):
    """Number `counter`, from 0, of the generator (Steele, Lea and Flood 2014), in Python's integers."""
    z = (key + (counter + 1) * 0x9E3779B97F4A7C15) & BITS
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & BITS
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & BITS
    return z ^ (z >> 31)


def _mask(key, rate, shape, dtype=np.float32):
    y = np.empty(shape, dtype)
    parallel.drop(ONE_PART, np.uint64(key), rate, np.ones(shape, dtype), y)
    return y


def test_first_numbers():
    """Published ones: rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64, of the key 1234567."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert [_splitmix64(1234567, i) for i in range(5)] == published


@pytest.mark.parametrize("key", [0, 1234567, 2**63 + 5, BITS])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_masks_are_those_numbers(key, dtype):
    for rate in (0.25, 0.9):
        y = _mask(key, rate, (4, 3, 5), dtype)
        numbers = np.array([_splitmix64(key, i) >> 32 for i in range(20)]).reshape(4, 1, 5)
        np.testing.assert_array_equal(y, np.where(numbers >= rate * 2**32, dtype(1 / (1 - rate)), 0) * np.ones((4, 3, 5)))


def test_keys_have_unrelated_masks():
    masks = [_mask(key, 0.5, (500, 1, 400)).ravel() > 0 for key in (0, 1, 2, 2**32, 2**63)]
    deviation = 0.5 / np.sqrt(masks[0].size)
    for i, left in enumerate(masks):
        assert abs(left.mean() - 0.5) < 5 * deviation
        assert abs((left[1:] == left[:-1]).mean() - 0.5) < 5 * deviation
        for right in masks[:i]:
            assert abs((left == right).mean() - 0.5) < 5 * deviation


def test_in_place_and_twice_the_same(rng):
    x = rng.standard_normal((6, 4, 11)).astype(np.float32)
    y = np.empty_like(x)
    parallel.drop(ONE_PART, np.uint64(9), 0.4, x, y)
    np.testing.assert_array_equal(y, x * _mask(9, 0.4, x.shape))
    parallel.drop(ONE_PART, np.uint64(9), 0.4, x, x)
    np.testing.assert_array_equal(x, y)
    assert callable_from_python(dropout.random_bits)(np.uint64(1234567), 0) == 6457827717110365317 >> 32
