"""A GPU as a model sees it: what `numlstm.backend` is for the CPU, under the same names."""

from typing import Any, ClassVar, NamedTuple

import numpy as np

from numlstm.backend.feedforward import ACTIVATIONS
from numlstm.backend.weights import kind_of, options_of

from . import feed, feedforward, recurrent, training
from .arrays import ALIGNMENT, DeviceArray
from .moves import Moves
from .support import check_products, check_sweep
from .windows import Windows


class Cuda(Moves):
    """The GPU's side of one model: its parameters, and a stream to which all that it computes goes.

    precision : of products; sweep : of recurrent layers; None for those of kernels.cuda.recurrent's table
    tile : of products, in tests
    parameters : (P,)  all that were placed, one after the other, with gaps; starts : where each begins
    """

    VIEWS = False
    ACTIVATIONS: ClassVar[dict[str, int]] = ACTIVATIONS

    kind_of = staticmethod(kind_of)

    def __init__(
        self, stream: int | None = None, precision: str | None = None, sweep: str | None = None, tile: Any = None
    ) -> None:
        super().__init__(stream)
        self.precision, self.sweep, self.tile = precision, sweep, tile
        self.parameters: DeviceArray | None = None
        self.starts: list[int] = []

    def place(self, layers: Any) -> None:
        """Bring the parameters and states of layers here, the parameters into one array."""
        named = [(layer, name, parameter) for layer in layers for name, parameter in layer.parameters.items()]
        starts, size, dtype = [], 0, np.dtype(np.float32)
        for *_, parameter in named:
            dtype, step = parameter.dtype, ALIGNMENT // parameter.dtype.itemsize
            starts.append(size)
            size += -(-parameter.size // step) * step
        # All memory first: where there is too little, layers stay as they are.
        flat, states = self.zeros((size,), dtype), [self._states(layer) for layer in layers]
        for (layer, name, parameter), start in zip(named, starts, strict=True):
            view = flat[start : start + parameter.size].reshape(parameter.shape)
            self.convert(parameter, view)
            view.stream = self.stream  # of copies to the host, which reshape forgets
            layer.parameters[name] = view
        self.parameters, self.starts = flat, starts
        for layer, its_states in zip(layers, states, strict=True):
            layer.regroup()
            layer.states = its_states

    def _states(self, layer: Any) -> tuple[DeviceArray, ...] | None:
        """Return a layer's states here."""
        if layer.states is None:
            return None
        return tuple(self.array(state) if isinstance(state, np.ndarray) else state for state in layer.states)

    # --- layers ---

    def check(self, layers: Any, dtype: np.dtype[Any]) -> None:
        """Refuse a precision and a sweep that are not for this GPU or for some of the layers."""
        check_products(self, dtype)
        if self.sweep is not None:
            check_sweep(self, layers, dtype)

    def passes(self, name: str, dtype: np.dtype[Any], options: bool) -> Any:
        """Return the passes of a recurrent layer. name : of its cell"""
        chosen = {"sweep": self.sweep, "precision": self.precision, "options": options}
        return self.recurrent.Recurrent(name, dtype.type, tile=self.tile, stream=self.stream, **chosen)

    def Weights(self, *given: Any, **more: Any) -> recurrent.Weights:
        return recurrent.Weights(self, *given, **more)

    def Recurrent(
        self, kind: Any, sizes: Any, dtype: Any, keep: bool, take: Any, recompute: str | None = None, **more: Any
    ) -> recurrent.Recurrent | Windows:
        """As the CPU's; both ways to recompute are one here."""
        if recompute and keep:
            return Windows(self, kind, sizes, dtype, take, **more)
        return recurrent.Recurrent(self, kind, sizes, dtype, keep, take, **more)

    def Dense(self, *given: Any) -> feedforward.Dense:
        return feedforward.Dense(self, *given)

    def options_of(self, cell: Any, clip: float | None, zoneout: tuple[float, float], seed: int | None, mask: Any) -> Any:
        found = options_of(_Plain(), clip, zoneout, seed, mask).options
        if found is not None:
            cell.options = found._replace(numbers=self.array(found.numbers), key=self.array(found.key))
        return cell

    def set_key(self, options: Any, key: int) -> None:
        self.convert(np.array([key], np.uint64), options.key)

    def drop(self, key: int, rate: float, x: DeviceArray, y: DeviceArray) -> None:
        self.operations.drop(self.stream, np.uint64(key), rate, x, y)

    def gather(self, table: DeviceArray, indices: DeviceArray, y: DeviceArray) -> None:
        self.operations.gather(self.stream, table, indices, y)

    def scatter(self, indices: DeviceArray, dy: DeviceArray, dtable: DeviceArray) -> None:
        self.operations.scatter(self.stream, indices, dy, dtable)

    # --- training ---

    def Feed(self, x_dtype: Any) -> feed.Feed:
        return feed.Feed(self, x_dtype)

    def Updates(self, *given: Any) -> training.Updates:
        return training.Updates(self, *given)

    def add_loss(self, *given: Any) -> None:
        training.add_loss(self, *given)


class _Plain(NamedTuple):
    """A cell of which only the options matter."""

    options: Any = None
