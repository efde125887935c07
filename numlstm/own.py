"""A cell of the user's own, from two element-wise functions, and a check of its gradients."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import _digest, _validate, cells
from ._validate import Array

__all__ = ["Cell", "check_cell"]

Function = Callable[..., Any]
_MOST_GATES = 4  # as many panels as one tile of the engine holds
_STEP = 1e-5
_TOLERANCE = 1e-7


class Cell(cells.Spec):
    """A recurrent cell from two element-wise functions: for `numlstm.RNN`, and ``cell=`` of `numlstm.functional`.

    For each step the engine computes the gates' sums ``z = W x + U h + b``; the functions do the rest, for many units at
    once, and are compiled into the same loops as the cells that numlstm has. They are written in ``+ - * /``, comparisons
    and `numlstm.lanes`; other such functions that they call, and numbers that they refer to, are compiled in. In plain
    Python they take NumPy arrays.

    Parameters
    ----------
    forward : function (z, states) -> (kept, states, h)
        From the sums and the states before the step, tuples: a tuple of what `backward` needs, such as the gates, at most as
        many numbers as there are sums; the states after the step, a tuple; and the step's output.
    backward : function (kept, before, after, dh, dstates) -> (dz, dbefore)
        The adjoint: from what `forward` kept, the states before and after the step, and the gradients of h and of the states
        after it, tuples of the gradients of the sums and of the states before it; what the products make of them is added.
    gates : int in 1..4, or names
        Of the sums, in the order of the blocks of H rows in W_ih, W_hh and b. Numbers that are kept go by these names, in
        their order, in `Sequential.trace`.
    states : int, or names
        Beside h, each of H numbers. If the first is named "h", the functions get h of the step before as well, and return
        the new one among the states, too; its gradient in `dstates` is dh.
    apart : int
        Of how many gates, the last ones, the products come apart, as behind a GRU's reset gate: z holds their ``W x + b``
        in their places, and ``U h + b_h`` behind all others. They have a bias b_h more.
    projected : bool
        Whether h is W_p times what `forward` returns, as for `numlstm.CellSpec`; for functions that do not get h.
    layer_norm : bool
        Whether both products are normalised, each with a gain, before the biases are added: see `numlstm.CellSpec`.

    Raises
    ------
    TypeError, ValueError
        If the functions are none, or do not return what is said here; `numlstm.check_cell` tells whether they are right.
        When the cell is used first: for code that Numba cannot compile.

    Examples
    --------
    A leaky integrator, ``h = (1 - a) h + a tanh(z)`` with a = 0.1:

    >>> from numlstm.lanes import tanh
    >>> def forward(z, states):
    ...     g = tanh(z[0])
    ...     h = 0.9 * states[0] + 0.1 * g
    ...     return (g,), (h,), h
    >>> def backward(kept, before, after, dh, dstates):
    ...     (g,) = kept
    ...     return (0.1 * dh * (1 - g * g),), (0.9 * dh,)
    >>> leaky = Cell(forward, backward, gates=1, states="h")
    """

    kind = "Own"

    def __init__(
        self,
        forward: Function,
        backward: Function,
        gates: int | Sequence[str],
        states: int | Sequence[str] = 0,
        apart: int = 0,
        projected: bool = False,
        layer_norm: bool = False,
    ) -> None:
        self.forward, self.backward = _function("forward", forward, 2), _function("backward", backward, 5)
        self.gates, own = _names("gates", gates, "z", 1), _names("states", states, "s", 0)
        self.with_h, self.apart = "h" in own, _validate.whole("apart", apart, 0)
        if len(self.gates) > _MOST_GATES:
            raise ValueError(f"gates must be 1 to {_MOST_GATES}, not {len(self.gates)}")
        if self.with_h and own[0] != "h":
            raise ValueError(f"states must begin with 'h' if it is among them, not with {own[0]!r}")
        if self.apart > len(self.gates):
            raise ValueError(f"apart must be at most as many as there are gates, {len(self.gates)}, not {self.apart}")
        self.own_states = own
        self.sums = (*self.gates, *(f"{name} of h" for name in self.gates[len(self.gates) - self.apart :]))
        digest, self.functions = _digest.freeze(self.forward, self.backward)
        self.kept = _try(self)
        said = digest, self.gates, self.apart, own, self.kept
        plain = f"Own_of_{_digest.of_text(repr(said))}"
        cells.OWN[plain] = self
        self.projected, self.layer_norm = _validate.flag("projected", projected), _validate.flag("layer_norm", layer_norm)
        if projected and self.with_h:
            raise ValueError(
                "projected=True is for functions that do not get h: they would get fewer numbers than they return"
            )
        self._name = cells.NORMED * layer_norm + cells.PROJECTED * projected + plain

    @property
    def name(self) -> str:
        """The engine's name of the cell; it stands for all that its code depends on."""
        return self._name

    @property
    def state_names(self) -> tuple[str, ...]:
        return self.own_states if self.with_h else ("h", *self.own_states)

    @property
    def weights(self) -> dict[str, tuple[int, int]]:
        count = len(self.gates)
        weights = {"W_ih": (count, 2), "W_hh": (count, 2), "b": (count, 1)}
        return self.and_options({**weights, "b_h": (self.apart, 1)} if self.apart else weights, self.projected)

    def get_config(self) -> dict[str, Any]:
        """Return the name by which the cell is registered; ValueError if it is not."""
        name = cells.registered_name(self)
        if name is None:
            raise ValueError(f"{self!r} has no name that a file could hold: call numlstm.cells.register with one")
        return {"name": name}

    def __repr__(self) -> str:
        names = f"forward={self.forward.__name__}, backward={self.backward.__name__}, gates={self.gates}"
        apart = f", apart={self.apart}" if self.apart else ""
        options = "".join(f", {name}=True" for name in ("projected", "layer_norm") if getattr(self, name))
        return f"Cell({names}, states={self.own_states}{apart}{options})"

    def __reduce__(self) -> tuple[Any, ...]:
        options = self.apart, self.projected, self.layer_norm
        return Cell, (self.forward, self.backward, self.gates, self.own_states, *options)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cell):
            return NotImplemented
        return self._name == other._name

    def __hash__(self) -> int:
        return hash(self._name)


