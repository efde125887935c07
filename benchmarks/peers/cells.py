"""Every cell of numlstm beside the vanilla LSTM, by its flops, and beside PyTorch: as a loop over time, and torch.nn's.

    python benchmarks/peers/cells.py                                  # all cells, two shapes, forward and with backward
    python benchmarks/peers/cells.py --cells gru rnn --quantities forward --rounds 9

Each engine lives in a process of its own; every cell is checked against the textbook of the tests in float64, then timed in
rounds over all engines and cells. "beyond flops" is the time relative to vanilla's over the flops relative to vanilla's: 1
is as fast as vanilla by flop. Times and ratios are by medians / by bests; a speed is how many times numlstm's time PyTorch
takes. "mgu" is a cell of the user's own, docs/examples/minimal_gated_unit.py. The exit status is 1 if an
engine's numbers are wrong.
"""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "tests"))
sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "tests" / "package"))
import cpu
import report
from cell_engines import CELLS, ENGINES, IN_TORCH, cell_problem
from cell_flops import Flops, flops
from cpu import Runs, Worker, WorkerError
from problem import Shape

SHAPES = [Shape(32, 100, 64, 128), Shape(1, 100, 64, 128)]
OWN, LOOP, LAYER = ENGINES
LIMIT = 1.15
TOLERANCE = 5e-5  # cpu.TOLERANCE, but without a forget gate the states, and rounding errors in them, only grow


def reference(shape: Shape, cell: str, quantity: str) -> dict[str, np.ndarray]:
    """Return y, and the gradients of sum(y * dy), by the textbook in float64."""
    import reference as book
    from made import textbook

    given = cell_problem(shape, cell)
    made, options = textbook(given.spec)
    options |= {"cell_clip": given.clip, "recurrent_dropout": given.mask}
    if given.keeps is not None:
        options |= dict(zip(("zoneout_h", "zoneout_c"), given.keeps, strict=True))
    args = made, given.x.astype(np.float64), {name: array.astype(np.float64) for name, array in given.weights.items()}
    out = book.rnn(*args, **options)
    if quantity == "forward":
        return {"y": out.y}
    gradients = book.rnn_backward(*args, out.trace, given.dy.astype(np.float64), **options)
    return {"y": out.y, "x": gradients.x, **gradients.weights}


def pairs(workers: dict[str, Worker], cells: list[str]) -> list[tuple[Worker, str]]:
    """Return who computes what."""
    return [(workers[name], cell) for cell in cells for name in workers if name != LAYER or cell in IN_TORCH]


def check(workers: dict[str, Worker], cells: list[str], shape: Shape, quantity: str) -> list[str]:
    """Prepare all engines for all cells and return what is wrong with their results."""
    complaints = []
    with tempfile.TemporaryDirectory() as folder:
        for cell in cells:
            np.savez(Path(folder) / f"{cell}.npz", **reference(shape, cell, quantity))
        for worker, cell in pairs(workers, cells):
            path = str(Path(folder) / f"{cell}.npz")
            asked = {"shape": shape, "quantity": quantity, "reference": path, "cell": cell}
            errors = worker.ask("prepare", **asked)["errors"]
            off = [(name, error) for name, error in errors.items() if not error < TOLERANCE]
            complaints += [f"{quantity} {shape} {worker.name} {cell}: {name} is off by {e:.1e}" for name, e in off]
    return complaints


def measure(
    workers: dict[str, Worker], peak: Worker, cells: list[str], chosen: argparse.Namespace
) -> tuple[dict[tuple[str, str], Runs], float]:
    """Time what is prepared in rounds over cells and engines."""
    tasks = {(worker.name, cell): partial(worker.time, chosen.seconds, cell=cell) for worker, cell in pairs(workers, cells)}
    return cpu.in_rounds(tasks, peak, chosen.rounds)


