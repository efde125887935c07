"""Memory on a GPU: arrays, those that are kept, and what comes from the user and goes back."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from numlstm._validate import Array
from numlstm._workspace import Arena

from . import dlpack
from .allocation import allocate
from .kernels import kernels

DeviceArray = Any  # C-contiguous, on the GPU
ALIGNMENT = 128  # bytes
_LEAST_BLOCK = 1 << 20  # bytes of an arena's first block
_MOST = 256  # of arrays that are kept by their names


class Arrays:
    """Arrays of one model on a GPU, and the stream to which all that is done with them goes.

    memory, operations, recurrent : modules of `numlstm.kernels.cuda`
    stream : of this address, somebody else's; None for one of its own
    """

    def __init__(self, stream: int | None = None) -> None:
        self.memory, self.operations, self.recurrent = kernels()
        self.stream, self._stream_is_ours = self.memory.stream(stream), stream is None
        self._kept: dict[Any, DeviceArray] = {}
        self._lengths: tuple[Any, DeviceArray] = (None, None)

    def empty(self, shape: Any, dtype: Any) -> DeviceArray:
        """Return an array that holds anything; DeviceError where there is not as much memory left."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        return allocate(self.memory, shape, np.dtype(dtype), self.stream)

    def array(self, values: Array) -> DeviceArray:
        """Return a copy of an array of the host's."""
        array = self.empty(values.shape, values.dtype)
        if values.size:
            array.copy_to_device(np.ascontiguousarray(values), stream=self.stream)
        return array

    def host(self, array: DeviceArray) -> Array:
        """Return a copy on the host."""
        copied: Array = array.copy_to_host(stream=self.stream)
        self.stream.synchronize()
        return copied

    def returned(self, array: DeviceArray, x: Any) -> Any:
        """Return what a pass left as the result for the user's data x: a copy, where x is."""
        return self.host(array) if isinstance(x, np.ndarray) else self.joined([array])

    def joined(self, arrays: Sequence[DeviceArray]) -> DeviceArray:
        """Return arrays one after the other, as one for the user."""
        out, at = self.empty((sum(len(a) for a in arrays), *arrays[0].shape[1:]), arrays[0].dtype), 0
        for array in arrays:
            self.copy_rows(array, (0, 0), out, (at, 0), 1, array.size)
            at += array.size
        return dlpack.share(out, self.memory)

    def convert(self, values: Any, out: DeviceArray) -> None:
        """Write numbers of any kind over an array of their shape; a GPU's have its dtype already."""
        if isinstance(values, np.ndarray):
            if out.size:
                out.copy_to_device(np.ascontiguousarray(values.astype(out.dtype, copy=False)), stream=self.stream)
        else:
            self.copy(values, out)

    def synchronize(self) -> None:
        """Wait for all that was asked of the GPU."""
        self.stream.synchronize()

    def converted(self, values: Any, memory: DeviceArray) -> DeviceArray:
        """Return numbers as passes read them, which may refer to them for longer than they are there.

        A GPU's are where they are, the host's in memory of their shape.
        """
        if not isinstance(values, np.ndarray):
            return self.memory.alias(values)
        self.convert(values, memory)
        return memory

    def adopted(self, name: str, array: Any) -> DeviceArray:
        """Return an array of another library's, without a copy: by DLPack, or else by its CUDA Array Interface."""
        if hasattr(array, "__dlpack__"):
            wait = self.stream.synchronize if self._stream_is_ours else None
            array = dlpack.Borrowed(name, array, self.memory.number(), int(self.stream), wait)
        adopted = self.memory.adopt(array)
        if adopted is None:
            raise ValueError(f"{name} is on a GPU, and must be C-contiguous there: make a contiguous copy")
        return adopted

    def zeros(self, shape: Any, dtype: Any) -> DeviceArray:
        """Return an array of zeros."""
        array = self.empty(shape, dtype)
        self.fill(array, 0)
        return array

    def constant(self, shape: tuple[int, ...], dtype: Any, value: float = 0) -> DeviceArray:
        """Return an array of one number that nobody writes to, the same memory for all shapes of a size."""
        key = "constant", value, tuple(shape), np.dtype(dtype)
        if key not in self._kept:
            size, flat = math.prod(shape), ("constant", value, np.dtype(dtype))
            if size and (flat not in self._kept or self._kept[flat].size < size):
                self._keep(flat, self.empty((size,), dtype))
                self.fill(self._kept[flat], value)
            self._keep(key, self._kept[flat][:size].reshape(shape) if size else self.empty(shape, dtype))
        return self._kept[key]

    def _keep(self, key: Any, array: DeviceArray) -> None:
        if len(self._kept) >= _MOST:
            self._kept.clear()
        self._kept[key] = array

    def kept(self, name: str, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """Return memory for something of this name, shape and dtype, the same at each call."""
        key = name, tuple(shape), np.dtype(dtype)
        if key not in self._kept:
            self._keep(key, self.empty(shape, dtype))
        return self._kept[key]

    def scratch(self, name: str, values: Array) -> DeviceArray:
        """Return a copy of a small array of the host's, in memory that the next one of this name and shape overwrites."""
        array = self.kept(name, values.shape, values.dtype)
        self.convert(values, array)
        return array

    def lengths(self, lengths: Array | None) -> DeviceArray | None:
        """Return lengths (N,) of the host's where the kernels read them."""
        if lengths is None:
            return None
        if self._lengths[0] is not lengths:
            self._lengths = lengths, self.scratch("lengths", lengths)
        return self._lengths[1]

    def fill(self, array: DeviceArray, value: float) -> None:
        if array.size:
            self.operations.fill(self.stream, array.reshape(array.size), float(value))

    def copy(self, source: DeviceArray, to: DeviceArray) -> None:
        self.copy_rows(source, (0, 0), to, (0, 0), 1, source.size)

    def copy_rows(
        self, source: DeviceArray, rows: tuple[int, int], to: DeviceArray, to_rows: tuple[int, int], count: int, columns: int
    ) -> None:
        """Copy rows; `rows`, `to_rows` : at which element the first one begins, and after how many the next."""
        if count * columns:
            from_here, to_there = (source.reshape(source.size), *rows), (to.reshape(to.size), *to_rows)
            self.operations.copy_rows(self.stream, from_here, to_there, count, columns)

    def Arena(self) -> Arena:
        """Return an arena on the GPU."""
        return Arena(_Room(self))


class _Room:
    """A GPU's memory for arenas, whose blocks are its memory manager's again when they are let go."""

    alignment = ALIGNMENT

    def __init__(self, device: Arrays) -> None:
        self._device = device

    def block(self, size: int, held: int) -> DeviceArray:
        return self._device.empty((max(size, _LEAST_BLOCK, held),), np.uint8)

    def part(self, block: DeviceArray, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceArray:
        if math.prod(shape) == 0:
            return self._device.empty(shape, dtype)
        return self._device.memory.carve(block, start, shape, dtype, self._device.stream)

    def give_back(self, block: DeviceArray) -> None:
        pass
