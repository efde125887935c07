"""What is measured: the shapes, seeded data for them, and the textbook LSTM in plain float64 NumPy to check engines against.

Batch-first, gates in the order i, f, g, o: N sequences, T steps, I input features, H hidden units.
"""

from typing import NamedTuple

import numpy as np

SEED = 1997


class Shape(NamedTuple):
    N: int
    T: int
    I: int  # noqa: E741
    H: int

    def __str__(self) -> str:
        return ",".join(map(str, self))

    @property
    def flops(self) -> int:
        """Multiplications and additions of a forward pass's products; a backward pass takes twice as many more."""
        return 2 * self.N * self.T * 4 * self.H * (self.I + self.H)


GROUPS = {
    "one": [Shape(1, 100, 16, 32), Shape(1, 100, 64, 128), Shape(1, 100, 256, 512)],
    "small": [
        Shape(8, 100, 64, 128),
        Shape(32, 50, 16, 64),
        Shape(32, 100, 64, 128),
        Shape(32, 60, 1, 50),
        Shape(20, 20, 200, 200),
    ],
    "large": [Shape(64, 50, 256, 256), Shape(20, 35, 650, 650), Shape(64, 50, 512, 512), Shape(128, 25, 1024, 1024)],
}
SHAPES = [shape for group in GROUPS.values() for shape in group]


class Problem(NamedTuple):
    """Arrays of one dtype: x (N, T, I), W_ih (4H, I), W_hh (4H, H), b (4H,), and dy (N, T, H), the gradient of y.

    lengths : (N,) of the sequences, or None for T
    """

    x: np.ndarray
    W_ih: np.ndarray
    W_hh: np.ndarray
    b: np.ndarray
    dy: np.ndarray
    lengths: np.ndarray | None = None

    @property
    def weights(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.W_ih, self.W_hh, self.b


def problem(shape: Shape, dtype: str = "float32", ragged: bool = False) -> Problem:
    """Return the same data in every process; `ragged` with lengths evenly spread over 1..T, in any order."""
    rng = np.random.default_rng(SEED)
    N, T, I, H = shape  # noqa: E741
    bound = 1 / np.sqrt(H)
    weights = (rng.uniform(-bound, bound, size).astype(dtype) for size in [(4 * H, I), (4 * H, H), (4 * H,)])
    x, dy = (rng.standard_normal((N, T, size)).astype(dtype) for size in (I, H))
    lengths = rng.permutation(np.linspace(1, T, N).round().astype(np.int64)) if ragged else None
    return Problem(x, *weights, dy, lengths)


def _sigmoid(z):
    return 0.5 + 0.5 * np.tanh(0.5 * z)  # exp(-z) would overflow


def _sweep(x, W_ih, W_hh, b):
    """Return h and c (T+1, N, H), from the initial zeros on, and the gates (T, 4, N, H)."""
    N, T, _ = x.shape
    H = W_hh.shape[1]
    h, c, gates = np.zeros((T + 1, N, H)), np.zeros((T + 1, N, H)), np.empty((T, 4, N, H))
    projected = x @ W_ih.T + b
    for t in range(T):
        i, f, g, o = np.split(projected[:, t] + h[t] @ W_hh.T, 4, axis=1)
        gates[t] = i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
        c[t + 1] = f * c[t] + i * g
        h[t + 1] = o * np.tanh(c[t + 1])
    return h, c, gates


def _as_float64(given: Problem) -> Problem:
    return Problem(*(array.astype(np.float64) for array in given[:5]), given.lengths)


def _without_ends(given: Problem, array: np.ndarray) -> np.ndarray:
    """Return an array (N, T, K) with zeros past the lengths."""
    if given.lengths is None:
        return array
    return np.where((np.arange(array.shape[1]) < given.lengths[:, np.newaxis])[..., np.newaxis], array, 0)


def forward(given: Problem) -> dict[str, np.ndarray]:
    """Return y (N, T, H) in float64."""
    x, *weights, _, _ = _as_float64(given)
    return {"y": _without_ends(given, _sweep(x, *weights)[0][1:].swapaxes(0, 1))}


def forward_backward(given: Problem) -> dict[str, np.ndarray]:
    """Return y and the gradients of sum(y * dy) with respect to x and the weights, in float64."""
    x, W_ih, W_hh, b, dy, _ = _as_float64(given)
    dy = _without_ends(given, dy)
    h, c, gates = _sweep(x, W_ih, W_hh, b)
    N, T, I = x.shape  # noqa: E741
    H = W_hh.shape[1]
    dz = np.empty((N, T, 4 * H))
    dh, dc = np.zeros((N, H)), np.zeros((N, H))
    for t in reversed(range(T)):
        i, f, g, o = gates[t]
        tanh_c = np.tanh(c[t + 1])
        dh = dh + dy[:, t]
        dc = dc + dh * o * (1 - tanh_c**2)
        parts = dc * g * i * (1 - i), dc * c[t] * f * (1 - f), dc * i * (1 - g**2), dh * tanh_c * o * (1 - o)
        dz[:, t] = np.concatenate(parts, axis=1)
        dh, dc = dz[:, t] @ W_hh, dc * f
    rows = dz.reshape(N * T, 4 * H)
    return {
        "y": _without_ends(given, h[1:].swapaxes(0, 1)),
        "x": dz @ W_ih,
        "W_ih": rows.T @ x.reshape(N * T, I),
        "W_hh": rows.T @ h[:-1].swapaxes(0, 1).reshape(N * T, H),
        "b": rows.sum(0),
    }


def training_step(given: Problem) -> dict[str, np.ndarray]:
    """Return the weights after one step of gradient descent on sum((y - dy)**2) / 2, at rate 1, in float64."""
    wanted = given._replace(dy=forward(given)["y"] - given.dy)
    gradients = forward_backward(wanted)
    return {name: getattr(_as_float64(given), name) - gradients[name] for name in ("W_ih", "W_hh", "b")}


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference in units of the largest expected value; infinity for a wrong shape or a NaN."""
    if found.shape != expected.shape:
        return np.inf
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    return error if np.isfinite(error) else np.inf
