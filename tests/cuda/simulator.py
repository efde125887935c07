"""A GPU in Python, in the place of numlstm.kernels.cuda.machine: kernels run as they are written, on NumPy arrays.

All blocks of a launch run at once, each thread a greenlet that runs until a barrier; the order in which threads go on is
ORDER. Every access is checked: it must lie within its array, must not read shared or local memory that nothing has written,
and must not meet another thread's access to the same element, one of them writing, unless a barrier of their block stands
between the two. So a missing barrier is an error whatever the order and the numbers. Numbers have the kernel's own dtype.
What a warp does together waits for its 32 threads, which must come from the same place in the code; it orders no access.
"""

import itertools
import random
import sys
from types import SimpleNamespace
from typing import NamedTuple

import greenlet
import numpy as np

WARP = 32
ORDERS = ("forward", "reverse", "random")
ORDER = "forward"
without: set[tuple[str, int]] = set()  # barriers that are left out: (function, how many lines into it)
barriers: set[tuple[str, int]] = set()  # those that were met
recorded: list[list] = []  # graphs: launches, each a function and its arguments


class KernelError(AssertionError):
    """A kernel did what it must not."""


class Axes(NamedTuple):
    x: int
    y: int = 0
    z: int = 0


class _Block:
    def __init__(self, index):
        self.index, self.shared, self.epoch, self.threads, self.meetings = Axes(*index), {}, 0, [], {}

    def release(self):
        """Let those go on for whom nobody is missing any more; there must be some, unless all are done."""
        left = [thread for thread in self.threads if not thread.done]
        waiting = sum(thread.waits is BARRIER for thread in left)
        if waiting == len(self.threads):
            self.epoch += 1
        for thread in left:
            if waiting == len(self.threads) if thread.waits is BARRIER else not thread.waits.missing:
                thread.waits = None
        if left and all(thread.waits for thread in left):
            where = "at a barrier" if waiting else "for their warp"
            count = waiting or len(left)
            raise KernelError(f"{count} of {len(self.threads)} threads of a block wait {where}, the others never come")


BARRIER = "the barrier of a block"


class _Thread:
    def __init__(self, index, block):
        self.index, self.block, self.done = Axes(index), block, False
        self.waits = None  # or BARRIER, or a _Meeting


class _Meeting:
    """What the threads of a warp hand in, each at its lane, to compute something together."""

    def __init__(self, place):
        self.place, self.handed, self.missing, self.result = place, [None] * WARP, WARP, None


class _Access(NamedTuple):
    """Who touched an element last: a thread, or None for several, at an epoch of its block, or None for several."""

    block: _Block | None
    thread: _Thread | None
    epoch: int


_now = SimpleNamespace(thread=None, scheduler=None)


class Memory:
    """An array as a kernel sees it, and who touched its elements in this launch.

    fresh : whether it is memory that nothing has written yet
    """

    def __init__(self, array, fresh=False):
        assert array.flags.c_contiguous, "kernels take C-contiguous arrays"
        self.shape, self.dtype, self._flat = array.shape, array.dtype, array.reshape(-1)
        self._writes, self._reads, self._fresh = {}, {}, fresh

    def read(self, at):
        self._check(at)
        write, read, thread = self._writes.get(at), self._reads.get(at), _now.thread
        block = thread.block
        if write is None and self._fresh:
            raise KernelError(f"thread {thread.index.x} reads element {at}, which nothing has written")
        self._keep_apart(write, "reads", "written", at)
        if read is None or (read.block is block and read.epoch < block.epoch):
            self._reads[at] = _Access(block, thread, block.epoch)
        elif read.block is not block:
            self._reads[at] = _Access(None, None, 0)
        elif read.thread is not thread:
            self._reads[at] = _Access(block, None, block.epoch)
        return self._flat[at]

    def write(self, at, value):
        self._check(at)
        if type(value) is not self.dtype.type:
            raise KernelError(f"a {type(value).__name__} is written to an array of {self.dtype}")
        thread = _now.thread
        self._keep_apart(self._writes.get(at), "writes", "written", at)
        self._keep_apart(self._reads.get(at), "writes", "read", at)
        self._writes[at] = _Access(thread.block, thread, thread.block.epoch)
        self._flat[at] = value

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        return self.read(self._at(index)) if len(index) == len(self.shape) else _Part(self, index)

    def __setitem__(self, index, value):
        index = index if isinstance(index, tuple) else (index,)
        self.write(self._at(index), self.dtype.type(value))

    def _at(self, index):
        """Return the flat place of an index, which must lie within the shape."""
        if len(index) != len(self.shape) or not all(0 <= i < n for i, n in zip(index, self.shape, strict=True)):
            raise KernelError(f"index {index} of shape {self.shape}")
        return int(np.ravel_multi_index(index, self.shape))

    def _check(self, at):
        if not 0 <= at < self._flat.size:
            raise KernelError(f"element {at} of {self._flat.size}")

    def _keep_apart(self, access, does, was, at):
        """Refuse to touch what another thread touched without a barrier in between."""
        thread = _now.thread
        if access is None or access.thread is thread:
            return
        if access.block is not thread.block or access.epoch == thread.block.epoch:
            raise KernelError(
                f"a race: thread {thread.index.x} {does} element {at}, {was} by another since the last barrier"
            )


