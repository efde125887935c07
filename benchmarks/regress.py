"""Is one commit slower than another? ``regress.py BASE [HEAD]``: two commits, or a commit and the working tree.

Each is checked out into a folder of its own and runs in a process of its own; rounds go from one to the other, one computes
at a time. Results are checked against the textbook in float64 NumPy before anything is timed. A ratio is HEAD's time /
BASE's, by medians and by bests. Where one of the two is beyond the limit, both commits are measured again in new
processes: it counts if it is beyond the limit each time.

Exit status: 0 for no slower, 1 for slower or wrong results, 2 where the two cannot be compared.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS / "peers")]
import cpu  # noqa: E402
import report  # noqa: E402
from problem import Shape  # noqa: E402

PASSES = {"forward": 1, "forward_backward": 3, "training_step": 3}  # times as many multiplications as forward
QUICK = [Shape(1, 100, 16, 32), Shape(32, 60, 1, 50)]
SHAPES = [*QUICK, Shape(1, 100, 64, 128), Shape(32, 100, 64, 128), Shape(64, 50, 256, 256)]
SLOWER = "slower"


class CannotCompareError(Exception):
    """What keeps the two from being compared, in one line."""


class Ratios(NamedTuple):
    """HEAD's time / BASE's, of one pass."""

    median: float
    best: float

    @property
    def worst(self) -> float:
        return max(self)


def ratios(base: dict[str, Any], head: dict[str, Any]) -> Ratios:
    """Compare two summaries of `cpu.Runs`."""
    return Ratios(head["median"] / base["median"], head["best"] / base["best"])


def is_settled(passes: list[Ratios], limit: float, repeats: int) -> bool:
    """Return whether no further pass is needed: one was within the limit, or enough were beyond."""
    return bool(passes) and (passes[-1].worst <= limit or len(passes) > repeats)


def verdict(passes: list[Ratios], limit: float) -> tuple[Ratios, str]:
    """Return the mildest pass, and what follows: "slower" beyond the limit, "faster" as far on the other side, or ""."""
    mildest = min(passes, key=lambda found: found.worst)
    if mildest.worst > limit:
        return mildest, SLOWER
    return mildest, "faster" if mildest.worst < 1 / limit else ""


# --- commits ---


class Version(NamedTuple):
    name: str
    tree: str  # git's name of what is in it
    folder: Path


def git(*arguments: str, **environment: str) -> str:
    """Return what git says; CannotCompareError with its complaint."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment}
        )
    except FileNotFoundError:
        raise CannotCompareError("there is no git: install it") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise CannotCompareError(f"git {arguments[0]}: {said[0]}")
    return done.stdout.strip()


def find(commit: str) -> tuple[str, str]:
    """Return a commit's name for people, and its tree."""
    try:
        found = git("rev-parse", "--verify", "--short", f"{commit}^{{commit}}")
    except CannotCompareError:
        advice = "git fetch it first: a shallow clone holds the newest commits only"
        raise CannotCompareError(f"{commit!r} is no commit of this clone: check the name, or {advice}") from None
    return (commit if found.startswith(commit) else f"{commit} ({found})"), git("rev-parse", f"{commit}^{{tree}}")


def find_working_tree(scratch: Path) -> tuple[str, str]:
    """Return the same of what lies in the working tree, without what git ignores. The user's index is left alone."""
    index = {"GIT_INDEX_FILE": str(scratch / "index")}
    git("read-tree", "HEAD", **index)
    git("add", "--all", **index)
    tree = git("write-tree", **index)
    changed = "with changes" if tree != git("rev-parse", "HEAD^{tree}") else "without changes"
    return f"working tree ({git('rev-parse', '--short', 'HEAD')} {changed})", tree


def check_out(name: str, tree: str, folder: Path) -> Version:
    archive = folder.with_suffix(".zip")
    git("archive", "--format=zip", f"--output={archive}", tree)
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder)
    if not (folder / "numlstm" / "__init__.py").is_file():
        raise CannotCompareError(f"{name} holds no package numlstm")
    return Version(name, tree, folder)


