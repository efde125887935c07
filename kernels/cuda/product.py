"""The matrix product that a block of threads computes together, for all kernels that have one.

Every sum is one chain of multiply-adds in the order of k: the same bits for any tile.
"""

from typing import NamedTuple

from .machine import constant, cuda, device, fma, load, store


class Tile(NamedTuple):
    """How a block divides its part of a product.

    across, down : threads along columns and rows; each has `rows` rows, `down` apart, and some groups of columns, of which
        one has `across` columns; depth : how many k are held in shared memory at once
    """

    across: int = 16
    down: int = 8
    rows: int = 4
    depth: int = 16

    @property
    def threads(self) -> int:
        return self.across * self.down

    @property
    def height(self) -> int:
        """Rows of a block."""
        return self.rows * self.down


def product(tile, dtype, groups, left, right, left_by_k, right_by_k):
    """Return a device function that adds a product to the block's sums; all its threads call it.

    It takes (arguments, row, first, last, sums) : the block's first row; from which k on and before which to sum;
    and `rows` times `groups` sums of the thread's own, a row after the other.

    left(arguments, row, k), right(arguments, k, group, column) : device functions for an element of the operands, 0 outside
        of them; column : of the block, in 0..across-1
    left_by_k, right_by_k : whether elements of neighbouring k are neighbours in memory, rather than those of rows or columns
    """
    across, down, rows, depth = tile.across, tile.down, tile.rows, tile.depth
    threads, height, width = tile.threads, tile.height, groups * tile.across
    left_pitch, right_pitch = height + 1, width + 1  # one more than a power of two: no two threads of a warp on one bank
    left_size, right_size = depth * left_pitch, depth * right_pitch
    left_place, right_place = _place(depth, height, left_by_k), _place(depth, width, right_by_k)

    @device
    def add(arguments, row, first, last, sums):
        left_tile = cuda.shared.array(left_size, dtype)
        right_tile = cuda.shared.array(right_size, dtype)
        thread = cuda.threadIdx.x
        x, y = thread % across, thread // across
        zero = constant(load(sums, 0), 0)
        for start in range(first, last, depth):
            for i in range(thread, depth * height, threads):
                k, r = left_place(i)
                element = left(arguments, row + r, start + k) if start + k < last else zero
                store(left_tile, k * left_pitch + r, element)
            for i in range(thread, depth * width, threads):
                k, c = right_place(i)
                element = right(arguments, start + k, c // across, c % across) if start + k < last else zero
                store(right_tile, k * right_pitch + c, element)
            cuda.syncthreads()
            for k in range(depth):
                for g in range(groups):
                    b = load(right_tile, k * right_pitch + g * across + x)
                    for r in range(rows):
                        a = load(left_tile, k * left_pitch + r * down + y)
                        store(sums, r * groups + g, fma(a, b, load(sums, r * groups + g)))
            cuda.syncthreads()

    return add


def _place(depth, length, by_k):
    """Return a device function from 0..depth*length-1 to (k, row or column): neighbours in memory one after the other."""
    if by_k:
        return device(lambda i: (i % depth, i // depth))
    return device(lambda i: (i // length, i % length))
