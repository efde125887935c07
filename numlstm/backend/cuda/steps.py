"""Parameters of layers as a step on a GPU reads them, copies in the memory of the host; and which code each needs."""

from typing import Any

import numpy as np

from numlstm._validate import Array
from numlstm.backend.weights import Parameters, kind_of, options_of

from .allocation import allocate
from .kernels import kernels


def of_gpu() -> "GpuSteps":
    """Return the maker for the GPU."""
    from numlstm.kernels.cuda import step

    return GpuSteps(step)


def upload(array: Array) -> Any:
    """Return a copy of an array on the GPU."""
    memory, *_ = kernels()
    copy = allocate(memory, array.shape, array.dtype, 0, "a smaller number of sequences")
    if array.size:
        copy.copy_to_device(array)
    return copy


class GpuSteps:
    """Makes pairs of a code and parameters of layers, for kernels.cuda.step.

    steps : that module, or in tests the same over another machine
    """

    def __init__(self, steps: Any) -> None:
        self._steps = steps

    def recurrent_step(self, name: str, weights: Parameters, clip: float | None, zoneout: tuple[float, float]) -> Any:
        """As steps.recurrent_step."""
        made = kind_of(name)
        kind, (W_ih, W_hh, b, p, second) = made.cell, made.parted(weights)
        outputs = W_hh.shape[1] // (1 + kind.seen)
        hidden = outputs if second is None else second.shape[1]
        biases = np.concatenate([b.reshape(-1, hidden), np.zeros((1, hidden), b.dtype)])[kind.rows[2]]  # -1 finds zeros
        of_x, of_h = (
            _by_units(W, hidden, rows, slots)
            for W, rows, slots in ((W_ih, kind.rows[0], kind.x_slots), (W_hh, kind.rows[1], kind.h_slots))
        )
        cell = self._steps.Weights(of_x, of_h, biases, p.copy(), second=() if second is None else second.copy())
        cell = options_of(cell, clip, zoneout, None, np.empty((0, outputs), b.dtype))
        return self._steps.Recurrent(name, bool(cell.options)), cell

    def work_sizes(self, params: Any) -> tuple[int, ...]:
        """As steps.work_sizes."""
        _, cell = params
        return (cell.second.shape[1], cell.b.size) if len(cell.second) else ()

    def dense_step(self, W: Array, b: Array | None, activation: str) -> Any:
        """As steps.dense_step."""
        b = np.zeros(len(W), W.dtype) if b is None else b.copy()
        return self._steps.Activated(activation), self._steps.Dense(W.copy(), b)

    def embedding_step(self, table: Array, first: int) -> Any:
        """As steps.embedding_step."""
        return self._steps.Gathered(first), self._steps.Embedding(table.copy())

    def chain_step(self, layers: Any) -> tuple[Any, Any]:
        """Return (step, params) of a model from (code, parameters) of its layers."""
        codes, params = zip(*layers, strict=True)
        return self._steps.step(codes), self._steps.Chain(params)


def _by_units(W: Array, hidden: int, rows: Array, slots: tuple[int, int]) -> Array:
    """Return blocks of H rows as (H, columns, slots)."""
    first, count = slots
    blocks = W.reshape(-1, hidden, W.shape[1])[rows[first : first + count]]
    return np.ascontiguousarray(blocks.transpose(1, 2, 0))
