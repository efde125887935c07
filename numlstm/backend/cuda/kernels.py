"""The kernels' modules, imported when a GPU is asked for."""

from typing import Any


def kernels() -> tuple[Any, Any, Any]:
    """Return `memory`, `operations` and `recurrent` of `numlstm.kernels.cuda`."""
    from numlstm.kernels.cuda import memory, operations, recurrent

    return memory, operations, recurrent
