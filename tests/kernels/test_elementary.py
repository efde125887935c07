"""The elementary functions over vectors against a wider type; benchmarks/accuracy/elementary.py tries every float32."""

import numba
import numpy as np
import pytest
from numlstm.kernels import elementary, memory, simd, target

FUNCTIONS = {"exp": 0, "sigmoid": 1, "tanh": 2, "log_sigmoid": 3}
WIDER = {np.float32: np.float64, np.float64: np.longdouble}
# Largest error in ulp over every float32, by benchmarks/accuracy/elementary.py: 1.081, 2.402, 2.498, 2.797.
ULPS = {"exp": 1.1, "sigmoid": 2.5, "tanh": 2.6, "log_sigmoid": 2.9}


@numba.njit
def apply(which, x, y):
    for at in range(0, x.size, simd.lanes(x)):
        vector = memory.load_first(x, at, x.size - at)
        if which == 0:
            vector = elementary.exp(vector)
        elif which == 1:
            vector = elementary.sigmoid(vector)
        elif which == 2:
            vector = elementary.tanh(vector)
        else:
            vector = elementary.log_sigmoid(vector)
        memory.store_first(y, at, vector, x.size - at)


def evaluate(name, x):
    y = np.empty_like(x)
    apply(FUNCTIONS[name], x, y)
    return y


def exact(name, x):
    """Return the function of a wide x."""
    with np.errstate(all="ignore"):
        if name == "exp":
            return np.exp(x)
        if name == "tanh":
            return np.tanh(x)
        small = np.exp(-np.abs(x))
        if name == "log_sigmoid":
            return np.minimum(x, 0) - np.log1p(small)
        return np.where(x < 0, small, 1) / (1 + small)


def sample(dtype):
    """Return arguments all over the range, dense where the functions bend, both signs."""
    info = np.finfo(dtype)
    end = -np.log(float(info.tiny)) * 1.2
    rng = np.random.default_rng(1)
    magnitudes = np.concatenate(
        [
            np.geomspace(float(info.tiny), end, 300_000),
            np.linspace(0, 20, 300_000),
            np.linspace(0, end, 100_000),
            rng.uniform(0, 2, 100_000),
        ]
    )
    return np.concatenate([magnitudes, -magnitudes]).astype(dtype)


@pytest.mark.parametrize("dtype", WIDER)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_is_a_few_ulp(name, dtype):
    if dtype == np.float64 and np.finfo(np.longdouble).eps == np.finfo(np.float64).eps:
        pytest.skip("no type here is wider than float64; float32 is checked")
    x = sample(dtype)
    wide = exact(name, x.astype(WIDER[dtype]))
    got = evaluate(name, x)
    info = np.finfo(dtype)
    with np.errstate(all="ignore"):
        ulp = np.spacing(np.maximum(np.abs(wide.astype(dtype)), info.tiny)).astype(WIDER[dtype])
        error = np.abs(got - wide) / ulp
        error[got == wide.astype(dtype)] = 0
    if "sigmoid" in name:  # flushes a subnormal result to zero
        assert (got[np.abs(wide) < info.tiny * 0.99] == 0).all()
        error[np.abs(wide) < info.tiny * 1.01] = 0
    assert error.max() <= ULPS[name], (x[error.argmax()], error.max())


@pytest.mark.parametrize("dtype", WIDER)
def test_special_values(dtype):
    info = np.finfo(dtype)
    zero, inf, nan = dtype(0), dtype(np.inf), dtype(np.nan)
    x = np.array([zero, -zero, inf, -inf, info.max, -info.max], dtype)
    assert evaluate("exp", x).tolist() == [1, 1, inf, 0, inf, 0]
    assert evaluate("sigmoid", x).tolist() == [0.5, 0.5, 1, 0, 1, 0]
    assert evaluate("log_sigmoid", x[2:]).tolist() == [0, -inf, 0, -info.max]
    tanh = evaluate("tanh", x)
    assert tanh.tolist() == [0, 0, 1, -1, 1, -1]
    assert np.signbit(tanh[:2]).tolist() == [False, True]
    tiny = np.array([info.smallest_subnormal, -info.smallest_subnormal, info.tiny], dtype)
    assert evaluate("tanh", tiny).tolist() == tiny.tolist()
    # every NaN stays one, whatever its sign and payload
    unsigned = {np.float32: np.uint32, np.float64: np.uint64}[dtype]
    bits = np.array([nan, -nan], dtype).view(unsigned)
    payloads = (bits[:, None] | np.arange(1, 600, dtype=unsigned)).ravel().view(dtype)
    for name in FUNCTIONS:
        assert np.isnan(evaluate(name, payloads)).all()


def test_exact_at_the_saturated_ends():
    x = np.linspace(20, 88, 5000).astype(np.float32)
    assert (evaluate("sigmoid", x) == 1).all()
    assert (evaluate("tanh", x) == 1).all() and (evaluate("tanh", -x) == -1).all()


@pytest.mark.parametrize("dtype", WIDER)
def test_a_vector_that_is_not_whole_touches_nothing_else(dtype):
    width = target.lanes(dtype)
    for count in range(1, width + 1):
        x = np.linspace(-1, 1, count).astype(dtype)
        memory = np.full(2 * width + 1, 7, dtype)
        apply(2, x, memory[1 : 1 + count])
        np.testing.assert_allclose(memory[1 : 1 + count], np.tanh(x), rtol=1e-6)
        assert (memory[1 + count :] == 7).all() and memory[0] == 7


@numba.njit
def _operators(a, b, out):
    width = simd.lanes(a)
    x, y = memory.load(a, 0), memory.load(b, 0)
    two = simd.constant(x, 2)
    results = (x + y, x - y, x * y, x / y, -x, simd.fma(x, y, two))
    for i in range(len(results)):
        memory.store(out, i * width, results[i])


@pytest.mark.parametrize("dtype", WIDER)
def test_operators_work_lane_by_lane(rng, dtype):
    width = target.lanes(dtype)
    a, b = rng.uniform(1, 2, (2, width)).astype(dtype)
    out = np.empty((6, width), dtype)
    _operators(a, b, out)
    np.testing.assert_array_equal(out[:5], [a + b, a - b, a * b, a / b, -a])
    np.testing.assert_allclose(out[5], a * b + 2, rtol=2 * np.finfo(dtype).eps)
