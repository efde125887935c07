"""numlstm beside torch.nn.LSTM (cuDNN) on an NVIDIA GPU, each in a process of its own, in interleaved rounds.

    python benchmarks/peers/gpu.py --quick                            # a smoke run: two shapes and short runs
    python benchmarks/peers/gpu.py --shapes small --json gpu.json     # groups (one, small, large, all) and shapes N,T,I,H
    python benchmarks/peers/gpu.py --engines "numlstm steps float32" "torch float32"

An engine is a sweep of numlstm's or PyTorch, and the precision of its products; sweeps that are not for so many units are
left out. Each is checked against the textbook in float64 NumPy before it is timed. Times are by the host's clock: of as many
calls as take about 10 ms, begun one after the other and waited for at the end, a call. A training step brings its loss
back, so each one is waited for; numlstm's checks its arguments, too. Times are "median / best"; a ratio is the time of
torch in the same precision over numlstm's. The share is of what a large product reaches in that precision (cuBLAS) in the
same run. The exit status is 1 if an engine's numbers are wrong, 2 if there is no GPU that numlstm and PyTorch can use.
"""

import argparse
import math
import platform
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cpu
import report
from cpu import Worker, WorkerError
from gpu_engines import CHOICES, Chosen
from problem import Shape

NAMED = {str(chosen): chosen for chosen in CHOICES}
FLOPS = {"forward": 1, "forward_backward": 3, "training_step": 3}  # in units of those of a forward pass
TITLES = {**report.QUANTITIES, "training_step": "Training step"}
# In units of the largest value. With factors rounded as tensor cores do, in float64 otherwise, the textbook is off by up to
# 6e-4 and 5e-3 at these shapes; PyTorch, on the CPU, by 1e-6 in float32 and 1.3e-2 in bfloat16.
TOLERANCES = {"float32": 1e-5, "tf32": 2e-3, "bfloat16": 3e-2}


def missing() -> str | None:
    """Return what is missing for numlstm or PyTorch to use a GPU, None if nothing is."""
    from numlstm import DeviceError
    from numlstm.devices import choose

    try:
        choose("cuda")
        import torch
    except (DeviceError, ImportError) as error:
        return str(error)
    return None if torch.cuda.is_available() else f"torch {torch.__version__} finds no CUDA: install its build for CUDA"


def most_units() -> dict[str, float]:
    """Return for up to how many units each engine is."""
    from numlstm.backend.cuda import arrays

    _, _, recurrent = arrays.kernels()
    limits = {}
    for name, chosen in NAMED.items():
        units = recurrent.SWEEPS[chosen.sweep].units if chosen.sweep else {}
        limits[name] = units.get(recurrent.rounding("float32", chosen.precision), math.inf)
    return limits


def machine_facts() -> dict[str, Any]:
    from importlib import metadata

    import torch

    names = ("numpy", "numba", "numba-cuda", "torch")
    return {
        "gpu": torch.cuda.get_device_name(),
        "compute capability": ".".join(map(str, torch.cuda.get_device_capability())),
        "cuda of torch": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in names}},
    }


def row(shape: Shape, quantity: str, found: dict[str, dict[str, Any]], peak: dict[str, float]) -> list[dict[str, Any]]:
    """Return the numbers of all engines at a shape, from the summaries of their runs."""
    rows = []
    for name, engine in found.items():
        chosen = NAMED[name]
        numbers = report.summarise(engine, FLOPS[quantity] * shape.flops, peak[chosen.precision])
        rows.append({"shape": str(shape), "quantity": quantity, "engine": name, **numbers, "ratios": {}})
        other = found.get(str(Chosen("torch", "", chosen.precision)))
        if chosen.engine == "numlstm" and other and not (other["noisy"] or engine["noisy"]):
            rows[-1]["ratios"] = {kind: other[kind] / engine[kind] for kind in ("median", "best")}
    return rows


