"""What gpu.py runs: numlstm's sweeps and PyTorch's cuDNN layer on an NVIDIA GPU, each in a precision of its products."""

import functools
import time
from typing import Any, NamedTuple

import numpy as np
import worker
from problem import Problem
from worker import Task

TOGETHER = 0.01  # seconds of calls between two waits: then these cost nothing, and what a call costs the host still counts
PEAK_CALLS = 3
BEFORE = 2  # passes before the one that is checked: a graph compiles in its first, is recorded in its second, then replayed


class Chosen(NamedTuple):
    """An engine's way: sweep of kernels.cuda.recurrent.SWEEPS, "" for PyTorch; precision of products."""

    engine: str
    sweep: str
    precision: str

    def __str__(self) -> str:
        return " ".join(filter(None, self))


class Numlstm(worker.Numlstm):
    """Passes are called as a model calls them, without the checks of what a user hands in; a training step with all."""

    packages = ("numlstm",)

    def __init__(self, threads: int, chosen: Chosen) -> None:
        from numlstm.backend.cuda import open_device

        self._how = {"precision": chosen.precision, "sweep": chosen.sweep}
        self._device = open_device(**self._how)

    def _passes(self, given: Problem, keep: bool) -> tuple[Any, ...]:
        """Return the passes, and their weights and arrays, on the GPU. keep : whether to go back, too"""
        import numlstm

        device, dtype = self._device, given.x.dtype
        sizes = *given.x.shape, given.W_hh.shape[1]
        kind, weights = (
            device.kind_of(numlstm.LSTM(1).spec.name),
            [device.array(array) for array in (*given.weights, given.b[:0])],
        )
        packed = device.Weights(kind, *sizes[2:], dtype, device.empty)
        packed.load(weights)
        passes = device.Recurrent(kind, sizes, dtype, keep, device.empty)
        x, y = device.array(given.x), device.empty(given.dy.shape, dtype)
        last = tuple(device.empty((sizes[0], sizes[3]), dtype) for _ in "hc")
        return passes, packed, weights, (x, y, last)

    def _task(self, run: Any, arrays: Any) -> Task:
        for _ in range(BEFORE):
            run()
        return Task(run, arrays, wait=self._device.synchronize, together=TOGETHER)

    def forward(self, given: Problem) -> Task:
        passes, packed, _, (x, y, last) = self._passes(given, keep=False)
        return self._task(lambda: passes.forward(packed.cell, x, None, y, last), lambda _: {"y": self._device.host(y)})

    def forward_backward(self, given: Problem) -> Task:
        passes, packed, weights, (x, y, last) = self._passes(given, keep=True)
        device = self._device
        dy, dx = device.array(given.dy), device.empty(given.x.shape, given.x.dtype)
        sums = [device.empty(weight.shape, given.x.dtype) for weight in weights]
        packed.prepare_backward(passes.summing, inputs_gradient=True)

        def run() -> None:
            passes.forward(packed.cell, x, None, y, last)
            passes.backward(packed, weights, (x, None, None), (dy, None), dx, None, sums, False)

        found = dict(zip(("y", "x", "W_ih", "W_hh", "b"), (y, dx, *sums), strict=False))
        return self._task(run, lambda _: {name: device.host(array) for name, array in found.items()})

    def _place(self, model: Any, *arrays: np.ndarray) -> tuple[Any, ...]:
        model.to("cuda", **self._how)
        placed = tuple(model.backend.array(array) for array in arrays)
        model.backend.synchronize()
        return placed


class Torch(worker.Torch):
    """In float32, which cuDNN computes in tf32 unless told otherwise; in tf32; or all of it, weights too, in bfloat16."""

    device = "cuda"

    def __init__(self, threads: int, chosen: Chosen) -> None:
        super().__init__(threads)
        _set_precision(self._torch, chosen.precision)
        self.dtype = "bfloat16" if chosen.precision == "bfloat16" else "float32"

    def _waiting(self, task: Task) -> Task:
        """Return the task with what goes before each call as a part of it, and waited for at the end of several."""

        def run() -> Any:
            task.reset()
            return task.run()

        return Task(run, task.arrays, wait=lambda: _wait(self._torch, self.device), together=TOGETHER)

    def forward(self, given: Problem) -> Task:
        return self._waiting(super().forward(given))

    def forward_backward(self, given: Problem) -> Task:
        return self._waiting(super().forward_backward(given))


def _set_precision(torch: Any, precision: str) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"


def _wait(torch: Any, device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


class Peak:
    """What cuBLAS reaches in a large square product, by precision: in float32 the peak of fused multiply-adds, nearly."""

    device, side = "cuda", 8192

    def __init__(self, threads: int) -> None:
        import torch

        self._torch = torch

    def gflops(self, seconds: float) -> dict[str, float]:
        """Return the best GFLOP/s in each precision, in so many seconds each."""
        return {precision: self._best(precision, seconds) for precision in PRECISIONS}

    def _best(self, precision: str, seconds: float) -> float:
        torch, side = self._torch, self.side
        _set_precision(torch, precision)
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        a, b = (torch.randn(side, side, device=self.device, dtype=dtype) for _ in "ab")
        task = Task(lambda: torch.matmul(a, b), dict, wait=lambda: _wait(torch, self.device))
        best, end = np.inf, time.perf_counter() + seconds
        while time.perf_counter() < end or best == np.inf:
            best = min(best, worker.time_call(task, PEAK_CALLS))
        return 2e-9 * side**3 / best


PRECISIONS = ("float32", "tf32", "bfloat16")
CHOICES = [
    Chosen("numlstm", sweep, precision)
    for precision in PRECISIONS
    for sweep in ("rows" if precision == "float32" else "registers", "steps", "graph")
] + [Chosen("torch", "", precision) for precision in PRECISIONS]
ENGINES = {
    str(chosen): functools.partial({"numlstm": Numlstm, "torch": Torch}[chosen.engine], chosen=chosen) for chosen in CHOICES
}
