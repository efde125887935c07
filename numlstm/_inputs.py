"""How a series becomes samples: what is shown to the network, and what it is to answer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import data
from ._validate import Array
from .data import Scaler


class Inputs:
    """Makes 2F inputs of F features: their levels, and how far they are from the window's last row.

    Levels are held within the range that was learnt from: beyond it a network answers at random, while a series that
    trends soon leaves it. Its distances from the last row do not.

    levels : Scaler
        Of the features.
    low, high : (F,)
        Range of the scaled levels.
    spread : (F,)
        Root mean square of the distances.
    """

    def __init__(self, levels: Scaler, low: npt.ArrayLike, high: npt.ArrayLike, spread: npt.ArrayLike) -> None:
        self.levels = levels
        self.low, self.high, self.spread = (np.array(values, np.float64) for values in (low, high, spread))
        shapes = {values.shape for values in (levels.offset, self.low, self.high, self.spread)}
        if len(shapes) > 1 or not (self.spread > 0).all():
            raise ValueError("there must be one number of each kind for each feature, and spread must be positive")

    @classmethod
    def fit(cls, values: Array, lookback: int, names: Sequence[str]) -> "Inputs":
        """Return what makes inputs of windows like those of values (T, F), which is what may be learnt from."""
        levels = Scaler.standard(values, names)
        scaled = levels.transform(values)
        windows = data.sliding_windows(values, lookback)
        spread = np.sqrt(np.square(windows - windows[:, -1:]).mean(axis=(0, 1)))
        return cls(levels, scaled.min(axis=0), scaled.max(axis=0), np.where(spread > 0, spread, 1))  # 0 for one row

    def __call__(self, windows: Array) -> Array:
        """Return the inputs (N, L, 2F), float32, of windows (N, L, F) in the features' units."""
        levels = np.clip(self.levels.transform(windows), self.low, self.high)
        distances = (windows - windows[:, -1:]) / self.spread
        return np.concatenate([levels, distances], axis=2, dtype=np.float32, casting="same_kind")

    def notes(self) -> dict[str, list[float]]:
        """Return what `from_notes` makes the same inputs of, as JSON can hold it."""
        arrays = {
            "mean": self.levels.offset,
            "std": self.levels.scale,
            "low": self.low,
            "high": self.high,
            "spread": self.spread,
        }
        return {name: array.tolist() for name, array in arrays.items()}

    @classmethod
    def from_notes(cls, notes: dict[str, Any]) -> "Inputs":
        """Return inputs from their notes; TypeError, ValueError or KeyError if these are no such."""
        return cls(Scaler(notes["mean"], notes["std"]), notes["low"], notes["high"], notes["spread"])


class Prepared:
    """A series cut into samples, with what scales them fitted on those to learn from.

    inputs : Inputs
        What makes the network's inputs.
    changes : numlstm.data.Scaler
        Of the target's H changes from its last value.
    x : (N, L, 2F) float32
        Inputs.
    last : (N,)
        The target's last value in each window.
    y : (N, H)
        The target after each window.

    Raises
    ------
    ValueError
        If there is nothing to learn from a column, or it cannot be scaled: the message names it.
    """

    def __init__(
        self,
        target: Array,
        values: Array,
        lookback: int,
        horizon: int,
        parts: data.Parts,
        names: tuple[str, Sequence[str]],
        how_to_leave_out: str = "",
    ) -> None:
        """Cut a target (T,), and the features (T, F) that it is forecast from; `names` is what messages call these."""
        learnt, known = target[: parts.rows_to_train], values[: parts.rows_to_train]
        if (learnt == learnt[0]).all():
            rows = f"{learnt[0]:g} in all of the {len(learnt)} rows to learn from"
            raise ValueError(f"{names[0]} is constant, {rows}: choose another target")
        try:
            self.inputs = Inputs.fit(known, lookback, names[1])
        except ValueError as error:
            raise ValueError(f"{error}{how_to_leave_out}") from None
        self.x = self.inputs(data.sliding_windows(values, lookback)[:-horizon])
        self.y = data.sliding_windows(target[lookback:], horizon)
        self.last = target[lookback - 1 : -horizon]
        changes = (self.y - self.last[:, np.newaxis])[parts.training]
        spread = changes.std(axis=0)
        same = spread <= 1e-9 * learnt.std()  # as after seven days in a pattern of weeks
        if same.all():
            raise ValueError(f"{names[0]} changes by the same amount at each step: there is nothing to learn")
        self.changes = Scaler(changes.mean(axis=0), np.where(same, 1.0, spread))

    def goals(self) -> Array:
        """Return what the network is to answer (N, H): the changes, scaled."""
        return self.changes.transform(self.y - self.last[:, np.newaxis])
