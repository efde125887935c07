import sys
from datetime import datetime, timedelta

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="pictures need matplotlib, an extra")

from matplotlib.figure import Figure

from numlstm import GRU, Bidirectional, Sequential, plot

DAYS = [datetime(2015, 1, 1) + timedelta(days=i) for i in range(100)]


def test_a_forecast_and_its_end_close_up(rng, tmp_path):
    loaded = set(sys.modules)  # other tests load other libraries, which may load pyplot
    truth = rng.normal(size=100)
    made = truth + 0.1
    path = tmp_path / "f.png"
    figure = plot.forecast(truth, made, DAYS, (made - 1, made + 2), "temp (°C)", "Title", path, band_label="80 % range")
    whole, close_up = figure.axes
    for axes, count in ((whole, 100), (close_up, 60)):
        drawn = {line.get_label(): np.asarray(line.get_ydata(), float).tolist() for line in axes.lines}
        assert drawn == {"truth": truth[-count:].tolist(), "forecast": made[-count:].tolist()}
        assert axes.get_ylabel() == "temp (°C)"
    assert close_up.get_xlabel() == "date"
    assert [text.get_text() for text in whole.get_legend().get_texts()] == [
        "80 % range",
        "truth",
        "forecast",
    ]
    assert whole.get_title(loc="left") == "Title"
    assert close_up.get_title(loc="left") == "The last 60 values"
    ticks = [text.get_text() for text in close_up.get_xticklabels()]
    assert "Mar" in " ".join(ticks)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert "matplotlib.pyplot" not in set(sys.modules) - loaded


def test_a_short_forecast_without_dates():
    (axes,) = plot.forecast([1, 2], [2, 3]).axes
    assert axes.lines[0].get_xdata().tolist() == [0, 1]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["truth", "forecast"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time step", "value")
    assert plot.forecast([1, 2], [2, 3], [3, 4], time_label="week").axes[0].get_xlabel() == "week"


def test_in_axes_that_are_given(rng):
    figure = Figure()
    axes = figure.subplots(1, 3)
    truth = rng.normal(size=100)
    assert plot.forecast(truth, truth, ax=axes[0]) is figure
    assert plot.history({"loss": [2, 1], "mae": [1, 1], "val_mae": [1, 1]}, ax=axes[1], title="Loss") is figure
    assert plot.gradient_by_lag([1, 0.1], ax=axes[2]) is figure
    assert figure.axes == list(axes)
    assert [len(each.lines) for each in axes] == [2, 1, 1]
    assert axes[1].get_title(loc="left") == "Loss" and axes[1].get_ylabel() == "loss"


def test_settings_and_backend_are_left_alone(run_python):
    run_python(
        "import sys, matplotlib, numpy as np\n"
        "from numlstm import plot\n"
        "before = matplotlib.rcParams.copy()\n"
        "trace = {'gru': {name: np.ones((1, 3, 2)) for name in 'rznh'}}\n"
        "plot.forecast([1, 2], [2, 3], path='forecast.png'), plot.history({'loss': [1]}, path='history.png')\n"
        "plot.gates(trace, path='gates.png'), plot.gradient_by_lag([1], path='gradient.png')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert [key for key in before if key != 'backend' and before[key] != matplotlib.rcParams[key]] == []"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], [1]), r"one shape \(T,\) with T at least 2, not \(2,\) and \(1,\)$"),
        (([1], [1]), r"one shape \(T,\) with T at least 2, not \(1,\) and \(1,\)$"),
        (([[1, 2]], [[1, 2]]), r"one shape \(T,\) with T at least 2, not \(1, 2\) and \(1, 2\)$"),
        (([1, 2], [1, 2], [0]), r"^times and band must go with the 2 values: T times, and a band of shape \(2, T\)$"),
        (([1, 2], [1, 2], None, [1, 2]), r"^times and band must go with the 2 values"),
    ],
)
def test_what_does_not_go_together(arguments, message):
    with pytest.raises(ValueError, match=message):
        plot.forecast(*arguments)