def _function(name: str, value: Any, count: int) -> Function:
    if not inspect.isfunction(value):
        hint = ": give the function itself, numlstm compiles it" if hasattr(value, "py_func") else ""
        raise TypeError(f"{name} must be a function in Python, not {type(value).__name__}{hint}")
    parameters = inspect.signature(value).parameters.values()
    plain = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD and each.default is each.empty]
    if len(plain) != count or len(plain) != len(parameters):
        takes = "(z, states)" if count == 2 else "(kept, before, after, dh, dstates)"
        raise TypeError(f"{name} must take {takes}, not {inspect.signature(value)}")
    return value


def _names(name: str, value: int | Sequence[str], letter: str, least: int) -> tuple[str, ...]:
    if isinstance(value, (int, np.integer)):
        return tuple(f"{letter}{k}" for k in range(_validate.whole(name, value, least)))
    names = tuple(value) if isinstance(value, Sequence) else ()
    if len(names) < least or not all(isinstance(each, str) and each.isidentifier() for each in names):
        raise TypeError(f"{name} must be a number, or names such as 'ab' or ('a', 'b'), not {value!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"{name} has a name twice: {names}")
    return names


# --- the functions in plain NumPy ---


def _call(cell: Cell, name: str, *arguments: Any) -> Any:
    try:
        with np.errstate(all="ignore"):
            return cell.functions[name == "backward"](*arguments)
    except Exception as error:
        raise ValueError(f"{name} fails on NumPy arrays: {type(error).__name__}: {error}") from error


def _parts(name: str, returned: Any, what: str) -> tuple[Any, ...]:
    """Return the tuple that a function returned, `what` in words."""
    count = what.count(",") + 1
    if not isinstance(returned, tuple) or len(returned) != count:
        came = f"a tuple of {len(returned)}" if isinstance(returned, tuple) else type(returned).__name__
        raise ValueError(f"{name} must return {what}, not {came}")
    return returned


def _numbers(name: str, label: str, items: Any, least: int, most: int, like: Array) -> tuple[Array, ...]:
    """Return a tuple of numbers for each unit, as many as there must be."""
    if not isinstance(items, tuple) or not least <= len(items) <= most:
        count = f"{most}" if least == most else f"at most {most}"
        came = f"{len(items)}" if isinstance(items, tuple) else type(items).__name__
        raise ValueError(f"{name} must return {label} as a tuple of {count}, not {came}")
    if any(np.shape(item) != like.shape and type(item) not in (int, float) for item in items):
        raise ValueError(f"{name} must return numbers for each unit in {label}, of the shape of z, but one has another")
    return tuple(np.broadcast_to(np.asarray(item, np.float64), like.shape) for item in items)


def _forward(cell: Cell, z: Sequence[Array], before: Sequence[Array]) -> tuple[Any, Any, Array]:
    kept, after, h = _parts("forward", _call(cell, "forward", tuple(z), tuple(before)), "(kept, states, h)")
    states = len(cell.own_states)
    kept = _numbers("forward", "kept", kept, 0, len(cell.sums), z[0])
    after = _numbers("forward", "states", after, states, states, z[0])
    (h,) = _numbers("forward", "h", (h,), 1, 1, z[0])
    if cell.with_h and not np.array_equal(after[0], h, equal_nan=True):
        raise ValueError("forward must return the new h as the first of its states, and again behind them")
    return kept, after, h


def _backward(cell: Cell, kept: Any, before: Any, after: Any, dh: Array, dstates: Any) -> tuple[Any, Any]:
    returned = _call(cell, "backward", kept, tuple(before), after, dh, tuple(dstates))
    dz, dbefore = _parts("backward", returned, "(dz, dbefore)")
    sums, states = len(cell.sums), len(cell.own_states)
    dz = _numbers("backward", "dz", dz, sums, sums, dh)
    return dz, _numbers("backward", "dbefore", dbefore, states, states, dh)


def _try(cell: Cell) -> int:
    """Call both functions once; return how many numbers are kept."""
    rng = np.random.default_rng(0)
    z, before = ([*rng.uniform(0.5, 1, (count, 3))] for count in (len(cell.sums), len(cell.own_states)))
    kept, after, h = _forward(cell, z, before)
    _backward(cell, kept, before, after, h, after)
    return len(kept)


def check_cell(cell: Cell, states: Sequence[Any] | None = None, seed: int = 0) -> dict[str, float]:
    """Compare a cell's `backward` with finite differences of its `forward`, in float64.

    Parameters
    ----------
    cell : Cell
    states : tuple of arrays of one length, optional
        The states before the step at which to compare; drawn from a normal distribution if left out.
    seed : int
        Of what is drawn: sums, states, and the gradients that arrive.

    Returns
    -------
    dict
        The largest error of each gradient by what it is of, relative to 1 + the largest gradient.

    Raises
    ------
    ValueError
        If a gradient is off by more than 1e-7; the message names each that is.
    """
    if not isinstance(cell, Cell):
        raise TypeError(f"cell must be a numlstm.Cell, not {type(cell).__name__}: the others are tested")
    rng, count = np.random.default_rng(seed), 1000
    if states is not None:
        given = [np.asarray(state, np.float64) for state in states]
        if len(given) != len(cell.own_states) or len({state.shape for state in given}) > 1 or given[0].ndim != 1:
            raise ValueError(f"states must be {len(cell.own_states)} arrays of one length, {cell.own_states}")
        count = len(given[0])
    inputs = [*rng.standard_normal((len(cell.sums), count))]
    inputs += [*rng.standard_normal((len(cell.own_states), count))] if states is None else given
    dh, *dstates = rng.standard_normal((1 + len(cell.own_states), count))
    if cell.with_h:
        dstates[0] = dh

    def loss(values: list[Array]) -> Array:
        _, after, h = _forward(cell, values[: len(cell.sums)], values[len(cell.sums) :])
        own = list(zip(after, dstates, strict=True))[int(cell.with_h) :]
        total: Array = h * dh + sum(state * d for state, d in own)
        return total

    before = inputs[len(cell.sums) :]
    kept, after, _ = _forward(cell, inputs[: len(cell.sums)], before)
    got = sum(_backward(cell, kept, before, after, dh, dstates), ())
    errors, wrong = {}, []
    for k, name in enumerate([*(f"sum {each}" for each in cell.sums), *(f"state {each}" for each in cell.own_states)]):
        up, down = ([*inputs[:k], inputs[k] + sign * _STEP, *inputs[k + 1 :]] for sign in (1, -1))
        want = (loss(up) - loss(down)) / (2 * _STEP)
        off, size = np.abs(got[k] - want).max(), np.abs(want).max()
        errors[name] = float(off / (1 + size))
        if not errors[name] <= _TOLERANCE:
            wrong.append(f"of {name} by {off:.2g}, where it is {size:.2g} at most")
    if wrong:
        raise ValueError(f"backward is not the adjoint of forward: its gradient is off, {'; '.join(wrong)}")
    return errors
