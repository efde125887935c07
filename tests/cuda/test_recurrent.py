"""The CUDA passes of recurrent layers against the textbook, in the simulator and, where there is one, on a GPU."""

import ast

import numpy as np
import pytest
from layers import Layer
from made import SPECS
from own_cells import OWN
from support import KERNELS, assert_same_bits

from numlstm.cells import CellSpec

SMALL = (2, 2, 2, 4)  # a tile of few threads, so that small sizes fill several blocks
SIZES = (5, 3, 3, 9)  # no multiple of the tile's
LENGTHS = (3, 1, 0, 2, 3)
NAMES = (
    "lstm",
    "peephole",
    "nig",
    "nfg",
    "nog",
    "niaf",
    "noaf",
    "cifg",
    "1997",
    "elysium",
    "fgr",
    "ltms",
    "gru",
    "rnn",
    "slstm",
    "gru before",
    *(name for name in SPECS if "projected" in name or "normed" in name),
)
IN_STAGES = ("gru before", "projected", "gru, normed", "gru before, normed")  # of which a step takes several launches
SHAPES = ("gates of other shapes", "no gate", "gru of other shapes", "rnn relu", "slstm sigmoid")
ROUNDED = {"tf32": 2.0**-9, "bfloat16": 2.0**-6}  # twice eps; rounding a factor errs by half of one, and steps amplify it
IN_REGISTERS = ["backward_registers", "forward_registers", "forward_registers", "hold", "hold"]
SMALL_TENSOR = (8, 4, 4, 16)  # a tile of one warp
TENSOR_CASES = [  # tiles of one warp, and of two side by side
    ("peephole", "tf32", SMALL_TENSOR),
    ("gru", "bfloat16", SMALL_TENSOR),
    ("rnn", "tf32", (16, 4, 4, 16)),
    ("rnn", "bfloat16", (16, 4, 4, 32)),
    ("ltms", "tf32", (8, 4, 4, 16)),
    ("projected", "tf32", SMALL_TENSOR),
]
ALLOWED_EPS = 20  # in units of eps * (1 + the largest element): sums of up to a hundred products


def assert_right(layer, results, allowed=None):
    """Compare with the textbook. allowed : the largest error in units of (1 + the largest element)"""
    allowed = allowed or ALLOWED_EPS * np.finfo(layer.dtype).eps
    for got, want in zip(results, layer.by_the_textbook(), strict=True):
        assert got.shape == want.shape and got.dtype == layer.dtype
        if want.size:
            assert np.abs(got - want).max() < allowed * (1 + np.abs(want).max())


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
@pytest.mark.parametrize("name", NAMES + SHAPES + tuple(OWN))
def test_outputs_states_and_all_gradients_match_the_reference(rng, device, name, lengths):
    layer = Layer(rng, name, SIZES, np.float32 if lengths else np.float64, lengths)
    assert_right(layer, layer.run(device, SMALL, "steps"))


@pytest.mark.parametrize("sweep", ["steps", "rows"])
def test_the_tiles_that_are_used_match_the_reference(rng, device, sweep):
    layer = Layer(rng, "lstm", (5, 1, 2, 17), np.float32)
    assert_right(layer, layer.run(device, sweep=sweep))


@pytest.mark.parametrize("name, precision, tile", TENSOR_CASES)
def test_products_on_tensor_cores_are_near(rng, device, name, precision, tile):
    layer = Layer(rng, name, (5, 2, 17, 9), np.float32, (2, 1, 0, 2, 2))
    assert_right(layer, layer.run(device, tile, "steps", precision=precision), ROUNDED[precision])


@pytest.mark.parametrize("precision", ROUNDED)
def test_tensor_cores_err_by_the_rounding_of_factors_alone(rng, device, precision):
    layer = Layer(rng, "rnn", (5, 1, 17, 9), np.float32)
    for factor in (layer.x, layer.made.states[0], *layer.weights[:2]):
        factor.view(np.uint32)[...] &= 0xFFFF0000  # to numbers that bfloat16 has
    rounded, exact = (layer.run(device, SMALL_TENSOR, "steps", precision=p)[0] for p in (precision, "float32"))
    assert np.abs(rounded - exact).max() < ALLOWED_EPS * np.finfo(np.float32).eps


@pytest.mark.parametrize(
    "name",
    [
        *(name for name in NAMES[: NAMES.index("slstm")] + SHAPES if name not in ("fgr", "ltms", "slstm sigmoid")),
        "mgu",
    ],
)
def test_weights_in_registers_are_near(rng, device, name):
    layer, precision = Layer(rng, name, (3, 2, 2, 9), np.float32, (2, 1, 0)), "bfloat16" if "l" in name else "tf32"
    assert_right(layer, layer.run(device, SMALL_TENSOR, "registers", precision=precision), ROUNDED[precision])


