"""Every Python block of the README runs as it stands, and its test command is one line."""

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)


def test_there_are_blocks():
    assert BLOCKS


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block_runs(run_python, number):
    run_python(BLOCKS[number])


def test_the_test_command_is_one_line():
    assert len(re.findall(r"^python3 -m venv .*pytest$", TEXT, re.M)) == 1
