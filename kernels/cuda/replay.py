"""A pass of many launches as a graph of the GPU: recorded once, then replayed by one call."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from .machine import record

KEPT = 8  # graphs of a pass, those used last


def identity(argument: Any) -> Any:
    """Return what a launch keeps of an argument: where an array lies and its shape, a number itself; of tuples all."""
    if isinstance(argument, tuple):
        return tuple(map(identity, argument))
    for interface in ("__cuda_array_interface__", "__array_interface__"):
        found = getattr(argument, interface, None)
        if found is not None:
            return found["data"][0], found["shape"], found["typestr"]
    return argument


class Replay:
    """Runs launches, for arguments that it has seen before by their graph.

    The first time they run one by one, which compiles their kernels; the second time they are recorded.
    """

    def __init__(self) -> None:
        self._graphs: OrderedDict[Any, Callable[[Any], None] | None] = OrderedDict()

    def __call__(self, launches: Callable[[Any], None], stream: Any, *arguments: Any) -> None:
        """Run ``launches(stream)``. arguments : all that it depends on"""
        key = tuple(map(identity, arguments))
        if key not in self._graphs:
            launches(stream)
            self._graphs[key] = None
        else:
            graph = self._graphs[key] or record(launches)
            self._graphs[key] = graph
            graph(stream)
        self._graphs.move_to_end(key)
        while len(self._graphs) > KEPT:
            self._graphs.popitem(last=False)
