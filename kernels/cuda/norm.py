"""Layer normalisation of the products of a step, before the cell (kernels/norm.py): a block for each sequence.

A row's sum is made of those of the threads, each over units as far apart as a block has threads: in one order always.
"""

import functools
from typing import NamedTuple

from numlstm.kernels.cells import Cell, own_slots
from numlstm.kernels.norm import EPSILON

from .elementwise import THREADS, place
from .layer import bias_reader, digit, packed
from .machine import cuda, device, fma, kernel, load, sqrt, store
from .units import forward_unit


class _Product(NamedTuple):
    """A product that is normalised: its number among those of a step, and where in a unit's slots it is.

    first, count : its slots; own : the first of the cell's own that it is added to
    gain, gains : the row of b of its gains that comes first, and `packed` how far behind it that of each slot is
    """

    number: int
    first: int
    count: int
    own: int
    gain: int
    gains: int


def _product(kind: type[Cell], number: int, slots: tuple[int, int], own: int) -> _Product:
    first, count = slots
    rows = kind.rows[2, first : first + count]
    return _Product(number, first, count, own, int(rows.min()), packed(rows - rows.min()))


def products_of(kind: type[Cell]) -> list[_Product]:
    """Return the products with x and with h, and a second one, that are normalised."""
    if kind.base is None:
        return []
    second = [((kind.second_slot, 1), 0)] if kind.second_slot else []
    places = (kind.x_slots, kind.base.x_slots[0]), (kind.h_slots, kind.base.h_slots[0]), *second
    return [_product(kind, number, *place) for number, place in enumerate(places)]


def _block_sum(dtype, threads: int):
    """Return a device function (value) for the sum of all threads' values; `threads` is a power of two."""

    @device
    def block_sum(value):
        held, thread = cuda.shared.array(threads, dtype), cuda.threadIdx.x
        cuda.syncthreads()  # all have read the sum before
        store(held, thread, value)
        cuda.syncthreads()
        width = threads // 2
        while width > 0:
            if thread < width:
                store(held, thread, load(held, thread) + load(held, thread + width))
            cuda.syncthreads()
            width //= 2
        return load(held, 0)

    return block_sum


def _normaliser(product: _Product, dtype, threads: int, products: int):
    """Return a device function (cell, layer, n, t) that overwrites a product of a step with what it is normalised.

    The sums that it belongs to are added to, with its gains; 1 / standard deviation goes to `scale`.
    """
    number, first, count, own, gain, gains = product
    block_sum, epsilon = _block_sum(dtype, threads), EPSILON

    @device
    def normalise(cell, layer, n, t):
        _, steps, slots, units = layer.z.shape
        at, size = (n * steps + t) * slots * units, dtype(units * count)
        start, end = first * units + cuda.threadIdx.x, (first + count) * units
        total = dtype(0)
        for k in range(start, end, threads):
            total += load(layer.z, at + k)
        mean, squares = block_sum(total) / size, dtype(0)
        for k in range(start, end, threads):
            off = load(layer.z, at + k) - mean
            squares = fma(off, off, squares)
        scale = dtype(1) / sqrt(block_sum(squares) / size + dtype(epsilon))
        if cuda.threadIdx.x == 0:
            store(layer.scale, (n * steps + t) * products + number, scale)
        for unit in range(cuda.threadIdx.x, units, threads):
            for g in range(count):
                place, to = at + (first + g) * units + unit, at + (own + g) * units + unit
                value = (load(layer.z, place) - mean) * scale
                store(layer.z, place, value)
                factor = load(cell.b, (gain + digit(gains, g)) * units + unit)
                store(layer.z, to, fma(factor, value, load(layer.z, to)))

    return normalise


def normalise_step(kind: type[Cell], dtype, threads: int, options: bool = False):
    """Return the kernel (cell, layer, t) that normalises both products of step t and applies the cell. Blocks: sequences."""
    products = products_of(kind)
    normalise_x, normalise_h = (_normaliser(each, dtype, threads, len(products)) for each in products[:2])
    own, bias = own_slots(kind), bias_reader(kind.rows[2, : own_slots(kind)], dtype)
    apply = forward_unit(kind, dtype, options, bool(kind.second_product))

    @kernel(threads)
    def normalise_step(cell, layer, t):
        n, units = cuda.blockIdx.x, layer.z.shape[3]
        at = (n * layer.z.shape[1] + t) * layer.z.shape[2] * units
        if t < load(layer.lengths, n):
            for unit in range(cuda.threadIdx.x, units, threads):
                for slot in range(own):
                    store(layer.z, at + slot * units + unit, bias(cell, slot, unit))
            normalise_x(cell, layer, n, t)
            normalise_h(cell, layer, n, t)
        for unit in range(cuda.threadIdx.x, units, threads):
            apply(cell, layer, n, t, unit)

    return normalise_step


