"""What the CPU could do at best: fused multiply-adds on registers alone, on all threads at once."""

import threading
import time

import numba
import numpy as np
from numba.core.typing.templates import signature
from numba.extending import intrinsic
from numlstm.kernels import memory, simd, tile

CHAINS = tile.ROWS * tile.VECTORS  # as many as the engine's own tile: they hide the latency and fit the registers
STEPS = 400_000


@intrinsic
def _chains(typingctx, starts, factor, term, steps):
    """Return the sum of CHAINS vectors after `steps` times ``v = v * factor + term``; equal starts would be merged."""
    if not (isinstance(factor, simd.Vec) and factor == term):
        return None
    kind = factor.ir_type

    def emit(context, builder, sig, args):
        array, factor_value, term_value, end = args
        entry, loop = builder.block, builder.append_basic_block("chains")
        places = (memory.element_pointer(context, builder, sig.args[0], array, simd.int_constant(i)) for i in range(CHAINS))
        first = [simd.splat_value(builder, builder.load(place), kind) for place in places]
        done = builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        step, vectors = builder.phi(simd.INT), [builder.phi(kind) for _ in first]
        following = [simd.fmuladd(builder, vector, factor_value, term_value) for vector in vectors]
        step_next = builder.add(step, simd.int_constant(1))
        builder.cbranch(builder.icmp_signed("<", step_next, end), loop, done)
        for phi, start, after in [(step, simd.int_constant(0), step_next), *zip(vectors, first, following, strict=True)]:
            phi.add_incoming(start, entry)
            phi.add_incoming(after, loop)
        builder.position_at_end(done)
        total = following[0]
        for vector in following[1:]:
            total = builder.fadd(total, vector)
        return total

    return signature(factor, starts, factor, term, steps), emit


@numba.njit(nogil=True)
def _spin(starts, operands, out, steps):
    width = simd.lanes(out)
    memory.store(out, 0, _chains(starts, memory.load(operands, 0), memory.load(operands, width), steps))


class Peak:
    """Threads that wait at a barrier and then multiply and add for a few milliseconds."""

    def __init__(self, threads: int, dtype: str = "float32") -> None:
        self._threads = threads
        self._dtype, self._width = np.dtype(dtype), tile.target.lanes(dtype)
        self._round(1)  # compiles

    def gflops(self, seconds: float) -> float:
        """Return the best rate of all threads together, in short runs for so long."""
        best, end = 0.0, time.perf_counter() + seconds
        while best == 0.0 or time.perf_counter() < end:
            best = max(best, 2e-9 * CHAINS * self._width * STEPS * self._threads / self._round(STEPS))
        return best

    def _round(self, steps: int) -> float:
        """Return the seconds from the first thread's start to the last one's end."""
        barrier, spans = threading.Barrier(self._threads), []

        def work():
            starts = np.linspace(0.1, 0.9, CHAINS).astype(self._dtype)
            operands = np.repeat(np.array([0.5, 0.25], self._dtype), self._width)
            out = np.empty(self._width, self._dtype)
            barrier.wait()
            start = time.perf_counter()
            _spin(starts, operands, out, steps)
            spans.append((start, time.perf_counter()))

        workers = [threading.Thread(target=work) for _ in range(self._threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return max(stop for _, stop in spans) - min(start for start, _ in spans)
