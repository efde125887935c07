"""The embedding layer."""

from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from numlstm import _validate, initializers
from numlstm._validate import Array
from numlstm.initializers import Initializer

from .base import Layer, Setting, Shape

if TYPE_CHECKING:
    from numlstm._feedforward import EmbeddingRun


class Embedding(Layer):
    """A vector for each whole number: (N, T) becomes (N, T, output_dim).

    Parameters
    ----------
    input_dim : int
        How many numbers there are; they are 0 to ``input_dim - 1``.
    output_dim : int
        Length of a vector.
    embeddings_initializer
        Name or `numlstm.initializers`.
    mask_zero : bool
        Whether 0 stands for no number at all, with which sequences are filled up at their ends: their lengths follow from it
        as if they were given, the vectors there are 0, and that of number 0 is not trained. A 0 before another number, or a
        sequence of nothing else, is refused.
    seed : int, optional
        Of the first vectors.
    name : str, optional
    input_shape : (T,), optional
        Shape of one sample, None for any T; without it, it is taken from the first data.
    """

    traits = attrgetter("output_dim", "mask_zero")

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: str | Initializer = "uniform",
        *,
        mask_zero: bool = False,
        seed: int | None = None,
        name: str | None = None,
        input_shape: Sequence[int | None] | None = None,
    ) -> None:
        super().__init__(name, input_shape, seed)
        self.input_dim = _validate.whole("input_dim", input_dim)
        self.output_dim = _validate.whole("output_dim", output_dim)
        self.embeddings_initializer = initializers.get(embeddings_initializer, "embeddings_initializer")
        self.mask_zero = _validate.flag("mask_zero", mask_zero)

    def output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape, self.output_dim)

    def parameter_shapes(self, input_shape: Shape) -> dict[str, tuple[int, ...]]:
        return {"table": (self.input_dim, self.output_dim)}

    def _initializers(self) -> dict[str, Initializer]:
        return {"table": self.embeddings_initializer}

    def begin(self, setting: Setting) -> "EmbeddingRun":
        from numlstm._feedforward import EmbeddingRun

        return EmbeddingRun(self, setting)

    def lengths_in(self, name: str, x: Array, lengths: Array | None) -> Array | None:
        if not self.mask_zero:
            return lengths
        counts = np.count_nonzero(x, axis=1)
        ends = counts if lengths is None else lengths
        inside = (x == 0).argmax(axis=1)
        wrong = (counts == 0) | (inside < ends) & (counts < x.shape[1])
        if wrong.any():
            row = int(np.argmax(wrong))
            what = (
                f"{name}[{row}, {inside[row]}] is 0 within a sequence" if counts[row] else f"{name}[{row}] is 0 throughout"
            )
            raise ValueError(f"{what}: with mask_zero=True 0 only fills up what is left after a sequence's last number")
        return ends

    def cast(self, x: Any, dtype: np.dtype[Any], name: str = "x", whole: bool = True) -> Array:
        return _validate.indices(name, x, self.input_dim)

    def x_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return np.dtype(np.int64)