def test_a_history(tmp_path):
    path = tmp_path / "h.png"
    logs = {"loss": [3, 2], "mae": [1, 2], "val_loss": [4, 5], "val_mae": [6, 7]}
    loss, mae = plot.history(logs, path, label="squared error (m²)").axes
    for axes, (training, validation) in ((loss, ([3, 2], [4, 5])), (mae, ([1, 2], [6, 7]))):
        drawn = {line.get_label(): (line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axes.lines}
        assert drawn == {"training": ([1, 2], training), "validation": ([1, 2], validation)}
        assert len({line.get_linestyle() for line in axes.lines}) == len({line.get_color() for line in axes.lines}) == 2
    assert (loss.get_ylabel(), mae.get_ylabel(), mae.get_xlabel()) == ("squared error (m²)", "mae", "epoch")
    assert path.read_bytes().startswith(b"\x89PNG")
    (axes,) = plot.history({"loss": [3]}).axes
    assert axes.lines[0].get_marker() == "o"  # a line through one point would not be seen
    with pytest.raises(ValueError, match=r"with 'loss' for at least one epoch$"):
        plot.history({"loss": []})


def test_gates(rng, tmp_path):
    path = tmp_path / "g.png"
    trace = {
        "lstm": {name: rng.uniform(0, 3 if name == "c" else 1, (2, 7, 4)) for name in "ifgoch"},
        "simplernn": {"h": rng.uniform(-1, 1, (2, 7, 3))},
    }
    figure = plot.gates(trace, n=1, title="Title", path=path)
    lstm, simple = figure.subfigs
    assert (lstm.get_suptitle(), simple.get_suptitle(), figure.get_suptitle()) == ("lstm", "simplernn", "Title")
    shown = {}
    for part, arrays in zip(figure.subfigs, trace.values(), strict=True):
        for axes in part.axes:
            for image in axes.images:
                name = axes.get_title(loc="left")[-1]
                np.testing.assert_array_equal(image.get_array(), arrays[name][1].T)
                assert axes.get_ylabel() == "unit"
                shown[part.get_suptitle(), name] = image.get_clim()
    reach = trace["lstm"]["c"][1].max()
    assert shown == {
        **{("lstm", name): (0, 1) for name in "ifo"},
        **{("lstm", name): (-1, 1) for name in "gh"},
        ("lstm", "c"): (-reach, reach),
        ("simplernn", "h"): (-1, 1),
    }
    means = {line.get_label(): line.get_ydata() for line in lstm.axes[0].lines}
    assert list(means) == ["i", "f", "o"]
    np.testing.assert_allclose(means["f"], trace["lstm"]["f"][1].mean(axis=1))
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [part.get_suptitle() for part in plot.gates(trace, layer="simplernn").subfigs] == ["simplernn"]
    with pytest.raises(ValueError, match="layer 'gru' is not in the trace: it has lstm, simplernn"):
        plot.gates(trace, layer="gru")
    with pytest.raises(ValueError, match="n is 2, but the trace has 2 sequences"):
        plot.gates(trace, n=2)


def test_gradients_by_lag(tmp_path):
    path = tmp_path / "g.png"
    norms = {"one": [[4.0, 2, 0], [6, 4, 0], [5, 3, 1]], "other": [1, 1e-30]}
    (axes,) = plot.gradient_by_lag(norms, "Title", path).axes
    drawn = {line.get_label(): (line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axes.lines}
    assert drawn == {"one": ([0, 1, 2], [5, 3, 1]), "other": ([0, 1], [1, 1e-30])}
    assert axes.get_yscale() == "log" and axes.get_xlabel() == "time lag k (steps)" and "norm" in axes.get_ylabel()
    assert path.read_bytes().startswith(b"\x89PNG")
    assert plot.gradient_by_lag([[1.0, 0.5]]).axes[0].get_legend() is None
    for wrong, says in (([], "not \\(1, 0\\)"), ({}, "at least one model"), ({"a": np.ones((1, 1, 1))}, "norms of a must")):
        with pytest.raises(ValueError, match=says):
            plot.gradient_by_lag(wrong)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r'^pictures need matplotlib: pip install "numlstm\[plot\]"$'):
        plot.forecast([1, 2], [2, 3])


def test_gates_end_where_the_sequence_does(rng):
    """Past its length a trace is 0, which would be drawn as gates that close."""
    trace = Sequential([Bidirectional(GRU(3))]).trace(rng.standard_normal((2, 9, 2)), lengths=[9, 4])
    for n, steps in enumerate([9, 4]):
        for part in plot.gates(trace, n=n).subfigs:
            curves = [line for ax in part.axes for line in ax.lines if len(line.get_xdata()) > 2]
            assert {len(line.get_xdata()) for line in curves} == {steps}
            assert {image.get_array().shape for ax in part.axes for image in ax.images} == {(3, steps)}
