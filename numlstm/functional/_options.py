"""What may be done to the states of a layer's cell."""

from typing import Any, NamedTuple

import numpy as np

from numlstm import _validate, cells
from numlstm._validate import Array
from numlstm.cells import Spec


class RNNOptions(NamedTuple):
    """What may be done to the states of any cell, for `rnn`.

    cell_clip : c is limited to -cell_clip..cell_clip before h is made of it; of the LSTM family
    zoneout : probabilities in 0..1 with which a unit's h, and its c, stay as they were before a step (Krueger et al. 2017)
    seed : of zoneout's masks, in training; without it the states are mixed by the probabilities, as inference does
    recurrent_mask : (N, H), by which h is multiplied before every product: with zeros in some places and 1 / (1 - rate) in
        the others that is recurrent dropout, with one mask a sequence (Gal and Ghahramani 2016). A tape refers to it: leave
        it unchanged
    """

    cell_clip: float | None = None
    zoneout: tuple[float, float] = (0.0, 0.0)
    seed: int | None = None
    recurrent_mask: Array | None = None


def checked_options(
    spec: Spec, options: Any, sizes: tuple[int, int], like: tuple[str, np.dtype[Any]]
) -> tuple[float | None, tuple[float, float], int | None, Array] | None:
    """Return what `backend.options_of` takes, None where all options are at rest."""
    if not isinstance(options, RNNOptions):
        raise TypeError(f"options must be an RNNOptions, not {type(options).__name__}")
    mask = np.empty((0, sizes[1]), like[1])
    if options.recurrent_mask is not None:
        mask = _validate.floating("recurrent_mask", options.recurrent_mask, like)
        _validate.shape("recurrent_mask", mask, dict(zip("NH", sizes, strict=True)))
    clip, zoneout = cells.checked_options(spec, options.cell_clip, options.zoneout)
    seed = None if options.seed is None else _validate.whole("seed", options.seed, 0)
    if seed is not None and seed >= 1 << 64:
        raise ValueError(f"seed must be below 2**64, not {seed}")
    if clip is None and not any(zoneout) and not len(mask):
        return None
    return clip, zoneout, seed, mask
