"""What happens to arrays between the passes of layers, and sums of losses."""

from typing import Any

import numpy as np

from numlstm import _engine_weights, _validate, devices
from numlstm._validate import Array
from numlstm._workspace import Arena as Arena
from numlstm._workspace import aligned_empty

from .training import run_loss

VIEWS = True  # arrays (N, T, ..) can be seen with their steps the other way round

zeros, joined, widen, narrow = np.zeros, np.concatenate, _engine_weights.widen, _engine_weights.narrow


def converted(values: Array, memory: Array) -> Array:
    """Return numbers of any kind as passes read them: in memory of their shape."""
    _validate.convert(values, memory)
    return memory


array = np.array  # of an array of the host's: a copy


def place(layers: Any) -> None:
    """Bring the parameters and states of layers here."""
    for layer in layers:
        for name, parameter in layer.parameters.items():
            if not isinstance(parameter, np.ndarray):
                layer.parameters[name] = aligned_empty(parameter.shape, parameter.dtype)
                layer.parameters[name][...] = parameter.copy_to_host()
        layer.regroup()
        if layer.states is not None:
            layer.states = tuple(devices.host(state) for state in layer.states)


def host(array: Array) -> Array:
    """Return an array in the CPU's memory."""
    return array


def returned(array: Array, x: Array) -> Array:
    """Return what a pass left as the result for the user's data x: a copy."""
    return array.copy()


def lengths(lengths: Array | None) -> Array | None:
    """Return lengths (N,) int64 where the kernels read them."""
    return lengths


def fill(array: Array, value: float) -> None:
    """Write a number to all of an array."""
    array[...] = value


def copy(source: Array, to: Array) -> None:
    """Write an array over another one of its shape."""
    to[...] = source


def add(array: Array, other: Array) -> None:
    """Add an array to another one of its shape."""
    array += other


def set_key(options: Any, key: int) -> None:
    """Let options (kernels.options.Options) draw the masks of a key from now on."""
    options.key[0] = key


def clear(array: Array, lengths: Array) -> None:
    """Write 0 past the lengths to an array (N, T, ..)."""
    for row, length in zip(array, lengths.tolist(), strict=True):
        row[length:] = 0


def turn(array: Array, lengths: Array | None, out: Array) -> None:
    """Write an array (N, T, ..) to `out` with the steps of each sequence the other way round; past the lengths nothing."""
    if lengths is None:
        out[...] = array[:, ::-1]
        return
    for row, to, length in zip(array, out, lengths.tolist(), strict=True):
        to[:length] = row[:length][::-1]


def cut(array: Array, start: Any, stop: Any, out: Array) -> None:
    """Write steps `start` to `stop` of an array (N, T, ..), integers or (N,) each, to `out`, with 0 behind them."""
    if isinstance(start, int):
        out[...] = array[:, start:stop]
        return
    for to, row, first, last in zip(out, array, start.tolist(), stop.tolist(), strict=True):
        to[: last - first] = row[first:last]
        to[last - first :] = 0


def merge(mode: str, first: Array, second: Array, y: Array) -> None:
    """Write two outputs as one: "concat", or their "sum", "mul" or "ave"."""
    if mode == "concat":
        cut = first.shape[-1]
        y[..., :cut], y[..., cut:] = first, second
    elif mode == "mul":
        np.multiply(first, second, out=y)
    else:
        np.add(first, second, out=y)
        if mode == "ave":
            y /= 2


def unmerge(mode: str, dy: Array, outputs: tuple[Array, Array], gradients: tuple[Array, Array]) -> None:
    """Write the gradients of what `merge` made one."""
    (first, second), (to_first, to_second) = outputs, gradients
    if mode == "concat":
        cut = first.shape[-1]
        to_first[...], to_second[...] = dy[..., :cut], dy[..., cut:]
    elif mode == "mul":
        np.multiply(dy, second, out=to_first)
        np.multiply(dy, first, out=to_second)
    else:
        np.divide(dy, 2 if mode == "ave" else 1, out=to_first)
        to_second[...] = to_first


def add_loss(totals: Array, place: int, loss: Any, *arguments: Any) -> None:
    """Add a loss's sum over rows to element `place` of `totals`; the other arguments are those of `run_loss`."""
    totals[place] += run_loss(loss, *arguments)
