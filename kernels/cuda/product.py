"""The matrix product that a block of threads computes together, for all kernels that have one.

Every sum is one chain in the order of k: of multiply-adds of numbers as they are, which gives the same bits for any tile,
or, on tensor cores, of sums of 8 (tf32) or 16 (bfloat16) products of rounded numbers.
"""

from typing import NamedTuple

import numpy as np

from .layer import reader
from .machine import constant, cuda, device, fma, load, store, store_all
from .tensor import FORMATS, Format, fragments


class Tile(NamedTuple):
    """How a block divides its part of a product.

    across, down : threads along columns and rows; each has `rows` rows, `down` apart, and some groups of columns, of which
        one has `across` columns; depth : how many k are held in shared memory at once
    precision : None for numbers as they are; of tensor.FORMATS, for tensor cores: then whole warps, `height` and `across`
        multiples of 16 and 8, and `depth` of the format's
    """

    across: int = 16
    down: int = 8
    rows: int = 4
    depth: int = 16
    precision: str | None = None

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
    if tile.precision:
        return _rounded(tile, FORMATS[tile.precision], groups, left, right, left_by_k, right_by_k)
    across, down, rows, depth = tile.across, tile.down, tile.rows, tile.depth
    threads, height, width = tile.threads, tile.height, groups * tile.across
    left_pitch, right_pitch = height + 1, width + 1  # one more than a power of two: no two threads of a warp on one bank
    left_size, right_size = depth * left_pitch, depth * right_pitch
    left_place, right_place = place_of(depth, height, left_by_k), place_of(depth, width, right_by_k)

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


def _rounded(tile, given: Format, groups, left, right, left_by_k, right_by_k):
    """Return what `product` does, on tensor cores.

    A warp's fragments are other elements than those whose sums its threads hold: they change hands in shared memory.
    """
    across, down, rows, depth = tile.across, tile.down, tile.rows, tile.depth
    threads, height, width = tile.threads, tile.height, groups * tile.across
    element, step, bits, mma = given.element, given.depth, given.bits, given.mma
    pitch, found_pitch = depth + given.pad, width + 1
    left_size, right_size, found_size = height * pitch, width * pitch, height * found_pitch
    left_place, right_place = place_of(depth, height, left_by_k), place_of(depth, width, right_by_k)
    left_fragment, right_fragment = fragments(given, pitch)
    read_four = reader(4)
    warps_down = min(threads // 32, height // 16)
    warps_across = threads // 32 // warps_down
    # A warp has `high` times `wide` fragments of the sums.
    high, wide = height // 16 // warps_down, width // 8 // warps_across
    parts_size = 4 * high * wide
    assert height * width == high * wide * 128 * threads // 32 and depth % step == 0

    @device
    def add(arguments, row, first, last, sums):
        if first >= last:
            return
        left_tile, right_tile = cuda.shared.array(left_size, element), cuda.shared.array(right_size, element)
        parts = cuda.local.array(parts_size, np.float32)
        thread = cuda.threadIdx.x
        zero, lane = constant(load(sums, 0), 0), thread % 32
        top, side = thread // 32 % warps_down * high * 16, thread // 32 // warps_down * wide * 8
        for i in range(parts_size):
            store(parts, i, zero)
        for start in range(first, last, depth):
            for i in range(thread, depth * height, threads):
                k, r = left_place(i)
                number = left(arguments, row + r, start + k) if start + k < last else zero
                store(left_tile, r * pitch + k, bits(number))
            for i in range(thread, depth * width, threads):
                k, c = right_place(i)
                number = right(arguments, start + k, c // across, c % across) if start + k < last else zero
                store(right_tile, c * pitch + k, bits(number))
            cuda.syncthreads()
            for k in range(0, depth, step):
                for m in range(high):
                    a = left_fragment(left_tile, top + 16 * m, k, lane)
                    for n in range(wide):
                        b, at = right_fragment(right_tile, side + 8 * n, k, lane), 4 * (m * wide + n)
                        store_all(parts, at, 1, mma(a, b, read_four(parts, at, 1)))
            cuda.syncthreads()
        share(parts, top, side, lane, sums)

    @device
    def share(parts, top, side, lane, sums):
        """Add the warps' fragments to the threads' sums. All reads of what was found before lie before a barrier."""
        found = cuda.shared.array(found_size, np.float32)
        x, y = cuda.threadIdx.x % across, cuda.threadIdx.x // across
        for m in range(high):
            for n in range(wide):
                for i in range(4):
                    r, c = top + 16 * m + lane // 4 + i // 2 * 8, side + 8 * n + lane % 4 * 2 + i % 2
                    store(found, r * found_pitch + c, load(parts, 4 * (m * wide + n) + i))
        cuda.syncthreads()
        for g in range(groups):
            for r in range(rows):
                place = r * groups + g
                number = load(found, (r * down + y) * found_pitch + g * across + x)
                store(sums, place, load(sums, place) + number)

    return add


def place_of(depth, length, by_k):
    """Return a device function from 0..depth*length-1 to (k, row or column): neighbours in memory one after the other."""
    if by_k:
        return device(lambda i: (i % depth, i // depth))
    return device(lambda i: (i // length, i % length))
