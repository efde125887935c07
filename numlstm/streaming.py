"""A model a step at a time, from Python: what arrives is answered at once, with the states of all steps before."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _validate, backend, jitting
from ._validate import Array
from .layers import Embedding

if TYPE_CHECKING:
    from .models import Sequential

__all__ = ["Stream"]


class Stream:
    """A model a step at a time: see `numlstm.Sequential.stream`, which makes one.

    A copy, by `copy.deepcopy`, is another stream at the same point. A stream is for one thread at a time.
    """

    def __init__(self, model: "Sequential", batch: int = 1) -> None:
        self.batch = batch = _validate.whole("batch", batch)
        parts = jitting.parts(model)
        self._dtype, self._first = model.dtype, model.layers[0]
        self._indices = isinstance(self._first, Embedding)
        self._no_zero = getattr(self._first, "mask_zero", False)
        self._params = backend.chain_step(part.params for part in parts)
        self._state = jitting.state_of(parts, model.dtype, (batch,))
        self._x_shape: tuple[int, ...] = (batch,) if self._indices else (batch, _features(model))
        self._y_shape: tuple[int, ...] = batch, parts[-1].units
        self._shapes = self._known_shapes()
        self._run = self._function()

    def _known_shapes(self) -> dict[tuple[int, ...], tuple[int, ...]]:
        """Return shapes that an input may have, and those of the outputs for them."""
        (batch, *features), y = self._x_shape, self._y_shape
        shapes: dict[tuple[int, ...], tuple[int, ...]] = {self._x_shape: y}
        if features == [1]:
            shapes[(batch,)] = y  # as Keras: a missing axis of one feature
        if batch == 1:
            shapes[tuple(features)] = y[1:]
            if features == [1]:
                shapes[()] = y[1:]
        return shapes

    def _function(self) -> Any:
        x = np.zeros(self._x_shape, np.int64 if self._indices else self._dtype)
        return backend.batch_step(self._params, self._state, x, np.empty(self._y_shape, self._dtype))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_run": None}

    def __setstate__(self, content: dict[str, Any]) -> None:
        self.__dict__.update(content)
        self._run = self._function()

    def __repr__(self) -> str:
        return f"Stream(x {self._x_shape}, y {self._y_shape}, {self._dtype})"

    def __call__(self, x_t: Any) -> Array:
        """Return the output after one more step of all sequences.

        Parameters
        ----------
        x_t : (N, F), or (N,) integers for a model that begins with an `Embedding`
            The next input of each sequence, N being `batch`. With one sequence (F,), or the integer, will do, and with one
            feature (N,), or with both the number. Numbers of any kind are cast to the model's dtype.

        Returns
        -------
        (N, C), or (C,) where x_t came without N

        Raises
        ------
        TypeError, ValueError
            For data that is not numbers, of another shape, or unknown to the embedding; the states are as before then.
        """
        if self._indices and np.ndim(x_t) == 0:
            x = self._first.cast([x_t], self._dtype, "x_t").reshape(())
        else:
            x = self._first.cast(x_t, self._dtype, "x_t")
        if self._no_zero and not x.all():
            raise ValueError("x_t must not be 0: with mask_zero=True it stands for no number")
        shape = self._shapes.get(x.shape)
        if shape is None:
            names = ", ".join(f"{name}={size}" for name, size in zip("NF", self._x_shape, strict=False))
            raise ValueError(f"x_t must have shape ({names}), {'' if self.batch > 1 else 'N may be missing, '}not {x.shape}")
        if x.shape != self._x_shape:
            x = x.reshape(self._x_shape)
        y = np.empty(self._y_shape, self._dtype)
        self._run(self._params, self._state, x, y)
        return y if shape is self._y_shape else y.reshape(shape)

    @property
    def state(self) -> jitting.ModelState:
        """The states, of arrays (N, ..), which the next call overwrites; ``state.copy()`` keeps them.

        What is assigned is copied: a state of another stream of the same model and batch, or of this one. TypeError or
        ValueError if it is not like this one; nothing is changed then.
        """
        return self._state

    @state.setter
    def state(self, state: Any) -> None:
        for into, array in list(_pairs(self._state, state, "state")):
            into[...] = array

    def reset(self) -> None:
        """Begin new sequences: all states become zero."""
        for state, _ in _pairs(self._state, self._state, "state"):
            state.fill(0)


def _features(model: "Sequential") -> int:
    assert model.input_shape is not None and model.input_shape[-1] is not None
    return model.input_shape[-1]


def _pairs(into: Any, state: Any, name: str) -> Iterator[tuple[Array, Array]]:
    """Yield the arrays of a state, each with that of another, which is checked."""
    if isinstance(into, np.ndarray):
        array = _validate.numeric(name, state, into.dtype)
        if array.shape != into.shape:
            raise ValueError(f"{name} must have shape {into.shape}, not {array.shape}")
        yield into, array
        return
    if not isinstance(state, tuple) or len(state) != len(into):
        came = f"{len(state)} items" if isinstance(state, tuple) else type(state).__name__
        raise TypeError(f"{name} must be a tuple of {len(into)}, as the stream's own is, not {came}")
    fields = getattr(into, "_fields", None)
    for i, (own, other) in enumerate(zip(into, state, strict=True)):
        yield from _pairs(own, other, f"{name}.{fields[i]}" if fields else f"{name}[{i}]")
