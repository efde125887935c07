"""Arrays of other libraries that have a CUDA Array Interface, and their streams; test_dlpack.py has those with DLPack."""

from types import SimpleNamespace

import numpy as np
import pytest
from test_models import LENGTHS, F, N, T, close, data, lstm

from numlstm import LSTM, Dense, DeviceError, Sequential
from numlstm.losses import SparseCategoricalCrossentropy


class Theirs:
    """An array of another library's on the GPU: all that it has is the interface."""

    def __init__(self, values):
        self.values = values
        self.__cuda_array_interface__ = {**values.__array_interface__, "version": 3}

    def __len__(self):
        return len(self.values)


def test_arrays_of_other_libraries_are_read_where_they_are(rng, gpu, monkeypatch):
    x, y = (values.astype(np.float32) for values in data(rng))
    lengths, model, want = LENGTHS, lstm().to("cuda"), lstm()
    sent, send = [], gpu.DeviceArray.copy_to_device
    monkeypatch.setattr(
        gpu.DeviceArray, "copy_to_device", lambda self, a, stream=None: sent.append(a.shape) or send(self, a, stream)
    )
    for batch_size in (None, 2):
        found = model.predict(Theirs(x), batch_size)
        assert isinstance(found, gpu.DeviceArray) and not sent
        close(found.copy_to_host(), want.predict(x))
    close(model.predict(Theirs(x), lengths=lengths).copy_to_host(), want.predict(x, lengths=lengths))
    sent.clear()
    for each, arrays in ((model, (Theirs(x), Theirs(y))), (want, (x, y))):
        each.compile("adam", "mse")
        each.fit(*arrays, batch_size=2, verbose=0, validation_split=0.4, shuffle=False)
    assert set(sent) == {(1,), (2,)}  # which samples each batch has
    close(model.get_weights()[0], want.get_weights()[0])


@pytest.mark.parametrize(
    ("loss", "columns"), [("mse", 2), (SparseCategoricalCrossentropy(from_logits=True), 3), ("binary_crossentropy", 1)]
)
def test_targets_of_steps_that_are_there_are_read_within_the_lengths(rng, gpu, loss, columns):
    x, classes = rng.standard_normal((N, T, F)).astype(np.float32), rng.integers(0, 2, (N, T, 1))
    y = classes[:, :, 0] if columns == 3 else np.repeat(classes, columns, axis=2).astype(np.float32)
    y[np.arange(T) >= LENGTHS[:, np.newaxis]] = 99 if columns == 3 else np.nan
    models = [Sequential([LSTM(3, return_sequences=True, seed=1), Dense(columns, seed=2)]) for _ in range(2)]
    for model, arrays in zip(models, ((x, y), (Theirs(x), Theirs(y))), strict=True):
        if arrays[0] is not x:
            model.to("cuda")
        model.compile("adam", loss)
        model.fit(*arrays, verbose=0, lengths=LENGTHS, shuffle=False)
    close(models[1].get_weights()[0], models[0].get_weights()[0])


@pytest.mark.parametrize(
    ("use", "error", "says"),
    [
        (lambda m, x: m.predict(Theirs(x)), TypeError, "x is on a GPU as float64, and must be float32 there"),
        (lambda m, x: m.predict(Theirs(x.astype(np.float32)[:, ::2])), ValueError, "must be C-contiguous there"),
        (lambda m, x: m.fit(Theirs((x * np.nan).astype(np.float32)), x[:, 0]), ValueError, "x must be finite, but has NaN"),
        (lambda m, x: m.fit(x, Theirs(x[:, 0, :1].astype(np.float32))), ValueError, r"y must have the shape \(5, 2\)"),
        (lambda m, x: m.fit(x, x[:, 0], sample_weight=Theirs(x[:, 0, 0])), DeviceError, "sample_weight is on a GPU"),
        (lambda m, x: m.to("cpu").predict(Theirs(x)), DeviceError, "x is on a GPU, where only a model after its to"),
        (lambda m, x: m.to("cuda", stream="first"), TypeError, "stream must be a CUDA stream or its address, not 'first'"),
    ],
)
def test_arrays_that_cannot_be_read_are_refused(rng, gpu, use, error, says):
    model = lstm().to("cuda")
    model.compile("adam", "mse")
    with pytest.raises(error, match=says):
        use(model, data(rng)[0])


def test_a_stream_of_another_library_is_used(gpu):
    streams = (
        SimpleNamespace(ptr=12),  # CuPy's
        SimpleNamespace(cuda_stream=12),  # PyTorch's
        SimpleNamespace(__cuda_stream__=lambda: (0, 12)),
        12,
    )
    model = lstm()
    for stream in streams:
        assert model.to("cuda", stream).backend.stream.address == 12
    assert model.to("cuda").backend.stream.address == 12
