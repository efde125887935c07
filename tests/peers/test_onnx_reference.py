"""The reference's outputs against ONNX Runtime, which has what PyTorch lacks: peepholes, coupled gates, reset before."""

import numpy as np
import pytest
import reference

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra `bench`)")
runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed (extra `bench`)")

BATCH, STEPS, INPUTS, HIDDEN = 3, 6, 4, 5
HARD = {"activations": ["HardSigmoid", "Tanh", "Tanh"], "activation_alpha": [1 / 6], "activation_beta": [0.5]}
CASES = {
    "peephole": (reference.PRESETS["peephole"], {}, {}),
    "cifg": (reference.PRESETS["cifg"], {"input_forget": 1}, {}),
    "hard_sigmoid": (reference.LSTM(), HARD, {"recurrent_activation": "hard_sigmoid"}),
    "GRU before": (reference.GRU(reset_after=False), {"linear_before_reset": 0}, {}),
    "GRU after": (reference.GRU(), {"linear_before_reset": 1}, {}),
    "RNN relu": (reference.SimpleRNN(), {"activations": ["Relu"]}, {"activation": "relu"}),
}
# ONNX's order of gates. A coupled forget gate has rows there, which nothing reads.
ORDERS = {"LSTM": "iofg", "GRU": "zrn", "RNN": "n"}


def _inputs(op, cell, weights, x, states, lengths):
    rows = {"LSTM": getattr(cell, "rows", ""), "GRU": "rzn", "RNN": "n"}[op]
    order = ORDERS[op]

    def arrange(a, rows, order):
        parts = dict(zip(rows, np.split(a, len(rows)), strict=True))
        return np.concatenate([parts.get(k, np.zeros_like(parts[rows[0]])) for k in order])

    bias = np.zeros_like(arrange(weights["b"], rows, order))
    if "b_hn" in weights:
        bias[-HIDDEN:] = weights["b_hn"]
    inputs = {
        "X": x.transpose(1, 0, 2),
        "W": arrange(weights["W_ih"], rows, order)[None],
        "R": arrange(weights["W_hh"], rows, order)[None],
        "B": np.concatenate([arrange(weights["b"], rows, order), bias])[None],
        "sequence_lens": np.array(lengths, np.int32),
        "initial_h": states[0][None],
    }
    if op == "LSTM":
        p = weights["p"] if "p" in weights else np.zeros(HIDDEN * len(cell.gates))
        inputs |= {"initial_c": states[1][None], "P": arrange(p, cell.gates, "iof")[None]}
    return {name: a if name == "sequence_lens" else a.astype(np.float32) for name, a in inputs.items()}


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_states_match(rng, name):
    cell, attributes, options = CASES[name]
    op = {"SimpleRNN": "RNN"}.get(type(cell).__name__, type(cell).__name__)
    shapes = reference.weight_shapes(cell, INPUTS, HIDDEN)
    weights = {key: rng.uniform(-1, 1, shape) for key, shape in shapes.items()}
    x, lengths = rng.standard_normal((BATCH, STEPS, INPUTS)), [6, 1, 4]
    states = tuple(rng.standard_normal((BATCH, width)) for width in reference.state_widths(cell, weights))
    inputs = _inputs(op, cell, weights, x, states, lengths)
    outputs = ["Y", "Y_h", "Y_c"][: 1 + len(states)]
    node = onnx.helper.make_node(op, list(inputs), outputs, hidden_size=HIDDEN, **attributes)
    value = onnx.helper.make_tensor_value_info
    types = {"sequence_lens": onnx.TensorProto.INT32}
    graph = onnx.helper.make_graph(
        [node],
        "cell",
        [value(key, types.get(key, onnx.TensorProto.FLOAT), a.shape) for key, a in inputs.items()],
        [value(key, onnx.TensorProto.FLOAT, None) for key in outputs],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y, *last = session.run(None, inputs)

    out = reference.rnn(cell, x, weights, states, lengths, **options)
    np.testing.assert_allclose(y[:, 0].transpose(1, 0, 2), out.y, rtol=1e-5, atol=2e-6)
    for got, want in zip(last, out.states, strict=True):
        np.testing.assert_allclose(got[0], want, rtol=1e-5, atol=2e-6)
