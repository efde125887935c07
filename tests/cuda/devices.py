"""Where CUDA kernels can run in tests: the simulator, and a GPU where there is one."""

import importlib
import sys

import numpy as np

_PACKAGE = "numlstm.kernels.cuda"


def _modules():
    return {name: module for name, module in sys.modules.items() if f"{name}.".startswith(f"{_PACKAGE}.")}


def _parts():
    """Return modules by name."""
    names = ("recurrent", "operations", "step", "own", "scalar")
    return {name: importlib.import_module(f"{_PACKAGE}.{name}") for name in names}


class Simulator:
    """The kernels over simulator.py in the place of their machine; arrays are NumPy's."""

    def __init__(self):
        import simulated_memory
        import simulator

        before = _modules()
        for name in before:
            del sys.modules[name]
        try:
            importlib.import_module(_PACKAGE)
            sys.modules[f"{_PACKAGE}.machine"] = simulator
            vars(self).update(_parts())
            self.cuda = simulator.cuda
            self.memory = simulated_memory
        finally:
            for name in _modules():
                del sys.modules[name]
            sys.modules.update(before)

    def array(self, values):
        return np.array(values, order="C")

    def host(self, array):
        return array.copy()


class Gpu:
    """The kernels on the GPU that numba.cuda finds first."""

    def __init__(self):
        from numba import cuda

        self.cuda = cuda
        vars(self).update(_parts())

    def array(self, values):
        return self.cuda.to_device(np.ascontiguousarray(values))

    def host(self, array):
        return array.copy_to_host()
