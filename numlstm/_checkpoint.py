"""What training goes on from: numbers and arrays of a trainer, its callbacks and its model's states."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _validate, devices
from ._validate import Array

if TYPE_CHECKING:
    from .trainer import Trainer


def state(trainer: "Trainer") -> tuple[dict[str, Any], dict[str, Array]]:
    """Return numbers and arrays that training goes on from."""
    step = trainer._ready()
    arrays = {f"slots.{i}": slots for i, slots in enumerate(step.updates.kept())}
    callbacks = []
    for i, callback in enumerate(trainer._active or trainer.callbacks):
        numbers = {}
        for name, value in callback.state().items():
            if isinstance(value, np.ndarray):
                arrays[f"callbacks.{i}.{name}"] = value
            else:
                numbers[name] = value.item() if isinstance(value, np.generic) else value
        callbacks.append({"class": type(callback).__name__, "state": numbers})
    for i, layer in enumerate(trainer.model.layers):
        for k, state in enumerate(layer.states or ()):
            arrays[f"states.{i}.{k}"] = devices.host(state)
    rate = trainer.optimizer.learning_rate
    numbers = {
        "optimizer": type(trainer.optimizer).__name__,
        "learning_rate": rate if isinstance(rate, float) else None,
        "seed": trainer.seed,
        "epoch": trainer.epoch,
        "batches": trainer.batches,
        "updates": trainer.updates,
        "waiting": trainer._waiting,
        "callbacks": callbacks,
    }
    if trainer._waiting:
        arrays["gradient"] = step.updates.waiting()
    return numbers, arrays


def restore(trainer: "Trainer", numbers: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Take up what `state` returned."""
    if numbers["optimizer"] != type(trainer.optimizer).__name__:
        raise ValueError(f"the checkpoint was trained with {numbers['optimizer']}, not {type(trainer.optimizer).__name__}")
    trainer.seed = _validate.whole("seed", numbers["seed"], 0)
    trainer.begin_anew()
    step = trainer._ready()
    kept = [slots.shape for slots in step.updates.kept()]
    saved = [arrays[f"slots.{i}"] for i in range(len(kept))]
    for theirs, ours in zip(saved, kept, strict=True):
        if theirs.shape != ours:
            raise ValueError(f"the checkpoint's optimiser keeps {theirs.shape} numbers, this one {ours}")
    step.updates.take(saved)
    if numbers["learning_rate"] is not None:
        trainer.optimizer.learning_rate = numbers["learning_rate"]
    counts = (_validate.whole(name, numbers[name], 0) for name in ("epoch", "batches", "updates", "waiting"))
    trainer.epoch, trainer.batches, trainer.updates, trainer._waiting = counts
    if trainer._waiting:
        step.updates.wait(arrays["gradient"])
    trainer._saved_callbacks = [
        {"class": saved["class"], "state": {**saved["state"], **_with_prefix(arrays, f"callbacks.{i}.")}}
        for i, saved in enumerate(numbers["callbacks"])
    ]
    for i, layer in enumerate(trainer.model.layers):
        layer.states = tuple(step.backend.array(array) for array in _with_prefix(arrays, f"states.{i}.").values()) or None


def _with_prefix(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
