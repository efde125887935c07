"""The pool of what calls use again."""

import threading

import numpy as np
import pytest

from numlstm import _workspace
from numlstm._workspace import Arena, borrow, give_back


@pytest.fixture(autouse=True)
def _a_pool_of_its_own(monkeypatch):
    for name, value in {"_free": {}, "_held": 0, "_count": 0, "_largest": 0}.items():
        monkeypatch.setattr(_workspace, name, value)


def _bytes(size):
    return np.empty(size, np.uint8)


def test_the_last_that_was_given_back_comes_first_and_only_once():
    first, second, other = _bytes(1), _bytes(1), _bytes(1)
    give_back("a", first)
    give_back("b", other)
    give_back("a", second)
    assert borrow("a") is second and borrow("a") is first and borrow("a") is None
    assert borrow("b") is other and borrow("b") is None
    assert (_workspace._free, _workspace._held, _workspace._count) == ({}, 0, 0)


def test_the_longest_unused_keys_go_first():
    for key in range(_workspace._MOST):
        give_back(key, _bytes(1))
    assert borrow(0) is not None
    give_back(0, _bytes(1))  # now the key that was used last
    give_back("one more", _bytes(1))
    assert borrow(1) is None and borrow(0) is not None and borrow(2) is not None


def test_what_is_held_is_bounded(monkeypatch):
    monkeypatch.setattr(_workspace, "_LEAST", 1000)
    for key in range(10):
        give_back(key, _bytes(300))
    assert _workspace._held == 1200  # four times the largest
    give_back("large", _bytes(2000))
    assert _workspace._held == 3200
    give_back("key", _bytes(7000))
    assert _workspace._held == 3200 + 7000


def test_two_threads_never_get_the_same():
    for i in range(8):
        give_back("key", np.full(1, i))
    taken, barrier = [], threading.Barrier(8)

    def run():
        barrier.wait()
        for _ in range(1000):
            holder = borrow("key")
            holder += 1
            give_back("key", holder)
        taken.append(borrow("key"))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(holder) for holder in taken}) == 8
    assert sum(int(holder[0]) for holder in taken) == sum(range(8)) + 8 * 1000


def test_blocks_of_an_arena_go_back_to_the_pool():
    arena = Arena()
    first = arena.take((10,), np.dtype(np.float32))
    assert arena.nbytes < 100_000  # a small model keeps little
    address = first.ctypes.data
    arena.release()
    assert arena.nbytes == 0
    assert Arena().take((10,), np.dtype(np.float32)).ctypes.data == address


def test_blocks_of_an_arena_are_few():
    arena = Arena()
    for _ in range(10_000):
        arena.take((1000,), np.dtype(np.float32))
    assert len(arena._blocks) < 60  # of 40 MB
