"""From data to what networks learn from: windows of a series, scaling, parts in order of time, padding, batches.

A series (T, F) becomes samples by `samples`, views of it; `chronological_parts` says which of them to learn from, and a
`Scaler` is fitted on the rows of these alone. Sequences of different lengths are laid into one array by `pad`, with those of
like length together by `buckets`. `Batches` reads arrays that need not fit into memory.
"""

from .batches import Batches
from .ragged import Padded, buckets, pad, unpad
from .scaling import Scaler
from .windows import Parts, Samples, chronological_parts, samples, sliding_windows

__all__ = [
    "Batches",
    "Padded",
    "Parts",
    "Samples",
    "Scaler",
    "buckets",
    "chronological_parts",
    "pad",
    "samples",
    "sliding_windows",
    "unpad",
]
