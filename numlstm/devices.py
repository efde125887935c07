"""Where a model is: in the CPU's memory, or on an NVIDIA GPU. No GPU's software is imported before a GPU is asked for."""

from typing import Any

import numpy as np

from . import _validate

__all__ = ["DEVICES", "DeviceError", "choose"]

Array = _validate.Array
on_gpu = _validate.on_gpu
DEVICES = ("cpu", "cuda", "auto")
PRECISIONS = ("float32", "float64", "tf32", "bfloat16")  # of products on a GPU
SWEEPS = ("registers", "rows", "graph", "steps")  # as kernels.cuda.recurrent has them


class DeviceError(RuntimeError):
    """A GPU that cannot be used, or cannot do what is asked of it: the message says what is missing, and what to do."""


def choose(device: Any) -> str:
    """Return "cpu" or "cuda"; for "auto" the latter if there is a GPU that can be used.

    Raises
    ------
    ValueError
        For another name.
    DeviceError
        If "cuda" is asked for and cannot be used: the message says whether the GPU, its driver, numba-cuda or CUDA's runtime
        is missing, and what to install.
    """
    if _validate.choice("device", device, DEVICES, gpu="cuda") == "cpu":
        return "cpu"
    from .backend.cuda.availability import missing

    what = missing()
    if what is not None and device == "cuda":
        raise DeviceError(f"device='cuda' cannot be used: {what}")
    return "cpu" if what is not None else "cuda"


def check_choices(device: str, stream: Any, precision: Any, sweep: Any) -> None:
    """Refuse what is chosen for a GPU where there is to be none, and names that nothing has, with ValueError."""
    for name, value in (("stream", stream), ("precision", precision), ("sweep", sweep)):
        if value is not None and device == "cpu":
            raise ValueError(f"{name} is for device='cuda' or 'auto', not for 'cpu'")
    _validate.optional_choice("precision", precision, PRECISIONS)
    _validate.optional_choice("sweep", sweep, SWEEPS)


def host(array: Any) -> Array:
    """Return an array in the CPU's memory: itself if it is there."""
    return array if isinstance(array, np.ndarray) else array.copy_to_host()


def write(array: Any, values: Array) -> None:
    """Write over an array, wherever it is."""
    if isinstance(array, np.ndarray):
        array[...] = values
    elif array.size:
        array.copy_to_device(np.ascontiguousarray(values, array.dtype))
