"""Sequences as scikit-learn passes them: reading, scaling, and holding some out."""

from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_is_fitted, validate_data

from numlstm import _validate, losses
from numlstm._validate import Array
from numlstm.data import Scaler
from numlstm.losses import Loss

from .network import Network, Samples

_NEVER_CONSTANT = 1e-12  # of a column's mean: less of a standard deviation is rounding
_EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": "a sample of weight 2 is in one batch, two equal samples are in two: "
    "training by shuffled batches gives other numbers",
}


class Sequences(Network):
    """Reading, scaling and splitting of sequences. Parameters are those of `LSTMRegressor`."""

    def __init__(
        self,
        hidden: int = 32,
        layers: int = 1,
        *,
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
        self.timesteps = timesteps
        self.standardize = standardize

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def expected_failed_checks(self) -> dict[str, str]:
        """Return which checks of `sklearn.utils.estimator_checks.check_estimator` fail, by name, and why."""
        return dict(_EXPECTED_FAILURES)

    # --- data ---

    def _read(self, X: Any, **checks: Any) -> Any:
        """Return X as (N, T, F), for `fit` with y, when `checks` say how to read that.

        Raises
        ------
        ValueError
            For what is no array of finite numbers, or does not go with `timesteps` or with what was learnt from.
        """
        learning = "y" in checks
        axes = getattr(X, "ndim", None)
        axes = np.asarray(X).ndim if axes is None else axes
        flat = axes < 3
        if axes > 3 or (not learning and flat != (self.sequence_shape_[0] is not None)):
            shapes = "(N, T, F) or (N, T * F)" if learning else "(N, T, F)" if flat else "(N, T * F)"
            raise ValueError(f"X must have shape {shapes}{'' if learning else ', as it had in fit'}, not {np.shape(X)}")
        read = validate_data(
            self, X, reset=learning, dtype=[np.float64, np.float32], ensure_2d=flat, allow_nd=not flat, **checks
        )
        x, *y = read if learning else (read,)
        steps, features = self._steps_and_features(x.shape)
        if learning:
            self.sequence_shape_: tuple[int | None, int] = (steps if flat else None, features)
            self.n_features_in_ = x.shape[-1]
        elif features != self.sequence_shape_[1]:
            raise ValueError(f"X must have {self.sequence_shape_[1]} features a step, as it had in fit, not {features}")
        sequences = x.reshape(len(x), steps, features)
        return (sequences, *y) if learning else sequences

    def _steps_and_features(self, shape: tuple[int, ...]) -> tuple[int, int]:
        if len(shape) == 3 and 0 in shape:
            raise ValueError(f"X must have at least one step and one feature, not shape {shape}")
        given = shape[1]
        steps = given if self.timesteps is None else _validate.whole("timesteps", self.timesteps)
        if len(shape) == 3 and steps != given:
            raise ValueError(
                f"timesteps={steps} is for X of shape (N, timesteps * F), but X has shape {shape}: leave it out"
            )
        if given % steps:
            raise ValueError(f"timesteps={steps} must divide the number of columns of X, not {given}")
        return steps, shape[2] if len(shape) == 3 else given // steps

    def _split(self, rng: np.random.RandomState, samples: Samples, classes: Array | None = None) -> list[Samples]:
        """Return the samples to learn from, and with early stopping those to validate with, of each class as many."""
        fraction, weights = self._held_out(), samples.weights
        if not fraction and weights is None:
            return [samples]
        rows = np.arange(len(samples.x)) if weights is None else np.flatnonzero(weights)
        strata = None if classes is None else classes[rows]
        parts = train_test_split(rows, test_size=fraction, random_state=rng, stratify=strata) if fraction else [rows]
        return [Samples(samples.x[p], samples.y[p], None if weights is None else weights[p]) for p in parts]

    def _fit(self, rng: np.random.RandomState, outputs: int, loss: Loss, parts: list[Samples]) -> None:
        self.input_scaler_ = self._scaler("X", parts[0].x, parts[0].weights)
        self._train(rng, outputs, loss, *(part._replace(x=self.input_scaler_.transform(part.x)) for part in parts))

    def _scaler(self, name: str, values: Array, weights: Array | None) -> Scaler:
        """Return what brings the columns of values (N, T, F) to mean 0 and standard deviation 1; constant ones only to 0."""
        if not self.standardize:
            return Scaler(np.zeros(values.shape[2]), np.ones(values.shape[2]))
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.average(values.mean(axis=1, dtype=np.float64), axis=0, weights=weights)
            std = np.sqrt(np.average(np.square(values - mean).mean(axis=1), axis=0, weights=weights))
        if not np.isfinite(std).all():
            raise ValueError(f"{name} cannot be standardized, its values are too large to be squared: rescale it")
        return Scaler(mean, np.where(std > _NEVER_CONSTANT * np.abs(mean), std, 1))

    def _outputs(self, X: Any) -> Array:
        check_is_fitted(self)
        outputs: Array = self.model_.predict(self.input_scaler_.transform(self._read(X)))
        return outputs.astype(np.float64)


def ratios(sample_weight: Any, count: int) -> Array | None:
    """Return weights (N,) of mean 1 over those that are not 0, so that only their ratios matter; None for None."""
    if sample_weight is None:
        return None
    weights = losses.row_weights("sample_weight", sample_weight, (count,), np.dtype(np.float64))
    if not weights.any():
        raise ValueError("sample_weight must be positive for at least one sample, but all are zero")
    return np.asarray(weights / weights[weights > 0].mean())
