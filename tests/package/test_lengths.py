"""Sequences of different lengths in functional: against the textbook, and each sequence alone."""

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from support import assert_same_bits

import numlstm
from numlstm import cells, functional

CELLS = {
    "lstm": reference.LSTM(),
    "peephole": reference.PRESETS["peephole"],
    "gru": reference.GRU(),
    "gru before": reference.GRU(reset_after=False),
    "rnn": reference.SimpleRNN(),
    "slstm": reference.SLSTM(),
}
cells.register("gru before", cells.GRUSpec(reset_after=False))
NAMES = [*((name, np.float64) for name in CELLS), ("lstm", np.float32), ("gru", np.float32)]
SIZES = [(5, 40, 6, 9), (9, 19, 20, 33), (2, 50, 3, 130), (40, 18, 3, 16)]
ALLOWED_EPS = 500  # in units of eps * (1 + the largest element): sums of a few hundred products, and T steps of them


class Ragged:
    """A cell with made-up weights, states and upstream gradients, and sequences; what is past their lengths is NaN."""

    def __init__(self, rng, name, sizes, dtype, lengths=None):
        batch, steps, inputs, hidden = sizes
        self.name, self.cell = name, CELLS[name]
        shapes, scale = reference.weight_shapes(self.cell, inputs, hidden), hidden**-0.5
        self.weights = {key: rng.uniform(-scale, scale, shape).astype(dtype) for key, shape in shapes.items()}
        self.x = rng.standard_normal((batch, steps, inputs)).astype(dtype)
        self.dy = rng.standard_normal((batch, steps, hidden)).astype(dtype)
        count = cells.spec(name).states
        self.states, self.dstates = (tuple(s) for s in rng.standard_normal((2, count, batch, hidden)).astype(dtype))
        if name == "slstm":
            self.states[2][...] = 1 + np.abs(self.states[2])  # n is a sum of exponentials
        self.lengths = rng.integers(1, steps, batch, endpoint=True) if lengths is None else np.array(lengths)
        self.past = np.arange(steps) >= self.lengths[:, np.newaxis]
        self.x[self.past] = self.dy[self.past] = np.nan

    def rows(self, rows):
        """Return the same with some of its sequences."""
        part = object.__new__(Ragged)
        vars(part).update(vars(self))
        for name in ("x", "dy", "lengths", "past"):
            setattr(part, name, getattr(self, name)[rows])
        part.states, part.dstates = (tuple(s[rows] for s in states) for states in (self.states, self.dstates))
        return part

    def run(self, **options):
        return functional.rnn(
            self.x, tuple(self.weights.values()), self.states, cell=self.name, lengths=self.lengths, **options
        )

    def run_both(self, **options):
        """Return y, the last states, dx, gradients of the first states, and of the weights."""
        out = self.run(**options)
        gradients = functional.rnn_backward(out.tape, self.dy, self.dstates)
        return out.y, *out.states, gradients.x, *gradients.states, *gradients.weights

    def alone(self, n):
        """Return what sequence `n` gives alone, without `lengths`; y and dx with zeros where it has ended."""
        steps, weights = self.lengths[n], tuple(self.weights.values())
        first, last = (tuple(s[n : n + 1] for s in states) for states in (self.states, self.dstates))
        out = functional.rnn(self.x[n : n + 1, :steps], weights, first, cell=self.name)
        gradients = functional.rnn_backward(out.tape, self.dy[n : n + 1, :steps], last)
        end = [(0, 0), (0, self.x.shape[1] - steps), (0, 0)]
        return np.pad(out.y, end), *out.states, np.pad(gradients.x, end), *gradients.states

    def by_the_textbook(self):
        wide = {key: value.astype(np.float64) for key, value in self.weights.items()}
        out = reference.rnn(self.cell, self.x, wide, self.states, self.lengths)
        dy = np.where(self.past[:, :, np.newaxis], 0, self.dy)
        gradients = reference.rnn_backward(self.cell, self.x, wide, out.trace, dy, self.dstates, self.lengths)
        return out.y, *out.states, gradients.x, *gradients.states, *gradients.weights.values()


