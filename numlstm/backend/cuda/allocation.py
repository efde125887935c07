"""A GPU's memory that runs out: what is said then."""

import math
from typing import Any

import numpy as np

from numlstm.devices import DeviceError

_SMALLER = "a smaller batch_size"


def allocate(memory: Any, shape: tuple[int, ...], dtype: np.dtype[Any], stream: Any, less: str = _SMALLER) -> Any:
    """Return an array on the GPU that holds anything.

    memory : numlstm.kernels.cuda.memory; less : what takes less

    Raises
    ------
    DeviceError
        Where there is not as much memory left.
    """
    try:
        return memory.empty(shape, dtype, stream)
    except memory.OutOfMemory:
        asked, free = _size(math.prod(shape) * dtype.itemsize), _size(memory.free_memory())
        raise DeviceError(
            f"the GPU is out of memory: {asked} more were asked for, {free} are free; {less} takes less"
        ) from None


def pinned(memory: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Return an array on the host that copies to the GPU read while the host goes on; raises as `allocate`."""
    try:
        return memory.pinned(shape, dtype)
    except memory.OutOfMemory:
        asked = _size(math.prod(shape) * dtype.itemsize)
        raise DeviceError(
            f"the host is out of memory that the GPU can read: {asked} more were asked for; {_SMALLER} takes less"
        ) from None


def _size(count: int) -> str:
    """Return a number of bytes in words."""
    value = float(count)
    for unit in ("bytes", "KB", "MB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} GB"
