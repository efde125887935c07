"""How the sums of weights' gradients are dealt out; what they come to, tests of layers look at."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numlstm.kernels import gradients
from support import callable_from_python

EVEN = np.array([range(4)] * 3)  # all gates of x and h, as those of an LSTM
UNEVEN = np.array([(0, 1, 2, -1), (0, 1, -1, 2), range(4)])  # as those of a GRU
SECOND = np.array([(-1, 0, -1), (-1, -1, -1), (-1, 0, -1)])  # one slot alone, as a second product has it
chunk_count = callable_from_python(gradients.chunk_count)


@settings(deadline=None)  # the first call compiles
@given(
    st.sampled_from([EVEN, UNEVEN, SECOND]),
    st.integers(1, 5000),
    st.integers(1, 300),
    st.sampled_from([16, 32, 64]),
    st.integers(1, 100),
)
def test_chunks_fit_their_copies_and_are_not_too_many(rows, total, panels, columns, parts):
    count = chunk_count(rows, total, panels, columns, parts)
    assert -(-total // gradients.CHUNK) <= count <= gradients.most_chunks.py_func(total)
    assert count == 1 or total // count >= min(gradients.FEWEST_ROWS, total // -(-total // gradients.CHUNK))


@pytest.mark.parametrize(
    ("rows", "total", "panels", "parts", "count"),
    [
        (EVEN, 193, 8, 1, 1),
        (EVEN, 193, 8, 2, 1),  # four panels each
        (EVEN, 401, 13, 2, 2),  # thirteen panels each, of one chunk
        (EVEN, 193, 8, 3, 3),
        (EVEN, 2049, 64, 2, 3),  # of at most so many rows
        (EVEN, 193, 2, 2, 2),  # few panels: half of the rows each, rather than a panel each
        (UNEVEN, 193, 8, 2, 2),  # a panel of the last slots has but rows of x, or of h
        (UNEVEN, 193, 8, 1, 1),
        (SECOND, 129, 4, 2, 1),
    ],
)
def test_each_part_has_as_much_to_do(rows, total, panels, parts, count):
    assert chunk_count(rows, total, panels, 64, parts) == count
