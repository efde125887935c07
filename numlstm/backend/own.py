"""The user's own cells for the kernels."""

import functools
import re

from numba.core.errors import NumbaError
from numba.extending import overload

from numlstm import lanes
from numlstm.cells import NORMED, OWN, PROJECTED
from numlstm.kernels import cells, own


@functools.cache
def _overload_lanes() -> None:
    for name, choose in own.LANES.items():
        overload(getattr(lanes, name))(choose)
        own.NAMES[getattr(lanes, name)] = name


def _plain(name: str) -> str:
    return name.removeprefix(NORMED).removeprefix(PROJECTED)


def define(name: str) -> None:
    """Tell the kernels of a user's cell by its name, if it is one."""
    if _plain(name) not in OWN:
        return
    for prefix, make in ((NORMED, cells.normalised), (PROJECTED, cells.projected)):
        base = name.removeprefix(prefix)
        if base != name:
            define(base)
            cells.define_own(name, make(cells.cell_type(base)))
            return
    _overload_lanes()
    cell = OWN[name]
    counts = own.Counts(len(cell.gates), cell.apart, len(cell.own_states), cell.kept, cell.with_h)
    gates = (*cell.gates[: cell.kept], *[""] * len(cell.sums))[: len(cell.sums)]
    inside = (*cell.own_states[1:], "h") if cell.with_h else cell.own_states
    cells.define_own(name, own.content(counts, (gates, inside), cell.functions))


_PLACE = re.compile(r" at (.+) \((\d+)\)")
_TELLING = re.compile(r">>>|Unknown attribute|Cannot |cannot |not supported|Unsupported|Invalid|undefined")
_WORDS = ((r"\x1b\[[0-9;]*m", ""), (r"Vec\(\w+, \d+\)", "lanes"), (r"Literal\[int\]\((-?\d+)\)", r"\1"))


def complaint(name: str, error: NumbaError) -> str | None:
    """Return in a line what Numba found wrong with a user's cell, None if it is none."""
    name = _plain(name)
    if name not in OWN:
        return None
    text = str(error)
    for pattern, word in _WORDS:
        text = re.sub(pattern, word, text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in lines if _TELLING.search(line)] or lines[:1]  # the last is what all others follow from
    files = {function.__code__.co_filename for function in OWN[name].functions}
    places = [place for place in _PLACE.findall(text) if place[0] in files][:1]
    where = "".join(f" ({file}, line {line})" for file, line in places)
    return f"Numba cannot compile {OWN[name]!r}{where}: {said[-1].replace('>>> ', 'there is no ')}"
