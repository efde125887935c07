"""Models and trainers as files: what `files.write` is given, and how it is taken apart again."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _checkpoint, _registry, devices, files, layers, losses, optimizers
from ._validate import Array
from .files import FileFormatError
from .models import Sequential

if TYPE_CHECKING:
    from .trainer import Trainer

Path = str | os.PathLike[str]


def save(model: Sequential, path: Path, trainer: "Trainer | None" = None) -> None:
    """Write a model, and with a trainer all that training goes on from."""
    if not model.built or model.input_shape is None:
        raise ValueError("the model has no weights yet: give the first layer an input_shape, or show it data, first")
    header: dict[str, Any] = {"model": _config(model), "metadata": model.metadata, "compile": _compiled(model)}
    tensors = {
        f"layers.{i}.{name}": devices.host(parameter)
        for i, layer in enumerate(model.layers)
        for name, parameter in layer.parameters.items()
    }
    if trainer is not None:
        header["training"], state = _checkpoint.state(trainer)
        tensors.update({f"training.{name}": array for name, array in state.items()})
    try:
        files.write(path, tensors, header)
    except TypeError as error:
        raise ValueError(f"the model's metadata or a layer's config is nothing that JSON can hold: {error}") from None


def _config(model: Sequential) -> dict[str, Any]:
    """Return the model's config, as far as `load` can make layers from it again."""
    try:
        config = model.get_config()
        for description in config["layers"]:
            _registry.make("layer", layers.Layer, layers.KNOWN, description)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"a layer or an initializer of your own cannot be saved: {error}") from error
    return config


def _compiled(model: Sequential) -> dict[str, Any] | None:
    """Return what `compile` chose, or None if something of it is the user's own, of which a file knows nothing."""
    trainer = model._trainer
    if trainer is None:
        return None
    try:
        chosen = {
            "optimizer": _registry.describe(trainer.optimizer),
            "loss": _registry.describe(trainer.loss),
            "metrics": [_registry.describe(metric.loss) if metric.given else metric.name for metric in trainer.metrics],
        }
        _compile(Sequential(), chosen)
    except (AttributeError, TypeError, ValueError):
        return None
    return chosen


def _compile(model: Sequential, chosen: Mapping[str, Any]) -> None:
    model.compile(optimizers.get(chosen["optimizer"]), losses.get(chosen["loss"]), chosen["metrics"])


def load(path: Path) -> Sequential:
    """Return the model in a file."""
    return _read(path)[0]


def _read(path: Path) -> tuple[Sequential, dict[str, Any], dict[str, Array]]:
    """Return the model in a file, and all else that the file holds."""
    tensors, header = files.read(path)
    try:
        return _model_from(header, tensors), header, tensors
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise FileFormatError(f"{os.fspath(path)} is not a model that this version can read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _model_from(header: Mapping[str, Any], tensors: Mapping[str, Array]) -> Sequential:
    config = header["model"]
    model = Sequential(name=config["name"], dtype=config["dtype"])
    model.add(layers.Input(config["input_shape"], config["batch_size"]))
    for i, description in enumerate(config["layers"]):
        layer = _registry.make("layer", layers.Layer, layers.KNOWN, description)
        _adopt(layer, i, model.output_shape or (), model.dtype, tensors)
        model.add(layer)
    known = {f"layers.{i}.{name}" for i, layer in enumerate(model.layers) for name in layer.parameters}
    foreign = [name for name in tensors if name not in known and not name.startswith("training.")]
    if foreign or not model.layers:
        raise ValueError(f"it holds the tensor {foreign[0]}, which no layer has" if foreign else "it has no layers")
    model.metadata = dict(header["metadata"])
    if header["compile"] is not None:
        _compile(model, header["compile"])
    return model


def _adopt(
    layer: layers.Layer, index: int, shape: layers.base.Shape, dtype: np.dtype[Any], tensors: Mapping[str, Array]
) -> None:
    """Give a layer its parameters; nothing is allocated by what the config claims alone."""
    layer.output_shape(shape)
    values = {}
    for name, expected in layer.parameter_shapes(shape).items():
        tensor = tensors[f"layers.{index}.{name}"]
        if tensor.shape != expected or tensor.dtype != dtype:
            raise ValueError(f"layers.{index}.{name} is {tensor.dtype} {tensor.shape}, but must be {dtype} {expected}")
        values[name] = tensor
    layer.adopt(shape, dtype, values)


def resume(trainer: "Trainer", path: Path) -> None:
    """Bring a checkpoint's weights and training state to a trainer whose model has the same layers."""
    saved, header, tensors = _read(path)
    if "training" not in header:
        raise FileFormatError(f"{os.fspath(path)} is a model without training state: write it with Trainer.save_checkpoint")
    model = trainer.model
    ours, theirs = ([type(layer).__name__ for layer in m.layers] for m in (model, saved))
    if ours != theirs:
        raise ValueError(f"{os.fspath(path)} is of a model with the layers {theirs}, but this one has {ours}")
    model._build(saved.input_shape)  # type: ignore[arg-type]
    before = model.get_weights()
    model.set_weights(saved.get_weights())
    state = {name.removeprefix("training."): array for name, array in tensors.items() if name.startswith("training.")}
    try:
        _checkpoint.restore(trainer, header["training"], state)
    except Exception as error:
        model.set_weights(before)
        if isinstance(error, (KeyError, TypeError, AttributeError)):
            reason = f"has a training state that cannot be read: {_reason(error)}"
            raise FileFormatError(f"{os.fspath(path)} {reason}") from error
        raise ValueError(f"{os.fspath(path)} does not fit this trainer: {error}") from error
