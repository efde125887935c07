"""What importing does, who imports whom, and that the kernels have one name."""

import ast
import re
import sys

import pytest
from support import IN_SOURCE_TREE, KERNELS, PACKAGE

import numlstm


def _imports(path):
    """Yield the module names that a file imports, relative ones with their dots."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            yield from (f"{base}.{alias.name}".replace("..", ".") for alias in node.names)


def test_import_is_light(run_python):
    done = run_python(
        "import sys, threading, numlstm\n"
        "heavy = {'numba', 'llvmlite', 'tqdm', 'safetensors', 'numlstm.kernels'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert threading.active_count() == 1\n"
        "numlstm.set_num_threads(2); numlstm.functional\n"
        "assert 'numba' not in sys.modules\n"
        "assert set(numlstm.__all__) <= set(dir(numlstm))"
    )
    assert done.stdout == ""


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'lsmt'"):
        numlstm.lsmt  # noqa: B018


def test_only_the_backend_imports_kernels():
    for path in PACKAGE.glob("**/*.py"):
        if path.is_relative_to(KERNELS):
            continue
        names = [name for name in _imports(path) if re.match(r"(numlstm|)\.?kernels\b", name.lstrip("."))]
        assert not names or "backend" in path.parts, (path.name, names)


def test_kernels_import_nothing_of_the_package():
    allowed = {"numpy", "numba", "llvmlite"} | set(sys.stdlib_module_names)
    for path in KERNELS.glob("**/*.py"):
        for name in _imports(path):
            own = name.startswith((".", "numlstm.kernels."))
            own |= path.name == "machine.py" and name.startswith("cuda.core")  # which numba-cuda brings along
            assert own or name == "numlstm.kernels" or name.split(".")[0] in allowed, (path.name, name)
            assert not name.startswith(".."), (path.name, name)


@pytest.mark.skipif(not IN_SOURCE_TREE, reason="an installation has no folder `kernels` beside the package")
def test_kernels_are_not_importable_under_another_name(run_python):
    done = run_python(f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import kernels", check=False)
    assert "these modules are numlstm.kernels" in done.stderr


def test_the_source_tree_adds_no_other_name(run_python):
    done = run_python(f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import numlstm.tests", check=False)
    assert "No module named 'numlstm.tests'" in done.stderr


def test_numba_without_its_compiler_is_refused(run_python):
    done = run_python(
        "import numpy, numlstm; numlstm.functional.pack((numpy.zeros((4, 1)), numpy.zeros((4, 1)), numpy.zeros(4)))",
        check=False,
        NUMBA_DISABLE_JIT="1",
    )
    assert "unset NUMBA_DISABLE_JIT" in done.stderr
