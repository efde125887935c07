"""Batches of arrays that need not fit into memory."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from numlstm import _validate
from numlstm._validate import Array

__all__ = ["Batches"]


class Batches:
    """Goes through samples in batches and reads only what each of them needs, as of `numpy.memmap` larger than memory.

    An iteration is an epoch, in an order of its own, and yields (x, y), or (x, y, sample_weight), or x alone, as copies.
    ``model.fit(batches)`` trains on them, in the orders of the epochs from 0 on.

    Parameters
    ----------
    x : (N, ..) array
    y, sample_weight : (N, ..) arrays, optional
    batch_size : int
        The last batch of an epoch may be smaller.
    shuffle : bool
        Whether each epoch has an order of its own, which follows from the seed and the number of the epoch.
    block : int, optional
        How many neighbouring samples stay near each other: blocks come in an order by chance, and the samples of each in an
        order by chance, one block after the other. A disk then reads a block at a time, where otherwise it looks for each
        sample, and memory holds as many integers, where otherwise it holds N. Samples in an order that means something need
        blocks of many batches.
    seed : int

    Raises
    ------
    TypeError, ValueError
        For other numbers of samples, or none.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        batch_size: int = 32,
        shuffle: bool = True,
        block: int | None = None,
        seed: int = 0,
    ) -> None:
        self.x = _validate.numbers("x", x)
        self.y = None if y is None else _validate.numbers("y", y)
        self.sample_weight = None if sample_weight is None else _validate.numbers("sample_weight", sample_weight)
        if self.x.ndim == 0 or len(self.x) == 0:
            raise ValueError(f"x holds no samples: its shape is {self.x.shape}")
        if y is None and sample_weight is not None:
            raise TypeError("sample_weight goes with y, which is missing")
        for name, array in (("y", self.y), ("sample_weight", self.sample_weight)):
            if array is not None and (array.ndim == 0 or len(array) != len(self.x)):
                raise ValueError(f"{name} must have as many samples as x, {len(self.x)}, but its shape is {array.shape}")
        self.batch_size, self.shuffle = _validate.whole("batch_size", batch_size), _validate.flag("shuffle", shuffle)
        self.block = None if block is None else _validate.whole("block", block)
        self.seed = _validate.whole("seed", seed, 0)
        self._epoch = 0

    def __len__(self) -> int:
        """Return how many batches an epoch has."""
        return -(-len(self.x) // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of the next epoch."""
        arrays = [array for array in (self.x, self.y, self.sample_weight) if array is not None]
        epoch, self._epoch = self._epoch, self._epoch + 1
        for rows in self.rows(epoch):
            parts = tuple(np.asarray(array[rows]) for array in arrays)
            yield parts if len(parts) > 1 else parts[0]

    def rows(self, epoch: int) -> Iterator[Array]:
        """Yield which samples are in each batch of an epoch."""
        ready = np.empty(0, np.int64)
        for rows in self._blocks(epoch):
            ready = np.concatenate([ready, rows])
            whole = len(ready) - len(ready) % self.batch_size
            yield from ready[:whole].reshape(-1, self.batch_size)
            ready = ready[whole:]
        if len(ready):
            yield ready

    def _blocks(self, epoch: int) -> Iterator[Array]:
        count = len(self.x)
        if not self.shuffle:
            for first in range(0, count, self.batch_size):
                yield np.arange(first, min(first + self.batch_size, count))
            return
        rng, size = np.random.default_rng([self.seed, epoch]), self.block or count
        for block in rng.permutation(-(-count // size)):
            yield block * size + rng.permutation(min(size, count - block * size))
