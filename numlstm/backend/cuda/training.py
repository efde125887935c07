"""Losses, updates of parameters and clipping on a GPU; the host learns of none of their numbers."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from numlstm._validate import Array
from numlstm.kernels import losses

if TYPE_CHECKING:
    from .arrays import Arrays, DeviceArray
    from .device import Cuda

_PARTS, _EACH = 64, 1024  # into how many a sum falls at the most, and how many numbers are worth one


def add_loss(
    device: "Cuda",
    totals: "DeviceArray",
    place: int,
    loss: Any,
    prediction: "DeviceArray",
    labels: "DeviceArray",
    weights: Any,
    lengths: Array | None,
    scale: float,
    gradient: "DeviceArray",
    values: "DeviceArray",
) -> None:
    """Add a loss's sum over rows to element `place` of `totals`; write `scale` times its gradient.

    weights : of R rows, or of none; lengths : of the host's; the other arguments are those of `numlstm.backend.run_loss`
    """
    none = device.constant((0,), prediction.dtype)
    weights = weights.reshape(weights.size) if weights.size else none
    on_device = device.constant((0,), np.int64) if lengths is None else device.lengths(lengths)
    if isinstance(loss, losses.Quantile):
        loss = loss._replace(levels=device.scratch("levels", loss.levels))
    sums = workspace(device, prediction.shape[0])
    given = prediction, labels, weights, on_device, scale, gradient
    device.operations.loss(device.stream, loss, *given, values=values, sums=sums)
    device.operations.add_total(device.stream, sums, totals, place)


def workspace(device: "Arrays", size: int) -> "DeviceArray":
    """Return the workspace of a sum over so many numbers."""
    return device.kept("sums", (1 + max(1, min(_PARTS, -(-size // _EACH))),), np.float64)


class Updates:
    """Parameters that move together, their gradients, and what a rule keeps of them; all as long as `Cuda.parameters`.

    gradients : (p,) each
    """

    def __init__(self, device: "Cuda", parameters: Sequence["DeviceArray"], slots: int, dtype: np.dtype[Any]) -> None:
        assert device.parameters is not None
        self._device, size, sizes = device, device.parameters.size, [parameter.size for parameter in parameters]
        self._parts = list(zip(device.starts, sizes, strict=True))
        self._gradient, self._slots = device.zeros((size,), dtype), device.zeros((slots, size), dtype)  # gaps stay 0
        self.gradients = [self._gradient[start : start + count] for start, count in self._parts]
        self._factor = device.empty((1,), np.float64)

    def kept(self) -> list[Array]:
        """Return what the rule keeps of each parameter, (S, p), on the host."""
        slots = self._device.host(self._slots)
        return [slots[:, start : start + count] for start, count in self._parts]

    def take(self, kept: Sequence[Array]) -> None:
        """Take up what `kept` returned."""
        slots = np.zeros(self._slots.shape, self._slots.dtype)
        for (start, count), mine in zip(self._parts, kept, strict=True):
            slots[:, start : start + count] = mine
        self._device.convert(slots, self._slots)

    def waiting(self) -> Array:
        """Return the gradient (P,) of all parameters, on the host, as the CPU has it."""
        gradient = self._device.host(self._gradient)
        return np.concatenate([gradient[start : start + count] for start, count in self._parts])

    def wait(self, gradient: Array) -> None:
        """Take up what `waiting` returned."""
        ends = itertools.accumulate(count for _, count in self._parts)
        for part, (_, count), end in zip(self.gradients, self._parts, ends, strict=True):
            self._device.convert(gradient[end - count : end], part)

    def apply(self, rule: Any, scale: float, limit: float | None, each_limit: float | None, bound: float | None) -> None:
        """Move the parameters by a step against their gradients times `scale`; arguments are those of the CPU's."""
        device, run = self._device, self._device.operations
        if each_limit is not None:
            for part in self.gradients:
                self._find_factor(part, scale, each_limit)
                run.scale(device.stream, part, self._factor)
            scale = 1.0
        self._find_factor(self._gradient, scale, limit)
        state = device.parameters, self._gradient, self._slots
        run.update(device.stream, rule, *state, self._factor, bound or 0.0)

    def _find_factor(self, gradient: "DeviceArray", scale: float, limit: float | None) -> None:
        """Let the factor be `scale`, or less where the norm of the gradient times it is above a limit."""
        device, run = self._device, self._device.operations
        device.fill(self._factor, scale)
        if limit is not None:
            sums = workspace(device, gradient.size)
            run.sum_of_squares(device.stream, gradient, sums)
            run.clip(device.stream, sums[:1], limit, self._factor)
