"""The ONNX backend against ONNX' own cases of recurrent nodes, the textbook, ONNX Runtime and PyTorch."""

import importlib

import numpy as np
import pytest
import reference

from numlstm import interop

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra `onnx`)")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed; .ci/run installs it")
onnx_models = pytest.importorskip("onnx_models")
by_runtime, exported, helper, model_of = onnx_models.by_runtime, onnx_models.exported, onnx.helper, onnx_models.model_of

for operator in ("lstm", "gru", "rnn"):
    importlib.import_module(f"onnx.backend.test.case.node.{operator}")
own = importlib.import_module("onnx.backend.test.case.node")._NodeTestCases
KINDS = ("LSTM", "GRU", "RNN")
CASES = {case.name: case for case in own if case.model.graph.node[0].op_type in KINDS}
N, T, F, H = 4, 6, 4, 5
CLOSE = {np.float32: {"rtol": 1e-5, "atol": 2e-6}, np.float64: {"rtol": 1e-7, "atol": 1e-8}}  # alpha is float32 in ONNX


def test_there_are_onnx_own_cases():
    assert len(CASES) >= 18 and {kind for kind in KINDS for name in CASES if kind.lower() in name} == set(KINDS)


@pytest.mark.parametrize("name", CASES)
def test_onnx_own_cases(name):
    case = CASES[name]
    for inputs, outputs in case.data_sets:
        got = interop.onnx.Backend.run_model(case.model, inputs)
        alone = interop.onnx.Backend.run_node(case.model.graph.node[0], inputs)
        for want, *have in zip(outputs, got, alone, strict=True):
            for array in have:
                assert array.dtype == want.dtype
                np.testing.assert_allclose(array, want, rtol=case.rtol, atol=case.atol)


# --- against the textbook: by numlstm's cells ---

SIXTH = {"activation_alpha": [1 / 6], "activation_beta": [0.5]}
HARD = {"activations": ["HardSigmoid", "Tanh", "Tanh"], **SIXTH}
REFERENCES = {
    "LSTM": ("LSTM", reference.LSTM(), {}, {}),
    "peephole": ("LSTM", reference.PRESETS["peephole"], {}, {}),
    "coupled": ("LSTM", reference.PRESETS["cifg"], {"input_forget": 1}, {}),
    "hard": ("LSTM", reference.LSTM(), HARD, {"recurrent_activation": "hard_sigmoid"}),
    "GRU after": ("GRU", reference.GRU(), {"linear_before_reset": 1}, {}),
    "GRU before": ("GRU", reference.GRU(reset_after=False), {}, {}),
    "RNN": ("RNN", reference.SimpleRNN(), {}, {}),
    "RNN relu": ("RNN", reference.SimpleRNN(), {"activations": ["Relu"]}, {"activation": "relu"}),
}
ORDERS = {"LSTM": "iofg", "GRU": "zrn", "RNN": "n"}
DIRECTIONS = {"forward": (1,), "reverse": (-1,), "bidirectional": (1, -1)}


def _arranged(a, rows, order):
    parts = dict(zip(rows, np.split(a, len(rows)), strict=True))
    return np.concatenate([parts.get(k, np.zeros_like(parts[rows[0]])) for k in order])


def _onnx_weights(kind, cell, weights):
    """Return W, R, B and P of one direction."""
    rows = {"LSTM": getattr(cell, "rows", ""), "GRU": "rzn", "RNN": "n"}[kind]
    W, R, b = (_arranged(weights[key], rows, ORDERS[kind]) for key in ("W_ih", "W_hh", "b"))
    b_h = np.zeros_like(b)
    if "b_hn" in weights:
        b_h[-H:] = weights["b_hn"]
    b_h, b = b_h + b / 4, b * 3 / 4  # two biases, which mean their sum but for a GRU's n
    if "b_hn" in weights:
        b[-H:], b_h[-H:] = weights["b"][-H:], weights["b_hn"]
    p = _arranged(weights["p"], cell.gates, "iof") if "p" in weights else np.zeros(3 * H)
    return W, R, np.concatenate([b, b_h]), p


def _reversed(x, lengths):
    """Return sequences from their ends."""
    y = x.copy()
    for row, length in enumerate(lengths):
        y[row, :length] = x[row, :length][::-1]
    return y


