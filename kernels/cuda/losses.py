"""Losses and metrics on the GPU: those of kernels/losses.py, a row for each thread."""

import numpy as np
from numlstm.kernels import losses

from .elementwise import THREADS, place, softmax_row
from .machine import device, kernel, load, store
from .scalar import scalar


@device
def _weight_of_class(target, r, c):
    return 1.0 if load(target, r) == c else 0.0


@device
def _weight_of_weights(target, r, c):
    return np.float64(load(target, r * target.shape[1] + c))


def loss(kind, classes: bool):
    """Return the kernel (loss, prediction, target, weights, lengths, scale, gradient, values) of a loss or metric.

    kind : one of losses' namedtuples; classes : whether targets are class numbers, (R,) int64, of a loss over rows
    scale : by which the gradient is multiplied; all arguments as losses.loss_rows's
    """
    chosen = {"_weight_of": _weight_of_class if classes else _weight_of_weights, "softmax_row": softmax_row}
    if kind in losses._ELEMENTS:
        row_loss = scalar(losses._row_of_elements, element_loss=scalar(losses._ELEMENTS[kind]))
    else:
        row_loss = scalar(losses._ROWS[kind], **chosen)

    @kernel(THREADS)
    def loss(loss, prediction, target, weights, lengths, scale, gradient, values):
        r, rows, columns = place(), prediction.shape[0], prediction.shape[1]
        if r >= rows:
            return
        steps = rows // max(1, lengths.shape[0])
        if lengths.shape[0] > 0 and r % steps >= load(lengths, r // steps):
            store(values, r, np.float64(0))
            for c in range(columns if gradient.shape[0] > 0 else 0):
                gradient[r, c] = 0
        else:
            weight = np.float64(load(weights, r)) if weights.shape[0] > 0 else 1.0
            store(values, r, np.float64(weight * row_loss(loss, prediction, target, r, weight * scale, gradient)))

    return loss
