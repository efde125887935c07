"""The activations of ONNX' recurrent operators: their names, parameters and formulas."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from numlstm._validate import Array


class Activation(NamedTuple):
    """A function by its lower-case name, with the parameters that it takes."""

    name: str
    parameters: tuple[float, ...]

    def __call__(self, z: Array) -> Array:
        """Return the function of an array, in its dtype."""
        with np.errstate(over="ignore"):
            y: Array = _FUNCTIONS[self.name][0](z, *self.parameters)
        return y

    @property
    def in_numlstm(self) -> str | None:
        """Its name in numlstm, or None."""
        if self.name == "affine":
            return "linear" if self.parameters == (1.0, 0.0) else None
        if self.name == "hardsigmoid":
            return "hard_sigmoid" if np.allclose(self.parameters, (1 / 6, 0.5), rtol=1e-6) else None
        return self.name if self.name in ("tanh", "sigmoid", "relu") else None


# With the defaults of alpha and beta, where a function has them.
_FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[float, ...]]] = {
    "tanh": (np.tanh, ()),
    "relu": (lambda z: np.maximum(z, 0), ()),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), ()),
    "softsign": (lambda z: z / (1 + abs(z)), ()),
    "softplus": (lambda z: np.logaddexp(z, 0), ()),
    "affine": (lambda z, alpha, beta: alpha * z + beta, (1.0, 0.0)),
    "leakyrelu": (lambda z, alpha: np.where(z < 0, alpha * z, z), (0.01,)),
    "thresholdedrelu": (lambda z, alpha: np.where(z >= alpha, z, 0 * z), (1.0,)),
    "scaledtanh": (lambda z, alpha, beta: alpha * np.tanh(beta * z), (1.0, 1.0)),
    "hardsigmoid": (lambda z, alpha, beta: np.clip(alpha * z + beta, 0, 1), (0.2, 0.5)),
    "elu": (lambda z, alpha: np.where(z < 0, alpha * np.expm1(z), z), (1.0,)),
}


def read(names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]) -> list[Activation]:
    """Return the activations of a node; those that have parameters take them off the lists in turn.

    Raises
    ------
    ValueError
        For a function that ONNX does not have.
    """
    activations, rest = [], (list(alphas), list(betas))
    for name in names:
        if name.lower() not in _FUNCTIONS:
            raise ValueError(f"activation {name}")
        defaults = _FUNCTIONS[name.lower()][1]
        given = [values.pop(0) if values else default for default, values in zip(defaults, rest, strict=False)]
        activations.append(Activation(name.lower(), tuple(map(float, given))))
    return activations
