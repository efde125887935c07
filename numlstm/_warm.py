"""Compiling ahead: what `numlstm warm` does.

Nothing here knows the kernels: it does what users do, on little data, so that what gets compiled is what they will need.
"""

import contextlib
import functools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _threads, _validate, functional, losses, optimizers
from .cells import spec
from .layers import GRU, LSTM, SLSTM, Dense, Dropout, Embedding, Layer, SimpleRNN
from .models import Sequential
from .progress import Tasks
from .trainer import Trainer

if TYPE_CHECKING:
    from .backend.compiled import Specialisation

__all__ = ["warm"]

# N, T, I, H: one thread; rows on several threads; hidden units on several threads.
_SHAPES = ((2, 3, 4, 5), (64, 32, 64, 64), (1, 32, 64, 512))
_SAMPLES, _STEPS, _OUTPUTS = 4, 3, 2


def warm(dtype: Any = "float32", cells: str | Sequence[str] = "lstm", verbose: int = 1) -> "list[Specialisation]":
    """Compile ahead what layers, losses, optimisers, metrics and `numlstm.functional` need, and keep it on disk.

    A process that begins later then compiles nothing, if it runs on the same kind of CPU with the same versions of numlstm,
    Numba and Python: for the build of a container's image, or CI.

    Parameters
    ----------
    dtype : "float32", "float64", or a list of both
        Of the models and arrays to come.
    cells : str or list of str
        Names of `numlstm.cells.VARIANTS`, "gru", "rnn" or "slstm".
    verbose : 0 or 1
        Whether to print what each kernel took.

    Returns
    -------
    list of namedtuples
        Of each kernel that this process has: ``kernel``, ``types`` of what it works on, ``seconds``, and ``source``:
        "compiled" or "found" on disk.

    Raises
    ------
    TypeError
        For another dtype.
    ValueError
        For an unknown cell.
    OSError
        If machine code cannot be kept: caching is switched off, or its folder cannot be written to.
    """
    dtypes = list(dict.fromkeys(_float(each) for each in (dtype if isinstance(dtype, list | tuple) else [dtype])))
    folder = _folder()
    from .backend.compiled import specialisations

    names = list(dict.fromkeys([cells] if isinstance(cells, str) else cells))
    for name in names:
        spec(name, "cells")
    tasks = [(f"{name}, {kind}", functools.partial(task, kind)) for kind in dtypes for name, task in _TASKS.items()]
    others = [(kind, name) for kind in dtypes for name in names if name != "lstm"]
    tasks += [(f"{name}, {kind}", functools.partial(_use_cell, kind, name)) for kind, name in others]
    started, printed, threads = time.perf_counter(), 0, _threads.get_num_threads()
    bar = Tasks(verbose, len(tasks))
    bar.say(f"cache folder {folder}")
    try:
        _threads.set_num_threads(max(2, threads))  # with one, the way to several would not be compiled
        for name, task in tasks:
            bar.begin(name)
            task()
            for done in specialisations[printed:]:
                bar.say(f"{done.source:<10}{done.seconds:6.3f} s  {done.kernel:<18}{done.types}")
            printed = len(specialisations)
            bar.end()
    finally:
        _threads.set_num_threads(threads)
        bar.close()
    seconds = time.perf_counter() - started
    count = {source: sum(done.source == source for done in specialisations) for source in ("compiled", "found", "not kept")}
    if count["not kept"]:
        raise OSError(f"{count['not kept']} kernels could not be written to {folder}: is its disk full?")
    size = sum(file.stat().st_size for file in folder.iterdir())
    bar.say(f"{count['compiled']} compiled, {count['found']} found, in {seconds:.1f} s; {size / 1e6:.1f} MB on disk")
    return list(specialisations)


def _float(value: Any) -> np.dtype[Any]:
    for kind in _validate.FLOATS:
        with contextlib.suppress(TypeError):
            if value is not None and np.dtype(value) == kind:  # to NumPy, None is float64
                return kind
    raise TypeError(f"dtype must be 'float32' or 'float64', not {value!r}")


