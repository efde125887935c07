import base64
import json
import os
import pickle
import random
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest
from safetensors.numpy import save

from numlstm import files

HEADER = {"layers": [{"class": "LSTM", "units": 50}], "name": "Zürich \U0001f321 \ud800", "best": float("inf"), "none": None}

# What version 1 of the format looks like: every later numlstm reads it.
VERSION_1 = base64.b64decode(
    "SAEAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJmb3JtYXQiOiJudW1sc3RtIiwidmVyc2lvbiI6IjEiLCJoZWFkZXIiOiJ7XCJsYXllcnNcIjpbXCJMU1RN"
    "XCJdfSIsInNoYTI1NiI6IjAxYjg1OGQxZWRhN2JmY2JhZDMwZThiMDdkMWE0MzNlMDAwN2Q2ZTVkOTA1NWMyYTEwOWE1MzcwNmEwMzFjNzEifSwibiI6"
    "eyJkdHlwZSI6Ikk2NCIsInNoYXBlIjpbXSwiZGF0YV9vZmZzZXRzIjpbMCw4XX0sInciOnsiZHR5cGUiOiJGMzIiLCJzaGFwZSI6WzEsMl0sImRhdGFf"
    "b2Zmc2V0cyI6WzgsMTZdfSwiYiI6eyJkdHlwZSI6IlU4Iiwic2hhcGUiOlszXSwiZGF0YV9vZmZzZXRzIjpbMTYsMTldfX0gICAg+/////////8AAAA/"
    "AADAvwECAw=="
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def small(path):
    """Return the bytes of a small file."""
    files.write(path, {"w": np.ones((1, 2), np.float32), "é": np.zeros((0, 3))}, {"a": [1, "b"]})
    return path.read_bytes()


def _file(entries, data=b"", length=None):
    """Return a safetensors file; its header is bytes as they are, or what JSON can hold."""
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def _metadata(header="{}", tensors=None, **changed):
    """Return metadata with the right digest, before the changes; those that are changed to None are left out."""
    metadata = {"format": "numlstm", "version": "1", "header": header, "sha256": files._digest(header, tensors or {})}
    return {key: value for key, value in {**metadata, **changed}.items() if value is not None}


def _claiming(dtype="F32", shape=(1,), offsets=(0, 4), data=b"1234", **more):
    """Return a file with numlstm's metadata and one tensor of which anything can be claimed."""
    tensor = {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}
    return _file({"__metadata__": _metadata(), "w": tensor}, data)


def _refused(path, content):
    """Return what is said of a file with this content, behind its path."""
    path.write_bytes(content)
    with pytest.raises(files.FileFormatError) as caught:
        files.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path} ") and "\n" not in message
    return message[len(str(path)) + 1 :]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (7,), (2, 3), (2, 1, 3, 4)])
def test_round_trip(path, rng, dtype, shape):
    tensor = (100 * rng.random(shape)).astype(dtype)
    files.write(path, {"layer/w": tensor, "other": np.ones(3, np.uint8)}, {"units": 3})
    tensors, header = files.read(path)
    assert list(tensors) == ["layer/w", "other"]
    got = tensors["layer/w"]
    assert got.dtype == dtype and got.dtype.isnative and got.flags.writeable and got.flags.c_contiguous
    assert got.shape == shape and got.tobytes() == tensor.tobytes()
    assert header == {"units": 3}


@pytest.mark.parametrize(
    "change",
    [
        lambda a: np.asfortranarray(a),
        lambda a: a[::-1, ::2],
        lambda a: a.astype(a.dtype.newbyteorder(">")),
        lambda a: a.transpose(1, 0),
        lambda a: np.lib.stride_tricks.as_strided(a, writeable=False),
    ],
    ids=["fortran", "strided", "big-endian", "transposed", "read-only"],
)
def test_memory_layouts(path, rng, change):
    tensor = change(rng.standard_normal((4, 6)))
    files.write(path, {"w": tensor}, {})
    (got,) = files.read(path)[0].values()
    np.testing.assert_array_equal(got, tensor)
    assert got.dtype == np.float64


