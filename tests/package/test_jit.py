"""functional.jit: a step inside the user's own compiled code, the same bits as functional.lstm, and nothing allocated."""

import pickle
import re
import shutil
import threading

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError
from numlstm.kernels import cells as kernel_cells
from own_cells import OWN
from stepping import ALLOCATIONS, user_script
from support import KERNELS, PACKAGE, assert_same_bits

from numlstm import cells, functional

KINDS = [(np.float32, None), (np.float64, None), (np.float32, "bfloat16")]
step = functional.step


@numba.njit
def run(params, state, x, y):
    for t in range(x.shape[0]):
        step(params, state, x[t], y[t])


run_nogil = numba.njit(nogil=True)(run.py_func)
run_fast = numba.njit(fastmath=True)(run.py_func)


def _jitted(layer, compute_dtype=None):
    """Return the parameters of a layer and a state like that of its first sequence."""
    found, params, zeros = functional.jit(layer.weights, compute_dtype=compute_dtype)
    assert found is step and not zeros.h.any() and not zeros.c.any()
    return params, functional.LSTMState(layer.h0[0].copy(), layer.c0[0].copy())


@pytest.mark.parametrize("runner", [run, run_fast, None], ids=["njit", "fastmath", "Python"])
@pytest.mark.parametrize(("dtype", "compute_dtype"), KINDS)
@pytest.mark.parametrize(("inputs", "hidden"), [(1, 1), (3, 5), (16, 16), (5, 17), (40, 33), (7, 50), (9, 64), (64, 130)])
def test_steps_have_the_bits_of_the_whole(make_layer, inputs, hidden, dtype, compute_dtype, runner):
    layer = make_layer(1, 9, inputs, hidden, dtype=dtype)
    want = functional.lstm(layer.x, layer.weights, layer.h0, layer.c0, tape=False, compute_dtype=compute_dtype)
    params, state = _jitted(layer, compute_dtype)
    y = np.full((9, hidden), np.nan, dtype)
    (runner or run.py_func)(params, state, layer.x[0], y)
    assert_same_bits(y, want.y[0])
    assert_same_bits((state.h, state.c), (want.h[0], want.c[0]))


@pytest.mark.parametrize("hidden", [19, 64, 200])
@pytest.mark.parametrize("cell", ["peephole", "gru", "rnn", "slstm", OWN["own lstm"]])
def test_other_cells(rng, cell, hidden):
    spec, inputs = cells.spec(cell), 5
    weights = [
        rng.uniform(-0.5, 0.5, (blocks * hidden, columns)[:dimensions]).astype(np.float32)
        for (blocks, dimensions), columns in zip(spec.weights.values(), (inputs, hidden, 0, 0), strict=False)
    ]
    x = rng.standard_normal((1, 7, inputs), np.float32)
    want = functional.rnn(x, weights, cell=cell, tape=False)
    _, params, state = functional.jit(weights, cell)
    y = np.empty((7, hidden), np.float32)
    run(params, state, x[0], y)
    assert_same_bits(y, want.y[0])
    assert_same_bits(tuple(state), tuple(state[0] for state in want.states))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_values_go_where_they_go_in_a_sequence(make_layer, bad):
    layer = make_layer(1, 4, 5, 20)
    layer.x[0, 1, 2] = bad
    params, state = _jitted(layer)
    y = np.empty((4, 20), np.float32)
    run_fast(params, state, layer.x[0], y)
    assert_same_bits(y, functional.lstm(layer.x, layer.weights, layer.h0, layer.c0, tape=False).y[0])
    assert np.isfinite(y[0]).all() and np.isnan(y[3]).any() == np.isnan(bad)


def test_sequences_with_a_state_each_and_parameters_from_a_file(make_layer):
    layer = make_layer(3, 6, 4, 21)
    params, _ = _jitted(layer)
    params = pickle.loads(pickle.dumps(params))
    want = functional.lstm(layer.x, layer.weights, layer.h0, layer.c0, tape=False).y
    states = [functional.LSTMState(h.copy(), c.copy()) for h, c in zip(layer.h0, layer.c0, strict=True)]
    y = np.empty_like(want)
    for t in range(6):
        for n in range(3):
            run(params, states[n], layer.x[n, t : t + 1], y[n, t : t + 1])
    assert_same_bits(y, want)


