"""A parallel region costs as much to compile as a whole kernel: there is one."""

import ast
import importlib

from numba.core.dispatcher import Dispatcher
from support import KERNELS


def test_there_is_one_parallel_region():
    found = set()
    for path in KERNELS.glob("*.py"):
        module = importlib.import_module(f"numlstm.kernels.{path.stem}" if path.stem != "__init__" else "numlstm.kernels")
        for value in vars(module).values():
            if isinstance(value, Dispatcher) and value.targetoptions.get("parallel"):
                found.add(value)
    assert [region.__name__ for region in found] == ["_run_parts"]
    (region,) = found
    assert len(region.signatures) <= 1


def test_no_other_code_asks_for_threads():
    """Where `prange` stands, and `parallel` among a decorator's options: once, in one module."""
    loops, options = [], []
    for path in KERNELS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                loops += [
                    path.name for name in ast.walk(node.func) if getattr(name, "id", getattr(name, "attr", "")) == "prange"
                ]
                options += [path.name for keyword in node.keywords if keyword.arg == "parallel"]
    assert loops == options == ["parallel.py"]
