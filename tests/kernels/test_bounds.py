"""No kernel reads or writes past an array: every array a call touches lies against a page that must not be touched."""

import sys

import pytest

GUARD = """
import ctypes, mmap, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
import numlstm
from numlstm.backend import runtime

runtime.WORTH_A_THREAD = 1

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
PAGE, READ_WRITE, ANONYMOUS = mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
at_end = True

def guarded(shape, dtype, fill=np.nan):
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    pages = max(1, -(-size // PAGE))
    start = libc.mmap(None, (pages + 2) * PAGE, READ_WRITE, ANONYMOUS, -1, 0)
    assert libc.mprotect(start, PAGE, 0) == 0 and libc.mprotect(start + (pages + 1) * PAGE, PAGE, 0) == 0
    start += PAGE + (pages * PAGE - size if at_end else 0)
    array = np.frombuffer((ctypes.c_char * size).from_address(start), dtype).reshape(shape)
    array[...] = fill if dtype.kind == "f" else 0x7FC07FC0  # two NaN of bfloat16
    return array

class Guarded:
    def __getattr__(self, name): return getattr(np, name)
    def empty(self, shape, dtype=float): return guarded(shape, dtype)
    def zeros(self, shape, dtype): return guarded(shape, dtype, 0)
    def empty_like(self, a): return guarded(a.shape, a.dtype)
    def zeros_like(self, a): return guarded(a.shape, a.dtype, 0)
"""

ONE_LAYER = """
from support import GRADIENTS, Layer, assert_close
from numlstm import functional
from numlstm.functional import _backward, _forward, _packing

_forward.np = _backward.np = Guarded()
_forward.borrow, _forward.give_back = lambda key: None, lambda key, holder: None
_backward.give_back = _forward.give_back
_forward.aligned_empty = _packing.aligned_empty = guarded
rng = np.random.default_rng(0)
sizes = [(1, 1, 1, 1), (2, 1, 1, 3), (1, 2, 700, 20), (1, 2, 3, 130), (7, 5, 17, 16), (9, 3, 16, 64), (1, 300, 3, 7)]
sizes += [tuple(rng.integers(1, (14, 9, 70, 140))) for _ in range(12)]
for size in sizes:
    for dtype in (np.float32, np.float64):
        for at_end in (True, False):
            numlstm.set_num_threads(int(rng.integers(1, 5)))
            layer = Layer.random(rng, *map(int, size), dtype=dtype)
            moved = Layer(**{name: guarded(a.shape, a.dtype, a) for name, a in vars(layer).items()})
            packed = functional.lstm(moved.x, functional.pack(moved.weights), moved.h0, moved.c0, tape=False)
            out, gradients = moved.run_both()
            assert (packed.y == out.y).all()
            for kind in (None, "bfloat16") if dtype == np.float32 else (None,):
                want = functional.lstm(moved.x, moved.weights, moved.h0, moved.c0, tape=False, compute_dtype=kind).y
                step, params, _ = functional.jit(moved.weights, compute_dtype=kind)
                state = functional.LSTMState(*(guarded(a.shape[1:], dtype, a[0]) for a in (layer.h0, layer.c0)))
                x, y = (guarded((1, a.shape[2]), dtype)[0] for a in (layer.x, want))
                for t in range(size[1]):
                    x[...] = layer.x[0, t]
                    step(params, state, x, y)
                    assert (y == want[0, t]).all()
            lengths = rng.integers(1, size[1], size[0], endpoint=True)
            recompute = (None, "gates", "states")[int(rng.integers(3))]
            for row, length in enumerate(lengths): moved.x[row, length:] = moved.dy[row, length:] = np.nan
            ragged = functional.lstm(moved.x, moved.weights, moved.h0, moved.c0, lengths, recompute=recompute)
            packed = functional.lstm(moved.x, functional.pack(moved.weights), moved.h0, moved.c0, lengths, tape=False)
            ends = functional.lstm_backward(ragged.tape, moved.dy, moved.dh, moved.dc)
            assert (packed.y == ragged.y).all() and all(np.isfinite(g).all() for g in ends)
            for row, length in enumerate(lengths): assert (ragged.y[row, :length] == out.y[row, :length]).all()
            want, want_gradients = layer.reference()
            assert_close("y", out.y, want.y, dtype)
            for name in GRADIENTS:
                assert_close(name, getattr(gradients, name), getattr(want_gradients, name), dtype)
print("done")
"""

