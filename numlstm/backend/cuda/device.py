"""A GPU as a model sees it: what `numlstm.backend` is for the CPU, under the same names."""

import math
from typing import Any, ClassVar, NamedTuple

import numpy as np

from numlstm._validate import Array
from numlstm.backend.feedforward import ACTIVATIONS
from numlstm.backend.weights import kind_of, options_of
from numlstm.devices import DeviceError

from . import feed, feedforward, recurrent, training
from .kernels import kernels
from .support import check

DeviceArray = Any  # C-contiguous, on the GPU
_ALIGNMENT = 128  # bytes
_LEAST_BLOCK = 1 << 20  # bytes of an arena's first block
_MOST = 256  # of arrays that are kept by their names


class Cuda:
    """The GPU's side of one model: its parameters, and a stream to which all that it computes goes.

    memory, operations, recurrent : modules of `numlstm.kernels.cuda`
    parameters : (P,)  all that were placed, one after the other, with gaps; starts : where each begins
    """

    VIEWS = False
    ACTIVATIONS: ClassVar[dict[str, int]] = ACTIVATIONS

    kind_of, check = staticmethod(kind_of), staticmethod(check)

    def __init__(self, stream: int | None = None, tile: Any = None) -> None:
        self.memory, self.operations, self.recurrent = kernels()
        self.stream, self.tile = self.memory.stream(stream), tile
        self.parameters: DeviceArray | None = None
        self.starts: list[int] = []
        self._kept: dict[Any, DeviceArray] = {}
        self._lengths: tuple[Any, DeviceArray] = (None, None)

    # --- memory ---

    def empty(self, shape: Any, dtype: Any) -> DeviceArray:
        """Return an array that holds anything; DeviceError where there is not as much memory left."""
        shape, dtype = (shape,) if isinstance(shape, int) else tuple(shape), np.dtype(dtype)
        try:
            return self.memory.empty(shape, dtype, self.stream)
        except self.memory.OutOfMemory:
            size, free = math.prod(shape) * dtype.itemsize, self.memory.free_memory()
            raise DeviceError(
                f"the GPU is out of memory: {_size(size)} more were asked for, {_size(free)} are free; a smaller batch_size "
                "takes less"
            ) from None

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
        if isinstance(x, np.ndarray):
            return self.host(array)
        out = self.empty(array.shape, array.dtype)
        self.copy(array, out)
        return out

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
        """Return numbers as passes read them: a GPU's as they are, the host's in memory of their shape."""
        if not isinstance(values, np.ndarray):
            return values
        self.convert(values, memory)
        return memory

    def adopted(self, name: str, array: Any) -> DeviceArray:
        """Return an array of another library's, without a copy."""
        adopted = self.memory.adopt(array)
        if adopted is None:
            raise ValueError(f"{name} is on a GPU, and must be C-contiguous there: make a contiguous copy")
        return adopted

    def cleared(self, array: DeviceArray, lengths: Array) -> DeviceArray:
        """Return a copy of an array (N, T, ..) with 0 past the lengths, which are the host's."""
        out = self.empty(array.shape, array.dtype)
        self._steps(array, self.constant(lengths.shape, np.int64), self.lengths(lengths), False, out)
        return out

    def is_finite(self, array: DeviceArray) -> bool:
        """Return whether there is neither NaN nor infinity in an array: whether the sum of its squares is."""
        sums = training.workspace(self, array.size)
        self.operations.sum_of_squares(self.stream, array.reshape(array.size), sums)
        return bool(np.isfinite(self.host(sums)[0]))

    def joined(self, arrays: Any) -> DeviceArray:
        """Return arrays one after the other."""
        out, at = self.empty((sum(len(a) for a in arrays), *arrays[0].shape[1:]), arrays[0].dtype), 0
        for array in arrays:
            self.copy_rows(array, (0, 0), out, (at, 0), 1, array.size)
            at += array.size
        return out

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

    def place(self, layers: Any) -> None:
        """Bring the parameters and states of layers here, the parameters into one array."""
        named = [(layer, name, parameter) for layer in layers for name, parameter in layer.parameters.items()]
        starts, size, dtype = [], 0, np.dtype(np.float32)
        for *_, parameter in named:
            dtype, step = parameter.dtype, _ALIGNMENT // parameter.dtype.itemsize
            starts.append(size)
            size += -(-parameter.size // step) * step
        flat = self.zeros((size,), dtype)
        for (layer, name, parameter), start in zip(named, starts, strict=True):
            view = flat[start : start + parameter.size].reshape(parameter.shape)
            self.convert(parameter, view)
            view.stream = self.stream  # of copies to the host, which reshape forgets
            layer.parameters[name] = view
        self.parameters, self.starts = flat, starts
        for layer in layers:
            layer.regroup()
            if layer.states is not None:
                layer.states = tuple(self.array(s) if isinstance(s, np.ndarray) else s for s in layer.states)

    def Arena(self) -> "Arena":
        return Arena(self)

    # --- what happens to arrays between passes ---

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

    def add(self, array: DeviceArray, other: DeviceArray) -> None:
        self._combine("ADD", array, other, array)

    def _combine(self, kind: str, a: DeviceArray, b: DeviceArray, y: DeviceArray) -> None:
        if y.size:
            flat = (array.reshape(y.size) for array in (a, b, y))
            self.operations.combine(self.stream, getattr(self.operations.moves, kind), *flat)

    def _steps(self, array: DeviceArray, starts: Any, counts: Any, backwards: bool, out: DeviceArray) -> None:
        if out.size:
            each = math.prod(out.shape[2:])
            flat = (a.reshape(*a.shape[:2], each) for a in (array, out))
            source, target = flat
            self.operations.steps(self.stream, source, starts, counts, backwards, target)

    def clear(self, array: DeviceArray, lengths: DeviceArray) -> None:
        self._steps(array, self.constant(lengths.shape, np.int64), lengths, False, array)

    def turn(self, array: DeviceArray, lengths: DeviceArray | None, out: DeviceArray) -> None:
        counts = self.full(array) if lengths is None else lengths
        self._steps(array, self.constant(counts.shape, np.int64), counts, True, out)

    def full(self, array: DeviceArray) -> DeviceArray:
        """Return the lengths of sequences (N, T, ..) that all have T steps."""
        return self.constant(array.shape[:1], np.int64, array.shape[1])

    def cut(self, array: DeviceArray, start: Any, stop: Any, out: DeviceArray) -> None:
        first, count = (np.broadcast_to(np.asarray(k, np.int64), (len(out),)) for k in (start, stop - start))
        self._steps(array, self.scratch("first", first), self.scratch("count", count), False, out)

    def merge(self, mode: str, first: DeviceArray, second: DeviceArray, y: DeviceArray) -> None:
        if mode == "concat":
            for part, at in ((first, 0), (second, first.shape[-1])):
                columns = part.shape[-1]
                self.copy_rows(part, (0, columns), y, (at, y.shape[-1]), part.size // columns, columns)
        else:
            self._combine({"sum": "ADD", "mul": "MULTIPLY", "ave": "AVERAGE"}[mode], first, second, y)

    def unmerge(self, mode: str, dy: DeviceArray, outputs: Any, gradients: Any) -> None:
        (first, second), at = outputs, 0
        for gradient, other in zip(gradients, (second, first), strict=True):
            if mode == "concat":
                columns = gradient.shape[-1]
                self.copy_rows(dy, (at, dy.shape[-1]), gradient, (0, columns), gradient.size // columns, columns)
                at += columns
            elif mode == "sum":
                self.copy(dy, gradient)
            else:
                self._combine("MULTIPLY" if mode == "mul" else "HALVE", dy, other, gradient)

    def widen(self, W_hh: DeviceArray, R: DeviceArray, wide: DeviceArray) -> None:
        """As cells.widen."""
        hidden = W_hh.shape[1]
        zero = self.constant((hidden, 3 * hidden), wide.dtype)
        self.copy_rows(zero, (0, 3 * hidden), wide, ((8 * hidden + 1) * hidden, 4 * hidden), hidden, 3 * hidden)
        for part, rows, of_wide, count in _parts_of_wide(W_hh, R):
            self.copy_rows(part, rows, wide, of_wide, count, rows[1])

    def narrow(self, wide: DeviceArray, W_hh: DeviceArray, R: DeviceArray) -> None:
        """As cells.narrow."""
        for part, rows, of_wide, count in _parts_of_wide(W_hh, R):
            self.copy_rows(wide, of_wide, part, rows, count, rows[1])

    # --- layers ---

    def Weights(self, *given: Any) -> recurrent.Weights:
        return recurrent.Weights(self, *given)

    def Recurrent(self, *given: Any, **more: Any) -> recurrent.Recurrent:
        return recurrent.Recurrent(self, *given, **more)

    def Dense(self, *given: Any) -> feedforward.Dense:
        return feedforward.Dense(self, *given)

    def options_of(self, cell: Any, clip: float | None, zoneout: tuple[float, float], seed: int | None, mask: Any) -> Any:
        found = options_of(_Plain(), clip, zoneout, seed, mask).options
        if found is not None:
            cell.options = found._replace(numbers=self.array(found.numbers), key=self.array(found.key))
        return cell

    def set_key(self, options: Any, key: int) -> None:
        self.convert(np.array([key], np.uint64), options.key)

    def drop(self, key: int, rate: float, x: DeviceArray, y: DeviceArray) -> None:
        self.operations.drop(self.stream, np.uint64(key), rate, x, y)

    def gather(self, table: DeviceArray, indices: DeviceArray, y: DeviceArray) -> None:
        self.operations.gather(self.stream, table, indices, y)

    def scatter(self, indices: DeviceArray, dy: DeviceArray, dtable: DeviceArray) -> None:
        self.operations.scatter(self.stream, indices, dy, dtable)

    # --- training ---

    def Feed(self, x_dtype: Any) -> feed.Feed:
        return feed.Feed(self, x_dtype)

    def Updates(self, *given: Any) -> training.Updates:
        return training.Updates(self, *given)

    def add_loss(self, *given: Any) -> None:
        training.add_loss(self, *given)


def _parts_of_wide(W_hh: DeviceArray, R: DeviceArray) -> Any:
    """Yield parts of the matrix that `widen` writes: of what, from where there and in the whole, and how many rows."""
    H = W_hh.shape[1]
    yield W_hh, (0, H), (0, 4 * H), 4 * H
    yield R, (0, 3 * H), (H, 4 * H), 2 * H
    yield R, (6 * H * H, 3 * H), ((12 * H + 1) * H, 4 * H), H


class _Plain(NamedTuple):
    """A cell of which only the options matter."""

    options: Any = None


class Arena:
    """Memory of plans of which one is at work at a time: after `restart` the same blocks are dealt out again."""

    def __init__(self, device: Cuda) -> None:
        self._device = device
        self._blocks: list[DeviceArray] = []
        self.restart()

    def restart(self) -> None:
        """Begin at the first block."""
        self._block, self._used, self.taken = 0, 0, 0

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks; `taken` are those since the last `restart`."""
        return sum(block.nbytes for block in self._blocks)

    def take(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """Return an array that holds anything, different from all since the last `restart`."""
        dtype = np.dtype(dtype)
        if math.prod(shape) == 0:
            return self._device.empty(shape, dtype)
        size = -(-math.prod(shape) * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
        while self._block < len(self._blocks) and self._used + size > self._blocks[self._block].nbytes:
            self._block, self._used = self._block + 1, 0
        if self._block == len(self._blocks):
            self._blocks.append(self._device.empty((max(size, _LEAST_BLOCK, self.nbytes),), np.uint8))
        start, self._used = self._used, self._used + size
        self.taken += size
        return self._device.memory.carve(self._blocks[self._block], start, tuple(shape), dtype, self._device.stream)

    def release(self) -> None:
        """Let the memory go; nobody may use what was taken any more."""
        self._blocks = []
        self.restart()


def _size(count: int) -> str:
    """Return a number of bytes in words."""
    value = float(count)
    for unit in ("bytes", "KB", "MB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} GB"