def _folder() -> Path:
    """Return the folder that machine code goes to; OSError where none can be kept."""
    from .backend import compiled

    if os.environ.get(compiled.ENV_SWITCH) == "0":
        raise OSError(f"{compiled.ENV_SWITCH}=0 says to keep no machine code: unset it")
    advice = f"set {compiled.ENV_FOLDER} to a folder that can be written to"
    folder: Path | None = compiled.cache_folder()
    base: Path | None = compiled.base_folder()
    if base is None:
        raise OSError(f"there is no home folder to keep machine code in: {advice}")
    try:
        base.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder or base).close()
    except OSError as error:
        raise OSError(f"machine code cannot be kept in {folder or base} ({error.strerror}): {advice}") from None
    if folder is None:
        raise OSError(f"this process keeps no machine code in {base}, to which it could not write when it began: start anew")
    return folder


# --- what users do ---


def _call_functions(dtype: np.dtype[Any]) -> None:
    for batch, steps, inputs, hidden in _SHAPES:
        shapes = (4 * hidden, inputs), (4 * hidden, hidden), (4 * hidden,)
        weights = functional.LSTMWeights(*(np.zeros(shape, dtype) for shape in shapes))
        x = np.zeros((batch, steps, inputs), dtype)
        for recompute in (None, "gates"):
            out = functional.lstm(x, weights, recompute=recompute)
            functional.lstm_backward(out.tape, out.y)
        for compute_dtype in (None, *functional.COMPUTE_DTYPES) if dtype == np.float32 else (None,):
            functional.lstm(x, functional.pack(weights, compute_dtype=compute_dtype), tape=False)
        step, params, state = functional.jit(weights)
        step(params, state, x[0, 0], np.empty(hidden, dtype))


def _use_layers(dtype: np.dtype[Any]) -> None:
    x, y = np.zeros((_SAMPLES, _STEPS), np.int64), np.zeros((_SAMPLES, _OUTPUTS))
    layers = [Embedding(2, 4, seed=0), LSTM(4, dropout=0.1, seed=0), Dropout(0.1, seed=0), Dense(4, "relu", seed=0)]
    _train(dtype, layers, x, y, "linear", "mse")


def _use_cell(dtype: np.dtype[Any], name: str) -> None:
    kinds: dict[str, Callable[..., Layer]] = {"gru": GRU, "rnn": SimpleRNN, "slstm": SLSTM}
    layer = kinds[name](4, seed=0) if name in kinds else LSTM(4, variant=name, seed=0)
    _train(dtype, [layer], np.zeros((_SAMPLES, _STEPS, 1)), np.zeros((_SAMPLES, _OUTPUTS)), "linear", "mse")


def _use_losses(dtype: np.dtype[Any]) -> None:
    x, classes = np.zeros((_SAMPLES, _STEPS, 1)), np.arange(_SAMPLES) % _OUTPUTS
    for loss in map(losses.get, losses._KNOWN):
        y = classes if isinstance(loss, losses.SparseCategoricalCrossentropy) else np.eye(_OUTPUTS)[classes]
        _train(dtype, [LSTM(4, seed=0)], x, y, loss.fused or "linear", loss)
        loss.gradient(y, np.full((_SAMPLES, _OUTPUTS), 0.5, dtype))


def _use_optimisers(dtype: np.dtype[Any]) -> None:
    x, y = np.zeros((_SAMPLES, _STEPS, 1)), np.zeros((_SAMPLES, _OUTPUTS))
    for optimizer in (*optimizers._KNOWN, optimizers.SGD(momentum=0.9), optimizers.SGD(global_clipnorm=1.0)):
        _train(dtype, [LSTM(4, seed=0)], x, y, "linear", "mse", optimizer)


def _train(
    dtype: np.dtype[Any], layers: list[Layer], x: Any, y: Any, activation: str, loss: Any, optimizer: Any = "adam"
) -> None:
    model = Sequential([*layers, Dense(_OUTPUTS, activation, seed=0)], dtype=dtype)
    metrics = ["mae"] if activation == "linear" else ["accuracy"]
    Trainer(model, optimizer, loss, metrics, seed=0).fit(x, y, batch_size=2, verbose=0, validation_split=0.5)
    model.predict(x)


_TASKS: dict[str, Callable[[np.dtype[Any]], None]] = {
    "functions": _call_functions,
    "layers": _use_layers,
    "losses": _use_losses,
    "optimisers": _use_optimisers,
}
