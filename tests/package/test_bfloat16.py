"""compute_dtype="bfloat16": what is rounded, how, and what error it makes."""

import re

import numpy as np
import pytest
import reference
from numlstm.kernels import layout
from support import assert_close, assert_same_bits

import numlstm
from numlstm import functional

SIZES = [(1, 9, 3, 5), (1, 60, 64, 200), (2, 5, 17, 33), (7, 20, 6, 64), (20, 3, 40, 130), (70, 4, 3, 16)]


def _rounded(values):
    """Return the nearest numbers of 8 significant bits, ties to even, by arithmetic in float64."""
    wide = np.asarray(values, np.float64)
    exponent = np.maximum(np.frexp(wide)[1], -125)  # below it, bfloat16's are evenly spaced, as float32's
    spacing = np.ldexp(1.0, exponent - 8)
    return np.rint(wide / spacing) * spacing


def _round(values):
    return layout.round_to_bfloat16(np.asarray(values, np.float32)).view(np.float32)


def test_rounding_is_to_the_nearest_ties_to_even(rng):
    bits = rng.integers(0, 2**32, 200_000, np.uint32)
    ends = np.array([0, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)  # a tie and what lies beside it
    values = np.concatenate([bits, ((bits & 0xFFFF0000)[:, np.newaxis] | ends).ravel()]).view(np.float32)
    values = values[np.isfinite(values)]
    want = _rounded(values)
    with np.errstate(over="ignore"):
        want = np.where(np.abs(want) > 3.39e38, np.copysign(np.inf, want), want).astype(np.float32)
    assert_same_bits(_round(values), want)


def test_nan_infinity_and_zeros_stay():
    special = np.array([np.inf, -np.inf, 0.0, -0.0], np.float32)
    assert_same_bits(_round(special), special)
    quiet_and_signalling = np.array([0x7FC00000, 0xFFC00001, 0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF], np.uint32)
    assert np.isnan(_round(quiet_and_signalling.view(np.float32))).all()


def _above(lower, values):
    """Return the numbers nearest to `values` of those whose bits end as those of bfloat16 `lower` begin."""
    ends, uppers = np.asarray(lower, np.float32).view(np.uint32) >> 16, np.abs(values).view(np.uint32) >> 16
    near = [np.clip(uppers.astype(np.int64) + step, 0x2000, 0x7F7F).astype(np.uint32) << 16 | ends for step in (1, 0, -1)]
    numbers = np.copysign(np.stack(near).view(np.float32), values)
    nearest = np.abs(numbers.astype(np.float64) - values).argmin(0, keepdims=True)
    return np.take_along_axis(numbers, nearest, 0)[0]


def _as_computed(weights):
    """Return weights (4H, K) as they are computed with: i and g rounded, f and o as near as the bits of i and g let them."""
    i, f, g, o = np.split(weights, 4)
    i, g = _rounded(i).astype(np.float32), _rounded(g).astype(np.float32)
    return np.concatenate([i, _above(i, f), g, _above(g, o)])


def _pair(first, second):
    """Return what two rows of numbers become as a pair."""
    panels = np.zeros((1, 1, 2, 2, first.size), np.float32)
    panels[0, 0, 0] = first, second
    words, back = layout.pair(panels.reshape(1, 1, -1)), np.empty((1, 1, 4 * first.size), np.float32)
    layout.unpair(words, back)
    assert_same_bits(layout.pair(back), words)  # for `step`, which pairs what was paired
    return back.reshape(2, 2, -1)[0]


def test_both_of_a_pair_change_by_no_more_than_a_256th(rng):
    """Over all magnitudes; the second one near the ends of binades too, where its neighbours lie unevenly."""
    first, second = rng.integers(0, 2**32, (2, 300_000), np.uint32)
    second[::3] = second[::3] & 0xFF800000 | rng.choice([0, 1, 0x7FFF, 0x8000, 0x7FFFFF, 0x7F8000], second[::3].size)
    first, second = first.view(np.float32), second.view(np.float32)
    usable = (np.abs(first) < 3.39e38) & (np.abs(second) < 3.38e38)  # not NaN, nor beyond bfloat16's range
    first, second = first[usable], second[usable]
    got_first, got_second = _pair(first, second)
    assert_same_bits(got_first, _round(first))
    assert_same_bits(got_second, _above(got_first, second))
    moved, most = np.abs(got_second.astype(np.float64) - second), np.abs(second.astype(np.float64)) / 256
    assert (moved <= np.maximum(most * (1 + 2**-22), 1.1e-19)).all()
    assert (np.abs(got_second) > 1e-19).all()  # no subnormal ones


def test_what_the_second_of_a_pair_does_with_special_values():
    first = np.array([0.1, -0.0, 0.0, -0.0, 0.1, 0.1, 0.0, np.nan, np.inf], np.float32)
    second = np.array([0.0, 0.0, 0.0, -0.0, np.inf, -np.inf, np.nan, 0.1, 0.1], np.float32)
    _, got = _pair(first, second)
    assert ((got[:2] > 1e-19) & (got[:2] < 1.1e-19)).all()
    assert_same_bits(got[2:3], np.zeros(1, np.float32))
    assert -1.1e-19 < got[3] < -1e-19
    assert np.isfinite(got[4:6]).all() and got[4] > 3.38e38 and got[5] < -3.38e38
    assert np.isnan(got[6]) and np.abs(got[7:] - 0.1).max() < 0.1 / 256


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("sizes", SIZES)
def test_it_is_float32_with_rounded_weights(make_layer, sizes, threads):
    """Bit for bit, at any thread count, and so within float32's error of the textbook with those weights."""
    layer = make_layer(*sizes)
    hidden = sizes[3]
    layer.W_hh[0, 0], layer.W_hh[1, 0], layer.W_hh[hidden, 1], layer.W_hh[hidden + 1, 1] = 0, -0.0, 0, -0.0
    numlstm.set_num_threads(threads)
    packed = functional.pack(layer.weights, compute_dtype="bfloat16")
    got = functional.lstm(layer.x, packed, layer.h0, layer.c0, tape=False)
    at_once = functional.lstm(layer.x, layer.weights, layer.h0, layer.c0, tape=False, compute_dtype="bfloat16")
    layer.W_ih, layer.W_hh = _as_computed(layer.W_ih), _as_computed(layer.W_hh)
    numlstm.set_num_threads(1)
    assert_same_bits(tuple(got), tuple(layer.run(tape=False)))
    assert_same_bits(tuple(got), tuple(at_once))
    want = reference.lstm(layer.x, *layer.weights, layer.h0, layer.c0)
    for name in ("y", "h", "c"):
        assert_close(name, getattr(got, name), getattr(want, name), np.float32)


@pytest.mark.parametrize("sizes", [(5, 1, 3, 5), (3, 1, 64, 200), (9, 1, 300, 40)])
def test_one_step_stays_within_the_stated_bound(make_layer, sizes):
    """Pre-activations move by at most (sum |W_ih x| + sum |W_hh h|) / 256; sigmoid's slope is 1/4 at most, tanh's 1."""
    layer = make_layer(*sizes)
    got = functional.lstm(layer.x, layer.weights, layer.h0, layer.c0, tape=False, compute_dtype="bfloat16")
    want = reference.lstm(layer.x, *layer.weights, layer.h0, layer.c0)
    moved = np.abs(layer.x[:, 0]) @ np.abs(layer.W_ih).T + np.abs(layer.h0) @ np.abs(layer.W_hh).T
    i, f, g, o = np.split(moved.astype(np.float64) / 256, 4, axis=1)
    c = np.abs(layer.c0) * f / 4 + i / 4 + g
    error = np.abs(got.c - want.c)
    assert (error <= c + 1e-6).all() and (error > 1e-5).any()
    assert (np.abs(got.h - want.h) <= o / 4 + c + 1e-6).all()


@pytest.mark.parametrize("sizes", [(1, 100, 64, 128), (8, 200, 1, 50), (4, 1000, 8, 8)])
def test_sequences_stay_within_the_stated_thousandths(make_layer, sizes):
    layer = make_layer(*sizes)
    got = functional.lstm(layer.x, layer.weights, tape=False, compute_dtype="bfloat16").y
    want = functional.lstm(layer.x, layer.weights, tape=False).y
    assert 1e-5 < np.abs(got - want).max() < 0.01


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["x", "W_ih", "W_hh"])
def test_bad_values_go_where_they_go_in_float32(make_layer, name, bad):
    layer = make_layer(9, 6, 5, 19)
    (getattr(layer, name)[4, 2, 1:2] if name == "x" else getattr(layer, name)[4, 2:3])[...] = bad
    with np.errstate(all="ignore"):
        got = functional.lstm(layer.x, layer.weights, layer.h0, layer.c0, tape=False, compute_dtype="bfloat16").y
        want = layer.run(tape=False).y
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


