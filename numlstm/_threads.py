"""How many threads the engine uses, and when it may start them at all."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ENV_THREADS = "NUMLSTM_NUM_THREADS"

_chosen: int | None = None
_region = threading.Lock()
_forked = False


def _available_cpus() -> int:
    """Return how many CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _positive(name: str, value: object) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    count = int(value.__index__())
    if count < 1:
        raise ValueError(f"{name} must be at least 1, not {count}")
    return count


def get_num_threads() -> int:
    """Return how many threads a call may use.

    What `set_num_threads` said; else the environment variable NUMLSTM_NUM_THREADS; else the CPUs this process may run on.
    """
    global _chosen
    if _chosen is None:
        said = os.environ.get(ENV_THREADS)
        if said and not said.strip().isdigit():
            raise ValueError(f"{ENV_THREADS} must be a positive integer, not {said!r}")
        _chosen = _positive(ENV_THREADS, int(said)) if said else _available_cpus()
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
    _chosen = _positive("count", count)


@contextmanager
def threads_for(parts: int) -> Iterator[int]:
    """Yield into how many parts a call's work may fall now: 1 where starting threads could harm the process.

    Numba's workqueue layer aborts a process that enters two parallel regions at once, and GNU OpenMP ends a forked child
    that enters one after its parent did. So one call at a time is parallel, and none in a forked child.
    """
    if parts <= 1 or _forked or not _region.acquire(blocking=False):
        yield 1
        return
    try:
        yield parts
    finally:
        _region.release()


def _after_fork() -> None:
    global _forked, _region
    _forked = True
    _region = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
