"""Seconds an epoch of the newcomer's model: numlstm beside plain PyTorch and Keras, each in a process of its own.

Two layers of 50 units and a dense one, 1,024 sequences of 60 steps of 1 feature, batches of 32, Adam, mean squared error.
All begin with the same weights; the losses of their first epochs, unshuffled, are compared before anything is timed. Epochs
are timed one by one, each after one that is not, in interleaved rounds over the engines. A ratio is another engine's time /
numlstm's. The exit status is 1 if the losses differ.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

SEQUENCES, STEPS, FEATURES, UNITS, BATCH = 1024, 60, 1, 50, 32
FLOPS = 3 * 2 * SEQUENCES * STEPS * 4 * UNITS * (FEATURES + UNITS + UNITS + UNITS)  # products, forward and twice backward
ENGINES = ("numlstm", "torch", "keras on torch", "keras on jax")
TOLERANCE = 5e-3  # relative, of the first epoch's loss: PyTorch adds Adam's epsilon after the correction of the bias
NOISE = 1.3


def data() -> tuple[np.ndarray, np.ndarray]:
    """Return random walks (1024, 60, 1) and their next value (1024, 1)."""
    walks = np.random.default_rng(0).standard_normal((SEQUENCES, STEPS + 1)).cumsum(1).astype(np.float32) / 8
    return np.ascontiguousarray(walks[:, :-1, np.newaxis]), np.ascontiguousarray(walks[:, -1:])


def weights() -> list[np.ndarray]:
    """Return the first weights in Keras' layout and order."""
    rng, bound = np.random.default_rng(1), 1 / np.sqrt(UNITS)
    shapes = []
    for inputs in (FEATURES, UNITS):
        shapes += [(inputs, 4 * UNITS), (UNITS, 4 * UNITS), (4 * UNITS,)]
    return [rng.uniform(-bound, bound, shape).astype(np.float32) for shape in [*shapes, (UNITS, 1), (1,)]]


class Numlstm:
    def __init__(self, threads: int) -> None:
        import numlstm

        numlstm.set_num_threads(threads)
        lstm, dense = numlstm.LSTM, numlstm.Dense
        layers = [lstm(UNITS, return_sequences=True, input_shape=(STEPS, FEATURES)), lstm(UNITS), dense(1)]
        self._model = numlstm.Sequential(layers)
        self._model.compile(optimizer="adam", loss="mean_squared_error")
        self._model.set_weights(weights())

    def epoch(self, shuffle: bool) -> float:
        history = self._model.fit(*self.data, batch_size=BATCH, verbose=0, shuffle=shuffle)
        return history.history["loss"][-1]


class Torch:
    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._torch = torch
        first = torch.nn.LSTM(FEATURES, UNITS, batch_first=True)
        second = torch.nn.LSTM(UNITS, UNITS, batch_first=True)
        last = torch.nn.Linear(UNITS, 1)
        self._layers = torch.nn.ModuleList([first, second, last])
        values = iter(weights())
        with torch.no_grad():
            for layer in (first, second):
                for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"):
                    getattr(layer, name).copy_(torch.from_numpy(next(values)).T)
                layer.bias_hh_l0.zero_()
                layer.bias_hh_l0.requires_grad_(False)  # one bias, as the others have
            last.weight.copy_(torch.from_numpy(next(values)).T)
            last.bias.copy_(torch.from_numpy(next(values)))
        trained = [p for p in self._layers.parameters() if p.requires_grad]
        self._optimizer = torch.optim.Adam(trained, eps=1e-7)
        self._loss = torch.nn.MSELoss()

    def epoch(self, shuffle: bool) -> float:
        torch, (first, second, last) = self._torch, self._layers
        x, y = (torch.from_numpy(array) for array in self.data)
        order = torch.randperm(SEQUENCES) if shuffle else torch.arange(SEQUENCES)
        total = 0.0
        for rows in order.split(BATCH):
            self._optimizer.zero_grad()
            loss = self._loss(last(second(first(x[rows])[0])[0][:, -1]), y[rows])
            loss.backward()
            self._optimizer.step()
            total += loss.item() * len(rows)
        return total / SEQUENCES


