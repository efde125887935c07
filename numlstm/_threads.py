"""How many threads the engine uses, and which threads they are."""

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

ENV_THREADS = "NUMLSTM_NUM_THREADS"

_chosen: int | None = None
_forked = False


def available_cpus() -> int:
    """Return how many CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def get_num_threads() -> int:
    """Return how many threads a call may use.

    What `set_num_threads` said; else the environment variable NUMLSTM_NUM_THREADS; else the CPUs this process may run on.

    Raises
    ------
    ValueError
        If the environment variable is not a positive integer.
    """
    global _chosen
    if _chosen is None:
        said = os.environ.get(ENV_THREADS, "").strip()
        if said and not (said.isascii() and said.isdecimal() and int(said) > 0):
            raise ValueError(f"{ENV_THREADS} must be a positive integer, not {said!r}")
        _chosen = int(said) if said else available_cpus()
    return _chosen


def set_num_threads(count: int) -> None:
    """Let calls use `count` threads, in the whole process. Results are the same bits for any number.

    More threads than CPUs are allowed and bring nothing.

    Raises
    ------
    TypeError
        If count is not an integer.
    ValueError
        If count is less than 1.
    """
    global _chosen
    try:
        number = count.__index__()
    except (AttributeError, TypeError):
        raise TypeError(f"count must be an integer, not {type(count).__name__}") from None
    if isinstance(count, bool):
        raise TypeError("count must be an integer, not bool")
    if number < 1:
        raise ValueError(f"count must be at least 1, not {number}")
    _chosen = number


def layer_may_harm() -> bool:
    """Return whether entering a parallel region of Numba's could end this process, whatever else runs in it.

    In a forked child GNU OpenMP does so if the parent used it; workqueue does when two threads are in regions at once,
    and the other one may be the user's own; and there may be no layer at all.
    """
    if _forked:
        return True
    import numba

    try:
        with _short_spins():
            numba.get_num_threads()  # loads the layer
        return str(numba.threading_layer()) == "workqueue"
    except ValueError:
        return True


_SPINS = "GOMP_SPINCOUNT"
_layer_loaded = False


@contextlib.contextmanager
def _short_spins() -> Iterator[None]:
    """Let GNU OpenMP, if it is loaded within, wait for work by spinning only about as long as we are between two regions.

    By default its threads spin for milliseconds. Where other programs want the CPUs, that uses up the threads' time slices,
    and each region then waits for the scheduler: training was 60 times slower beside one busy program.
    """
    global _layer_loaded
    if _layer_loaded or {"OMP_WAIT_POLICY", _SPINS} & os.environ.keys():
        yield
    else:
        os.environ[_SPINS] = "1000"
        try:
            yield
        finally:
            del os.environ[_SPINS]
    _layer_loaded = True


_PART = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_REGION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def _pool_of(threads: int) -> ThreadPoolExecutor:
    """Return the pool, started at first use in this process; it grows by being replaced."""
    global _pool
    with _pool_lock:
        if _pool is None or _pool._max_workers < threads:
            _pool = ThreadPoolExecutor(threads, "numlstm")
        return _pool


def _run_on_pool(kernel: int, arguments: int, total: int, parts: int, threads: int) -> None:
    """Run the parts of a kernel on Python threads, which it lets go at once: the GIL is not held inside."""
    run = _PART(kernel)

    def begin(part: int) -> Future[None] | None:
        bounds = total * part // parts, total * (part + 1) // parts
        try:
            return _pool_of(threads).submit(run, arguments, *bounds)
        except RuntimeError:  # no new thread can be had, at the end of the interpreter for one
            run(arguments, *bounds)
            return None

    waiting = [begin(part) for part in range(1, parts)]
    run(arguments, 0, total // parts)
    for future in filter(None, waiting):
        future.result()


_POOL_REGION = _REGION(_run_on_pool)


def pool_region_address() -> int:
    """Return the address of a parallel region that runs on Python threads: slower to enter, and harmless everywhere."""
    return ctypes.cast(_POOL_REGION, ctypes.c_void_p).value or 0


def _after_fork() -> None:
    global _forked, _pool, _pool_lock
    _forked, _pool, _pool_lock = True, None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
