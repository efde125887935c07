"""Each wrong argument gets one message that names it, what was expected and what came."""

import copy
import pickle

import numpy as np
import pytest

import numlstm
from numlstm import _validate, functional


@pytest.fixture
def parts(make_layer):
    layer = make_layer(3, 4, 2, 5)
    return {"x": layer.x, "W_ih": layer.W_ih, "W_hh": layer.W_hh, "b": layer.b, "h0": layer.h0, "c0": layer.c0}


def _run(parts, **changes):
    p = {**parts, **changes}
    return functional.lstm(p["x"], (p["W_ih"], p["W_hh"], p["b"]), p["h0"], p["c0"])


@pytest.mark.parametrize("name", ["x", "W_ih", "W_hh", "b", "h0", "c0"])
@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.complex64, object, "U3"])
def test_a_dtype_that_is_no_float(parts, name, dtype):
    with pytest.raises(TypeError, match=f"^{name} must be an array of float32.*not {np.dtype(dtype)}"):
        _run(parts, **{name: np.zeros(parts[name].shape, dtype)})


@pytest.mark.parametrize("name", ["x", "W_hh", "b", "h0", "c0"])
def test_a_mixture_of_float_types(parts, name):
    with pytest.raises(TypeError, match=f"^{name} must be an array of float32, like (the weights|W_ih), not float64$"):
        _run(parts, **{name: parts[name].astype(np.float64)})


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("x", (3, 4), r"x must have shape \(N, T, I=2\) to go with the weights, not \(3, 4\)"),
        ("x", (4, 2), r"x must have shape \(N, T, I=2\), not \(4, 2\): for one sequence pass x\[np.newaxis\]"),
        ("W_hh", (5, 20), r"W_hh must have shape \(4H, H\) with H at least 1, not \(5, 20\): it looks transposed"),
        ("x", (3, 4, 3), r"x must have shape \(N, T, I=2\) to go with the weights, not \(3, 4, 3\)"),
        ("x", (), r"x must have shape \(N, T, I=2\)"),
        ("W_ih", (19, 2), r"W_ih must have shape \(4H=20, I\) to go with W_hh \(20, 5\), not \(19, 2\)"),
        ("W_ih", (20,), r"W_ih must have shape \(4H=20, I\)"),
        ("W_ih", (20, 0), r"W_ih must have at least one input feature, not shape \(20, 0\)"),
        ("W_hh", (20, 4), r"W_hh must have shape \(4H, H\) with H at least 1, not \(20, 4\)"),
        ("W_hh", (0, 0), r"W_hh must have shape \(4H, H\) with H at least 1, not \(0, 0\)"),
        ("W_hh", (20,), r"W_hh must have shape \(4H, H\)"),
        ("b", (5,), r"b must have shape \(4H=20\) to go with W_hh \(20, 5\), not \(5,\)"),
        ("b", (20, 1), r"b must have shape \(4H=20\)"),
        ("h0", (2, 5), r"h0 must have shape \(N=3, H=5\), not \(2, 5\)"),
        ("c0", (3, 6), r"c0 must have shape \(N=3, H=5\), not \(3, 6\)"),
    ],
)
def test_a_shape_that_does_not_fit(parts, name, shape, message):
    with pytest.raises(ValueError, match="^" + message):
        _run(parts, **{name: np.zeros(shape, np.float32)})


@pytest.mark.parametrize(
    ("value", "came"), [(None, "None"), ([[[1.0, 2.0]]], r"list \(as an array: float64\)"), ("x", r"str \(as .*\)")]
)
def test_what_came_is_called_by_its_type(parts, value, came):
    with pytest.raises(TypeError, match=f"^x must be an array of float32, like the weights, not {came}$"):
        _run(parts, x=value)


def test_weights_that_look_swapped(parts):
    square = np.zeros((20, 5), np.float32)
    with pytest.raises(ValueError, match="W_ih and W_hh look swapped"):
        _run(parts, W_ih=square, W_hh=np.zeros((20, 2), np.float32))


def test_the_output_that_a_tape_refers_to_cannot_be_changed(parts):
    out = _run(parts)
    with pytest.raises(ValueError, match="read-only"):
        out.y[:] *= 2
    inference = functional.lstm(parts["x"], (parts["W_ih"], parts["W_hh"], parts["b"]), tape=False)
    inference.y[:] *= 2


def test_packing_twice_is_packing_once(parts):
    packed = functional.pack((parts["W_ih"], parts["W_hh"], parts["b"]))
    assert functional.pack(packed) is packed


