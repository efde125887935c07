"""How long one step takes inside a user's ``@njit`` loop, and a whole sequence, with float32 and with bfloat16 weights.

functional.jit with one sequence and I = H: each step waits for the one before; then the layer and a Dense(1) as a model,
by its `jit`. "ns a step" is the time of a loop of them, median and best of 15. The percentiles are of steps timed one by
one with the CPU's cycle counter, between fences that let nothing overlap, so that they are a little longer; the counter's
own time, the median of empty intervals, is subtracted. Only x86 has such a counter for everybody. Then functional.lstm
with packed weights, the two kinds in turns.

Results are checked against the textbook in float64 NumPy (problem.py) first.
"""

import argparse
import functools
import statistics
import sys
import time
import timeit
from pathlib import Path
from typing import Any

import numpy as np

BENCHMARKS = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS / "peers")]
import problem  # noqa: E402

SHAPES = ("1,100,64,128", "1,100,128,256", "1,100,256,512")
SIZES = (8, 16, 32, 64, 128)
RTNEURAL = {8: 56, 16: 112, 32: 293, 64: 1330, 128: 5145}  # ns, where the targets come from
KINDS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"compute_dtype": "bfloat16"},
    "float32, and Dense(1)": {"dense": True},
}
PERCENTILES = (50, 99, 99.9)
_CHECKED_STEPS, _RUNS, _RUN_SECONDS = 50, 15, 0.02
_TOLERANCE = {None: 5e-6, "bfloat16": 5e-3}


def _loops() -> tuple[Any, Any]:
    """Return compiled loops: over the rows of x, and over one input, many times."""
    import numba

    from numlstm.functional import step

    @numba.njit
    def sequence(params, state, x, y):
        for t in range(x.shape[0]):
            step(params, state, x[t], y[t])

    @numba.njit
    def repeat(params, state, x, y, steps):
        for _ in range(steps):
            step(params, state, x, y)

    return sequence, repeat


def _counted() -> Any:
    """Return a compiled function that fills an array with the ticks of steps, or of nothing."""
    import numba
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.core.typing.templates import signature
    from numba.extending import intrinsic

    from numlstm.functional import step

    @intrinsic
    def ticks(typingctx):
        def emit(context, builder, sig, args):
            fence = ir.FunctionType(ir.VoidType(), [])
            fence = cgutils.get_or_insert_function(builder.module, fence, "llvm.x86.sse2.lfence")
            counter = ir.FunctionType(ir.IntType(64), [])
            builder.call(fence, [])
            now = builder.call(cgutils.get_or_insert_function(builder.module, counter, "llvm.readcyclecounter"), [])
            builder.call(fence, [])
            return now

        return signature(types.int64), emit

    @numba.njit
    def count(params, state, x, y, steps, found):
        for i in range(found.shape[0]):
            before = ticks()
            for _ in range(steps):  # 0 or 1
                step(params, state, x, y)
            found[i] = ticks() - before

    return count


def _with_dense(given: problem.Problem) -> tuple[Any, np.ndarray]:
    """Return what `jit` returns for a model of this layer and a Dense(1), and the weights (H, 1) of the Dense."""
    from numlstm import LSTM, Dense, Sequential

    inputs, hidden = given.x.shape[2], given.W_hh.shape[1]
    model = Sequential([LSTM(hidden, return_sequences=True, input_shape=(None, inputs)), Dense(1)])
    for parameter, value in zip(model.layers[0].params, given.weights, strict=True):
        parameter[...] = value
    return model.jit(), model.layers[1].params.W.T.astype(np.float64)


