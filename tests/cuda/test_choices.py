"""What a user chooses for a GPU, the precision of products and the sweep of recurrent layers: in the simulator."""

import numpy as np
import pytest
from test_models import close, data, lstm

from numlstm import LSTM, Bidirectional, Dense, DeviceError, Sequential
from numlstm.optimizers import SGD

KINDS = "Recurrent", "Dense"  # of passes with products
ROUNDED = {"tf32": 2.0**-9, "bfloat16": 2.0**-6}  # twice the spacing of numbers after 1


@pytest.mark.parametrize(
    ("precision", "sweep"),
    [("bfloat16", None), ("bfloat16", "graph"), ("tf32", "rows"), ("float32", "steps")],
)
def test_precision_and_sweep_are_chosen_for_all_layers(rng, anywhere, monkeypatch, precision, sweep):
    x, y = data(rng)
    chosen, found = [], {}
    for device, how in (("cpu", {}), ("cuda", {"precision": precision, "sweep": sweep})):
        model = Sequential([LSTM(3, seed=1), Dense(2, seed=2)]).to(device, **how)
        for kind in KINDS if how else ():
            module, make = model.backend.recurrent, getattr(model.backend.recurrent, kind)
            made = lambda *given, of=(kind, make), **more: chosen.append((of[0], more)) or of[1](*given, **more)  # noqa: E731
            monkeypatch.setattr(module, kind, made)
        before = model.predict(x)
        model.compile(SGD(0.1), "mse")
        model.fit(x, y, epochs=3, verbose=0, shuffle=False)  # the third pass is the first that a graph replays
        found[device] = before, *model.get_weights()
    exact = precision == "float32"
    for got, want in zip(*(found[device] for device in ("cuda", "cpu")), strict=True):
        close(got, want, 3e-5 if exact else ROUNDED[precision])
    assert exact or np.abs(found["cuda"][0] - found["cpu"][0]).max() > 1e-6
    assert {kind for kind, _ in chosen} == set(KINDS)
    assert all(more["precision"] == precision and more.get("sweep", sweep) == sweep for _, more in chosen)


@pytest.mark.parametrize(
    ("layers", "dtype", "how", "error", "says"),
    [
        ((), "float32", {"precision": "tf23"}, ValueError, "precision must be one of .*, not 'tf23': did you mean 'tf32'"),
        ((), "float32", {"sweep": "row"}, ValueError, "sweep must be one of 'registers', .*: did you mean 'rows'"),
        ((), "float64", {"precision": "tf32"}, ValueError, "precision: expected float64 for a layer in float64, got 'tf32'"),
        ((LSTM(65),), "float32", {"precision": "tf32", "sweep": "registers"}, ValueError, "up to 64 units in tf32, not 65"),
        ((Bidirectional(LSTM(3)),), "float32", {"sweep": "registers"}, ValueError, "layer forward_lstm: sweep: 'registers'"),
        (
            (LSTM(3, recurrent_dropout=0.1),),
            "float32",
            {"precision": "tf32", "sweep": "registers"},
            ValueError,
            "layer lstm: sweep: 'registers' needs",
        ),
    ],
)
def test_choices_that_do_not_fit_are_refused(gpu, layers, dtype, how, error, says):
    model = Sequential(layers, dtype=dtype)
    with pytest.raises(error, match=says):
        model.to("cuda", **how)
    assert model.device == "cpu"
    if layers:
        with pytest.raises(error, match=says.partition("lstm: ")[2] or says):
            Sequential().to("cuda", **how).add(layers[0])


def test_choices_are_of_a_gpu(gpu, monkeypatch):
    for name, value in (("stream", 12), ("precision", "tf32"), ("sweep", "rows")):
        with pytest.raises(ValueError, match=f"{name} is for device='cuda' or 'auto', not for 'cpu'"):
            lstm().to("cpu", **{name: value})
    with monkeypatch.context() as patch:
        patch.setattr("numlstm.devices.choose", lambda device: "cpu")  # there is no GPU
        assert lstm().to("auto", precision="tf32", sweep="rows").device == "cpu"
    model = lstm().to("cuda", precision="tf32")
    assert model.to("cuda").backend.precision == "tf32"  # as it is
    assert model.to("cuda", sweep="steps").backend.precision is None
    monkeypatch.setattr(gpu, "CAPABILITY", (7, 5))
    with pytest.raises(DeviceError, match=r"precision='bfloat16' needs compute capability 8\.0, and this GPU has 7\.5"):
        model.to("cuda", precision="bfloat16")
    model.to("cuda", precision="float32")
