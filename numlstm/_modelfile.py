"""Models and trainers as files: what `files.write` is given, and how it is taken apart again."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _registry, files, layers, losses, optimizers
from ._validate import Array
from .files import FileFormatError
from .models import Sequential

if TYPE_CHECKING:
    from .trainer import Trainer

Path = str | os.PathLike[str]


def save(model: Sequential, path: Path, trainer: "Trainer | None" = None) -> None:
    """Write a model, and with a trainer all that training goes on from."""
    if not model.built:
        raise ValueError("the model has no weights yet: give the first layer an input_shape, or show it data, first")
    header: dict[str, Any] = {"model": model.get_config(), "metadata": model.metadata, "compile": _compiled(model)}
    tensors = {
        f"layers.{i}.{name}": parameter
        for i, layer in enumerate(model.layers)
        for name, parameter in layer.parameters.items()
    }
    if trainer is not None:
        header["training"], state = trainer.state()
        tensors.update({f"training.{name}": array for name, array in state.items()})
    try:
        files.write(path, tensors, header)
    except TypeError as error:
        raise ValueError(f"the model's metadata or a layer's config is nothing that JSON can hold: {error}") from None


def _compiled(model: Sequential) -> dict[str, Any] | None:
    trainer = model._trainer
    if trainer is None:
        return None
    return {
        "optimizer": _registry.describe(trainer.optimizer),
        "loss": _registry.describe(trainer.loss),
        "metrics": [metric.name for metric in trainer.metrics],
    }


def load(path: Path) -> Sequential:
    """Return the model in a file."""
    tensors, header = files.read(path)
    try:
        return _model_from(header, tensors)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise FileFormatError(f"{os.fspath(path)} is not a model that this version can read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _model_from(header: Mapping[str, Any], tensors: Mapping[str, Array]) -> Sequential:
    config = header["model"]
    model = Sequential(name=config["name"], dtype=config["dtype"])
    shape = config["input_shape"]
    for i, description in enumerate(config["layers"]):
        layer = _registry.make("layer", layers.Layer, layers.KNOWN, description)
        model.layers.append(layer)
        if shape is None:
            raise ValueError("it has no input shape")
        _adopt(layer, i, tuple(shape), model.dtype, tensors)
        shape = layer.output_shape(tuple(shape))
    known = {f"layers.{i}.{name}" for i, layer in enumerate(model.layers) for name in layer.parameters}
    foreign = [name for name in tensors if name not in known and not name.startswith("training.")]
    if foreign or not model.layers:
        raise ValueError(f"it holds the tensor {foreign[0]}, which no layer has" if foreign else "it has no layers")
    model._input_shape = layers.base.sample_shape("input_shape", config["input_shape"])
    model.batch_size = config["batch_size"]
    model.metadata = dict(header["metadata"])
    compiled = header["compile"]
    if compiled is not None:
        model.compile(optimizers.get(compiled["optimizer"]), losses.get(compiled["loss"]), compiled["metrics"])
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
    tensors, header = files.read(path)
    saved = _model_from(header, tensors)
    if "training" not in header:
        raise FileFormatError(f"{os.fspath(path)} is a model without training state: write it with Trainer.save_checkpoint")
    model = trainer.model
    ours, theirs = ([type(layer).__name__ for layer in m.layers] for m in (model, saved))
    if ours != theirs:
        raise ValueError(f"{os.fspath(path)} is of a model with the layers {theirs}, but this one has {ours}")
    model._build(saved.input_shape)  # type: ignore[arg-type]
    model.set_weights(saved.get_weights())
    state = {name.removeprefix("training."): array for name, array in tensors.items() if name.startswith("training.")}
    try:
        trainer.set_state(header["training"], state)
    except (KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(f"{os.fspath(path)} has a training state that cannot be read: {_reason(error)}") from error