@pytest.mark.usefixtures("all_dealt_out")
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("name", "dtype"), NAMES)
def test_textbook_threads_and_recomputing(rng, name, dtype, sizes):
    made = Ragged(rng, name, sizes, dtype)
    numlstm.set_num_threads(1)
    want = made.run_both()
    for got, exact in zip(want, made.by_the_textbook(), strict=True):
        assert got.shape == exact.shape and got.dtype == dtype
        assert np.abs(got - exact).max() < ALLOWED_EPS * np.finfo(dtype).eps * (1 + np.abs(exact).max())
    for threads in (1, 2, 3):
        numlstm.set_num_threads(threads)
        for recompute in (None, *functional.RECOMPUTE):
            assert_same_bits(made.run_both(recompute=recompute), want)
        packed = functional.pack(tuple(made.weights.values()), name)
        out = functional.rnn(made.x, packed, made.states, cell=name, lengths=made.lengths, tape=False)
        assert_same_bits((out.y, *out.states), want[: 1 + len(made.states)])


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["lstm", "gru", "gru before"]),
    lengths=st.lists(st.integers(1, 36), min_size=1, max_size=9),
    more=st.integers(0, 3),
    inputs=st.integers(1, 20),
    hidden=st.integers(1, 40),
    recompute=st.sampled_from([None, *functional.RECOMPUTE]),
    seed=st.integers(0, 99),
)
def test_each_row_is_what_it_is_alone_in_any_order(name, lengths, more, inputs, hidden, recompute, seed):
    rng = np.random.default_rng(seed)
    sizes = len(lengths), max(lengths) + more, inputs, hidden
    made = Ragged(rng, name, sizes, np.float64, lengths)
    together = made.run_both(recompute=recompute)
    rows = 3 + 2 * len(made.states) - 1  # how many results have a row for each sequence
    for n in range(len(lengths)):
        assert_same_bits(tuple(a[n : n + 1] for a in together[:rows]), made.alone(n))
    order = rng.permutation(len(lengths))
    permuted = made.rows(order).run_both(recompute=recompute)
    assert_same_bits(permuted[:rows], tuple(a[order] for a in together[:rows]))
    for got, want in zip(permuted[rows:], together[rows:], strict=True):
        np.testing.assert_allclose(got, want, atol=1e-12 * (1 + np.abs(want).max()), rtol=0)


@pytest.mark.parametrize("recompute", [None, *functional.RECOMPUTE])
def test_lengths_of_all_steps_are_no_lengths(make_layer, recompute):
    layer = make_layer(5, 40, 6, 9)
    states = layer.h0, layer.c0
    for lengths in (np.full(5, 40), [40] * 5, np.full(5, 40, np.uint8)):
        want = functional.lstm(layer.x, layer.weights, *states, recompute=recompute)
        got = functional.lstm(layer.x, layer.weights, *states, lengths=lengths, recompute=recompute)
        assert_same_bits(tuple(got), tuple(want))
        both = [functional.lstm_backward(out.tape, layer.dy, layer.dh, layer.dc) for out in (got, want)]
        assert_same_bits(*map(tuple, both))


def test_memory_of_one_batch_serves_another_with_other_lengths(make_layer):
    """Passes are borrowed by the shape of the batch, which does not say how long its rows are."""
    layer = make_layer(3, 50, 4, 5)
    short = layer.x.copy()
    short[:, 10:] = np.nan
    for _ in range(2):
        for recompute in (None, *functional.RECOMPUTE):
            for x, lengths in ((short, [3, 10, 1]), (layer.x, [50, 50, 50]), (layer.x, [20, 50, 33])):
                out = functional.lstm(x, layer.weights, lengths=lengths, recompute=recompute)
                gradients = functional.lstm_backward(out.tape, layer.dy)
                for n, steps in enumerate(lengths):
                    alone = functional.lstm(x[n : n + 1, :steps], layer.weights)
                    assert_same_bits(out.h[n : n + 1], alone.h)
                    assert (out.y[n, steps:] == 0).all() and (gradients.x[n, steps:] == 0).all()


@pytest.mark.parametrize(
    ("lengths", "error", "says"),
    [
        ([4, 0, 2], ValueError, r"lengths must be from 1 to T=4, but lengths\[1\] is 0"),
        ([4, 3, -2], ValueError, r"but lengths\[2\] is -2"),
        ([5, 3, 2], ValueError, r"but lengths\[0\] is 5"),
        (np.array([2**63, 3, 2], np.uint64), ValueError, r"but lengths\[0\] is 9223372036854775808"),
        ([4, 3.5, 2], TypeError, r"lengths must be integers, but lengths\[1\] is 3.5"),
        ([4, 3, np.nan], TypeError, r"lengths must be integers, but lengths\[2\] is nan"),
        ([4.0, 3.0, 2.0], TypeError, r"lengths must be integers, not float64"),
        ([True, True, True], TypeError, r"lengths must be integers, not bool"),
        ([4, 3], ValueError, r"lengths must have shape \(N=3\), one for each sequence, not \(2,\)"),
        ([[4, 3, 2]], ValueError, r"lengths must have shape \(N=3\)"),
        (4, ValueError, r"lengths must have shape \(N=3\)"),
        (["4", "3", "2"], TypeError, "lengths must be an array of integers"),
    ],
)
def test_lengths_that_are_refused(make_layer, lengths, error, says):
    layer = make_layer(3, 4, 2, 5)
    with pytest.raises(error, match=says):
        functional.lstm(layer.x, layer.weights, lengths=lengths)


def test_no_sequences(make_layer):
    layer = make_layer(0, 4, 2, 5)
    out = functional.lstm(layer.x, layer.weights, lengths=np.empty(0, int))
    assert out.y.shape == (0, 4, 5)
    assert not functional.lstm_backward(out.tape, layer.dy).W_hh.any()