class Step:
    """A step of I = H, whose results were right."""

    def __init__(self, hidden: int, compute_dtype: str | None = None, dense: bool = False) -> None:
        from numlstm import functional

        given = problem.problem(problem.Shape(1, _CHECKED_STEPS, hidden, hidden))
        want = problem.forward(given)["y"][0]
        if dense:
            (_, params, state), W = _with_dense(given)
            want = want @ W
        else:
            _, params, state = functional.jit(given.weights, compute_dtype=compute_dtype)
        sequence, self._repeat = _loops()
        y = np.empty(want.shape, np.float32)
        sequence(params, state, given.x[0], y)
        error = problem.relative_error(y, want)
        assert error < _TOLERANCE[compute_dtype], f"y is off by {error:.1e}"
        self._arguments = params, state, given.x[0, 0].copy(), y[0]

    def loop(self) -> tuple[float, float]:
        """Return ns a step in a loop, the median of runs and the best."""

        def seconds(steps: int) -> float:
            start = time.perf_counter()
            self._repeat(*self._arguments, steps)
            return time.perf_counter() - start

        steps = 1000
        seconds(1)
        steps = max(steps, int(steps * _RUN_SECONDS / seconds(steps)))
        runs = [1e9 * seconds(steps) / steps for _ in range(_RUNS)]
        return statistics.median(runs), min(runs)

    def one_by_one(self, steps: int) -> np.ndarray:
        """Return ns of each of so many steps, sorted."""
        count, found = _counted(), np.empty(steps, np.int64)
        count(*self._arguments, 0, found)
        empty = np.median(found)
        start = time.perf_counter()
        count(*self._arguments, 1, found)
        wall = time.perf_counter() - start
        # Between two intervals next to nothing passes but the fences, which is in `empty`.
        ns_per_tick = 1e9 * wall / (found.sum() + empty * steps)
        return np.sort((found - empty) * ns_per_tick)


def sequences(shape: problem.Shape, threads: int) -> list[list[float]]:
    """Return microseconds a call of functional.lstm with packed weights, float32's and bfloat16's, run by run."""
    import numlstm
    from numlstm import functional

    numlstm.set_num_threads(threads)
    given, calls, runs = problem.problem(shape), [], ([], [])
    want = problem.forward(given)["y"]
    for compute_dtype, tolerance in _TOLERANCE.items():
        packed = functional.pack(given.weights, compute_dtype=compute_dtype)
        calls.append(functools.partial(functional.lstm, given.x, packed, tape=False))
        assert problem.relative_error(calls[-1]().y, want) < tolerance
    number = max(1, int(_RUN_SECONDS / timeit.timeit(calls[0], number=1)))
    for _ in range(_RUNS):
        for call, times in zip(calls, runs, strict=True):
            times.append(1e6 * timeit.timeit(call, number=number) / number)
    return list(runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="H", help="I = H (%(default)s)")
    parser.add_argument("--steps", type=int, default=10**6, help="timed one by one (%(default)s)")
    options = parser.parse_args()
    import report

    print(f"{report.cpu_model()}; times in ns\n")
    print("| I = H | weights | ns a step, median / best | of RTNeural's | of float32's | p50 | p99 | p99.9 |")
    print("|--:|---|--:|--:|--:|--:|--:|--:|")
    for hidden in options.sizes:
        float32 = 0.0
        for kind, chosen in KINDS.items():
            step = Step(hidden, **chosen)
            median, best = step.loop()
            float32 = float32 or median
            peer = f"{median / RTNEURAL[hidden]:.2f}" if hidden in RTNEURAL else ""
            ratio = f"{median / float32:.2f}" if chosen else ""
            times = step.one_by_one(options.steps)
            cells = [hidden, kind, f"{median:.1f} / {best:.1f}", peer, ratio]
            cells += [f"{times[int(p / 100 * (times.size - 1))]:.0f}" for p in PERCENTILES]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
    print("\n| N,T,I,H | threads | float32 us, median / best | bfloat16 us | ratio |\n|---|--:|--:|--:|--:|")
    for shape in SHAPES:
        for threads in dict.fromkeys((1, min(2, report.available_cpus()))):
            both = [
                (statistics.median(runs), min(runs))
                for runs in sequences(problem.Shape(*map(int, shape.split(","))), threads)
            ]
            times = " | ".join(f"{median:.0f} / {best:.0f}" for median, best in both)
            ratios = " / ".join(f"{float32 / bfloat16:.2f}" for float32, bfloat16 in zip(*both, strict=True))
            print(f"| {shape} | {threads} | {times} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
