"""Each vector width, forced in a process of its own: narrower ones on this CPU, wider ones where LLVM splits the vectors."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from numlstm.kernels import target

TESTS = Path(__file__).parents[1]
CHOSEN = [
    "package/test_functional.py::test_sizes_past_every_block_match_the_reference",
    "package/test_functional.py::test_any_thread_count_gives_the_same_bits",
    "package/test_functional.py::test_any_split_of_the_batch_gives_the_same_bits",
    *(
        f"package/test_functional.py::test_outputs_and_all_gradients_match_the_reference[{steps}-{hidden}-{dtype}]"
        for steps, hidden in ((1, 5), (3, 17), (7, 33), (2, 64))
        for dtype in ("float32", "float64")
    ),
    "package/test_jit.py::test_steps_have_the_bits_of_the_whole",
    "package/test_jit.py::test_other_cells",
    "package/test_jit_models.py::test_dense",
    "package/test_jit_models.py::test_stacks",
    "package/test_bfloat16.py::test_it_is_float32_with_rounded_weights",
    "kernels/test_elementary.py",
    "kernels/test_layout.py",
]


@pytest.mark.parametrize("width", [4, 8, 16])
def test_forced_width(width, pytestconfig):
    if width == target.WIDTH:
        pytest.skip("this is the width that all other tests run at")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", pytestconfig.inipath, *(TESTS / name for name in CHOSEN)],
        env={**os.environ, target.ENV_WIDTH: str(width)},
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout[-3000:] + done.stderr[-2000:]


def test_a_width_that_does_not_exist(run_python):
    done = run_python("import numlstm.kernels.target", check=False, NUMLSTM_VECTOR_WIDTH="5")
    assert "NUMLSTM_VECTOR_WIDTH must be 4, 8 or 16" in done.stderr
