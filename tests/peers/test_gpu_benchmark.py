"""benchmarks/peers/gpu.py from its options to its report, with PyTorch's engines on the CPU in the place of a GPU."""

import importlib
import json
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"
pytestmark = pytest.mark.skipif(not PEERS.is_dir(), reason="the benchmarks are in the source tree only")


@pytest.fixture
def bench(monkeypatch):
    """Return the benchmark with its engines in this process, PyTorch's on the CPU."""
    for folder in (PEERS.parent, PEERS):
        monkeypatch.syspath_prepend(str(folder))
    gpu, engines, worker = (importlib.import_module(name) for name in ("gpu", "gpu_engines", "worker"))
    monkeypatch.setattr(engines.Torch, "device", "cpu")
    monkeypatch.setattr(engines.Peak, "device", "cpu")
    monkeypatch.setattr(engines.Peak, "side", 32)

    class InThisProcess(gpu.Worker):
        def __init__(self, engine, threads):
            self.name, self.idle, self._server = engine, [], worker.Server(engine, threads)

        def ask(self, op, **request):
            return {**getattr(self._server, op)(**request), "idle": 0.0}

        def close(self):
            pass

    monkeypatch.setattr(gpu, "Worker", InThisProcess)
    monkeypatch.setattr(gpu, "missing", lambda: None)
    monkeypatch.setattr(gpu, "machine_facts", lambda: {"gpu": "none"})
    monkeypatch.setattr(gpu, "most_units", lambda: dict.fromkeys(gpu.NAMED, 4))
    threads = torch.get_num_threads()
    yield gpu
    torch.set_num_threads(threads)


def test_a_run(bench, monkeypatch, tmp_path, capsys):
    out = tmp_path / "gpu.json"
    command = ["gpu.py", "--quick", "--rounds", "1", "--shapes", "3,5,2,4", "--json", str(out), "--engines"]
    monkeypatch.setattr(sys, "argv", [*command, "torch float32", "torch bfloat16"])
    monkeypatch.setitem(bench.TOLERANCES, "bfloat16", 0.0)
    assert bench.run(bench._options()) == 1
    found = json.loads(out.read_text())
    assert [(row["quantity"], row["engine"]) for row in found["results"]] == [(q, "torch float32") for q in bench.FLOPS]
    assert set(found["peaks_gflops"]) == {"float32", "tf32", "bfloat16"}
    assert all("torch bfloat16: " in failure and "off by" in failure for failure in found["failures"])
    assert len(found["failures"]) >= len(bench.FLOPS)
    assert capsys.readouterr().out.count("| 3, 5, 2, 4 | torch float32 | ") == len(bench.FLOPS)


def test_ratios_are_those_to_pytorch_in_the_same_precision(bench):
    runs = {"runs": 2, "repeated": 0, "noisy": False}
    found = {
        name: {"median": median, "best": 1.0, **runs}
        for name, median in (("numlstm steps tf32", 2.0), ("numlstm rows float32", 4.0), ("torch tf32", 3.0))
    }
    shape = bench.Shape(1, 1, 1, 1)
    rows = bench.row(shape, "training_step", found, {"float32": 1e-9, "tf32": 1e-9})
    assert [row["ratios"] for row in rows] == [{"median": 1.5, "best": 1.0}, {}, {}]
    assert rows[0]["percent_of_peak"] == pytest.approx(100 * 3 * shape.flops / 2)
