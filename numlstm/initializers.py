"""How parameters begin. Names and arguments are those of Keras.

An initializer is called with the shape that Keras would give the parameter, (inputs, outputs) for a matrix, and a generator.
"""

from typing import Any

import numpy as np

from . import _registry, _validate
from ._validate import Array

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "Initializer",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "Zeros",
]


class Initializer:
    """Makes the first values of a parameter."""

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Return an array of this shape, in float64."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to make values: define __call__(shape, rng)")

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an initializer like this one."""
        return _registry.config_of(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.get_config().items())})"


class Constant(Initializer):
    """The same value everywhere."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = _validate.real("value", value)

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        return np.full(shape, self.value)


class Zeros(Initializer):
    """Zero everywhere."""

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        return np.zeros(shape)


class Ones(Initializer):
    """One everywhere."""

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        return np.ones(shape)


class RandomUniform(Initializer):
    """Uniform from minval to maxval."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05) -> None:
        self.minval, self.maxval = _validate.real("minval", minval), _validate.real("maxval", maxval)
        if self.minval > self.maxval:
            raise ValueError(f"minval must be at most maxval, not {minval} with maxval={maxval}")

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        return rng.uniform(self.minval, self.maxval, shape)


class RandomNormal(Initializer):
    """Normal with this mean and standard deviation."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05) -> None:
        self.mean, self.stddev = _validate.real("mean", mean), _validate.real("stddev", stddev, least=0)

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        return rng.normal(self.mean, self.stddev, shape)


class GlorotUniform(Initializer):
    """Uniform within sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010, eq. 16)."""

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        limit = np.sqrt(6 / (shape[0] + shape[-1]))
        return rng.uniform(-limit, limit, shape)


class GlorotNormal(Initializer):
    """Normal with variance 2 / (inputs + outputs), cut at two standard deviations (Glorot and Bengio 2010, eq. 12)."""

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        values = rng.standard_normal(shape)
        while (outside := np.abs(values) > 2).any():
            values[outside] = rng.standard_normal(int(outside.sum()))
        values *= np.sqrt(2 / (shape[0] + shape[-1])) / 0.87962566103423978  # what the cut leaves of the deviation
        return values


class Orthogonal(Initializer):
    """Rows or columns, whichever are fewer, that are orthonormal times `gain` (Saxe, McClelland and Ganguli 2014)."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = _validate.real("gain", gain)

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        rows, columns = int(np.prod(shape[:-1])), shape[-1]
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q *= np.sign(np.diag(r))  # makes the distribution uniform over all such matrices
        return self.gain * (q if rows >= columns else q.T).reshape(shape)


_KNOWN: dict[str, type[Initializer]] = {
    "constant": Constant,
    "zeros": Zeros,
    "ones": Ones,
    "random_uniform": RandomUniform,
    "uniform": RandomUniform,
    "random_normal": RandomNormal,
    "normal": RandomNormal,
    "glorot_uniform": GlorotUniform,
    "glorot_normal": GlorotNormal,
    "orthogonal": Orthogonal,
}


def get(value: Any, name: str = "initializer") -> Initializer:
    """Return an initializer from its name, class or description.

    Raises
    ------
    ValueError
        For an unknown name; the message lists the known ones.
    """
    return _registry.make(name, Initializer, _KNOWN, value)