def test_special_values_keep_their_bits(path):
    bits = np.array([0x7FC00001, 0xFFC00000, 0x80000000, 0x00000001, 0x7F800000], np.uint32)
    files.write(path, {"w": bits.view(np.float32)}, {})
    np.testing.assert_array_equal(files.read(path)[0]["w"].view(np.uint32), bits)


def test_headers_come_back_and_no_tensors_are_needed(path):
    files.write(str(path), {}, HEADER)
    tensors, header = files.read(str(path))
    assert tensors == {} and header == HEADER
    assert list(header) == sorted(HEADER)


def test_the_same_content_gives_the_same_bytes(path):
    w, b = np.arange(12.0), np.arange(3, dtype=np.uint8)
    files.write(path, {"w": w, "b": b}, {"x": 1, "y": [2]})
    first = path.read_bytes()
    for _ in range(10):
        files.write(path, {"b": b, "w": w}, {"y": [2], "x": 1})
        assert path.read_bytes() == first


def test_files_of_version_1_are_read(path):
    path.write_bytes(VERSION_1)
    tensors, header = files.read(path)
    assert header == {"layers": ["LSTM"]}
    assert {name: (array.dtype.name, array.tolist()) for name, array in tensors.items()} == {
        "b": ("uint8", [1, 2, 3]),
        "n": ("int64", -5),
        "w": ("float32", [[0.5, -1.5]]),
    }


def test_other_dtypes_are_not_written(path):
    for dtype in (np.float16, np.int32, bool, complex, "U3", object):
        with pytest.raises(
            TypeError, match=f"^tensor 'w' must be of float32, float64, int64 or uint8, not {np.dtype(dtype)}$"
        ):
            files.write(path, {"v": np.zeros(2), "w": np.zeros(2, dtype)}, {})
    with pytest.raises(TypeError, match="not JSON serializable"):
        files.write(path, {}, {"units": np.float32(3)})
    assert not path.exists()


