"""What may happen while a model trains: stopping early, saving, logging. Names and arguments are those of Keras.

A callback of your own derives from `Callback` and overrides what it needs.
"""

import difflib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _validate, files

if TYPE_CHECKING:
    from .models import Sequential
    from .trainer import Trainer

__all__ = [
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
]

Logs = dict[str, float]


class Callback:
    """Base of all callbacks: `model` and `trainer` are set before training begins.

    To stop training, set ``self.model.stop_training = True``.
    """

    model: "Sequential"
    trainer: "Trainer"
    saves = False  # whether it writes what the others have in hand, and so comes after them

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Called before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Called after the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Called before an epoch, which is counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Called after an epoch, with its loss and metrics, and those of the validation as ``val_..``."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a batch, which is counted from 0."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a batch, which is counted from 0, with the loss so far in the epoch."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold for training to go on as if it had never stopped: numbers and arrays."""
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned."""


class _Monitor(Callback):
    """Watches one of the logged numbers for improvement."""

    def __init__(self, monitor: str, mode: str, min_delta: float) -> None:
        self.monitor = monitor
        self.mode = _validate.choice("mode", mode, ["auto", "min", "max"])
        self.min_delta = _validate.real("min_delta", min_delta, least=0)
        self._greater = mode == "max" or (mode == "auto" and "acc" in monitor)
        self.best = -np.inf if self._greater else np.inf

    def value(self, logs: Logs | None) -> float:
        """Return the watched number, or raise ValueError that lists those there are."""
        if logs is None or self.monitor not in logs:
            there = ", ".join(logs or ())
            validated = any(name.startswith("val_") for name in logs or ())
            hint = ": give fit validation data" if self.monitor.startswith("val_") and not validated else ""
            close = difflib.get_close_matches(self.monitor, logs or (), 1)
            hint = f": did you mean {close[0]!r}?" if close and not hint else hint
            raise ValueError(f"{type(self).__name__} watches {self.monitor!r}, but there are only {there}{hint}")
        return logs[self.monitor]

    def improves(self, value: float) -> bool:
        """Return whether a value is better than the best one by more than `min_delta`."""
        return value - self.min_delta > self.best if self._greater else value + self.min_delta < self.best


class EarlyStopping(_Monitor):
    """Stops when a number has not improved for some epochs.

    Parameters
    ----------
    monitor : str
        Which of the logged numbers.
    min_delta : float
        How much of a change is an improvement.
    patience : int
        After how many epochs without one training stops.
    verbose : 0 or 1
        Whether a line says so.
    mode : "auto", "min" or "max"
        Whether small or great values are good; "auto" takes great ones for accuracies.
    restore_best_weights : bool
        Whether the model gets the weights of its best epoch back at the end.
    start_from_epoch : int
        Epochs before this one do not count.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = _validate.whole("patience", patience, 0)
        self.verbose = verbose
        self.restore_best_weights = _validate.flag("restore_best_weights", restore_best_weights)
        self.start_from_epoch = _validate.whole("start_from_epoch", start_from_epoch, 0)
        self.wait = 0
        self.best_epoch = -1
        self._best_weights: list[Any] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.wait, self.best_epoch, self._best_weights = 0, -1, None
        self.best = -np.inf if self._greater else np.inf

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = self.value(logs)
        if epoch < self.start_from_epoch:
            return
        if self.improves(value):
            self.best, self.best_epoch, self.wait = value, epoch, 0
            if self.restore_best_weights:
                self._best_weights = self.model.get_weights()
            return
        self.wait += 1
        if self.wait >= max(1, self.patience):
            self.model.stop_training = True
            if self.verbose:
                print(f"Epoch {epoch + 1}: {self.monitor} has not improved since epoch {self.best_epoch + 1}: stopping")

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.restore_best_weights and self._best_weights is not None:
            self.model.set_weights(self._best_weights)

    def state(self) -> dict[str, Any]:
        weights = {f"weight_{i}": weight for i, weight in enumerate(self._best_weights or ())}
        return {"best": self.best, "best_epoch": self.best_epoch, "wait": self.wait, **weights}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.best, self.best_epoch, self.wait = float(state["best"]), int(state["best_epoch"]), int(state["wait"])
        count = sum(name.startswith("weight_") for name in state)
        self._best_weights = [state[f"weight_{i}"] for i in range(count)] or None
        if self.wait >= max(1, self.patience):  # as it was when the checkpoint was written
            self.model.stop_training = True


