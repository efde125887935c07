"""functional.lstm and lstm_backward against the reference, over sizes, dtypes and what may be left out."""

import itertools
import re

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from support import GRADIENTS, Layer, assert_close, assert_same_bits

import numlstm
from numlstm import backend, cells, functional

DTYPES = [np.float32, np.float64]
SIZES = [1, 2, 3, 5, 7, 8, 16, 17, 33, 64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("steps", "hidden"), list(itertools.product(SIZES, SIZES)))
def test_outputs_and_all_gradients_match_the_reference(make_layer, steps, hidden, dtype):
    """Every N, T, I, H from SIZES. Rows are independent, so the reference runs once for the largest batch."""
    for inputs in SIZES:
        largest = make_layer(SIZES[-1], steps, inputs, hidden, dtype=dtype)
        want, gradients = largest.reference()
        x = largest.x.astype(np.float64)
        for batch in SIZES:
            out, got = largest.rows(0, batch).run_both()
            for name in ("y", "h", "c"):
                assert_close(name, getattr(out, name), getattr(want, name)[:batch], dtype)
            for name in ("x", "h0", "c0"):
                assert_close(name, getattr(got, name), getattr(gradients, name)[:batch], dtype)
            sums = reference.weight_gradients(x, want.trace, gradients.z[:batch])
            for name, wanted in zip(("W_ih", "W_hh", "b"), sums, strict=True):
                assert_close(name, getattr(got, name), wanted, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(3, 300, 5, 9), (70, 3, 40, 130), (2, 9, 700, 20), (1, 1, 3, 520)])
def test_sizes_past_every_block_match_the_reference(make_layer, sizes, dtype):
    """Longer than a block of steps, of the batch, of a sum; wider than a chunk of dW and a block of a long operand."""
    layer = make_layer(*sizes, dtype=dtype)
    out, gradients = layer.run_both()
    want, want_gradients = layer.reference()
    assert_close("y", out.y, want.y, dtype)
    for name in GRADIENTS:
        assert_close(name, getattr(gradients, name), getattr(want_gradients, name), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(1, 9, 3, 5), (8, 4, 17, 33), (20, 40, 6, 64)])
def test_without_tape_and_packed_give_the_same_bits(make_layer, sizes, dtype):
    layer = make_layer(*sizes, dtype=dtype)
    with_tape, without = layer.run(), layer.run(tape=False)
    packed = functional.lstm(layer.x, functional.pack(layer.weights), layer.h0, layer.c0, tape=False)
    assert without.tape is None and packed.tape is None
    assert_same_bits(tuple(with_tape), tuple(without))
    assert_same_bits(tuple(with_tape), tuple(packed))


@pytest.mark.parametrize("dtype", DTYPES)
def test_states_left_out_are_zero(make_layer, dtype):
    layer = make_layer(3, 4, 2, 5, dtype=dtype)
    zeros = np.zeros_like(layer.h0)
    explicit = functional.lstm(layer.x, layer.weights, zeros, zeros)
    implicit = functional.lstm(layer.x, layer.weights)
    assert_same_bits(tuple(explicit), tuple(implicit))
    left = functional.lstm_backward(explicit.tape, layer.dy, zeros, zeros)
    right = functional.lstm_backward(implicit.tape, layer.dy)
    assert_same_bits(tuple(left), tuple(right))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_of_the_last_state_alone(make_layer, dtype):
    layer = make_layer(3, 4, 2, 5, dtype=dtype)
    zeros = np.zeros_like(layer.dy)
    left = functional.lstm_backward(layer.run().tape, None, layer.dh)
    right = functional.lstm_backward(layer.run().tape, zeros, layer.dh)
    assert_same_bits(tuple(left), tuple(right))


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(32, 30, 40, 70), (5, 40, 64, 96), (1, 50, 80, 130), (64, 20, 16, 64), (3, 9, 5, 7)])
def test_any_thread_count_gives_the_same_bits(make_layer, sizes, dtype, threads, all_dealt_out):
    layer = make_layer(*sizes, dtype=dtype)
    numlstm.set_num_threads(1)
    one = layer.run_both()
    numlstm.set_num_threads(threads)
    several = layer.run_both()
    assert_same_bits(tuple(one[0]), tuple(several[0]))
    assert_same_bits(tuple(one[1]), tuple(several[1]))


LONG = [(1, 1, 1, 1), (3, 40, 4, 7), (33, 70, 5, 40), (1, 200, 80, 130), (130, 33, 3, 16), (2, 1100, 3, 9)]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("recompute", functional.RECOMPUTE)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", LONG)
def test_what_is_recomputed_has_the_same_bits(make_layer, sizes, dtype, recompute, threads):
    numlstm.set_num_threads(threads)
    layer = make_layer(*sizes, dtype=dtype)
    out, gradients = layer.run_both()
    same = functional.lstm(layer.x, layer.weights, layer.h0, layer.c0, recompute=recompute)
    assert_same_bits(tuple(out), tuple(same))
    if recompute == "states":
        same.y.fill(np.nan)  # nobody needs it any more
    assert_same_bits(tuple(gradients), tuple(functional.lstm_backward(same.tape, layer.dy, layer.dh, layer.dc)))


