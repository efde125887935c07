"""One LSTM layer, at shapes of each kind: one sequence, small batches, a large one."""

import functools

import numpy as np
import problem

import numlstm
from numlstm import functional

_ALL = numlstm.get_num_threads()
_SHAPES = ["1,100,64,128", "32,60,1,50", "32,100,64,128", "64,50,256,256"]
_TOLERANCE = {"float32": 5e-6, "float64": 1e-14}  # of y, in units of its largest value
_SLOPE_TOLERANCE = {"float32": 1e-5, "float64": 1e-8}  # of a directional derivative, in units of its terms' sizes
_STEP = 1e-5  # of the central difference: its own error is about 1e-10


@functools.cache  # asv calls setup before every sample
def _checked(shape: str, dtype: str) -> tuple[problem.Problem, functional.PackedWeights]:
    """Return data and packed weights that give right results. Both quantities ran, so all their memory is touched."""
    given = problem.problem(problem.Shape(*map(int, shape.split(","))), dtype)
    packed = functional.pack(given.weights)
    out = functional.lstm(given.x, given.weights)
    expected = problem.forward(given)["y"]
    for y in (out.y, functional.lstm(given.x, packed, tape=False).y):
        error = problem.relative_error(y, expected)
        assert error < _TOLERANCE[dtype], f"y is off by {error:.1e}"
    error = _slope_error(given, functional.lstm_backward(out.tape, given.dy))
    assert error < _SLOPE_TOLERANCE[dtype], f"a directional derivative is off by {error:.1e}"
    return given, packed


def _slope_error(given: problem.Problem, gradients) -> float:
    """Compare the gradients with a central difference of sum(y * dy) along a random direction of x and all weights."""
    rng = np.random.default_rng(problem.SEED + 1)
    arrays = [array.astype(np.float64) for array in given[:4]]
    direction = [rng.standard_normal(array.shape) for array in arrays]
    dy = given.dy.astype(np.float64)

    def loss(step: float) -> float:
        moved = (array + step * way for array, way in zip(arrays, direction, strict=True))
        return float((problem.forward(problem.Problem(*moved, dy))["y"] * dy).sum())

    slope = (loss(_STEP) - loss(-_STEP)) / (2 * _STEP)
    found = (gradients.x, gradients.W_ih, gradients.W_hh, gradients.b)
    terms = [gradient.astype(np.float64) * way for gradient, way in zip(found, direction, strict=True)]
    return abs(sum(term.sum() for term in terms) - slope) / sum(np.abs(term).sum() for term in terms)


class Layer:
    params = (_SHAPES, ["float32", "float64"], ["1", "all"])
    param_names = ("N,T,I,H", "dtype", "threads")

    def setup(self, shape: str, dtype: str, threads: str) -> None:
        if threads == "all" and _ALL == 1:
            raise NotImplementedError("one CPU: the same as with one thread")
        numlstm.set_num_threads(_ALL if threads == "all" else 1)
        self.given, self.packed = _checked(shape, dtype)

    def time_forward(self, *_: str) -> None:
        functional.lstm(self.given.x, self.packed, tape=False)

    def time_forward_backward(self, *_: str) -> None:
        out = functional.lstm(self.given.x, self.given.weights)
        functional.lstm_backward(out.tape, self.given.dy)
