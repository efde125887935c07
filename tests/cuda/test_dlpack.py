"""Arrays of other libraries by DLPack: NumPy makes and takes the capsules, and the simulator is the GPU."""

import gc
import sys
import weakref

import numpy as np
import pytest
from test_models import F, N, T, close, data, lstm

from numlstm import Dense, DeviceError, Sequential
from numlstm.backend.cuda import dlpack
from numlstm.backend.cuda.availability import missing

CPU = 1, 0
STREAM = 7
WITH_VERSIONS = np.lib.NumpyVersion(np.__version__) >= "2.1.0"


class Theirs:
    """An array of another library's. asked : what each capsule was asked for

    array : whose capsule it hands on; change(structure) : before that; device : where it says that it is
    versions : whether it knows any
    """

    def __init__(self, array, change=lambda managed: None, device=(dlpack.CUDA, 0), versions=WITH_VERSIONS):
        self.array, self.change, self.device, self.versions, self.asked = array, change, device, versions, []

    def __len__(self):
        return len(self.array)

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **given):
        if not self.versions and "max_version" in given:
            raise TypeError("no such argument")
        self.asked.append(given)
        capsule = self.array.__dlpack__(**{name: v for name, v in given.items() if name == "max_version"})
        self.change(dlpack._handed_on("it", capsule)[0])
        return capsule


def looked_at(borrowed):
    """Return what is where a CUDA Array Interface says."""
    return np.asarray(dlpack._Address(borrowed))


@pytest.mark.parametrize("versions", [False, WITH_VERSIONS])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.arange(12, dtype=np.int16).reshape(3, 4)[1:, ::2],
        np.zeros((0, 3), np.uint8),
        np.array(1.5, np.float32),
    ],
    ids=["contiguous", "strided", "empty", "no axes"],
)
def test_an_array_is_read_where_it_is_and_given_back_once(array, versions):
    theirs, held = Theirs(array, versions=versions), []
    before = sys.getrefcount(array)
    borrowed = dlpack.Borrowed("x", theirs, 0, STREAM, lambda: held.append(sys.getrefcount(array) - before))
    assert theirs.asked == [{"stream": STREAM} | ({"max_version": (1, 0)} if versions else {})]
    seen = looked_at(borrowed)
    assert seen.dtype == array.dtype and np.array_equal(seen, array)
    assert not array.size or seen.ctypes.data == array.ctypes.data
    del seen, borrowed
    assert held == [1] and sys.getrefcount(array) == before  # the GPU is waited for, then it is given back


def test_what_begins_behind_its_address_is_found():
    def change(managed):
        managed.tensor.data, managed.tensor.offset = managed.tensor.data - 32, 32

    borrowed = dlpack.Borrowed("x", Theirs(np.arange(6.0), change), 0, STREAM)
    assert np.array_equal(looked_at(borrowed), np.arange(6.0))


def of_type(kind, bits, lanes=1):
    def change(managed):
        managed.tensor.dtype = kind, bits, lanes

    return {"change": change}


def of_version_two(managed):
    managed.version[0] = 2


class Odd(Theirs):
    """What it hands on is given."""

    def __dlpack__(self, **given):
        if isinstance(self.change, Exception):
            raise self.change
        return self.change


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda a: Theirs(a, **of_type(4, 16)), TypeError, "x is on a GPU as bfloat16, which no model reads"),
        (lambda a: Theirs(a, **of_type(5, 64)), TypeError, "x is on a GPU as complex64, which"),
        (lambda a: Theirs(a, **of_type(2, 32, 4)), TypeError, "x is on a GPU as float32 x 4, which"),
        (lambda a: Theirs(a, **of_type(9, 8)), TypeError, "x is on a GPU as number 9 of DLPack's types, bits: 8, which"),
        (lambda a: Theirs(a, device=(2, 1)), ValueError, "x is on GPU 1, and the model on GPU 0: copy it there"),
        (lambda a: Odd(a, BufferError("not now")), ValueError, "x cannot be read where it is: not now"),
        (lambda a: Odd(a, a), ValueError, "x hands on no tensor by its __dlpack__, but array"),
        pytest.param(
            lambda a: Theirs(a, of_version_two),
            ValueError,
            "x comes by version 2 of DLPack, and 1 is the newest known",
            marks=pytest.mark.skipif(not WITH_VERSIONS, reason="this NumPy's capsules have no versions"),
        ),
    ],
)
def test_what_cannot_be_read_is_refused_and_stays_its_owners(make, error, says):
    array = np.arange(6.0)
    before = sys.getrefcount(array)
    with pytest.raises(error, match=says) as caught:
        dlpack.Borrowed("x", make(array), 0, STREAM)
    del caught, make
    gc.collect()
    assert sys.getrefcount(array) == before


def test_a_capsule_is_taken_over_once():
    capsule = np.arange(6.0).__dlpack__()
    theirs = Odd(None, capsule)
    borrowed = dlpack.Borrowed("x", theirs, 0, STREAM)
    with pytest.raises(ValueError, match='x hands on no tensor by its __dlpack__, but <capsule object "used_dltensor"'):
        dlpack.Borrowed("x", theirs, 0, STREAM)
    assert looked_at(borrowed)[5] == 5


def result():
    """Return what predict does on the GPU."""
    return lstm().to("cuda").predict(Theirs(np.ones((N, T, F), np.float32)))


