"""Whole models with made-up data: their loss, its gradient, and that gradient again from central differences."""

import numpy as np

from numlstm import Sequential, Trainer

DRAW = 3  # numbers the masks of dropout, so that each pass has the same
STEP = 1e-5  # of the differences, whose error is about STEP**2 + eps / STEP, some 1e-10, of the largest gradient


class Problem:
    """A model, a loss and a batch; `gradient` and `parameters` are flat, one parameter after the other."""

    def __init__(self, layers, loss, x, y, weights=None, dtype="float64", lengths=None):
        self.model = Sequential(layers, dtype=dtype)
        self.trainer = Trainer(self.model, "sgd", loss, seed=5)
        self.data = self.trainer._data(x, y, weights, lengths)
        self._step = self.trainer._ready()
        self.parameters = [p.reshape(-1) for layer in self.model.layers for p in layer.parameters.values()]

    def loss(self):
        """Return the loss with dropout at work, after a pass that leaves its gradient in `gradient`."""
        meter = self._step.meter()
        self._step.learn(self.data, DRAW, False, meter)
        return meter.loss()

    def gradient(self):
        self.loss()
        return self._step.updates.gradient.copy()

    def differences(self):
        return np.concatenate([central_differences(self.loss, parameter) for parameter in self.parameters])


def central_differences(function, array):
    """Return the gradient of a function of nothing, which reads `array`, with respect to its elements."""
    gradient, flat = np.empty(array.size), array.reshape(-1)
    for i, value in enumerate(flat.copy()):
        flat[i] = value + STEP
        above = function()
        flat[i] = value - STEP
        gradient[i] = (above - function()) / (2 * STEP)
        flat[i] = value
    return gradient.reshape(array.shape)


def relative_error(got, want):
    """Return the largest difference, as a part of the largest element."""
    assert got.shape == want.shape
    return np.abs(got - want).max() / np.abs(want).max()
