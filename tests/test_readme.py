"""Every block of the README runs as it stands; its two lines that make an environment are run by `.ci/run`."""

import importlib.util
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)
SHELL = re.findall(r"^```\n(.*?)^```", TEXT, re.M | re.S)
ENVIRONMENTS = re.findall(r"^python3 -m venv .*$", TEXT, re.M)


def test_there_are_blocks():
    assert len(PYTHON) >= 3 and len(SHELL) >= 3


# Keras makes arrays of PyTorch's tensors in a way of which NumPy 2 warns.
_QUIET = "import warnings; warnings.filterwarnings('ignore', '__array__ implementation')\n"
LIBRARIES = "torch", "keras", "onnx", "onnxruntime"  # each an extra of its own, and not in `test`


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python_runs(run_python, number):
    for library in re.findall(r"^(?:import|from) (\w+)", PYTHON[number], re.M):
        if library in LIBRARIES and importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed; .ci/run has it beside the wheel")
    run_python(_QUIET + PYTHON[number], KERAS_BACKEND="torch")


def test_commands_run(run_python, tmp_path):
    """In order, on a file of the name and with the column that they ask for."""
    commands = [line for block in SHELL for line in block.splitlines() if line.startswith("numlstm ")]
    assert [shlex.split(command)[1] for command in commands] == ["train", "predict"]
    days = np.arange(np.datetime64("2023-01-01"), np.datetime64("2024-06-01"))
    revenue = 1000 + 2 * np.arange(len(days)) + 300 * (np.arange(len(days)) % 7 > 4)
    rows = [f"{day},{value}" for day, value in zip(days, revenue, strict=True)]
    (tmp_path / "sales.csv").write_text("\n".join(["day,revenue", *rows]) + "\n", encoding="utf-8")
    for command in commands:
        arguments = shlex.split(command)[1:]
        done = run_python("import sys; from numlstm.cli import main; sys.exit(main(sys.argv[1:]))", *arguments)
    forecast = done.stdout.splitlines()
    assert forecast[0] == "day,revenue"
    days, values = zip(*(line.split(",") for line in forecast[1:]), strict=True)
    assert list(days) == [f"2024-06-0{day}" for day in range(1, 8)]
    assert all(1000 < float(value) < 4000 for value in values), values


def test_the_lines_that_make_environments():
    main_job, tests = ENVIRONMENTS
    assert main_job.endswith("numlstm train") and " -m pytest -n 2 " in tests


def test_pictures_are_there():
    pictures = re.findall(r"!\[.+\]\((.+?)\)", TEXT)
    assert pictures
    for picture in pictures:
        file = Path(__file__).parents[1] / picture
        assert file.read_bytes().startswith(b"\x89PNG")


def test_the_contents_lead_to_all_sections():
    heads = re.findall(r"^## (.+)$", TEXT, re.M)
    targets = re.findall(r"\]\(#(.+?)\)", TEXT)
    assert targets == [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads]
