"""Forecasts of one column of a series from the last rows of several: training, scores beside naive forecasts, use.

The network forecasts by how much the target changes from its last value: so a series that leaves the range it was trained
in is followed, and the network begins where the forecast "as now" stands.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import _validate, data, models, optimizers, utils
from ._inputs import Inputs, Prepared
from ._naive import errors, naive_forecasts
from ._validate import Array
from .callbacks import Callback, EarlyStopping
from .data import Scaler
from .layers import LSTM, Dense, Dropout
from .series import Series

if TYPE_CHECKING:
    from .trainer import History

__all__ = ["Forecaster", "Report", "Samples", "Settings", "train"]

BATCH_SIZE = 32
DROPOUT = 0.5
LEARNING_RATE = 1e-3
PATIENCE = 20
_NOTES = "forecast"  # where the model's metadata hold what a Forecaster is
_BAND = (0.1, 0.9)  # quantiles of the errors


@dataclass(frozen=True)
class Settings:
    """What to forecast, from what, and with which network.

    target : str
        Column to forecast.
    features : tuple of str
        Columns that the forecast is made from.
    lookback, horizon : int
        How many rows it sees, and how many after these it forecasts.
    hidden, layers : int
        Units of each LSTM layer, and how many layers.
    epochs : int
        At most; the learning rate falls to 0 over all of them.
    seed : int
        Of everything random: the same seed gives the same numbers.
    """

    target: str
    features: tuple[str, ...]
    lookback: int = 30
    horizon: int = 1
    hidden: int = 32
    layers: int = 1
    epochs: int = 60
    seed: int = 0


class Samples(Prepared):
    """A series cut into samples, in order of time.

    series : Series
    settings : Settings
    parts : numlstm.data.Parts
        Which samples to learn from, to choose the best epoch by, and to test with.
    inputs, changes
        What makes the network's inputs, and scales the target's changes from its last value; fitted on what is learnt from.
    x : (N, L, 2F) float32
        Inputs.
    last : (N,)
        The target's last value in each window.
    y, rows : (N, H)
        The target after each window, and the rows of the series where that is.

    Raises
    ------
    ValueError
        If a column is missing, constant or not all numbers, or there are too few rows.
    """

    def __init__(self, series: Series, settings: Settings) -> None:
        self.series, self.settings = series, settings
        lookback, horizon = settings.lookback, settings.horizon
        target, values = series.column(settings.target), _matrix(series, settings.features)
        try:
            self.parts = data.chronological_parts(series.rows, lookback, horizon, least=BATCH_SIZE)
        except ValueError as error:
            raise ValueError(f"{series.name}: {error}: add rows, or choose a smaller --lookback or --horizon") from None
        names = f"column {settings.target!r}", settings.features
        try:
            super().__init__(target, values, lookback, horizon, self.parts, names, " (--features)")
        except ValueError as error:
            raise ValueError(f"{series.name}: {error}") from None
        self.rows = data.sliding_windows(np.arange(lookback, series.rows), horizon)


class Forecaster:
    """A model with what it needs to make forecasts in a series' own units.

    model : Sequential
    target, features, lookback, horizon
        As in `Settings`.
    inputs, changes
        What makes the network's inputs, and scales the target's H changes from its last value.
    step : str
        What lies between two rows, such as "1 day"; empty for a series without dates.
    """

    def __init__(
        self,
        model: models.Sequential,
        target: str,
        features: Sequence[str],
        lookback: int,
        horizon: int,
        inputs: Inputs,
        changes: Scaler,
        step: str,
    ) -> None:
        self.model, self.target, self.features, self.step = model, target, tuple(features), step
        if not all(isinstance(text, str) for text in (target, *features, step)):
            raise TypeError("the names of columns and the step must be text")
        self.lookback, self.horizon = _validate.whole("lookback", lookback), _validate.whole("horizon", horizon)
        self.inputs, self.changes = inputs, changes

    def forecast(self, x: Array, last: Array) -> Array:
        """Return forecasts (N, H) from the network's inputs (N, L, 2F) and the target's last values (N,)."""
        return last[:, np.newaxis] + self.changes.inverse(self.model.predict(x))

    def predict(self, series: Series) -> Array:
        """Return a forecast (H,) of the rows after a series' last.

        Raises
        ------
        ValueError
            If the series has too few rows, lacks a column, or its rows are not as far apart as those learnt from.
        """
        if series.rows < self.lookback:
            raise ValueError(f"{series.name} has too few rows, {series.rows}: the model looks back {self.lookback}")
        step = _step_text(series)
        if self.step != step:
            learnt, came = (f"{text} apart" if text else "without dates" for text in (self.step, step))
            raise ValueError(
                f"{series.name} has rows {came}, but the model was trained on rows {learnt}: train it on such rows"
            )
        window = _matrix(series, self.features, -self.lookback)[np.newaxis]
        forecast: Array = self.forecast(self.inputs(window), series.column(self.target, -1))[0]
        return forecast

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model, with all this in its metadata; OSError if the file cannot be written."""
        self.model.metadata[_NOTES] = {
            "target": self.target,
            "features": list(self.features),
            "lookback": self.lookback,
            "horizon": self.horizon,
            "inputs": self.inputs.notes(),
            "changes": {"mean": self.changes.offset.tolist(), "std": self.changes.scale.tolist()},
            "step": self.step,
        }
        self.model.save(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Forecaster":
        """Read what `save` wrote.

        Raises
        ------
        FileFormatError
            If the file is damaged or not of numlstm.
        ValueError
            If it holds a model that is no forecaster.
        OSError
            If it cannot be read.
        """
        model = models.load(path)
        if _NOTES not in model.metadata:
            raise ValueError(f"{os.fspath(path)} holds a model that was not made by `numlstm train`: give one that was")
        try:
            notes = dict(model.metadata[_NOTES])
            inputs, changes = Inputs.from_notes(notes.pop("inputs")), notes.pop("changes")
            changes = Scaler(changes["mean"], changes["std"])
            made = cls(model, inputs=inputs, changes=changes, **notes)
            fits = len(made.features) == made.inputs.low.size and made.changes.offset.size == made.horizon
            fits = fits and model.output_shape_for((made.lookback, 2 * len(made.features))) == (made.horizon,)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)} holds unusable notes on its forecast ({error}): train it anew") from error
        if not fits:
            raise ValueError(f"{os.fspath(path)} holds notes on its forecast that do not fit its model: train it anew")
        return made