def _by_reference(cell, x, weights, states, lengths, direction, options):
    """Return Y (N, T, D, H) and last states (D, N, H)."""
    outputs = []
    for sign, w, first in zip(DIRECTIONS[direction], weights, zip(*states, strict=True), strict=True):
        turn = (lambda a: a) if sign > 0 else (lambda a: _reversed(a, lengths))
        out = reference.rnn(cell, turn(x), w, first, lengths, **options)
        outputs.append((turn(out.y), *out.states))
    y, *last = zip(*outputs, strict=True)
    return np.stack(y, axis=2), [np.stack(state) for state in last]


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("lengths", [None, [6, 1, 0, 4]], ids=["whole", "ragged"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", REFERENCES)
def test_a_node_is_the_textbook(rng, name, direction, lengths, layout, dtype):
    kind, cell, attributes, options = REFERENCES[name]
    ways = len(DIRECTIONS[direction])
    if "activations" in attributes:
        attributes = {key: value * ways for key, value in attributes.items()}
    shapes = reference.weight_shapes(cell, F, H)
    weights = [{key: rng.uniform(-1, 1, shape).astype(dtype) for key, shape in shapes.items()} for _ in range(ways)]
    W, R, B, P = (
        np.stack(parts).astype(dtype) for parts in zip(*(_onnx_weights(kind, cell, w) for w in weights), strict=True)
    )
    x = rng.standard_normal((N, T, F)).astype(dtype)
    states = [rng.standard_normal((ways, N, H)).astype(dtype) for _ in range(1 + (kind == "LSTM"))]
    y, last = _by_reference(cell, x, weights, states, [T] * N if lengths is None else lengths, direction, options)

    turn = (lambda a: a.swapaxes(0, 1)) if layout else (lambda a: a)
    lens = () if lengths is None else (np.array(lengths, np.int32),)
    names = ["X", "W", "R", "B", "lens" if lens else "", "h", "c", "P"][: 8 if kind == "LSTM" else 6]
    given = [x if layout else x.swapaxes(0, 1), W, R, B, *lens, *map(turn, states), *([P] if kind == "LSTM" else [])]
    outputs = ["Y", "Y_h", "Y_c"][: 1 + len(states)]
    node = helper.make_node(kind, names, outputs, hidden_size=H, direction=direction, layout=layout, **attributes)
    got = interop.onnx.Backend.run_node(node, given)
    want = [y if layout else y.transpose(1, 2, 0, 3), *map(turn, last)]
    for ours, theirs in zip(got, want, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, theirs, **CLOSE[dtype])


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_computed_in_single(rng, kind):
    blocks = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    shapes = (T, N, F), (1, blocks * H, F), (1, blocks * H, H)
    arrays = [rng.uniform(-1, 1, shape).astype(np.float16) for shape in shapes]
    node = helper.make_node(kind, ["X", "W", "R"], ["Y", "Y_h"], hidden_size=H)
    single = interop.onnx.Backend.run_node(node, [array.astype(np.float32) for array in arrays])
    for got, want in zip(interop.onnx.Backend.run_node(node, arrays), single, strict=True):
        assert got.dtype == np.float16
        np.testing.assert_array_equal(got, want.astype(np.float16))


# --- against ONNX Runtime: what numlstm's cells do not have ---

THREE = ["HardSigmoid", "Softsign", "ScaledTanh"]
OTHERS = {
    "LSTM clip": ("LSTM", {"clip": 0.3}),
    "LSTM coupled clip": ("LSTM", {"clip": 0.3, "input_forget": 1}),
    "GRU clip": ("GRU", {"clip": 0.3}),
    "GRU after clip": ("GRU", {"clip": 0.3, "linear_before_reset": 1}),
    "RNN clip": ("RNN", {"clip": 0.3}),
    "LSTM defaults": ("LSTM", {"activations": ["HardSigmoid", "Softsign", "Relu"]}),
    "LSTM others": ("LSTM", {"activations": THREE, "activation_alpha": [0.3, 1.5], "activation_beta": [0.4, 0.6]}),
    "LSTM gates of tanh": ("LSTM", {"activations": ["Tanh", "Affine", "LeakyRelu"], "activation_alpha": [0.7, 0.2]}),
    "GRU others": ("GRU", {"activations": ["Sigmoid", "Elu"], "activation_alpha": [0.7]}),
    "GRU after others": (
        "GRU",
        {"activations": ["HardSigmoid", "ThresholdedRelu"], "activation_alpha": [0.3, 0.2], "linear_before_reset": 1},
    ),
    "RNN softplus": ("RNN", {"activations": ["Softplus"]}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_numlstm_has_not_is_as_in_onnx_runtime(rng, name):
    kind, attributes = OTHERS[name]
    blocks = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    shapes = {"W": (1, blocks * H, F), "R": (1, blocks * H, H), "B": (1, 2 * blocks * H)}
    arrays = {key: rng.uniform(-0.7, 0.7, shape).astype(np.float32) for key, shape in shapes.items()}
    inputs = {"X": rng.standard_normal((T, N, F)).astype(np.float32), "lens": np.array([6, 1, 3, 4], np.int32)}
    outputs = ["Y", "Y_h", "Y_c"][: 2 + (kind == "LSTM")]
    node = helper.make_node(kind, ["X", "W", "R", "B", "lens"], outputs, hidden_size=H, **attributes)
    model = model_of([node], inputs, dict.fromkeys(outputs, "float32"), arrays)
    want = by_runtime(model, inputs)
    for ours, theirs in zip(interop.onnx.Backend.run_model(model, inputs), want, strict=True):
        np.testing.assert_allclose(ours, theirs, **CLOSE[np.float32])


# --- whole models ---


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("both", [True, False])
def test_models_that_pytorch_writes(both, batch_first, kind):
    module, x, proto = exported(kind, both, batch_first)
    rep = interop.onnx.Backend.prepare(proto)
    for rows in (3, 2):
        (got,) = rep.run([x[:rows].numpy()])
        np.testing.assert_allclose(got, module(x[:rows]).detach().numpy(), **CLOSE[np.float32])


def test_inputs_with_a_default_may_be_left_out():
    node = helper.make_node("Add", ["x", "b"], ["y"])
    x, b = np.ones(3, np.float32), np.arange(3, dtype=np.float32)
    model = model_of([node], {"x": x, "b": b}, {"y": "float32"}, {"b": b})
    np.testing.assert_array_equal(by_runtime(model, {"x": x})[0], x + b)
    rep = interop.onnx.Backend.prepare(model)
    for inputs, want in (([x], x + b), (x, x + b), ({"x": x}, x + b), ([x, x], x + x), ({"x": x, "b": x}, x + x)):
        np.testing.assert_array_equal(rep.run(inputs).y, want)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ([np.ones(3)], TypeError, "x must be an array of float32, not float64"),
        ([np.ones((3, 1), np.float32)], ValueError, r"x must have 1 axes, not shape \(3, 1\)"),
        ({"y": np.ones(3)}, ValueError, "inputs must be those of the graph, x, not y"),
        ([np.ones(3, np.float32)] * 2, ValueError, "inputs must be those of the graph, x, not 2 arrays"),
        ([], ValueError, "inputs must be those of the graph, x, not "),
    ],
)
def test_wrong_inputs(inputs, error, message):
    x = np.ones(3, np.float32)
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": x}, {"y": "float32"})
    by_runtime(model, {"x": x})
    with pytest.raises(error, match=message):
        interop.onnx.Backend.run_model(model, inputs)


def test_all_nodes_that_are_unsupported_are_named():
    x = np.ones((1, 1, 4, 4), np.float32)
    nodes = [
        helper.make_node("MaxPool", ["x"], ["a"], "pool", kernel_shape=[2, 2]),
        helper.make_node("Erf", ["a"], ["b"]),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    model = model_of(nodes, {"x": x}, {"y": "float32"})
    by_runtime(model, {"x": x})
    backend = interop.onnx.Backend
    assert not backend.is_compatible(model)
    with pytest.raises(ValueError, match=r"^numlstm cannot run this model: pool \(MaxPool\); Erf$"):
        backend.prepare(model)
    with pytest.raises(ValueError, match=r"^numlstm cannot run this node: Erf$"):
        backend.run_node(nodes[1], [x])
    bad = helper.make_node("RNN", ["x", "w", "r"], ["y"], hidden_size=1, activations=["Swish"])
    with pytest.raises(ValueError, match=r"^numlstm cannot run this node: RNN with activation Swish$"):
        backend.run_node(bad, [np.ones((1, 1, 1), np.float32)] * 3)


def test_devices():
    backend = interop.onnx.Backend
    assert backend.supports_device("CPU") and not backend.supports_device("CUDA")
    model = CASES["test_lstm_defaults"].model
    assert backend.is_compatible(model) and not backend.is_compatible(model, "CUDA")
    with pytest.raises(ValueError, match="device must be 'CPU', not 'CUDA'"):
        backend.prepare(model, "CUDA")
