import re
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numlstm.data import Batches


@given(st.integers(1, 70), st.integers(1, 9), st.booleans(), st.one_of(st.none(), st.integers(1, 80)), st.integers(0, 3))
def test_each_epoch_goes_through_all_samples(count, size, shuffle, block, seed):
    x = np.arange(count)
    batches = Batches(x, 2 * x, 3 * x, size, shuffle, block, seed)
    epochs = [list(batches) for _ in range(2)]
    for epoch, parts in enumerate(epochs):
        assert [len(part[0]) for part in parts] == [size] * (count // size) + [count % size] * (count % size > 0)
        assert len(parts) == len(batches)
        seen = np.concatenate([part[0] for part in parts])
        assert sorted(seen) == x.tolist()
        assert all((2 * a == b).all() and (3 * a == c).all() for a, b, c in parts)
        assert [rows.tolist() for rows in batches.rows(epoch)] == [part[0].tolist() for part in parts]
        if not shuffle:
            assert seen.tolist() == x.tolist()
        elif block is not None:
            places = seen // block
            assert (np.diff(places) != 0).sum() == places.max()  # one block after the other


def test_orders():
    x = np.arange(100)

    def order(batches):
        return np.concatenate(list(batches)).tolist()

    batches = Batches(x, block=30)
    first, second = order(batches), order(batches)
    assert first != second != sorted(second)
    assert order(Batches(x, block=30)) == first  # the same seed
    assert order(Batches(x, block=30, seed=1)) != first


@pytest.mark.skipif(sys.platform != "linux", reason="counts pages by /proc/self/smaps")
@pytest.mark.parametrize("block", [None, 1024])
def test_only_the_samples_of_a_batch_are_read(tmp_path, block):
    """From a mapped file of 64 GB, nearly all of it a hole; pages are counted, of which the system may read some ahead."""
    path, shape = tmp_path / "x", (1 << 22, 64, 64)
    written = np.memmap(path, np.float32, "w+", shape=shape)
    first = next(Batches(written, block=block).rows(0))
    written[first, 0, 0] = 1 + np.arange(32)
    del written
    x = np.memmap(path, np.float32, "r", shape=shape)
    batches = Batches(x, block=block)
    for number, batch in zip(range(3), batches, strict=False):
        assert batch.shape == (32, 64, 64) and batch.base is None and type(batch) is np.ndarray
        assert batch[:, 0, 0].tolist() == ((1 + np.arange(32)).tolist() if number == 0 else [0] * 32)
    with open("/proc/self/smaps") as file:
        mapping = file.read().split(str(path))[1]
    resident = int(re.search(r"^Rss: +(\d+) kB", mapping, re.M)[1]) << 10
    assert 96 * x[0].nbytes <= resident <= x.nbytes // 500, resident


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (ValueError, {"x": []}, r"^x holds no samples: its shape is \(0,\)$"),
        (ValueError, {"y": [1]}, r"^y must have as many samples as x, 2, but its shape is \(1,\)$"),
        (
            ValueError,
            {"y": [1, 2], "sample_weight": 1},
            r"^sample_weight must have as many samples as x, 2, but its shape is \(\)$",
        ),
        (TypeError, {"sample_weight": [1, 2]}, r"^sample_weight goes with y, which is missing$"),
        (TypeError, {"x": ["a"]}, r"^x must be an array of numbers, not list"),
        (ValueError, {"batch_size": 0}, r"^batch_size must be at least 1, not 0$"),
        (ValueError, {"block": 0}, r"^block must be at least 1, not 0$"),
        (TypeError, {"shuffle": 1}, r"^shuffle must be True or False, not 1$"),
    ],
)
def test_batches_that_cannot_be(error, arguments, message):
    with pytest.raises(error, match=message):
        Batches(**{"x": [1, 2], **arguments})
