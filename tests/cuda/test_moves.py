"""What happens to arrays between passes, against NumPy: over several blocks, of which the last is not full."""

import numpy as np
import pytest

SIZE = 300  # not a multiple of the threads of a block
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def unwritten(device, shape, dtype):
    return device.array(np.full(shape, -7, dtype))


@DTYPES
def test_an_array_is_filled_and_scaled(device, dtype):
    array = unwritten(device, SIZE, dtype)
    device.operations.fill(0, array, 0.3)
    assert (device.host(array) == dtype(0.3)).all()
    device.operations.scale(0, array, device.array(np.array([2.5])))
    assert (device.host(array) == dtype(0.3) * dtype(2.5)).all()


@DTYPES
def test_rows_are_copied_from_among_others_to_among_others(rng, device, dtype):
    source, target = (rng.standard_normal(shape).astype(dtype) for shape in ((25, 16), (27, 14)))
    want, at = target.copy(), device.array(target.ravel())
    want[1:26, 1:14] = source[:, 2:15]
    device.operations.copy_rows(0, (device.array(source.ravel()), 2, 16), (at, 15, 14), 25, 13)
    assert np.array_equal(device.host(at).reshape(want.shape), want)


@DTYPES
@pytest.mark.parametrize("backwards", [False, True])
def test_steps_are_copied_with_zeros_behind_them(rng, device, dtype, backwards):
    array = rng.standard_normal((7, 9, 11)).astype(dtype)
    starts, counts = np.array([0, 2, 8, 3, 0, 1, 5]), np.array([5, 5, 1, 0, 3, 4, 4])
    want, out = np.zeros((7, 5, 11), dtype), unwritten(device, (7, 5, 11), dtype)
    for row, values, start, count in zip(want, array, starts, counts, strict=True):
        row[:count] = values[start : start + count][:: -1 if backwards else 1]
    device.operations.steps(0, *map(device.array, (array, starts, counts)), backwards, out)
    assert np.array_equal(device.host(out), want)


def test_steps_within_lengths_are_counted(rng, device):
    lengths, found = rng.integers(0, 20, SIZE), unwritten(device, SIZE, np.int64)
    device.operations.within(0, device.array(lengths), 6, 8, found)
    assert np.array_equal(device.host(found), np.clip(lengths - 6, 0, 8))


COMBINED = {
    "ADD": lambda a, b: a + b,
    "AVERAGE": lambda a, b: (a + b) * a.dtype.type(0.5),
    "MULTIPLY": lambda a, b: a * b,
    "HALVE": lambda a, b: a * a.dtype.type(0.5),
}


@DTYPES
@pytest.mark.parametrize("kind", COMBINED)
def test_two_arrays_are_combined_also_in_the_place_of_one(rng, device, dtype, kind):
    a, b = (rng.standard_normal(SIZE).astype(dtype) for _ in range(2))
    y, other = unwritten(device, SIZE, dtype), device.array(b)
    device.operations.combine(0, getattr(device.operations.moves, kind), device.array(a), other, y)
    device.operations.combine(0, getattr(device.operations.moves, kind), device.array(a), other, other)
    assert np.array_equal(device.host(y), COMBINED[kind](a, b)) and np.array_equal(device.host(other), device.host(y))


def test_totals_are_added_up(device):
    totals = device.array(np.array([1.0, 2.0, 4.0]))
    device.operations.add_total(0, device.array(np.array([0.5, 9.0])), totals, 1)
    assert device.host(totals).tolist() == [1.0, 2.5, 4.0]