class ModelCheckpoint(_Monitor):
    """Saves the model after each epoch, with all that `Trainer.resume` needs to go on from there.

    Parameters
    ----------
    filepath : path
        May hold ``{epoch}`` (from 1) and logged numbers, such as ``"model-{epoch:02d}-{val_loss:.3f}.safetensors"``.
    monitor, mode
        As for EarlyStopping.
    verbose : 0 or 1
        Whether a line says so.
    save_best_only : bool
        Whether epochs that do not improve are passed over.
    """

    saves = True

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        mode: str = "auto",
    ) -> None:
        super().__init__(monitor, mode, 0.0)
        self.filepath, self.verbose, self.save_best_only = (
            os.fspath(filepath),
            verbose,
            _validate.flag("save_best_only", save_best_only),
        )

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_best_only:
            value = self.value(logs)
            if not self.improves(value):
                return
            self.best = value
        try:
            path = self.filepath.format(epoch=epoch + 1, **(logs or {}))
        except (KeyError, IndexError, ValueError) as error:
            there = ", ".join(["epoch", *(logs or ())])
            raise ValueError(f"filepath {self.filepath!r} cannot be filled in: there are only {there}") from error
        self.trainer.save_checkpoint(path)
        if self.verbose:
            print(f"Epoch {epoch + 1}: saved {path}")

    def state(self) -> dict[str, Any]:
        return {"best": self.best}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.best = float(state["best"])


class CSVLogger(Callback):
    """Writes the logged numbers of each epoch to a CSV file, which is whole after each epoch.

    Parameters
    ----------
    filename : path
    separator : str
    append : bool
        Whether lines are added to a file that is there already.
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        self.filename, self.separator, self.append = Path(filename), separator, _validate.flag("append", append)
        self._lines: list[str] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        there = (self.append or self.trainer.resumed) and self.filename.exists()
        self._lines = self.filename.read_text(encoding="utf-8").splitlines() if there else []
        if self.trainer.resumed:  # what was logged after the checkpoint comes again
            done = {str(epoch) for epoch in range(self.trainer.epoch)}
            self._lines = [line for line in self._lines if line.split(self.separator)[0] in {"epoch", *done}]

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        if not self._lines:
            self._lines.append(self.separator.join(["epoch", *logs]))
        self._lines.append(self.separator.join([str(epoch), *(repr(float(value)) for value in logs.values())]))
        files.replace(self.filename, ("\n".join(self._lines) + "\n").encode())


class ReduceLROnPlateau(_Monitor):
    """Multiplies the learning rate by a factor when a number has not improved for some epochs.

    Parameters
    ----------
    monitor, mode, min_delta, verbose
        As for EarlyStopping.
    factor : float in 0..1
    patience : int
        After how many epochs without improvement.
    cooldown : int
        How many epochs after that do not count.
    min_lr : float
        The rate never becomes smaller.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 0.0001,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.factor = _validate.real("factor", factor, below=1, positive=True)
        self.patience = _validate.whole("patience", patience, 0)
        self.verbose = verbose
        self.cooldown = _validate.whole("cooldown", cooldown, 0)
        self.min_lr = _validate.real("min_lr", min_lr, least=0)
        self.wait = self.cooling = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        if not isinstance(self.trainer.optimizer.learning_rate, float):
            raise ValueError("ReduceLROnPlateau needs a learning rate that is a number, not a schedule")
        self.wait = self.cooling = 0
        self.best = -np.inf if self._greater else np.inf

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = self.value(logs)
        if self.cooling > 0:
            self.cooling, self.wait = self.cooling - 1, 0
        if self.improves(value):
            self.best, self.wait = value, 0
        elif self.cooling == 0:
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def _reduce(self, epoch: int) -> None:
        optimizer = self.trainer.optimizer
        rate = optimizer.rate(0)
        if rate > self.min_lr:
            optimizer.learning_rate = max(rate * self.factor, self.min_lr)
            self.cooling, self.wait = self.cooldown, 0
            if self.verbose:
                print(f"Epoch {epoch + 1}: learning rate is now {optimizer.learning_rate:g}")

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "wait": self.wait, "cooling": self.cooling}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.best, self.wait, self.cooling = float(state["best"]), int(state["wait"]), int(state["cooling"])


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch to ``schedule(epoch, rate)``."""

    def __init__(self, schedule: Callable[[int, float], float], verbose: int = 0) -> None:
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = self.trainer.optimizer
        optimizer.learning_rate = self.schedule(epoch, optimizer.rate(0))
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate is {optimizer.learning_rate:g}")


class TerminateOnNaN(Callback):
    """Stops when the loss is NaN or infinite."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if logs is not None and not np.isfinite(logs["loss"]):
            print(f"Batch {batch + 1}: the loss is {logs['loss']}: stopping")
            self.model.stop_training = True
