"""The main job in a process of its own, and each thing that can go wrong in one line that says what to do."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import numlstm
from numlstm import cli, forecast, plot

COMMAND = "import sys; from numlstm.cli import main; sys.exit(main(sys.argv[1:]))"
HAS_MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None
WEATHER = "precipitation, temp_max, temp_min, wind"
SMALL = ("--epochs", "1", "--hidden", "2", "--lookback", "4")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refused(capsys):
    """Return a function that runs the command line, which must fail, and returns the one line it says."""

    def run(*arguments, status=2):
        assert cli.main([str(argument) for argument in arguments]) == status
        said = capsys.readouterr().err
        assert said.startswith("numlstm: ")
        assert said.endswith("\n")
        assert said.count("\n") == 1
        return said.removeprefix("numlstm: ").rstrip()

    return run


@pytest.fixture
def waves():
    """Return the path of 120 rows of two waves, and a text column."""
    path = Path("waves.csv")
    lines = ["a,b,kind"] + [f"{np.sin(i / 3):.6f},{np.cos(i / 3):.6f},x" for i in range(120)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_main_job(run_python, tmp_path, capsys):
    done = run_python(
        "import runpy, sys; sys.argv[0] = 'numlstm'; runpy.run_module('numlstm', run_name='__main__')", "train"
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "Seattle weather: 1,461 rows from 2012-01-01 to 2015-12-31"
    assert "not numbers, left out: weather" in lines
    assert "Error of temp_max (°C) in the test, 2015-03-15 to 2015-12-31:" in lines
    assert "  persistence              2.35   3.06" in lines
    assert "  the same day last week   3.94   4.95" in lines
    assert "  the same day last year   3.84   4.94" in lines
    assert all(len(line) < 80 for line in lines)
    assert "Epoch 30/60  loss: " in done.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert set(metrics) == {"model", "persistence", "last_year", "seconds", "epochs"}
    assert 20 < metrics["epochs"] <= 60
    assert metrics["seconds"] > 0
    for measure in ("mae", "rmse"):
        assert metrics["model"][measure] < min(metrics["persistence"][measure], metrics["last_year"][measure])
    if HAS_MATPLOTLIB:
        assert (tmp_path / "forecast.png").read_bytes().startswith(b"\x89PNG")

    assert cli.main(["predict", "model.safetensors"]) == 0
    header, line = capsys.readouterr().out.splitlines()
    day, value = line.split(",")
    assert (header, day) == ("date,temp_max", "2016-01-01")
    assert 0 < float(value) < 15


def test_a_file_of_ones_own(waves, capsys):
    assert cli.main(["train", str(waves), "--target", "b", "--horizon", "2", "--out", "made/here", *SMALL]) == 0
    said = capsys.readouterr().out
    assert "waves.csv: 120 rows\na, b of the last 4 rows -> b of the next 2 rows\nnot numbers, left out: kind\n" in said
    assert "Error of b in the test, 97 to 120:" in said
    assert "No comparison with the year before: the rows have no dates." in said
    assert "The model is no better here than persistence" in said
    metrics = json.loads(Path("made/here/metrics.json").read_text(encoding="utf-8"))
    assert set(metrics) == {"model", "persistence", "seconds", "epochs"}
    assert metrics["epochs"] == 1

    assert cli.main(["predict", "made/here/model.safetensors", str(waves)]) == 0
    said = capsys.readouterr().out
    rows = [line.split(",") for line in said.splitlines()]
    assert [row[0] for row in rows] == ["row", "121", "122"]
    assert rows[0][1] == "b"
    assert all(abs(float(row[1])) < 2 for row in rows[1:])
    assert cli.main(["predict", "made/here/model.safetensors", str(waves), "--out", "next.csv"]) == 0
    assert Path("next.csv").read_bytes() == said.encode()
    assert capsys.readouterr().out == ""


def test_a_model_that_was_there_is_replaced(waves, capsys):
    for verb in ("Wrote", "Replaced"):
        assert cli.main(["train", str(waves), "--target", "b", *SMALL]) == 0
        assert f" s. {verb} model.safetensors, metrics.json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("losses", "falling"),
    [([3, 2, 1], True), ([3, 1, 2], False), ([2, 1, 1], False), ([1], False), ([2, 1, float("nan")], False)],
)
def test_the_best_epoch_is_the_last_one_allowed(waves, monkeypatch, capsys, losses, falling):
    train = forecast.train

    def scripted(*arguments, **options):
        report = train(*arguments, **options)
        report.history.history["val_loss"] = losses
        return report

    monkeypatch.setattr(forecast, "train", scripted)
    assert cli.main(["train", str(waves), "--target", "b", *SMALL]) == 0
    line = "The validation error was still falling: more --epochs may help.\n"
    assert (line in capsys.readouterr().out) is falling


def test_forecasts_in_the_picture_do_not_overlap(waves, monkeypatch):
    drawn = {}
    monkeypatch.setattr(plot, "forecast", lambda *arguments, **words: drawn.update({**dict(enumerate(arguments)), **words}))
    assert cli.main(["train", str(waves), "--target", "b", "--horizon", "2", *SMALL]) == 0
    truth, made, times, band, label, title, path, *words = drawn.values()
    assert times == list(range(97, 121))
    assert truth.tolist() == [float(f"{np.cos(i / 3):.6f}") for i in range(96, 120)]
    assert (band[0] < band[1]).all()
    np.testing.assert_allclose((band[1] - band[0])[::2], (band[1] - band[0])[0])
    assert made.shape == truth.shape
    assert (label, title, path.name) == ("b", "waves: b up to 2 rows ahead, 97 to 120", "forecast.png")
    assert words == ["row", "80 % of the errors in validation"]


def test_without_matplotlib(waves, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert cli.main(["train", str(waves), "--target", "b", *SMALL]) == 0
    assert 'No picture: pictures need matplotlib: pip install "numlstm[plot]".' in capsys.readouterr().out
    assert sorted(path.name for path in Path().iterdir()) == ["metrics.json", "model.safetensors", "waves.csv"]


def test_the_only_column_of_numbers_is_the_target(capsys):
    Path("one.csv").write_text("x\n" + "\n".join(str(i % 7) for i in range(100)), encoding="utf-8")
    assert cli.main(["train", "one.csv", *SMALL]) == 0
    assert "x of the last 4 rows -> x of the next 1 row" in capsys.readouterr().out


@pytest.mark.parametrize("given", [["a,b"], ["a", "b"], ["a, b,a"], ["a,b", "a"]])
def test_features_by_blanks_or_commas(waves, given, capsys):
    assert cli.main(["train", str(waves), "--target", "a", "--features", *given, *SMALL]) == 0
    assert "a, b of the last 4 rows" in capsys.readouterr().out


def test_a_feature_with_a_comma_in_its_name(capsys):
    Path("f.csv").write_text('"a,b",c\n' + "\n".join(f"{i % 7},{i % 5}" for i in range(100)), encoding="utf-8")
    assert cli.main(["train", "f.csv", "--target", "c", "--features", "a,b", "c", *SMALL]) == 0
    assert "a,b, c of the last 4 rows -> c" in capsys.readouterr().out


def test_info(capsys):
    assert cli.main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["numlstm", numlstm.__version__]
    found = {line[:17].strip(): line[17:] for line in lines if line[0] != " "}
    assert list(found) == [
        *("numlstm", "Python", "NumPy, Numba", "CPU", "CPU features", "vector width"),
        *("threads", "threading layer", "cache folder", "GPU"),
    ]
    assert found["GPU"] == "not used: this version computes on the CPU only"
    assert found["threads"].startswith(f"{numlstm.get_num_threads()} of ")


def test_version_and_help(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"numlstm {numlstm.__version__}\n"
    assert cli.main([]) == 0
    assert "numlstm predict sales/model.safetensors sales.csv" in capsys.readouterr().out
    for command in ("train", "predict", "info"):
        assert cli.main([command, "-h"]) == 0
        assert capsys.readouterr().out.startswith(f"usage: numlstm {command} ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lookback", "0"], "argument --lookback: must be a whole number of at least 1, not '0': see `numlstm train -h`"),
        (["--horizon", "-1"], "argument --horizon: must be a whole number of at least 1, not '-1'"),
        (["--epochs", "1.5"], "argument --epochs: must be a whole number of at least 1, not '1.5'"),
        (["--hidden", "many"], "argument --hidden: must be a whole number from 1 to 8192, not 'many'"),
        (["--layers", "33"], "argument --layers: must be a whole number from 1 to 32, not '33'"),
        (["--seed", "-1"], "argument --seed: must be a whole number of at least 0, not '-1'"),
        (["--seed", "9" * 5000], "argument --seed: must be a whole number of at least 0, not '999"),
        (["--epochs"], "argument --epochs: expected one argument"),
        (["--target", "temp"], f"Seattle weather has no column 'temp' of numbers, only {WEATHER}"),
        (["--target", "weather"], f"Seattle weather has no column 'weather' of numbers, only {WEATHER}"),
        (["--features", "winds"], f"Seattle weather has no column 'winds' of numbers, only {WEATHER}: did you mean 'wind'?"),
        (["--lookback", "1000"], "Seattle weather: 1461 rows are too few: it takes 1587 to look back 1000 rows, "),
        (
            ["--target", "a"],
            f"Seattle weather has no column 'a' of numbers, only {WEATHER}; for a file of your own, give it be",
        ),
        (
            ["--features", "wind", "f.csv"],
            f"Seattle weather has no column 'f.csv' of numbers, only {WEATHER}; for a file of ",
        ),
        (["--features", ","], f"--features names no column: choose from {WEATHER}"),
        (["none.csv"], "none.csv: No such file or directory: check the path"),
        (["."], ".: "),
        (["a", "b"], "unrecognized arguments: b: see `numlstm train -h`"),
        (["--targt", "a"], "unrecognized arguments: --targt (did you mean --target?): see `numlstm train -h`"),
        (["--epcohs=3"], "unrecognized arguments: --epcohs=3 (did you mean --epochs?): see `numlstm train -h`"),
    ],
)
def test_training_that_is_refused(refused, arguments, message):
    assert refused("train", *arguments).startswith(message)


def test_other_commands_that_are_refused(refused):
    assert refused("trian").startswith("argument COMMAND: invalid choice: 'trian' (choose from ")
    assert refused("predict") == "the following arguments are required: MODEL: see `numlstm predict -h`"
    assert refused("predict", "m", "--target", "a") == "unrecognized arguments: --target a: see `numlstm predict -h`"
    assert refused("--target") == "unrecognized arguments: --target: see `numlstm -h`"
    assert refused("predict", "none") == "none: No such file or directory: check the path"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "bad.csv is empty: it needs a line that names the columns, and rows"),
        ("a,b\n1,2\n", "--target is missing: choose the column to forecast from a, b"),
        ("a\nx\n", "bad.csv has no column of numbers: there is nothing to forecast"),
        ("date,a\n2012-01-01,1\n2012-02-30,1\n", "bad.csv, line 3, column 'date': '2012-02-30' is no ISO date: write it "),
        (
            "date,a\n2012-01-01,1\n2012-01-02,1\n2012-01-04,1\n",
            "bad.csv, line 4: 2012-01-04 follows 2012-01-02, a gap, as most ",
        ),
        ("a\n1\n2\nx\n", "bad.csv, line 4, column 'a': the cell is 'x', not a number: put a number there, or do without "),
        ("a\n1\n2\n", "bad.csv: 2 rows are too few: it takes "),
        (
            "a\n" + "1\n" * 200,
            "bad.csv: column 'a' is constant, 1 in all of the 130 rows to learn from: choose another target",
        ),
    ],
)
def test_files_that_are_refused(refused, content, message):
    Path("bad.csv").write_text(content, encoding="utf-8")
    assert refused("train", "bad.csv", "--out", "made").startswith(message)
    assert not Path("made").exists()


def test_a_folder_that_cannot_be_written_to(refused, waves, monkeypatch):
    said = refused("train", "--out", waves / "x")
    assert said.startswith(f"cannot write to the folder {waves / 'x'} (")
    assert said.endswith("): choose another one with --out")
    assert refused("train", "--out", waves).startswith(f"cannot write to the folder {waves} (")

    def forbidden(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(cli.tempfile, "TemporaryFile", forbidden)
    assert refused("train") == "cannot write to the folder . (Permission denied): choose another one with --out"


def test_models_that_are_refused(refused, waves, capsys):
    assert cli.main(["train", str(waves), "--target", "a", *SMALL]) == 0
    assert capsys.readouterr().err.startswith("Epoch 1/1  loss: ")
    model = Path("model.safetensors")
    assert refused("predict", model) == f"Seattle weather has no column 'a' of numbers, only {WEATHER}"
    Path("less.csv").write_text("a\n1\n2\n3\n4\n", encoding="utf-8")
    assert refused("predict", model, "less.csv") == "less.csv has no column 'b' of numbers, only a"
    Path("short.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    assert refused("predict", model, "short.csv") == "short.csv has too few rows, 1: the model looks back 4"
    Path("hole.csv").write_text("a,b\n1,2\n3,\n5,6\n7,8\n", encoding="utf-8")
    assert refused("predict", model, "hole.csv") == "hole.csv, line 3, column 'b': the cell is empty: put a number there"
    assert "none: No such folder, create it first" in refused("predict", model, waves, "--out", "none/x.csv")
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    assert refused("predict", model, waves).startswith(
        "model.safetensors is damaged (its content does not match its SHA-256)"
    )
    assert refused("predict", waves).startswith("waves.csv is not a safetensors file, or was cut off")
    numlstm.Sequential([numlstm.LSTM(2, input_shape=(4, 1)), numlstm.Dense(1)]).save("other.safetensors")
    assert refused("predict", "other.safetensors", waves) == (
        "other.safetensors holds a model that was not made by `numlstm train`: give one that was"
    )


def _raises(error):
    def train(*arguments, **options):
        raise error

    return train


def test_an_interruption(refused, monkeypatch):
    monkeypatch.setattr(forecast, "train", _raises(KeyboardInterrupt()))
    assert refused("train", status=130) == "interrupted"


def test_too_little_memory(refused, monkeypatch):
    monkeypatch.setattr(forecast, "train", _raises(MemoryError("Unable to allocate 3 GiB")))
    assert refused("train") == (
        "not enough memory (Unable to allocate 3 GiB): choose smaller --hidden, --lookback or --horizon"
    )


def test_a_reader_that_closes_its_end():
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", f"input(); {COMMAND}", "info"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(numlstm.__file__).parents[1],
    )
    process.stdout.close()
    process.stdin.write(b"go\n")
    process.stdin.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 1


def test_a_terminal_without_the_letters(run_python):
    done = run_python(COMMAND, "train", "--target", "é", check=False, PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert done.stderr.startswith("numlstm: Seattle weather has no column '\\xe9' of numbers")
