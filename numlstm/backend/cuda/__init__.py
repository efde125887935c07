"""The bridge to the kernels for NVIDIA GPUs, the twin of `numlstm.backend`."""

from typing import Any

from .device import Cuda


def open_device(stream: Any = None, precision: str | None = None, sweep: str | None = None) -> Cuda:
    """Return a GPU for one model. stream : of another library's, or its address; None for one of its own."""
    return Cuda(stream_address(stream), precision, sweep)


def stream_address(stream: Any) -> int | None:
    """Return where a CUDA stream is: an integer, or a stream of CuPy's, PyTorch's or numba-cuda's.

    The default stream's 0 becomes 1, its other name, for in what is handed between libraries 0 is none.
    """
    return None if stream is None else _address(stream) or 1


def _address(stream: Any) -> int:
    if isinstance(stream, int):
        return stream
    if hasattr(stream, "__cuda_stream__"):
        return int(stream.__cuda_stream__()[1])
    for name in ("ptr", "cuda_stream"):
        if hasattr(stream, name):
            return int(getattr(stream, name))
    raise TypeError(f"stream must be a CUDA stream or its address, not {stream!r}")
