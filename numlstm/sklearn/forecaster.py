"""The next values of a series, with intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import r2_score
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from numlstm import _validate, data
from numlstm._inputs import Prepared
from numlstm._validate import Array
from numlstm.forecast import BATCH_SIZE, DROPOUT, LEARNING_RATE, PATIENCE
from numlstm.losses import Quantile

from .network import Network, Samples


class LSTMForecaster(Network):
    """Quantiles of the next values of a series, from its last values and those of exogenous columns.

    The network sees levels and distances from the last row, and forecasts by how much the series changes from its last
    value, all horizons at once: so a trend is followed, and nothing needs scaling.

    Exogenous columns, X, are known up to the last row of the series, as further inputs. Of the rows that are forecast they
    need not be known, and cannot be used: what is known of these beforehand, such as holidays, goes into X shifted by so
    many rows as it is known ahead.

    It is fitted on one series, whose rows are no independent samples: what expects those, such as `check_estimator`, does
    not apply. Splits must keep the order, as `TimeSeriesSplit` does; ``GridSearchCV(..).fit(y, X)`` then works.

    Parameters
    ----------
    lookback, horizon : int
        How many rows it sees, and how many after these it forecasts.
    quantiles : sequence of floats in 0..1
        Which quantiles of each value to forecast, ascending; 0.5, the median, must be among them. The first and the last
        are the ends of `predict_interval`: with the default, it should hold the truth in 80 % of cases.
    hidden, layers, dropout, epochs, batch_size, optimizer, learning_rate, clip_norm, dtype, random_state, verbose
        As for `LSTMRegressor`.
    early_stopping : bool
        Whether the end of the series is held out to validate with; training ends when the loss on it has not improved for
        some epochs, and the weights of the best epoch are kept. Without it all rows are learnt from, for all epochs.
    validation_fraction : float in 0..1
        Fraction of the rows that is held out then.
    n_iter_no_change : int
        After how many epochs without improvement training ends then.

    Attributes
    ----------
    model_ : numlstm.Sequential
        The network; ``numlstm.load`` reads what its `save` writes.
    history_ : dict of lists
        Loss of each epoch, "loss" and, with early stopping, "val_loss".
    n_iter_ : int
        How many epochs there were.
    last_rows_ : (lookback, 1 + F)
        The last rows of y and X, from which `predict` forecasts.
    n_features_in_ : int
        Number F of exogenous columns.
    feature_names_in_ : array of str
        Their names, where X was a data frame.

    References
    ----------
    Quantiles by the loss of Koenker and Bassett 1978; where those of a value cross, they are sorted (Chernozhukov,
    Fernández-Val and Galichon 2010).
    """

    def __init__(
        self,
        lookback: int = 30,
        horizon: int = 1,
        *,
        quantiles: Sequence[float] = (0.1, 0.5, 0.9),
        hidden: int = 32,
        layers: int = 1,
        dropout: float = DROPOUT,
        epochs: int = 60,
        batch_size: int = BATCH_SIZE,
        optimizer: str = "adam",
        learning_rate: Any = LEARNING_RATE,
        clip_norm: float | None = 1.0,
        early_stopping: bool = True,
        validation_fraction: float = 0.15,
        n_iter_no_change: int = PATIENCE,
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
        self.lookback = lookback
        self.horizon = horizon
        self.quantiles = quantiles

    def fit(self, y: Any, X: Any = None) -> "LSTMForecaster":
        """Learn from a series.

        Parameters
        ----------
        y : (T,)
            The series, in equal steps of time, the oldest first: an array or a pandas Series.
        X : (T, F), optional
            Exogenous columns, row by row at the times of y.

        Raises
        ------
        TypeError, ValueError
            For parameters or data that cannot be: the message names which. A constant column is refused.
        """
        rows = self._rows(y, X, learning=True)
        lookback, horizon = _validate.whole("lookback", self.lookback), _validate.whole("horizon", self.horizon)
        loss = self._loss()
        parts = data.chronological_parts(len(rows), lookback, horizon, self._held_out(), test=0, least=2)
        columns = getattr(self, "feature_names_in_", [f"x{i}" for i in range(self.n_features_in_)])
        samples = Prepared(rows[:, 0], rows, lookback, horizon, parts, ("y", ("y", *columns)))
        goals = np.repeat(samples.goals(), len(loss.quantiles), axis=1)
        training = Samples(samples.x[parts.training], goals[parts.training])
        validation = Samples(samples.x[parts.validation], goals[parts.validation]) if self.early_stopping else None
        self._train(check_random_state(self.random_state), goals.shape[1], loss, training, validation)
        self._inputs, self._changes, self._quantiles = samples.inputs, samples.changes, loss.quantiles
        self.last_rows_ = rows[-lookback:]
        return self

    def _loss(self) -> Quantile:
        loss = Quantile(self.quantiles)
        if sorted(set(loss.quantiles)) != loss.quantiles or 0.5 not in loss.quantiles:
            raise ValueError(f"quantiles must ascend, and 0.5, the median, must be among them, not {self.quantiles!r}")
        return loss

    def _rows(self, y: Any, X: Any, learning: bool = False) -> Array:
        """Return y and the columns of X side by side, float64 (T, 1 + F).

        Raises
        ------
        ValueError
            For what is not finite, not of these shapes, or does not go together or with what was learnt from.
        """
        series = check_array(y, ensure_2d=False, allow_nd=True, dtype=np.float64, estimator=self, input_name="y")
        if series.ndim != 1 and series.shape != (len(series), 1):
            raise ValueError(f"y must have shape (T,), not {series.shape}: exogenous columns are given as X")
        if learning and X is None:
            self.n_features_in_ = 0
            self.__dict__.pop("feature_names_in_", None)
        if X is None and self.n_features_in_:
            raise ValueError(f"X must be given with y: there were {self.n_features_in_} exogenous columns in fit")
        if X is None:
            return np.asarray(series.reshape(-1, 1))
        if not learning and not self.n_features_in_:
            raise ValueError("X must be left out: there were no exogenous columns in fit")
        columns = validate_data(self, X, reset=learning, dtype=np.float64)
        if len(columns) != len(series):
            raise ValueError(f"y and X must have as many rows, not {len(series)} and {len(columns)}")
        if hasattr(y, "iloc") and hasattr(X, "iloc") and not y.index.equals(X.index):
            raise ValueError("y and X must have the same index: align them first")
        return np.column_stack([series, columns])

    # --- forecasts ---

    def predict(self, horizon: int | None = None, y: Any = None, X: Any = None) -> Array:
        """Return the medians (H,) of the next values, float64, in the units of y.

        Parameters
        ----------
        horizon : int, optional
            How many, at most those learnt to be forecast; all of them if left out.
        y, X : (T,) and (T, F), optional
            To forecast what comes after these rows, of which the last `lookback` count, instead of after those of `fit`. X
            is needed with y if there was one in `fit`.

        Raises
        ------
        ValueError
            For a longer horizon, too few rows, or data unlike those of `fit`.
        """
        return self.predict_quantiles(horizon, y, X)[:, self._quantiles.index(0.5)]

    def predict_quantiles(self, horizon: int | None = None, y: Any = None, X: Any = None) -> Array:
        """Return forecasts (H, Q) of the `quantiles`, ascending; arguments and errors are those of `predict`."""
        check_is_fitted(self)
        learnt = self._changes.offset.size
        count = learnt if horizon is None else _validate.whole("horizon", horizon)
        if count > learnt:
            raise ValueError(f"horizon must be at most {learnt}, that of fit, not {count}")
        if y is None and X is not None:
            raise ValueError("X must be given together with y")
        rows = self.last_rows_ if y is None else self._rows(y, X)
        return self._quantiles_after(self._windows(rows)[-1:])[0, :count]

    def predict_interval(self, horizon: int | None = None, y: Any = None, X: Any = None) -> Array:
        """Return lower and upper ends (H, 2), the first and the last of the `quantiles`; the rest is as for `predict`."""
        forecasts = self.predict_quantiles(horizon, y, X)
        if len(self._quantiles) < 2:
            raise ValueError("quantiles must hold the ends of an interval beside 0.5, such as (0.1, 0.5, 0.9)")
        return forecasts[:, [0, -1]]

    def predict_rolling(self, y: Any, X: Any = None) -> Array:
        """Return forecasts (N, H, Q) from each window of `lookback` rows in a series that H rows follow, to evaluate them.

        Element [k, h] is of ``y[k + lookback + h]``; N is T - lookback - H + 1.

        Parameters
        ----------
        y, X : (T,) and (T, F)
            As for `predict`.
        """
        check_is_fitted(self)
        rows, needed = self._rows(y, X), len(self.last_rows_) + self._changes.offset.size
        if len(rows) < needed:
            raise ValueError(f"y must have at least {needed} rows, lookback + horizon, not {len(rows)}")
        return self._quantiles_after(self._windows(rows)[: len(rows) - needed + 1])

    def score(self, y: Any, X: Any = None) -> float:
        """Return R², the coefficient of determination, of the medians of `predict_rolling`, a mean over the horizons."""
        medians = self.predict_rolling(y, X)[:, :, self._quantiles.index(0.5)]
        truth = data.sliding_windows(self._rows(y, X)[len(self.last_rows_) :, 0], medians.shape[1])
        return float(r2_score(truth, medians))

    def _windows(self, rows: Array) -> Array:
        lookback = len(self.last_rows_)
        if len(rows) < lookback:
            raise ValueError(f"y must have at least {lookback} rows, those looked back on, not {len(rows)}")
        return data.sliding_windows(rows, lookback)

    def _quantiles_after(self, windows: Array) -> Array:
        """Return forecasts (N, H, Q) of what follows windows (N, L, 1 + F)."""
        outputs = self.model_.predict(self._inputs(windows)).reshape(len(windows), -1, len(self._quantiles))
        changes = self._changes.inverse(outputs.swapaxes(1, 2)).swapaxes(1, 2)
        return np.sort(windows[:, -1, 0, np.newaxis, np.newaxis] + changes, axis=2)
