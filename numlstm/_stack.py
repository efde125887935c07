"""Layers one after the other: their shapes and their weights."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from . import _validate, devices
from ._placed import Placed
from ._validate import Array
from .layers import Embedding, Input, Layer
from .layers.base import Shape, fits, sample_shape, sizes_text


class Stack(Placed):
    """Layers of which each takes what the one before it returns, and data as the first one takes it."""

    def __init__(self, layers: Iterable[Any] | None = None, name: str | None = None, dtype: Any = "float32") -> None:
        super().__init__()
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a string, not {name!r}")
        self.name = "sequential" if name is None else name
        try:
            self.dtype = np.dtype("float32" if dtype is None else dtype)
        except TypeError:
            raise TypeError(f"dtype must be 'float32' or 'float64', not {dtype!r}") from None
        if self.dtype not in _validate.FLOATS:
            raise TypeError(f"dtype must be 'float32' or 'float64', not {dtype!r}")
        self.metadata: dict[str, Any] = {}
        self._input_shape: Shape | None = None
        self._fitted: tuple[Any, ...] = (None,)  # what is known to fit: see `_fits`
        self.batch_size: int | None = None
        if isinstance(layers, Layer):
            raise TypeError(f"layers must be a list of layers, not {type(layers).__name__}: Sequential([layer])")
        for layer in layers or ():
            self.add(layer)

    def add(self, layer: Any) -> None:
        """Append a layer; its weights are made at once if the shape of the data is known, else with the first data.

        Raises
        ------
        TypeError
            If it is not a layer.
        ValueError
            If it cannot take what the layer before it returns, or is in the model already.
        """
        if isinstance(layer, Input):
            if self.layers or self._input_shape is not None:
                raise ValueError("an Input must be the first item of a model")
            self._input_shape, self.batch_size = layer.shape, layer.batch_size
            return
        if not isinstance(layer, Layer):
            hint = ": add an instance, with its arguments" if isinstance(layer, type) else ""
            raise TypeError(f"a model is made of layers from numlstm.layers, not {layer!r}{hint}")
        if any(layer is other for other in self.layers):
            raise ValueError(f"layer {layer.name} is in the model already: make another one")
        if self.layers and self.layers[-1].return_state:
            raise ValueError(f"layer {self.layers[-1].name} returns its states: only the last layer of a model can")
        if layer.several_outputs:
            raise ValueError(
                f"layer {layer.name or type(layer).__name__} with merge_mode=None has two outputs, and a model "
                "passes on one: choose 'concat', 'sum', 'mul' or 'ave', or call the layer on arrays by itself"
            )
        if self.layers and isinstance(layer, Embedding):
            raise ValueError("an Embedding takes whole numbers, and so only the data: it must be the first layer")
        if layer.name is not None and any(other.name == layer.name for other in self.layers):
            raise ValueError(f"the model has a layer named {layer.name} already: names must differ")
        if self._gpu is not None:
            self._gpu.check([layer], self.dtype)
        first = not self.layers and self._input_shape is None
        shape = (layer.input_shape or layer.built_for) if first else self.output_shape
        if shape is not None:
            layer.build(shape, self.dtype)  # checks, before the model changes
        if first:
            self._input_shape = shape
        if layer.name is None:
            layer.name = self._free_name(type(layer).__name__.lower())
        self.layers.append(layer)
        try:
            self._settle()
        except BaseException:
            self.layers.pop()
            raise

    def _free_name(self, base: str) -> str:
        taken = {layer.name for layer in self.layers}
        return next(name for i in range(len(taken) + 1) if (name := f"{base}_{i}" if i else base) not in taken)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the weights for data of this shape, with the batch: (None, T, F) or (N, T, F)."""
        if not isinstance(input_shape, (tuple, list)) or len(input_shape) < 2:
            raise TypeError(f"input_shape must be a tuple such as (None, 60, 1), the batch first, not {input_shape!r}")
        self._build(sample_shape("input_shape", input_shape[1:]))

    def _build(self, shape: Shape) -> None:
        """Make weights that are missing, for samples of this shape; steps may differ from call to call."""
        if self._fits(shape):
            return
        if not self.layers:
            raise ValueError("the model has no layers: add some first")
        if self._input_shape is None:
            steps_first = len(shape) == 2 or isinstance(self.layers[0], Embedding)
            self._input_shape = (None, *shape[1:]) if steps_first else shape
        output = shape
        for layer in self.layers:
            layer.build(output, self.dtype)
            output = layer.output_shape(output)
        self._settle()
        self._fitted = shape, list(self.layers), self._traits(), output  # the last is the shape of an output

    def _fits(self, shape: Shape) -> bool:
        """Return whether samples of this shape are known to fit the layers as they are: the last that came did."""
        fitted = self._fitted
        return bool(shape == fitted[0] and self.layers == fitted[1] and self._traits() == fitted[2])

    def _traits(self) -> list[Any]:
        return [layer.traits(layer) for layer in self.layers]

    @property
    def built(self) -> bool:
        """Whether all weights exist."""
        return bool(self.layers) and all(layer.built for layer in self.layers)

    @property
    def input_shape(self) -> Shape | None:
        """Shape of one sample, without the batch; None before it is known."""
        return self._input_shape

    @property
    def output_shape(self) -> Shape | None:
        """Shape of one output, without the batch; None before it is known."""
        shape = self._input_shape
        for layer in self.layers if shape is not None else ():
            shape = layer.output_shape(shape)  # type: ignore[arg-type]
        return shape

    def output_shape_for(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one output from that of one sample."""
        if self._fits(shape):
            return self._fitted[3]  # type: ignore[no-any-return]
        for layer in self.layers:
            shape = layer.output_shape(shape)  # type: ignore[assignment]
        return shape

    def cast(self, name: str, x: Any, whole: bool = True) -> Array:
        """Return data as the model reads it, built for it; numbers of any kind become its dtype.

        whole : whether a large array may not be left as it is, to be converted to `x_dtype` batch by batch

        Raises
        ------
        TypeError
            If x is not numbers.
        ValueError
            If its shape is not what the model was built for.
        """
        if not self.layers:
            raise ValueError("the model has no layers: add some first")
        array: Array = x if self._gpu is None else self.adopted(name, x, self.x_dtype)
        if self._gpu is None or not devices.on_gpu(array):
            array = self.layers[0].cast(array, self.dtype, name, whole)
        if self._fits(array.shape[1:]):
            return array
        expected = self._input_shape
        if expected is not None and array.ndim == 2 and len(expected) == 2 and expected[1] == 1:
            array = array.reshape(*array.shape, 1)  # as Keras: a missing axis of one feature
        if expected is not None and not fits(array.shape[1:], expected):
            raise ValueError(f"{name} must have shape {sizes_text(expected)}, not {array.shape}")
        if array.ndim < 2:
            raise ValueError(f"{name} must have at least two axes, samples first, not shape {array.shape}")
        if 0 in array.shape[1:]:
            raise ValueError(f"{name} must have at least one step and one feature, not shape {array.shape}")
        self._build(array.shape[1:])
        return array

    @property
    def x_dtype(self) -> np.dtype[Any]:
        """The dtype of data as the first layer reads it."""
        return self.layers[0].x_dtype(self.dtype)

    # --- weights ---

    def get_weights(self) -> list[Array]:
        """Return copies of all weights in Keras' layout and order: matrices as (inputs, outputs), gates i, f, c, o."""
        return [array for layer in self.layers for array in layer.get_weights()]

    def set_weights(self, weights: Sequence[Array]) -> None:
        """Set all weights from arrays in Keras' layout and order, such as ``keras_model.get_weights()``.

        Raises
        ------
        ValueError
            If the model is not built, or for another number of arrays or other shapes.
        """
        if not self.built:
            raise ValueError("the model has no weights yet: give the first layer an input_shape, or show it data, first")
        expected = [array.shape for array in self.get_weights()]
        weights = [_validate.numeric(f"weights[{i}]", array, self.dtype) for i, array in enumerate(weights)]
        came = [array.shape for array in weights]
        if came != expected:
            raise ValueError(f"weights must have the shapes {expected}, not {came}")
        at = 0
        for layer in self.layers:
            layer.set_weights(weights[at : at + len(layer.parameters)])
            at += len(layer.parameters)

    def count_params(self) -> int:
        """Return how many numbers the weights are."""
        return sum(layer.count_params() for layer in self.layers)

    def reset_states(self) -> None:
        """Let stateful layers begin with zeros again."""
        for layer in self.layers:
            layer.reset_states()

    # --- what it is ---

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Print the layers, the shapes of what they return, and how many parameters they have."""
        rows, shape = [("Layer (type)", "Output shape", "Parameters")], self._input_shape
        for layer in self.layers:
            if shape is not None:
                shape = layer.output_shape(shape)
            text = "?" if shape is None else f"({', '.join(map(str, (self.batch_size, *shape)))})"
            count = f"{layer.count_params():,}" if layer.built else "not built"
            rows.append((f"{layer.name} ({type(layer).__name__})", text, count))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        line = "─" * (sum(widths) + 6)
        print_fn(f'Model: "{self.name}"\n{line}')
        for i, (first, second, third) in enumerate(rows):
            print_fn(
                f"{first:<{widths[0]}}   {second:<{widths[1]}}   {third:>{widths[2]}}" + (f"\n{line}" if i == 0 else "")
            )
        size = self.count_params() * self.dtype.itemsize
        print_fn(f"{line}\n{self.count_params():,} parameters, {self.dtype}, {size / 1024:,.1f} KB")

    def get_config(self) -> dict[str, Any]:
        """Return what the model is made of, as JSON can hold it; weights are not in it."""
        layers = [{"class": type(layer).__name__, "config": layer.get_config()} for layer in self.layers]
        shape = None if self._input_shape is None else list(self._input_shape)
        return {
            "name": self.name,
            "dtype": str(self.dtype),
            "input_shape": shape,
            "batch_size": self.batch_size,
            "layers": layers,
        }