class _Part:
    """What an array has at its first indices: a part of the same memory."""

    def __init__(self, memory, first):
        self._memory, self._first, self.dtype, self.shape = memory, first, memory.dtype, memory.shape[len(first) :]

    def __getitem__(self, index):
        return self._memory[(*self._first, index)]

    def __setitem__(self, index, value):
        self._memory[(*self._first, index)] = value


class _Space:
    """What ``cuda.shared`` and ``cuda.local`` are: an array for each place in the code that asks for one."""

    def __init__(self, owner):
        self._owner = owner

    def array(self, shape, dtype):
        held = self._owner(_now.thread)
        frame = sys._getframe(1)
        key = (frame.f_code, frame.f_lasti)
        if key not in held:
            nothing = np.nan if np.issubdtype(dtype, np.floating) else 0
            held[key] = Memory(np.full(shape, nothing, dtype), fresh=True)
        return held[key]


def _barrier():
    frame = sys._getframe(1)
    place = (frame.f_code.co_name, frame.f_lineno - frame.f_code.co_firstlineno)
    barriers.add(place)
    if place not in without:
        _now.thread.waits = BARRIER
        _now.scheduler.switch()


def _meet(item, compute):
    """Return a thread's part of what `compute` makes of all that its warp hands in, in the order of lanes."""
    thread, frame = _now.thread, sys._getframe(2)
    warp, lane = divmod(thread.index.x, WARP)
    meetings, place = thread.block.meetings, (frame.f_code, frame.f_lasti)
    meeting = meetings.setdefault(warp, _Meeting(place))
    if meeting.place != place:
        raise KernelError(f"thread {thread.index.x} is not where the others of its warp are")
    meeting.handed[lane] = item
    meeting.missing -= 1
    if not meeting.missing:
        meeting.result = compute(meeting.handed)
        del meetings[warp]
    else:
        thread.waits = meeting
        _now.scheduler.switch()
    return meeting.result[lane]


class _Cuda:
    """numba.cuda, as far as kernels use it."""

    shared = _Space(lambda thread: thread.block.shared)
    local = _Space(lambda thread: thread.__dict__.setdefault("local", {}))
    threadIdx = property(lambda self: _now.thread.index)
    blockIdx = property(lambda self: _now.thread.block.index)
    syncthreads = staticmethod(_barrier)

    def grid(self, _):
        """Return the number of a thread of all blocks in a row."""
        thread = _now.thread
        return thread.block.index.x * len(thread.block.threads) + thread.index.x

    def jit(self, function):
        """Return a user's kernel, to be launched with the numbers of blocks and of threads."""
        return _Users(function)


cuda = _Cuda()


class _Kernel:
    def __init__(self, function, threads):
        self._function, self._threads = function, threads

    def __getitem__(self, where):
        blocks, threads, stream = where
        if isinstance(stream, list):  # that of a graph: see record
            return lambda *arguments: stream.append((self[blocks, threads, 0], arguments))
        assert threads <= self._threads, "more threads than launch_bounds allows"
        return lambda *arguments: self._launch(blocks, threads, arguments)

    def _launch(self, shape, threads, arguments):
        seen = {}
        arguments = [_seen_by_kernel(argument, seen) for argument in arguments]
        blocks = [_Block(index) for index in itertools.product(*map(range, shape))]
        for block in blocks:
            block.threads = [_Thread(t, block) for t in range(threads)]
        everybody = [thread for block in blocks for thread in block.threads]
        for thread in everybody:
            thread.greenlet = greenlet.greenlet(self._run)
        _now.scheduler, generator = greenlet.getcurrent(), random.Random(0)
        while everybody:
            if ORDER == "reverse":
                everybody.reverse()
            elif ORDER == "random":
                generator.shuffle(everybody)
            for thread in everybody:
                _now.thread = thread
                thread.greenlet.switch(thread, arguments) if not thread.greenlet else thread.greenlet.switch()
            for block in blocks:
                block.release()
            everybody = [thread for block in blocks for thread in block.threads if not (thread.done or thread.waits)]

    def _run(self, thread, arguments):
        with np.errstate(all="ignore"):  # integers wrap around and numbers overflow without a word
            self._function(*arguments)
        thread.done = True


