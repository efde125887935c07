"""A layer with made-up weights, inputs and upstream gradients, and how close is close enough."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numba
import numpy as np
import reference

import numlstm
from numlstm import functional

# Where the code under test lies: in the source tree the kernels are beside the package, installed they are inside.
PACKAGE = Path(numlstm.__file__).parent
IN_SOURCE_TREE = not (PACKAGE / "kernels").is_dir()
KERNELS = PACKAGE.parent / "kernels" if IN_SOURCE_TREE else PACKAGE / "kernels"

GRADIENTS = ("x", "W_ih", "W_hh", "b", "h0", "c0")
# Allowed error in units of eps(dtype) * (1 + |reference|), by what is compared. Outputs pass through T steps of a product
# over I + H; gradients of weights are sums over up to 4096 of those.
ALLOWED_EPS = {"y": 32, "h": 32, "c": 64, "x": 64, "W_ih": 1024, "W_hh": 1024, "b": 1024, "h0": 64, "c0": 64}


@dataclass
class Layer:
    x: Any
    W_ih: Any
    W_hh: Any
    b: Any
    h0: Any
    c0: Any
    dy: Any
    dh: Any
    dc: Any

    @classmethod
    def random(cls, rng, batch, steps, inputs, hidden, dtype=np.float32):
        """Return a layer with weights as PyTorch draws them: uniform within 1 / sqrt(H)."""
        scale = 1 / np.sqrt(hidden)
        gates = 4 * hidden
        weights = [rng.uniform(-scale, scale, shape) for shape in ((gates, inputs), (gates, hidden), (gates,))]
        states = [rng.standard_normal((batch, hidden)) for _ in range(4)]
        x, dy = rng.standard_normal((batch, steps, inputs)), rng.standard_normal((batch, steps, hidden))
        return cls(*(np.asarray(a, dtype) for a in (x, *weights, states[0], states[1], dy, states[2], states[3])))

    @property
    def weights(self):
        return functional.LSTMWeights(self.W_ih, self.W_hh, self.b)

    def as_dtype(self, dtype):
        return Layer(*(np.asarray(getattr(self, field.name), dtype) for field in fields(self)))

    def rows(self, start, stop):
        """Return the layer with rows `start` to `stop` of its batch."""
        cut = {name: getattr(self, name)[start:stop] for name in ("x", "h0", "c0", "dy", "dh", "dc")}
        return Layer(**cut, W_ih=self.W_ih, W_hh=self.W_hh, b=self.b)

    def run(self, tape=True):
        return functional.lstm(self.x, self.weights, self.h0, self.c0, tape=tape)

    def run_both(self):
        """Return (output, gradients) of one forward and backward pass."""
        out = self.run()
        return out, functional.lstm_backward(out.tape, self.dy, self.dh, self.dc)

    def reference(self):
        """Return (output, gradients) by the textbook."""
        args = self.x, self.W_ih, self.W_hh, self.b
        out = reference.lstm(*args, self.h0, self.c0)
        return out, reference.lstm_backward(*args, out.trace, self.dy, self.dh, self.dc)


def callable_from_python(part):
    """Return a function that calls a part of kernels, which Python itself cannot."""

    @numba.njit
    def call(*arguments):
        return part(*arguments)

    return call


def assert_close(name, got, want, dtype):
    """Compare with the reference, in the units of ALLOWED_EPS."""
    assert got.shape == want.shape, name
    assert got.dtype == dtype, name
    error = np.abs(got - want) / (np.finfo(dtype).eps * (1 + np.abs(want)))
    assert error.size == 0 or error.max() <= ALLOWED_EPS[name], (name, error.max())


def assert_same_bits(left, right):
    """Compare two arrays, or two tuples of arrays, bit for bit."""
    if isinstance(left, tuple):
        for a, b in zip(left, right, strict=True):
            if a is not None and not isinstance(a, functional.Tape):
                assert_same_bits(a, b)
        return
    assert left.dtype == right.dtype and left.shape == right.shape
    assert left.tobytes() == right.tobytes()
