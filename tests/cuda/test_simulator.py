"""The simulator finds what is wrong with a kernel, in any order of the threads."""

import numpy as np
import pytest

simulator = pytest.importorskip(
    "simulator", reason="the simulator needs greenlet: pip install 'numlstm[test]'", exc_type=ImportError
)
from simulator import cuda, load, mma_tf32, store  # noqa: E402

THREADS, BLOCKS = 8, 3


def run(function, *arrays):
    simulator.kernel(THREADS)(function)[(BLOCKS,), THREADS, 0](*arrays)


def reverse_in_blocks(x):
    """Write the elements of each block in reverse order."""
    place = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    held = cuda.shared.array(THREADS, np.float32)
    store(held, cuda.threadIdx.x, load(x, place))
    cuda.syncthreads()
    store(x, place, load(held, THREADS - 1 - cuda.threadIdx.x))


def without_barrier(x):
    held = cuda.shared.array(THREADS, np.float32)
    store(held, cuda.threadIdx.x, load(x, cuda.threadIdx.x))
    store(x, cuda.blockIdx.x * THREADS + cuda.threadIdx.x, load(held, THREADS - 1 - cuda.threadIdx.x))


def written_again_too_soon(x):
    held = cuda.shared.array(THREADS, np.float32)
    store(held, cuda.threadIdx.x, np.float32(1))
    cuda.syncthreads()
    load(held, THREADS - 1 - cuda.threadIdx.x)
    store(held, cuda.threadIdx.x, np.float32(2))


def over_blocks(x):
    cuda.syncthreads()
    store(x, cuda.threadIdx.x, np.float32(1))


def read_over_blocks(x):
    store(x, cuda.blockIdx.x * THREADS + cuda.threadIdx.x, np.float32(1))
    cuda.syncthreads()
    load(x, (cuda.blockIdx.x * THREADS + cuda.threadIdx.x + THREADS) % (BLOCKS * THREADS))


def some_at_the_barrier(x):
    if cuda.threadIdx.x < 3:
        cuda.syncthreads()


def half_a_warp(x):
    mma_tf32((np.uint32(0),) * 4, (np.uint32(0),) * 2, (np.float32(0),) * 4)


def past_the_end(x):
    load(x, BLOCKS * THREADS + cuda.threadIdx.x - 7)


def before_the_start(x):
    load(x, cuda.threadIdx.x - 1)


def unwritten_shared(x):
    held = cuda.shared.array(2 * THREADS, np.float32)
    store(held, cuda.threadIdx.x, np.float32(1))
    load(held, cuda.threadIdx.x + THREADS)


def unwritten_local(x):
    load(cuda.local.array(3, np.float32), 1)


def too_precise(x):
    store(x, cuda.blockIdx.x * THREADS + cuda.threadIdx.x, 0.5)


WRONG = {
    without_barrier: "a race: .* reads|nothing has written",
    written_again_too_soon: "a race",
    over_blocks: "a race",
    read_over_blocks: "a race",
    some_at_the_barrier: "3 of 8 threads",
    half_a_warp: "8 of 8 threads of a block wait for their warp",
    past_the_end: "element 2[4-9] of 24",
    before_the_start: "element -1 of 24",
    unwritten_shared: "which nothing has written",
    unwritten_local: "which nothing has written",
    too_precise: "a float is written to an array of float32",
}


@pytest.mark.parametrize("order", simulator.ORDERS)
@pytest.mark.parametrize("wrong", WRONG, ids=lambda function: function.__name__)
def test_what_is_wrong_is_found(monkeypatch, wrong, order):
    monkeypatch.setattr(simulator, "ORDER", order)
    with pytest.raises(simulator.KernelError, match=WRONG[wrong]):
        run(wrong, np.zeros(BLOCKS * THREADS, np.float32))


@pytest.mark.parametrize("order", simulator.ORDERS)
def test_what_is_right_runs(monkeypatch, order):
    monkeypatch.setattr(simulator, "ORDER", order)
    x = np.arange(BLOCKS * THREADS, dtype=np.float32)
    want = x.reshape(BLOCKS, THREADS)[:, ::-1].ravel().copy()
    run(reverse_in_blocks, x)
    assert np.array_equal(x, want)
