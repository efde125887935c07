"""Calls from threads, processes and forked children, under each threading layer: right answers, no abort, no hang."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

HAS_TBB = any(True for _ in importlib.metadata.distributions(name="tbb"))
LAYERS = [
    "omp",
    pytest.param("tbb", marks=pytest.mark.skipif(not HAS_TBB, reason="needs pip install tbb")),
    "workqueue",
]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

IMPORT = f"""
import sys, warnings
sys.path.insert(0, {str(Path(__file__).parent)!r})
warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads about is what is tested
"""
WANT = """
import numlstm
from workload import THREADS, has_layer, run
numlstm.set_num_threads(1)
want = run()
numlstm.set_num_threads(THREADS)
assert run() == want
"""


@pytest.fixture
def check(run_python):
    """Return a function that runs a script, which has `run` and the hash that it must return, under a threading layer."""

    def check(script, layer, first="", **environment):
        script = IMPORT + first + WANT + script + "\nprint('done' if has_layer() else 'no layer')"
        done = run_python(script, check=False, NUMBA_THREADING_LAYER=layer, **environment)
        if "No threading layer could be loaded" in done.stdout:
            pytest.skip(f"Numba has no layer {layer} here")
        assert done.returncode == 0 and done.stdout == "done\n", done.stdout + done.stderr

    return check


@pytest.mark.parametrize("layer", LAYERS)
def test_many_python_threads_at_once(check, layer):
    script = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(16) as pool:
    assert set(pool.map(run, range(64))) == {want}
"""
    check(script, layer)


@needs_fork
@pytest.mark.parametrize("layer", LAYERS)
def test_a_child_forked_after_the_parent_used_threads(check, layer):
    script = """
import os
child = os.fork()
if child == 0:
    os._exit(0 if run() == want == run() else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert run() == want
"""
    check(script, layer)


POOLS = {
    "multiprocessing, fork": "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(2) as pool:",
    "multiprocessing, spawn": "import multiprocessing\nwith multiprocessing.get_context('spawn').Pool(2) as pool:",
    "concurrent.futures": "from concurrent.futures import ProcessPoolExecutor\nwith ProcessPoolExecutor(2) as pool:",
    "joblib, loky": "import joblib\nwith joblib.Parallel(2, 'loky') as pool:",
    "joblib, threading": "import joblib\nwith joblib.Parallel(4, 'threading') as pool:",
}


@pytest.mark.parametrize("kind", POOLS)
def test_pools_of_others(check, kind):
    if "fork" in kind and not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    calls = "pool(joblib.delayed(run)(i) for i in range(6))" if "joblib" in kind else "list(pool.map(run, range(6)))"
    if "joblib" in kind:
        pytest.importorskip("joblib", reason="needs pip install joblib")
    check(f"{POOLS[kind]}\n    assert {calls} == [want] * 6", "omp" if sys.platform == "linux" else "workqueue")


FORKED_USER = """
import os, numba, numpy as np
@numba.njit(parallel=True)
def total(x):
    s = 0.0
    for i in numba.prange(x.size):
        s += x[i]
    return s
total(np.ones(1000))
child = os.fork()
if child == 0:
    from workload import run
    import numlstm
    found = run()
    numlstm.set_num_threads(1)
    os._exit(0 if found == run() else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@needs_fork
@pytest.mark.parametrize("imported", ["before", "in the child"])
def test_a_child_whose_parent_used_threads_of_its_own(run_python, imported):
    """GNU OpenMP ends a child that enters a region after its parent did, also when that was the user's own code."""
    run_python(IMPORT + ("import numlstm" if imported == "before" else "") + FORKED_USER)


def test_beside_the_users_own_parallel_code_under_workqueue(check):
    """Workqueue aborts a process with two regions at once: ours must not be one of them."""
    script = """
import threading, numba, numpy as np
@numba.njit(parallel=True, nogil=True)
def total(x):
    s = 0.0
    for i in numba.prange(x.size):
        s += np.sin(x[i])
    return s
x = np.ones(20_000)
total(x)
stop = threading.Event()
def other():
    while not stop.is_set():
        total(x)
thread = threading.Thread(target=other)
thread.start()
results = {run() for _ in range(60)}
stop.set()
thread.join()
assert results == {want}
"""
    check(script, "workqueue")


# Teams: a barrier that waits for a part which its own thread has not begun would wait forever.


@pytest.mark.parametrize("layer", LAYERS)
def test_a_team_of_parts_that_run_one_after_the_other(check, layer):
    check("numlstm.set_num_threads(8)\nassert run() == want", layer, NUMBA_NUM_THREADS="1")


TOO_MANY = """
from numlstm.backend import runtime
runtime.available_cpus = lambda: 8
runtime.runtime.cache_clear()
for threads in (8, 3, 2):
    numlstm.set_num_threads(threads)
    assert {run() for _ in range(2)} == {want}
"""


@pytest.mark.parametrize("layer", LAYERS)
def test_more_threads_than_cpus_give_the_same_bits(check, layer):
    check(TOO_MANY, layer, NUMBA_NUM_THREADS="8")


def test_several_processes_at_once(tmp_path):
    script = [sys.executable, "-c", IMPORT + WANT + TOO_MANY]
    env = {**os.environ, "NUMBA_NUM_THREADS": "8"}
    processes = [
        subprocess.Popen(script, env={**env, "NUMBA_THREADING_LAYER": layer}, cwd=tmp_path, stderr=subprocess.PIPE)
        for layer in ("default", "default", "workqueue")
    ]
    for process in processes:
        assert process.communicate(timeout=300)[1] == b"" and process.returncode == 0


@pytest.mark.parametrize("layer", LAYERS)
def test_inside_a_parallel_region_of_the_users(check, layer):
    """Called back from each part of the user's own region, where a nested region runs on one thread or steals work."""
    script = """
import numba
@numba.njit(parallel=True)
def each(n):
    for i in numba.prange(n):
        with numba.objmode():
            note()
found = []
def note():
    found.append(run())
each(6)
assert found == [want] * 6
"""
    check(script, layer)


# A region on threads of Python's passes through Python.

INTERRUPTED = """
import random, signal
class Stop(BaseException):
    pass
def stop(*_):
    raise Stop
signal.signal(signal.SIGALRM, stop)
random.seed(0)
stopped = 0
for _ in range(150):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 3e-3))
        run()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Stop:
        stopped += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert run() == want
assert stopped > 50
"""


@pytest.mark.skipif(not hasattr(__import__("signal"), "setitimer"), reason="no timers that send signals on this system")
def test_an_exception_from_a_signals_handler(check):
    check(INTERRUPTED, "workqueue")


@pytest.mark.parametrize("failing", ["True", "len(starts) < 100"], ids=["ever", "for a time"])
def test_no_thread_can_be_started(check, failing):
    """A part that was handed over for nothing runs once all the same, and not later."""
    first = f"""
import _thread, threading
start, starts = _thread.start_new_thread, []
def limited(*arguments):
    starts.append(arguments)
    if {failing}:
        raise RuntimeError("can't start new thread")
    return start(*arguments)
_thread.start_new_thread = threading._start_new_thread = limited
"""
    check("assert {run() for _ in range(30)} == {want}", "workqueue", first)


def test_the_callers_own_thread_mask_is_left_alone(check):
    check("import numba\nnumba.set_num_threads(1)\nrun()\nassert numba.get_num_threads() == 1", "omp")


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
