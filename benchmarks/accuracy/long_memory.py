"""The classic proofs of long memory: which cells learn to remember, in how many sequences, beside published figures.

    python benchmarks/accuracy/long_memory.py                     # everything; minutes: see benchmarks/README.md
    python benchmarks/accuracy/long_memory.py --quick             # a smoke run of small tasks
    python benchmarks/accuracy/long_memory.py --tasks adding-100 --cells lstm rnn --seed 3 --json results.json
    python benchmarks/accuracy/long_memory.py --tasks adding-400 --plot gradients.png

Each task and cell is one layer and a dense one, trained by Adam on sequences that are drawn anew (memory_tasks.py), until a
validation set is answered as the task demands, twice in a row, or the budget of sequences is spent; then a test set of 2,560
others is scored. A job has one thread, and as many jobs run at once as there are CPUs: results depend on the seed alone, on
one kind of CPU. The exit status is 1 if an LSTM with a forget gate has not solved a task.
"""

import argparse
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import memory_tasks
from memory_tasks import Task
from report import available_cpus, cpu_model

CELLS = {"lstm": "LSTM", "gru": "GRU", "peephole": "peephole", "1997": "1997", "rnn": "Elman"}
MUST = ("lstm", "peephole")
EPOCH, BATCH = 3200, 32  # sequences
HELD_OUT = 2560  # in the validation set, and in the test set
IN_A_ROW = 2  # epochs after which the validation set is solved end the training
CLIP_NORM = 1.0
SLOWER = {"rnn": 0.5}  # of the learning rate: the Elman network learns less with all of it
PROBES = 64  # sequences whose gradients are looked at


class Setting(NamedTuple):
    """A task, and how it is trained; budget : epochs of EPOCH new sequences, at most."""

    task: Task
    units: int
    learning_rate: float
    budget: int
    published: str = ""


SETTINGS = {
    "adding-100": Setting(memory_tasks.adding(100), 64, 2e-3, 100, "HS: error < 0.04 after 74,000"),
    "adding-400": Setting(
        memory_tasks.adding(400),
        64,
        2e-3,
        100,
        "HS, T = 500: error < 0.04 after 209,000; B, T = 600: LSTM 0.164, GRU 5.3e-5",
    ),
    "order": Setting(memory_tasks.order(), 64, 2e-3, 100, "HS: 1 wrong of 2,560 after 31,000"),
    "copy": Setting(memory_tasks.copy(50), 128, 4e-3, 100, "B, T = 1000: LSTM 0.0204, as good as guessing"),
    "reber": Setting(memory_tasks.reber(), 64, 2e-3, 100, "HS: 148 of 150 trials; best setting 8,440"),
}
QUICK = {
    "adding-100": Setting(memory_tasks.adding(20), 16, 1e-2, 1),
    "adding-400": Setting(memory_tasks.adding(40), 16, 1e-2, 1),
    "order": Setting(memory_tasks.order(), 8, 1e-2, 1),
    "copy": Setting(memory_tasks.copy(5), 16, 1e-2, 1),
    "reber": Setting(memory_tasks.reber(), 16, 1e-2, 1),
}


@dataclass(frozen=True)
class Result:
    """What became of a cell at a task.

    sequences : how many it was trained on, until it was solved or all of the budget
    gradients : (2, T) before and after training, medians of Sequential.gradient_by_lag
    """

    task: str
    cell: str
    score: float
    solved: bool
    sequences: int
    seconds: float
    gradients: list[list[float]]


def layer(cell: str, units: int, **options: Any) -> Any:
    import numlstm

    if cell in ("gru", "rnn"):
        return {"gru": numlstm.GRU, "rnn": numlstm.SimpleRNN}[cell](units, **options)
    return numlstm.LSTM(units, variant=cell, **options)


def spread_memories(recurrent: Any, steps: int, rng: np.random.Generator) -> None:
    """Let units begin with memories of all lengths up to `steps`.

    Tallec and Ollivier 2018, "Can recurrent neural networks warp time?": the bias of the gate that keeps begins at log u, u
    uniform in 1..steps - 1, and that of an LSTM's input gate at -log u.
    """
    from numlstm import cells

    spec, biases = recurrent.spec, recurrent.params[2].reshape(-1, recurrent.units)
    logs = np.log(rng.uniform(1, steps - 1, recurrent.units))
    if isinstance(spec, cells.GRUSpec):
        biases[1] = logs
    elif isinstance(spec, cells.CellSpec):
        gates = cells.gates(spec)
        biases[gates.index("i")] = -logs
        if "f" in gates:
            biases[gates.index("f")] = logs


