"""benchmarks/regress.py: what it compares, how it judges, and a run of it in a clone made for that."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import IN_SOURCE_TREE, KERNELS, PACKAGE

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
pytestmark = [
    pytest.mark.skipif(not (BENCHMARKS.is_dir() and IN_SOURCE_TREE), reason="the benchmarks are in the source tree only"),
    pytest.mark.skipif(shutil.which("git") is None, reason="commits need git"),
]


@pytest.fixture
def regress(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("regress")


def _git(root, *arguments):
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def clone(regress, tmp_path, monkeypatch):
    """Return a folder with one commit, which regress.py takes for its own."""
    root = tmp_path / "clone"
    (root / "numlstm").mkdir(parents=True)
    (root / "numlstm" / "__init__.py").write_text("first")
    (root / "removed.txt").write_text("first")
    (root / ".gitignore").write_text("*.log\n")
    _git(root, "init", "-q", "-b", "main")
    _git(root, "add", "-A")
    _git(root, "commit", "-qm", "first")
    monkeypatch.setattr(regress, "ROOT", root.resolve())
    return root


@pytest.mark.parametrize(
    ("passes", "settled", "word"),
    [
        ([(1.0, 1.0)], True, ""),
        ([(1.1, 1.1)], True, ""),
        ([(0.5, 0.5)], True, "faster"),
        ([(0.5, 1.0)], True, ""),
        ([(1.2, 1.0)], False, "slower"),  # by medians alone is slower too, if it stays so
        ([(1.0, 1.2)], False, "slower"),
        ([(1.2, 1.2), (1.0, 1.0)], True, ""),
        ([(1.2, 1.2), (2.0, 1.0)], False, "slower"),
        ([(1.2, 1.2), (2.0, 1.0), (1.0, 1.3)], True, "slower"),
        ([(1.2, 1.2), (2.0, 1.0), (1.0, 1.05)], True, ""),
    ],
)
def test_the_verdict(regress, passes, settled, word):
    passes = [regress.Ratios(*each) for each in passes]
    assert regress.is_settled(passes, 1.1, repeats=2) is settled
    assert regress.verdict(passes, 1.1)[1] == word


def test_the_table_shows_the_mildest_pass(regress):
    row = regress.Row("forward", regress.Shape(1, 2, 3, 4))
    summaries = [
        {
            "base": {"median": 1.0, "best": 0.5, "noisy": False},
            "head": {"median": 1.0 * factor, "best": 0.5 * factor, "noisy": factor == 2},
        }
        for factor in (3, 2, 4)
    ]
    passes = [regress.ratios(**summary) for summary in summaries]
    text, slower = regress.table({row: regress.Found(summaries, passes)}, 1.1, peak=1.0)
    assert slower == [row]
    assert text.splitlines()[-1] == (
        "| forward | 1,2,3,4 | 1000.000 / 500.000 | 2000.000 / 1000.000 | 0 % | 2.00 / 2.00 | 3 | slower, noisy |"
    )


def test_the_working_tree_with_its_changes(regress, clone, tmp_path):
    (clone / "numlstm" / "__init__.py").write_text("changed")
    (clone / "added.txt").write_text("added")
    (clone / "ignored.log").write_text("ignored")
    (clone / "removed.txt").unlink()
    before = _git(clone, "status", "--porcelain")
    with regress.versions("main", None) as (base, head):
        assert base.name == f"main ({_git(clone, 'rev-parse', '--short', 'HEAD')})"
        assert "with changes" in head.name
        assert {path.name for path in base.folder.iterdir()} == {"numlstm", "removed.txt", ".gitignore"}
        assert {path.name for path in head.folder.iterdir()} == {"numlstm", "added.txt", ".gitignore"}
        assert (base.folder / "numlstm" / "__init__.py").read_text() == "first"
        assert (head.folder / "numlstm" / "__init__.py").read_text() == "changed"
    assert not base.folder.exists()
    assert _git(clone, "status", "--porcelain") == before


def test_a_tree_without_changes_is_the_same(regress, clone):
    with regress.versions("HEAD", None) as (base, head):
        assert base.tree == head.tree
        assert "without changes" in head.name


def test_what_cannot_be_compared(regress, clone, monkeypatch):
    with (
        pytest.raises(regress.CannotCompareError, match=r"'mian' is no commit of this clone: check the name"),
        regress.versions("mian", None),
    ):
        pass
    _git(clone, "rm", "-q", "-r", "numlstm")
    _git(clone, "commit", "-qm", "without")
    with (
        pytest.raises(regress.CannotCompareError, match=r"main .* holds no package numlstm"),
        regress.versions("main", None),
    ):
        pass
    (clone / "inner").mkdir()
    monkeypatch.setattr(regress, "ROOT", clone / "inner")
    with pytest.raises(regress.CannotCompareError, match="inner is not a clone"), regress.versions("main", None):
        pass


CHANGES = {  # text of functional/_forward.py, what replaces it, exit status, what is said
    "the same": ("sweep.forward(cell, x,", "sweep.forward(cell, x,", 0, "the same: ratios show the noise"),
    "slower": (
        "sweep.forward(cell, x,",
        "__import__('time').sleep(0.01); sweep.forward(cell, x,",
        1,
        "beyond 3.00 in each of 2 passes",
    ),
    "wrong, and so not timed": (
        "sweep.forward(cell, x,",
        "sweep.forward(cell, 2 * x,",
        1,
        "WRONG forward 1,9,4,8: head: y is off by ",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run(tmp_path, change):
    old, new, status, said = CHANGES[change]
    root = tmp_path / "clone"
    ignored = shutil.ignore_patterns("__pycache__", "results")
    for folder in (PACKAGE, KERNELS, BENCHMARKS):
        shutil.copytree(folder, root / folder.name, ignore=ignored)
    shutil.copy(PACKAGE.parent / "pyproject.toml", root)
    _git(root, "init", "-q", "-b", "main")
    _git(root, "add", "-A")
    _git(root, "commit", "-qm", "first")
    forward = root / "numlstm" / "functional" / "_forward.py"
    text = forward.read_text(encoding="utf-8")
    assert text.count(old) == 1
    forward.write_text(text.replace(old, new), encoding="utf-8")
    options = "main --shapes 1,9,4,8 --quantities forward --rounds 2 --quick --threads 1 --limit 3 --repeats 1".split()
    done = subprocess.run(
        [sys.executable, str(root / "benchmarks" / "regress.py"), *options], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert said in done.stdout