def test_packed_weights_say_so(make_layer):
    packed = functional.pack(make_layer(1, 1, 3, 5).weights, compute_dtype="bfloat16")
    assert repr(packed) == "PackedWeights(inputs=3, hidden=5, dtype=float32, compute_dtype='bfloat16')"
    assert functional.pack(packed) is packed and functional.pack(packed, compute_dtype="bfloat16") is packed


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, w: functional.lstm(x, w, compute_dtype="bfloat16"), ValueError, "is for inference: pass tape=False"),
        (
            lambda x, w: functional.lstm(x, functional.pack(w, compute_dtype="bfloat16")),
            ValueError,
            "weights are packed, which is for inf",
        ),
        (
            lambda x, w: functional.pack(w, compute_dtype="bfloat"),
            ValueError,
            "compute_dtype must be one of 'bfloat16', not 'bfloat': did",
        ),
        (
            lambda x, w: functional.lstm(x, functional.pack(w), tape=False, compute_dtype="bfloat16"),
            ValueError,
            "weights are packed in float32: pack them as they were with compute_dtype='bfloat16'",
        ),
        (
            lambda x, w: functional.pack([a.astype(np.float64) for a in w], compute_dtype="bfloat16"),
            TypeError,
            "compute_dtype='bfloat16' goes with float32 weights, not float64",
        ),
        (
            lambda x, w: functional.pack([*w, w[2][:12]], "peephole", "bfloat16"),
            ValueError,
            "compute_dtype='bfloat16' is for cell='lstm' alone, not for CellSpec(",
        ),
        (
            lambda x, w: functional.lstm(x.astype(np.float64), w, tape=False, compute_dtype="bfloat16"),
            TypeError,
            "x must be an array of float32, like the weights, not float64",
        ),
    ],
)
def test_what_does_not_go_together(make_layer, call, error, message):
    layer = make_layer(1, 2, 3, 4)
    with pytest.raises(error, match=re.escape(message)):
        call(layer.x, layer.weights)
