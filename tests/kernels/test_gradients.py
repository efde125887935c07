"""How the sums of weights' gradients are dealt out; what they come to, tests of layers look at."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numlstm.kernels import gradients
from support import callable_from_python

chunk_count, most_chunks = callable_from_python(gradients.chunk_count), gradients.most_chunks.py_func


@settings(deadline=None)  # the first call compiles
@given(st.integers(1, 5000), st.integers(1, 300), st.integers(1, 100))
def test_chunks_fit_their_copies_and_are_not_too_many(rows, panels, parts):
    fewest, count = -(-rows // gradients.CHUNK), chunk_count(rows, panels, parts)
    assert fewest <= count <= most_chunks(rows)
    assert count == fewest or rows // count >= gradients.FEWEST_ROWS


@pytest.mark.parametrize(
    ("rows", "panels", "parts", "count"),
    [
        (193, 8, 1, 1),
        (193, 8, 2, 1),  # four panels each
        (401, 13, 2, 2),  # thirteen panels each, of one chunk
        (193, 8, 3, 3),
        (2049, 64, 2, 3),  # of at most CHUNK rows
        (30, 1, 8, 1),  # too few rows
    ],
)
def test_they_are_as_few_as_can_be_dealt_out_evenly(rows, panels, parts, count):
    assert chunk_count(rows, panels, parts) == count
