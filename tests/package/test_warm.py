"""What `numlstm warm` compiles is all that later processes need."""

import re

import numpy as np
import pytest
from numlstm.kernels import losses, parallel, updates

import numlstm
from numlstm import _warm, cli

COMMAND = "import sys; from numlstm.cli import main; sys.exit(main(sys.argv[1:]))"
LINE = re.compile(r"(compiled|found) +(\d+\.\d+) s  (\w+) *(.*)")
SOURCES = """
from collections import Counter
from numlstm.kernels.compiling import specialisations
print(dict(Counter(each.source for each in specialisations)))
"""
NEWCOMER = """
import numpy as np
from numlstm import Sequential, LSTM, Dense, load
x, y = np.zeros((128, 60, 1)), np.zeros((128, 1))
model = Sequential()
model.add(LSTM(units=50, return_sequences=True, input_shape=(60, 1)))
model.add(LSTM(units=50))
model.add(Dense(units=1))
model.compile(optimizer="adam", loss="mean_squared_error")
model.fit(x, y, epochs=2, batch_size=32, validation_split=0.2, verbose=0)
model.save("model.safetensors")
load("model.safetensors").predict(x)
"""
FUNCTIONS = """
import numpy as np
from numlstm import functional
for N, T, I, H in ((1, 1, 1, 1), (64, 50, 64, 64), (1, 50, 64, 700), (3, 5, 2, 7)):
    x = np.zeros((N, T, I), np.float32)
    weights = tuple(np.zeros(shape, np.float32) for shape in ((4 * H, I), (4 * H, H), (4 * H,)))
    for array in (x, *weights):
        array.flags.writeable = False
    state = np.zeros((N, H), np.float32)
    out = functional.lstm(x, weights, state, state)
    functional.lstm_backward(out.tape, None, dh=state)
    functional.lstm(x, functional.pack(weights), tape=False)
    functional.lstm(x, weights, tape=False, compute_dtype="bfloat16")
    step, params, state = functional.jit(weights)
    step(params, state, x[0, 0].copy(), np.zeros(H, np.float32))
"""
TRAINER = """
import numpy as np
from numlstm import Dense, Dropout, LSTM, Sequential, Trainer
x, y = np.zeros((64, 40, 3)), np.zeros((64, 40, 2))
layers = LSTM(64, return_sequences=True, use_bias=False, go_backwards=True), Dropout(0.5), Dense(2, "tanh", use_bias=False)
trainer = Trainer(Sequential(layers), "rmsprop", "huber", metrics=["rmse"], clip_norm=1.0, accumulate=2)
trainer.fit(x, y, sample_weight=np.ones(64), verbose=0)
trainer = Trainer(Sequential([LSTM(64, return_sequences=True), Dense(2)]), "adamw", "mae", truncate=7)
trainer.fit(x, y, verbose=0)
trainer.evaluate(x, y)
"""


