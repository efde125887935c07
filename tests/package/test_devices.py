"""What is missing for a GPU is said, whatever it is; and no GPU's software is imported unless one is asked for."""

import importlib
import importlib.util
from types import SimpleNamespace

import pytest

from numlstm import DeviceError, devices
from numlstm.backend.cuda import availability


@pytest.fixture
def machine(monkeypatch):
    """Return a function that makes up what a machine has; an exception stands for what fails with it."""

    def make(package=True, runtime=None, driver=(9, 0)):
        def import_module(name):
            assert name == "numba.cuda"
            if runtime is not None:
                raise runtime
            return SimpleNamespace(get_current_device=current)

        def current():
            if isinstance(driver, Exception):
                raise driver
            return SimpleNamespace(compute_capability=driver)

        monkeypatch.setattr(importlib.util, "find_spec", lambda name: package or None)
        monkeypatch.setattr(importlib, "import_module", import_module)
        availability.missing.cache_clear()

    yield make
    monkeypatch.undo()
    availability.missing.cache_clear()


NO_DRIVER = ImportError("Error at driver init: \n\nCUDA driver library cannot be found.\nEnsure that ..")
NO_GPU = ImportError("Error at driver init: CUDA_ERROR_NO_DEVICE (100)")
OTHER = ImportError("Error at driver init: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)")


@pytest.mark.parametrize(
    ("has", "says"),
    [
        ({"package": False}, r"numba-cuda is not installed; pip install 'numlstm\[cuda13\]', or .* 'numlstm\[cuda12\]'"),
        ({"runtime": RuntimeError("Failure finding\n libcudart.so")}, "runtime is not installed .*libcudart.so.*pip"),
        ({"driver": NO_DRIVER}, "NVIDIA's driver is not installed"),
        ({"driver": NO_GPU}, "the driver finds no NVIDIA GPU$"),
        ({"driver": OTHER}, "the driver does not start .*DRIVER_MISMATCH"),
        ({"driver": (7, 0)}, "the GPU has compute capability 7.0, and 7.5 is the least"),
    ],
    ids=["numba-cuda", "runtime", "driver", "GPU", "something else", "a newer GPU"],
)
def test_what_is_missing_is_said_and_how_to_get_it(machine, has, says):
    machine(**has)
    with pytest.raises(DeviceError, match=says):
        devices.choose("cuda")
    assert devices.choose("auto") == devices.choose("cpu") == "cpu"


def test_a_gpu_that_is_there_is_chosen(machine):
    machine()
    assert devices.choose("auto") == devices.choose("cuda") == "cuda"


def test_a_hidden_gpu_is_said_to_be(machine, monkeypatch):
    machine(driver=NO_GPU)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(DeviceError, match="finds no NVIDIA GPU: CUDA_VISIBLE_DEVICES is ''"):
        devices.choose("cuda")


def test_devices_have_three_names():
    with pytest.raises(ValueError, match="device must be one of 'cpu', 'cuda', 'auto', not 'gpu': did you mean 'cuda'"):
        devices.choose("gpu")


def test_a_model_on_the_cpu_imports_no_gpu_software(run_python):
    run_python(
        "import sys, numpy, numlstm\n"
        "from numlstm import LSTM, Dense, Sequential\n"
        "model = Sequential([LSTM(2), Dense(1)])\n"
        "model.compile('adam', 'mse')\n"
        "model.fit(numpy.zeros((4, 2, 1)), numpy.zeros((4, 1)), verbose=0)\n"
        "model.predict(numpy.zeros((4, 2, 1)))\n"
        "found = [name for name in sys.modules if name.startswith(('numba.cuda', 'numba_cuda', 'numlstm.kernels.cuda'))]\n"
        "assert not found, found"
    )
