"""The classic tasks of long memory: how their sequences are drawn, and how an answer is scored.

What there is to be remembered, and for how long, is as in the papers named at each task; sequences are drawn anew, never
twice. All arrays are batch-first: x (N, T, inputs), y as the loss takes it, weight (N,) or (N, T) for each row of y.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Samples(NamedTuple):
    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    legal: np.ndarray | None = None  # (N, T, symbols), where more than one answer is right


@dataclass(frozen=True)
class Task:
    """A task.

    draw : of a generator and the number of sequences
    score : of samples and the model's output for them: the smaller, the better
    guess : score of the best answer without memory; limit : up to which score the task is solved
    each_step : whether there is an answer at each step, or one after the last
    """

    steps: int
    inputs: int
    outputs: int
    draw: Callable[..., Samples]
    score: Callable[[Samples, np.ndarray], float]
    measure: str
    guess: float
    limit: float
    loss: str = "sparse_categorical_crossentropy"
    each_step: bool = False

    def solved_by(self, samples: Samples, output: np.ndarray) -> bool:
        return bool(self.score(samples, output) <= self.limit)


# --- adding: Hochreiter and Schmidhuber 1997, experiment 4, with the fixed lengths and the scale of Arjovsky et al. 2016 ---


def draw_adding(rng: np.random.Generator, count: int, steps: int) -> Samples:
    """Pairs of a number uniform in 0..1 and a mark; the target is the sum of the two marked ones, one in each half."""
    x = np.zeros((count, steps, 2))
    x[..., 0] = rng.random((count, steps))
    rows, half = np.arange(count), steps // 2
    for place in (rng.integers(0, half, count), rng.integers(half, steps, count)):
        x[rows, place, 1] = 1
    return Samples(x, (x[..., 0] * x[..., 1]).sum(1, keepdims=True), np.ones(count))


def squared_error(samples: Samples, output: np.ndarray) -> float:
    return float(np.mean((output - samples.y) ** 2))


def adding(steps: int) -> Task:
    variance = 2 / 12  # of the sum of two numbers uniform in 0..1
    draw = functools.partial(draw_adding, steps=steps)
    return Task(steps, 2, 1, draw, squared_error, "mean squared error", variance, 0.01, "mse")


# --- temporal order, four classes: Hochreiter and Schmidhuber 1997, experiment 6a ---

ORDER_SYMBOLS = "abcdXYEB"


def draw_order(rng: np.random.Generator, count: int) -> Samples:
    """E, symbols out of a to d with an X or a Y at steps 10..20 and 50..60, B after 100 to 110 steps; which two were they?

    Shorter ones stand at the end of the 110 steps, after rows of zeros.
    """
    longest = 110
    symbols = rng.integers(0, 4, (count, longest))
    length = rng.integers(100, longest + 1, count)
    rows, start = np.arange(count), longest - length
    kinds = rng.integers(0, 2, (2, count))
    for kind, place in zip(kinds, (rng.integers(10, 21, count), rng.integers(50, 61, count)), strict=True):
        symbols[rows, start + place] = 4 + kind
    symbols[rows, start] = ORDER_SYMBOLS.index("E")
    symbols[:, -1] = ORDER_SYMBOLS.index("B")
    x = np.eye(len(ORDER_SYMBOLS))[symbols]
    x[np.arange(longest) < start[:, np.newaxis]] = 0
    return Samples(x, 2 * kinds[0] + kinds[1], np.ones(count))


def wrong_classes(samples: Samples, output: np.ndarray) -> float:
    return float(np.mean(output.argmax(-1) != samples.y))


def order() -> Task:
    return Task(110, len(ORDER_SYMBOLS), 4, draw_order, wrong_classes, "share of wrong classes", 0.75, 0.001)


# --- copy memory: Arjovsky, Shah and Bengio 2016, section 5.1 ---

COPY_LENGTH, COPY_KINDS = 10, 8
BLANK, DELIMITER = COPY_KINDS, COPY_KINDS + 1


def draw_copy(rng: np.random.Generator, count: int, delay: int) -> Samples:
    """Ten symbols out of eight, blanks, a delimiter `delay` steps after the last symbol, ten blanks for the answer."""
    kept = rng.integers(0, COPY_KINDS, (count, COPY_LENGTH))
    symbols = np.full((count, delay + 2 * COPY_LENGTH), BLANK)
    y = symbols.copy()
    symbols[:, :COPY_LENGTH] = y[:, -COPY_LENGTH:] = kept
    symbols[:, COPY_LENGTH + delay - 1] = DELIMITER
    return Samples(np.eye(COPY_KINDS + 2)[symbols], y, np.ones(count))


def cross_entropy(samples: Samples, output: np.ndarray) -> float:
    right = np.take_along_axis(output, samples.y[..., np.newaxis], -1)
    return float(-np.log(np.maximum(right, 1e-30)).mean())


def copy(delay: int) -> Task:
    steps = delay + 2 * COPY_LENGTH
    guess = COPY_LENGTH * np.log(COPY_KINDS) / steps
    draw = functools.partial(draw_copy, delay=delay)
    return Task(
        steps, COPY_KINDS + 2, COPY_KINDS + 2, draw, cross_entropy, "cross-entropy", guess, guess / 10, each_step=True
    )


# --- embedded Reber grammar: Hochreiter and Schmidhuber 1997, experiment 1 (Fahlman 1991) ---

REBER_SYMBOLS = "BTPSXVE"
# For each node of the Reber grammar (Reber 1967), after its B, where its symbols lead to; both are equally likely.
REBER = (
    {"T": 1, "P": 2},
    {"S": 1, "X": 3},
    {"T": 2, "V": 4},
    {"X": 2, "S": 5},
    {"P": 3, "V": 5},
    {"E": None},
)
REBER_LONGEST = 32  # symbols; longer strings, one in 2,000, are drawn again
LEGAL = 0.25  # a symbol is taken for possible from this probability on, half of what the rarest possible one has


def reber_string(rng: np.random.Generator) -> tuple[str, list[str]]:
    """Return an embedded Reber string, and after each of its symbols but the last, those that may follow."""
    outer = "TP"[rng.integers(2)]
    string, legal, node = ["B", outer, "B"], ["TP", "B"], 0
    while node is not None:
        legal.append("".join(REBER[node]))
        string.append(legal[-1][rng.integers(len(legal[-1]))])
        node = REBER[node][string[-1]]
    return "".join([*string, outer, "E"]), [*legal, outer, "E"]


def draw_reber(rng: np.random.Generator, count: int) -> Samples:
    """Strings, and as targets their next symbols; what is past a string's end has weight 0."""
    steps = REBER_LONGEST - 1
    x, legal = (np.zeros((count, steps, len(REBER_SYMBOLS))) for _ in range(2))
    y, weight = np.zeros((count, steps), np.int64), np.zeros((count, steps))
    for n in range(count):
        string, following = reber_string(rng)
        while len(string) > REBER_LONGEST:
            string, following = reber_string(rng)
        codes = [REBER_SYMBOLS.index(symbol) for symbol in string]
        length = len(following)
        x[n, np.arange(length), codes[:-1]] = 1
        y[n, :length], weight[n, :length] = codes[1:], 1
        for t, symbols in enumerate(following):
            legal[n, t, [REBER_SYMBOLS.index(symbol) for symbol in symbols]] = 1
    return Samples(x, y, weight, legal)


def wrong_strings(samples: Samples, output: np.ndarray) -> float:
    """Return the share of strings in which the set of possible next symbols is wrong anywhere."""
    wrong = ((output > LEGAL) != (samples.legal > 0)).any(-1) & (samples.weight > 0)
    return float(wrong.any(1).mean())


def reber() -> Task:
    symbols = len(REBER_SYMBOLS)
    return Task(
        REBER_LONGEST - 1, symbols, symbols, draw_reber, wrong_strings, "share of wrong strings", 0.5, 0.0, each_step=True
    )