@contextlib.contextmanager
def versions(base: str, head: str | None) -> Iterator[tuple[Version, Version]]:
    """Check out BASE and HEAD, or the working tree, for as long as they are needed."""
    if Path(git("rev-parse", "--show-toplevel")).resolve() != ROOT:
        raise CannotCompareError(f"{ROOT} is not a clone: commits are compared in a git clone of numlstm")
    with tempfile.TemporaryDirectory(prefix="numlstm-regress-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        both = find(base), find(head) if head else find_working_tree(folder)
        yield tuple(check_out(*found, folder / side) for side, found in zip(("base", "head"), both, strict=True))


# --- measuring ---


@contextlib.contextmanager
def workers(both: tuple[Version, Version], threads: int) -> Iterator[list[cpu.Worker]]:
    """Start a process for BASE, one for HEAD, and one for the FMA peak."""
    started: list[cpu.Worker] = []
    try:
        for engine, name, version in [("numlstm", "base", both[0]), ("numlstm", "head", both[1]), ("peak", "peak", both[1])]:
            cache = str(version.folder.with_suffix(".cache"))
            path = os.pathsep.join(filter(None, [str(version.folder), os.environ.get("PYTHONPATH")]))
            started.append(cpu.Worker(engine, threads, name, PYTHONPATH=path, NUMLSTM_CACHE_DIR=cache))
            if started[-1].absent:
                raise CannotCompareError(
                    f"{version.name}: {started[-1].absent}: pip install what it needs, with `pip install .`"
                )
            file = started[-1].files.get("numlstm")
            if file and not Path(file).resolve().is_relative_to(version.folder.resolve()):
                raise CannotCompareError(f"{version.name} is hidden by the numlstm in {Path(file).parent}")
        yield started
    finally:
        for worker in started:
            worker.close()


class Row(NamedTuple):
    """One quantity at one shape."""

    quantity: str
    shape: Shape

    def __str__(self) -> str:
        return f"{self.quantity} {self.shape}"


class Found(NamedTuple):
    """What was measured of a row: a summary of `cpu.Runs` for base and head, and the ratios, pass by pass."""

    summaries: list[dict[str, dict[str, Any]]]
    passes: list[Ratios]


def measure(
    both: tuple[Version, Version], options: argparse.Namespace
) -> tuple[dict[Row, Found], dict[Row, list[str]], float]:
    """Return what was measured, what was not and why, and the FMA peak in GFLOP/s."""
    rows = [Row(quantity, shape) for quantity in options.quantities for shape in options.shapes]
    found: dict[Row, Found] = {row: Found([], []) for row in rows}
    complaints: dict[Row, list[str]] = {}
    peak = 0.0
    for number in range(1 + options.repeats):
        todo = [row for row in rows if row not in complaints]
        todo = [row for row in todo if not is_settled(found[row].passes, options.limit, options.repeats)]
        if not todo:
            break
        with workers(both, options.threads) as (base, head, limit):
            for row in todo:
                wrong = cpu.check([base, head], row.shape, row.quantity)
                if wrong:
                    complaints[row] = wrong
                    continue
                runs, gflops = cpu.measure([base, head], limit, options)
                summary = {name: each.summary(options.rounds) for name, each in runs.items()}
                found[row].summaries.append(summary)
                found[row].passes.append(ratios(**summary))
                peak = max(peak, gflops)
                again = "" if number == 0 else f", pass {number + 1}"
                print(f"{row}{again}: {found[row].passes[-1].median:.2f} by medians", file=sys.stderr, flush=True)
    return {row: each for row, each in found.items() if each.passes}, complaints, peak


def table(found: dict[Row, Found], limit: float, peak: float) -> tuple[str, list[Row]]:
    """Return a Markdown table, and the rows that are slower."""
    slower = []
    lines = [
        "| quantity | N,T,I,H | base ms | head ms | head, of peak | ratio | passes | |",
        "|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for row, (summaries, passes) in found.items():
        mildest, word = verdict(passes, limit)
        summary = summaries[passes.index(mildest)]
        slower += [row] if word == SLOWER else []
        noisy = any(side["noisy"] for side in summary.values())
        times = " | ".join(f"{1e3 * side['median']:.3f} / {1e3 * side['best']:.3f}" for side in summary.values())
        share = 1e-7 * PASSES[row.quantity] * row.shape.flops / summary["head"]["median"] / peak
        notes = ", ".join(filter(None, [word, "noisy" if noisy else ""]))
        lines.append(
            f"| {row.quantity} | {row.shape} | {times} | {share:.0f} % | {mildest.median:.2f} / {mildest.best:.2f} "
            f"| {len(passes)} | {notes} |"
        )
    return "\n".join(lines), slower


def compare(options: argparse.Namespace) -> int:
    """Measure, print, and return the exit status."""
    with versions(options.base, options.head) as both:
        names = " -> ".join(version.name for version in both)
        same = ", the same: ratios show the noise" if both[0].tree == both[1].tree else ""
        print(f"{names}{same}; compiling", file=sys.stderr, flush=True)
        found, complaints, peak = measure(both, options)
    print(f"{names}{same}\n{report.cpu_model()}, {options.threads} threads, float32; FMA peak {peak:.0f} GFLOP/s\n")
    text, slower = table(found, options.limit, peak)
    print(f"{text}\n\nTimes and ratios by medians / by bests; ratio = head / base, above 1 head is slower.")
    for row in slower:
        print(f"SLOWER {row}: beyond {options.limit:.2f} in each of {1 + options.repeats} passes")
    wrong = False
    for row, said in complaints.items():
        of_head = [each for each in said if each.startswith("head:")]  # what BASE could not do yet is no fault of HEAD
        wrong |= bool(of_head)
        print(f"{'WRONG' if of_head else 'NOT COMPARED'} {row}: {'; '.join(of_head or said)}")
    return 1 if slower or wrong else 0 if found else 2


def _limit(word: str) -> float:
    with contextlib.suppress(ValueError):
        if 1 < float(word) < 100:
            return float(word)
    raise argparse.ArgumentTypeError(f"{word!r} is not a ratio above 1, such as 1.10")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cpus = report.available_cpus()
    parser.add_argument("base", metavar="BASE", help="a commit, tag or branch")
    parser.add_argument("head", metavar="HEAD", nargs="?", help="another one (the working tree, with its changes)")
    parser.add_argument("--limit", type=_limit, default=1.10, help="ratio from which HEAD counts as slower (%(default)s)")
    parser.add_argument("--threads", type=cpu.positive, default=min(2, cpus), help="threads of each (%(default)s)")
    parser.add_argument("--quantities", nargs="+", choices=PASSES, default=list(PASSES), help="what to time (all)")
    parser.add_argument(
        "--shapes", type=cpu.shapes, nargs="+", metavar="SHAPE", help="one, small, large, all, or N,T,I,H (one of each kind)"
    )
    parser.add_argument("--rounds", type=cpu.positive, help="timed runs of each commit in a pass (9)")
    parser.add_argument(
        "--repeats", type=int, choices=range(10), default=2, metavar="K", help="further passes (%(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="two small shapes and short runs: under a minute")
    options = parser.parse_args()
    if options.threads > cpus:
        parser.error(f"argument --threads: this process may run on {cpus} CPUs, not on {options.threads}")
    chosen = options.shapes or [QUICK if options.quick else SHAPES]
    options.shapes = list(dict.fromkeys(shape for group in chosen for shape in group))
    options.rounds = options.rounds or (5 if options.quick else 9)
    options.seconds = 0.05 if options.quick else 0.2
    return options


def main() -> int:
    options = _options()
    try:
        return compare(options)
    except (CannotCompareError, cpu.WorkerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
