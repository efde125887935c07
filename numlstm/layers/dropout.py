"""The dropout layer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from numlstm import _validate

from .base import Layer, Setting, Shape

if TYPE_CHECKING:
    from numlstm._feedforward import DropoutRun


class Dropout(Layer):
    """In training, zeros in random places, and all others divided by ``1 - rate``; nothing else (Srivastava et al. 2014).

    Parameters
    ----------
    rate : float in 0..1
        Fraction of the numbers that become zero.
    seed : int, optional
        Of the masks; without it they follow from the training's seed.
    name : str, optional
    input_shape : tuple, optional
        Shape of one sample; without it, it is taken from the first data.
    """

    def __init__(
        self,
        rate: float,
        seed: int | None = None,
        *,
        name: str | None = None,
        input_shape: Sequence[int | None] | None = None,
    ) -> None:
        super().__init__(name, input_shape, seed)
        self.rate = _validate.real("rate", rate, least=0, below=1)
        self.random = self.rate > 0

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def plain(self) -> "Dropout":
        return Dropout(0.0)

    def begin(self, setting: Setting) -> "DropoutRun":
        from numlstm._feedforward import DropoutRun

        return DropoutRun(self.rate, setting)