@pytest.mark.parametrize("recompute", functional.RECOMPUTE)
@pytest.mark.parametrize(("steps", "share"), [(64, 0.42), (100, 0.35), (1000, 0.21), (10_000, 0.18)])
def test_recomputing_keeps_less(steps, share, recompute):
    kind = backend.kind_of(cells.CellSpec().name)
    sizes, dtype, y = (2, steps, 3, 64), np.dtype(np.float32), 2 * steps * 64 * 4
    full = backend.Recurrent(kind, sizes, dtype, True, np.empty).nbytes + y
    kept = backend.Recurrent(kind, sizes, dtype, True, np.empty, recompute).nbytes + (y if recompute == "gates" else 0)
    assert kept <= share * full


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recompute": "gate"}, "recompute must be one of 'gates', 'states', None, not 'gate': did you mean 'gates'?"),
        ({"recompute": "gates", "tape": False}, "recompute is for the backward pass: without a tape nothing is kept"),
    ],
)
def test_wrong_recompute(make_layer, arguments, message):
    layer = make_layer(1, 2, 3, 4)
    with pytest.raises(ValueError, match=re.escape(message)):
        functional.lstm(layer.x, layer.weights, **arguments)


sizes = st.tuples(st.integers(1, 13), st.integers(1, 9), st.integers(1, 20), st.integers(1, 40))
dtypes = st.sampled_from(DTYPES)
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=40, deadline=None)
@given(sizes, dtypes, seeds, st.data())
def test_any_split_of_the_batch_gives_the_same_bits(sizes, dtype, seed, data):
    layer = Layer.random(np.random.default_rng(seed), *sizes, dtype=dtype)
    cut = data.draw(st.integers(0, sizes[0]))
    out, gradients = layer.run_both()
    parts = [layer.rows(0, cut).run_both(), layer.rows(cut, sizes[0]).run_both()]
    for name in ("y", "h", "c"):
        joined = np.concatenate([getattr(part[0], name) for part in parts])
        assert_same_bits(getattr(out, name), joined)
    for name in ("x", "h0", "c0"):
        joined = np.concatenate([getattr(part[1], name) for part in parts])
        assert_same_bits(getattr(gradients, name), joined)


@settings(max_examples=40, deadline=None)
@given(sizes, dtypes, seeds)
def test_permuting_the_batch_permutes_the_answer(sizes, dtype, seed):
    rng = np.random.default_rng(seed)
    layer = Layer.random(rng, *sizes, dtype=dtype)
    order = rng.permutation(sizes[0])
    permuted = layer.rows(0, sizes[0])
    for name in ("x", "h0", "c0", "dy", "dh", "dc"):
        setattr(permuted, name, getattr(layer, name)[order])
    left, right = layer.run_both(), permuted.run_both()
    assert_same_bits(left[0].y[order], right[0].y)
    assert_same_bits(left[1].x[order], right[1].x)