def test_masked_arrays_are_refused(parts):
    with pytest.raises(TypeError, match="x must be a plain array, not a masked one"):
        _run(parts, x=np.ma.masked_array(parts["x"], parts["x"] > 0))


class _NoArray:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("on another device")


@pytest.mark.parametrize("value", [[[1.0], [1.0, 2.0]], _NoArray()], ids=["ragged", "foreign"])
def test_what_is_no_array(parts, value):
    with pytest.raises(TypeError, match=r"^x must be an array of float32 or float64: "):
        _run(parts, x=value)


@pytest.mark.parametrize(
    ("weights", "came"),
    [
        (None, "NoneType"),
        ((1, 2), "2 items"),
        ((1, 2, 3, 4), r"4 items: add PyTorch's two biases, b = b_ih \+ b_hh"),
        (np.zeros(3), "ndarray: put the three arrays into one tuple"),
        ("abcd", "str"),
        ({}, "dict"),
    ],
)
def test_weights_that_are_no_triple(parts, weights, came):
    with pytest.raises(TypeError, match=f"weights must be .*not {came}$"):
        functional.lstm(parts["x"], weights)


def test_packed_weights_with_a_tape(parts):
    packed = functional.pack((parts["W_ih"], parts["W_hh"], parts["b"]))
    with pytest.raises(ValueError, match="pass tape=False"):
        functional.lstm(parts["x"], packed)


def test_packed_weights_check_x(parts):
    packed = functional.pack((parts["W_ih"], parts["W_hh"], parts["b"]))
    with pytest.raises(TypeError, match="x must be an array of float32"):
        functional.lstm(parts["x"].astype(np.float64), packed, tape=False)
    with pytest.raises(ValueError, match=r"x must have shape \(N, T, I=2\)"):
        functional.lstm(parts["x"][:, :, :1], packed, tape=False)


def test_a_tape_serves_once(parts):
    out = _run(parts)
    functional.lstm_backward(out.tape, np.ones_like(out.y))
    with pytest.raises(ValueError, match="tape is consumed"):
        functional.lstm_backward(out.tape, np.ones_like(out.y))


def test_a_wrong_gradient_does_not_consume_the_tape(parts):
    out = _run(parts)
    with pytest.raises(ValueError, match=r"dy must have shape \(N=3, T=4, H=5\), that of y, not \(3, 4, 6\)"):
        functional.lstm_backward(out.tape, np.ones((3, 4, 6), np.float32))
    with pytest.raises(TypeError, match="dh must be an array of float32, like y, not float64"):
        functional.lstm_backward(out.tape, out.y, dh=np.ones((3, 5)))
    with pytest.raises(ValueError, match=r"dc must have shape \(N=3, H=5\)"):
        functional.lstm_backward(out.tape, out.y, dc=np.ones((3, 4), np.float32))
    functional.lstm_backward(out.tape, out.y)


def test_competing_threads_cannot_consume_a_tape_twice(parts):
    from concurrent.futures import ThreadPoolExecutor

    def consume(tape):
        try:
            return functional.lstm_backward(tape, np.ones((3, 4, 5), np.float32)) is not None
        except ValueError:
            return False

    with ThreadPoolExecutor(8) as pool:
        for _ in range(50):
            tape = _run(parts).tape
            assert sum(pool.map(consume, [tape] * 8)) == 1


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_tapes_and_packed_weights_are_not_copied(parts, duplicate):
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        duplicate(_run(parts).tape)
    with pytest.raises(TypeError, match="call pack again"):
        duplicate(functional.pack((parts["W_ih"], parts["W_hh"], parts["b"])))


@pytest.mark.parametrize("tape", [None, 3, "tape"])
def test_a_tape_that_is_none(tape):
    with pytest.raises(TypeError, match="tape must be the tape of functional"):
        functional.lstm_backward(tape, None)


@pytest.mark.parametrize(
    ("count", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), (np.array([2]), TypeError)]
)
def test_set_num_threads_refuses(count, error):
    with pytest.raises(error, match="count must be"):
        numlstm.set_num_threads(count)


def test_set_num_threads_is_what_get_returns():
    numlstm.set_num_threads(np.int64(5))
    assert numlstm.get_num_threads() == 5


@pytest.mark.parametrize("size", [7, 100_000])  # the smaller is looked at by its squares
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_finite_numbers_however_large(dtype, size):
    array = np.full(size, np.finfo(dtype).max, dtype)
    _validate.finite("x", array)
    array[5] = np.inf
    with pytest.raises(ValueError, match=r"^x must be finite, but x\[5\] is inf \(1 such values in all\)$"):
        _validate.finite("x", array)