def normalise_second_step(kind: type[Cell], dtype, threads: int, options: bool = False):
    """Return the kernel (cell, layer, t) that normalises the second product of step t and applies the cell."""
    products = products_of(kind)
    normalise = _normaliser(products[2], dtype, threads, len(products))
    apply = forward_unit(kind, dtype, options)

    @kernel(threads)
    def normalise_second_step(cell, layer, t):
        n = cuda.blockIdx.x
        if t < load(layer.lengths, n):
            normalise(cell, layer, n, t)
        for unit in range(cuda.threadIdx.x, layer.z.shape[3], threads):
            apply(cell, layer, n, t, unit)

    return normalise_second_step


def _differentiator(product: _Product, dtype, threads: int, products: int):
    """Return a device function (cell, layer, sums, n, t, last) that overwrites a product, normalised, with its gradient.

    Gradients of gains are added to sums (N, slots, H), or written there if it is the `last` step, the first on the way back.
    """
    number, first, count, own, gain, gains = product
    block_sum = _block_sum(dtype, threads)

    @device
    def differentiate(cell, layer, sums, n, t, last):
        _, steps, slots, units = layer.z.shape
        at, size = (n * steps + t) * slots * units, dtype(units * count)
        total, along = dtype(0), dtype(0)
        for unit in range(cuda.threadIdx.x, units, threads):
            for g in range(count):
                dz, slot = load(layer.z, at + (own + g) * units + unit), first + g
                value, to = load(layer.z, at + slot * units + unit), (n * slots + slot) * units + unit
                store(sums, to, dz * value if last else fma(dz, value, load(sums, to)))
                gradient = dz * load(cell.b, (gain + digit(gains, g)) * units + unit)
                total, along = total + gradient, fma(gradient, value, along)
        total, along = block_sum(total) / size, block_sum(along) / size
        scale = load(layer.scale, (n * steps + t) * products + number)
        for unit in range(cuda.threadIdx.x, units, threads):
            for g in range(count):
                place = at + (first + g) * units + unit
                gradient = load(layer.z, at + (own + g) * units + unit)
                gradient *= load(cell.b, (gain + digit(gains, g)) * units + unit)
                store(layer.z, place, (gradient - total - load(layer.z, place) * along) * scale)

    return differentiate


def differentiate_step(kind: type[Cell], dtype, threads: int):
    """Return the kernel (cell, layer, gradients, t) that brings those of the cell's sums to both products of step t.

    Blocks: sequences.
    """
    products = products_of(kind)
    differentiate_x, differentiate_h = (_differentiator(each, dtype, threads, len(products)) for each in products[:2])
    own = own_slots(kind)

    @kernel(threads)
    def differentiate_step(cell, layer, gradients, t):
        sums, n, units = gradients.norm, cuda.blockIdx.x, layer.z.shape[3]
        slots, length = layer.z.shape[2], load(layer.lengths, n)
        last = t == length - 1
        if t >= length:
            return
        for unit in range(cuda.threadIdx.x, units, threads):
            for slot in range(own):
                dz = load(layer.z, ((n * layer.z.shape[1] + t) * slots + slot) * units + unit)
                to = (n * slots + slot) * units + unit
                store(sums, to, dz if last else load(sums, to) + dz)
        differentiate_x(cell, layer, sums, n, t, last)
        differentiate_h(cell, layer, sums, n, t, last)

    return differentiate_step


def differentiate_second_step(kind: type[Cell], dtype, threads: int):
    """Return the kernel (cell, layer, gradients, t) that brings the gradient of the first slot to the second product."""
    products = products_of(kind)
    differentiate = _differentiator(products[2], dtype, threads, len(products))

    @kernel(threads)
    def differentiate_second_step(cell, layer, gradients, t):
        n = cuda.blockIdx.x
        length = load(layer.lengths, n)
        if t < length:
            differentiate(cell, layer, gradients.norm, n, t, t == length - 1)

    return differentiate_second_step


def norm_sums(kind: type[Cell], dtype):
    """Return the kernel (lengths, sums, b, add) that adds up what biases and gains have as gradients from each sequence.

    sums : (N, slots, H)  Gradients.norm; b : (B, H), written or, with `add`, added to
    Blocks: THREADS elements of a sequence.
    """
    biases = packed(kind.rows[2, : own_slots(kind)])
    row = functools.reduce(
        _row, products_of(kind), device(lambda slot: digit(biases, slot) if digit(biases, slot) < 15 else -1)
    )

    @kernel(THREADS)
    def norm_sums(lengths, sums, b, add):
        batch, slots, units = sums.shape
        at = place()
        if at >= slots * units:
            return
        total, to = dtype(0), row(at // units)
        for n in range(batch):
            if load(lengths, n) > 0:
                total += load(sums, n * slots * units + at)
        if to >= 0:
            to = to * units + at % units
            store(b, to, load(b, to) + total if add else total)

    return norm_sums


def _row(before, product: _Product):
    """Return a device function (slot) for its row of b, from the one for the slots before a product."""
    first, gain, gains = product.first, product.gain, product.gains
    return device(lambda slot: before(slot) if slot < first else gain + digit(gains, slot - first))
