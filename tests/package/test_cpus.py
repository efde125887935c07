"""How many CPUs and threads there are: affinity, quotas of control groups as files made up here, environment variables."""

import math
import os

import pytest

from numlstm import _cpus

V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
OTHER = "33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset"
V1_FILES = "sys/fs/cgroup/cpu,cpuacct"


def _v1(folder, quota, period=100_000):
    return {f"{V1_FILES}{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{V1_FILES}{folder}/cpu.cfs_period_us": f"{period}\n"}


CASES = {
    "v2, none": (V2, "0::/", {}, math.inf),
    "v2, max": (V2, "0::/a", {"sys/fs/cgroup/a/cpu.max": "max 100000\n"}, math.inf),
    "v2, a container's own namespace": (V2, "0::/", {"sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2.5),
    "v2, the group above": (
        V2,
        "0::/a/b",
        {"sys/fs/cgroup/a/cpu.max": "150000 100000\n", "sys/fs/cgroup/a/b/cpu.max": "400000 100000\n"},
        1.5,
    ),
    "v2, the group itself": (
        V2,
        "0::/a/b",
        {"sys/fs/cgroup/a/cpu.max": "max 100000\n", "sys/fs/cgroup/a/b/cpu.max": "30000 100000\n"},
        0.3,
    ),
    "v1, none": (V1.format(top="/"), "4:cpu,cpuacct:/a", _v1("/a", -1), math.inf),
    "v1": (V1.format(top="/"), "5:cpuset:/x\n4:cpu,cpuacct:/a\n0::/", _v1("/a", 300_000, 200_000), 1.5),
    "v1, the group above": (V1.format(top="/"), "4:cpu,cpuacct:/a/b", {**_v1("/a", 50_000), **_v1("/a/b", -1)}, 0.5),
    "v1, Docker mounts the group alone": (V1.format(top="/docker/1"), "4:cpu,cpuacct:/docker/1/x", _v1("/x", 700_000), 7),
    "v1, a path of another namespace": (V1.format(top="/docker/1"), "4:cpu,cpuacct:/elsewhere", _v1("", 700_000), 7),
    "both, v1 has the CPUs": (f"{V2}\n{OTHER}\n{V1.format(top='/')}", "4:cpu,cpuacct:/\n0::/", _v1("", 100_000), 1),
    "nonsense in the file": (V2, "0::/", {"sys/fs/cgroup/cpu.max": "much\n"}, math.inf),
    "a period of zero": (V2, "0::/", {"sys/fs/cgroup/cpu.max": "100000 0\n"}, math.inf),
}


@pytest.fixture
def root(tmp_path):
    """Return a function that makes files below a folder, which it returns."""

    def make(mounts, groups, files):
        for name, text in {"proc/self/mountinfo": mounts + "\n", "proc/self/cgroup": groups + "\n", **files}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return make


@pytest.mark.parametrize("case", CASES)
def test_the_quota(root, case):
    *files, want = CASES[case]
    assert _cpus._quota(root(*files)) == want


def test_without_such_files_there_is_no_quota(tmp_path):
    assert _cpus._quota(tmp_path) == math.inf


@pytest.mark.parametrize(("quota", "count"), [(10_000, 1), (100_000, 1), (110_000, 2), (199_000, 2), (6_400_000, 8)])
def test_the_quota_is_rounded_up_and_bounds_the_affinity(root, monkeypatch, quota, count):
    monkeypatch.setattr(os, "process_cpu_count", lambda: 8, raising=False)
    assert _cpus.available_cpus(root(V2, "0::/", {"sys/fs/cgroup/cpu.max": f"{quota} 100000\n"})) == count


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_the_affinity_counts(run_python):
    one = min(os.sched_getaffinity(0))
    assert (
        run_python(f"import os; os.sched_setaffinity(0, [{one}]); import numlstm; print(numlstm.get_num_threads())").stdout
        == "1\n"
    )


@pytest.mark.parametrize(
    ("said", "numbas", "count"), [("3", "1", 3), (None, None, None), (None, "1", 1), (None, "999", None), (None, "0x", None)]
)
def test_the_default_thread_count(run_python, said, numbas, count):
    environment = {"NUMLSTM_NUM_THREADS": said, "NUMBA_NUM_THREADS": numbas}
    done = run_python("import numlstm; print(numlstm.get_num_threads())", **environment)
    assert int(done.stdout) == (count or _cpus.available_cpus())


@pytest.mark.parametrize("said", ["many", "0", "-2"])
def test_a_thread_count_that_is_none(run_python, said):
    done = run_python("import numlstm; numlstm.get_num_threads()", check=False, NUMLSTM_NUM_THREADS=said)
    assert "NUMLSTM_NUM_THREADS must be" in done.stderr


STAT = "77 (a) b) c) S 1 1 1 0 -1 {flags} 0 0 0\n"


@pytest.mark.parametrize("library", ["/usr/lib/libgomp.so.1.0.0", "/usr/lib/libm.so.6"])
@pytest.mark.parametrize("flags", [0x400040, 0x400000])
def test_whether_the_parent_may_have_run_openmp(tmp_path, flags, library):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/stat").write_text(STAT.format(flags=flags))
    (tmp_path / "proc/self/maps").write_text(f"7f00-7f01 r-xp 00000000 08:01 99    {library}\n")
    assert _cpus.inherited_openmp(tmp_path) == (flags == 0x400040 and "gomp" in library)
    assert not _cpus.inherited_openmp(tmp_path / "nowhere")


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc on this system")
def test_a_program_that_was_started_by_another_has_inherited_nothing(run_python):
    run_python("import ctypes; from numlstm import _cpus; assert not _cpus.inherited_openmp()")
