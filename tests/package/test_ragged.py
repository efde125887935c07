import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numlstm.data import buckets, pad, unpad


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.sampled_from([(), (1,), (3,)]), st.integers(0, 3))
def test_padding_and_back(lengths, features, more):
    sequences = [np.arange(1.0, 1 + n * (features[0] if features else 1)).reshape(n, *features) for n in lengths]
    x, counts = pad(sequences, steps=max(lengths) + more, value=-1)
    assert x.shape == (len(lengths), max(lengths) + more, *features)
    assert counts.tolist() == lengths and counts.dtype == np.int64
    for sequence, back, row in zip(sequences, unpad(x, counts), x, strict=True):
        assert back.tolist() == sequence.tolist() and np.shares_memory(back, x)
        assert (row[len(sequence) :] == -1).all()


def test_dtypes():
    assert pad([[1, 2], [3]]).x.tolist() == [[1, 2], [3, 0]]
    assert pad([[1, 2], [3]]).x.dtype == np.int64
    assert pad([np.ones(2, np.float32), np.ones(1, np.float32)]).x.dtype == np.float32
    assert pad([np.ones(2, np.float32), [3.0]]).x.dtype == np.float64
    assert pad([[1, 2], [3]], dtype="float32").x.dtype == np.float32


@pytest.mark.parametrize(
    ("sequences", "steps", "message"),
    [
        ([], None, r"^sequences must be at least one, but there is none$"),
        ([[1], []], None, r"^sequences\[1\] must have shape \(t,\) like the first, with at least one step, not \(0,\)$"),
        ([[[1, 2]], [[1]]], None, r"^sequences\[1\] must have shape \(t, 2\) like the first, .*, not \(1, 1\)$"),
        ([3], None, r"^sequences\[0\] must have shape \(t,\) or \(t, F\), with at least one step, not \(\)$"),
        ([[1], [1, 2, 3]], 2, r"^steps is 2, but sequences\[1\] has 3: shorten it, or take more steps$"),
    ],
)
def test_what_cannot_be_padded(sequences, steps, message):
    with pytest.raises(ValueError, match=message):
        pad(sequences, steps)
    with pytest.raises(TypeError, match=r"^sequences\[1\] must be an array of numbers, not list"):
        pad([[1.0], ["a"]])


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 9), st.integers(0, 5))
def test_buckets_are_a_partition(lengths, size, seed):
    batches = buckets(lengths, size, seed)
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(len(lengths)))
    assert sorted(map(len, batches)) == sorted(
        [size] * (len(lengths) // size) + [len(lengths) % size] * (len(lengths) % size > 0)
    )
    ranges = sorted((min(lengths[row] for row in batch), max(lengths[row] for row in batch)) for batch in batches)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(ranges))
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in buckets(lengths, size, seed)]


def test_orders_of_epochs():
    first, second = (buckets([5] * 40, 4, seed=(1, epoch)) for epoch in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("error", "lengths", "message"),
    [
        (TypeError, [1.5], r"^lengths must be integers, not float64$"),
        (ValueError, [[1]], r"^lengths must have shape \(N,\), not \(1, 1\)$"),
        (ValueError, [1, 0], r"^lengths must be at least 1, but lengths\[1\] is 0$"),
    ],
)
def test_lengths_that_cannot_be(error, lengths, message):
    with pytest.raises(error, match=message):
        buckets(lengths, 2)
    with pytest.raises(error, match=message):
        unpad(np.zeros((2, 3)), lengths)


@pytest.mark.parametrize("lengths", [[1], [1, 4]])
def test_lengths_of_another_array(lengths):
    with pytest.raises(ValueError, match=r"^lengths must be 2 integers from 1 to T=3, one for each sequence in x$"):
        unpad(np.zeros((2, 3)), lengths)
