"""Batches for training on the CPU: samples of arrays, in memory that is taken once."""

from typing import Any

import numpy as np

from numlstm import _validate
from numlstm._validate import Array
from numlstm._workspace import aligned_empty

Data = Any  # numlstm._samples.Data
_MOST = 64  # of buffers that are kept


class Feed:
    """Takes batches from samples; x becomes `x_dtype`."""

    def __init__(self, x_dtype: np.dtype[Any]) -> None:
        self._x_dtype = x_dtype
        self._buffers: dict[Any, Array] = {}

    def place(self, data: Data) -> Data:
        """Return samples where batches are taken from."""
        return data

    def gather(self, data: Data, rows: Array) -> Data:
        """Return the samples of these rows, in memory that the next call overwrites."""
        return data.each(lambda name, array: self._taken(name, array, rows))

    def part(self, data: Data, start: int, stop: int) -> Data:
        """Return successive samples, x in memory that the next call overwrites if it is not where it is read from."""
        part = data.part(start, stop)
        return part if _validate.is_ready(part.x, self._x_dtype) else part._replace(x=self._converted("x", part.x))

    def _taken(self, name: str, array: Array, rows: Array) -> Array:
        if name == "x" and not _validate.is_ready(array, self._x_dtype):
            return self._converted(name, array[rows])
        buffer = self.buffer(name, (len(rows), *array.shape[1:]), array.dtype)
        return np.take(array, rows, axis=0, out=buffer, mode="clip")  # "raise" would allocate

    def _converted(self, name: str, array: Array) -> Array:
        buffer = self.buffer(name, array.shape, self._x_dtype)
        _validate.convert(array, buffer)
        return buffer

    def buffer(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return memory for something of this name, shape and dtype, the same at each call."""
        key = name, shape, dtype
        if key not in self._buffers:
            if len(self._buffers) >= _MOST:
                self._buffers.clear()
            self._buffers[key] = aligned_empty(shape, dtype)
        return self._buffers[key]
