"""Where a model is and computes: on the CPU or a GPU."""

import functools
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from . import devices
from .layers import Layer

if TYPE_CHECKING:
    from ._plan import Predictor

_Model = TypeVar("_Model", bound="Placed")


@functools.cache
def _cpu() -> Any:
    from . import backend

    return backend


class Placed:
    """Layers with a device."""

    dtype: np.dtype[Any]

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self._gpu: Any = None  # the backend, for a model that is on one
        self._predictors: list[Predictor] = []  # one at the most

    @property
    def device(self) -> str:
        """Where the model is and computes: "cpu" or "cuda"."""
        return "cpu" if self._gpu is None else "cuda"

    @property
    def backend(self) -> Any:
        """What computes: `numlstm.backend`, or its like for a GPU."""
        return _cpu() if self._gpu is None else self._gpu

    def to(self: _Model, device: str, stream: Any = None, precision: str | None = None, sweep: str | None = None) -> _Model:
        """Bring the model, with what its optimiser keeps, to a device, and return it; data follows batch by batch.

        On a GPU `fit` copies its samples there once, or each batch where they take more than half of its free memory;
        `predict` takes NumPy arrays there and its results back. Arrays that are on the GPU already, of anything with DLPack
        or a CUDA Array Interface (CuPy, PyTorch, numba-cuda), are read where they are if C-contiguous, in the model's dtype:
        as x of `predict`, whose results are then on the GPU and have both, too, and as x and y of `fit` and `evaluate`.
        By DLPack the model's stream waits for theirs and theirs for the model's; before an array is given back the host
        waits for the model, unless that works on a stream of theirs. Weights come back by `get_weights`, `save` and
        ``to("cpu")``, which everything else needs that looks into a model: `jit`, `stream`, `trace`, copies. On a GPU only
        one thread at a time may use a model.

        The other choices are of the device, not of the model, and are not saved. With none of them a model stays on the GPU
        as it is; with some the others get their defaults.

        Parameters
        ----------
        device : "cpu", "cuda" or "auto"
            The latter takes a GPU if there is one that can be used; on the CPU the other choices have no effect.
        stream : optional
            A CUDA stream for all work on the GPU: its address, or a stream of CuPy, PyTorch or numba-cuda. One of the
            model's own if left out.
        precision : "tf32", "bfloat16", "float32" or "float64", optional
            Of matrix products. The first two are for tensor cores, for a float32 model on a GPU of compute capability 8.0:
            factors are rounded to 11 or 8 bits; sums and all else, weights too, stay in float32. If left out, the model's
            dtype, which is exact.
        sweep : "registers", "rows", "graph" or "steps", optional
            How recurrent layers go through their steps; if left out, chosen by their units, their cell and the precision.
            "registers": one launch, with recurrent weights held in registers, on tensor cores: up to 64 units in tf32, 128
            in bfloat16, for cells that have one product a step, one or two states, and no options. "rows": one launch, in
            which each step reads the weights, with exact recurrent products, for cells with one product a step. "steps": a
            launch a step, or up to four. "graph": these launches recorded once and replayed. With layer_norm the last two
            alone.

        Raises
        ------
        ValueError
            If the precision is not for the model's dtype, or the sweep not for a layer.
        DeviceError
            If there is no such device, or it has no tensor cores for the precision: the message says what is missing.
        """
        devices.check_choices(device, stream, precision, sweep)
        device = devices.choose(device)
        if device == self.device and stream is None and precision is None and sweep is None:
            return self
        gpu = None
        if device == "cuda":
            from .backend.cuda import open_device

            gpu = open_device(stream, precision, sweep)
            gpu.check(self.layers, self.dtype)
        before, self._gpu, self._predictors = self._gpu, gpu, []
        if before is not None:
            before.synchronize()
        try:
            self.backend.place(self.layers)
        except BaseException:
            self._gpu = before
            raise
        return self

    def adopted(self, name: str, array: Any, dtype: np.dtype[Any]) -> Any:
        """Return an array on a GPU as passes there read it, without a copy; but whole numbers on the host, to be checked.

        Anything else is returned as it is, and so is everything if the model is on the CPU.

        Raises
        ------
        TypeError, ValueError
            For another dtype, or an array that is not C-contiguous.
        """
        if self._gpu is None or not devices.on_gpu(array):
            return array
        adopted = self._gpu.adopted(name, array)
        if adopted.dtype.kind in "iu" and dtype.kind in "iu":
            return self._gpu.host(adopted)
        if adopted.dtype != dtype:
            raise TypeError(f"{name} is on a GPU as {adopted.dtype}, and must be {dtype} there: nothing is converted")
        return adopted

    def _only_on_the_cpu(self, what: str) -> None:
        if self._gpu is not None:
            raise devices.DeviceError(f"a model on a GPU cannot be {what}: call its to('cpu') before")

    def _settle(self) -> None:
        """Let parameters that were made follow the others to a GPU."""
        parameters = [parameter for layer in self.layers for parameter in layer.parameters.values()]
        if self._gpu is not None and any(isinstance(parameter, np.ndarray) for parameter in parameters):
            self._gpu.place(self.layers)
