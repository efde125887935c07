"""What the numbers are called, and the Markdown tables made of them."""

import json
import math
import os
import platform
import time
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

CAP = 10  # of one ratio in a mean, so that no single shape carries it
MARKS = "<!-- peers table: start -->", "<!-- peers table: end -->"
QUANTITIES = {"forward": "Forward", "forward_backward": "Forward + backward"}
_TITLES = {
    "forward": "packed weights, no tape; the others without gradients",
    "forward_backward": "weights as they are, with the gradients of x, both weights and the bias",
}


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def available_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpus_in_use(seconds: float) -> float:
    """Return how many CPUs were busy on average while this program rested; 0 where the system does not tell."""
    stat = Path("/proc/stat")
    if not stat.is_file():
        return 0.0

    def ticks():
        user, nice, system, idle, *_ = map(int, stat.read_text().split(maxsplit=6)[1:5])
        return np.array([user + nice + system, idle])

    before = ticks()
    time.sleep(seconds)
    busy, idle = ticks() - before
    return float(busy / max(1, busy + idle) * (os.cpu_count() or 1))


def machine_facts(threads: int) -> dict[str, Any]:
    from numlstm.kernels import target

    names = ("numpy", "numba", "llvmlite", "torch", "onnxruntime")
    installed = {dist.metadata["Name"].lower() for dist in metadata.distributions()}
    return {
        "cpu": cpu_model(),
        "cpus available": available_cpus(),
        "threads": threads,
        "vector bits": target.WIDTH * 32,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) if name in installed else "absent" for name in names},
        },
    }


def header(facts: dict[str, Any], peak: float) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{facts['cpu']}, {facts['threads']} threads of {facts['cpus available']} CPUs, {facts['vector bits']}-bit vectors, "
        f"{facts['date']}\n{versions}\nfloat32; FMA peak measured in this run: {peak:.0f} GFLOP/s"
    )


def summarise(engine: dict[str, Any], flops: float, peak: float) -> dict[str, Any]:
    """Return one engine's numbers at one shape, from the seconds of its accepted runs."""
    rate = 1e-9 * flops / engine["median"]
    return {
        "best_ms": 1e3 * engine["best"],
        "median_ms": 1e3 * engine["median"],
        "gflops": rate,
        "percent_of_peak": 100 * rate / peak,
        **{name: engine[name] for name in ("runs", "repeated", "noisy")},
    }


def ratios(engines: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return how many times faster than the best peer numlstm is; empty where one of them is absent or noisy."""
    peers = [numbers for name, numbers in engines.items() if name != "numlstm"]
    if not peers or any(numbers["noisy"] for numbers in engines.values()):
        return {}
    own = engines["numlstm"]
    return {f"ratio_{kind}": min(p[f"{kind}_ms"] for p in peers) / own[f"{kind}_ms"] for kind in ("median", "best")}


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(math.log(min(value, CAP)) for value in values) / len(values))


def mean_ratios(results: list[dict[str, Any]], quantity: str) -> dict[str, Any]:
    rows = [row["ratios"] for row in results if row["quantity"] == quantity and row["ratios"]]
    if not rows:
        return {}
    return {"shapes": len(rows), **{name: geometric_mean([row[name] for row in rows]) for name in rows[0]}}


def _milliseconds(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.2f}" if value < 100 else f"{value:.1f}"


def _cells(row: dict[str, Any], names: list[str]) -> list[str]:
    cells = [row["shape"].replace(",", ", ")]
    for name in names:
        numbers = row["engines"].get(name)
        if not numbers or numbers["noisy"]:
            cells += ["noisy" if numbers else "-", ""]
            continue
        times = f"{_milliseconds(numbers['median_ms'])} / {_milliseconds(numbers['best_ms'])}"
        cells += [times, f"{numbers['gflops']:.0f} / {numbers['percent_of_peak']:.0f} %"]
    found = row["ratios"]
    return [*cells, f"{found['ratio_median']:.2f} / {found['ratio_best']:.2f}" if found else "-"]


def table(results: list[dict[str, Any]], quantity: str) -> str:
    """Return one quantity's table; an empty string if it was not measured."""
    rows = [row for row in results if row["quantity"] == quantity]
    if not rows:
        return ""
    names = [name for name in ("numlstm", "torch", "onnxruntime") if any(name in row["engines"] for row in rows)]
    head = ["N, T, I, H", *(cell for name in names for cell in (f"{name} ms", "GF/s")), "ratio"]
    lines = [head, *(_cells(row, names) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    aligned = [" | ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    rule = "|".join("-" * (width + 1) + ":" for width in widths)
    mean = mean_ratios(results, quantity)
    foot = ""
    if mean:
        foot = f"\n\nGeometric mean of {mean['shapes']} ratios: {mean['ratio_median']:.2f} / {mean['ratio_best']:.2f}"
    title = f"**{QUANTITIES[quantity]}**: {_TITLES[quantity]}"
    return "\n".join([title, "", f"| {aligned[0]} |", f"|{rule}|", *(f"| {line} |" for line in aligned[1:])]) + foot


def finish(failures: list[str], path: Path | None, **content: Any) -> int:
    """Print what was wrong, write every number to a JSON file if there is a path, and return the exit status."""
    for failure in failures:
        print(f"FAILED {failure}")
    if path:
        path.write_text(json.dumps({**content, "failures": failures}, indent=1) + "\n")
    return 1 if failures else 0


def update_readme(path: Path, text: str) -> None:
    """Put `text` between the two marks."""
    before, found, rest = path.read_text().partition(MARKS[0])
    _, found_end, after = rest.partition(MARKS[1])
    if not (found and found_end):
        raise SystemExit(f"error: {path.name} does not hold the marks {MARKS[0]} and {MARKS[1]}")
    path.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")
