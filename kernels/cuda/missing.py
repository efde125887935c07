"""What the CPU's engine has and this one has not yet: the one list, to which tests hold both, and which errors print."""

from collections.abc import Callable

from numlstm.kernels.cells import Cell, cell_type

# Entry points, and what users know them by.
OPERATIONS = {"recompute": "recompute="}
# What cells may have, as users ask for it, and how it is told from the class of their parameters.
CELLS: dict[str, Callable[[type[Cell]], bool]] = {}


def everything() -> str:
    """Return the list as a phrase."""
    return ", ".join(dict.fromkeys([*OPERATIONS.values(), *CELLS]))


def cell_on_gpu(name: str) -> type[Cell]:
    """Return the type of a cell's parameters (cells.cell_type); NotImplementedError if there are no kernels for the cell."""
    kind = cell_type(name)
    lacking = [words for words, has in CELLS.items() if has(kind)]
    if lacking:
        raise NotImplementedError(f"a GPU has no {' and no '.join(lacking)} yet; all that it lacks: {everything()}")
    return kind
