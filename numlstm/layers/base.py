"""What every layer has: a configuration, parameters, and passes over batches of one shape."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from numlstm import _lengths, _random, _registry, _validate, devices, initializers
from numlstm._validate import Array
from numlstm._workspace import Take, aligned_empty
from numlstm.initializers import Initializer

if TYPE_CHECKING:
    from numlstm.passes import Run

Shape = tuple[int | None, ...]  # of one sample, without the batch; None is a size that may vary


class Setting(NamedTuple):
    """What a layer's passes are made for.

    shape, dtype : of batches (N, ..) of x; take : where memory comes from
    training : whether there will be backward passes; first : whether nobody wants the gradient of x
    ragged : whether sequences may differ in length; backend : what computes, `numlstm.backend` or one for a GPU
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    take: Take
    training: bool
    first: bool
    ragged: bool
    backend: Any


class Layer:
    """Base of all layers.

    parameters : dict
        By name, in the engine's own layout; empty until the layer is built, by the first data or an `input_shape`.
    """

    random = False  # whether training draws masks
    return_state = False
    stateful = False
    several_outputs = False  # whether a call returns more than one y
    traits: Callable[["Layer"], Any] = attrgetter("name")  # of a layer: what passes without training and shapes depend on
    _TRANSPOSED: frozenset[str] = frozenset()  # parameters that Keras keeps the other way round

    def __init__(self, name: str | None, input_shape: Sequence[int | None] | None, seed: int | None) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a string, not {name!r}")
        self.name = name
        self.input_shape = None if input_shape is None else sample_shape("input_shape", input_shape)
        self.seed = None if seed is None else _validate.whole("seed", seed, 0)
        self.parameters: dict[str, Array] = {}
        self.states: tuple[Array, ...] | None = None  # of a stateful layer, between batches
        self.built_for: Shape | None = None  # shape of the samples

    def __repr__(self) -> str:
        defaults = {name: parameter.default for name, parameter in inspect.signature(type(self)).parameters.items()}
        chosen = {name: getattr(self, name) for name in defaults}
        for name, value in list(chosen.items()):
            default = defaults[name]
            if isinstance(value, Initializer) and default is not inspect.Parameter.empty:
                default, value = _registry.describe(initializers.get(default)), _registry.describe(value)
            if value == default or (name, value) == ("activation", "linear"):
                del chosen[name]
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in chosen.items())})"

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one."""
        return _registry.config_of(self)

    # --- what a layer defines ---

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one sample of y; ValueError for an x that the layer cannot take."""
        raise NotImplementedError

    def parameter_shapes(self, input_shape: Shape) -> dict[str, tuple[int, ...]]:
        """Return the parameters' shapes by name."""
        return {}

    def _initializers(self) -> dict[str, Initializer]:
        return {}

    def begin(self, setting: Setting) -> "Run":
        """Return passes over batches of that shape."""
        raise NotImplementedError

    def plain(self) -> "Layer":
        """Return a layer with the same parameters whose passes in training are those of inference: without dropout, without
        states from batch to batch, and with all kept that a backward pass needs.
        """
        return self

    # --- parameters ---

    @property
    def built(self) -> bool:
        """Whether the parameters exist."""
        return self.built_for is not None

    def build(self, input_shape: Shape, dtype: np.dtype[Any]) -> None:
        """Make the parameters for samples of this shape; a layer that has them is left as it is, if they fit."""
        self.output_shape(input_shape)
        if self.built:
            self._check_built(input_shape, dtype)
            return
        rng = np.random.default_rng(_random.new_seed() if self.seed is None else self.seed)
        initializers = self._initializers()
        values = {}
        for name, shape in self.parameter_shapes(input_shape).items():
            outside = shape[::-1] if name in self._TRANSPOSED else shape
            value = np.asarray(initializers[name](outside, rng))
            if value.shape != outside:
                raise ValueError(f"{initializers[name]} made an array of shape {value.shape}, not {outside}, for {name}")
            values[name] = value.T if name in self._TRANSPOSED else value
        self.adopt(input_shape, dtype, values)

    def adopt(self, input_shape: Shape, dtype: np.dtype[Any], values: Mapping[str, Array]) -> None:
        """Take parameters from arrays in the engine's layout, whose shapes are right."""
        for name, value in values.items():
            self.parameters[name] = aligned_empty(value.shape, dtype)
            self.parameters[name][...] = value
        self.built_for = input_shape

    def _check_built(self, input_shape: Shape, dtype: np.dtype[Any]) -> None:
        for name, shape in self.parameter_shapes(input_shape).items():
            parameter = self.parameters[name]
            if parameter.shape != shape or parameter.dtype != dtype:
                has, needs = f"{parameter.shape} {parameter.dtype}", f"{shape} {dtype}"
                raise ValueError(f"layer {self.name or type(self).__name__}: {name} is {has}, but this input needs {needs}")

    def count_params(self) -> int:
        """Return how many numbers the parameters are; 0 before the layer is built."""
        return sum(parameter.size for parameter in self.parameters.values())

    def get_weights(self) -> list[Array]:
        """Return copies of the parameters in Keras' layout and order: matrices as (inputs, outputs), gates i, f, c, o."""
        return [self.to_keras(name, devices.host(parameter)) for name, parameter in self.parameters.items()]

    def set_weights(self, weights: Sequence[Array]) -> None:
        """Set the parameters from arrays in Keras' layout and order.

        Raises
        ------
        ValueError
            If the layer is not built yet, or for another number of arrays or other shapes; nothing is changed then.
        """
        label = self.name or type(self).__name__
        if not self.built:
            raise ValueError(f"layer {label} has no weights yet: give it an input_shape, or show it data, first")
        current = self.get_weights()
        dtype = np.dtype(np.float64) if not current else current[0].dtype
        arrays = [_validate.numeric(f"weights[{i}]", value, dtype) for i, value in enumerate(weights)]
        if [a.shape for a in arrays] != [a.shape for a in current]:
            wanted, came = [a.shape for a in current], [a.shape for a in arrays]
            raise ValueError(f"layer {label}: weights must have the shapes {wanted}, not {came}")
        for (name, parameter), value in zip(self.parameters.items(), arrays, strict=True):
            devices.write(parameter, self.from_keras(name, value))

    def to_keras(self, name: str, value: Array) -> Array:
        """Return a copy of a parameter in Keras' layout."""
        return value.T.copy() if name in self._TRANSPOSED else value.copy()

    def from_keras(self, name: str, value: Array) -> Array:
        """Return a parameter from Keras' layout."""
        return value.T if name in self._TRANSPOSED else value

    def reset_states(self) -> None:
        """Let the next batch, of any size, begin with zeros, if the layer is stateful."""
        self.states = None

    def regroup(self) -> None:
        """Hand `parameters` on to layers within this one, after they were replaced."""

    # --- calling a layer on arrays ---

    def __call__(self, x: Any, *, training: bool = False) -> Any:
        """Return y for an array x, in float32 or the dtype that the layer was built for; the layer is built if it is not.

        training : whether dropout is at work
        """
        run, array, lengths = self._begin_once(x, training)
        y = run.forward(array, _random.new_seed() if training else 0, lengths)
        return y.copy() if y is array else y

    def _begin_once(self, x: Any, training: bool, lengths: Any = None) -> "tuple[Run, Array, Array | None]":
        dtype = next((p.dtype for p in self.parameters.values()), np.dtype(np.float32))
        if not all(isinstance(parameter, np.ndarray) for parameter in self.parameters.values()):
            raise devices.DeviceError(
                f"layer {self.name} is on a GPU, where only whole models run: call predict of the model, or its to('cpu')"
            )
        array = self.cast(x, dtype)
        if 0 in array.shape[1:]:
            raise ValueError(f"x must have at least one step and one feature, not shape {array.shape}")
        if not self.built and self.input_shape is not None and not fits(array.shape[1:], self.input_shape):
            raise ValueError(f"x must have shape {sizes_text(self.input_shape)}, the layer's input_shape, not {array.shape}")
        self.build(array.shape[1:], dtype)
        given = None if lengths is None else _validate.lengths("lengths", lengths, *array.shape[:2])
        ends = self.lengths_in("x", array, given)
        if ends is not None:
            array = _lengths.cleared(array, ends)
        from numlstm import backend

        run = self.begin(Setting(array.shape, dtype, aligned_empty, training, True, ends is not None, backend))
        run.load()
        return run, array, ends

    def lengths_in(self, name: str, x: Array, lengths: Array | None) -> Array | None:
        """Return the lengths of the sequences x (N, T, ..): those that are given, unless x itself says more."""
        return lengths

    def cast(self, x: Any, dtype: np.dtype[Any], name: str = "x", whole: bool = True) -> Array:
        """Return x as the layer reads it; messages call it `name`.

        whole : whether a large array may not be left as it is, to be converted to `x_dtype` batch by batch
        """
        return _validate.numeric(name, x, dtype) if whole else _validate.by_batch(name, x, dtype)

    def x_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of x as the layer reads it, in a model of this dtype."""
        return dtype


class Input:
    """The shape of the data, as the first item of a model: ``Input(shape=(T, F))``, None for a size that may vary.

    batch_shape : (N, T, F) instead, for stateful layers; N is the number of sequences of every batch
    """

    def __init__(
        self,
        shape: Sequence[int | None] | None = None,
        batch_size: int | None = None,
        batch_shape: Sequence[int | None] | None = None,
    ) -> None:
        if (shape is None) == (batch_shape is None):
            raise ValueError("Input needs either shape=(T, F) or batch_shape=(N, T, F)")
        if batch_shape is not None:
            batch_size, *rest = batch_shape
            shape = rest
        self.shape = sample_shape("shape", shape)
        self.batch_size = None if batch_size is None else _validate.whole("batch_size", batch_size)


InputLayer = Input


def sample_shape(name: str, value: Any) -> Shape:
    """Return a shape of one sample as a tuple of positive integers and None."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} must be a tuple such as (60, 1), steps and features, not {value!r}")
    sizes = tuple(value)
    for size in sizes:
        if size is not None:
            _validate.whole(f"each size in {name}", size)
    return tuple(None if size is None else int(size) for size in sizes)


def fits(shape: tuple[int, ...], expected: Shape) -> bool:
    """Return whether a sample's shape is the expected one."""
    return len(shape) == len(expected) and all(want in (None, got) for got, want in zip(shape, expected, strict=True))


def sizes_text(shape: Shape) -> str:
    """Return the shape of a batch of such samples, for messages."""
    return f"(N, {', '.join('any' if size is None else str(size) for size in shape)})"
