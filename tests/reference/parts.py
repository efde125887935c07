"""What cells are made of: activations, layer normalisation and products with weights, each with its adjoint."""

import numpy as np


def sigmoid(x):
    return np.where(x < 0, np.exp(-np.abs(x)), 1.0) / (1.0 + np.exp(-np.abs(x)))


# Name: the function, and its slope as a function of what came out. At a kink the slope is 0, as in Keras and PyTorch.
ACTIVATIONS = {
    "sigmoid": (sigmoid, lambda a: a * (1 - a)),
    "hard_sigmoid": (lambda x: np.clip(x / 6 + 0.5, 0, 1), lambda a: ((a > 0) & (a < 1)) / 6),
    "tanh": (np.tanh, lambda a: 1 - a**2),
    "relu": (lambda x: np.maximum(x, 0), lambda a: (a > 0) * 1.0),
    "linear": (lambda x: x, np.ones_like),
}


def activate(name, x):
    return ACTIVATIONS[name][0](x)


def slope(name, a):
    """Return the derivative of an activation where its value is a."""
    return ACTIVATIONS[name][1](a)


def normalise(z, epsilon):
    """Return each row of z less its mean, over its standard deviation (biased, epsilon added to the variance)."""
    centred = z - z.mean(axis=1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + epsilon)


def normalise_backward(z, dn, epsilon):
    n = normalise(z, epsilon)
    mean = lambda a: a.mean(axis=1, keepdims=True)  # noqa: E731
    return (dn - mean(dn) - n * mean(n * dn)) / np.sqrt(z.var(axis=1, keepdims=True) + epsilon)


class Weights:
    """Weights by name, and their gradients, to which every adjoint adds.

    The product with a matrix W_k is layer-normalised where there is a weight gain_k: gain_k * normalise(v W_k^T).
    """

    def __init__(self, given, epsilon):
        given = given if isinstance(given, dict) else vars(given)
        self.value = {name: np.asarray(value, np.float64) for name, value in given.items()}
        self.gradient = {name: np.zeros_like(value) for name, value in self.value.items()}
        self.epsilon = epsilon

    def __contains__(self, name):
        return name in self.value

    def __getitem__(self, name):
        return self.value[name]

    def add(self, name, gradient, rows=slice(None)):
        """Add to a gradient, summed over the batch where the weight has one axis: to these of its rows."""
        self.gradient[name][rows] += gradient

    def product(self, name, v, rows=slice(None)):
        """Return v W^T with these rows of W."""
        return self.with_gain(name, v @ self[name][rows].T, rows)

    def product_backward(self, name, v, dz, rows=slice(None)):
        """Return dv, and add to the gradients of W and its gain."""
        dz = self.with_gain_backward(name, v @ self[name][rows].T, dz, rows)
        self.add(name, dz.T @ v, rows)
        return dz @ self[name][rows]

    def with_gain(self, name, z, rows=slice(None)):
        """Return the product z with these rows of a matrix, normalised where the matrix has a gain."""
        gain = _gain(name)
        return self[gain][rows] * normalise(z, self.epsilon) if gain in self else z

    def with_gain_backward(self, name, z, dz, rows=slice(None)):
        """Return the gradient of z from that of what `with_gain` makes of it, and add to that of the gain."""
        gain = _gain(name)
        if gain not in self:
            return dz
        self.add(gain, (dz * normalise(z, self.epsilon)).sum(axis=0), rows)
        return normalise_backward(z, dz * self[gain][rows], self.epsilon)


def _gain(name):
    return "gain_" + name.removeprefix("W_")
