"""numlstm beside PyTorch and ONNX Runtime on the CPU, each in a process of its own, same threads, in interleaved rounds.

Every engine is checked against the textbook in float64 NumPy before it is timed. A run whose median is more than 1.3 times
the engine's best is repeated, not reported. Times and ratios are printed as "by medians / by bests"; a ratio says how many
times faster than the best peer numlstm is. The exit status is 1 if an engine's numbers are wrong.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import problem
import report
from problem import Shape

HERE = Path(__file__).resolve().parent
ENGINES = ("numlstm", "torch", "onnxruntime")
TRAINING = ("numlstm", "torch")
TOLERANCE = 5e-6
NOISE = 1.3
PATIENCE = 3  # times as many runs as rounds, at most
PEAK_SECONDS = 0.03
REST_SECONDS = 0.1
IDLE = 0.05  # share of a CPU from which a waiting engine, or another program, disturbs what is timed


class WorkerError(RuntimeError):
    """An engine could not do what it was asked."""


class Worker:
    """A process that holds one engine and computes only when asked.

    tolerance : its largest error in units of the largest value
    """

    tolerance = TOLERANCE

    def __init__(self, engine: str, threads: int, name: str | None = None, **environment: str) -> None:
        self.name, self.idle = name or engine, []
        counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "NUMLSTM_NUM_THREADS")
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), engine, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **dict.fromkeys(counts, str(threads)), **environment},
        )
        greeting = self._answer()
        self.absent: str | None = greeting.get("absent")
        self.files: dict[str, str] = greeting.get("files", {})

    def ask(self, op: str, **request: Any) -> dict[str, Any]:
        try:
            self._process.stdin.write(json.dumps({"op": op, **request}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended; what it said last, if anything, is read below
        answer = self._answer()
        if "error" in answer:
            raise WorkerError(f"{self.name}: {answer['error']}")
        return answer

    def time(self, seconds: float, **which: Any) -> dict[str, float]:
        answer = self.ask("time", seconds=seconds, **which)
        self.idle.append(answer["idle"])
        return answer

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"{self.name}: its process ended with status {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        try:
            self._process.communicate(timeout=10)  # closes stdin, at which it ends
        except subprocess.TimeoutExpired:
            self._process.kill()


class Runs:
    """The runs of one engine at one shape."""

    def __init__(self) -> None:
        self._runs: list[dict[str, float]] = []

    def add(self, run: dict[str, float]) -> None:
        self._runs.append(run)

    @property
    def best(self) -> float:
        return min(run["best"] for run in self._runs)

    @property
    def accepted(self) -> list[dict[str, float]]:
        return [run for run in self._runs if run["median"] <= NOISE * self.best]

    def wants_more(self, rounds: int) -> bool:
        return len(self.accepted) < rounds and len(self._runs) < PATIENCE * rounds

    def summary(self, rounds: int) -> dict[str, Any]:
        accepted = self.accepted
        return {
            "best": self.best,
            "median": statistics.median(run["median"] for run in accepted or self._runs),
            "runs": len(accepted),
            "repeated": len(self._runs) - len(accepted),
            "noisy": len(accepted) < (rounds + 1) // 2,
        }


def check(workers: list[Worker], shape: Shape, quantity: str) -> list[str]:
    """Prepare all engines and return what is wrong with their results."""
    return [complaint for each in complaints_of(workers, shape, quantity).values() for complaint in each]


def complaints_of(workers: list[Worker], shape: Shape, quantity: str) -> dict[str, list[str]]:
    """As `check`, by the engines' names."""
    complaints: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        reference = str(Path(folder) / "reference.npz")
        np.savez(reference, **getattr(problem, quantity)(problem.problem(shape)))
        for worker in workers:
            try:
                errors = worker.ask("prepare", shape=shape, quantity=quantity, reference=reference)["errors"]
            except WorkerError as error:
                complaints[worker.name] = [str(error)]
                continue
            complaints[worker.name] = [
                f"{worker.name}: {name} is off by {e:.1e}" for name, e in errors.items() if not e < worker.tolerance
            ]
    return complaints


def measure(workers: list[Worker], peak: Worker, options: argparse.Namespace) -> tuple[dict[str, Runs], Any]:
    """Time the prepared task in rounds over the engines."""
    return in_rounds({worker.name: partial(worker.time, options.seconds) for worker in workers}, peak, options.rounds)


def in_rounds(tasks: Mapping[Any, Callable[[], dict[str, float]]], peak: Worker, rounds: int) -> tuple[dict[Any, Runs], Any]:
    """Call what times a task, one after the other, round by round, with the peak once a round; return its best, too."""
    runs = {name: Runs() for name in tasks}
    gflops: Any = 0.0
    while any(each.wants_more(rounds) for each in runs.values()):
        gflops = higher(gflops, peak.ask("peak", seconds=PEAK_SECONDS)["gflops"])
        for name, timed in tasks.items():
            if runs[name].wants_more(rounds):
                runs[name].add(timed())
    return runs, gflops


def higher(peak: Any, other: Any) -> Any:
    """Return the higher of two peaks, each a number or one for each precision; the first may be None."""
    if isinstance(other, dict):
        return {name: max((peak or {}).get(name, 0.0), value) for name, value in other.items()}
    return max(peak or 0.0, other)


def run(options: argparse.Namespace) -> int:
    """Measure everything asked for and report it; return the exit status."""
    try:
        facts = report.machine_facts(options.threads)
    except ImportError as error:
        sys.exit(f"error: {error}: run `pip install -e .` in the project's root, or put the root into PYTHONPATH")
    workers = {name: Worker(name, options.threads) for name in (*ENGINES, "peak")}
    try:
        return _run(options, facts, workers)
    except WorkerError as error:
        sys.exit(f"error: {error}")
    finally:
        for worker in workers.values():
            worker.close()


