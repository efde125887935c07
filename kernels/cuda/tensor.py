"""Products on tensor cores: numbers rounded to fewer bits, multiplied exactly and added in float32.

A warp's 32 threads multiply fragments together: a of 16 rows and 8 words along k, b of 8 words along k and 8 columns, c of
16 rows and 8 columns. A word holds one number in tf32, two neighbours along k in bfloat16. Of them a thread has, with
``g, q = lane // 4, lane % 4``,

    a = (g, q), (g + 8, q), (g, q + 4), (g + 8, q + 4)             row, word
    b = (q, g), (q + 4, g)                                         word, column
    c = (g, 2 q), (g, 2 q + 1), (g + 8, 2 q), (g + 8, 2 q + 1)     row, column

In memory k is the innermost axis of both operands, with rows (columns) `pitch` elements apart.
No hardware has confirmed this reading of the PTX ISA's figures yet.
"""

from typing import Any, NamedTuple

import numpy as np

from .machine import bfloat16_bits, device, load_word, mma_bfloat16, mma_tf32, tf32_bits


class Format(NamedTuple):
    """What tensor cores take.

    element : the type of a number's bits; per_word : numbers in a word
    eps : the spacing of numbers after 1: rounding errs by half of it
    bits(x) : device function that rounds a float32; mma(a, b, c) : device function
    """

    element: Any
    per_word: int
    eps: float
    bits: Any
    mma: Any

    @property
    def depth(self) -> int:
        """How many k a product of fragments takes."""
        return 8 * self.per_word

    @property
    def pad(self) -> int:
        """Elements after a row in shared memory, so that a warp's words of a fragment lie in 32 banks."""
        return 4 * self.per_word


FORMATS = {
    "tf32": Format(np.uint32, 1, 2.0**-10, tf32_bits, mma_tf32),
    "bfloat16": Format(np.uint16, 2, 2.0**-7, bfloat16_bits, mma_bfloat16),
}


def fragments(given: Format, pitch: int):
    """Return device functions (elements, row or column, k, lane) for fragments a and b from there on."""
    per_word = given.per_word

    @device
    def words(elements, row, k, lane):
        at = (row + lane // 4) * pitch + k + lane % 4 * per_word
        return load_word(elements, at), load_word(elements, at + 4 * per_word)

    @device
    def left(elements, row, k, lane):
        upper, lower = words(elements, row, k, lane), words(elements, row + 8, k, lane)
        return upper[0], lower[0], upper[1], lower[1]

    return left, words
