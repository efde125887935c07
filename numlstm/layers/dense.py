"""The dense layer."""

from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from numlstm import _validate, initializers
from numlstm._validate import Array
from numlstm.initializers import Initializer

from .base import Layer, Setting, Shape, sizes_text

if TYPE_CHECKING:
    from numlstm._feedforward import DenseRun


ACTIVATIONS = ("linear", "relu", "tanh", "sigmoid", "softmax")


class DenseWeights(NamedTuple):
    """Parameters of a dense layer: W (units, features), b (units,)."""

    W: Array
    b: Array


class Dense(Layer):
    """``activation(x W' + b)`` on the last axis of x, at each step alike where x has steps.

    Parameters
    ----------
    units : int
        Number of outputs.
    activation : "linear" (None is the same), "relu", "tanh", "sigmoid" or "softmax"
    use_bias : bool
        Whether there is a bias.
    kernel_initializer, bias_initializer
        Names or `numlstm.initializers`.
    seed : int, optional
        Of the first weights.
    name : str, optional
    input_shape : (F,) or (T, F), optional
        Shape of one sample; without it, it is taken from the first data.
    """

    traits = attrgetter("units", "use_bias", "activation")
    _TRANSPOSED = frozenset({"W"})

    def __init__(
        self,
        units: int,
        activation: str | None = None,
        use_bias: bool = True,
        *,
        kernel_initializer: str | Initializer = "glorot_uniform",
        bias_initializer: str | Initializer = "zeros",
        seed: int | None = None,
        name: str | None = None,
        input_shape: Sequence[int | None] | None = None,
    ) -> None:
        super().__init__(name, input_shape, seed)
        self.units = _validate.whole("units", units)
        self.activation = "linear" if activation is None else _validate.choice("activation", activation, ACTIVATIONS)
        self.use_bias = _validate.flag("use_bias", use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer, "kernel_initializer")
        self.bias_initializer = initializers.get(bias_initializer, "bias_initializer")

    @property
    def params(self) -> DenseWeights:
        """The weights in the engine's own layout: views, not copies."""
        if not self.built:
            raise ValueError("the layer has no weights yet: give it an input_shape, or show it data, first")
        W = self.parameters["W"]
        return DenseWeights(W, self.parameters["b"] if self.use_bias else np.zeros(self.units, W.dtype))

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape or input_shape[-1] is None:
            raise ValueError(f"a Dense layer takes samples (N, F) or (N, T, F) with F known, not {sizes_text(input_shape)}")
        return (*input_shape[:-1], self.units)

    def parameter_shapes(self, input_shape: Shape) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {"W": (self.units, input_shape[-1] or 0)}
        return {**shapes, "b": (self.units,)} if self.use_bias else shapes

    def _initializers(self) -> dict[str, Initializer]:
        return {"W": self.kernel_initializer, "b": self.bias_initializer}

    def begin(self, setting: Setting) -> "DenseRun":
        from numlstm._feedforward import DenseRun

        return DenseRun(self, setting)
