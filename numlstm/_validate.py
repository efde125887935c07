"""The only place that checks or coerces what users pass: TypeError for a dtype, ValueError for a shape or a value."""

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

LARGE = 1 << 26  # bytes of a copy that is not made in whole
_PART = 1 << 22  # bytes that are looked at at once
_FEW = 1 << 12  # elements: fewer than a BLAS would deal out to threads
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

Array = npt.NDArray[Any]


class _SameMemory:
    """A read-only array's memory, to look at it through an array that is not marked so; kernels never write to inputs."""

    def __init__(self, array: Array) -> None:
        self._keep_alive = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def floating(name: str, value: object, like: tuple[str, np.dtype[Any]] | None = None) -> Array:
    """Return `value` as a C-contiguous array in the machine's byte order that is not marked read-only, copied if need be.

    Its dtype must be float32 or float64, and that of the argument that `like` names: nothing is converted silently.
    """
    if type(value) is np.ndarray and value.flags.carray:  # nothing to convert, most of the time
        dtype = value.dtype
        if dtype in FLOATS and (like is None or dtype == like[1]):
            return value
    _plain(name, value)
    try:
        array = np.asarray(value)
        kind = array.dtype.newbyteorder("=")
    except Exception as error:  # whatever a list of lists or a foreign object has to say
        raise _no_array(name, value, "float32 or float64", error) from error
    if kind not in FLOATS or (like is not None and kind != like[1]):
        expected = "float32 or float64" if like is None else f"{like[1]}, like {like[0]}"
        came = str(array.dtype) if isinstance(value, np.ndarray) else f"{type(value).__name__} (as an array: {array.dtype})"
        raise TypeError(f"{name} must be an array of {expected}, not {'None' if value is None else came}")
    flags = array.flags
    if not (flags.c_contiguous and array.dtype.isnative and flags.aligned):
        return np.array(array, kind, order="C")
    # A read-only array is another type to Numba, and so another compilation.
    if flags.writeable:
        return array
    return np.asarray(_SameMemory(array)) if array.size else array.copy()


def numeric(name: str, value: object, dtype: np.dtype[Any]) -> Array:
    """Return numbers of any kind as a C-contiguous array of the model's dtype: what models and layers take."""
    if type(value) is np.ndarray and value.dtype == dtype:
        return floating(name, value)
    array = numbers(name, value)
    if array.dtype == dtype:
        return floating(name, array)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite; `finite` names the place
        return np.array(array, dtype, order="C")


def by_batch(name: str, value: object, dtype: np.dtype[Any]) -> Array:
    """Return numbers as `numeric` does, but a large array that would be copied as it is: to be converted batch by batch."""
    if isinstance(value, np.ndarray) and value.size * dtype.itemsize > LARGE and not isinstance(value, np.ma.MaskedArray):
        return numbers(name, value)
    return numeric(name, value, dtype)


def convert(array: Array, out: Array) -> None:
    """Write numbers of any kind over an array of their shape."""
    if array.dtype == out.dtype:
        out[...] = array
        return
    with np.errstate(over="ignore"):  # `finite` is asked beforehand where it matters
        out[...] = array


def is_ready(array: Array, dtype: np.dtype[Any]) -> bool:
    """Return whether an array is as kernels read it."""
    return array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned


def indices(name: str, value: object, count: int) -> Array:
    """Return whole numbers in 0..count-1, of any integer dtype or floats without a fraction, as int64."""
    array = _as_array(name, value, "whole numbers")
    whole = np.ascontiguousarray(array, np.int64) if array.dtype.kind != "f" else _rounded(name, array)
    if whole.size and not (0 <= whole.min() and whole.max() < count):
        place = np.unravel_index(int(np.argmax((whole < 0) | (whole >= count))), whole.shape)
        where = ", ".join(map(str, place))
        raise ValueError(f"{name} must be whole numbers from 0 to {count - 1}, but {name}[{where}] is {array[place]}")
    return whole


def _rounded(name: str, array: Array) -> Array:
    bad = ~np.isfinite(array) | (np.floor(array) != array) | (np.abs(array, dtype=np.float64) > 2**53)
    if bad.any():
        place = np.unravel_index(int(np.argmax(bad)), array.shape)
        raise ValueError(f"{name} must be whole numbers, but {name}[{', '.join(map(str, place))}] is {array[place]}")
    return np.ascontiguousarray(array, np.int64)


def numbers(name: str, value: object) -> Array:
    """Return numbers of any kind as an array of their own dtype."""
    return _as_array(name, value, "numbers")


def _as_array(name: str, value: object, kind: str) -> Array:
    """Return a list, a frame or an array as an array."""
    _plain(name, value)
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever a list of lists or a foreign object has to say
        raise _no_array(name, value, kind, error) from error
    if value is None or array.dtype.kind not in "fiub":
        came = "None" if value is None else f"{type(value).__name__} (as an array: {array.dtype})"
        raise TypeError(f"{name} must be an array of {kind}, not {came}")
    return array


