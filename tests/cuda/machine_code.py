"""Every CUDA kernel compiled to final machine code, as a launch would, on a machine that needs no GPU and no driver.

``python tests/cuda/machine_code.py`` prints what each takes on each architecture, and fails if one needs a stack or spills
registers and ALLOWED does not say why, needs too much shared memory, or if a layer in float32 computes in double precision.
Arguments choose the cells, "steps" in a user's kernel, or "others", the kernels outside of layers; with ``--all`` come all
dtypes, precisions and options of every cell, which takes a quarter of an hour. It patches private names of numba-cuda:
constraints.txt pins the version with them.
"""

import contextlib
import multiprocessing
import os
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numba import cuda
from numba.cuda import codegen, dispatcher, types
from numba.cuda.cudadrv import driver
from numlstm.kernels import losses as cpu_losses
from numlstm.kernels import options
from numlstm.kernels import updates as rules
from numlstm.kernels.cuda import elementwise, losses, moves, recurrent, registers, step, updates
from numlstm.kernels.cuda.tensor import FORMATS

from numlstm import cells as specs
from numlstm import functional, jitting
from numlstm.backend import kind_of

sys.path.insert(0, str(Path(__file__).parents[1]))  # `own_cells`

from own_cells import OWN

ARCHITECTURES = ((7, 5), (8, 0), (9, 0), (10, 0))
TENSOR_CORES = ARCHITECTURES[1:]  # that have what products in FORMATS are made of
CELLS = {**specs.VARIANTS, "gru": specs.GRUSpec(), "rnn": specs.RNNSpec(), "slstm": specs.SLSTMSpec()}
CELLS |= {name: OWN[name] for name in ("mgu", "own slstm")}
CELLS |= {
    "gru before": specs.GRUSpec(reset_after=False),
    "projected": specs.CellSpec(peepholes=True, projected=True),
    "gru normed": specs.GRUSpec(reset_after=False, layer_norm=True),
    "ltms normed": specs.CellSpec(gate_sets=2, layer_norm=True),
}
# What a layer may be asked for: a dtype, a precision of products in float32, or options in float32. In float32 all kernels
# of every cell are compiled; of the rest what these cells take, from which others differ only in what holds a part of one.
EXACT = "float32", "float64"
ASKED = (*EXACT, *FORMATS, "options")
FURTHER = {
    "peephole": ASKED[1:],
    "gru": ("float64", "options"),
    "ltms": ("tf32",),  # of all that needs the most registers
    "projected": ("float64", "options"),
    "gru normed": ("float64", "options"),
}
SWEPT = "forward_registers", "backward_registers"  # in bfloat16 of every cell that has them
IN_REGISTERS = {"bfloat16": 128, "tf32": 64}  # units, for which the kernels of that sweep are made
OF_THE_CELL = (
    "forward_step",
    "second_step",
    "normalise_step",
    "normalise_second_step",
    "backward_step",
    "second_backward_step",
    "peephole_sums",
)
OF_THE_PRECISION = ("input_product", "forward_step", "backward_step", "input_gradient", "weight_products")
SOME = {
    **dict.fromkeys(FORMATS, OF_THE_PRECISION),
    "options": (*OF_THE_CELL, "forward_rows", "backward_rows", "weight_products"),
}
SHARED = 48 << 10  # bytes that a kernel may have without asking for more
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


def build(kernel, arguments, architectures):
    """Return registers, bytes and instructions in double precision of a kernel for arguments of some types, by architecture.

    What comes before the assembler is the same for all architectures, and done once.
    """
    with pretend(architectures[0]):
        compiled = dispatcher._Kernel(kernel.py_func, arguments, **kernel.targetoptions)
    return [_assembled(compiled, architecture) for architecture in architectures]


def _assembled(compiled, architecture):
    with pretend(architecture):
        library = compiled._codelibrary
        code = library._ensure_cc(None)
        library.get_cubin(code)
        log, assembly = library.get_linkerinfo(code), library.get_asm_str(code)
    part = log[log.index(f"Compiling entry function '{compiled.entry_name}'") :].split("Compiling entry", 2)[1]
    patterns = {"registers": r"Used (\d+) reg", "stack": r"(\d+) bytes stack", "spills": r"(\d+) bytes spill st"}
    found = {name: int(re.search(pattern, part)[1]) for name, pattern in patterns.items()}
    shared = re.search(r"(\d+) bytes smem", part)
    doubles = len(re.findall(r"\.f64\s", assembly))
    return {**found, "shared": int(shared[1]) if shared else 0, "double precision": doubles}


def _tuple(kind, *items):
    return types.BaseTuple.from_types(items, kind)


def _array(dimensions, element):
    return types.Array(element, dimensions, "C")


def options_type(dtype):
    vector, matrix = (_array(d, getattr(types, dtype)) for d in (1, 2))
    return _tuple(options.Options, vector, _array(1, types.uint64), matrix)


