"""What stands for an array while a graph is followed, and what changes of its axes make of it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._operators import Node


@dataclass(frozen=True)
class Value:
    """What stands for an array that depends on the input.

    kind : "data", what the layers so far return; "size", something of a shape; "zeros"; "lengths", of sequences, an
        input of the graph; "other"; "unknown", behind a problem
    axes : of data, by letters: N, T, D for directions and layers, F; those of the graph's input are numbers until known
    age : how many layers there were, and steps taken from sequences, when it arose
    ends : what a recurrent node returned: of which layers and directions, as (part, direction); None for what is behind it
    units : of that node; last : whether it is its last state; reversed : whether the steps stand in the opposite order
    """

    kind: str
    axes: tuple[str, ...] = ()
    age: int = -1
    ends: tuple[tuple[int, int], ...] | None = None
    units: int = 0
    last: bool = False
    reversed: bool = False

    def replaced(self, **changes: Any) -> "Value":
        """Return a value that differs in this."""
        return dataclasses.replace(self, **changes)

    def without(self, axis: int) -> tuple[str, ...]:
        """Return the other axes."""
        return self.axes[:axis] + self.axes[axis + 1 :]


def _transpose(node: Node, value: Value) -> Value | None:
    perm = node.get("perm", range(len(value.axes))[::-1])
    return value.replaced(axes=tuple(value.axes[axis] for axis in perm))


def _squeeze(node: Node, value: Value, *axes: Any) -> Value | None:
    """Leave out the axis of a single direction."""
    given = node.axes((None, *axes), len(value.axes)) or ()
    if [value.axes[axis] for axis in given] != ["D"] or len(value.ends or ()) != 1:
        return None
    return value.replaced(axes=value.without(given[0]))


def _reshape(node: Node, value: Value, shape: Any) -> Value | None:
    """Bring directions side by side."""
    if not isinstance(shape, np.ndarray) or value.axes[-2:] != ("D", "F") or len(shape) != len(value.axes) - 1:
        return None
    width = len(value.ends or ()) * value.units
    return value.replaced(axes=(*value.axes[:-2], "F")) if shape[-1] in (-1, width) else None


def _concat(node: Node, *values: Any) -> Value | None:
    """Bring last states of layers or directions together."""
    first = values[0]
    if not all(isinstance(value, Value) and value.ends is not None and value.axes == first.axes for value in values):
        return None
    letter = first.axes[node.get("axis")]
    if letter != "D" and (letter != "F" or "D" in first.axes):
        return None
    return values[-1].replaced(ends=tuple(end for value in values for end in value.ends))  # type: ignore[no-any-return]


def _slice(node: Node, value: Value, *bounds: Any) -> Value | None:
    """Turn the order of the steps round."""
    if len(bounds) != 4 or any(not isinstance(bound, np.ndarray) or bound.size != 1 for bound in bounds):
        return None
    start, end, axis, step = (int(bound.item()) for bound in bounds)
    if start != -1 or end > -(2**31) + 1 or step != -1 or value.axes[axis] != "T":
        return None
    return value.replaced(reversed=not value.reversed)


def _same(node: Node, value: Value, *more: Any) -> Value | None:
    return value


# Each returns None for what it cannot follow.
STEPS: Mapping[str, Callable[..., Value | None]] = {
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Concat": _concat,
    "Slice": _slice,
    **dict.fromkeys(("Identity", "Dropout", "Cast"), _same),
}


def of_shapes(node: Node, inputs: Sequence[Any]) -> Value:
    """Return what becomes of sizes and zeros: of interest are zeros alone, as first states."""
    if node.kind == "ConstantOfShape":
        return Value("other" if np.any(node.get("value", 0)) else "zeros")
    if node.kind == "Expand" and isinstance(inputs[0], np.ndarray):
        return Value("other" if inputs[0].any() else "zeros")
    zeros = isinstance(inputs[0], Value) and inputs[0].kind == "zeros"
    return Value("zeros" if zeros and node.kind not in ("Add", "Sub") else "size")
