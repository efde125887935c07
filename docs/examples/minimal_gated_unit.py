"""A cell of one's own: the minimal gated unit of Zhou et al. 2016 ("Minimal Gated Unit for Recurrent Neural Networks").

``f = sigmoid(W_f x + U_f h + b_f)``, ``n = tanh(W_n x + b_n + f (U_n h + b_hn))``, ``h = (1 - f) h + f n``: a GRU whose two
gates are one. As in cuDNN's GRU the gate stands behind the product with h, so that a step has one product. Run as a script,
it checks the gradients, and learns to tell which of two numbers that were marked long ago was the greater one.
"""

import numpy as np

import numlstm
from numlstm import RNN, Cell, Dense, Sequential
from numlstm.lanes import sigmoid, tanh


def forward(z, states):
    """Return what backward needs, the states after the step, and h."""
    of_f, of_x, of_h = z  # n comes apart: W_n x + b_n, and U_n h + b_hn
    (h,) = states
    f = sigmoid(of_f)
    n = tanh(of_x + f * of_h)
    h = (1 - f) * h + f * n
    return (f, n, of_h), (h,), h


def backward(kept, before, after, dh, dstates):
    """Return the gradients of the sums, and of the states before the step."""
    f, n, of_h = kept
    (h,) = before
    dn = dh * f * (1 - n * n)
    df = dh * (n - h) + dn * of_h
    return (df * f * (1 - f), dn, dn * f), (dh * (1 - f),)


mgu = Cell(forward, backward, gates=("f", "n"), states=("h",), apart=1)
numlstm.cells.register("mgu", mgu)  # files of models hold this name


def main():
    """Check the cell and train a model of it."""
    for name, error in numlstm.check_cell(mgu).items():
        print(f"gradient of {name}: off by {error:.0e}")
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (4000, 30, 2))
    x[:, :, 1] = 0
    first, second = rng.integers(0, 15, len(x)), rng.integers(15, 30, len(x))
    rows = np.arange(len(x))
    x[rows, first, 1] = x[rows, second, 1] = 1
    y = x[rows, first, 0] > x[rows, second, 0]
    model = Sequential([RNN(32, mgu, seed=0), Dense(1, activation="sigmoid", seed=1)])
    model.compile(numlstm.optimizers.Adam(0.005), "binary_crossentropy", metrics=["accuracy"])
    model.fit(x[:3600], y[:3600], epochs=15, verbose=2)
    print(f"{model.evaluate(x[3600:], y[3600:], verbose=0)[1]:.0%} right on others")


if __name__ == "__main__":
    main()