def test_many_threads_at_once(make_layer):
    layer = make_layer(1, 2000, 8, 40)
    want = functional.lstm(layer.x, layer.weights, layer.h0, layer.c0, tape=False).y[0]
    params, start = _jitted(layer)
    outputs = [np.empty_like(want) for _ in range(8)]

    def work(y):
        run_nogil(params, functional.LSTMState(start.h.copy(), start.c.copy()), layer.x[0], y)

    threads = [threading.Thread(target=work, args=(y,)) for y in outputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for y in outputs:
        assert_same_bits(y, want)


@pytest.mark.parametrize("compute_dtype", [None, "bfloat16"])
def test_nothing_is_allocated(run_python, compute_dtype):
    done = run_python(
        ALLOCATIONS
        + """
import sys
from numlstm import functional
shapes = (80, 3), (80, 20), (80,)
weights = tuple(np.ones(shape, np.float32) for shape in shapes)
_, params, state = functional.jit(weights, compute_dtype=eval(sys.argv[1]))
check(params, state, np.ones(3, np.float32), np.ones(20, np.float32))
""",
        repr(compute_dtype),
        NUMBA_NRT_STATS="1",
    )
    assert done.stdout == ""


def test_the_users_own_cache_is_hit_in_another_process(run_python, make_layer, tmp_path):
    layer = make_layer(1, 5, 4, 20)
    params, state = _jitted(layer)
    want = functional.lstm(layer.x, layer.weights, layer.h0, layer.c0, tape=False).y[0].tobytes().hex()
    (tmp_path / "arguments").write_bytes(pickle.dumps((params, state, layer.x[0])))
    script = user_script(tmp_path, 20, "user.make(user.step)")
    for hits in (0, 1):
        done = run_python(script, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
        assert done.stdout.split() == [want, str(hits)] * 2, hits


def test_the_users_own_cache_is_not_hit_by_other_kernels(run_python, tmp_path):
    """Numba does not see that they changed: parameters of another type tell them apart."""
    copy = tmp_path / "copy" / "numlstm"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "kernels"))
    shutil.copytree(KERNELS, copy / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    make = """
import pickle, numpy as np
from numlstm import functional
weights = [np.full(shape, 0.1, np.float32) for shape in ((8, 1), (8, 2), (8,))]
with open("arguments", "wb") as file:
    pickle.dump((*functional.jit(weights)[1:], np.ones((3, 1), np.float32)), file)
"""
    use = user_script(tmp_path, 2, "user.make(user.step)")
    environment = {"PYTHONPATH": str(copy.parent), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    before = run_python(make + use, **environment).stdout.split()
    cell = copy / "kernels" / "lstm.py"
    text = cell.read_text()
    assert "o * squash_out(c)" in text
    cell.write_text(text.replace("o * squash_out(c)", "o + squash_out(c)"))
    assert (
        run_python(use, **environment).stdout.split() == [before[0], "1"] * 2
    )  # the old parameters still find the old code
    after = run_python(make + use, **environment).stdout.split()
    assert after[1] == after[3] == "0" and after[0] == after[2] != before[0]


def test_parameters_of_other_kernels(make_layer):
    params, state = _jitted(make_layer(1, 1, 3, 5))
    foreign = kernel_cells.WHATEVER_of_1_made_by_others(*params)
    with pytest.raises(TypingError, match="params were made by another version of numlstm, or for other vectors: call jit"):
        step(pickle.loads(pickle.dumps(foreign)), state, np.zeros(3, np.float32), np.zeros(5, np.float32))


def test_looking_at_the_module_does_not_import_numba(run_python):
    run_python(
        "import sys\n"
        "from numlstm import functional\n"
        "functional.jit, functional.LSTMState, functional.pack\n"
        "assert 'numba' not in sys.modules\n"
        "import numpy as np\n"
        "assert functional.step is functional.jit((np.zeros((4, 1)), np.zeros((4, 1)), np.zeros(4)))[0]"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros(4, np.float32)}, "x must have shape (I,), I the inputs of the weights"),
        ({"y": np.zeros(6, np.float32)}, "y must have shape (H,), H the hidden units of the weights"),
        (
            {"state": functional.LSTMState(np.zeros(4, np.float32), np.zeros(5, np.float32))},
            "the arrays of state must have shape (H,)",
        ),
        (
            {"state": functional.LSTMState(np.zeros(5, np.float32), np.zeros(1, np.float32))},
            "the arrays of state must have shape (H,)",
        ),
    ],
)
def test_wrong_sizes(make_layer, change, message):
    params, state = _jitted(make_layer(1, 1, 3, 5))
    arguments = {"params": params, "state": state, "x": np.zeros(3, np.float32), "y": np.zeros(5, np.float32)} | change
    with pytest.raises(ValueError, match=re.escape(message)):
        step(**arguments)


def _read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params": 1.0}, "params must be what the method jit of a model or numlstm.functional.jit returned, not float64"),
        ({"x": np.zeros(3)}, "x must be a contiguous 1-D array of float32, not array(float64, 1d, C)"),
        ({"x": np.zeros((1, 3), np.float32)}, "x must be a contiguous 1-D array of float32, not array(float32, 2d, C)"),
        ({"x": np.zeros(6, np.float32)[::2]}, "x must be a contiguous 1-D array of float32, not array(float32, 1d, A)"),
        ({"y": _read_only(np.zeros(5, np.float32))}, "y must be a contiguous, writable 1-D array of float32, not"),
        ({"state": 3}, "state must be what came with params, a namedtuple of 2 with h first, not int64"),
        (
            {"state": functional.LSTMState(np.zeros(5), np.zeros(5))},
            "state.h must be a contiguous, writable 1-D array of float",
        ),
    ],
)
def test_wrong_types(make_layer, change, message):
    params, state = _jitted(make_layer(1, 1, 3, 5))
    arguments = {"params": params, "state": state, "x": np.zeros(3, np.float32), "y": np.zeros(5, np.float32)} | change
    with pytest.raises(TypingError, match=re.escape(message)):
        step(**arguments)
