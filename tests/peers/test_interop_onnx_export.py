"""Models to ONNX: ONNX Runtime, and numlstm's own backend, give what `predict` gives."""

import numpy as np
import pytest

from numlstm import GRU, LSTM, Bidirectional, Dense, Embedding, Sequential, interop

pytest.importorskip("onnx", reason="onnx is not installed (extra `onnx`)")
runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed; .ci/run installs it")
onnx_models = pytest.importorskip("onnx_models")
STACKS, layers_of = onnx_models.STACKS, onnx_models.stack

CLOSE = {"rtol": 1e-5, "atol": 1e-6}
T, F, H = onnx_models.T, onnx_models.F, onnx_models.H
OUTPUTS = {"state": ["y", "h", "c"], "gru state": ["y", "forward_h", "backward_h"]}
OUTPUTS["states"] = ["y", "forward_h", "forward_c", "backward_h", "backward_c"]


def _run(proto, **inputs):
    session = runtime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, inputs), strict=True))


@pytest.mark.parametrize("name", STACKS)
def test_onnx_runtime_gives_the_same(rng, name):
    model, x = layers_of(rng, name)
    proto = interop.onnx.to_model(model)
    want = model.predict(x)
    want = want if isinstance(want, list) else [want]
    got = _run(proto, x=x)
    assert list(got) == OUTPUTS.get(name, ["y"])
    for ours, theirs in zip(want, got.values(), strict=True):
        np.testing.assert_allclose(theirs, ours, **CLOSE)
    shorter = model.predict(x[:2, :3])
    theirs = _run(proto, x=x[:2, :3])["y"]  # any number of sequences and steps
    np.testing.assert_allclose(theirs, shorter[0] if isinstance(shorter, list) else shorter, **CLOSE)


DOUBLE = ("lstm", "gru", "simple", "concat", "peephole", "cifg")  # each cell takes seconds to compile


@pytest.mark.parametrize(("name", "dtype"), [*((n, np.float32) for n in STACKS), *((n, np.float64) for n in DOUBLE)])
def test_numlstms_backend_gives_the_same(rng, name, dtype):
    model, x = layers_of(rng, name, dtype)
    want = model.predict(x)
    got = interop.onnx.Backend.run_model(interop.onnx.to_model(model), [x])
    close = {"rtol": 1e-6, "atol": 1e-6} if dtype is np.float32 else {"rtol": 1e-7, "atol": 1e-8}  # 1/6 is a float32 in ONNX
    for ours, theirs in zip(want if isinstance(want, list) else [want], got, strict=True):
        assert theirs.dtype == dtype
        np.testing.assert_allclose(theirs, ours, **close)


RAGGED = ("lstm", "gru", "simple", "concat", "sum", "states", "embedding", "cifg")


@pytest.mark.parametrize("name", RAGGED)
def test_sequence_lens(rng, name):
    """As `predict` with these lengths; past them only recurrent layers are 0 in ONNX."""
    model, x = layers_of(rng, name)
    proto = interop.onnx.to_model(model, sequence_lens=True)
    lengths = np.array([T, 1, 4], np.int32)
    want = model.predict(x, lengths=lengths)
    for got in (_run(proto, x=x, sequence_lens=lengths).values(), interop.onnx.Backend.run_model(proto, [x, lengths])):
        for ours, theirs in zip(want if isinstance(want, list) else [want], got, strict=True):
            for row, length in enumerate(lengths):
                part = slice(None, length) if ours.ndim == 3 else ...
                np.testing.assert_allclose(theirs[row][part], ours[row][part], **CLOSE)
    if "state" not in name:
        back = interop.onnx.from_model(proto)
        np.testing.assert_allclose(back.predict(x, lengths=lengths), want, rtol=1e-6, atol=1e-6)


def test_an_embedding_counts_the_steps(rng):
    model = Sequential([Embedding(9, F, mask_zero=True), Bidirectional(LSTM(H, return_sequences=True)), GRU(3)])
    x = rng.integers(1, 9, (3, T))
    x[1, 3:] = x[2, 1:] = 0
    want = model.predict(x)
    proto = interop.onnx.to_model(model)
    np.testing.assert_allclose(_run(proto, x=x)["y"], want, **CLOSE)
    np.testing.assert_allclose(interop.onnx.Backend.run_model(proto, [x]).y, want, **CLOSE)
    model.layers[0].mask_zero = False
    assert not np.allclose(want, model.predict(x), atol=1e-3)


def test_sequence_lens_leave_zeros(rng):
    model, x = layers_of(rng, "mul")
    got = _run(interop.onnx.to_model(model, sequence_lens=True), x=x, sequence_lens=np.array([T, 1, 4], np.int32))["y"]
    assert got[0].all() and got[1, :1].all() and not got[1, 1:].any() and not got[2, 4:].any()


def test_the_graph_says_its_shapes():
    model = Sequential([LSTM(H, return_sequences=True, input_shape=(T, F)), Dense(2)], name="forecaster")
    proto = interop.onnx.to_model(model)
    assert proto.graph.name == "forecaster" and proto.producer_name == "numlstm"
    shapes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    ]
    assert shapes == [["N", T, F], ["N", T, 2]]
    assert [node.op_type for node in proto.graph.node] == [
        *["Transpose", "LSTM", "Transpose", "Reshape", "MatMul", "Add", "Identity"]
    ]


def test_all_that_onnx_does_not_have_is_named():
    both = Bidirectional(LSTM(3, return_sequences=True), backward_layer=GRU(3, go_backwards=True, return_sequences=True))
    first = LSTM(H, stateful=True, return_sequences=True, go_backwards=True, name="first", input_shape=(None, F))
    model = Sequential([first, both, LSTM(2, variant="nog", return_sequences=True, name="third"), LSTM(2, variant="1997")])
    with pytest.raises(ValueError) as error:
        interop.onnx.to_model(model, sequence_lens=True)
    assert str(error.value) == (
        "ONNX cannot take over the model sequential: first (LSTM) with stateful=True; first (LSTM) with go_backwards=True, "
        "return_sequences=True and sequences of different lengths; bidirectional (Bidirectional) with two layers that are "
        "more than two directions of one; third (LSTM) with a cell without an input or output "
        "gate; lstm (LSTM) with a cell without a "
        "forget gate"
    )
    with pytest.raises(ValueError, match="no weights yet"):
        interop.onnx.to_model(Sequential([LSTM(3)]))


def test_options_that_change_states_are_refused():
    layers = [LSTM(3, cell_clip=1.0, zoneout=(0.1, 0.2), return_sequences=True, input_shape=(None, F))]
    layers.append(GRU(3, zoneout=0.1, return_sequences=True))
    layers.append(LSTM(3, layer_norm=True))
    says = r"cell_clip=1.0.*zoneout=\(0.1, 0.2\).*gru \(GRU\) with zoneout=0.1;.* \(LSTM\) with layer_norm=True$"
    with pytest.raises(ValueError, match=says):
        interop.onnx.to_model(Sequential(layers))


def test_without_onnx_the_error_names_the_extra(run_python):
    done = run_python("import sys; sys.modules['onnx'] = None; import numlstm.interop.onnx", check=False)
    assert 'ModuleNotFoundError: numlstm.interop.onnx needs onnx: pip install "numlstm[onnx]"' in done.stderr
