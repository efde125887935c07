"""Shared by all tests: made-up layers, and processes of their own."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `reference`, `support`

from support import Layer


@pytest.fixture
def rng():
    return np.random.default_rng(12345)


@pytest.fixture
def make_layer(rng):
    """Return a function of (N, T, I, H, dtype) that makes a layer with inputs and upstream gradients."""
    return lambda *sizes, dtype=np.float32: Layer.random(rng, *sizes, dtype=dtype)


@pytest.fixture(autouse=True)
def _threads_as_before():
    """Put the number of threads back after a test that sets it."""
    import numlstm

    before = numlstm.get_num_threads()
    yield
    numlstm.set_num_threads(before)


@pytest.fixture
def all_dealt_out(monkeypatch):
    """Let work fall into as many parts as there are threads, however small it is."""
    monkeypatch.setattr("numlstm.backend.runtime.WORTH_A_THREAD", 1)


@pytest.fixture
def run_python(tmp_path):
    """Return a function that runs a script in a process of its own, with the environment changed, and returns its output."""
    import subprocess

    def run(script, *arguments, check=True, **environment):
        env = {**os.environ, **environment}
        env = {name: value for name, value in env.items() if value is not None}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run
