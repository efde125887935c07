"""One LSTM layer, at shapes of each kind: one sequence, small batches, a large one."""

import itertools

import problem
import worker

from . import checked

_SHAPES = ["1,100,64,128", "32,60,1,50", "32,100,64,128", "64,50,256,256"]
_RAGGED = ["32,100,64,128 ragged"]  # about half of the full batch's steps
_PASSES = {"forward": 1, "forward_backward": 3}  # times as many multiplications as a forward pass has
_THREADS = ["1", "all"]
_ROUNDS, _CALL_SECONDS, _PEAK_SECONDS = 5, 0.05, 0.02


def _threads(which: str) -> int:
    """Return how many threads to use; NotImplementedError, which skips a benchmark, for all of one CPU."""
    import report

    cpus = report.available_cpus()
    if which == "all" and cpus == 1:
        raise NotImplementedError("one CPU: the same as with one thread")
    return cpus if which == "all" else 1


class Layer:
    params = (list(_PASSES), _SHAPES + _RAGGED, _THREADS)
    param_names = ("quantity", "N,T,I,H", "threads")

    def setup(self, quantity: str, shape: str, threads: str) -> None:
        self.task = checked.task(quantity, shape, "float32", _threads(threads))

    def time_call(self, *_: str) -> None:
        self.task.run()


class Peak:
    """The share of the FMA peak, measured in turns with the calls: what slows the machine for a while slows both."""

    params = (list(_PASSES), _SHAPES, ["float32", "float64"], _THREADS)
    param_names = ("quantity", "N,T,I,H", "dtype", "threads")
    unit = "% of the FMA peak"
    timeout = 600

    def setup_cache(self) -> dict[tuple[str, ...], float]:
        """Measure all in one process, for a process of its own would take longer to begin than to measure."""
        import peak

        shares = {}
        for dtype, threads in itertools.product(*self.params[2:]):
            try:
                limit = peak.Peak(_threads(threads), dtype)
            except NotImplementedError:
                continue
            for quantity, shape in itertools.product(*self.params[:2]):
                task = checked.task(quantity, shape, dtype, _threads(threads))
                flops = _PASSES[quantity] * problem.Shape(*map(int, shape.split(","))).flops
                shares[quantity, shape, dtype, threads] = _percent(task, flops, limit)
        return shares

    def track_percent(self, shares: dict[tuple[str, ...], float], *case: str) -> float:
        return shares.get(case, float("nan"))


def _percent(task: worker.Task, flops: int, limit) -> float:
    """Return what the best call reaches of the best of the peak."""
    best, gflops = float("inf"), 0.0
    for _ in range(_ROUNDS):
        gflops = max(gflops, limit.gflops(_PEAK_SECONDS))
        best = min(best, worker.time_calls(task, _CALL_SECONDS)["best"])
    return 100 * 1e-9 * flops / best / gflops
