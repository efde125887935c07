"""The examples of docs/examples that need numlstm alone, with less to do, do what they say."""

import importlib.util
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[1] / "docs" / "examples"


def _example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_simulation_follows_the_pendulum():
    error = _example("simulation").main(epochs=40, sequences=20)
    assert error[0] < 0.05 and error[9] < 0.2


def test_anomalies_are_found():
    planted, found = _example("anomalies").main(epochs=20, ticks=20_000)
    assert np.array_equal(planted, found)
