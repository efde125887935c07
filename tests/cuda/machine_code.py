"""Every CUDA kernel compiled to final machine code, as a launch would, on a machine that needs no GPU and no driver.

``python tests/cuda/machine_code.py`` prints what each takes on each architecture, and fails if one needs a stack or spills
registers that ALLOWED does not list. It patches private names of numba-cuda: constraints.txt pins the version that has them.
"""

import contextlib
import multiprocessing
import os
import re
import sys
import time
from types import SimpleNamespace

import numpy as np
from numba.cuda import codegen, dispatcher, types
from numba.cuda.cudadrv import driver
from numlstm.kernels import cells
from numlstm.kernels.cuda import recurrent

from numlstm import cells as specs

ARCHITECTURES = ((8, 0), (9, 0), (10, 0))
CELLS = {**specs.VARIANTS, "gru": specs.GRUSpec(), "rnn": specs.RNNSpec()}
# All kernels of these, for all architectures; the others differ from them in what holds a part of the cell.
WHOLE = {"peephole": ("float32", "float64"), "gru": ("float32", "float64"), "rnn": ("float32",)}
OF_THE_CELL = ("forward_step", "backward_step", "peephole_sums")
ALLOWED: dict[str, str] = {}  # kernel: why it may have a stack


@contextlib.contextmanager
def pretend(capability):
    """Let numba-cuda believe that there is a device of a compute capability, and tell what its assembler says."""
    device = SimpleNamespace(compute_capability=capability, id=0)
    linker = driver._Linker
    options = linker._get_linker_options

    def verbose(self, ptx):
        found = options(self, ptx)
        found.verbose, found.ptxas_options = True, ["-v"]
        return found

    places = (
        (linker, "_get_linker_options", verbose),
        (dispatcher, "get_current_device", lambda: device),
        (codegen.devices, "get_context", lambda *arguments: SimpleNamespace(device=device)),
    )
    before = [getattr(place, name) for place, name, _ in places]
    for place, name, value in places:
        setattr(place, name, value)
    try:
        yield
    finally:
        for (place, name, _), value in zip(places, before, strict=True):
            setattr(place, name, value)


def build(kernel, arguments, capability):
    """Return the registers and bytes that a kernel takes for arguments of some types."""
    with pretend(capability):
        compiled = dispatcher._Kernel(kernel.py_func, arguments, **kernel.targetoptions)
        library = compiled._codelibrary
        library.get_cubin()
        log = library.get_linkerinfo(library._ensure_cc(None))
    part = log[log.index(f"Compiling entry function '{compiled.entry_name}'") :].split("Compiling entry", 2)[1]
    patterns = {"registers": r"Used (\d+) reg", "stack": r"(\d+) bytes stack", "spills": r"(\d+) bytes spill st"}
    found = {name: int(re.search(pattern, part)[1]) for name, pattern in patterns.items()}
    shared = re.search(r"(\d+) bytes smem", part)
    return {**found, "shared": int(shared[1]) if shared else 0}


def _tuple(kind, *items):
    return types.NamedTuple(items, kind)


def signatures(name, dtype):
    """Return the types of the arguments of a cell's kernels."""
    number, kind = types.float64 if dtype == np.float64 else types.float32, cells.cell_type(name)

    def array(dimensions, element=number):
        return types.Array(element, dimensions, "C")

    cell = _tuple(kind, array(2), array(2), array(2), array(1))
    layer = _tuple(recurrent.Layer, array(3), array(2), array(1, types.int64), array(3), array(2), array(4), array(4))
    inner = _tuple(recurrent.Gradients, array(3), array(2), array(3), array(3))
    outer = _tuple(recurrent.WeightGradients, array(2), array(2), array(2), array(1), array(4))
    t, add = types.int64, types.boolean
    return recurrent.Kernels(
        input_product=(cell, layer),
        forward_step=(cell, layer, t),
        backward_step=(cell, layer, inner, t),
        input_gradient=(cell, layer, inner),
        weight_products=(layer, outer),
        weight_sums=(outer, add),
        peephole_sums=(layer, outer, add),
    )


def everything():
    """Yield (cell, dtype, kernel, architecture) of all that is compiled."""
    for name, spec in CELLS.items():
        for dtype in WHOLE.get(name, ("float32",)):
            for kernel in recurrent.Kernels._fields if name in WHOLE else OF_THE_CELL:
                if kernel != "peephole_sums" or len(cells.cell_type(spec.name).peepholes):
                    for architecture in ARCHITECTURES if name in WHOLE else ARCHITECTURES[1:2]:
                        yield name, dtype, kernel, architecture


def resources(case):
    """Return what `build` finds for one of `everything`."""
    name, dtype, kernel, architecture = case
    of_cell = CELLS[name].name, getattr(np, dtype)
    return build(getattr(recurrent.kernels(*of_cell), kernel), getattr(signatures(*of_cell), kernel), architecture)


def main():
    failed, started, cases = 0, time.perf_counter(), list(everything())
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for (name, dtype, kernel, (major, minor)), found in zip(
            cases, pool.imap(resources, cases, len(ARCHITECTURES)), strict=True
        ):
            bad = (found["stack"] or found["spills"]) and kernel not in ALLOWED
            failed += bool(bad)
            figures = ", ".join(f"{value} {key}" for key, value in found.items())
            print(f"{name:9} {dtype} {kernel:15} sm_{major}{minor:<2} {figures}{'  FAILED' if bad else ''}")
    print(f"{len(cases)} kernels compiled in {time.perf_counter() - started:.0f} s, {failed} with a stack or spills")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