def table(rows: list[dict[str, Any]], quantity: str) -> str:
    """Return one quantity's table in Markdown."""
    lines = ["N, T, I, H | engine | ms | GFLOP/s | share | times torch", "---|---|---:|---:|---:|---:"]
    for numbers in rows:
        if numbers["quantity"] == quantity:
            ratios = " / ".join(f"{ratio:.2f}" for ratio in numbers["ratios"].values()) or "-"
            times = f"{numbers['median_ms']:.4g} / {numbers['best_ms']:.4g}" + (" noisy" if numbers["noisy"] else "")
            rate = f"{numbers['gflops']:.4g} | {numbers['percent_of_peak']:.1f} %"
            lines.append(f"{numbers['shape'].replace(',', ', ')} | {numbers['engine']} | {times} | {rate} | {ratios}")
    return "\n".join([f"**{TITLES[quantity]}**", "", *(f"| {line} |" for line in lines)])


def prepare(workers: list[Worker], shape: Shape, quantity: str) -> tuple[list[Worker], list[str]]:
    """Return the engines that can be timed, and what is wrong with the others."""
    complaints = cpu.complaints_of(workers, shape, quantity)
    for worker in workers:
        if not complaints[worker.name]:
            try:
                worker.time(0.0)
            except WorkerError as error:
                complaints[worker.name] = [str(error)]
    right = [worker for worker in workers if not complaints[worker.name]]
    return right, [complaint for each in complaints.values() for complaint in each]


def run(options: argparse.Namespace) -> int:
    """Measure everything asked for and report it; return the exit status."""
    absent = missing()
    if absent:
        print(f"error: {absent}", file=sys.stderr)
        return 2
    workers: list[Worker] = []
    try:
        for name in ("gpu peak", *options.engines):
            workers.append(Worker(name, 1))
            if name in NAMED:
                workers[-1].tolerance = TOLERANCES[NAMED[name].precision]
        return _run(options, *workers)
    except WorkerError as error:
        sys.exit(f"error: {error}")
    finally:
        for worker in workers:
            worker.close()


def _run(options: argparse.Namespace, peak: Worker, *workers: Worker) -> int:
    measured, failures, best_peak, limits = [], [], None, most_units()
    for quantity in options.quantities:
        for shape in options.shapes:
            able = [worker for worker in workers if shape.H <= limits[worker.name]]
            right, complaints = prepare(able, shape, quantity)
            failures += [f"{quantity} {shape}: {complaint}" for complaint in complaints]
            runs, gflops = cpu.measure(right, peak, options)
            best_peak = cpu.higher(best_peak, gflops) if right else best_peak
            measured.append((shape, quantity, {name: each.summary(options.rounds) for name, each in runs.items()}))
            print(f"{quantity} {shape}: {len(right)} engines", *complaints, sep="; ", file=sys.stderr, flush=True)
    rows = [numbers for each in measured for numbers in row(*each, best_peak)]
    facts = machine_facts()
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()))
    print("peaks, GFLOP/s:", ", ".join(f"{name} {value:.0f}" for name, value in (best_peak or {}).items()))
    print("\n\n".join(["", *(table(rows, quantity) for quantity in options.quantities)]))
    return report.finish(failures, options.json, machine=facts, peaks_gflops=best_peak, results=rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=cpu.shapes, nargs="+", metavar="SHAPE", help="all (the default), one, small, ...")
    parser.add_argument("--quantities", nargs="+", choices=FLOPS, default=list(FLOPS), help="what to time (all)")
    parser.add_argument("--engines", nargs="+", choices=NAMED, default=list(NAMED), metavar="ENGINE", help=", ".join(NAMED))
    parser.add_argument("--rounds", type=cpu.positive, help="timed runs of each engine at each shape (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every number there")
    parser.add_argument("--quick", action="store_true", help="two shapes and short runs")
    options = parser.parse_args()
    cpu.settle(parser, options, [Shape(32, 60, 1, 50), Shape(64, 50, 256, 256)], rounds=(2, 5), seconds=(0.03, 0.1))
    return options


if __name__ == "__main__":
    sys.exit(run(_options()))
