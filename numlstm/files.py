"""Model files: safetensors with a header of numlstm's own and a digest of everything, written whole or not at all."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ._validate import Array

__all__ = ["FileFormatError", "read", "replace", "write"]

FORMAT, VERSION = "numlstm", "1"

_METADATA_KEYS = {"format", "version", "header", "sha256"}
_DTYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "U8": "|u1"}  # safetensors' names and NumPy's
_LENGTH_BYTES = 8
_LONGEST_HEADER = 100_000_000  # safetensors' own limit


class FileFormatError(ValueError):
    """A file's content is not what numlstm wrote: the message names the file and says what is wrong with it."""


def write(path: str | os.PathLike[str], tensors: Mapping[str, Array], header: Mapping[str, Any]) -> None:
    """Save tensors and a header, so that a kill at any moment leaves the old file or the new one whole.

    The same content gives the same bytes.

    Parameters
    ----------
    path : str or path-like
        Where to; see `replace`.
    tensors : mapping of name to array, of any shape
        float32, float64, int64 or uint8, in any byte order and memory layout.
    header : mapping
        What JSON can hold, its keys strings; keys come back sorted. Infinities and NaN are kept, in Python's spelling.

    Raises
    ------
    TypeError
        For a tensor of another dtype, or a header that JSON cannot hold.
    OSError
        If the file cannot be written.
    """
    from safetensors.numpy import save

    little = {name: _little_endian(name, array) for name, array in tensors.items()}
    text = json.dumps(dict(header), sort_keys=True, separators=(",", ":"))
    metadata = {"format": FORMAT, "version": VERSION, "header": text, "sha256": _digest(text, little)}
    replace(path, _with_metadata(save(little), metadata))


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return what `write` saved, after checking every byte of it.

    Returns
    -------
    tensors : dict of name to array
        Sorted by name, of the dtypes and shapes they were saved with; writeable, in the machine's byte order.
    header : dict

    Raises
    ------
    FileFormatError
        If the content is not what numlstm wrote: damaged, cut off, from another program or from a newer numlstm.
    OSError
        If the file cannot be read: FileNotFoundError, IsADirectoryError, PermissionError and the like.
    """
    with open(path, "rb") as file:
        try:
            return _checked_content(file)
        except FileFormatError as error:
            raise FileFormatError(f"{os.fspath(path)} {error}") from error.__cause__


def replace(path: str | os.PathLike[str], content: bytes) -> None:
    """Put a file in place in one step: it is written beside, brought to the disk, and renamed.

    Whoever reads the path meanwhile, and whatever goes wrong, the old file or the new one is there, whole. A symbolic link
    stays, and what it points at is replaced; an existing file's permissions are kept. A device or a pipe is written to.

    Raises
    ------
    FileNotFoundError
        If the folder is not there.
    OSError
        If the file cannot be written; on Windows also if another program has it open.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        Path(path).write_bytes(content)  # or, for a folder, the system's own refusal
        return
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder, create it first", str(target.parent))
    # Nobody else's name, whatever other threads, processes and machines save here; cut, as a file system limits names.
    partial = target.with_name(f".{target.name[:40]}.{os.urandom(8).hex()}.partial")
    try:
        with open(partial, "xb") as file:
            with contextlib.suppress(OSError):  # no file yet, or a file system without permissions
                shutil.copymode(target, partial)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Let a renaming outlast a power cut, where a folder can be opened for that: on Windows it cannot."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _little_endian(name: str, value: Array) -> Array:
    """Return a tensor as safetensors wants it: C-contiguous and little-endian."""
    array = np.asarray(value)
    dtype = array.dtype.newbyteorder("<")
    if dtype.str not in _DTYPES.values():
        raise TypeError(f"tensor {name!r} must be of float32, float64, int64 or uint8, not {array.dtype}")
    return np.asarray(array, dtype, order="C")


def _digest(header: str, tensors: Mapping[str, Array]) -> str:
    """Return the SHA-256 of format, version and header, and of each little-endian tensor's name, dtype, shape and bytes."""
    in_order = sorted(tensors.items())
    outline = [FORMAT, VERSION, header, [[name, array.dtype.str, array.shape] for name, array in in_order]]
    digest = hashlib.sha256(json.dumps(outline).encode("ascii"))
    for _, array in in_order:
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _with_metadata(content: bytes, metadata: dict[str, str]) -> bytes:
    """Return a safetensors file with metadata in the order given: safetensors would write them in another each time."""
    start = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    entries = {"__metadata__": metadata, **json.loads(content[_LENGTH_BYTES:start])}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)  # so that tensors stay aligned
    return b"".join([len(text).to_bytes(_LENGTH_BYTES, "little"), text, memoryview(content)[start:]])


def _checked_content(file: BinaryIO) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return tensors and header of an open file; its errors say what is wrong, and the caller puts the path before that.

    What the file claims of itself is held against its size and checked before the tensors are read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise FileFormatError("is empty: save the model again, or copy the file again")
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if length > min(size - _LENGTH_BYTES, _LONGEST_HEADER):
        raise FileFormatError("is not a safetensors file, or was cut off: save the model again, or copy the file again")
    metadata = _checked_metadata(file.read(length))
    file.seek(0)
    try:
        loaded = load(file.read(size))
    except (SafetensorError, ValueError) as error:  # the latter from NumPy, for a shape beyond its limits
        raise _damaged(f"safetensors says: {error}") from error
    tensors = {name: array.view(array.dtype.newbyteorder("<")) for name, array in sorted(loaded.items())}
    if _digest(metadata["header"], tensors) != metadata["sha256"]:
        raise _damaged("its content does not match its SHA-256")
    try:
        header = json.loads(metadata["header"])
    except (ValueError, RecursionError) as error:
        raise _damaged("its header is no JSON") from error
    if not isinstance(header, dict):
        raise _damaged(f"its header must be a JSON object, not {type(header).__name__}")
    return {name: np.require(array, array.dtype.newbyteorder("="), "W") for name, array in tensors.items()}, header


def _checked_metadata(text: bytes) -> dict[str, str]:
    """Return the metadata of a safetensors header whose tensors, too, are of numlstm's kind."""
    try:
        entries = json.loads(text.decode("utf-8"), object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise FileFormatError("is not a safetensors file, or a damaged one: its safetensors header is no JSON") from error
    metadata = entries.pop("__metadata__", None) if isinstance(entries, dict) else None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise FileFormatError("has no numlstm metadata: another program wrote it, or it is damaged")
    if not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged("its metadata are not all text")
    if metadata.get("version", VERSION) != VERSION:
        version = metadata["version"]
        raise FileFormatError(f"was written by a newer numlstm (file version {version!r}, not {VERSION!r}): upgrade numlstm")
    if set(metadata) != _METADATA_KEYS:
        raise _damaged(f"its metadata keys are {sorted(metadata)}, not {sorted(_METADATA_KEYS)}")
    for name, entry in entries.items():
        dtype = entry.get("dtype") if isinstance(entry, dict) else None
        if isinstance(dtype, str) and dtype not in _DTYPES:
            raise FileFormatError(f"has a tensor {name!r} of dtype {dtype!r}: numlstm reads {', '.join(_DTYPES)}")
    return metadata


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object; where a name stands twice, two parsers may see different things."""
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return unique


def _damaged(reason: str) -> FileFormatError:
    return FileFormatError(f"is damaged ({reason}): save the model again, or copy the file again")