def test_each_flipped_bit_is_found(path, small):
    assert len(small) < 500
    damaged = bytearray(small)
    for bit in range(8 * len(small)):
        damaged[bit // 8] ^= 1 << bit % 8
        _refused(path, damaged)
        damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    assert files.read(path)[1] == {"a": [1, "b"]}


@pytest.fixture
def large(path, rng):
    """Return the bytes of a file like a model's, of 70,000 bytes."""
    tensors = {f"layer_{i}/{name}": rng.standard_normal((20, 20 + i)) for i in range(6) for name in ("W", "U", "b")}
    files.write(path, tensors, HEADER)
    return path.read_bytes()


def test_flipped_bits_of_a_large_file_are_found(path, large):
    draw = random.Random(1)
    for position in [draw.randrange(len(large)) for _ in range(400)]:
        damaged = bytearray(large)
        damaged[position] ^= 1 << draw.randrange(8)
        _refused(path, damaged)


def test_truncated_and_lengthened_files_are_found(path, large, small):
    start = 8 + int.from_bytes(large[:8], "little")
    draw = random.Random(2)
    ends = [*range(20), start - 1, start, start + 1, len(large) - 1, *(draw.randrange(len(large)) for _ in range(200))]
    for end in ends:
        _refused(path, large[:end])
    for end in range(len(small)):
        _refused(path, small[:end])
    for more in (b"\0", b" ", b"\n", bytes(8), small):
        assert _refused(path, small + more).startswith("is damaged")


def test_overwritten_stretches_are_found(path, large):
    draw = random.Random(3)
    for _ in range(100):
        damaged, begin = bytearray(large), draw.randrange(len(large) - 64)
        damaged[begin : begin + 64] = bytes(64) if draw.random() < 0.5 else draw.randbytes(64)
        _refused(path, damaged)


DEEP = b"[" * 100_000
FOREIGN = save({"weight": np.ones(3, np.float32)}, {"format": "pt"})

SPECIAL = {
    "empty": (b"", "is empty: "),
    "text": (b"epoch,loss\n0,0.25\n", "is not a safetensors file, or was cut off: "),
    "short text": (b"loss", "is not a safetensors file, or was cut off: "),
    "pickle": (pickle.dumps({"w": np.ones(3)}), "is not a safetensors file, or was cut off: "),
    "header of 2**60 bytes": (_file({}, length=2**60), "is not a safetensors file, or was cut off: "),
    "header of 2**64 - 1 bytes": (_file({}, length=2**64 - 1), "is not a safetensors file, or was cut off: "),
    "header one byte too long": (_file(b"{}", length=3), "is not a safetensors file, or was cut off: "),
    "no header": (_file(b""), "is not a safetensors file, or a damaged one: "),
    "header not UTF-8": (_file(b'{"\xff":1}'), "is not a safetensors file, or a damaged one: "),
    "header in UTF-16": (_file("{}".encode("utf-16")), "is not a safetensors file, or a damaged one: "),
    "deep header": (_file(DEEP), "is not a safetensors file, or a damaged one: "),
    "deep header, closed": (_file(DEEP + b"]" * 100_000), "is not a safetensors file, or a damaged one: "),
    "deep objects": (_file(b'{"a":' * 100_000), "is not a safetensors file, or a damaged one: "),
    "integer of 5000 digits": (_file(b'{"w":' + b"1" * 5000 + b"}"), "is not a safetensors file, or a damaged one: "),
    "repeated tensor": (
        _file(b'{"w":{"dtype":"BF16"},"w":{"dtype":"F32"}}'),
        "is not a safetensors file, or a damaged one: ",
    ),
    "header a list": (_file([]), "has no numlstm metadata: another program wrote it"),
    "another program's": (FOREIGN, "has no numlstm metadata: another program wrote it"),
    "no metadata": (save({"w": np.ones(3)}), "has no numlstm metadata: another program wrote it"),
    "metadata a list": (_file({"__metadata__": []}), "has no numlstm metadata: another program wrote it"),
    "metadata not text": (_file({"__metadata__": _metadata(sha256=1)}), "is damaged (its metadata are not all text)"),
    "newer": (
        _file({"__metadata__": _metadata(version="2")}),
        "was written by a newer numlstm (file version '2', not '1'): upgrade",
    ),
    "newer, other keys": (_file({"__metadata__": _metadata(version="2", more="x")}), "was written by a newer numlstm"),
    "no version": (
        _file({"__metadata__": _metadata(version=None)}),
        "is damaged (its metadata keys are ['format', 'header', ",
    ),
    "no digest": (_file({"__metadata__": _metadata(sha256=None)}), "is damaged (its metadata keys are "),
    "one key more": (_file({"__metadata__": _metadata(more="x")}), "is damaged (its metadata keys are "),
    "another digest": (
        _file({"__metadata__": _metadata(sha256="0" * 64)}),
        "is damaged (its content does not match its SHA-256)",
    ),
    "own header a list": (
        _file({"__metadata__": _metadata("[]")}),
        "is damaged (its header must be a JSON object, not list)",
    ),
    "own header no JSON": (_file({"__metadata__": _metadata("{")}), "is damaged (its header is no JSON)"),
    "own header deep": (_file({"__metadata__": _metadata(DEEP.decode())}), "is damaged (its header is no JSON)"),
    "tensor not an object": (_file({"__metadata__": _metadata(), "w": 1}), "is damaged (safetensors says: "),
    "dtype a list": (_claiming(dtype=[]), "is damaged (safetensors says: "),
    "deep field that is ignored": (_claiming(more=json.loads("[" * 300 + "]" * 300)), "is damaged (safetensors says: "),
    "huge shape": (_claiming(shape=[2**40]), "is damaged (safetensors says: "),
    "huge shape and offsets": (_claiming(shape=[2**60], offsets=[0, 2**62]), "is damaged (safetensors says: "),
    "shape that overflows": (_claiming(shape=[2**63, 2**63]), "is damaged (safetensors says: "),
    "negative shape": (_claiming(shape=[-1]), "is damaged (safetensors says: "),
    "huge but empty": (_claiming(shape=[0, 2**62], offsets=[0, 0], data=b""), "is damaged (safetensors says: "),
    "beyond int64, but empty": (_claiming(shape=[0, 2**64 - 1], offsets=[0, 0], data=b""), "is damaged (safetensors says: "),
    "a hundred axes": (_claiming(shape=[1] * 100), "is damaged (safetensors says: "),
    "offsets backwards": (_claiming(offsets=[4, 0]), "is damaged (safetensors says: "),
    "offsets past the end": (_claiming(offsets=[4, 8]), "is damaged (safetensors says: "),
    "data without tensor": (_file({"__metadata__": _metadata()}, b"1234"), "is damaged (safetensors says: "),
    "zip archive": (b"PK\x03\x04" + bytes(100), "is not a safetensors file, or was cut off: "),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "is not a safetensors file, or was cut off: "),
    "zeros": (bytes(1000), "is not a safetensors file, or a damaged one: "),
}