def of_layers(name, asked):
    """Return the kernels of a cell and the types of their arguments, by name."""
    precision, with_options = asked if asked in FORMATS else None, asked == "options"
    dtype = asked if asked in EXACT else "float32"
    number, kind = getattr(types, dtype), kind_of(CELLS[name].name).cell

    def arrays(*dimensions):
        return [_array(d, number) for d in dimensions]

    nothing, second, normed = types.Tuple(()), bool(kind.second_product), bool(kind.base)

    def apart(there, *dimensions):
        return arrays(*dimensions) if there else [nothing] * len(dimensions)

    of_options = options_type(dtype) if with_options else nothing
    cell = _tuple(recurrent.Weights, *arrays(2, 2, 2, 1), of_options, *apart(second, 2))
    x, h0, *written = arrays(3, 2, 3, 2, 4, 4)
    lengths, t, outside = _array(1, types.int64), types.int64, types.UniTuple(types.int64, 2)
    layer = _tuple(recurrent.Layer, x, h0, lengths, *written, *apart(second, 3), *apart(normed, 3), outside)
    inner = _tuple(recurrent.Gradients, *arrays(3, 2, 3, 3), *apart(second, 2), *apart(normed, 3))
    outer = _tuple(recurrent.WeightGradients, *arrays(2, 2, 2, 1, 4), *apart(second, 2, 4))
    signatures = recurrent.Kernels(
        input_product=(cell, layer),
        forward_step=(cell, layer, t),
        forward_rows=(cell, layer),
        normalise_step=(cell, layer, t),
        second_step=(cell, layer, t),
        normalise_second_step=(cell, layer, t),
        backward_step=(cell, layer, inner, t),
        backward_rows=(cell, layer, inner),
        differentiate_second_step=(cell, layer, inner, t),
        second_backward_step=(cell, layer, inner, t),
        differentiate_step=(cell, layer, inner, t),
        input_gradient=(cell, layer, inner),
        weight_products=(of_options, layer, outer),
        weight_sums=(outer, types.boolean),
        second_products=(layer, outer),
        second_sums=(outer[6], outer[5], types.boolean),
        norm_sums=(lengths, inner[5], outer[2], types.boolean),
        peephole_sums=(layer, outer, types.boolean),
    )
    kernels = recurrent.kernels(
        CELLS[name].name, getattr(np, dtype), *recurrent.tiles(CELLS[name].name, precision), options=with_options
    )
    found = {
        kernel: (getattr(kernels, kernel), getattr(signatures, kernel))
        for kernel in SOME.get(asked, recurrent.Kernels._fields)
        if getattr(kernels, kernel)
    }
    if precision and recurrent.is_plain(kind) and registers.holds(kind):
        swept = recurrent.in_registers(CELLS[name].name, precision, IN_REGISTERS[precision])
        found |= zip(SWEPT, zip(swept, ((cell, layer), (cell, layer, inner)), strict=True), strict=True)
    return found


def of_operations(dtype):
    """Return all other kernels and the types of their arguments, by name."""
    number, double, whole = getattr(types, dtype), types.float64, types.int64
    vector, matrix, cube, indices = (_array(d, n) for d, n in ((1, number), (2, number), (3, number), (1, whole)))
    numbers, scalar = _array(1, double), getattr(np, dtype)
    found = {
        "drop": (elementwise.drop(scalar), (types.uint64, double, cube, cube)),
        "gather": (elementwise.gather(), (matrix, indices, matrix)),
        "scatter": (elementwise.scatter(), (indices, matrix, matrix)),
        "activate": (elementwise.activate(scalar), (whole, matrix, matrix)),
        "differentiate": (elementwise.differentiate(scalar), (whole, matrix, matrix, matrix)),
        "fill": (moves.fill(scalar), (vector, double)),
        "copy_rows": (moves.copy_rows(), (*[vector, whole, whole] * 2, whole, whole)),
        "steps": (moves.steps(scalar), (cube, indices, indices, types.boolean, cube)),
        "within": (moves.within(), (indices, whole, whole, indices)),
        "combine": (moves.combine(scalar), (whole, vector, vector, vector)),
        "scale": (moves.scale(), (vector, numbers)),
        "add_total": (moves.add_total(), (numbers, numbers, whole)),
        "sums": (updates.sums(False), (vector, numbers)),
        "squares": (updates.sums(True), (vector, numbers)),
        "clip": (updates.clip(), (numbers, double, numbers)),
    }
    for rule in rules.SLOTS:
        of_rule = _tuple(rule, *[double] * len(rule._fields))
        arguments = (of_rule, vector, vector, matrix, numbers, double)
        found[rule.__name__] = updates.update(rule, scalar), arguments
    for kind in (*cpu_losses._ELEMENTS, *cpu_losses._ROWS):
        fields = {"levels": numbers, "unit": whole}
        of_loss = _tuple(kind, *[fields.get(field, double) for field in kind._fields])
        for classes in (False, True) if kind in cpu_losses._ROWS else (False,):
            target = indices if classes else matrix
            arguments = (of_loss, matrix, target, vector, indices, double, matrix, numbers)
            found[kind.__name__ + " of classes" * classes] = losses.loss(kind, classes), arguments
    return found


