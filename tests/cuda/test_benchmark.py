"""benchmarks/peers/gpu.py: numlstm's engines in the simulator, as they are timed, and what it says without a GPU."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"
pytestmark = pytest.mark.skipif(not PEERS.is_dir(), reason="the benchmarks are in the source tree only")
SWEEPS = ["rows float32", "registers tf32", "registers bfloat16"]
SWEEPS += [f"{sweep} {precision}" for sweep in ("steps", "graph") for precision in ("float32", "tf32", "bfloat16")]


@pytest.fixture
def bench(monkeypatch):
    for folder in (PEERS.parent, PEERS):
        monkeypatch.syspath_prepend(str(folder))
    return importlib.import_module("gpu")


@pytest.mark.parametrize(
    ("name", "quantity"),
    [(f"numlstm {name}", "forward_backward") for name in SWEEPS]
    + [("numlstm rows float32", "forward"), ("numlstm steps float32", "training_step")],
)
def test_a_sweep_is_right_as_it_is_timed(bench, gpu, simulated, monkeypatch, name, quantity):
    chosen, recurrent = bench.NAMED[name], simulated.recurrent
    passes, kind = [], recurrent.Recurrent
    monkeypatch.setattr(recurrent, "Recurrent", lambda *given, **more: passes.append(more) or kind(*given, **more))
    engines, worker, problem = (importlib.import_module(module) for module in ("gpu_engines", "worker", "problem"))
    given = problem.problem(problem.Shape(2, 2, 1, 3))
    task = getattr(engines.ENGINES[name](1), quantity)(given)
    found, expected = task.arrays(task.run()), getattr(problem, quantity)(given)
    assert found.keys() == expected.keys()
    for array, wanted in zip(found.values(), expected.values(), strict=True):
        assert problem.relative_error(array, wanted) < bench.TOLERANCES[chosen.precision]
    assert {(more["sweep"], more["precision"]) for more in passes} == {(chosen.sweep, chosen.precision)}
    if quantity == "forward":
        assert worker.time_calls(task, 0.0)["calls"] >= 3


def test_sweeps_for_few_units_are_left_out_for_more(bench, gpu):
    limited = {name: units for name, units in bench.most_units().items() if units < float("inf")}
    assert limited == {"numlstm rows float32": 128, "numlstm registers tf32": 64, "numlstm registers bfloat16": 128}


def test_without_a_gpu_one_line_says_what_is_missing():
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(PEERS / "gpu.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "device='cuda' cannot be used: " in done.stderr
