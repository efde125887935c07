"""Training: batches, epochs, validation, what is reported, and going on from where training stopped."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _validate
from ._learner import Learner, batch_size_of
from ._samples import Data, checked, split
from ._validate import Array
from .callbacks import Callback, Logs
from .data import Batches
from .progress import reporter

if TYPE_CHECKING:
    from ._step import Step
    from .models import Sequential

__all__ = ["History", "Trainer"]


class History(Callback):
    """What was reported after each epoch.

    Attributes
    ----------
    epoch : list of int
        The epochs, counted from 0.
    history : dict of lists
        By name, one value for each epoch.
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def __repr__(self) -> str:
        last = ", ".join(f"{name}: {values[-1]:.4g}" for name, values in self.history.items())
        return f"History({len(self.epoch)} epochs{f'; at the end {last}' if last else ''})"

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class Trainer(Learner):
    """Trains a model.

    Parameters
    ----------
    model : Sequential
    optimizer, loss : names, or of `numlstm.optimizers` and `numlstm.losses`
    metrics : sequence of names
        What is reported beside the loss: see `numlstm.metrics`.
    clip_norm : float, optional
        Limit of the norm of all gradients together; larger ones are scaled down (Pascanu, Mikolov and Bengio 2013).
    clip_value : float, optional
        Limit of each element of the gradient.
    truncate : int, optional
        Backpropagation goes through so many steps at most: sequences are cut into pieces of that length, states go from
        piece to piece. With a target for each step there is an update after each piece (Williams and Peng 1990); else only
        the last piece is learnt from, which ends where each sequence does.
    accumulate : int
        After how many batches, or pieces, there is an update, by the mean of their gradients.
    callbacks : sequence of `numlstm.callbacks`
    seed : int, optional
        Of shuffling and dropout; without it, they follow from `numlstm.utils.set_random_seed` or differ each time.

    Raises
    ------
    ValueError, TypeError
        For unknown names (the message lists the known ones) and numbers out of range.
    """

    def __init__(
        self,
        model: "Sequential",
        optimizer: Any = "adam",
        loss: Any = "mse",
        metrics: Sequence[Any] = (),
        clip_norm: float | None = None,
        clip_value: float | None = None,
        truncate: int | None = None,
        accumulate: int = 1,
        callbacks: Iterable[Callback] = (),
        seed: int | None = None,
    ) -> None:
        super().__init__(model, optimizer, loss, metrics, clip_norm, clip_value, truncate, accumulate, seed)
        self.callbacks = _callbacks(callbacks)
        self.epoch = 0  # epochs so far
        self.resumed = False
        self._saved_callbacks: list[dict[str, Any]] = []
        self._active: list[Callback] = []

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_active": []}

    def _validation(self, given: Any) -> Data:
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3, 4):
            raise TypeError("validation_data must be (x, y), (x, y, sample_weight) or (x, y, sample_weight, lengths)")
        x, y, weights, lengths = (*given, None, None)[:4]
        return checked(self.model, self.loss, x, y, weights, lengths, "validation ")

    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = 1,
        callbacks: Iterable[Callback] = (),
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        sample_weight: Any = None,
        initial_epoch: int | None = None,
        lengths: Any = None,
    ) -> History:
        """Train for some epochs.

        Parameters
        ----------
        x : (N, T, F), or what the model's first layer takes
            NumPy arrays, lists or data frames; converted to the model's dtype. Large arrays, such as `numpy.memmap`, are
            converted batch by batch. Or `numlstm.data.Batches`, which hold y, sample_weight, batch_size and the order too.
            Sequences of different lengths may come as a list of N arrays (t, F), with lists for targets and weights of each
            step too, or as one array with `lengths`.
        y : (N, outputs), or (N, T, outputs) for a model with an output at each step
            For sparse cross-entropy whole numbers, without the last axis. Of another dtype than the model's, it is converted
            in whole.
        batch_size : int
            Samples between updates, 32 if left out; the last batch of an epoch may be smaller.
        epochs : int
            Up to which epoch to train: from 0, from `initial_epoch`, or from where a checkpoint stopped that was resumed.
        verbose : 0, 1 or 2
            Silent, a progress bar, or a line for each epoch.
        callbacks : sequence of `numlstm.callbacks`
            Beside those of the trainer.
        validation_split : float in 0..1
            Fraction of the samples, the last ones, that is not trained on, but evaluated after each epoch.
        validation_data : (x, y), (x, y, sample_weight) or (x, y, sample_weight, lengths), optional
            To be evaluated after each epoch, instead.
        shuffle : bool
            Whether each epoch takes the samples in an order of its own, which follows from the seed.
        sample_weight : (N,), or (N, T) for a model with an output at each step, optional
            By which to multiply each one's part of the loss.
        initial_epoch : int, optional
            Number of the first epoch.
        lengths : (N,) integers from 1 to T, optional
            How many steps each sequence has. What lies past them in x, y and weights is not looked at, and has no part in
            losses and metrics: with an output at each step, their means are over all steps within the lengths, of a batch
            for its gradient, and of all batches for what is reported. The time of recurrent layers follows the sum of
            lengths. States of stateful layers are those after each sequence's last step.

        Returns
        -------
        History
            With a dict of lists, ``history.history``: loss, metrics and, with ``val_`` before them, those of the validation.

        Raises
        ------
        TypeError, ValueError
            For data that does not fit the model or the loss, holds no samples, NaN or infinity: the message names the place.
        """
        epochs, given = _validate.whole("epochs", epochs, 0), x if isinstance(x, Batches) else None
        shuffle = _validate.flag("shuffle", shuffle)
        if given is not None:
            if not (y is sample_weight is batch_size is None and validation_split == 0):
                raise TypeError("y, sample_weight, batch_size and validation_split cannot be given beside Batches as x")
            if not shuffle and given.shuffle:
                raise TypeError("shuffle=False cannot be given beside Batches as x: give it to Batches")
            x, y, sample_weight, batch_size = given.x, given.y, given.sample_weight, given.batch_size
        size = batch_size_of(batch_size)
        data, validation = self._data(x, y, sample_weight, lengths), None
        fraction = _validate.real("validation_split", validation_split, least=0, below=1)
        if validation_data is not None:
            validation = self._validation(validation_data)
        elif fraction:
            data, validation = split(data, fraction)
        step = self._ready()
        data, validation = step.feed.place(data), None if validation is None else step.feed.place(validation)
        if initial_epoch is not None:
            self.epoch = _validate.whole("initial_epoch", initial_epoch, 0)
        elif not self.resumed:
            self.epoch = 0
        if not self.resumed:
            self._waiting = 0  # what single steps left waiting is not of this fit
        history = History()
        todo = max(0, epochs - self.epoch)
        active = [*self.callbacks, *_callbacks(callbacks), history]
        self._active = sorted(active, key=lambda callback: callback.saves)  # what saves, saves what the others did
        bar = reporter(verbose, self.epoch, epochs, todo * len(data.x))
        try:
            self._begin()
            while self.epoch < epochs and not self.model.stop_training:
                batches = self._batches(len(data.x), size, shuffle) if given is None else given.rows(self.epoch)
                self._epoch(step, data, validation, size, batches, bar)
            self._call("on_train_end")
        finally:
            bar.close()
            self.resumed, self._waiting = False, 0  # what an interruption left is not of the next fit
        return history

    def _begin(self) -> None:
        """Let the callbacks begin, or go on with what a checkpoint says of them."""
        self.model.stop_training = False
        for callback in self._active:
            callback.model, callback.trainer = self.model, self
        self._call("on_train_begin")
        for callback, saved in zip(self._active, self._saved_callbacks, strict=False):
            if type(callback).__name__ == saved["class"]:
                callback.set_state(saved["state"])
        self._saved_callbacks = []

    def _batches(self, count: int, size: int, shuffle: bool) -> Iterator[Array]:
        """Yield which samples are in each batch of the next epoch."""
        order = np.random.default_rng([self.seed, self.batches]).permutation(count) if shuffle else np.arange(count)
        for start in range(0, count, size):
            yield order[start : start + size]

    def _epoch(
        self, step: "Step", data: Data, validation: Data | None, size: int, batches: Iterator[Array], bar: Any
    ) -> None:
        epoch = self.epoch
        self._call("on_epoch_begin", epoch)
        bar.epoch(epoch)
        meter = step.meter()
        watched = [c for c in self._active if _watches_batches(c)]
        for number, rows in enumerate(batches):
            for callback in watched:
                callback.on_train_batch_begin(number)
            self._learn(step, step.feed.gather(data, rows), meter)
            bar.advance(len(rows), meter)
            for callback in watched:
                callback.on_train_batch_end(number, meter.logs())
            if self.model.stop_training:
                break
        self._flush(step)
        logs = meter.logs()
        if validation is not None:
            logs.update({f"val_{name}": value for name, value in self._measure(step, validation, size).items()})
        self.epoch += 1
        bar.report(logs)
        self._call("on_epoch_end", epoch, logs)

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self._active:
            getattr(callback, hook)(*arguments)

    # --- checkpoints ---

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write the model and all that training needs to go on as if it had never stopped; `numlstm.load` reads it too.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        from . import _modelfile

        _modelfile.save(self.model, path, self)

    def resume(self, path: str | os.PathLike[str]) -> int:
        """Take up a checkpoint, and return how many epochs it has behind it; the next `fit` goes on from there.

        The data, the arguments of the trainer and of `fit` must be the same for the numbers to be the same.

        Raises
        ------
        FileFormatError
            If the file is damaged or no checkpoint.
        ValueError
            If it is of another model or another optimiser.
        """
        from . import _modelfile

        _modelfile.resume(self, path)
        self.resumed = True
        return self.epoch


def _watches_batches(callback: Callback) -> bool:
    kind = type(callback)
    hooks = (
        (kind.on_train_batch_begin, Callback.on_train_batch_begin),
        (kind.on_train_batch_end, Callback.on_train_batch_end),
    )
    return any(own is not base for own, base in hooks)


def _callbacks(given: Any) -> list[Callback]:
    items = list(given or ()) if given is None or isinstance(given, Iterable) else [given]
    for item in items:
        if not isinstance(item, Callback):
            raise TypeError(f"callbacks must be instances of numlstm.callbacks.Callback, not {item!r}")
    return items
