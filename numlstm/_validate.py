"""The only place that checks or coerces what users pass: TypeError for a dtype, ValueError for a shape or a value."""

import difflib
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

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
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} must be a plain array, not a masked one: fill or drop the masked values first")
    try:
        array = np.asarray(value)
        kind = array.dtype.newbyteorder("=")
    except Exception as error:  # whatever a list of lists or a foreign object has to say
        raise TypeError(f"{name} must be an array of float32 or float64: {error}") from error
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
    array = _as_array(name, value, "numbers")
    if array.dtype == dtype:
        return floating(name, array)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite; `finite` names the place
        return np.array(array, dtype, order="C")


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


def _as_array(name: str, value: object, kind: str) -> Array:
    """Return a list, a frame or an array as an array."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} must be a plain array, not a masked one: fill or drop the masked values first")
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever a list of lists or a foreign object has to say
        raise TypeError(f"{name} must be an array of {kind}: {error}") from error
    if value is None or array.dtype.kind not in "fiub":
        came = "None" if value is None else f"{type(value).__name__} (as an array: {array.dtype})"
        raise TypeError(f"{name} must be an array of {kind}, not {came}")
    return array


def finite(name: str, array: Array) -> None:
    """Refuse NaN and infinity, naming the first place."""
    if array.dtype.kind != "f":
        return
    with np.errstate(all="ignore"):
        if math.isfinite(np.add.reduce(array, None, np.float64)):
            return
    bad = ~np.isfinite(array)
    if bad.any():
        place = np.unravel_index(int(np.argmax(bad)), array.shape)
        where = ", ".join(map(str, place))
        raise ValueError(
            f"{name} must be finite, but {name}[{where}] is {array[place]} ({int(bad.sum())} such values in all)"
        )


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


def optional_state(name: str, value: object, batch: int, hidden: int, like: tuple[str, np.dtype[Any]]) -> Array | None:
    """Return a state (N, H), or None as it came."""
    if value is None:
        return None
    array = floating(name, value, like)
    if array.shape != (batch, hidden):
        shape(name, array, {"N": batch, "H": hidden})
    return array


def lstm_weights(weights: object) -> tuple[Array, Array, Array]:
    """Return (W_ih, W_hh, b) of one dtype and of shapes (4H, I), (4H, H), (4H,)."""
    if not isinstance(weights, (tuple, list)) or len(weights) != 3:
        came, hint = type(weights).__name__, ""
        if isinstance(weights, np.ndarray):
            hint = ": put the three arrays into one tuple"
        elif isinstance(weights, (tuple, list)):
            came = f"{len(weights)} items"
            hint = ": add PyTorch's two biases, b = b_ih + b_hh" if len(weights) == 4 else ""
        raise TypeError(f"weights must be (W_ih, W_hh, b), an LSTMWeights or what functional.pack returns, not {came}{hint}")
    W_ih = floating("W_ih", weights[0])
    W_hh = floating("W_hh", weights[1], ("W_ih", W_ih.dtype))
    b = floating("b", weights[2], ("W_ih", W_ih.dtype))
    if W_hh.ndim != 2 or W_hh.shape[0] != 4 * W_hh.shape[1] or W_hh.shape[1] == 0:
        hint = ""
        if W_hh.ndim == 2 and W_hh.shape[1] == 4 * W_hh.shape[0] > 0:
            hint = ": it looks transposed"
        elif W_ih.ndim == 2 and W_ih.shape[0] == 4 * W_ih.shape[1]:
            hint = ": W_ih and W_hh look swapped"
        raise ValueError(f"W_hh must have shape (4H, H) with H at least 1, not {W_hh.shape}{hint}")
    gates = W_hh.shape[0]
    if W_ih.ndim != 2 or W_ih.shape[0] != gates:
        shape("W_ih", W_ih, {"4H": gates, "I": None}, f" to go with W_hh {W_hh.shape}")
    if W_ih.shape[1] == 0:
        raise ValueError(f"W_ih must have at least one input feature, not shape {W_ih.shape}")
    if b.shape != (gates,):
        shape("b", b, {"4H": gates}, f" to go with W_hh {W_hh.shape}")
    return W_ih, W_hh, b


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


def choice(name: str, value: Any, options: Iterable[str]) -> str:
    """Return a name that is one of the options."""
    options = list(options)
    if isinstance(value, str) and value in options:
        return value
    close = difflib.get_close_matches(value, options, 1) if isinstance(value, str) else []
    hint = f": did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, not {value!r}{hint}")


def optional_choice(name: str, value: Any, options: Iterable[str]) -> str | None:
    """Return None, or a name that is one of the options."""
    return None if value is None else choice(name, value, options)


def not_yet(**arguments: object) -> None:
    """Refuse arguments that are reserved for what is not there yet."""
    for name, value in arguments.items():
        if value is not None:
            raise NotImplementedError(f"{name} is not available in this version of numlstm: leave it at None")
