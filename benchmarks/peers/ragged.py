"""Sequences of different lengths in one batch: numlstm and PyTorch, padded and by their lengths.

    python benchmarks/peers/ragged.py                        # N = 32, I = 64, H = 128, T = 100, 1000, 4000
    python benchmarks/peers/ragged.py --steps 1000 --rounds 7 --quantities forward
    python benchmarks/peers/ragged.py --steps 4000 --engines     # without PyTorch, which takes minutes there by lengths

Lengths are spread evenly over 1..T. By lengths, numlstm takes lengths=, and PyTorch a PackedSequence, packed and padded
again within the time that counts. Each engine lives in a process of its own; results are checked against the textbook in
float64, then timed in interleaved rounds. Times and ratios are by medians / by bests. "padding" is N T over the sum of
lengths; "faster" the time padded over that by lengths; "than torch" the faster of PyTorch's two over numlstm's by lengths.
The exit status is 1 if an engine's numbers are wrong.
"""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cpu
import problem
import report
from cpu import Worker, WorkerError
from problem import Shape

KINDS = {False: "padded", True: "by lengths"}


def check(workers: list[Worker], shape: Shape, quantity: str) -> list[str]:
    """Prepare all engines for both kinds of batch and return what is wrong with their results."""
    complaints = []
    tolerance = cpu.TOLERANCE * max(1, shape.T / 100) ** 0.5  # sums over time are chains, in which roundings walk at random
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "reference.npz")
        for ragged, kind in KINDS.items():
            np.savez(path, **getattr(problem, quantity)(problem.problem(shape, ragged=ragged)))
            for worker in workers:
                errors = worker.ask("prepare", shape=shape, quantity=quantity, reference=path, ragged=ragged)["errors"]
                off = [(name, error) for name, error in errors.items() if not error < tolerance]
                complaints += [f"{quantity} {shape} {worker.name} {kind}: {name} is off by {e:.1e}" for name, e in off]
    return complaints


def measure(
    workers: list[Worker], peak: Worker, chosen: argparse.Namespace
) -> tuple[dict[tuple[str, bool], dict[str, Any]], float]:
    """Time what is prepared in rounds over engines and kinds of batch."""
    todo = [(worker, ragged) for worker in workers for ragged in KINDS]
    tasks = {(worker.name, ragged): partial(worker.time, chosen.seconds, ragged=ragged) for worker, ragged in todo}
    runs, gflops = cpu.in_rounds(tasks, peak, chosen.rounds)
    return {key: each.summary(chosen.rounds) for key, each in runs.items()}, gflops


def line(shape: Shape, quantity: str, found: dict[tuple[str, bool], dict[str, Any]]) -> list[str]:
    """Return one row of the table."""
    own, others = found["numlstm", True], [each for (name, _), each in found.items() if name != "numlstm"]
    share = problem.problem(shape, ragged=True).lengths.mean() / shape.T
    cells = [report.QUANTITIES[quantity], str(shape.T), f"{1 / share:.2f}"]
    for name in dict.fromkeys(name for name, _ in found):
        padded, ragged = found[name, False], found[name, True]
        cells += [_times(padded), _times(ragged), _ratios(padded, ragged)]
    fastest = {kind: min(each[kind] for each in others) for kind in ("median", "best")} if others else None
    return [*cells, _ratios(fastest, own) if fastest else "-"]


def _times(numbers: dict[str, Any]) -> str:
    return " / ".join(f"{1e3 * numbers[kind]:.3g}" for kind in ("median", "best")) + (" noisy" if numbers["noisy"] else "")


def _ratios(other: dict[str, Any], own: dict[str, Any]) -> str:
    return " / ".join(f"{other[kind] / own[kind]:.2f}" for kind in ("median", "best"))


def run(chosen: argparse.Namespace) -> int:
    """Measure what was chosen and report it; return the exit status."""
    facts, peak = report.machine_facts(chosen.threads), Worker("peak", chosen.threads)
    workers = [Worker(name, chosen.threads) for name in ("numlstm", *chosen.engines)]
    failures, rows, best_peak = [], [], 0.0
    try:
        for worker in [worker for worker in workers if worker.absent]:
            print(f"{worker.name} is absent: {worker.absent}", file=sys.stderr)
            worker.close()
        workers = [worker for worker in workers if not worker.absent]
        for steps in chosen.steps:
            shape = Shape(*chosen.sizes[:1], steps, *chosen.sizes[1:])
            for quantity in chosen.quantities:
                complaints = check(workers, shape, quantity)
                failures += complaints
                if not complaints:
                    found, gflops = measure(workers, peak, chosen)
                    rows, best_peak = [*rows, line(shape, quantity, found)], max(best_peak, gflops)
                    print(f"{quantity} {shape} done", file=sys.stderr, flush=True)
    except WorkerError as error:
        sys.exit(f"error: {error}")
    finally:
        for worker in (*workers, peak):
            worker.close()
    print(report.header(facts, best_peak) + "\n")
    names = [f"{worker.name} {word}" for worker in workers for word in ("padded ms", "by lengths ms", "faster")]
    head = ["", "T", "padding", *names, "than torch"]
    for cells in [head, ["---", *["---:"] * (len(head) - 1)], *rows]:
        print(f"| {' | '.join(cells)} |")
    return report.finish(failures, None)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=cpu.positive, default=min(2, report.available_cpus()), help="(%(default)s)")
    parser.add_argument("--steps", type=cpu.positive, nargs="+", default=[100, 1000, 4000], metavar="T")
    parser.add_argument("--sizes", type=cpu.positive, nargs=3, default=[32, 64, 128], metavar=("N", "I", "H"))
    parser.add_argument("--quantities", nargs="+", choices=report.QUANTITIES, default=list(report.QUANTITIES))
    others = [name for name in cpu.TRAINING if name != "numlstm"]
    parser.add_argument("--engines", nargs="*", choices=others, default=others, help="beside numlstm (%(default)s)")
    parser.add_argument("--rounds", type=cpu.positive, default=5, help="timed runs of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=0.1, help="of a run (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run(options()))
