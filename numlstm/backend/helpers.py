"""Threads of Python's for parallel regions, where Numba's own could do harm.

The handler of a signal can raise an exception anywhere in here: KeyboardInterrupt, for one. `threading.Thread` and
`concurrent.futures` are not made for that: a lock may stay closed for ever. So there is little here, and what must not
be cut in two is done by C code.
"""

import _thread
import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from numlstm.kernels import helpers

_WORD = ctypes.c_int64
_ASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[_WORD] * 5)
_raise_in = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.py_object)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)


class _Helpers:
    """Threads that do what they are asked for, one thing after the other, to the end of the process."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[Callable[[], Any]] = SimpleQueue()
        self._started = 0
        self._lock = threading.RLock()

    def ask(self, what: Callable[[], Any], helpers: int) -> None:
        """Let so many helpers do something, but fewer by those who have not begun with what they were asked for before."""
        with self._lock, contextlib.suppress(RuntimeError):  # no new thread can be had, at the end of the process for one
            while self._started < helpers:
                _thread.start_new_thread(self._work, ())
                self._started += 1
        for _ in range(helpers - self._asked.qsize()):
            self._asked.put(what)

    def _work(self) -> None:
        while True:
            self._asked.get()()


class _OfAThread(threading.local):
    job: Any = None  # of its last region, which helpers may still look at


_helpers, _mine = _Helpers(), _OfAThread()


@functools.cache
def _help() -> tuple[Callable[[Any], None], Any]:
    """Return the function that helps with a job, which lets go of the GIL, and the type of a job."""
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(helpers.help_address()), _WORD * helpers.WORDS


def _ask_for_helpers(place: int, *job_and_threads: int) -> None:
    """Do what `kernels.helpers.region_address` expects."""
    job = None
    try:
        *words, threads = job_and_threads
        help_with, job_type = _help()
        job = job_type(*words)
        _WORD.from_address(place).value = ctypes.addressof(job)
        _helpers.ask(functools.partial(help_with, job), threads - 1)
    except BaseException as error:  # of a signal's handler: compiled code cannot pass it on
        _helpers.ask(functools.partial(_raise_in, threading.get_ident(), type(error)), 1)
    finally:
        _mine.job = job  # last, for a finaliser may have entered a region of its own meanwhile


_ASK_FOR_HELPERS = _ASK(_ask_for_helpers)


@functools.cache
def region_address() -> int:
    """Return the address of a parallel region that runs on Python threads: harmless everywhere."""
    _help()
    return int(helpers.region_address(ctypes.cast(_ASK_FOR_HELPERS, ctypes.c_void_p).value))


def _after_fork() -> None:
    global _helpers
    _helpers = _Helpers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
