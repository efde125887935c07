"""How windows of a series are shown to the network."""

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
        shapes = {values.shape for values in (levels.mean, self.low, self.high, self.spread)}
        if len(shapes) > 1 or not (self.spread > 0).all():
            raise ValueError("there must be one number of each kind for each feature, and spread must be positive")

    @classmethod
    def fit(cls, values: Array, lookback: int, names: Sequence[str]) -> "Inputs":
        """Return what makes inputs of windows like those of values (T, F), which is what may be learnt from."""
        levels = Scaler.fit(values, names)
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
            "mean": self.levels.mean,
            "std": self.levels.std,
            "low": self.low,
            "high": self.high,
            "spread": self.spread,
        }
        return {name: array.tolist() for name, array in arrays.items()}

    @classmethod
    def from_notes(cls, notes: dict[str, Any]) -> "Inputs":
        """Return inputs from their notes; TypeError, ValueError or KeyError if these are no such."""
        return cls(Scaler(notes["mean"], notes["std"]), notes["low"], notes["high"], notes["spread"])
