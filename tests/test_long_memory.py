"""benchmarks/accuracy: the tasks of long memory are those of the papers, and the script runs."""

import importlib
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from support import IN_SOURCE_TREE

import numlstm

ACCURACY = Path(__file__).parents[1] / "benchmarks" / "accuracy"
pytestmark = pytest.mark.skipif(
    not (ACCURACY.is_dir() and IN_SOURCE_TREE), reason="the benchmarks are in the source tree only"
)
REBER = re.compile(r"B([TP])B(?:TS*X(?:XT*VP)*(?:S|XT*VV)|PT*V(?:PXT*V)*(?:V|PS))E\1E")  # not from the automaton


@pytest.fixture
def tasks(monkeypatch):
    monkeypatch.syspath_prepend(str(ACCURACY))
    return importlib.import_module("memory_tasks")


@pytest.fixture
def script(monkeypatch, tasks):
    monkeypatch.syspath_prepend(str(ACCURACY.parent / "peers"))
    return importlib.import_module("long_memory")


def test_adding_asks_for_the_sum_of_two_numbers_one_in_each_half(tasks, rng):
    task = tasks.adding(101)
    x, y, _, _ = task.draw(rng, 4000)
    numbers, marks = x[..., 0], x[..., 1]
    assert x.shape == (4000, 101, 2) and set(np.unique(marks)) == {0, 1}
    assert (marks[:, :50].sum(1) == 1).all() and (marks[:, 50:].sum(1) == 1).all()
    assert (marks.sum(0) > 0).all()  # any place can be marked
    assert numbers.min() >= 0 and numbers.max() < 1 and abs(numbers.mean() - 0.5) < 0.01
    np.testing.assert_allclose(y[:, 0], [row[mark == 1].sum() for row, mark in zip(numbers, marks, strict=True)])
    samples = tasks.Samples(x, y, np.ones(4000))
    assert task.score(samples, y) == 0
    assert abs(task.score(samples, np.ones_like(y)) - task.guess) < 0.01


def test_temporal_order_is_that_of_two_symbols_far_apart(tasks, rng):
    task = tasks.order()
    samples = task.draw(rng, 2000)
    lengths, places = Counter(), [Counter(), Counter()]
    for x, y in zip(samples.x, samples.y, strict=True):
        string = "".join(tasks.ORDER_SYMBOLS[row.argmax()] for row in x if row.any())
        assert re.fullmatch(r"E[abcd]+[XY][abcd]+[XY][abcd]+B", string)
        found = list(re.finditer("[XY]", string))
        assert y == "XX XY YX YY".split().index("".join(match.group() for match in found))
        lengths[len(string)] += 1
        assert not x[: 110 - len(string)].any()
        for counter, match in zip(places, found, strict=True):
            counter[match.start()] += 1
    assert set(lengths) == set(range(100, 111))
    assert [set(counter) for counter in places] == [set(range(10, 21)), set(range(50, 61))]
    assert task.score(samples, np.eye(4)[samples.y]) == 0
    assert abs(task.score(samples, np.eye(4)[np.zeros(2000, int)]) - task.guess) < 0.05


def test_copy_memory_asks_for_the_first_symbols_after_the_delimiter(tasks, rng):
    task = tasks.copy(30)
    samples = task.draw(rng, 500)
    symbols = samples.x.argmax(-1)
    assert samples.x.shape == (500, 50, 10) and (samples.x.sum(-1) == 1).all()
    assert set(np.unique(symbols[:, :10])) == set(range(8))
    assert (symbols[:, 10:39] == 8).all() and (symbols[:, 39] == 9).all() and (symbols[:, 40:] == 8).all()
    assert (samples.y[:, :40] == 8).all() and (samples.y[:, 40:] == symbols[:, :10]).all()
    assert task.score(samples, np.eye(10)[samples.y]) == 0
    blind = np.zeros((500, 50, 10))
    blind[:, :40, 8], blind[:, 40:, :8] = 1, 1 / 8
    assert task.score(samples, blind) == pytest.approx(task.guess)


def test_reber_strings_are_of_the_grammar_and_what_may_follow_is_what_follows(tasks, rng):
    follows, said = defaultdict(Counter), {}
    for _ in range(3000):
        string, legal = tasks.reber_string(rng)
        assert REBER.fullmatch(string) and len(legal) == len(string) - 1
        for t, symbols in enumerate(legal):
            follows[string[: t + 1]][string[t + 1]] += 1
            assert said.setdefault(string[: t + 1], symbols) == symbols
    often = [prefix for prefix, counter in follows.items() if counter.total() > 30]
    assert len(often) > 50
    for prefix in often:
        assert set(follows[prefix]) == set(said[prefix])


def test_a_reber_string_counts_as_wrong_for_one_wrong_set(tasks, rng):
    task = tasks.reber()
    samples = task.draw(rng, 200)
    legal = samples.legal
    for x, y, weight in zip(samples.x, samples.y, samples.weight, strict=True):
        steps = int(weight.sum())
        string = "".join(tasks.REBER_SYMBOLS[row.argmax()] for row in x[:steps]) + tasks.REBER_SYMBOLS[y[steps - 1]]
        assert REBER.fullmatch(string) and not x[steps:].any() and not weight[steps:].any()
    right = legal / np.maximum(1, legal.sum(-1, keepdims=True))
    assert task.score(samples, right) == 0 and task.solved_by(samples, right)
    forgotten = right.copy()
    rows, last = np.arange(200), samples.weight.sum(1).astype(int) - 2  # where T or P comes again
    forgotten[rows, last] = 0
    forgotten[rows, last, 1:3] = 0.5
    assert task.score(samples, forgotten) == 1
    forgotten[rows, last, 1:3] = 1, 0
    assert abs(task.score(samples, forgotten) - task.guess) < 0.15


def test_units_begin_with_memories_of_all_lengths(script):
    for cell, (keep, write) in {"lstm": (1, 0), "peephole": (1, 0), "1997": (None, 0), "gru": (1, None)}.items():
        made = script.layer(cell, 80, input_shape=(50, 2), seed=0)
        numlstm.Sequential([made])  # which gives it weights
        before = made.params[2].reshape(-1, 80).copy()
        script.spread_memories(made, 50, np.random.default_rng(0))
        biases = made.params[2].reshape(-1, 80)
        for block, sign in ((keep, 1), (write, -1)):
            if block is not None:
                steps = np.exp(sign * biases[block])
                assert 1 <= steps.min() < 5 and 45 < steps.max() <= 49
        others = [block for block in range(len(biases)) if block not in (keep, write)]
        assert (biases[others] == before[others]).all()


def test_the_smallest_case_runs_gives_the_same_again_and_is_reported(script, tmp_path):
    setting = script.QUICK["adding-100"]
    first, again = (script.train("adding-100", "lstm", setting, 3) for _ in range(2))
    assert (first.score, first.gradients) == (again.score, again.gradients)
    assert first.score < setting.task.guess and first.sequences == setting.budget * script.EPOCH
    assert [len(lags) for lags in first.gradients] == [setting.task.steps] * 2
    text = script.table(script.QUICK, ["adding-100"], [first])
    assert "| LSTM |" in text and f"{first.score:.2g}, **not solved**" in text
    script.plot([first], tmp_path / "gradients.png")
    for when in ("before", "after"):
        assert (tmp_path / f"gradients-{when}.png").read_bytes().startswith(b"\x89PNG")
