"""Neither engine lacks what the other has.

What is listed here is held against the kernels themselves: whoever adds to one engine adds to the other.
"""

import ast
import dataclasses
import inspect

import test_operations
import test_recurrent
from made import SPECS
from numlstm.kernels import activations, cells, losses, options, own, updates, zoneout
from own_cells import OWN
from support import KERNELS

import numlstm
from numlstm import devices, lanes, layers
from numlstm.layers import dense

# The CPU's entry points, and where their twins are; or why there is none.
TWINS = {
    "forward": "recurrent.Recurrent.forward",
    "backward": "recurrent.Recurrent.backward",
    "weight_gradients": "recurrent.Recurrent.backward",
    "peephole_gradients": "recurrent.Recurrent.backward",
    "dense": "recurrent.Dense.forward",
    "dense_gradient": "recurrent.Dense.backward",
    "recompute": "recurrent.Recurrent.forward",  # again, from the states that were kept: backend/cuda/windows.py
    "_call": "step.step",
    **{
        name: f"operations.{name}"
        for name in ("activate", "differentiate", "drop", "gather", "scatter", "loss", "update", "sum_of_squares")
    },
}
NOT_NEEDED = {
    "pack_cell": "weights are read as users have them",
    "pack_dense": "the same",
    "stream": "each thread of a kernel has a sequence of its own",
}

ARGUMENTS = set(
    """units activation recurrent_activation use_bias kernel_initializer recurrent_initializer bias_initializer
    unit_forget_bias dropout recurrent_dropout zoneout cell_clip layer_norm projection recompute seed return_sequences
    return_state go_backwards stateful name input_shape variant forget_gate cell reset_after rate input_dim output_dim
    embeddings_initializer mask_zero layer merge_mode backward_layer""".split()
)


def entries():
    """Return the names of all functions of kernels/ that are entry points."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in KERNELS.glob("*.py"))
    functions = (node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef))
    return {f.name for f in functions if any(isinstance(d, ast.Name) and d.id == "entry" for d in f.decorator_list)}


def test_every_entry_point_has_a_twin(simulated):
    listed = [*TWINS, *NOT_NEEDED]
    assert sorted(listed) == sorted(entries())
    for path in TWINS.values():
        twin = simulated
        for name in path.split("."):
            twin = getattr(twin, name)
        assert callable(twin)


def test_parameters_of_cells_are_the_same(simulated):
    memory_of_passes = {"norm"}  # which here is the layer's and its gradients'
    assert set(simulated.recurrent.Weights._fields) == set(cells.Cell._fields) - memory_of_passes


def test_what_users_choose_from_is_what_there_is(simulated):
    assert devices.SWEEPS == tuple(simulated.recurrent.SWEEPS)
    found = {p for dtype in ("float32", "float64") for p in devices.PRECISIONS if exists(simulated, dtype, p)}
    assert found == set(devices.PRECISIONS) == {"float32", "float64", *simulated.recurrent.FORMATS}


def exists(simulated, dtype, precision):
    try:
        simulated.recurrent.rounding(dtype, precision)
    except ValueError:
        return False
    return True


def test_all_that_options_do_is_there(simulated):
    chosen = {name for name in vars(options) | vars(zoneout) if name.startswith("_choose_")}
    assert {choose.__name__ for choose in simulated.scalar._CHOOSERS.values()} == chosen


def test_every_cell_is_tested_on_both():
    assert set(numlstm.cells.NAMES) <= set(SPECS)
    assert {*test_recurrent.NAMES, *test_recurrent.SHAPES, *OWN} == set(SPECS)


def test_every_part_of_a_cell_is_tested_in_several_ways():
    kinds = {type(spec) for spec in SPECS.values()} - {numlstm.Cell}
    assert kinds == {type(numlstm.cells.spec(name)) for name in numlstm.cells.NAMES}
    for kind in kinds:
        for field in dataclasses.fields(kind):
            assert len({getattr(spec, field.name) for spec in SPECS.values() if type(spec) is kind}) > 1, (kind, field.name)


def test_every_argument_of_a_layer_is_there():
    """Whoever adds one lets test_models train with it, and adds it to ARGUMENTS."""
    found = [getattr(numlstm, name) for name in numlstm.__all__ if name in layers.__all__]
    kinds = [kind for kind in found if issubclass(kind, layers.Layer) and kind is not layers.Input]
    assert {name for kind in kinds for name in inspect.signature(kind).parameters} == ARGUMENTS


def test_losses_rules_activations_and_functions_on_lanes_are_the_same(simulated):
    assert {type(loss) for loss, _ in test_operations.LOSSES} == {*losses._ELEMENTS, *losses._ROWS}
    assert {type(rule) for rule in test_operations.RULES} == set(updates.SLOTS)
    assert {*simulated.step.ACTIVATIONS, "softmax"} == set(dense.ACTIVATIONS)
    kinds = [getattr(activations, name.upper()) for name in dense.ACTIVATIONS]
    assert sorted(kinds) == list(range(test_operations.KINDS))
    assert set(own.LANES) == set(lanes.__all__) <= set(simulated.own._CALLED)
