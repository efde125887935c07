"""What the estimators have in common: a network, made and trained by parameters of the same names."""

from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator

from numlstm import _validate, optimizers
from numlstm._validate import Array
from numlstm.callbacks import EarlyStopping
from numlstm.layers import LSTM, Dense, Dropout
from numlstm.losses import Loss
from numlstm.models import Sequential
from numlstm.optimizers.schedules import CosineDecay, Schedule
from numlstm.trainer import Trainer

_OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd")


class Samples(NamedTuple):
    """What a network learns from, or is validated with: x (N, T, F), y (N, ..), and weights (N,) or None."""

    x: Array
    y: Array
    weights: Array | None = None


class Network(BaseEstimator):
    """LSTM layers, each with dropout behind it, and a linear layer. Parameters are those of `LSTMRegressor`."""

    def __init__(
        self,
        hidden: int,
        layers: int,
        *,
        dropout: float,
        epochs: int,
        batch_size: int,
        optimizer: str,
        learning_rate: Any,
        clip_norm: float | None,
        early_stopping: bool,
        validation_fraction: float,
        n_iter_no_change: int,
        dtype: Any,
        random_state: Any,
        verbose: int,
    ) -> None:
        self.hidden = hidden
        self.layers = layers
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.clip_norm = clip_norm
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def _held_out(self) -> float:
        """Return which part of the samples is for validation: none without early stopping."""
        fraction = _validate.real("validation_fraction", self.validation_fraction, below=1, positive=True)
        return fraction if self.early_stopping else 0.0

    def _train(
        self,
        rng: np.random.RandomState,
        outputs: int,
        loss: Loss | str,
        training: Samples,
        validation: Samples | None = None,
    ) -> None:
        """Make a network of so many outputs and train it; all that is random comes from `rng`.

        Raises
        ------
        TypeError, ValueError
            For parameters that cannot be, or if training diverges.
        """
        layers, epochs = _validate.whole("layers", self.layers), _validate.whole("epochs", self.epochs)
        batch_size = _validate.whole("batch_size", self.batch_size)
        patience = _validate.whole("n_iter_no_change", self.n_iter_no_change)
        seeds = [int(seed) for seed in rng.randint(np.iinfo(np.int32).max, size=layers + 2)]
        model = self._network(layers, outputs, seeds)
        optimizer = self._optimizer(epochs * -(-len(training.x) // batch_size))
        trainer = Trainer(model, optimizer, loss, clip_norm=self.clip_norm, seed=seeds[-1])
        history = trainer.fit(
            training.x,
            training.y,
            batch_size=batch_size,
            epochs=epochs,
            sample_weight=training.weights,
            validation_data=validation,
            callbacks=[EarlyStopping(patience=patience, restore_best_weights=True)] if validation else [],
            verbose=self.verbose,
        )
        if not all(np.isfinite(weights).all() for weights in model.get_weights()):
            raise ValueError("training diverged, weights are no longer finite: choose a smaller learning_rate or clip_norm")
        self.model_, self.history_, self.n_iter_ = model, history.history, len(history.epoch)

    def _network(self, layers: int, outputs: int, seeds: list[int]) -> Sequential:
        hidden = _validate.whole("hidden", self.hidden)
        rate = _validate.real("dropout", self.dropout, least=0, below=1)
        model = Sequential(dtype=self.dtype)
        for number in range(layers):
            model.add(LSTM(hidden, return_sequences=number + 1 < layers, seed=seeds[number]))
            model.add(Dropout(rate))
        model.add(Dense(outputs, seed=seeds[layers]))
        return model

    def _optimizer(self, updates: int) -> optimizers.Optimizer:
        optimizer = optimizers.get(_validate.choice("optimizer", self.optimizer, _OPTIMIZERS))
        rate = self.learning_rate
        if not isinstance(rate, Schedule):
            rate = CosineDecay(_validate.real("learning_rate", rate, positive=True), updates)
        optimizer.learning_rate = rate
        return optimizer