WHOLE_MODEL = """
from numlstm import Dense, Dropout, Embedding, LSTM, Sequential, Trainer, backend, layers
from numlstm.backend import feed, training

class GuardedArena:
    taken = nbytes = 0
    def restart(self): pass
    def take(self, shape, dtype): return guarded(shape, dtype)

places = [
    (feed, "np"), (training, "np"), (backend, "Arena"), *((m, "aligned_empty") for m in (feed, training, layers.base))
]
guards = [Guarded(), Guarded(), GuardedArena, guarded, guarded, guarded]
before = [getattr(*place) for place in places]

def put(values):
    for place, value in zip(places, values, strict=True): setattr(*place, value)
rng = np.random.default_rng(0)

def train(size, dtype, activation, loss, optimizer):
    N, T, I, H, C = size
    models = [
        ([LSTM(H, return_sequences=True, seed=1, dropout=0.2, recurrent_dropout=0.3,
               zoneout=(0.1, 0.2), cell_clip=1.0), Dropout(0.1), LSTM(C, seed=2),
          Dense(C, activation, seed=3)], (N, C)),
        ([Embedding(I, H, seed=1), LSTM(H, seed=2, return_sequences=True, go_backwards=True), Dense(C, "tanh", seed=3),
          Dense(C, activation, seed=4)], (N, T, C)),
    ]
    rng = np.random.default_rng(1)
    for stack, shape in models:
        x = rng.integers(0, I, (N, T)) if isinstance(stack[0], Embedding) else rng.standard_normal((N, T, I))
        y = rng.integers(0, C, shape[:-1]) if "sparse" in loss else rng.uniform(0.1, 0.9, shape)
        model = Sequential(stack, dtype=dtype)
        trainer = Trainer(model, optimizer, loss, ["mse"] if "sparse" not in loss else ["accuracy"], clip_norm=1.0, seed=1)
        losses = [trainer.step(x, y) for _ in range(2)]
        yield np.concatenate([losses, list(trainer.evaluate(x, y).values()), *(w.ravel() for w in model.get_weights())])

cases = [("linear", "mse", "adam"), ("relu", "mae", "sgd"), ("softmax", "sparse_categorical_crossentropy", "rmsprop"),
         ("sigmoid", "binary_crossentropy", "adamw"), ("softmax", "mse", "adam"), ("linear", "huber", "sgd")]
for number, (activation, loss, optimizer) in enumerate(cases):
    for dtype in ("float32", "float64"):
        size = (1, 1, 1, 1, 1 if number == 0 else 2) if number < 2 else tuple(map(int, rng.integers(2, (9, 6, 20, 40, 90))))
        numlstm.set_num_threads(int(rng.integers(1, 4)))
        put(before)
        want = list(train(size, dtype, activation, loss, optimizer))
        for at_end in (True, False):
            put(guards)
            for got, expected in zip(train(size, dtype, activation, loss, optimizer), want, strict=True):
                np.testing.assert_array_equal(got, expected)
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages by calls of Linux's C library")
@pytest.mark.parametrize("script", [ONE_LAYER, WHOLE_MODEL], ids=["one layer", "whole model"])
@pytest.mark.parametrize("width", ["native", "8", "4"])
def test_nothing_past_an_array_is_touched(run_python, width, script, request):
    chosen = {} if width == "native" else {"NUMLSTM_VECTOR_WIDTH": width}
    assert run_python(GUARD + script, request.path.parents[1], **chosen).stdout == "done\n"
