"""The devices that CUDA kernels are tested on, and a word about a GPU that is not there."""

import functools
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `devices`, `simulator`
sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "examples"))

import devices

from numlstm.backend import cuda
from numlstm.backend.cuda.availability import missing

# The simulator with its threads in each order, and a GPU.
EVERYWHERE = ("forward", "reverse", "random", pytest.param("gpu", marks=pytest.mark.gpu))


@functools.cache
def _device(kind):
    return kind()


@pytest.fixture
def simulated():
    """The kernels in the simulator."""
    pytest.importorskip("greenlet", reason="the simulator needs greenlet: pip install 'numlstm[test]'")
    return _device(devices.Simulator)


@pytest.fixture
def order(simulated, monkeypatch):
    """Choose the order in which the simulator's threads go on, by its name."""
    import simulator

    return lambda name: monkeypatch.setattr(simulator, "ORDER", name)


@pytest.fixture(params=EVERYWHERE)
def device(request):
    """The kernels in the simulator, in each order of the threads, and again on a GPU."""
    if request.param != "gpu":
        request.getfixturevalue("order")(request.param)
        return request.getfixturevalue("simulated")
    if missing():
        pytest.skip(f"no GPU: {missing()}")
    return _device(devices.Gpu)


@pytest.fixture
def gpu(simulated, monkeypatch):
    """Let models find the simulator as their GPU, and return its memory."""

    def opened(stream=None, precision=None, sweep=None):
        tile = (8, 4, 4, 16) if precision in ("tf32", "bfloat16") else (4, 2, 2, 4)
        return cuda.Cuda(cuda.stream_address(stream), precision, sweep, simulated.recurrent.Tile(*tile))

    modules = simulated.memory, simulated.operations, simulated.recurrent
    monkeypatch.setattr(cuda, "open_device", opened)
    monkeypatch.setattr("numlstm.devices.choose", lambda device: device)
    for place in ("arrays", "steps"):
        monkeypatch.setattr(f"numlstm.backend.cuda.{place}.kernels", lambda: modules)
    return simulated.memory


@pytest.fixture(params=EVERYWHERE)
def anywhere(request):
    """Let models find the simulator as their GPU, with its threads in each order, or a GPU, which is "gpu"."""
    if request.param != "gpu":
        request.getfixturevalue("order")(request.param)
        request.getfixturevalue("gpu")
    elif missing():
        pytest.skip(f"no GPU: {missing()}")
    return request.param


def pytest_terminal_summary(terminalreporter, config):
    if "gpu" in config.option.markexpr and "not gpu" not in config.option.markexpr and missing():
        terminalreporter.write_line(f"Nothing ran on a GPU: {missing()}.", red=True)
