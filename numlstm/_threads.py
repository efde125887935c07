"""How many threads the engine uses, and which threads they are."""

import contextlib
import os
import sys
from collections.abc import Iterator

from ._cpus import available_cpus, inherited_openmp

ENV_THREADS = "NUMLSTM_NUM_THREADS"

_chosen: int | None = None
_forked = False


def get_num_threads() -> int:
    """Return how many threads a call may use.

    What `set_num_threads` said; else the environment variable NUMLSTM_NUM_THREADS; else the CPUs that this process may use,
    by its affinity and its container's quota, or NUMBA_NUM_THREADS if that is less (as joblib sets it for its workers).

    Raises
    ------
    ValueError
        If the environment variable is not a positive integer.
    """
    global _chosen
    if _chosen is None:
        said = os.environ.get(ENV_THREADS, "").strip()
        if said and not _is_count(said):
            raise ValueError(f"{ENV_THREADS} must be a positive integer, not {said!r}")
        numbas = os.environ.get("NUMBA_NUM_THREADS", "").strip()
        most = int(numbas) if _is_count(numbas) else sys.maxsize
        _chosen = int(said) if said else min(available_cpus(), most)
    return _chosen


def _is_count(said: str) -> bool:
    return said.isascii() and said.isdecimal() and int(said) > 0


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
    if _forked or inherited_openmp():
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
        import platform

        # For some 30 microseconds: only on x86 does the waiting loop pause, elsewhere a turn takes a nanosecond or two.
        os.environ[_SPINS] = "3000" if platform.machine().lower() in {"x86_64", "amd64"} else "20000"
        try:
            yield
        finally:
            del os.environ[_SPINS]
    _layer_loaded = True


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
