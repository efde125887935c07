"""The recurrent layers' passes over a batch."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba.core.errors import NumbaError

from numlstm import _threads
from numlstm._validate import Array
from numlstm._workspace import Take
from numlstm.kernels import cells, gradients, layout, norm, parallel, sweeps, target
from numlstm.kernels.team import new_team
from numlstm.kernels.tile import ROWS, panel_product_address

from . import own
from .runtime import compiled_for, parts, runtime
from .weights import Kind, Parameters, Weights

_WORTH_A_STEP = 8_000  # multiply-adds of one step for each thread of a team, which meets once a step
_FEW_ROWS = 32  # for each thread
_CACHED_BYTES = 1 << 20  # of weights that a second-level cache holds beside all else
_NO_TEAM = new_team(1)
_ONE = np.zeros(1, np.int64)  # order of a matrix in one block
_FULL = np.empty((3, 0), np.int64)  # of batches whose rows all have the same length: see kernels.ragged


def _split(sizes: tuple[int, int, int, int], products: tuple[int, int], dtype: np.dtype[Any]) -> tuple[int, bool]:
    """Return into how many parts a sweep falls, and whether each takes hidden units of all rows instead of some rows.

    Rows need no barrier, but each thread reads all recurrent weights at every step: where these do not stay in its cache and
    few rows make use of them, or there are not enough rows, units are split.
    """
    batch, steps, inputs, hidden = sizes
    work = batch * steps * hidden * (products[0] * inputs + products[1] * hidden)
    recurrent = products[1] * hidden * hidden
    threads = parts(hidden // target.lanes(dtype), work)
    scarce = batch < threads or (batch < _FEW_ROWS * threads and recurrent * dtype.itemsize > _CACHED_BYTES)
    if scarce and batch * recurrent >= _WORTH_A_STEP * threads:
        return threads, threads > 1
    return parts(batch, work), False


States = Sequence[Array | None]  # h and the cell's own, (N, H) each


def _window_steps(steps: int) -> int:
    """Return how many steps are computed again at once: about the square root of all."""
    group: int = gradients.GROUP
    return min(steps, -(-math.isqrt(steps) // group) * group)


class Recurrent:
    """The passes of one layer over batches of one shape, N, T, I, H.

    With `keep`, a forward pass leaves behind what the next backward pass needs. With `recompute` that is only the states
    every sqrt(T) steps; the backward pass computes what lies between once more, a window of steps after the other, in
    order from the last: "gates" from the outputs, which it asks for, "states" from those states alone.

    ragged : whether sequences may differ in length
    outputs : size of h and y, if it is not H: less
    options : whether cells come with options (kernels.options), in which the mask may change from pass to pass
    summing : into how many parts the sums of gradients fall
    nbytes : of all the memory taken
    """

    def __init__(
        self,
        kind: Kind,
        sizes: tuple[int, int, int, int],
        dtype: np.dtype[Any],
        keep: bool,
        take: Take,
        recompute: str | None = None,
        compute_dtype: str | None = None,
        ragged: bool = False,
        options: bool = False,
        outputs: int | None = None,
    ) -> None:
        batch, steps, _, hidden = self._sizes = sizes
        outputs = self._outputs = hidden if outputs is None else outputs
        self._kind, (slots, states) = kind, (kind.cell.slots, kind.cell.states)
        self._recompute, self._options = recompute if keep else None, options
        slots_of_c = states + options
        self._steps = _window_steps(steps) if self._recompute else steps
        self._dtype, self._keep, self._take, self.nbytes, self.ragged = dtype, keep, take, 0, ragged
        self._cell: cells.Cell | None = None
        self._sweep: Any = None  # both compiled for what these passes hand over, always of the same types
        self._sweep_back: Any = None
        self._product = panel_product_address(np.uint32 if compute_dtype == "bfloat16" else dtype)  # with recurrent weights
        self._deal(_threads.get_num_threads())
        units = layout.padded(hidden, dtype)
        rows = -(-batch // (1 if self._members > 1 else self._parts))
        block = sweeps.block_steps.py_func(rows, slots * units, ROWS if ragged else 1)
        at_once = self._steps if keep else min(steps, block)
        self._c = self._memory((batch, self._steps + 1 if keep else 1, slots_of_c, units), dtype)
        self._z = self._memory((batch, at_once, slots, units), dtype)
        self._zeros = self._memory((max(1, batch), hidden), dtype)  # a pass fills it anew: others may use the memory between
        self._none, self._no_dy = self._zeros[:0], self._zeros[:1, np.newaxis, :outputs]
        zeros_of_h = self._zeros.reshape(-1)[: max(1, batch) * outputs].reshape(-1, outputs)
        self._no_states = (zeros_of_h, *(self._zeros,) * states), (self._none,) * (1 + states)
        width = outputs + (kind.seen - 1) * hidden
        team = self._members > 1 and batch > 1  # whose members each read h of all rows: side by side, it is read faster
        self._h = self._memory((2 * batch if team or ragged or options or kind.seen > 1 else 0, width), dtype)
        self._norm = self._norm_work(units, at_once) if kind.normalised else None
        self._cut(steps)
        if self._recompute:
            self._states = [self._some_states() for _ in self._windows]
        if self._recompute == "states":
            self._y = self._memory((batch, self._steps, outputs), dtype)
        self._u: Array | None = None
        if kind.cell.second_product:
            self._u = self._memory((batch, self._steps if keep else 1, hidden), dtype)
        if keep:  # gradients of the states: within a sweep, and between two windows
            self._work = self._memory((batch, units), dtype), self._memory((batch, slots_of_c, units), dtype)
            self._carried = self._some_states()

    def _cut(self, steps: int, lengths: Array | None = None) -> None:
        """Choose the windows for batches of which the longest row has so many steps."""
        batch, size = self._sizes[0], max(1, self._steps)
        self._longest, self._lengths = steps, lengths
        self._windows, self._windows_alone, self._ragged = [], [], []
        for start in range(0, max(1, steps), size):
            stop = min(steps, start + size)
            ragged, pairs = _FULL, batch * (stop - start)
            if lengths is not None:
                order = np.argsort(-lengths, kind="stable")
                ends = lengths[order].clip(start, stop)
                through = np.cumsum(ends - start)
                ragged, pairs = np.array((order, ends, through - (ends - start))), int(through[-1])
            self._windows.append(np.array((start, stop, 0, steps, pairs, 0)))  # with y of all steps
            self._windows_alone.append(np.array((start, stop, start, steps, pairs, 0)))  # with y of the window
            self._ragged.append(ragged)

    def _memory(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        array = self._take(shape, dtype)
        self.nbytes += array.nbytes
        return array

    def _norm_work(self, units: int, steps: int) -> norm.Work:
        """Return memory for the normalisation of the products."""
        batch, _, _, hidden = self._sizes
        cell, kept = self._kind.cell, batch if self._keep else 0
        if self._keep:  # sums of the gradients of products, which nobody wants
            self._db = self._memory(((1 + int(self._kind.rows[2].max())) * hidden,), self._dtype)
        shapes = (batch, 4, units), (kept, steps, 2 + (cell.second_slot > 0)), (kept, cell.slots, units)
        return norm.Work(*(self._memory(shape, self._dtype) for shape in shapes))

    def _some_states(self) -> tuple[Array, ...]:
        """Return memory for h and the cell's states."""
        batch, _, _, hidden = self._sizes
        sizes = self._outputs, *[hidden] * self._kind.cell.states
        return tuple(self._memory((batch, size), self._dtype) for size in sizes)

    def _deal(self, threads: int) -> None:
        """Choose into how many parts each work falls, for so many threads."""
        (batch, _, inputs, hidden), steps = self._sizes, self._steps
        kind, width = self._kind, target.lanes(self._dtype)
        rows = inputs + self._outputs + (kind.seen - 1) * hidden + 1
        panels = kind.gradient_panels(hidden, self._dtype)
        weights = hidden * (kind.products[0] * inputs + kind.products[1] * hidden)
        self._threads = threads
        self._parts, by_units = _split((batch, steps, inputs, hidden), kind.products, self._dtype)
        self._members = self._parts if by_units else 1
        self._packing = parts(-(-max(inputs, hidden) // (4 * width)), 4 * weights)
        self._panels = parts(-(-hidden // (width * kind.spread)), batch * steps * weights)
        self.summing = parts(panels * gradients.most_chunks.py_func(rows), batch * steps * weights)

    def _now(self) -> tuple[Array, Array]:
        """Return the runtime of a sweep and the team, for the threads that there are now."""
        threads = _threads.get_num_threads()
        if threads != self._threads:
            self._deal(threads)
        return runtime(self._dtype, self._parts, self._packing), _NO_TEAM if self._members == 1 else new_team(self._members)

    def _measure(self, lengths: Array | None) -> None:
        """Prepare for rows of these lengths."""
        steps = self._sizes[1]
        if lengths is not None and lengths.min(initial=steps) < steps:
            self._cut(int(lengths.max()), lengths)
        elif self._lengths is not None:
            self._cut(steps)

    def forward(
        self,
        cell: cells.Cell,
        x: Array,
        first: States | None,
        y: Array | None,
        last: tuple[Array, ...],
        lengths: Array | None = None,
    ) -> None:
        """Write y (N, T, H) and the states after the last step to `last`.

        cell : with options if these passes are for such, and left alone until the backward pass
        first : the states before the first step, None for zeros
        y : may be None if it is not wanted, with recompute="states"
        lengths : (N,) int64 in 0..T, None if all are T; past its length a row of x is not read, nor one of y written
        """
        self._measure(lengths)
        if self._norm is not None:
            cell = cell._replace(norm=self._norm)
        self._cell = cell if self._keep else None
        self._zeros.fill(0)
        before = self._no_states[0] if first is None else self._inside(first, self._no_states[0])
        after = (*last, self._none) if self._kind.cell.h_is_state else last
        if self._recompute is None:
            self._forward(0, cell, x, before, y, after, self._keep)
            return
        for kept, state in zip(self._states[0], before, strict=True):
            kept[...] = state
        states = self._states[: len(self._windows)]
        for k, (start, stop) in enumerate(zip(states, [*states[1:], after], strict=True)):
            self._forward(k, cell, x, start, y, stop, True)

    def _forward(
        self,
        k: int,
        cell: cells.Cell,
        x: Array,
        first: tuple[Array, ...],
        y: Array | None,
        last: tuple[Array, ...],
        keep: bool,
    ) -> None:
        """Run through window `k`, with y of it alone for None."""
        window, y = (self._windows_alone[k], self._y) if y is None else (self._windows[k], y)
        ragged, now = self._ragged[k], self._now()
        apart = ragged.size or self._kind.seen > 1 or (cell.options is not None and cell.options.mask.size)
        team = self._members > 1 and len(x) > 1 and len(self._h)
        h = self._h if apart or team else self._none
        work = self._c, self._z, self._u, keep
        arguments = *now, self._product, window, ragged, cell, x, first, h, y, last, *work
        if self._sweep is None:
            self._sweep = self._compiled(parallel.forward, cell, arguments)
        self._sweep(*arguments)

    def _compiled(self, kernel: Any, cell: cells.Cell, arguments: tuple[Any, ...]) -> Any:
        """Return an entry point for these arguments; TypeError in a word if a user's own cell does not compile."""
        try:
            return compiled_for(kernel, (type(cell), self._dtype, cell.h.dtype, cell.options is None), *arguments)
        except NumbaError as error:
            complaint = own.complaint(self._kind.cell.__name__, error)
            if complaint is not None:
                raise TypeError(complaint) from error
            raise

    def kept(self) -> dict[str, Array]:
        """Return what the last forward pass with `keep` left of all steps: gates, then states by name, (N, T, H) each.

        Views; of a ragged batch copies, in which anything lies past the lengths.
        """
        kind, hidden = self._kind.cell, self._sizes[3]
        gates = sorted(filter(None, kind.kept), key="ifgorzna".find)
        found = {name: self._z[:, :, kind.kept.index(name), :hidden] for name in gates}
        found |= {name: self._c[:, 1:, k, :hidden] for k, name in enumerate(kind.state_names) if name != "h"}
        order = self._ragged[0][0]
        return {name: array[np.argsort(order)] for name, array in found.items()} if order.size else found

    def _inside(self, states: States, instead: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return h and the cell's states for the kernels, something instead of None; h twice where it is such a state."""
        inside = tuple([other if state is None else state for state, other in zip(states, instead, strict=False)])
        return (*inside, inside[0]) if self._kind.cell.h_is_state else inside

    def backward(
        self,
        packed: Weights,
        weights: Sequence[Array],
        inputs: tuple[Array, Array | None, Array | None],
        upstream: tuple[Array | None, States | None],
        dx: Array,
        first: tuple[Array, ...] | None,
        sums: Parameters,
        add: bool,
    ) -> None:
        """Write the gradients of the last forward pass, once.

        packed : loaded, and prepared for so many parts as `summing`
        weights : W_ih and W_hh first; inputs : x, the first h and y, all as in the forward pass; "states" needs no y
        upstream : gradients of y and of the last states, None for zero
        dx : (N, T, I), not written past a row's length, or (N, T, 0) to leave it out
        first : gradients of the first states, None to leave them out
        sums : gradients of all weights, with `add` accumulated into
        """
        assert packed.copies is not None and self._cell is not None
        kind, cell, copies, zeros, none = self._kind, self._cell, packed.copies, self._zeros, self._none
        self._cell = None  # a pool may keep these passes: not the weights with them
        (x, h0, y), (dy, last), carried = inputs, upstream, self._carried
        dy = self._no_dy if dy is None else dy
        weighed: tuple[Any, ...] = weights[:2], kind.orders, packed.columns, None
        of_sums, second_sum = sums, None
        if cell.second is not None:
            W_ih, W_hh, _, _, W_second = kind.parted(weights)
            *of_sums, second_sum = kind.parted(sums)
            weighed = (W_ih, W_hh, W_second), (*kind.orders, _ONE), packed.columns, packed.second_columns
        sums_runtime = runtime(self._dtype, min(self.summing, copies.shape[0]))
        after = before = self._no_states[1]
        if last is not None:
            after = self._inside(last, self._no_states[1])
            after = (*after[:-1], none) if kind.cell.h_is_state else after
        if first is not None:  # where h is a state, a part of dh does not pass the product
            before = (*first, carried[-1]) if kind.cell.h_is_state else first
        db = sums[2]
        if self._norm is not None:
            self._norm.sums.fill(0)
            db = self._db
        for k in reversed(range(len(self._windows))):
            window = self._windows[k]
            h = zeros if h0 is None else h0
            if self._recompute == "gates" and (self._options or kind.more_than_outputs):
                h = self._states[k][0]
                self._forward(k, cell, x, self._states[k], y, self._no_states[1], True)
            elif self._recompute == "gates":
                h = self._states[k][0]
                work = self._h if self._ragged[k].size else self._none, y, self._c, self._z
                panels_runtime = runtime(self._dtype, self._panels)
                parallel.recompute(panels_runtime, window, self._ragged[k], cell, x, self._states[k], *work)
            elif self._recompute == "states":
                h, window, y = self._states[k][0], self._windows_alone[k], self._y
                self._forward(k, cell, x, self._states[k], None, self._no_states[1], True)
            late, early = after if k == len(self._windows) - 1 else carried, before if k == 0 else carried
            steps, memory = (window, self._ragged[k]), (self._work, self._c, self._z)
            arguments = *self._now(), *steps, cell, *weighed, dy, late, early, *memory, dx
            if self._sweep_back is None:
                self._sweep_back = self._compiled(parallel.backward, cell, arguments)
            self._sweep_back(*arguments)
            if x.shape[0] and self._longest:
                mask = none if cell.options is None else cell.options.mask
                flat = kind.rows, self._z, x, y, h, self._c, mask, packed.panels, copies
                parallel.weight_gradients(sums_runtime, *steps, *flat, *of_sums[:2], db, add)
                if len(kind.cell.peepholes):
                    panels_runtime, sums_p = runtime(self._dtype, self._panels), (packed.peephole_sums, sums[3])
                    looks = kind.cell.peepholes, kind.cell.states if self._options else 0
                    parallel.peephole_gradients(panels_runtime, *steps, *looks, self._z, self._c, *sums_p, add)
                if second_sum is not None:
                    self._second_gradient(sums_runtime, packed, k, second_sum, add)
        if self._norm is not None and x.shape[0]:
            self._write_norm_gradients(sums[2], add)
        if first is not None and kind.cell.h_is_state:
            first[0][...] += carried[-1]
        if (x.shape[0] == 0 or self._longest == 0) and not add:
            for gradient in sums:
                gradient.fill(0)

    def _second_gradient(self, sums_runtime: Array, packed: Weights, k: int, dW: Array, add: bool) -> None:
        """Write the gradient of the weights of the second product, as that of a dense layer: u is in the order of z."""
        assert self._u is not None
        window, ragged = self._windows[k].copy(), self._ragged[k].copy()
        window[5] = window[0]
        ragged[0] = np.arange(ragged.shape[1])
        no_y, none = np.empty((len(self._u), 0, 0), self._dtype), np.empty((0, 0), self._dtype)
        flat = self._kind.second_rows, self._z, self._u, no_y, none, self._c, none, packed.second_panels, packed.copies
        parallel.weight_gradients(sums_runtime, window, ragged, *flat, dW, none, packed.second_bias, add)

    def _write_norm_gradients(self, db: Array, add: bool) -> None:
        """Write the gradients of biases and gains (B H,), or add to them: those of each row, one after the other."""
        assert self._norm is not None
        slots = np.flatnonzero(self._kind.rows[2] >= 0)
        total = self._norm.sums.sum(axis=0)[slots, : self._sizes[3]]
        blocks, order = db.reshape(-1, self._sizes[3]), self._kind.rows[2][slots]
        blocks[order] = blocks[order] + total if add else total