class _Users:
    def __init__(self, function):
        self._function = function

    def __getitem__(self, where):
        blocks, threads = where
        return _Kernel(self._function, threads)[(blocks,), threads, 0]


def _seen_by_kernel(argument, seen):
    """Return an argument as a kernel gets it; the same array is the same memory wherever it stands."""
    argument = getattr(argument, "held", argument)  # of an array as the host sees it
    if isinstance(argument, tuple):
        return getattr(argument, "_make", tuple)(_seen_by_kernel(item, seen) for item in argument)
    if isinstance(argument, np.ndarray):
        key = (argument.ctypes.data, argument.nbytes, argument.dtype)
        return seen.setdefault(key, Memory(argument)) if argument.size else Memory(argument)
    return argument


# --- what machine.py has under the same names ---

exp, log1p, sqrt, tanh = np.exp, np.log1p, np.sqrt, np.tanh


def kernel(threads):
    return lambda function: _Kernel(function, threads)


def device(function):
    return function


def load(array, at):
    return array.read(at)


def store(array, at, value):
    array.write(at, value)


def store_all(array, at, step, elements):
    for k, element in enumerate(elements):
        array.write(at + k * step, element)


def constant(like, value):
    return type(like)(value)


def hold(array, value):
    if len(array.shape) != 1 or array.dtype != value.dtype:
        raise KernelError(f"y must be a 1-D array of {value.dtype}")


def fma(a, b, c):
    return a * b + c


def _rounded_bits(x, kept, half):
    """Return the bits of a float32 rounded to the upper `kept` ones, to nearest; half(bits) : half of a step."""
    bits = int(np.float32(x).view(np.uint32))
    return bits if np.isnan(x) else (bits + half(bits)) >> 32 - kept << 32 - kept


def bfloat16_bits(x):
    return np.uint16(_rounded_bits(x, 16, lambda bits: 0x7FFF + (bits >> 16 & 1)) >> 16)


def tf32_bits(x):
    return np.uint32(_rounded_bits(x, 19, lambda bits: 0x1000))


def record(launches):
    graph = []
    launches(graph)
    recorded.append(graph)

    def replay(stream):
        for launch, arguments in graph:
            launch(*arguments)

    return replay


def load_word(array, at):
    if array.dtype == np.uint32:
        return array.read(at)
    if at % 2:
        raise KernelError(f"a word at element {at}: it must be even")
    return np.uint32(int(array.read(at)) | int(array.read(at + 1)) << 16)


_G, _Q = np.divmod(np.arange(WARP), 4)


def _product(numbers):
    """Return the twin of a multiplication of fragments. numbers(words) : (rows, 8) words as float32"""

    def compute(handed):
        a, b, c = (np.array(group) for group in zip(*handed, strict=True))
        left, right, sums = np.empty((16, 8), np.uint32), np.empty((8, 8), np.uint32), np.empty((16, 8), np.float32)
        for k in range(4):  # the order of parts is tensor.py's
            left[_G + k % 2 * 8, _Q + k // 2 * 4] = a[:, k]
            sums[_G + k // 2 * 8, 2 * _Q + k % 2] = c[:, k]
        for k in range(2):
            right[_G, _Q + 4 * k] = b[:, k]
        found = sums + numbers(left) @ numbers(right).T
        parts = np.stack([found[_G + k // 2 * 8, 2 * _Q + k % 2] for k in range(4)], axis=1)
        return [tuple(part) for part in parts]

    return lambda a, b, c: _meet((a, b, c), compute)


mma_bfloat16 = _product(lambda words: (words.view(np.uint16).astype(np.uint32) << 16).view(np.float32))
mma_tf32 = _product(lambda words: words.view(np.float32))