@pytest.mark.parametrize("end", ["unused", "refused", "taken"])
@pytest.mark.parametrize("version", [None, (1, 0)])
def test_a_result_is_handed_on_and_lives_as_long_as_it_is_used(gpu, version, end):
    y = result()
    want, address, stream = y.copy_to_host(), y.held.ctypes.data, y.stream
    assert y.__dlpack_device__() == (dlpack.CUDA, 0)
    capsule = y.__dlpack__(max_version=version, stream=STREAM)
    managed, _ = dlpack._handed_on("it", capsule)
    assert hasattr(managed, "flags") == bool(version and WITH_VERSIONS)
    device = managed.tensor.device
    assert (managed.tensor.data, device.kind, device.number) == (address, dlpack.CUDA, 0)
    assert stream.followed[-1] == STREAM
    gone = weakref.ref(y.held)
    if end == "refused":
        with pytest.raises((BufferError, RuntimeError)):
            np.from_dlpack(y)  # which releases its capsule with an error on its way
    borrowed = dlpack.Borrowed("y", Odd(None, capsule), 0, STREAM) if end == "taken" else None
    del capsule, y
    if borrowed:
        assert gone() is not None and np.array_equal(looked_at(borrowed), want)
    del borrowed
    gc.collect()
    assert gone() is None


def test_other_libraries_take_results_over(gpu, monkeypatch):
    y = result()
    monkeypatch.setattr(dlpack, "CUDA", 1)  # the simulator's memory is the host's
    assert np.array_equal(np.from_dlpack(y), y.copy_to_host())


@pytest.mark.parametrize(("stream", "follows"), [(None, [1]), (1, [1]), (2, [2]), (-1, [])])
def test_the_reader_waits_for_the_model(gpu, stream, follows):
    y = result()
    del y.stream.followed[:]
    y.__dlpack__(stream=stream)
    assert y.stream.followed == follows


def test_a_copy_for_whom_asks_and_no_other_device(gpu):
    y = result()
    capsule = y.__dlpack__(copy=True)
    managed, _ = dlpack._handed_on("it", capsule)
    assert managed.tensor.data != y.held.ctypes.data
    copied = dlpack.Borrowed("y", Odd(None, capsule), 0, STREAM)
    assert np.array_equal(looked_at(copied), y.copy_to_host())
    assert y.__dlpack__(dl_device=(dlpack.CUDA, 0), copy=False)
    with pytest.raises(BufferError, match=r"an array on a GPU is brought elsewhere by its copy_to_host\(\) alone"):
        y.__dlpack__(dl_device=CPU)


def test_results_go_from_model_to_model(rng, anywhere):
    x, models = data(rng)[0].astype(np.float32), lambda: (lstm(), Sequential([Dense(3, seed=3)]))
    first, second = (model.to("cuda") for model in models())
    if anywhere == "gpu":
        cuda = pytest.importorskip("numba.cuda")
        on_gpu = cuda.to_device(x)
    else:
        on_gpu = Theirs(x)
    found = second.predict(first.predict(on_gpu))
    del first, on_gpu
    want = [model.predict for model in models()]
    close(found.copy_to_host(), want[1](want[0](x)))


@pytest.mark.gpu
@pytest.mark.parametrize("theirs", [False, True], ids=["stream of the model", "stream of PyTorch"])
def test_tensors_of_pytorch_on_a_gpu(rng, theirs):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if missing() or not torch.cuda.is_available():
        pytest.skip(f"no GPU: {missing() or 'PyTorch finds none'}")
    x = data(rng)[0].astype(np.float32)
    stream = torch.cuda.Stream() if theirs else None
    model = lstm().to("cuda", stream)
    with torch.cuda.stream(stream):
        y = torch.from_dlpack(model.predict(torch.from_numpy(x).cuda() * 2)) / 2
    torch.cuda.synchronize()
    close(y.cpu().numpy(), lstm().predict(x * 2) / 2)


@pytest.mark.parametrize("stream", [None, STREAM])
def test_models_read_arrays_and_hand_results_on_without_a_copy(rng, gpu, monkeypatch, stream):
    x, y = (values.astype(np.float32) for values in data(rng))
    sent, send = [], gpu.DeviceArray.copy_to_device
    monkeypatch.setattr(
        gpu.DeviceArray, "copy_to_device", lambda self, a, stream=None: sent.append(a.shape) or send(self, a, stream)
    )
    model, on_cpu = lstm().to("cuda", stream), lstm()
    sent.clear()
    theirs, of_model = Theirs(x), model.backend.stream
    for batch_size in (None, 2):
        close(model.predict(theirs, batch_size).copy_to_host(), on_cpu.predict(x))
    assert not sent and {given["stream"] for given in theirs.asked} == {stream or int(of_model)}
    assert of_model.waits == (2 if stream is None else 0)  # each time x is given back, if its owner does not use the stream
    for each, arrays in ((model, (theirs, Theirs(y))), (on_cpu, (x, y))):
        each.compile("adam", "mse")
        each.fit(*arrays, batch_size=2, verbose=0, shuffle=False)
    close(model.get_weights()[0], on_cpu.get_weights()[0])


@pytest.mark.parametrize(
    ("theirs", "error", "says"),
    [
        (lambda x: Theirs(x), TypeError, "x is on a GPU as float64, and must be float32 there"),
        (lambda x: Theirs(x.astype(np.float32)[:, ::2]), ValueError, "x is on a GPU, and must be C-contiguous there"),
        (lambda x: Theirs(x, device=(2, 3)), ValueError, "x is on GPU 3, and the model on GPU 0"),
    ],
)
def test_models_say_what_they_cannot_read(rng, gpu, theirs, error, says):
    with pytest.raises(error, match=says):
        lstm().to("cuda").predict(theirs(data(rng)[0]))
    with pytest.raises(DeviceError, match="x is on a GPU, where only a model after its to"):
        lstm().predict(theirs(data(rng)[0]))
