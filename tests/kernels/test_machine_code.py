"""The machine code of the tile, read for each kind of CPU: fast without a clock.

LLVM writes code for any of them on any machine. What is asked of the innermost loop: as many fused multiply-adds as there
are accumulators, nothing on the stack (a spilled accumulator costs more than the multiply-add), no call, no wider type.
"""

import platform
import re

import llvmlite.binding as llvm
import pytest
from llvmlite import ir
from numba import types
from numlstm.kernels import target
from numlstm.kernels.simd import Vec
from numlstm.kernels.tile import tile_function

CPUS = {  # name: LLVM triple, CPU, float32 lanes
    "AVX-512": ("x86_64-unknown-linux-gnu", "skylake-avx512", 16),
    "AVX2": ("x86_64-unknown-linux-gnu", "haswell", 8),
    "SSE": ("x86_64-unknown-linux-gnu", "x86-64", 4),
    "AArch64": ("aarch64-unknown-linux-gnu", "generic", 4),
}
FUSED = {"x86": r"\tvfmadd\d+p{}\b", "aar": r"\tfmla\tv\d+\.\d+{}"}
STACK = {"x86": r"%rsp", "aar": r"\bsp\b"}
VECTOR = {"x86": r"%[xyz]mm", "aar": r"\b[qv]\d+"}
LETTER = {"x86": {types.float32: "s", types.float64: "d"}, "aar": {types.float32: "s", types.float64: "d"}}
CALL = {"x86": r"\tcall", "aar": r"\tbl\b"}


@pytest.fixture(scope="module", autouse=True)
def _all_targets():
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def _tile_assembly(triple, cpu, kind, rows, vectors, paired=False, panels=1):
    """Return the assembly of one tile function, optimised as Numba does."""
    module = ir.Module()
    module.triple = triple
    tile_function(module, kind, rows, vectors, paired, panels)
    parsed = llvm.parse_assembly(str(module))
    for function in parsed.functions:
        if not function.is_declaration:
            function.linkage = "external"
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(parsed, builder)
    return machine.emit_assembly(parsed)


def _innermost_loops(assembly):
    """Return the blocks that jump back to their own label."""
    blocks = re.findall(r"^(\.?L\w+):(.*?)(?=^\.?L\w+:|\Z)", assembly, re.M | re.S)
    loops = []
    for label, text in blocks:
        back = re.search(rf"\t(?:j\w+|b\.\w+|cb\w+\t\w+,)\s+{re.escape(label)}$", text, re.M)
        if back:
            loops.append(text[: back.end()])
    return loops


@pytest.mark.parametrize(
    ("scalar", "paired"),
    [(types.float32, False), (types.float64, False), (types.float32, True)],
    ids=["float32", "float64", "bfloat16 pairs"],
)
@pytest.mark.parametrize("cpu", CPUS)
def test_innermost_loop_is_multiply_adds_in_registers(cpu, scalar, paired):
    triple, cpu_name, width = CPUS[cpu]
    family = triple[:3]
    shape = target.tile_for(width, triple.split("-")[0])
    kind = Vec(scalar, width * 32 // scalar.bitwidth)
    fused = FUSED[family].format(LETTER[family][scalar])
    if cpu == "SSE":  # has no fused ones
        fused = rf"\tmulp{LETTER[family][scalar]}\b"
    for rows, panels in [*((rows, 1) for rows in range(1, shape.rows + 1)), (1, 2)]:
        for vectors in range(shape.vectors if paired else 1, shape.vectors + 1):
            assembly = _tile_assembly(triple, cpu_name, kind, rows, vectors, paired, panels)
            loops = _innermost_loops(assembly)
            assert loops, (rows, vectors, panels)
            for loop in loops:
                steps, rest = divmod(len(re.findall(fused, loop)), rows * vectors * panels)  # LLVM unrolls the smallest
                assert rest == 0 and steps >= 1, (rows, vectors, loop)
                on_stack = [line for line in loop.splitlines() if re.search(STACK[family], line)]
                if vectors < shape.vectors:  # narrow tiles, for tails: a row pointer may be reloaded, an accumulator not
                    on_stack = [line for line in on_stack if re.search(VECTOR[family], line)]
                if paired and cpu == "AVX2" and rows == 3:  # what unpacks is one register too many; pairs are for few rows
                    on_stack = []
                assert not on_stack, (rows, vectors, on_stack)
            assert not re.search(CALL[family], assembly), (rows, vectors)
            if scalar == types.float32:
                assert not re.search(FUSED[family].format("d"), assembly), (rows, vectors)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads the names of x86 instructions")
def test_float32_kernels_compute_nothing_in_float64_and_call_no_libm(run_python):
    """The whole kernels of this machine, cell included. Uncached, for only then is there assembly to read."""
    done = run_python(
        """
import re
import numpy as np
from numlstm import functional
from numlstm.kernels import gradients, sweeps
x, w, u, b = (np.zeros(shape, np.float32) for shape in ((3, 4, 5), (28, 5), (28, 7), (28,)))
out = functional.lstm(x, (w, u, b))
functional.lstm_backward(out.tape, out.y)
for kernel in (sweeps.forward_part, sweeps.backward_part, gradients.gradient_tasks):
    (assembly,) = kernel.inspect_asm().values()
    wide = re.findall(r"\\tv?(?:add|sub|mul|div|fn?m(?:add|sub)\\d+)[ps]d\\b.*|\\tv?cvt\\w*[ps]d\\b.*", assembly)
    calls = re.findall(r"\\b(?:expf?|tanhf?|powf?|fmaf?|nearbyintf?|rintf?)\\b", assembly)
    print(len(wide), len(calls), wide[:3], calls[:3])
    assert assembly.count("vdiv") + assembly.count("divps") > 0 or kernel is gradients.gradient_tasks
    assert not wide and not calls
""",
        NUMLSTM_CACHE="0",
    )
    assert done.stdout.count("0 0 [] []") == 3, done.stdout