def test_weights_in_registers_over_several_blocks_and_fragments(rng, device):
    layer = Layer(rng, "peephole", (9, 2, 1, 17), np.float32)
    assert_right(layer, layer.run(device, SMALL_TENSOR, "registers", precision="bfloat16"), ROUNDED["bfloat16"])


def test_a_second_product_of_several_blocks(rng, device):
    layer = Layer(rng, "projected", (2, 1, 1, 19), np.float32)
    assert layer.second[0].size > 128  # which is a block of what adds up its gradients
    assert_right(layer, layer.run(device, SMALL, "steps"))


def test_the_order_of_threads_changes_no_bit_with_weights_in_registers(rng, simulated, order):
    layer, found = Layer(rng, "gru", (3, 2, 2, 9), np.float32), []
    for name in ("forward", "reverse", "random"):
        order(name)
        found.append(layer.run(simulated, SMALL_TENSOR, "registers", precision="tf32"))
    assert_same_bits(found[0], found[1])
    assert_same_bits(found[0], found[2])


@pytest.mark.parametrize(("name", "launches"), [("lstm", [2, 3]), ("gru", [2, 3]), ("gru before, normed", [8, 9])])
def test_a_graph_of_steps_is_recorded_once_and_gives_the_same_bits(rng, simulated, monkeypatch, name, launches):
    import simulator

    class Thrice(simulated.recurrent.Recurrent):
        """Runs each pass one launch after the other, while it is recorded, and replayed."""

        def forward(self, cell, layer):
            for _ in range(3):
                layer.z[...] = layer.y[...] = np.nan
                super().forward(cell, layer)

        def backward(self, cell, layer, inner, *more):
            arrays = layer.z, inner.dh, inner.dc
            before = [array.copy() for array in arrays]
            for _ in range(3):
                for array, values in zip(arrays, before, strict=True):
                    array[...] = values
                super().backward(cell, layer, inner, *more)

    layer, recorded = Layer(rng, name, (5, 2, 3, 9), np.float32, (2, 1, 0, 2, 2)), []
    want = layer.run(simulated, SMALL, "steps")
    monkeypatch.setattr(simulator, "recorded", recorded)
    monkeypatch.setattr(simulated.recurrent, "Recurrent", Thrice)
    assert_same_bits(layer.run(simulated, SMALL, "graph"), want)
    assert list(map(len, recorded)) == launches  # of the steps forward, and back to what was before the first


def test_a_graph_is_for_the_arrays_that_it_was_recorded_with(simulated):
    replay, seen = simulated.recurrent.Replay(), []
    one, other = np.zeros(2), np.zeros(2)
    for arguments in [(one,), (other,), (one[:1],), (one,), ((one, 3),), ((one, 4),)]:
        replay(seen.append, 0, *arguments)
    assert seen == [0, 0, 0, [], 0, 0]  # the fourth was recorded, on a graph's stream


@pytest.mark.parametrize(
    "name, sweep, more",
    [
        ("lstm", "registers", {}),
        ("lstm", "registers", {"precision": "tf32", "options": True}),
        *((name, "registers", {"precision": "tf32"}) for name in ("fgr", "ltms", *IN_STAGES)),
        *((name, "rows", {}) for name in IN_STAGES),
    ],
)
def test_a_sweep_that_a_cell_is_not_for_is_refused(simulated, name, sweep, more):
    with pytest.raises(ValueError, match=f"sweep: '{sweep}' needs .*a plain cell, got precision .*, {SPECS[name].name}"):
        simulated.recurrent.Recurrent(SPECS[name].name, np.float32, sweep, **more)


@pytest.mark.parametrize(("dtype", "known"), [(np.float32, "float32 or tf32 or bfloat16"), (np.float64, "float64")])
def test_an_unknown_precision_is_refused(simulated, dtype, known):
    with pytest.raises(ValueError, match=f"precision: expected {known} for a layer in .*, got 'float16'"):
        simulated.recurrent.Recurrent(CellSpec().name, dtype, precision="float16")


@pytest.mark.parametrize("name", ["peephole", "gru", "rnn"])
def test_the_order_of_threads_the_sweep_and_the_tile_change_no_bit(rng, simulated, order, name):
    layer = Layer(rng, name, (5, 2, 3, 9), np.float32, (2, 1, 2, 2, 0))
    want = layer.run(simulated, SMALL, "steps")
    for other in ("forward", "reverse", "random"):
        order(other)
        assert_same_bits(layer.run(simulated, SMALL, "rows"), want)
        assert_same_bits(layer.run(simulated, SMALL, "steps"), want)
    assert_same_bits(layer.run(simulated, (4, 2, 1, 8), "steps"), want)