@pytest.fixture(scope="module")
def warmed(tmp_path_factory):
    """Return a cache folder, and what the command said that filled it, in a process with one thread."""
    import os
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("warm") / "cache"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", COMMAND, "warm"],
        env={**os.environ, "NUMLSTM_CACHE_DIR": str(folder), "NUMLSTM_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def _stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_it_says_what_it_did(warmed):
    folder, said = warmed
    first, *lines, last = said.splitlines()
    (inner,) = folder.iterdir()
    assert first == f"cache folder {inner}"
    kernels = [LINE.fullmatch(line) for line in lines]
    assert all(kernels), lines
    assert {kernel[1] for kernel in kernels} == {"compiled"}
    assert all(float(kernel[2]) > 0 for kernel in kernels)
    megabytes = sum(path.stat().st_size for path in inner.iterdir()) / 1e6
    pattern = rf"{len(kernels)} compiled, 0 found, in \d+\.\d s; {megabytes:.1f} MB on disk"
    assert re.fullmatch(pattern, last), last


def test_every_kernel_loss_and_rule_is_there(warmed):
    kernels = [LINE.fullmatch(line) for line in warmed[1].splitlines()[1:-1]]
    entries = {name for name, value in vars(parallel).items() if getattr(value, "__module__", "") == parallel.__name__}
    entries = {name for name in entries if hasattr(getattr(parallel, name), "py_func") and not name.startswith("_")}
    assert {"forward", "backward", "loss", "update"} <= entries
    assert entries - {kernel[3] for kernel in kernels} == {"peephole_gradients"}  # of cells that have to be asked for
    types = {(kernel[3], kernel[4].split()[0]) for kernel in kernels if kernel[4]}
    assert {("loss", kind.__name__) for kind in (*losses._ELEMENTS, *losses._ROWS)} <= types
    assert {("update", kind.__name__) for kind in updates.SLOTS} <= types


@pytest.mark.parametrize("script", [NEWCOMER, FUNCTIONS, TRAINER], ids=["newcomer", "functions", "trainer"])
def test_later_processes_compile_nothing(run_python, warmed, script):
    folder, _ = warmed
    before = _stamps(folder)
    done = run_python(script + SOURCES, NUMLSTM_CACHE_DIR=str(folder), NUMLSTM_NUM_THREADS="2")
    assert re.fullmatch(r"\{'found': \d+\}\n", done.stdout), done.stdout
    assert _stamps(folder) == before


def test_again_it_finds_all(run_python, warmed):
    folder, _ = warmed
    done = run_python(COMMAND, "warm", NUMLSTM_CACHE_DIR=str(folder))
    assert re.search(r"^0 compiled, \d+ found, in ", done.stdout, re.M), done.stdout
    quiet = run_python(COMMAND, "warm", "--quiet", "--dtype", "float32", "float32", NUMLSTM_CACHE_DIR=str(folder))
    assert quiet.stdout == quiet.stderr == ""


def test_from_python(run_python, warmed):
    folder, _ = warmed
    script = """
import numlstm
numlstm.set_num_threads(1)
numlstm.utils.set_random_seed(1)
first = numlstm.initializers.get("glorot_uniform"), numlstm.LSTM(2, input_shape=(3, 1)).get_weights()
numlstm.utils.set_random_seed(1)
kernels = numlstm.warm(verbose=0)
second = None, numlstm.LSTM(2, input_shape=(3, 1)).get_weights()
assert all((a == b).all() for a, b in zip(first[1], second[1], strict=True)), "later random numbers are others"
assert numlstm.get_num_threads() == 1
assert {kernel.source for kernel in kernels} == {"found"}
assert kernels == numlstm.warm("float32", verbose=0)
"""
    assert run_python(script, NUMLSTM_CACHE_DIR=str(folder)).stdout == ""


@pytest.mark.parametrize("dtype", ["float16", "int64", "single float", None, ["float32", 4]])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match="dtype must be 'float32' or 'float64', not "):
        numlstm.warm(dtype)


def test_both_dtypes_once_each(monkeypatch):
    done = []
    monkeypatch.setattr(_warm, "_TASKS", {"some": done.append})
    numlstm.warm([np.float64, "float32", "float64"], verbose=0)
    assert done == [np.dtype("float64"), np.dtype("float32")]


def test_without_a_cache(monkeypatch, capsys):
    monkeypatch.setenv("NUMLSTM_CACHE", "0")
    assert cli.main(["warm"]) == 2
    said = capsys.readouterr()
    assert said.err == "numlstm: NUMLSTM_CACHE=0 says to keep no machine code: unset it\n"
    assert said.out == ""


def test_a_place_that_cannot_be_written_to(run_python, tmp_path):
    (tmp_path / "file").write_text("")
    done = run_python(COMMAND, "warm", check=False, NUMLSTM_CACHE_DIR=str(tmp_path / "file" / "cache"))
    assert (done.returncode, done.stdout) == (2, "")
    begin, end = "numlstm: machine code cannot be kept in ", ": set NUMLSTM_CACHE_DIR to a folder that can be written to\n"
    assert re.fullmatch(begin + r"\S+cache \(.+\)" + end, done.stderr), done.stderr


def test_a_disk_that_fills_up(run_python, tmp_path):
    script = """
import numpy as np
from numba.core import caching
from numlstm import _warm, functional
def full(*arguments):
    raise OSError(28, "No space left on device")
caching.FunctionCache.save_overload = full
_warm._TASKS = {"pack": lambda kind: functional.pack((np.zeros((4, 1)), np.zeros((4, 1)), np.zeros(4)))}
try:
    _warm.warm(verbose=0)
except OSError as error:
    print(error)
"""
    done = run_python(script, NUMLSTM_CACHE_DIR=str(tmp_path / "cache"))
    assert re.fullmatch(r"2 kernels could not be written to \S+: is its disk full\?\n", done.stdout), done.stdout


def test_other_cells(run_python, warmed):
    folder, _ = warmed
    said = run_python(COMMAND, "warm", "--cells", "rnn", NUMLSTM_CACHE_DIR=str(folder)).stdout
    made = {line.split()[3] for line in said.splitlines() if line.startswith("compiled") and "RNN" in line}
    assert made == {"forward", "backward"}  # packing is the same for all cells
    done = run_python(COMMAND, "warm", "--cells", "lstn", check=False, NUMLSTM_CACHE_DIR=str(folder))
    assert done.returncode == 2 and "invalid choice: 'lstn'" in done.stderr and len(done.stderr.splitlines()) == 1
