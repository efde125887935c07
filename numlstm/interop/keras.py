"""Models from and to Keras 3: ``pip install "numlstm[keras]"``, beside a backend of Keras.

Importing this module imports Keras.
"""

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

try:
    import keras
except ModuleNotFoundError as error:
    if error.name != "keras":
        raise  # it is Keras that lacks something, such as its backend
    raise ModuleNotFoundError('numlstm.interop.keras needs Keras 3: pip install "numlstm[keras]"', name="keras") from error

from numlstm import layers
from numlstm.models import Sequential

from ._parts import refuse

__all__ = ["from_model", "to_model"]

_NAMES = ("LSTM", "GRU", "SimpleRNN", "Dense", "Dropout", "Embedding")
_KINDS: dict[type, type[layers.Layer]] = {getattr(keras.layers, name): layers.KNOWN[name] for name in _NAMES}
# Options that change neither what a layer with given weights predicts, nor how it is trained here.
_ELSEWHERE = {"name", "dtype", "seed", "unroll", "zero_output_for_mask", "quantization_config", "recompute", "input_shape"}
_TRAINING = {"trainable": True}  # what only matters in training, beside regularizers and constraints


def from_model(model: Any) -> Sequential:
    """Return a model with the layers and copies of the weights of a Keras model.

    Parameters
    ----------
    model : keras.Sequential, or a functional model that is a chain
        Of the layers that numlstm has, `TimeDistributed` around `Dense`, activations behind `Dense`, and models like it.

    Returns
    -------
    Sequential
        Layers have the names that they have in Keras. It is not compiled. A UserWarning says what numlstm leaves out that
        only matters in training, such as regularizers. With mask_zero, outputs past a sequence's end are 0, where Keras
        repeats the last.

    Raises
    ------
    TypeError
        If it is not a Keras model.
    ValueError
        If it has no weights yet, or for what numlstm does not have; the message names all of it.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a Keras model, not {type(model).__name__}")
    if not model.built:
        raise ValueError("the model has no weights yet: give it an Input, or show it data, first")
    reader = _Reader()
    reader.read_model(model)
    what = f"numlstm cannot take over the model {model.name}"
    refuse(what, reader.problems or ([] if reader.made else ["it has no layers"]))
    if reader.left_out:
        warnings.warn(f"numlstm has no {', '.join(dict.fromkeys(reader.left_out))}", stacklevel=2)
    batch, *shape = model.input_shape
    made = Sequential([layers.Input(shape, batch), *reader.made], model.name, reader.dtypes.pop())
    made.set_weights([keras.ops.convert_to_numpy(weight) for weight in model.weights])
    return made


class _Reader:
    """Makes a list of layers of those of Keras, and one of problems.

    left_out : what only matters in training
    """

    def __init__(self) -> None:
        self.made: list[layers.Layer] = []
        self.problems: list[str] = []
        self.left_out: list[str] = []
        self.dtypes: set[str] = set()

    def read_model(self, model: Any) -> None:
        """Add the layers of a model."""
        if not isinstance(model, keras.Sequential) and not _is_chain(model):
            self.problems.append(f"{model.name} ({type(model).__name__}) whose layers do not follow one another")
        for layer in getattr(model, "layers", ()):
            if isinstance(layer, keras.Model):
                self.read_model(layer)
            elif not isinstance(layer, keras.layers.InputLayer):
                self._read_layer(layer)

    def _read_layer(self, layer: Any) -> None:
        if isinstance(layer, keras.layers.TimeDistributed) and isinstance(layer.layer, keras.layers.Dense):
            layer = layer.layer
        if type(layer) is keras.layers.Bidirectional:
            ways = [self._make(way) for way in (layer.forward_layer, layer.backward_layer)]
            if None not in ways:
                self.made.append(layers.Bidirectional(ways[0], layer.merge_mode, backward_layer=ways[1], name=layer.name))  # type: ignore[arg-type]
        elif (activation := _activation(layer)) is not None:
            self._activate(activation, layer)
        else:
            made = self._make(layer)
            self.made += [] if made is None else [made]

    def _make(self, layer: Any) -> layers.Layer | None:
        kind = _KINDS.get(type(layer))
        label = f"{layer.name} ({type(layer).__name__})"
        if kind is None:
            self.problems.append(label)
            return None
        self._note_dtype(layer)
        options, foreign = _shared_options(layer.get_config(), type(layer), kind)
        training = [name for name in foreign if name in _TRAINING or name.endswith(("_regularizer", "_constraint"))]
        self.left_out += [f"{name}={foreign[name]!r} in {layer.name}" for name in training if name in _TRAINING]
        self.left_out += [f"{name} in {layer.name}" for name in training if name not in _TRAINING]
        self.problems += [f"{label} with {name}={value!r}" for name, value in foreign.items() if name not in training]
        try:
            return kind(**options, name=layer.name)
        except (TypeError, ValueError) as error:
            self.problems.append(f"{label}: {error}")
            return None

    def _activate(self, name: str, layer: Any) -> None:
        before = self.made[-1] if self.made else None
        if name == "linear":
            return
        if not isinstance(before, layers.Dense) or before.activation != "linear" or name not in layers.dense.ACTIVATIONS:
            self.problems.append(f"{layer.name} ({type(layer).__name__}) of {name}")
            return
        before.activation = name

    def _note_dtype(self, layer: Any) -> None:
        self.dtypes.add(layer.compute_dtype)
        if layer.compute_dtype not in ("float32", "float64") or len(self.dtypes) > 1:
            self.problems.append(f"{layer.name} ({type(layer).__name__}) of dtype {layer.dtype_policy.name}")


def _activation(layer: Any) -> str | None:
    """Return the name of the activation that a layer is."""
    config = layer.get_config()
    if type(layer) is keras.layers.Activation:
        return str(config["activation"])
    if type(layer) is keras.layers.Softmax and config["axis"] == -1:
        return "softmax"
    plain = {"max_value": None, "negative_slope": 0, "threshold": 0}
    if type(layer) is keras.layers.ReLU and all(config[name] == value for name, value in plain.items()):
        return "relu"
    return None


def _is_chain(model: Any) -> bool:
    """Return whether each layer takes what the one before it returns, and nothing else."""
    try:
        pairs = list(zip(model.layers[1:], model.layers, strict=False))
        return all(layer.input is before.output for layer, before in pairs) and _same(model.output, model.layers[-1].output)
    except (AttributeError, ValueError):  # several inputs, or calls
        return False


def _same(output: Any, last: Any) -> bool:
    outputs, lasts = keras.tree.flatten(output), keras.tree.flatten(last)
    return len(outputs) == len(lasts) and all(a is b for a, b in zip(outputs, lasts, strict=True))


def _shared_options(config: Mapping[str, Any], theirs: type, ours: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of a layer that another kind has too, and those that it has not, where they are not the default."""
    known, defaults = _defaults(ours), {**_TRAINING, **_defaults(theirs)}
    relevant = {k: v for k, v in config.items() if k not in _ELSEWHERE and not k.endswith("_initializer")}
    shared = {name: value for name, value in relevant.items() if name in known}
    return shared, {k: v for k, v in relevant.items() if k not in known and v != defaults.get(k)}