def _no_array(name: str, value: object, kind: str, error: Exception) -> TypeError:
    """Return what to say of something that NumPy makes no array of."""
    if isinstance(value, (list, tuple)) and len({np.shape(item)[:1] for item in value if isinstance(item, np.ndarray)}) > 1:
        return TypeError(
            f"{name} must be one array of {kind}, not a {type(value).__name__} of sequences of different lengths: "
            f"numlstm.data.pad makes one of them, and lengths"
        )
    return TypeError(f"{name} must be an array of {kind}: {error}")


def _plain(name: str, value: object) -> None:
    """Refuse masked arrays, and those on a GPU, which NumPy would copy back without a word or not understand."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} must be a plain array, not a masked one: fill or drop the masked values first")
    if on_gpu(value):
        from .devices import DeviceError

        raise DeviceError(
            f"{name} is on a GPU, where only a model after its to('cuda') takes data, x and y: copy it to the host"
        )


def on_gpu(value: Any) -> bool:
    """Return whether something is an array on a GPU: of numba-cuda, CuPy, PyTorch or whoever has what these hand on.

    That is a CUDA Array Interface, or by DLPack memory of kind 2, a CUDA GPU's, or 13, which it shares with the host.
    """
    if isinstance(value, np.ndarray):
        return False
    if hasattr(value, "__cuda_array_interface__"):
        return True
    try:
        return value.__dlpack_device__()[0] in (2, 13)
    except Exception:  # nearly always AttributeError; a foreign object may say that it cannot tell
        return False


def finite(name: str, array: Array, dtype: np.dtype[Any] | None = None) -> None:
    """Refuse NaN and infinity, and what is infinite in `dtype`, naming the first place."""
    if array.dtype.kind != "f":
        return
    dtype = array.dtype if dtype is None else dtype
    if array.size <= _FEW and array.dtype == dtype and math.isfinite(np.vdot(array, array)):
        return  # most of the time; squares that overflow are looked at as all else is
    with np.errstate(all="ignore"):
        for part in _parts(array, dtype):
            if not math.isfinite(np.add.reduce(part, None, np.float64)):
                break
        else:
            return
        bad, place, before = 0, 0, 0
        for part in _parts(array, dtype):
            flags = ~np.isfinite(part)
            if not bad:
                place = before + int(np.argmax(flags))
            bad, before = bad + int(flags.sum()), before + part.size
        if bad:
            index = np.unravel_index(place, array.shape)
            where, came = ", ".join(map(str, index)), array[index].astype(dtype)
            raise ValueError(f"{name} must be finite, but {name}[{where}] is {came} ({bad} such values in all)")


def _parts(array: Array, dtype: np.dtype[Any]) -> Iterable[Array]:
    """Return an array in that dtype, piece by piece, so that copies are small."""
    if array.dtype == dtype and array.nbytes <= _PART:
        return (array,)
    rows = max(1, _PART // max(1, array[:1].nbytes))
    return (array[first : first + rows].astype(dtype, copy=False) for first in range(0, len(array), rows))


def shape(name: str, array: Array, expected: dict[str, int | None], because: str = "") -> None:
    """Check an array's shape against sizes by axis name; None admits any size."""
    if len(expected) == array.ndim:
        for want, got in zip(expected.values(), array.shape, strict=True):
            if want is not None and want != got:
                break
        else:
            return
    axes = ", ".join(axis if size is None else f"{axis}={size}" for axis, size in expected.items())
    raise ValueError(f"{name} must have shape ({axes}){because}, not {array.shape}")


def columns(name: str, value: Any, array: Array) -> Array:
    """Return columns of an array (.., F), chosen by an integer, a slice or a sequence of integers."""
    try:
        return np.asarray(array[..., value])
    except (IndexError, TypeError, ValueError):
        raise IndexError(f"{name} must choose from {array.shape[-1]} columns by their numbers, not {value!r}") from None


def optional_state(name: str, value: object, batch: int, hidden: int, like: tuple[str, np.dtype[Any]]) -> Array | None:
    """Return a state (N, H), or None as it came."""
    if value is None:
        return None
    array = floating(name, value, like)
    if array.shape != (batch, hidden):
        shape(name, array, {"N": batch, "H": hidden})
    return array


def lengths(name: str, value: object, batch: int, steps: int) -> Array | None:
    """Return lengths of sequences (N,), each from 1 to T, as int64; None as it came."""
    if value is None:
        return None
    array = _as_array(name, value, "integers")
    shape(name, array, {"N": batch}, ", one for each sequence")
    if array.dtype.kind not in "iu":
        broken = array != np.floor(array) if array.dtype.kind == "f" else np.zeros(batch, bool)
        row = int(np.argmax(broken))
        which = f"but {name}[{row}] is {array[row]}" if broken.any() else f"not {array.dtype}"
        raise TypeError(f"{name} must be integers, {which}")
    wrong = (array < 1) | (array > steps)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"{name} must be from 1 to T={steps}, but {name}[{row}] is {array[row]}")
    return array.astype(np.int64)