def row(shape: Shape, quantity: str, cell: str, found: dict[str, dict[str, Any]], peak: float) -> dict[str, Any]:
    """Return one cell's numbers at one shape; vanilla's are among those found."""
    counted, vanilla = (flops(name, shape) for name in (cell, "lstm"))
    units = shape.N * shape.T * shape.H
    numbers = {
        name: report.summarise(found[name, cell], counted.of(quantity) * units, peak)
        for name in ENGINES
        if (name, cell) in found
    }
    of_flops = counted.of(quantity) / vanilla.of(quantity)
    beyond = {kind: found[OWN, cell][kind] / found[OWN, "lstm"][kind] / of_flops for kind in ("median", "best")}
    return {"shape": str(shape), "quantity": quantity, "cell": cell, "flops": counted, "engines": numbers, "beyond": beyond}


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows of one shape and quantity in Markdown."""
    names = [name for name in (LOOP, LAYER) if any(name in row["engines"] for row in rows)]
    head = ["cell", "flops", "ms", "GF/s", "beyond flops", *(word for name in names for word in (f"{name} ms", "times"))]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for each in rows:
        own, beyond = each["engines"][OWN], each["beyond"]
        mark = "**" if beyond["median"] > LIMIT and beyond["best"] > LIMIT else ""
        counted = Flops(*each["flops"])
        element_wise = counted.forward + (each["quantity"] != "forward") * counted.backward
        line = [each["cell"], f"{counted.of(each['quantity']) - element_wise} + {element_wise}", _times(own), _rate(own)]
        line.append(f"{mark}{beyond['median']:.2f} / {beyond['best']:.2f}{mark}")
        for name in names:
            other = each["engines"].get(name)
            line += [_times(other), _ratios(other, own)] if other else ["-", "-"]
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _times(numbers: dict[str, Any]) -> str:
    return f"{numbers['median_ms']:.3g} / {numbers['best_ms']:.3g}{' noisy' if numbers['noisy'] else ''}"


def _rate(numbers: dict[str, Any]) -> str:
    return f"{numbers['gflops']:.0f} / {numbers['percent_of_peak']:.0f} %"


def _ratios(other: dict[str, Any], own: dict[str, Any]) -> str:
    return " / ".join(f"{other[kind] / own[kind]:.1f}" for kind in ("median_ms", "best_ms"))


def run(chosen: argparse.Namespace) -> int:
    """Measure what was chosen and report it; return the exit status."""
    facts = report.machine_facts(chosen.threads)
    cells = ["lstm", *(cell for cell in chosen.cells if cell != "lstm")]
    workers = {name: Worker(name, chosen.threads) for name in (OWN, *chosen.engines)}
    peak = Worker("peak", chosen.threads)
    rows, failures, best_peak = [], [], 0.0
    try:
        for name in [name for name, worker in workers.items() if worker.absent]:
            print(f"{name} is absent: {workers[name].absent}", file=sys.stderr)
            workers.pop(name).close()
        for shape in chosen.shapes:
            for quantity in chosen.quantities:
                complaints = check(workers, cells, shape, quantity)
                failures += complaints
                if complaints:
                    continue
                runs, gflops = measure(workers, peak, cells, chosen)
                best_peak = max(best_peak, gflops)
                found = {key: each.summary(chosen.rounds) for key, each in runs.items()}
                rows += [(shape, quantity, cell, found) for cell in cells]
                print(f"{quantity} {shape} done", file=sys.stderr, flush=True)
    except WorkerError as error:
        sys.exit(f"error: {error}")
    finally:
        for worker in (*workers.values(), peak):
            worker.close()
    results = [row(*each, best_peak) for each in rows]
    print(report.header(facts, best_peak))
    for shape in map(str, chosen.shapes):
        for quantity in chosen.quantities:
            some = [each for each in results if (each["shape"], each["quantity"]) == (shape, quantity)]
            print(f"\n**{report.QUANTITIES[quantity]}, {shape.replace(',', ', ')}**\n\n{table(some)}")
    return report.finish(failures, chosen.json, machine=facts, fma_peak_gflops=best_peak, results=results)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=cpu.positive, default=min(2, report.available_cpus()), help="(%(default)s)")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS), metavar="CELL", help=", ".join(CELLS))
    parser.add_argument("--engines", nargs="*", choices=(LOOP, LAYER), default=[LOOP, LAYER], help="beside numlstm (both)")
    parser.add_argument("--shapes", type=cpu.shapes, nargs="+", metavar="N,T,I,H", help="(32,100,64,128 1,100,64,128)")
    parser.add_argument("--quantities", nargs="+", choices=report.QUANTITIES, default=list(report.QUANTITIES))
    parser.add_argument("--rounds", type=cpu.positive, default=7, help="timed runs of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=0.05, help="of a run (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every number there")
    chosen = parser.parse_args()
    chosen.shapes = [shape for group in chosen.shapes or [SHAPES] for shape in group]
    return chosen


if __name__ == "__main__":
    sys.exit(run(options()))