def _defaults(kind: type) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}


def to_model(model: Sequential) -> Any:
    """Return a `keras.Sequential` with the layers, their names, and copies of the weights of a model.

    Raises
    ------
    ValueError
        If the model has no weights yet, or has what Keras does not have; the message names all of it.
    """
    if not model.built:
        raise ValueError("the model has no weights yet: give the first layer an input_shape, or show it data, first")
    problems: list[str] = []
    made = [_to_layer(layer, str(model.dtype), problems) for layer in model.layers]
    refuse(f"Keras cannot take over the model {model.name}", problems)
    integers = isinstance(model.layers[0], layers.Embedding)
    first = keras.Input(model.input_shape, model.batch_size, "int32" if integers else str(model.dtype))
    result = keras.Sequential([first, *made], name=model.name)
    result.set_weights(model.get_weights())
    return result


def _to_layer(layer: layers.Layer, dtype: str, problems: list[str]) -> Any:
    """Return a layer of Keras, or None and a problem."""
    if isinstance(layer, layers.Bidirectional):
        ways = [_to_layer(way, dtype, problems) for way in (layer.forward_layer, layer.backward_layer)]
        options = {"merge_mode": layer.merge_mode, "name": layer.name, "dtype": dtype}
        return None if None in ways else keras.layers.Bidirectional(ways[0], backward_layer=ways[1], **options)
    theirs = {ours: kind for kind, ours in _KINDS.items()}.get(type(layer))
    label = f"{layer.name} ({type(layer).__name__})"
    if theirs is None:
        problems.append(label)
        return None
    options, foreign = _shared_options(layer.get_config(), type(layer), theirs)
    problems += [f"{label} with {name}={value!r}" for name, value in foreign.items()]
    return theirs(**options, name=layer.name, dtype=dtype)
