"""One engine in a process of its own: ``worker.py ENGINE THREADS`` answers requests, a line of JSON each, until stdin ends.

{"op": "prepare", "shape", "quantity", "reference"} -> {"errors": {array: relative error}}
{"op": "time", "seconds"} -> {"best", "median" (seconds a call), "calls", "idle" (CPU share while it waited)}
Both take a "cell" for the engines of cell_engines.py, which keep the task of each.
{"op": "peak", "seconds"} -> {"gflops"}, of gpu_engines.py by precision
"""

import gc
import importlib
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from problem import Problem, Shape, problem, relative_error

WARM_SECONDS = 0.02
FEWEST_CALLS = 3


class Task(NamedTuple):
    run: Callable[[], Any]  # what the clock sees
    arrays: Callable[[Any], dict[str, np.ndarray]]  # run's result by the reference's names, batch-first
    reset: Callable[[], None] = lambda: None  # before each run, outside of the clock
    wait: Callable[[], None] = lambda: None  # for what runs have begun, within the clock
    together: float = 0.0  # seconds of runs that are begun one after the other and waited for once


class Numlstm:
    packages = ("numlstm", "numba", "llvmlite")

    def __init__(self, threads: int) -> None:
        import numlstm

        numlstm.set_num_threads(threads)
        self._functional = numlstm.functional

    def forward(self, given: Problem) -> Task:
        lstm, packed = self._functional.lstm, self._functional.pack(given.weights)
        return Task(lambda: lstm(given.x, packed, lengths=given.lengths, tape=False), lambda out: {"y": out.y})

    def forward_backward(self, given: Problem) -> Task:
        lstm, backward = self._functional.lstm, self._functional.lstm_backward

        def run():
            out = lstm(given.x, given.weights, lengths=given.lengths)
            return out.y, backward(out.tape, given.dy)

        return Task(run, lambda result: {"y": result[0], **{name: getattr(result[1], name) for name in _GRADIENTS}})

    def training_step(self, given: Problem) -> Task:
        """Gradient descent on the mean squared error, whose rate makes of that mean half the sum; then steps of size 0."""
        import numlstm

        layer = numlstm.LSTM(given.W_hh.shape[1], return_sequences=True, input_shape=given.x.shape[1:])
        model = numlstm.Sequential([layer], dtype=given.x.dtype)
        layer.set_weights([given.W_ih.T, given.W_hh.T, given.b])
        x, wanted = self._place(model, given.x, given.dy)
        optimizer = numlstm.optimizers.SGD(given.dy.size / 2)
        trainer = numlstm.Trainer(model, optimizer, "mse")

        def weights(_: float) -> dict[str, np.ndarray]:
            optimizer.learning_rate = 0.0
            return dict(zip(("W_ih", "W_hh", "b"), (array.T for array in layer.get_weights()), strict=True))

        return Task(lambda: trainer.step(x, wanted), weights)

    def _place(self, model: Any, *arrays: np.ndarray) -> tuple[Any, ...]:
        """Bring a model and its data to where the engine runs."""
        return arrays


class Torch:
    packages = ("torch",)
    device, dtype = "cpu", "float32"

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._torch = torch

    def _layer(self, given: Problem):
        torch, hidden = self._torch, given.W_hh.shape[1]
        layer = torch.nn.LSTM(given.x.shape[2], hidden, batch_first=True)
        with torch.no_grad():
            for name, value in zip(_TORCH_NAMES, (*given.weights, np.zeros_like(given.b)), strict=True):
                getattr(layer, name).copy_(torch.from_numpy(value))
        return layer.to(self.device, getattr(torch, self.dtype))

    def _tensors(self, *arrays: np.ndarray):
        return (self._torch.from_numpy(array).to(self.device, getattr(self._torch, self.dtype)) for array in arrays)

    def _run(self, layer, x, lengths):
        if lengths is None:
            return layer(x)[0]
        rnn = self._torch.nn.utils.rnn
        packed = rnn.pack_padded_sequence(x, self._torch.from_numpy(lengths), batch_first=True, enforce_sorted=False)
        return rnn.pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=x.shape[1])[0]

    def forward(self, given: Problem) -> Task:
        layer, (x,) = self._layer(given), self._tensors(given.x)

        def run():
            with self._torch.no_grad():
                return self._run(layer, x, given.lengths)

        return Task(run, lambda y: {"y": _host(y)})

    def forward_backward(self, given: Problem) -> Task:
        layer = self._layer(given)
        x, dy = self._tensors(given.x, given.dy)
        x.requires_grad_()
        leaves = {"x": x, **{name: getattr(layer, long) for name, long in zip(_GRADIENTS[1:], _TORCH_NAMES, strict=False)}}

        def run():
            y = self._run(layer, x, given.lengths)
            y.backward(dy)
            return y

        def reset():
            x.grad = None
            layer.zero_grad(set_to_none=True)

        return Task(run, lambda y: {"y": _host(y), **{k: _host(v.grad) for k, v in leaves.items()}}, reset)

    def training_step(self, given: Problem) -> Task:
        """As numlstm's; its loss comes back too."""
        layer, (x, wanted) = self._layer(given), self._tensors(given.x, given.dy)
        optimizer = self._torch.optim.SGD(layer.parameters(), given.dy.size / 2)
        loss_of = self._torch.nn.MSELoss()

        def run():
            optimizer.zero_grad()
            loss = loss_of(layer(x)[0], wanted)
            loss.backward()
            optimizer.step()
            return loss.item()

        def weights(_):
            optimizer.param_groups[0]["lr"] = 0.0
            return {k: _host(getattr(layer, name)) for k, name in zip(_GRADIENTS[1:], _TORCH_NAMES, strict=False)}

        return Task(run, weights)