def of_steps(dtype):
    """Return kernels that call the steps of models, and the types of their arguments, by name."""
    number, whole = getattr(types, dtype), types.int64
    vector, matrix, cube = (_array(d, number) for d in (1, 2, 3))

    def typed(nested):
        return _tuple(type(nested), *map(typed, nested)) if isinstance(nested, tuple) else matrix

    def recurrent(name, with_options):
        name, kind = CELLS[name].name, kind_of(CELLS[name].name).cell
        second, of_options = bool(kind.second_product), options_type(dtype) if with_options else types.Tuple(())
        weights = cube, cube, matrix, vector, of_options, matrix if second else types.Tuple(())
        names = kind.state_names if kind.h_is_state else ("h", *kind.state_names)
        work, products = (1, 1) if second else (), int(kind.base is not None and not second)
        part = jitting.Part(None, 1, names, (1,) * len(names), work, products)
        state = typed(jitting.zero_state(part, np.dtype(dtype)))
        return step.Recurrent(name, with_options), _tuple(step.Weights, *weights), state

    def dense(activation):
        return step.Activated(activation), _tuple(step.Dense, matrix, vector), types.Tuple(())

    models = {name: [recurrent(name, True)] for name in CELLS}
    embedding = step.Gathered(0), _tuple(step.Embedding, matrix), types.Tuple(())
    models["layers"] = [embedding, recurrent("lstm", False), recurrent("gru", False), dense("tanh"), dense("softmax")]
    found = {}
    for name, layers in models.items():
        codes, params, of_layers = map(tuple, zip(*layers, strict=True))
        params = _tuple(step.Chain, types.BaseTuple.from_types(params))
        between = types.BaseTuple.from_types([matrix] * (len(layers) - 1))
        state = _tuple(jitting.ModelState, types.BaseTuple.from_types(of_layers), between)
        found[name] = users(step.step(codes)), (params, state, _array(2, whole) if name == "layers" else cube, cube)
    return found


def users(step):
    """Return a kernel as a user writes it."""

    @cuda.jit
    def run(params, states, x, y):
        n = cuda.grid(1)
        if n < y.shape[1]:
            for t in range(y.shape[0]):
                step(params, functional.SequenceState(states, n), x[t, n], y[t, n])

    return run


def kernels_of(name, dtype):
    """Return kernels by name: "steps", "others", or those of a cell."""
    apart = {"steps": of_steps, "others": of_operations}
    return apart[name](dtype) if name in apart else of_layers(name, dtype)


def everything(names, further):
    """Yield (cell, "steps" or "others", what is asked for, kernel) of all that is compiled. further : as FURTHER, by name"""
    for name in names:
        for asked in ("float32", *further(name)):
            yield from ((name, asked, kernel) for kernel in kernels_of(name, asked))
        if name in CELLS and "bfloat16" not in further(name):
            yield from ((name, "bfloat16", kernel) for kernel in kernels_of(name, "bfloat16") if kernel in SWEPT)


def all_further(name):
    """Return all that a name can be asked for beyond float32."""
    return ASKED[1:] if name in CELLS else EXACT[1:]


def resources(case):
    """Return (architecture, what `build` finds) for one of `everything`."""
    name, asked, kernel = case
    architectures = TENSOR_CORES if asked in FORMATS else ARCHITECTURES
    return list(zip(architectures, build(*kernels_of(name, asked)[kernel], architectures), strict=True))


def main(arguments):
    failed, builds, started = 0, 0, time.perf_counter()
    names = [name for name in arguments if name != "--all"] or ["others", "steps", *CELLS]
    further = all_further if "--all" in arguments else lambda name: FURTHER.get(name, ())
    cases = list(everything(names, further))
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for (name, asked, kernel), found in zip(cases, pool.imap(resources, cases, 2), strict=True):
            for (major, minor), figures in found:
                bad = ((figures["stack"] or figures["spills"]) and kernel not in ALLOWED) or figures["shared"] > SHARED
                bad |= name != "others" and asked != "float64" and figures["double precision"]
                failed, builds = failed + bool(bad), builds + 1
                text = ", ".join(f"{value} {key}" for key, value in figures.items())
                print(f"{name:11} {asked:8} {kernel:25} sm_{major}{minor:<2} {text}{'  FAILED' if bad else ''}")
    print(f"{len(cases)} kernels, {builds} builds in {time.perf_counter() - started:.0f} s, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