def weights(blocks: Mapping[str, tuple[int, int]], value: object, owner: str) -> tuple[Array, ...]:
    """Return a cell's weights, of one dtype, as arrays.

    blocks : by name, of how many blocks of H rows each is made, and its dimensions: W_ih (G H, I), W_hh (G H, H), b (G H,);
        with W_p (P, H), which is none of these, W_hh is (G H, P)
    owner : a type that they may also be, and what makes one of them, for messages
    """
    if not isinstance(value, (tuple, list)) or len(value) != len(blocks):
        came, hint = type(value).__name__, ""
        if isinstance(value, np.ndarray):
            hint = f": put the {'three' if len(blocks) == 3 else len(blocks)} arrays into one tuple"
        elif isinstance(value, (tuple, list)):
            came = f"{len(value)} items"
            hint = ": add PyTorch's two biases, b = b_ih + b_hh" if len(value) == len(blocks) + 1 == 4 else ""
        raise TypeError(f"weights must be ({', '.join(blocks)}){owner}, not {came}{hint}")
    W_ih = floating("W_ih", value[0])
    like = "W_ih", W_ih.dtype
    arrays = [W_ih, *[floating(name, array, like) for name, array in zip(list(blocks)[1:], value[1:], strict=True)]]
    W_hh, count = arrays[1], blocks["W_hh"][0]
    if "W_p" in blocks:
        hidden = _projected(count, W_hh, arrays[list(blocks).index("W_p")])
    elif W_hh.ndim != 2 or W_hh.shape[0] != count * W_hh.shape[1] or W_hh.shape[1] == 0:
        hint = ""
        if W_hh.ndim == 2 and W_hh.shape[1] == count * W_hh.shape[0] > 0:
            hint = ": it looks transposed"
        elif W_ih.ndim == 2 and W_ih.shape[0] == count * W_ih.shape[1]:
            hint = ": W_ih and W_hh look swapped"
        raise ValueError(f"W_hh must have shape ({_times(count)}H, H) with H at least 1, not {W_hh.shape}{hint}")
    else:
        hidden = W_hh.shape[1]
    for name, array in zip(blocks, arrays, strict=True):
        if name == "W_p":
            continue
        count, dimensions = blocks[name]
        if array.ndim != dimensions or array.shape[0] != count * hidden:
            sizes: dict[str, int | None] = {f"{_times(count)}H": count * hidden}
            shape(name, array, {**sizes, "I": None} if dimensions == 2 else sizes, f" to go with W_hh {W_hh.shape}")
        if name == "R" and array.shape[1] != array.shape[0]:
            raise ValueError(f"R must have as many columns as rows, {count}H={count * hidden}, not {array.shape}")
    if W_ih.shape[1] == 0:
        raise ValueError(f"W_ih must have at least one input feature, not shape {W_ih.shape}")
    return tuple(arrays)


def _projected(count: int, W_hh: Array, W_p: Array) -> int:
    """Return H of weights with a projection (P, H)."""
    if W_p.ndim != 2 or not 0 < W_p.shape[0] < W_p.shape[1]:
        raise ValueError(f"W_p must have shape (P, H) with P at least 1 and less than H, not {W_p.shape}")
    outputs, hidden = map(int, W_p.shape)
    shape("W_hh", W_hh, {f"{_times(count)}H": count * hidden, "P": outputs}, f" to go with W_p {W_p.shape}")
    return hidden


def _times(count: int) -> str:
    return "" if count == 1 else str(count)


def whole(name: str, value: Any, least: int = 1) -> int:
    """Return an integer that is at least so much."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value.__index__() < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return int(value)


def real(name: str, value: Any, least: float = -np.inf, below: float = np.inf, positive: bool = False) -> float:
    """Return a finite number from `least` on, `below` excluded, and if asked for, not 0 or less."""
    if isinstance(value, (bool, np.bool_, str)) or not hasattr(value, "__float__") or np.ndim(value) > 0:
        raise TypeError(f"{name} must be a number, not {value!r}")
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond float64
        number = np.inf
    if np.isfinite(number) and least <= number < below and (number > 0 or not positive):
        return number
    wanted = "positive" if positive else f"at least {least:g}" if least > -np.inf else "finite"
    raise ValueError(f"{name} must be {wanted}{f' and below {below:g}' if below < np.inf else ''}, not {value}")


def flag(name: str, value: Any) -> bool:
    """Return True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def choice(name: str, value: Any, options: Iterable[str], *, none: bool = False, **meant: str) -> str:
    """Return a name that is one of the options. meant : of other names, the option that is meant; none : None is one too."""
    options = list(options)
    if isinstance(value, str) and value in options:
        return value
    close = difflib.get_close_matches(value, options, 1) if isinstance(value, str) else []
    close = [meant[value]] if isinstance(value, str) and value in meant else close
    hint = f": did you mean {close[0]!r}?" if close else ""
    known = ", ".join(map(repr, [*options, None] if none else options))
    raise ValueError(f"{name} must be one of {known}, not {value!r}{hint}")


def optional_choice(name: str, value: Any, options: Iterable[str]) -> str | None:
    """Return None, or a name that is one of the options."""
    return None if value is None else choice(name, value, options, none=True)