def _run(options: argparse.Namespace, facts: dict[str, Any], workers: dict[str, Worker]) -> int:
    peak = workers["peak"]
    absent = {name: worker.absent for name, worker in workers.items() if worker.absent}
    for name, reason in absent.items():
        print(f"{name} is absent: {reason}", file=sys.stderr)
    if {"numlstm", "peak"} & absent.keys():
        return 1
    measured, failures, best_peak = [], [], 0.0
    for quantity in options.quantities:
        names = [name for name in (ENGINES if quantity == "forward" else TRAINING) if name not in absent]
        for shape in options.shapes:
            complaints = check([workers[name] for name in names], shape, quantity)
            if complaints:
                failures += [f"{quantity} {shape}: {complaint}" for complaint in complaints]
                print(f"FAILED {failures[-1]}", file=sys.stderr)
                continue
            busy = report.cpus_in_use(REST_SECONDS)
            runs, gflops = measure([workers[name] for name in names], peak, options)
            best_peak = max(best_peak, gflops)
            engines = {name: r.summary(options.rounds) for name, r in runs.items()}
            measured.append((shape, quantity, engines, busy))
            times = ", ".join(f"{name} {1e3 * engine['median']:.3f}" for name, engine in engines.items())
            note = f"; others kept {busy:.1f} CPUs busy" if busy > IDLE else ""
            print(f"{quantity} {shape}: ms {times}; peak {gflops:.0f} GFLOP/s{note}", file=sys.stderr, flush=True)

    results = []
    for shape, quantity, engines, busy in measured:
        flops = shape.flops * (1 if quantity == "forward" else 3)
        numbers = {name: report.summarise(engine, flops, best_peak) for name, engine in engines.items()}
        row = {"shape": str(shape), "quantity": quantity, "engines": numbers, "ratios": report.ratios(numbers)}
        results.append({**row, "cpus_busy_with_others": busy})
    status = _report(options, facts, best_peak, results, failures)
    if not options.quick:
        for worker in workers.values():
            if worker.idle and statistics.median(worker.idle) > IDLE:
                share = statistics.median(worker.idle)
                print(f"warning: {worker.name} used {100 * share:.0f} % of a CPU while it waited", file=sys.stderr)
    return status


def _report(
    options: argparse.Namespace, facts: dict[str, Any], peak: float, results: list[dict[str, Any]], failures: list[str]
) -> int:
    tables = [report.table(results, quantity) for quantity in options.quantities]
    text = "\n\n".join([report.header(facts, peak), *filter(None, tables)])
    print(text + "\n" if results else "nothing was measured")
    if options.update_readme and not failures:
        report.update_readme(HERE.parent / "README.md", text)
    means = {quantity: report.mean_ratios(results, quantity) for quantity in options.quantities}
    content = {"machine": facts, "fma_peak_gflops": peak, "results": results, "mean_ratios": means}
    return report.finish(failures, options.json, **content)


def shapes(word: str) -> list[Shape]:
    if word == "all":
        return problem.SHAPES
    if word in problem.GROUPS:
        return problem.GROUPS[word]
    try:
        shape = Shape(*map(int, word.split(",")))
    except (TypeError, ValueError):
        shape = Shape(0, 0, 0, 0)
    if min(shape) < 1:
        groups = ", ".join(problem.GROUPS)
        raise argparse.ArgumentTypeError(f"{word!r} is neither all, {groups} nor four positive integers N,T,I,H")
    return [shape]


def positive(word: str) -> int:
    if not word.isdigit() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is not a positive integer")
    return int(word)


def settle(
    parser: argparse.ArgumentParser,
    options: argparse.Namespace,
    few: list[Shape],
    rounds: tuple[int, int],
    seconds: tuple[float, float],
) -> None:
    """Check the options, and fill in what was not chosen: what a quick run has, and what a whole one."""
    if options.json and not options.json.resolve().parent.is_dir():
        parser.error(f"argument --json: there is no folder {options.json.parent}")
    whole = not options.quick
    chosen = options.shapes or ([problem.SHAPES] if whole else [few])
    options.shapes = list(dict.fromkeys(shape for group in chosen for shape in group))
    options.rounds = options.rounds or rounds[whole]
    options.seconds = seconds[whole]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cpus = report.available_cpus()
    parser.add_argument("--threads", type=positive, default=min(2, cpus), help="threads of every engine (%(default)s)")
    parser.add_argument(
        "--shapes",
        type=shapes,
        nargs="+",
        metavar="SHAPE",
        help="all (the default), one, small, large, or N,T,I,H: batch, steps, input features, hidden units",
    )
    parser.add_argument(
        "--quantities", nargs="+", choices=report.QUANTITIES, default=list(report.QUANTITIES), help="what to time (both)"
    )
    parser.add_argument("--rounds", type=positive, help="timed runs of each engine at each shape (7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every number there")
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds: two shapes and short runs")
    parser.add_argument("--update-readme", action="store_true", help="put the whole tables into benchmarks/README.md")
    options = parser.parse_args()
    if options.threads > cpus:
        parser.error(f"argument --threads: this process may run on {cpus} CPUs, not on {options.threads}")
    settle(parser, options, [Shape(1, 100, 16, 32), Shape(32, 60, 1, 50)], rounds=(3, 7), seconds=(0.03, 0.2))
    whole = not options.quick and set(options.shapes) >= set(problem.SHAPES) and len(options.quantities) == 2
    if options.update_readme and not whole:
        parser.error("argument --update-readme: needs all shapes and quantities, and no --quick")
    return options


if __name__ == "__main__":
    sys.exit(run(_options()))
