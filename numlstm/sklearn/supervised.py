"""Numbers or a class for each sequence."""

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets

from numlstm import losses
from numlstm._validate import Array
from numlstm.losses import SparseCategoricalCrossentropy

from .network import Samples
from .sequences import Sequences, ratios


class LSTMRegressor(RegressorMixin, Sequences):
    """Numbers for sequences: LSTM layers, and a linear layer on the last step's output.

    Parameters
    ----------
    hidden : int
        Units of each LSTM layer.
    layers : int
        How many LSTM layers.
    loss : str or `numlstm.losses` object
        "mean_squared_error", "mean_absolute_error", "huber", or such as ``losses.Quantile(0.9)``; of standardized targets.
    timesteps : int, optional
        How many steps there are in a row of X with two axes, which is read step by step: ``X[:, t * F + f]`` is feature f at
        step t, as in ``X3.reshape(len(X3), -1)``. Left out, each column is a step of one feature. X with three axes,
        (N, T, F), says by itself.
    standardize : bool
        Whether features, each over all samples and steps, and targets are brought to mean 0 and standard deviation 1 before
        they are learnt from; predictions are in the targets' units all the same. Means and deviations are those of the
        samples learnt from, with their weights. Columns of X with two axes are one feature at different steps, and scaled
        alike; where they are different things, scale each beforehand, such as by `sklearn.preprocessing.StandardScaler`.
    dropout : float in 0..1
        Fraction of each LSTM layer's outputs that is left out in training.
    epochs : int
        How often all samples are seen; at most, with early stopping.
    batch_size : int
        Samples between two updates of the weights.
    optimizer : "adam", "adamw", "rmsprop" or "sgd"
    learning_rate : float or `numlstm.optimizers.schedules` object
        A number falls to 0 over the epochs along half a cosine.
    clip_norm : float, optional
        Limit of the norm of the gradient; None for none.
    early_stopping : bool
        Whether some samples, drawn at random, are held out to validate with; training ends when their loss has not
        improved for some epochs, and the weights of the best epoch are kept. Windows of one series that overlap are
        hardly held out by that: see `LSTMForecaster`.
    validation_fraction : float in 0..1
        Fraction of the samples that is held out then.
    n_iter_no_change : int
        After how many epochs without improvement training ends then.
    dtype : "float32" or "float64"
        Of parameters and computation. X of other dtypes is scaled as float64 and then converted.
    random_state : int, RandomState, optional
        Of first weights, order, dropout and what is held out; the same int gives the same numbers, bit for bit.
    verbose : 0, 1 or 2
        Silent, a progress bar, or a line for each epoch.

    Attributes
    ----------
    model_ : numlstm.Sequential
        The network, of standardized features and targets.
    history_ : dict of lists
        Loss of each epoch, "loss" and, with early stopping, "val_loss".
    n_iter_ : int
        How many epochs there were.
    sequence_shape_ : (T, F)
        Steps and features of a sequence; T is None for X with three axes: then `predict` takes any number of steps.
    input_scaler_, target_scaler_ : numlstm.data.Scaler
    n_features_in_ : int
        Size of the last axis of X.
    feature_names_in_ : array of str
        Names of the columns, where X was a data frame.
    """

    def __init__(
        self,
        hidden: int = 32,
        layers: int = 1,
        *,
        loss: Any = "mean_squared_error",
        timesteps: int | None = None,
        standardize: bool = True,
        dropout: float = 0.0,
        epochs: int = 100,
        batch_size: int = 32,
        optimizer: str = "adam",
        learning_rate: Any = 0.005,
        clip_norm: float | None = 1.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        dtype: Any = "float32",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            hidden,
            layers,
            timesteps=timesteps,
            standardize=standardize,
            dropout=dropout,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            learning_rate=learning_rate,
            clip_norm=clip_norm,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            dtype=dtype,
            random_state=random_state,
            verbose=verbose,
        )
        self.loss = loss

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "LSTMRegressor":
        """Learn from sequences.

        Parameters
        ----------
        X : (N, T, F), or (N, T * F) as `timesteps` says; array or data frame
        y : (N,) or (N, K)
        sample_weight : (N,), optional
            By which to multiply each one's part of the loss; only their ratios matter, and a sample of weight 0 is as if it
            were not there.

        Raises
        ------
        TypeError, ValueError
            For parameters or data that cannot be: the message names which.
        """
        loss = losses.get(self.loss)
        if loss.by_rows or loss.fused:
            raise ValueError(f"loss must be one of numbers, such as 'mean_squared_error', not of classes: {loss!r}")
        x, y = self._read(X, y=y, multi_output=True, y_numeric=True)
        self._one_number = y.ndim == 1
        rng = check_random_state(self.random_state)
        samples = Samples(x, np.asarray(y, np.float64).reshape(len(x), -1), ratios(sample_weight, len(x)))
        parts = self._split(rng, samples)
        self.target_scaler_ = self._scaler("y", parts[0].y[:, np.newaxis], parts[0].weights)
        parts = [part._replace(y=self.target_scaler_.transform(part.y)) for part in parts]
        self._fit(rng, samples.y.shape[1], loss, parts)
        return self

    def predict(self, X: Any) -> Array:
        """Return predictions, in the shape (N,) or (N, K) of the y learnt from and in its units, float64.

        X : as for `fit`; with three axes, of any number of steps
        """
        outputs = self._outputs(X)
        y = self.target_scaler_.inverse(outputs)
        return y[:, 0] if self._one_number else y


