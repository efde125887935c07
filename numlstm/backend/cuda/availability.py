"""Whether there is a GPU that can be used, and if not, what is missing."""

import functools
import importlib
import importlib.util
import os

_LEAST = 7, 5  # compute capability
_EXTRAS = "'numlstm[cuda13]', or with a driver older than version 580 'numlstm[cuda12]'"


@functools.cache
def missing() -> str | None:
    """Return what is missing for a GPU and what to do about it, None if nothing is."""
    if importlib.util.find_spec("numba_cuda") is None:
        return f"numba-cuda is not installed; pip install {_EXTRAS}"
    try:
        cuda = importlib.import_module("numba.cuda")
    except Exception as error:  # the wheels raise exceptions of their own
        return f"CUDA's runtime is not installed as numba-cuda needs it ({_line(error)}); pip install {_EXTRAS}"
    try:
        device = cuda.get_current_device()
    except Exception as error:  # of the driver, which has one for each version
        return _without(error)
    if device.compute_capability < _LEAST:
        has, least = (".".join(map(str, version)) for version in (device.compute_capability, _LEAST))
        return f"the GPU has compute capability {has}, and {least} is the least"
    return None


def _without(error: Exception) -> str:
    """Return what the driver's error says is missing."""
    if "NO_DEVICE" in str(error) or isinstance(error, IndexError):
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        hint = f": CUDA_VISIBLE_DEVICES is {hidden!r}" if hidden is not None else ""
        return f"the driver finds no NVIDIA GPU{hint}"
    if "cannot be found" in str(error) or "NOT_FOUND" in str(error):
        return "NVIDIA's driver is not installed; it comes from the system's packages or nvidia.com/drivers, not from pip"
    return f"the driver does not start ({_line(error)})"


def _line(error: Exception) -> str:
    """Return an error in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