@dataclass(frozen=True)
class Report:
    """What training gave, on the test part: the last fifth of the series.

    forecaster : Forecaster
    history : History
    scores : dict of dict
        "mae" and "rmse", in the target's units, of "model", "persistence" (as now), "last_week" (as seven days before, for
        rows a day apart) and "last_year" (as on the same day of the last year), over the same forecasts.
    no_last_year : str
        Why "last_year" is not there; empty if it is.
    rows : (N, H) int
        Row of the series that each forecast is for.
    truth, forecast : (N, H)
    band : (2, H)
        What to add to a forecast for the range that held the truth in 80 % of the validation.
    """

    forecaster: Forecaster
    history: "History"
    scores: dict[str, dict[str, float]]
    no_last_year: str
    rows: Array
    truth: Array
    forecast: Array
    band: Array


def _matrix(series: Series, names: Sequence[str], first: int = 0) -> Array:
    return np.column_stack([series.column(name, first) for name in names])


def _step_text(series: Series) -> str:
    return "" if series.step is None else str(series.step)


def train(samples: Samples, verbose: int = 1, callbacks: Sequence[Callback] = ()) -> Report:
    """Train a forecaster on the first part of a series, and test it on the last.

    Parameters
    ----------
    samples : Samples
    verbose : 0, 1 or 2
        Silent, a progress bar, or a line for each epoch.
    callbacks : sequence of `numlstm.callbacks`
    """
    training, validation, test, _ = samples.parts
    forecaster = _untrained(samples)
    goals = samples.goals()
    history = forecaster.model.fit(
        samples.x[training],
        goals[training],
        batch_size=BATCH_SIZE,
        epochs=samples.settings.epochs,
        validation_data=(samples.x[validation], goals[validation]),
        callbacks=[EarlyStopping(patience=PATIENCE, restore_best_weights=True), *callbacks],
        verbose=verbose,
    )
    forecast = forecaster.forecast(samples.x[test], samples.last[test])
    validated = forecaster.forecast(samples.x[validation], samples.last[validation])
    naive, no_last_year = naive_forecasts(samples.series, samples.series.column(forecaster.target), samples.rows[test])
    return Report(
        forecaster,
        history,
        {name: errors(values, samples.y[test]) for name, values in {"model": forecast, **naive}.items()},
        no_last_year,
        samples.rows[test],
        samples.y[test],
        forecast,
        np.quantile(samples.y[validation] - validated, _BAND, axis=0),
    )


def _untrained(samples: Samples) -> Forecaster:
    """Return a forecaster with a compiled network: LSTM layers, each with dropout behind it, and a linear one."""
    settings = samples.settings
    utils.set_random_seed(settings.seed)
    model = models.Sequential()
    for number in range(1, settings.layers + 1):
        model.add(LSTM(settings.hidden, return_sequences=number < settings.layers))
        model.add(Dropout(DROPOUT))
    model.add(Dense(settings.horizon))
    updates = settings.epochs * -(-len(samples.x[samples.parts.training]) // BATCH_SIZE)
    rate = optimizers.schedules.CosineDecay(LEARNING_RATE, updates)
    model.compile(optimizer=optimizers.Adam(rate, global_clipnorm=1.0), loss="mean_squared_error")
    return Forecaster(
        model,
        settings.target,
        settings.features,
        settings.lookback,
        settings.horizon,
        samples.inputs,
        samples.changes,
        _step_text(samples.series),
    )
