"""The machine code that changes a thread's mode of floating arithmetic, for each kind of CPU."""

import re

import llvmlite.binding as llvm
import pytest
from llvmlite import ir
from numlstm.kernels.subnormal import emit_put_back, emit_zeros

X86 = r"stmxcsr", r"orl\t\$32832", r"ldmxcsr"  # reads the mode; sets bits 15 and 6; writes it
ARM = r"mrs\tx\d+, FPCR", r"orr\tx\d+, x\d+, #0x1000000\b", r"msr\tFPCR, x\d+"  # the same with bit 24
INSTRUCTIONS = {"x86_64-unknown-linux-gnu": X86, "aarch64-unknown-linux-gnu": ARM, "arm64-apple-macosx": ARM}


def _assembly(triple):
    """Return the assembly of a function that changes the mode and puts it back."""
    module = ir.Module()
    module.triple, architecture = triple, triple.split("-")[0]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), []), "change_and_put_back")
    builder = ir.IRBuilder(function.append_basic_block())
    emit_put_back(builder, architecture, emit_zeros(builder, architecture))
    builder.ret_void()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(triple).create_target_machine(opt=2)
    return machine.emit_assembly(llvm.parse_assembly(str(module)))


@pytest.mark.parametrize("triple", INSTRUCTIONS)
def test_the_mode_is_read_changed_and_put_back(triple):
    read, bits, write = INSTRUCTIONS[triple]
    assembly = _assembly(triple)
    assert re.search(f"(?s){read}.*{bits}.*{write}.*{write}", assembly), assembly
    assert len(re.findall(read, assembly)) == 1 and len(re.findall(write, assembly)) == 2, assembly


def test_elsewhere_nothing_is_changed():
    assert not re.search(r"csr|fpcr", _assembly("riscv64-unknown-linux-gnu"), re.I)
