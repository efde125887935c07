"""The simulator's memory and streams, in the place of numlstm.kernels.cuda.memory: everything is done at once."""

import weakref

import numpy as np


class OutOfMemory(Exception):
    """Memory has run out: see `MEMORY`."""


MEMORY = 1 << 30  # bytes that the GPU has, and those that are taken
_taken = 0
CAPABILITY = 9, 0


class DeviceArray:
    """An array on the GPU as the host sees it: it has a shape and can be copied, and NumPy can do nothing with it.

    held : its memory; stream : that its copies go through
    """

    def __init__(self, held, stream=None):
        assert held.flags.c_contiguous
        self.held, self.shape, self.dtype, self.ndim = held, held.shape, held.dtype, held.ndim
        self.size, self.nbytes, self.stream = held.size, held.nbytes, stream

    def __len__(self):
        return len(self.held)

    def __array__(self, *arguments, **more):
        raise TypeError("an array on the GPU is used as one of the host's")

    def reshape(self, *shape):
        return DeviceArray(self.held.reshape(*shape))

    def __getitem__(self, part):
        assert isinstance(part, slice), "only parts of arrays on the GPU are seen from the host"
        return DeviceArray(self.held[part])

    def copy_to_host(self, stream=None):
        return self.held.copy()

    def copy_to_device(self, values, stream=None):
        if isinstance(values, DeviceArray):
            values = values.held
        assert isinstance(values, np.ndarray) and values.dtype == self.dtype and values.shape == self.shape
        self.held[...] = values
        if isinstance(values, Pinned):
            values.flags.writeable = False  # until somebody waits for the copy

    @property
    def __cuda_array_interface__(self):
        return {**self.held.__array_interface__, "version": 3}


class Pinned(np.ndarray):
    """Memory of the host that the GPU may be reading."""


class Stream:
    """A stream. waits : how often the host has waited for it; followed : addresses of streams that have"""

    def __init__(self, address=None):
        self.address, self.waits, self.followed = address or id(self), 0, []

    def __int__(self):
        return self.address

    def synchronize(self):
        self.waits += 1


class Event:
    """When it is waited for, the GPU is done with the pinned memory that it was reading when the event was recorded."""

    def __init__(self):
        self._read = []

    def record(self, stream):
        self._read = [array for array in _pinned if not array.flags.writeable]

    def synchronize(self):
        for array in self._read:
            array.flags.writeable = True


_pinned = []


def empty(shape, dtype, stream):
    """Return memory that holds what nobody has written: NaN, or -1."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size > free_memory():
        raise OutOfMemory
    held = np.full(size, 255, np.uint8)
    _count(size)
    weakref.finalize(held, _count, -size)
    return DeviceArray(held.view(dtype).reshape(shape), stream)


def _count(size):
    global _taken
    _taken += size


def carve(block, start, shape, dtype, stream):
    size = int(np.prod(shape)) * dtype.itemsize
    return DeviceArray(block.held[start : start + size].view(dtype).reshape(shape))


class _Held:
    def __init__(self, interface, owner):
        self.__array_interface__, self.owner = interface, owner


def adopt(array):
    if isinstance(array, DeviceArray):
        return array
    found = np.asarray(_Held(array.__cuda_array_interface__, array))
    return DeviceArray(found) if found.flags.c_contiguous else None


def alias(array):
    return DeviceArray(np.asarray(_Held(array.__cuda_array_interface__, None)))


def follow(stream, address):
    stream.followed.append(address)


def number():
    return 0


def capability():
    return CAPABILITY


def free_memory():
    return MEMORY - _taken


def pinned(shape, dtype):
    array = np.empty(shape, dtype).view(Pinned)
    _pinned.append(array)
    return array


stream, event = Stream, Event
