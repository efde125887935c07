"""The GPU's memory and streams, as the host sees them: all else that this package knows of Numba's CUDA target.

Another module in the place of this one and of `machine` runs everything elsewhere, as the tests do where there is no GPU.
"""

from math import prod

from numba import cuda
from numba.cuda.cudadrv.devicearray import DeviceNDArray
from numba.cuda.cudadrv.driver import CudaAPIError


class OutOfMemory(Exception):
    """There is not as much memory left, on the GPU or of the host's that it can read, as is asked for."""


def _allocated(allocate, *arguments, **more):
    """Return what a function of Numba's allocates; OutOfMemory where it cannot."""
    try:
        return allocate(*arguments, **more)
    except (CudaAPIError, MemoryError) as error:  # the latter from other memory managers that Numba can be given
        if isinstance(error, CudaAPIError) and "OUT_OF_MEMORY" not in str(error):
            raise
        raise OutOfMemory(str(error)) from error


def empty(shape, dtype, stream):
    """Return a C-contiguous array on the GPU; copies between it and the host go through the stream."""
    return _allocated(cuda.device_array, shape, dtype, stream=stream)


def carve(block, start, shape, dtype, stream):
    """Return an array, not empty, in a block of bytes, from byte `start` on."""
    strides = tuple(dtype.itemsize * prod(shape[axis + 1 :]) for axis in range(len(shape)))
    memory = block.gpu_data.view(start, start + prod(shape) * dtype.itemsize)
    return DeviceNDArray(shape, strides, dtype, stream=stream, gpu_data=memory)


def adopt(array):
    """Return an array of another library's, with a CUDA Array Interface, without a copy, and wait for its stream.

    None if it is not C-contiguous.
    """
    found = cuda.as_cuda_array(array)
    return found if found.is_c_contiguous() else None


def alias(array):
    """Return an array at the same place, which does not keep its memory."""
    return cuda.from_cuda_array_interface(array.__cuda_array_interface__, sync=False)


def free_memory():
    """Return how many bytes are free."""
    return cuda.current_context().get_memory_info().free


def pinned(shape, dtype):
    """Return an array on the host that copies to the GPU read while the host goes on."""
    return _allocated(cuda.pinned_array, shape, dtype)


def event():
    """Return an event: ``record(stream)``, and then ``synchronize()`` waits for all that the stream had to do before."""
    return cuda.event(timing=False)


def follow(stream, address):
    """Let the stream at an address wait for all that another one has to do now."""
    if int(stream) != address:
        now = event()
        now.record(stream)
        now.wait(cuda.external_stream(address))


def number():
    """Return which of the machine's GPUs this is."""
    return cuda.get_current_device().id


def capability():
    """Return the GPU's compute capability, (major, minor)."""
    return tuple(cuda.get_current_device().compute_capability)


def stream(address=None):
    """Return a stream, of this address if it is somebody else's."""
    return cuda.stream() if address is None else cuda.external_stream(address)