def train(name: str, cell: str, setting: Setting, seed: int) -> Result:
    """Train until the validation set is solved twice in a row or the budget is spent, and score the test set."""
    import numlstm

    numlstm.set_num_threads(1)
    start, task = time.perf_counter(), setting.task
    shape = task.steps, task.inputs
    recurrent = layer(cell, setting.units, return_sequences=task.each_step, input_shape=shape, seed=seed)
    activation = None if task.loss == "mse" else "softmax"
    model = numlstm.Sequential([recurrent, numlstm.Dense(task.outputs, activation=activation, seed=seed)])
    optimizer = numlstm.optimizers.Adam(setting.learning_rate * SLOWER.get(cell, 1))
    trainer = numlstm.Trainer(model, optimizer, task.loss, clip_norm=CLIP_NORM, seed=seed)
    first, training, validation, test = (np.random.default_rng([seed, i]) for i in range(4))
    spread_memories(recurrent, task.steps, first)
    probes, known = task.draw(validation, PROBES).x, task.draw(validation, HELD_OUT)
    gradients, epoch, right = [np.median(model.gradient_by_lag(probes), axis=0).tolist()], 0, 0
    while epoch < setting.budget and right < IN_A_ROW:
        x, y, weight, _ = task.draw(training, EPOCH)
        trainer.fit(x, y, BATCH, initial_epoch=epoch, epochs=epoch + 1, verbose=0, shuffle=False, sample_weight=weight)
        epoch, right = epoch + 1, right + 1 if task.solved_by(known, model.predict(known.x)) else 0
    samples = task.draw(test, HELD_OUT)
    output = model.predict(samples.x)
    gradients.append(np.median(model.gradient_by_lag(probes), axis=0).tolist())
    took = time.perf_counter() - start
    score = task.score(samples, output)
    return Result(name, cell, score, task.solved_by(samples, output), epoch * EPOCH, took, gradients)


def table(settings: dict[str, Setting], names: list[str], results: list[Result]) -> str:
    """Return the results in Markdown: a row for each task, a column for each cell."""
    found = {(result.task, result.cell): result for result in results}
    chosen = [cell for cell in CELLS if any(result.cell == cell for result in results)]
    head = ["task", "score", "guess", "solved", "budget", *(CELLS[cell] for cell in chosen), "published"]
    lines = [head, ["---"] * len(head)]
    for name in names:
        setting = settings[name]
        task = setting.task
        row = [name, task.measure, f"{task.guess:.3g}", f"≤ {task.limit:.3g}", f"{setting.budget * EPOCH:,}"]
        lines.append([*row, *(_cell(found.get((name, cell))) for cell in chosen), setting.published])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(result: Result | None) -> str:
    if result is None:
        return ""
    return f"{result.score:.2g}" + (f" after {result.sequences:,}" if result.solved else ", **not solved**")


def plot(results: list[Result], path: Path) -> None:
    """Draw how gradients fade with the time lag, before and after training, in a picture each."""
    import numlstm.plot

    for number, when in enumerate(("before", "after")):
        norms = {CELLS[result.cell]: result.gradients[number] for result in results}
        picture = path.with_name(f"{path.stem}-{when}{path.suffix}")
        numlstm.plot.gradient_by_lag(norms, f"{results[0].task}, {when} training", picture)


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="all, if not given")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS), help="all, if not given")
    parser.add_argument("--seed", type=int, default=0, help="of weights and sequences (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="small tasks and one epoch each: nothing is proven")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every number there")
    text = "draw gradients by time lag before and after training, of the task with most steps: FILE-before, FILE-after"
    parser.add_argument("--plot", type=Path, metavar="FILE", help=text)
    parser.add_argument("--jobs", type=int, default=available_cpus(), help="how many run at once (%(default)s)")
    return parser.parse_args(arguments)


def run(chosen: argparse.Namespace) -> list[Result]:
    """Train all that was chosen, and return the results as they come."""
    settings, results = QUICK if chosen.quick else SETTINGS, []
    jobs = [(name, cell, settings[name], chosen.seed) for name in chosen.tasks for cell in chosen.cells]
    jobs.sort(key=lambda job: -job[2].budget * job[2].task.steps * job[2].units)  # the longest first
    with ProcessPoolExecutor(chosen.jobs, multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(train, *job) for job in jobs]):
            result = future.result()
            results.append(result)
            words = f"{result.task} {result.cell}: {_cell(result)}, {result.sequences:,} sequences, {result.seconds:.0f} s"
            print(words, file=sys.stderr, flush=True)
    return results


def main() -> int:
    """Print the table; return the exit status."""
    chosen, start = options(), time.perf_counter()
    settings = QUICK if chosen.quick else SETTINGS
    results = run(chosen)
    took = (time.perf_counter() - start) / 60
    print(f"{cpu_model()}, {time.strftime('%Y-%m-%d', time.gmtime())}, seed {chosen.seed}, {took:.1f} minutes\n")
    print(table(settings, chosen.tasks, results))
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    if chosen.plot:
        longest = max(chosen.tasks, key=lambda name: settings[name].task.steps)
        plot(sorted((r for r in results if r.task == longest), key=lambda r: list(CELLS).index(r.cell)), chosen.plot)
    return int(not chosen.quick and any(result.cell in MUST and not result.solved for result in results))


if __name__ == "__main__":
    sys.exit(main())
