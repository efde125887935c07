"""What `fit` and `warm` show while they run."""

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .metrics import Meter

_SECONDS_BETWEEN = 0.1


class Silent:
    """Shows nothing."""

    def epoch(self, epoch: int) -> None:
        """Called before each epoch."""

    def advance(self, sequences: int, meter: "Meter") -> None:
        """Called after each batch."""

    def report(self, logs: dict[str, float]) -> None:
        """Called after each epoch."""

    def close(self) -> None:
        """Called at the end, whatever happened."""


class Lines(Silent):
    """Prints a line for each epoch."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def epoch(self, epoch: int) -> None:
        self._epoch, self._start = epoch, time.perf_counter()

    def report(self, logs: dict[str, float]) -> None:
        seconds = time.perf_counter() - self._start
        print(f"Epoch {self._epoch + 1}/{self._epochs} - {seconds:.2g}s - {_text(logs, ' - ')}", flush=True)


class Bar(Silent):
    """A tqdm bar over all sequences of all epochs, with the loss and sequences a second."""

    def __init__(self, epochs: int, sequences: int) -> None:
        import tqdm

        self._epochs, self._next = epochs, 0.0
        layout = "{desc} |{bar}| {rate_noinv_fmt}, {remaining} left{postfix}"
        self._bar = tqdm.tqdm(
            total=sequences, unit=" sequences", unit_scale=True, bar_format=layout, mininterval=_SECONDS_BETWEEN
        )
        self._logs: dict[str, float] = {}

    def epoch(self, epoch: int) -> None:
        self._name = f"Epoch {epoch + 1}/{self._epochs}"
        if self._bar.n == 0:
            self._bar.set_description_str(f"{self._name}, compiling where nothing is cached")
        else:
            self._bar.set_description_str(self._name, refresh=False)

    def advance(self, sequences: int, meter: "Meter") -> None:
        if self._bar.n == 0:
            self._bar.set_description_str(self._name, refresh=False)
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _SECONDS_BETWEEN
            validation = {name: value for name, value in self._logs.items() if name.startswith("val_")}
            self._bar.set_postfix_str(_text({**meter.logs(), **validation}, ", "), refresh=False)
        self._bar.update(sequences)

    def report(self, logs: dict[str, float]) -> None:
        self._logs = logs
        self._bar.set_postfix_str(_text(logs, ", "), refresh=False)

    def close(self) -> None:
        self._bar.close()


class Tasks:
    """A tqdm bar over named tasks, where stderr is a terminal, and lines on stdout."""

    def __init__(self, verbose: int, count: int) -> None:
        import tqdm

        self._verbose, self._write = verbose, tqdm.tqdm.write
        hidden = None if verbose else True  # None asks the terminal
        self._bar = tqdm.tqdm(total=count, bar_format="{desc} |{bar}| {n_fmt}/{total_fmt}", leave=False, disable=hidden)

    def begin(self, name: str) -> None:
        """Called before each task."""
        self._bar.set_description_str(name)

    def end(self) -> None:
        """Called after each task."""
        self._bar.update()

    def say(self, line: str) -> None:
        """Print a line."""
        if self._verbose:
            self._write(line)
            sys.stdout.flush()

    def close(self) -> None:
        self._bar.close()


def _text(logs: dict[str, float], separator: str) -> str:
    return separator.join(f"{name}: {value:.4g}" for name, value in logs.items())


def reporter(verbose: Any, first: int, epochs: int, sequences: int) -> Silent:
    """Return what shows the progress: nothing (0), a bar (1, "auto", True) or a line for each epoch (2)."""
    if verbose not in (0, 1, 2, "auto"):
        raise ValueError(f"verbose must be 0 (silent), 1 (a progress bar) or 2 (a line for each epoch), not {verbose!r}")
    if verbose == 0 or first >= epochs:
        return Silent()
    return Lines(epochs) if verbose == 2 else Bar(epochs, sequences)
