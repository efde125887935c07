"""The disk cache: hit by a second process, never stale, never needed."""

import math
import os
import shutil
import sys
import time

import pytest
from support import KERNELS, PACKAGE

RUN = """
import sys
import numpy as np
from numlstm import functional
x, w, u, b = (np.full(shape, 0.5, np.float32) for shape in ((2, 3, 4), (20, 4), (20, 5), (20,)))
out = functional.lstm(x, (w, u, b), tape=False)
print(repr(float(out.y[0, 0, 0])))
from numlstm.kernels import parallel
print(sum(sum(f.stats.cache_hits.values()) for f in (parallel.forward, parallel.pack_cell)))
"""


def _sigmoid(z):
    return 1 / (1 + math.exp(-z))


VALUE = _sigmoid(1.5) * math.tanh(_sigmoid(1.5) * math.tanh(1.5))  # the first step: z = 0.5 * 0.5 * 4 + 0.5


def _result(done):
    value, hits = done.stdout.split()
    return float(value), int(hits)


def test_a_second_process_compiles_nothing(run_python, tmp_path):
    folder = tmp_path / "cache"
    assert _result(run_python(RUN, NUMLSTM_CACHE_DIR=str(folder)))[1] == 0
    files = sorted(folder.glob("*/*/*")) + sorted(folder.glob("*/*"))
    assert files
    stamps = {path: path.stat().st_mtime_ns for path in files if path.is_file()}
    assert _result(run_python(RUN, NUMLSTM_CACHE_DIR=str(folder)))[1] == 2
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}


def test_numbas_own_setting_is_left_alone(run_python, tmp_path):
    run_python(
        RUN + "import numba; assert numba.config.CACHE_DIR == '', numba.config.CACHE_DIR",
        NUMLSTM_CACHE_DIR=str(tmp_path / "cache"),
        NUMBA_CACHE_DIR=None,
    )


def test_switched_off_it_writes_nothing(run_python, tmp_path):
    folder = tmp_path / "cache"
    run_python(RUN, NUMLSTM_CACHE_DIR=str(folder), NUMLSTM_CACHE="0")
    assert not folder.exists()


def test_the_switch_is_0_or_1(run_python):
    assert "NUMLSTM_CACHE must be 0 or 1, not 'off'" in run_python(RUN, check=False, NUMLSTM_CACHE="off").stderr


def test_an_edited_helper_gives_the_new_result(run_python, tmp_path):
    """Numba's own cache would serve the old code: the edited function is one that the cached kernels import."""
    copy = tmp_path / "copy" / "numlstm"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "kernels"))
    shutil.copytree(KERNELS, copy / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {"NUMLSTM_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(copy.parent)}
    before, _ = _result(run_python(RUN, **environment))
    cell = copy / "kernels" / "lstm.py"
    text = cell.read_text()
    assert "o * squash_out(c)" in text
    stat = cell.stat()
    cell.write_text(text.replace("o * squash_out(c)", "o + squash_out(c)"))
    os.utime(cell, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # not even the time of the edit gives it away
    after, hits = _result(run_python(RUN, **environment))
    assert hits == 0
    assert after != pytest.approx(before)
    cell.write_text(text)
    assert _result(run_python(RUN, **environment)) == (before, 2)


def test_a_place_that_cannot_be_written_to(run_python, tmp_path):
    """As in a read-only home: below a file nothing can be made, by root neither."""
    blocker = tmp_path / "file"
    blocker.write_text("")
    for place in ({"NUMLSTM_CACHE_DIR": str(blocker / "cache")}, {"XDG_CACHE_HOME": str(blocker), "HOME": str(blocker)}):
        value, hits = _result(run_python(RUN, **{"NUMLSTM_CACHE_DIR": None, **place}))
        assert value == pytest.approx(VALUE, rel=1e-6)
        if sys.platform not in ("darwin", "win32"):  # where the cache is not below the folders that are set here
            assert hits == 0
        assert blocker.read_text() == ""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write to a read-only folder")
def test_a_full_cache_that_is_read_only_still_serves(run_python, tmp_path):
    folder = tmp_path / "cache"
    run_python(RUN, NUMLSTM_CACHE_DIR=str(folder))
    (inner,) = folder.iterdir()
    inner.chmod(0o555)
    try:
        assert _result(run_python(RUN, NUMLSTM_CACHE_DIR=str(folder)))[1] == 2
    finally:
        inner.chmod(0o755)


@pytest.mark.parametrize("damage", [b"", b"\x80\x04garbage", None], ids=["empty", "garbage", "cut short"])
def test_damaged_files_are_as_good_as_none(run_python, tmp_path, damage):
    folder = tmp_path / "cache"
    before, _ = _result(run_python(RUN, NUMLSTM_CACHE_DIR=str(folder)))
    for path in folder.glob("**/*.nb?"):
        path.write_bytes(path.read_bytes()[:100] if damage is None else damage)
    assert _result(run_python(RUN, NUMLSTM_CACHE_DIR=str(folder)))[0] == before


def test_folders_of_other_versions_go_once_unused(run_python, tmp_path):
    folder = tmp_path / "cache"
    names = {"old": f"kernels-{'0' * 24}", "recent": f"kernels-{'1' * 24}", "photos": "photos", "like": "kernels-notes"}
    folders = {key: folder / name for key, name in names.items()}
    long_ago = time.time() - 40 * 24 * 3600
    for key, path in folders.items():
        path.mkdir(parents=True)
        (path / "file").write_text("")
        if key != "recent":
            os.utime(path, (long_ago, long_ago))
    run_python(RUN, NUMLSTM_CACHE_DIR=str(folder))
    left = {key for key, path in folders.items() if path.exists()}
    assert left == {"recent", "photos", "like"}  # nobody else's folder is touched


def test_the_folder_may_be_relative_or_below_home(run_python, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    later = (
        "import os\nos.chdir('elsewhere')\nout = functional.lstm(x, (w, u, b))\nfunctional.lstm_backward(out.tape, out.y)"
    )
    run_python(RUN + later, NUMLSTM_CACHE_DIR="here")
    run_python(RUN, NUMLSTM_CACHE_DIR="~/there", HOME=str(tmp_path), USERPROFILE=str(tmp_path))
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == []
    assert list((tmp_path / "there").glob("kernels-*/*/*")) or list((tmp_path / "there").glob("kernels-*/*"))
    assert not (tmp_path / "~").exists()


def test_numbas_choice_of_locators_is_not_ours(run_python, tmp_path):
    for hits in (0, 2):
        done = run_python(
            RUN,
            NUMLSTM_CACHE_DIR=str(tmp_path / "cache"),
            NUMBA_CACHE_LOCATOR_CLASSES="InTreeCacheLocator",
        )
        assert _result(done)[1] == hits


def test_compiling_leaves_the_collector_of_garbage_as_it_was(run_python):
    """While it lasts, garbage is looked for less often; also where it ends in an error."""
    done = run_python(
        """
import gc
import numpy as np
from numba.core.errors import TypingError
from numlstm import functional
from numlstm.kernels import parallel
gc.set_threshold(700, 11, 12)
found = []
gc.callbacks.append(lambda phase, info: found.append(gc.get_threshold()))
functional.lstm(np.ones((2, 3, 4)), [np.ones(shape) for shape in ((20, 4), (20, 5), (20,))])
assert (50_000, 11, 12) in found
try:
    parallel.dense(1, 2, 3, 4, 5)
except TypingError:
    print(gc.get_threshold())
""",
        NUMLSTM_CACHE="0",
    )
    assert done.stdout.strip() == "(700, 11, 12)"