def _host(tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


class OnnxRuntime:
    """Its LSTM node is time-major only; x is turned before the clock starts. It does not train."""

    packages = ("onnxruntime", "onnx")

    def __init__(self, threads: int) -> None:
        import onnx
        import onnxruntime

        self._onnx, self._runtime = onnx, onnxruntime
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1

    def forward(self, given: Problem) -> Task:
        helper = self._onnx.helper
        blocks = [0, 3, 1, 2]  # from i, f, g, o to ONNX's i, o, f, c

        def turned(array):
            return array.reshape(4, -1, *array.shape[1:])[blocks].reshape(1, *array.shape)

        biases = np.concatenate([turned(given.b), np.zeros_like(turned(given.b))], axis=1)
        initializers = [
            self._onnx.numpy_helper.from_array(array, name)
            for name, array in [("W", turned(given.W_ih)), ("R", turned(given.W_hh)), ("B", biases)]
        ]
        number = self._onnx.TensorProto.FLOAT
        N, T, I = given.x.shape  # noqa: E741
        H = given.W_hh.shape[1]
        graph = helper.make_graph(
            [helper.make_node("LSTM", ["X", "W", "R", "B"], ["Y"], hidden_size=H)],
            "lstm",
            [helper.make_tensor_value_info("X", number, [T, N, I])],
            [helper.make_tensor_value_info("Y", number, [T, 1, N, H])],
            initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
        providers = ["CPUExecutionProvider"]
        session = self._runtime.InferenceSession(model.SerializeToString(), self._options, providers=providers)
        feed = {"X": np.ascontiguousarray(given.x.swapaxes(0, 1))}
        return Task(lambda: session.run(["Y"], feed)[0], lambda y: {"y": y[:, 0].swapaxes(0, 1)})


_GRADIENTS = ("x", "W_ih", "W_hh", "b")
_TORCH_NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
ENGINES = {"numlstm": Numlstm, "torch": Torch, "onnxruntime": OnnxRuntime}
_PEAKS = {"peak": "peak", "gpu peak": "gpu_engines"}


def time_call(task: Task, calls: int = 1) -> float:
    """Return the seconds of a call, of several that are waited for once."""
    task.reset()
    start = time.perf_counter()
    for _ in range(calls):
        kept = task.run()  # the last one is held past the clock: freeing it is not timed
    task.wait()
    stop = time.perf_counter()
    del kept
    return (stop - start) / calls


def time_calls(task: Task, seconds: float) -> dict[str, float]:
    """Time calls for so long, after some that wake the threads and fill the caches and are not counted."""
    warm = time.perf_counter() + WARM_SECONDS
    once = time_call(task)
    while time.perf_counter() < warm:
        once = min(once, time_call(task))
    calls = max(1, round(task.together / once))
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < FEWEST_CALLS:
        times.append(time_call(task, calls))
    return {"best": min(times), "median": statistics.median(times), "calls": calls * len(times)}


class Server:
    """Holds the engine and its current task between requests."""

    def __init__(self, engine: str, threads: int) -> None:
        if engine in _PEAKS:
            self.files, self._peak = {}, importlib.import_module(_PEAKS[engine]).Peak(threads)
            return
        others = (importlib.import_module(name).ENGINES for name in ("gpu_engines", "cell_engines"))
        engines = ENGINES if engine in ENGINES else next(found for found in others if engine in found)
        self._engine, self._tasks = engines[engine](threads), {}
        self.files = {name: importlib.import_module(name).__file__ for name in self._engine.packages}

    def prepare(
        self, shape: list[int], quantity: str, reference: str, cell: str | None = None, ragged: bool = False
    ) -> dict[str, Any]:
        """Build the task and compare one run of it with the reference's arrays."""
        if cell is None:
            given = problem(Shape(*shape), ragged=ragged)
        else:
            from cell_engines import cell_problem

            given = cell_problem(Shape(*shape), cell)
        self._tasks[cell, ragged] = task = getattr(self._engine, quantity)(given)
        task.reset()
        found = task.arrays(task.run())
        with np.load(reference) as expected:
            return {"errors": {name: relative_error(array, expected[name]) for name, array in found.items()}}

    def time(self, seconds: float, cell: str | None = None, ragged: bool = False) -> dict[str, float]:
        return time_calls(self._tasks[cell, ragged], seconds)

    def peak(self, seconds: float) -> dict[str, float]:
        return {"gflops": self._peak.gflops(seconds)}


def main() -> None:
    engine, threads = sys.argv[1], int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it closes stdin
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")

    try:
        server = Server(engine, threads)
    except ImportError as error:
        return answer({"absent": str(error)})
    answer({"files": server.files})
    gc.disable()
    before = time.process_time(), time.perf_counter()
    for line in sys.stdin:
        idle = (time.process_time() - before[0]) / (time.perf_counter() - before[1])
        request = json.loads(line)
        try:
            content = getattr(server, request.pop("op"))(**request)
        except Exception as error:
            content = {"error": f"{type(error).__name__}: {error}"}
        gc.collect()
        answer({**content, "idle": idle})
        before = time.process_time(), time.perf_counter()


if __name__ == "__main__":
    main()