class Keras:
    def __init__(self, threads: int, backend: str) -> None:
        os.environ["KERAS_BACKEND"] = backend
        import keras

        if backend == "torch":
            import torch

            torch.set_num_threads(threads)
        lstm = keras.layers.LSTM
        layers = [keras.Input((STEPS, FEATURES)), lstm(UNITS, return_sequences=True), lstm(UNITS), keras.layers.Dense(1)]
        self._model = keras.Sequential(layers)
        self._model.compile(optimizer="adam", loss="mean_squared_error")
        self._model.set_weights(weights())

    def epoch(self, shuffle: bool) -> float:
        history = self._model.fit(*self.data, batch_size=BATCH, verbose=0, shuffle=shuffle)
        return history.history["loss"][-1]


def serve(engine: str, threads: int) -> None:
    """Be one engine: answer each line of the input, 0 or 1 for shuffling, with an epoch's loss and seconds."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    try:
        name, _, backend = engine.partition(" on ")
        made: Any = {"numlstm": Numlstm, "torch": Torch, "keras": Keras}[name](threads, *filter(None, [backend]))
    except ImportError as error:
        answers.write(json.dumps({"absent": str(error)}) + "\n")
        return
    made.data = data()
    answers.write(json.dumps({}) + "\n")
    for line in sys.stdin:
        start = time.perf_counter()
        loss = made.epoch(shuffle=line.strip() == "1")
        answers.write(json.dumps({"loss": loss, "seconds": time.perf_counter() - start}) + "\n")


class Engine:
    """A process that holds one engine and computes only when asked."""

    def __init__(self, name: str, threads: int) -> None:
        counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "NUMLSTM_NUM_THREADS")
        self.name, self.seconds = name, []
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", name, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **dict.fromkeys(counts, str(threads))},
        )
        self.absent = self._answer().get("absent")

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"error: {self.name}: its process ended with status {self._process.wait()}")
        return json.loads(line)

    def epoch(self, shuffle: bool) -> dict[str, float]:
        self._process.stdin.write(f"{int(shuffle)}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.communicate(timeout=30)


def compare(engines: list[Engine], rounds: int) -> int:
    """Check the engines against each other, time them, print a table; return the exit status."""
    losses = {engine.name: engine.epoch(shuffle=False)["loss"] for engine in engines}
    for name, loss in losses.items():
        print(f"{name}: loss of the first epoch {loss:.6f}", file=sys.stderr)
    if max(losses.values()) > min(losses.values()) * (1 + TOLERANCE):
        print("FAILED: the losses differ", file=sys.stderr)
        return 1
    for _ in range(rounds):
        for engine in engines:
            engine.epoch(shuffle=True)  # threads and memory that rested while the others computed
            engine.seconds.append(engine.epoch(shuffle=True)["seconds"])
    from cpu import Worker

    threads = engines[0]._process.args[-1]
    peak = Worker("peak", int(threads))
    gflops = max(peak.ask("peak", seconds=0.1)["gflops"] for _ in range(5))
    peak.close()
    ours = engines[0].seconds
    print(f"\n{threads} threads; FMA peak {gflops:.0f} GFLOP/s; seconds an epoch, median / best of {rounds}\n")
    print("| engine | seconds | GFLOP/s by the median, share of peak | ratio | note |\n|---|---|---|---|---|")
    for engine in engines:
        best, median = min(engine.seconds), statistics.median(engine.seconds)
        rate = FLOPS / median / 1e9
        ratio = f"{median / statistics.median(ours):.2f} / {best / min(ours):.2f}"
        note = "noisy" if median > NOISE * best else ""
        print(f"| {engine.name} | {median:.4f} / {best:.4f} | {rate:.0f}, {100 * rate / gflops:.0f} % | {ratio} | {note} |")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads of every engine (%(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="timed epochs of each engine (%(default)s)")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--serve", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.threads)
        return 0
    names = ["numlstm", *(name for name in options.engines if name != "numlstm")]
    engines = [Engine(name, options.threads) for name in names]
    for engine in engines:
        if engine.absent:
            print(f"{engine.name} is absent: {engine.absent}", file=sys.stderr)
    try:
        if engines[0].absent:
            return 1
        return compare([engine for engine in engines if not engine.absent], options.rounds)
    finally:
        for engine in engines:
            engine.close()


if __name__ == "__main__":
    sys.exit(main())