class LSTMClassifier(ClassifierMixin, Sequences):
    """Classes for sequences: LSTM layers, and a linear layer with a softmax on the last step's output.

    Parameters
    ----------
    hidden, layers, timesteps, standardize, dropout, epochs, batch_size, optimizer, learning_rate, clip_norm, early_stopping,
    validation_fraction, n_iter_no_change, dtype, random_state, verbose
        As for `LSTMRegressor`; targets are not scaled, and what early stopping holds out has all classes in proportion.

    Attributes
    ----------
    classes_ : (K,)
        The classes, sorted: labels of any type that sorts.
    model_, history_, n_iter_, sequence_shape_, input_scaler_, n_features_in_, feature_names_in_
        As of `LSTMRegressor`.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "LSTMClassifier":
        """Learn from sequences.

        Parameters
        ----------
        X : (N, T, F), or (N, T * F) as `timesteps` says; array or data frame
        y : (N,)
            A label for each, of at least two classes.
        sample_weight : (N,), optional
            As for `LSTMRegressor`.

        Raises
        ------
        TypeError, ValueError
            For parameters or data that cannot be: the message names which.
        """
        x, y = self._read(X, y=y)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must hold at least two classes, but has one class, {self.classes_[0]}")
        rng = check_random_state(self.random_state)
        parts = self._split(rng, Samples(x, numbers, ratios(sample_weight, len(x))), numbers)
        self._fit(rng, len(self.classes_), SparseCategoricalCrossentropy(from_logits=True), parts)
        return self

    def decision_function(self, X: Any) -> Array:
        """Return what goes into the softmax (N, K); for two classes (N,), the second's minus the first's.

        X : as for `fit`; with three axes, of any number of steps
        """
        logits = self._outputs(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> Array:
        """Return probabilities (N, K) of `classes_`, float64.

        X : as for `decision_function`
        """
        logits = self._outputs(X)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: Array = odds / odds.sum(axis=1, keepdims=True)
        return probabilities

    def predict(self, X: Any) -> Array:
        """Return the most probable class of each sequence (N,).

        X : as for `decision_function`
        """
        most_probable = self._outputs(X).argmax(axis=1)
        classes: Array = self.classes_[most_probable]
        return classes
