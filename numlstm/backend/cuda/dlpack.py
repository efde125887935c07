"""Arrays on a GPU from other libraries and for them, without a copy, by DLPack 1.0 (https://dmlc.github.io/dlpack)."""

import ctypes
import functools
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from .allocation import allocate

CUDA = 2  # DLPack's number for memory of a CUDA GPU
_NEWEST = 1, 0
_KINDS = ("int", "uint", "float", "opaque", "bfloat", "complex", "bool")  # by DLPack's numbers
_DTYPES = {"bool8": np.dtype(bool)} | {
    name: np.dtype(name) for name in "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()
}


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("number", ctypes.c_int32))


class _Type(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),  # in elements; none if C-contiguous
        ("offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))
    version = (0, 0)


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_uint32 * 2),
        ("context", ctypes.c_void_p),
        ("deleter", _Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


# The names of capsules before and after somebody takes their tensor over.
_CAPSULES = ((b"dltensor", b"used_dltensor", _Managed), (b"dltensor_versioned", b"used_dltensor_versioned", _Versioned))
_of_python = ctypes.pythonapi  # functions that hold the GIL; prototypes of our own, for `pythonapi` is everybody's
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_IsValid", _of_python))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", _of_python))
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", _of_python))


def _capsule(array: Any, max_version: Any, **more: Any) -> Any:
    """Return what hands an array on, by an older DLPack where its library knows no versions."""
    try:
        return array.__dlpack__(max_version=max_version, **more)
    except TypeError:
        return array.__dlpack__(**more)


def _handed_on(name: str, capsule: Any) -> tuple[Any, bytes]:
    """Return a capsule's structure, and the name for when it is taken over."""
    for fresh, used, kind in _CAPSULES:
        if _is_valid(capsule, fresh):
            return kind.from_address(_pointer(capsule, fresh)), used
    raise ValueError(f"{name} hands on no tensor by its __dlpack__, but {capsule!r}")


class Borrowed:
    """An array of another library's on a GPU, as a CUDA Array Interface; it is given back when nobody uses it any more.

    name, array : of the user's; gpu : number of the one where it must be
    stream : address of the one that is to find it ready
    wait : called before it is given back, lest its owner writes what is still being read; None if they have one stream

    Raises
    ------
    TypeError, ValueError
        For an array that cannot be read, which then is still its owner's.
    """

    def __init__(self, name: str, array: Any, gpu: int, stream: int, wait: Callable[[], Any] | None = None) -> None:
        number = int(array.__dlpack_device__()[1])
        if number != gpu:
            raise ValueError(f"{name} is on GPU {number}, and the model on GPU {gpu}: copy it there")
        try:
            capsule = _capsule(array, _NEWEST, stream=stream)
        except Exception as error:  # whatever its library has to say
            raise ValueError(f"{name} cannot be read where it is: {error}") from error
        managed, used = _handed_on(name, capsule)
        if managed.version[0] > _NEWEST[0]:
            raise ValueError(f"{name} comes by version {managed.version[0]} of DLPack, and {_NEWEST[0]} is the newest known")
        self.__cuda_array_interface__ = _interface(name, managed.tensor)
        _rename(capsule, used)  # from here on it is ours
        weakref.finalize(self, _give_back, managed, wait).atexit = False


def _interface(name: str, tensor: _Tensor) -> dict[str, Any]:
    """Return a tensor as a CUDA Array Interface."""
    kind, bits, lanes = tensor.dtype.kind, tensor.dtype.bits, tensor.dtype.lanes
    came = (_KINDS[kind] if kind < len(_KINDS) else f"number {kind} of DLPack's types, bits: ") + str(bits)
    came += f" x {lanes}" * (lanes != 1)
    dtype = _DTYPES.get(came)
    if dtype is None:
        raise TypeError(f"{name} is on a GPU as {came}, which no model reads")
    axes = range(tensor.ndim)
    return {
        "data": ((tensor.data or 0) + tensor.offset, False),
        "shape": tuple(tensor.shape[axis] for axis in axes),
        "strides": tuple(tensor.strides[axis] * dtype.itemsize for axis in axes) if tensor.strides else None,
        "typestr": dtype.str,
        "version": 3,
    }


def _give_back(managed: Any, wait: Callable[[], Any] | None) -> None:
    try:
        if wait is not None:
            wait()
    finally:
        if managed.deleter:
            managed.deleter(ctypes.addressof(managed))


class _Address:
    """An array on a GPU as one of the host's, for those who look at its address and layout alone."""

    def __init__(self, array: Any) -> None:
        self._array = array  # which must not go before
        self.__array_interface__ = {**array.__cuda_array_interface__, "stream": None}


class Shared:
    """What arrays on a GPU have by which other libraries read them. memory : as Cuda.memory"""

    memory: Any

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.memory.number()

    def __dlpack__(
        self, *, stream: int | None = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None
    ) -> Any:
        """Return a capsule, after which `stream` waits for what this array waits for: -1 for none, None for the default.

        NumPy makes it, of an array at this address: so neither it nor its release needs code of Python's.
        """
        if dl_device is not None and tuple(dl_device) != self.__dlpack_device__():
            raise BufferError("an array on a GPU is brought elsewhere by its copy_to_host() alone")
        array: Any = self
        if copy:
            array = allocate(self.memory, array.shape, array.dtype, array.stream, "what is read where it is")
            array.copy_to_device(self, stream=array.stream)
        if stream != -1:
            self.memory.follow(array.stream, stream or 1)
        capsule = _capsule(np.asarray(_Address(array)), max_version)
        _handed_on("it", capsule)[0].tensor.device = _Device(*self.__dlpack_device__())
        return capsule


@functools.cache
def _shared(kind: Any, memory: Any) -> type:
    return type(kind.__name__, (Shared, kind), {"memory": memory})


def share(array: Any, memory: Any) -> Any:
    """Return an array on a GPU, which is then one that other libraries can read by DLPack, too."""
    kind: Any = type(array)
    array.__class__ = _shared(kind, memory)
    return array
