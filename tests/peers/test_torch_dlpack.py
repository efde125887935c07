"""Arrays from and to PyTorch by DLPack, as models on a GPU read and return them: here both are in the host's memory."""

import gc
import weakref

import numpy as np
import pytest

from numlstm.backend.cuda import dlpack

torch = pytest.importorskip("torch", reason="PyTorch is not installed; .ci/run installs it (extra `bench`)")

NO_STREAM = None  # the host's memory has none


class Returned:
    """An array on a GPU as far as `dlpack.share` needs one."""

    def __init__(self, values):
        self.values, self.stream = values, NO_STREAM
        self.__cuda_array_interface__ = {**values.__array_interface__, "stream": None}


class Memory:
    @staticmethod
    def number():
        return 0

    @staticmethod
    def follow(stream, address):
        """Do nothing: see NO_STREAM."""


def test_a_tensor_is_read_where_it_is_and_given_back():
    memory = np.arange(24, dtype=np.float32)
    tensor = torch.from_numpy(memory)[4:].reshape(4, 5)[:, 1:4].T
    released = weakref.ref(memory)
    borrowed = dlpack.Borrowed("x", tensor, 0, NO_STREAM)
    seen = np.asarray(dlpack._Address(borrowed))
    assert seen.ctypes.data == tensor.data_ptr() and np.array_equal(seen, tensor.numpy())
    del tensor, memory
    assert released() is not None and seen[2, 3] == 22
    del seen, borrowed
    gc.collect()
    assert released() is None


@pytest.mark.parametrize(
    ("tensor", "error", "says"),
    [
        (torch.zeros(3, dtype=torch.bfloat16), TypeError, "x is on a GPU as bfloat16, which no model reads"),
        (torch.zeros(3, requires_grad=True), ValueError, r"x cannot be read where it is: .*tensor\.detach\(\)"),
    ],
)
def test_what_cannot_be_read_is_refused(tensor, error, says):
    with pytest.raises(error, match=says):
        dlpack.Borrowed("x", tensor, 0, NO_STREAM)


def test_a_result_becomes_a_tensor_and_lives_as_long(monkeypatch):
    monkeypatch.setattr(dlpack, "CUDA", 1)
    result = dlpack.share(Returned(np.arange(6.0).reshape(2, 3)), Memory)
    tensor, released = torch.from_dlpack(result), weakref.ref(result)
    assert tensor.data_ptr() == result.values.ctypes.data and tensor[1, 2] == 5
    del result
    assert released() is not None
    del tensor
    gc.collect()
    assert released() is None