@pytest.mark.parametrize("name", ["projected", "gru before, normed"])
def test_the_order_of_threads_changes_no_bit_of_steps_in_stages(rng, simulated, order, name):
    layer = Layer(rng, name, (5, 2, 3, 9), np.float32, (2, 1, 2, 2, 0))
    want = layer.run(simulated, SMALL, "steps")
    for other in ("reverse", "random"):
        order(other)
        assert_same_bits(layer.run(simulated, SMALL, "steps"), want)


@pytest.mark.parametrize("name", IN_STAGES[1:3])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 3), (2, 3, 0, 4), (2, 0, 2, 4), (0, 2, 3, 4)], ids=str)
def test_the_smallest_sizes_in_stages(rng, device, sizes, name):
    layer = Layer(rng, name, sizes, np.float64)
    assert_right(layer, layer.run(device, SMALL))


@pytest.mark.parametrize("sweep", ["steps", "rows"])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 3, 0, 4), (3, 0, 2, 4), (0, 2, 3, 4)], ids=str)
def test_the_smallest_sizes(rng, device, sizes, sweep):
    layer = Layer(rng, "lstm", sizes, np.float64)
    for got, want in zip(layer.run(device, SMALL, sweep), layer.by_the_textbook(), strict=True):
        assert np.allclose(got, want, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "kind", "sweep"),
    [
        (name, *way)
        for name in ("lstm", "peephole", "cifg", "fgr", "gru", "rnn", "slstm", *IN_STAGES)
        for way in (("drawn", "steps"), ("drawn", "rows"), ("expected", "steps"))
        if not (name in IN_STAGES and "rows" in way)
    ],
)
def test_options_match_the_reference(rng, device, name, kind, sweep):
    """Recurrent dropout, zoneout and a bound of c together; zoneout's masks have the bits that the CPU draws."""
    lengths = LENGTHS if sweep == "steps" else None
    layer = Layer(rng, name, SIZES, np.float32 if sweep == "rows" else np.float64, lengths, kind)
    assert_right(layer, layer.run(device, SMALL, sweep))


@pytest.mark.parametrize("name", ["peephole", *IN_STAGES[:3]])
def test_gradients_of_weights_accumulate(rng, device, name):
    layer = Layer(rng, name, (5, 2, 3, 9), np.float64)
    before = [rng.standard_normal(weight.shape) for weight in (*layer.weights, *layer.second)]
    first = 2 + len(layer.made.states)  # behind y, the last states and dx
    weights = slice(first, first + len(layer.made.weights))
    fresh, added = layer.run(device, SMALL)[weights], layer.run(device, SMALL, gradients=before)[weights]
    for one, other, start in zip(fresh, added, layer.outside(*before), strict=True):
        assert one.size and np.array_equal(other, start + one)


@pytest.mark.parametrize(
    "name, tile, sweep, precision, functions",
    [
        ("lstm", SMALL, "steps", None, ["add", "add"]),
        ("lstm", SMALL, "rows", None, ["add", "add", "backward_rows", "forward_rows"]),
        ("lstm", SMALL_TENSOR, "steps", "bfloat16", ["add", "add", "share"]),
        ("lstm", SMALL_TENSOR, "registers", "tf32", ["add", "add", *IN_REGISTERS, "share"]),
        ("rnn, normed", SMALL, "steps", None, ["add", "add", "block_sum", "block_sum", "block_sum"]),
    ],
    ids=["steps", "rows", "tensor cores", "registers", "layer norm"],
)
def test_a_missing_barrier_is_found(rng, simulated, name, tile, sweep, precision, functions):
    import simulator

    layer = Layer(rng, name, (3, 2, tile[-1] + 1, 3), np.float32)  # so small that no other barrier stands in for one
    simulator.barriers.clear()
    layer.run(simulated, tile, sweep, precision=precision)
    found = sorted(simulator.barriers)
    assert [function for function, _ in found] == functions
    for barrier in found:
        simulator.without.add(barrier)
        try:
            with pytest.raises(simulator.KernelError, match=r"a race|nothing has written"):
                layer.run(simulated, tile, sweep, precision=precision)
        finally:
            simulator.without.clear()


def test_the_sweep_follows_the_number_of_units(simulated):
    sweep_of = simulated.recurrent.sweep_of
    assert [sweep_of(units) for units in (1, 128, 129, 4096)] == ["rows", "rows", "steps", "steps"]
    assert [sweep_of(units, "bfloat16") for units in (1, 128, 129)] == ["registers", "registers", "steps"]
    assert [sweep_of(units, "tf32") for units in (64, 65)] == ["registers", "steps"]
    assert sweep_of(64, "tf32", ("registers",)) == "steps"


def test_the_simulator_has_all_that_kernels_use():
    simulator = pytest.importorskip("simulator")
    tree = ast.parse((KERNELS / "cuda" / "machine.py").read_text())
    (names,) = (node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__")
    for name in ast.literal_eval(names):
        assert hasattr(simulator, name), name
