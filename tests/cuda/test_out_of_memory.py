"""Memory that runs out, on the GPU and of the host's that it reads: one error, with how much was asked for and is free."""

import contextlib
import gc

import numpy as np
import pytest
from test_dlpack import Theirs
from test_models import F, T, data, lstm

from numlstm import LSTM, Dense, DeviceError, Sequential
from numlstm.backend.cuda import feed, steps

FREE = 1000  # bytes


@pytest.fixture
def full(gpu, monkeypatch):
    """Return a context in which the GPU has so many bytes left."""

    @contextlib.contextmanager
    def leave(free=FREE):
        gc.collect()
        with monkeypatch.context() as patch:
            patch.setattr(gpu, "MEMORY", gpu._taken + free)
            yield

    return leave


def fitted(model, x, y):
    model.compile("adam", "mse")
    return lambda: model.fit(x, y, verbose=0)


def taken_over(model, x, y):
    on_gpu = model.predict(Theirs(np.repeat(x, 30, axis=0).astype(np.float32)))
    return lambda: on_gpu.__dlpack__(copy=True)


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (
            lambda model, x, y: lambda: lstm().to("cuda").predict(x),
            "1 MB more were asked for, 232 bytes are free; a smaller batch",
        ),
        (fitted, "1.5 KB more were asked for, 232 bytes are free; a smaller batch_size"),
        (lambda *_: lambda: Sequential([LSTM(9, input_shape=(T, F))]).to("cuda"), "2 KB more were asked for"),
        (lambda model, x, y: lambda: model.add(Dense(300)), "4.375 KB more were asked for"),
        (lambda *_: lambda: steps.upload(np.zeros((9, 300))), "21.09 KB more .* free; a smaller number of sequences"),
        (taken_over, "1.172 KB more were asked for, 1000 bytes are free; what is read where it is"),
    ],
    ids=["predict", "fit", "to", "add", "jit", "dlpack"],
)
def test_what_was_asked_for_and_what_is_free_is_said(rng, full, prepare, says):
    model, (x, y) = lstm().to("cuda"), data(rng)
    use, want = prepare(model, x, y), model.predict(x)
    with full(), pytest.raises(DeviceError, match=f"the GPU is out of memory: {says}.* takes less"):
        use()
    assert np.array_equal(model.predict(x), want)  # as if it had not been tried


def test_memory_for_batches_on_the_host_too(rng, gpu, monkeypatch):
    def none_left(shape, dtype):
        raise gpu.OutOfMemory

    monkeypatch.setattr(gpu, "pinned", none_left)
    monkeypatch.setattr(feed, "_SHARE", 0)
    with pytest.raises(DeviceError, match="the host is out of memory that the GPU can read: 120 bytes more were asked for"):
        fitted(lstm().to("cuda"), *data(rng))()


def test_a_model_for_which_there_is_no_memory_stays_where_it_is(rng, full):
    x, _ = data(rng)
    model = Sequential([LSTM(3, stateful=True, seed=1)])
    want = model.predict(x)
    flat = sum(-(-weight.size // 32) * 128 for weight in model.layers[0].parameters.values())
    with full(flat), pytest.raises(DeviceError, match="out of memory"):  # too little for the states
        model.to("cuda")
    model.reset_states()
    assert np.array_equal(model.predict(x), want)


@pytest.mark.parametrize("call", [lambda memory: memory.empty((3,), np.float32, 0), lambda m: m.pinned((3,), np.float32)])
@pytest.mark.parametrize(
    ("make", "becomes"),
    [
        (lambda of_driver: of_driver(2, "Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY"), "OutOfMemory"),
        (lambda _: MemoryError(), "OutOfMemory"),  # of another memory manager
        (lambda of_driver: of_driver(700, "Call to cuMemAlloc results in CUDA_ERROR_ILLEGAL_ADDRESS"), "CudaAPIError"),
    ],
)
def test_the_drivers_error_is_known(monkeypatch, call, make, becomes):
    reason = "Numba has no CUDA target here: pip install 'numlstm[cuda13]'"
    memory = pytest.importorskip("numlstm.kernels.cuda.memory", reason=reason, exc_type=ImportError)

    def fail(*arguments, **more):
        raise make(memory.CudaAPIError)

    for name in ("device_array", "pinned_array"):
        monkeypatch.setattr(memory.cuda, name, fail)
    with pytest.raises(getattr(memory, becomes)):
        call(memory)
