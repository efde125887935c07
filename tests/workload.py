"""Work of every kind, small and yet dealt out to threads, for processes of their own: `run` gives the same bits anywhere."""

import ctypes
import hashlib
import importlib.metadata
import os

import numpy as np

if os.environ.get("NUMBA_THREADING_LAYER") == "tbb":  # pip's is where the loader does not look
    library = next(file for file in importlib.metadata.files("tbb") or () if file.name in {"libtbb.so.12", "tbb12.dll"})
    ctypes.CDLL(str(library.locate()))

import numlstm
from numlstm import LSTM, Dense, Sequential, Trainer, functional
from numlstm.backend import runtime

runtime.WORTH_A_THREAD = 1
THREADS = 4
numlstm.set_num_threads(THREADS)

_rng = np.random.default_rng(0)
ROWS, UNITS = (
    (16, 9, 5, 20),
    (1, 30, 16, 128),
)  # N, T, I, H of a layer of which rows are dealt out, and one of which units are


def _layer(N, T, I, H, dtype):  # noqa: E741
    shapes = (N, T, I), (4 * H, I), (4 * H, H), (4 * H,)
    x, *weights = (_rng.uniform(-0.1, 0.1, shape).astype(dtype) for shape in shapes)
    return x, tuple(weights)


_layers = [_layer(*sizes, dtype) for sizes in (ROWS, UNITS) for dtype in (np.float32, np.float64)]
_x, _y = _rng.standard_normal((20, 7, 3)), _rng.standard_normal((20, 2))


def _model(dtype):
    return Sequential([LSTM(10, return_sequences=True, seed=1), LSTM(7, seed=2), Dense(2, "tanh", seed=3)], dtype=dtype)


_shared = _model("float32")
_shared.predict(_x)


def run(_=None):
    """Return a hash of what functions, a shared model's predictions and a training come to; the argument is for pools."""
    found = [_shared.predict(_x)]
    for x, weights in _layers:
        out = functional.lstm(x, weights)
        found += [*out[:3], *functional.lstm_backward(out.tape, out.y, out.h, out.c)]
    for dtype in ("float32", "float64"):
        model = _model(dtype)
        Trainer(model, "adam", "mse", clip_norm=1.0, seed=4).fit(_x, _y, batch_size=8, epochs=2, verbose=0)
        found += [model.predict(_x), *model.get_weights()]
    return hashlib.sha256(b"".join(array.tobytes() for array in found)).hexdigest()


def has_layer():
    """Return whether the process runs the threading layer that its environment asks for; if not, say so."""
    import numba

    try:
        numba.get_num_threads()
        return numba.threading_layer() == os.environ["NUMBA_THREADING_LAYER"]
    except ValueError as error:
        print(error)
        return False