@settings(max_examples=40, deadline=None)
@given(sizes, dtypes, seeds, st.data())
def test_a_sequence_split_in_two_with_its_state_carried_equals_the_whole(sizes, dtype, seed, data):
    layer = Layer.random(np.random.default_rng(seed), *sizes, dtype=dtype)
    cut = data.draw(st.integers(0, sizes[1]))
    whole = layer.run()
    first = functional.lstm(layer.x[:, :cut], layer.weights, layer.h0, layer.c0)
    second = functional.lstm(layer.x[:, cut:], layer.weights, first.h, first.c)
    assert_same_bits(whole.y, np.concatenate([first.y, second.y], axis=1))
    assert_same_bits((whole.h, whole.c), (second.h, second.c))
    late = functional.lstm_backward(second.tape, layer.dy[:, cut:], layer.dh, layer.dc)
    early = functional.lstm_backward(first.tape, layer.dy[:, :cut], late.h0, late.c0)
    gradients = functional.lstm_backward(whole.tape, layer.dy, layer.dh, layer.dc)
    assert_same_bits((gradients.h0, gradients.c0), (early.h0, early.c0))
    assert_same_bits(gradients.x, np.concatenate([early.x, late.x], axis=1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_bad_value_stays_in_its_row(make_layer, dtype, bad):
    layer = make_layer(9, 6, 5, 19, dtype=dtype)
    clean = layer.run_both()
    layer.x[4, 2, 1] = bad
    with np.errstate(all="ignore"):
        out, gradients = layer.run_both()
    others = np.arange(9) != 4
    assert_same_bits(out.y[others], clean[0].y[others])
    assert_same_bits(gradients.x[others], clean[1].x[others])
    assert_same_bits(out.y[4, :2], clean[0].y[4, :2])
    if np.isnan(bad):
        assert np.isnan(out.y[4, 2:]).all() and np.isnan(out.h[4]).all()


@pytest.mark.parametrize("sizes", [(0, 4, 3, 5), (3, 0, 3, 5), (0, 0, 3, 5)])
@pytest.mark.parametrize("tape", [True, False])
def test_an_empty_batch_or_no_steps(make_layer, sizes, tape):
    layer = make_layer(*sizes)
    out = layer.run(tape=tape)
    assert out.y.shape == (sizes[0], sizes[1], 5)
    assert_same_bits((out.h, out.c), (layer.h0, layer.c0))
    if tape:
        gradients = functional.lstm_backward(out.tape, layer.dy, layer.dh, layer.dc)
        assert_same_bits((gradients.h0, gradients.c0), (layer.dh, layer.dc))
        assert not gradients.W_ih.any() and not gradients.W_hh.any() and not gradients.b.any()
        assert gradients.x.shape == layer.x.shape


def test_nothing_is_written_to_the_inputs(make_layer):
    layer = make_layer(4, 5, 3, 21)
    before = [getattr(layer, name).copy() for name in vars(layer)]
    layer.run_both()
    for name, was in zip(vars(layer), before, strict=True):
        assert_same_bits(getattr(layer, name), was)


def _fortran(a):
    return np.asfortranarray(a)


def _strided(a):
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), np.nan, a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def _swapped(a):
    return a.astype(a.dtype.newbyteorder("S"))


def _read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def _unaligned(a):
    raw = np.empty(a.nbytes + 1, np.uint8)
    moved = raw[1:].view(a.dtype).reshape(a.shape)
    moved[...] = a
    return moved


@pytest.mark.parametrize("form", [_fortran, _strided, _swapped, _read_only, _unaligned])
def test_arrays_of_any_layout_give_the_same_answer(make_layer, form):
    layer = make_layer(4, 5, 3, 21)
    formed = Layer(**{name: form(value) for name, value in vars(layer).items()})
    for left, right in zip(layer.run_both(), formed.run_both(), strict=True):
        assert_same_bits(tuple(left), tuple(right))


def test_a_second_call_allocates_no_workspace(make_layer):
    import tracemalloc

    layer = make_layer(16, 40, 20, 64)
    results = layer.x.nbytes + 2 * layer.dy.nbytes  # what belongs to the caller: gradients of x, and y
    results += sum(array.nbytes for array in layer.weights) + 4 * layer.h0.nbytes
    for _ in range(3):
        layer.run_both()
    tracemalloc.start()
    try:
        layer.run_both()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < results + 64_000, (peak, results)


def test_a_call_neither_shares_memory_nor_keeps_its_arguments(make_layer):
    """Calls of one shape use the same memory inside, one after the other."""
    import weakref

    results, seen = [], []
    for seed in range(3):
        layer = Layer.random(np.random.default_rng(seed), 4, 5, 3, 21)
        out, gradients = layer.run_both()
        plain = functional.lstm(layer.x, layer.weights, tape=False)
        arrays = [*out[:3], *gradients, *plain[:3]]
        results.append((arrays, [array.copy() for array in arrays]))
        seen += [weakref.ref(array) for array in vars(layer).values()]
        del layer, out, gradients, plain
    for arrays, copies in results:
        assert_same_bits(tuple(arrays), tuple(copies))
    arrays = [array for each, _ in results for array in each]
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(arrays, 2))
    assert all(reference() is None for reference in seen)


def test_the_thread_count_may_change_before_the_backward_pass(make_layer):
    layer = make_layer(5, 100, 64, 96)
    want = layer.run_both()
    for before, after in ((1, 3), (3, 1), (2, 8)):
        numlstm.set_num_threads(before)
        out = layer.run()
        numlstm.set_num_threads(after)
        got = functional.lstm_backward(out.tape, layer.dy, layer.dh, layer.dc)
        assert_same_bits(tuple(got), tuple(want[1]))


def test_an_empty_read_only_array_compiles_nothing_more(make_layer):
    from numlstm.kernels import parallel

    layer = make_layer(0, 4, 3, 5)
    layer.run()
    before = len(parallel.forward.overloads)
    layer.x.flags.writeable = False
    layer.run()
    assert len(parallel.forward.overloads) == before


def test_sequences_of_many_lengths_share_the_memory_of_the_weights(make_layer, monkeypatch):
    """Beside what a length needs, large weights would have to be packed to fresh memory for each."""
    made = []

    class Counted(backend.Weights):
        def __init__(self, *arguments):
            made.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(backend, "Weights", Counted)
    for steps in range(1, 20):
        make_layer(2, steps, 29, 31).run_both()
    assert len(made) == 1
