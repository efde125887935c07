"""Batches for training on a GPU: all samples go there at once, or batch by batch where they do not fit."""

from typing import TYPE_CHECKING, Any

import numpy as np

from numlstm import _validate
from numlstm._validate import Array

from .allocation import pinned

if TYPE_CHECKING:
    from .arrays import DeviceArray
    from .device import Cuda

Data = Any  # numlstm._samples.Data: lengths and what is empty stay on the host
_SHARE = 0.5  # of the free memory that samples may take
_PART = 1 << 26  # bytes that are converted at once
_MOST = 16  # pairs of buffers that are kept: memory of the host's that nothing else can use


class Feed:
    """Takes batches from samples; x becomes `x_dtype`."""

    def __init__(self, device: "Cuda", x_dtype: np.dtype[Any]) -> None:
        self._device, self._x_dtype = device, x_dtype
        self._pinned: dict[Any, list[tuple[Array, Any]]] = {}

    def place(self, data: Data) -> Data:
        """Return samples on the GPU, or as they are where they would take too much of its memory."""
        arrays = [array for name, array in data._asdict().items() if self._goes(name, array)]
        size = sum(array.size * max(array.dtype.itemsize, self._x_dtype.itemsize) for array in arrays)
        if size > _SHARE * self._device.memory.free_memory():
            return data
        return data.each(lambda name, array: self._placed(name, array) if self._goes(name, array) else array)

    @staticmethod
    def _goes(name: str, array: Any) -> bool:
        return isinstance(array, np.ndarray) and array.size > 0 and name != "lengths"

    def _dtype(self, name: str, array: Array) -> np.dtype[Any]:
        return self._x_dtype if name == "x" else array.dtype

    def _placed(self, name: str, array: Array) -> "DeviceArray":
        out = self._device.empty(array.shape, self._dtype(name, array))
        rows = max(1, _PART // max(1, out.nbytes // len(array)))
        for first in range(0, len(array), rows):
            self._device.convert(array[first : first + rows], out[first : first + rows])
        return out

    def gather(self, data: Data, rows: Array) -> Data:
        """Return the samples of these rows, in memory that the next call overwrites."""
        there = self._device.scratch("rows", rows)
        return data.each(lambda name, array: self._gathered(name, array, rows, there))

    def _gathered(self, name: str, array: Any, rows: Array, there: "DeviceArray") -> Any:
        if isinstance(array, np.ndarray):
            return self._sent(name, array, rows)
        out, each = self.buffer(name, (len(rows), *array.shape[1:]), array.dtype), array.size // len(array)
        self._device.gather(array.reshape(len(array), each), there, out.reshape(len(rows), each))
        return out

    def part(self, data: Data, start: int, stop: int) -> Data:
        """Return successive samples, which do not keep the memory of those that are on the GPU."""
        rows, alias = slice(start, stop), self._device.memory.alias
        return data.each(lambda name, a: self._sent(name, a, rows) if isinstance(a, np.ndarray) else alias(a[rows]))

    def _sent(self, name: str, array: Array, rows: Any) -> Any:
        """Return samples of the host's on the GPU, which copies them while the host goes on to the next batch."""
        if not self._goes(name, array):
            return array[rows]
        taken = array[rows]
        out = self.buffer(name, taken.shape, self._dtype(name, array))
        pinned, copied = self._free(name, out)
        copied.synchronize()
        _validate.convert(taken, pinned)
        out.copy_to_device(pinned, stream=self._device.stream)
        copied.record(self._device.stream)
        return out

    def _free(self, name: str, like: "DeviceArray") -> tuple[Array, Any]:
        """Return one of two buffers by turns, and the event at which it can be written again."""
        key, machine = (name, like.shape), self._device.memory
        if key not in self._pinned:
            if len(self._pinned) >= _MOST:
                self._device.synchronize()  # which may read some of them
                self._pinned.clear()
            self._pinned[key] = [(pinned(machine, like.shape, like.dtype), machine.event()) for _ in range(2)]
        self._pinned[key].reverse()
        return self._pinned[key][0]

    def buffer(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> "DeviceArray":
        """Return memory for something of this name, shape and dtype, the same at each call."""
        return self._device.kept(name, shape, dtype)
