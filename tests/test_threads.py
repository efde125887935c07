"""Calls from several threads and from forked children: right answers, no abort, no hang."""

import os

import pytest

LAYER = """
import sys
import threading
import numpy as np
import numlstm
from numlstm import functional
numlstm.set_num_threads(4)
rng = np.random.default_rng(0)
layers = []
for N, T, I, H in ((16, 50, 32, 64), (1, 60, 32, 192)):  # rows are split, hidden units are split
    x = rng.standard_normal((N, T, I)).astype(np.float32)
    weights = [rng.standard_normal(shape).astype(np.float32) / 8 for shape in ((4 * H, I), (4 * H, H), (4 * H,))]
    layers.append((x, tuple(weights)))
def run():
    bits = b""
    for x, weights in layers:
        out = functional.lstm(x, weights)
        gradients = functional.lstm_backward(out.tape, out.y)
        bits += out.y.tobytes() + gradients.W_hh.tobytes() + gradients.x.tobytes()
    return bits
want = run()
"""


@pytest.mark.parametrize("layer", ["default", "workqueue", "omp"])
def test_many_python_threads_at_once(run_python, layer):
    script = (
        LAYER
        + """
results = []
threads = [threading.Thread(target=lambda: results.extend(run() for _ in range(10))) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(results) == 160 and set(results) == {want}
import numba
print(numba.threading_layer())
"""
    )
    done = run_python(script, check=False, NUMBA_THREADING_LAYER=layer)
    if "No threading layer could be loaded" in done.stderr:
        pytest.skip(f"Numba has no layer {layer} here")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("layer", ["default", "workqueue", "omp"])
def test_a_child_forked_after_the_parent_used_threads(run_python, layer):
    script = (
        LAYER
        + """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads about: what is tested
child = os.fork()
if child == 0:
    os._exit(0 if run() == want else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert run() == want
"""
    )
    done = run_python(script, check=False, NUMBA_THREADING_LAYER=layer)
    if "No threading layer could be loaded" in done.stderr:
        pytest.skip(f"Numba has no layer {layer} here")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_whose_parent_used_threads_of_its_own(run_python):
    """GNU OpenMP ends a child that enters a region after its parent did, also when that was the user's own code."""
    script = """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import numba, numpy as np, numlstm
@numba.njit(parallel=True)
def total(x):
    s = 0.0
    for i in numba.prange(x.size):
        s += x[i]
    return s
total(np.ones(1000))
child = os.fork()
if child == 0:
    run = {}
    exec(LAYER, run)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    run_python(f"LAYER = {LAYER!r}\n" + script)


def test_beside_the_users_own_parallel_code_under_workqueue(run_python):
    """Workqueue aborts a process with two regions at once: ours must not be one of them."""
    script = """
import numba
@numba.njit(parallel=True, nogil=True)
def total(x):
    s = 0.0
    for i in numba.prange(x.size):
        s += np.sin(x[i])
    return s
x_own = np.ones(20_000)
total(x_own)
stop = threading.Event()
def other():
    while not stop.is_set():
        total(x_own)
thread = threading.Thread(target=other)
thread.start()
results = {run() for _ in range(100)}
stop.set()
thread.join()
assert results == {want}
assert numba.threading_layer() == "workqueue"
"""
    run_python(LAYER + script, NUMBA_THREADING_LAYER="workqueue")


@pytest.mark.parametrize("layer", ["default", "workqueue", "omp"])
@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_a_team_of_parts_that_run_one_after_the_other(run_python, threads, layer):
    """A barrier that waits for a part which its own thread has not begun would wait forever: four parts on one thread."""
    script = LAYER + "numlstm.set_num_threads(1)\nassert run() == want\nprint('done')"
    done = run_python(script, check=False, NUMBA_NUM_THREADS=threads, NUMBA_THREADING_LAYER=layer)
    if "No threading layer could be loaded" in done.stderr:
        pytest.skip(f"Numba has no layer {layer} here")
    assert done.stdout == "done\n", done.stderr


def test_inside_a_parallel_region_of_the_users(run_python):
    """Called back from each part of the user's own region, where a nested region runs on one thread."""
    script = """
import numba
@numba.njit(parallel=True)
def each(n):
    for i in numba.prange(n):
        with numba.objmode():
            check()
def check():
    assert run() == want
each(4)
print("done")
"""
    done = run_python("import numba\n" + LAYER + script)
    assert done.stdout == "done\n"


def test_the_callers_own_thread_mask_is_left_alone(run_python):
    run_python("import numba, os\nnumba.set_num_threads(1)\n" + LAYER + "assert numba.get_num_threads() == 1\n")


@pytest.mark.parametrize(("said", "count"), [("3", 3), (None, None)])
def test_the_default_thread_count(run_python, said, count):
    done = run_python("import numlstm; print(numlstm.get_num_threads())", NUMLSTM_NUM_THREADS=said)
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert int(done.stdout) == (count or available)


@pytest.mark.parametrize("said", ["many", "0", "-2"])
def test_a_thread_count_that_is_none(run_python, said):
    done = run_python("import numlstm; numlstm.get_num_threads()", check=False, NUMLSTM_NUM_THREADS=said)
    assert "NUMLSTM_NUM_THREADS must be" in done.stderr


@pytest.mark.parametrize("chosen", [{}, {"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "77"}])
def test_the_environment_of_openmp_is_left_as_it_was(run_python, chosen):
    run_python(
        "import os, numpy as np, numlstm\n"
        "before = dict(os.environ)\n"
        "numlstm.set_num_threads(2)\n"
        "numlstm.LSTM(64)(np.ones((64, 50, 3)))\n"
        "import numba; assert numba.threading_layer()\n"
        "assert dict(os.environ) == before",
        **chosen,
    )