@pytest.mark.parametrize("case", SPECIAL)
def test_what_is_said_of_wrong_files(path, case):
    content, said = SPECIAL[case]
    assert _refused(path, content).startswith(said)


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F8_E4M3", "F8_E5M2", "I32", "BOOL", "F4", "X7"])
def test_tensors_of_other_dtypes_are_named(path, dtype):
    said = _refused(path, _claiming(dtype, [1], [0, 1], b"1"))
    assert said == f"has a tensor 'w' of dtype '{dtype}': numlstm reads F32, F64, I64, U8"


def test_a_deep_header_is_found_with_a_matching_digest(path):
    for text in ('{"a":' * 100_000, '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"):
        assert "its header is no JSON" in _refused(path, _file({"__metadata__": _metadata(text)}))


def test_swapped_tensors_are_found(path):
    """Names, dtypes and shapes are part of the digest, not the bytes alone."""
    w = np.arange(4, dtype=np.float32)
    digest = files._digest("{}", {"a": w, "b": w + 1})
    for tensors in (
        {"a": w + 1, "b": w},
        {"b": w, "a": w + 1},
        {"a": w, "c": w + 1},
        {"a": w.reshape(2, 2), "b": w + 1},
        {"a": w.view(np.int64), "b": w + 1},
        {"a": np.concatenate([w, w + 1])},
    ):
        metadata = {"format": "numlstm", "version": "1", "header": "{}", "sha256": digest}
        assert "SHA-256" in _refused(path, save(tensors, metadata))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to RLIMIT_AS")
def test_claims_are_not_allocated(run_python, tmp_path):
    """With 64 MiB to spare: files that claim more, among them a foreign one of 2**40 bytes that are not on the disk."""
    for number, case in enumerate(SPECIAL):
        (tmp_path / f"{number}.safetensors").write_bytes(SPECIAL[case][0])
    for name, head in (("text", b"loss,"), ("foreign", FOREIGN)):
        sparse = tmp_path / f"{name}.safetensors"
        sparse.write_bytes(head)
        os.truncate(sparse, 2**40)
    script = """
import resource, pathlib, safetensors.numpy
from numlstm import files
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
for path in sorted(pathlib.Path(".").glob("*.safetensors")):
    try:
        files.read(path)
    except files.FileFormatError:
        print(path)
"""
    assert len(run_python(script).stdout.split()) == len(SPECIAL) + 2


def test_operating_system_errors_stay_what_they_are(path, tmp_path):
    with pytest.raises(FileNotFoundError):
        files.read(path)
    refusal = PermissionError if os.name == "nt" else IsADirectoryError
    for call in (lambda: files.read(tmp_path), lambda: files.replace(tmp_path, b"")):
        with pytest.raises(refusal):
            call()
    missing = tmp_path / "missing"
    with pytest.raises(FileNotFoundError, match="No such folder, create it first: ") as caught:
        files.write(missing / "model.safetensors", {}, {})
    assert caught.value.filename == str(missing)
    assert list(tmp_path.iterdir()) == []


SAVER = """
import itertools, sys
import numpy as np
import safetensors.numpy
from numlstm import files
first = int(sys.stdin.readline())
for version in itertools.count(first):
    files.write(sys.argv[1], {"w": np.full(20_000 + version % 7, version)}, {"version": version})
    if version == first:
        print("saved", flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_whole_file(path, tmp_path):
    def start():
        command = [sys.executable, "-c", SAVER, str(path)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path)

    draw, version, upcoming = random.Random(4), 0, start()
    for _ in range(50):
        child, upcoming = upcoming, start()  # which takes longer than all the rest
        first = version + 1
        with child:
            child.stdin.write(b"%d\n" % first)
            child.stdin.flush()
            assert child.stdout.readline().split() == [b"saved"]
            threading.Event().wait(draw.uniform(0, 0.02))
            child.kill()
        tensors, header = files.read(path)
        version = header["version"]
        assert version >= first
        np.testing.assert_array_equal(tensors["w"], np.full(20_000 + version % 7, version))
    with upcoming:
        upcoming.kill()


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()], ids=["full", "interrupted"])
def test_an_error_in_the_middle_leaves_the_old_file(path, tmp_path, monkeypatch, small, step, error):
    def fail(*_):
        assert len(list(tmp_path.iterdir())) == 2
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        files.write(path, {"w": np.ones(3)}, {})
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == small


def test_long_names(tmp_path):
    path = tmp_path / ("ü" * 120 + ".safetensors")
    files.write(path, {}, {"a": 1})
    assert files.read(path) == ({}, {"a": 1})


def _link(link, target):
    try:
        link.symlink_to(target)
    except OSError as error:  # Windows without the privilege
        pytest.skip(f"no symbolic links here: {error}")


def test_a_symbolic_link_stays_and_its_target_is_replaced(path, tmp_path):
    (tmp_path / "runs").mkdir()
    target, second = tmp_path / "runs" / "model.safetensors", tmp_path / "latest"
    _link(path, target)
    _link(second, path)
    for version, link in enumerate([path, second]):  # the first one points at nothing yet
        files.write(link, {}, {"version": version})
        assert link.is_symlink() and not target.is_symlink()
        assert files.read(target) == ({}, {"version": version})
    assert sorted(tmp_path.rglob("*")) == sorted([path, second, target.parent, target])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
def test_permissions_are_those_of_open_or_of_the_old_file(path):
    before = os.umask(0o027)
    try:
        files.replace(path, b"new")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        files.replace(path, b"newer")
        assert stat.S_IMODE(path.stat().st_mode) == 0o604 and path.read_bytes() == b"newer"
    finally:
        os.umask(before)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_written_to_and_stays(tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    files.replace(pipe, b"metrics")
    reader.join()
    assert got == [b"metrics"] and pipe.is_fifo()


@pytest.mark.skipif(os.name == "nt", reason="Windows refuses to rename onto a file while another thread does")
def test_two_threads_save_the_same_path_at_once(path, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    barrier = threading.Barrier(2)

    def save_as(thread):
        for _ in range(20):
            barrier.wait(60)
            files.write(path, {"w": np.full(5000, thread)}, {"thread": thread})

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(save_as, range(2))) == [None, None]
    tensors, header = files.read(path)
    assert header["thread"] in (0, 1)
    np.testing.assert_array_equal(tensors["w"], np.full(5000, header["thread"]))
    assert list(tmp_path.iterdir()) == [path]


def test_importing_loads_neither_safetensors_nor_numba(run_python):
    script = "import sys; from numlstm import files; print([m for m in ('numba', 'safetensors') if m in sys.modules])"
    assert run_python(script).stdout.strip() == "[]"
