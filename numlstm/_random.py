"""Where seeds come from that nobody chose: the operating system, or `utils.set_random_seed`."""

import os
import threading

import numpy as np

_lock = threading.Lock()
_seeds: np.random.Generator | None = None  # made at first use, so that importing draws nothing


def restart(seed: int) -> None:
    """Let the seeds that `new_seed` returns follow from this one."""
    global _seeds
    with _lock:
        _seeds = np.random.default_rng(seed)


def new_seed() -> int:
    """Return a seed of 63 bits."""
    global _seeds
    with _lock:
        if _seeds is None:
            _seeds = np.random.default_rng()
        return int(_seeds.integers(1 << 63))


def _after_fork() -> None:
    """Let a forked child begin with an open lock: another thread of the parent may have held it."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def stream_key(*numbers: int) -> int:
    """Return a key of 64 bits, well mixed from numbers that are not negative."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
