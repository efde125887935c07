"""The command line: ``numlstm train``, ``predict``, ``info`` and ``warm``.

What goes wrong is said in one line on stderr, with exit status 2; an interruption ends with 130.
"""

import argparse
import contextlib
import csv
import difflib
import io
import os
import platform
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import __version__

if TYPE_CHECKING:
    from .series import Series

__all__ = ["main"]

_WRONG, _INTERRUPTED, _PIPE_CLOSED = 2, 130, 1
_EXAMPLES = """\
examples:
  numlstm train                               Seattle's weather, ships with numlstm
  numlstm train sales.csv --target units --horizon 7 --out sales
  numlstm predict sales/model.safetensors sales.csv
"""

_USAGE = "numlstm train [FILE.csv --target COL] [options]"
_TRAIN = """\
Train an LSTM on the rows of a CSV file, in order of time: the first 65 % to
learn from, 15 % to choose the best epoch by, and the last 20 % to compare it
with naive forecasts on. It needs no arguments: Seattle's weather ships with it.

Writes model.safetensors, metrics.json and, with matplotlib, forecast.png."""
_PREDICT = """\
Forecast what follows the last row of a CSV file, with a model of
`numlstm train`: as CSV, with dates, in the units of the file."""
_INFO = "Show versions, what numlstm found of this CPU, and where machine code is kept."
_WARM = """\
Compile ahead what models and functions need, and keep it in the cache folder
(`numlstm info` names it, NUMLSTM_CACHE_DIR moves it): processes that begin later
compile nothing. For images of containers and for CI. The machine code is for
this kind of CPU and these versions of numlstm, Numba and Python."""


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, as all of the command line does."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}: see `{self.prog} -h`")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Refuse what is unknown here: a command leaves that to the parser above, whose help does not list its options."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            close = difflib.get_close_matches(unknown[0].partition("=")[0], self._option_string_actions, 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return known, unknown


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 for whatever is wrong, 130 for an interruption.

    argv : sequence of str, optional
        Arguments; those of the process if left out.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a column's name may be beyond the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    try:
        with contextlib.suppress(SystemExit):  # of argparse, after -h and --version
            arguments = _parser().parse_args(argv)
            arguments.run(arguments)
        print(end="", flush=True)
    except BrokenPipeError:
        # What is still in the buffer would raise again when the interpreter flushes it at its end.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        return _said("interrupted", _INTERRUPTED)
    except MemoryError as error:
        return _said(f"not enough memory ({error}): choose smaller --hidden, --lookback or --horizon", _WRONG)
    except OSError as error:
        return _said(_of_system(error), _WRONG)
    except (ValueError, OverflowError) as error:
        return _said(str(error), _WRONG)
    return 0


def _said(message: str, status: int) -> int:
    print("numlstm:", " ".join(message.splitlines()), file=sys.stderr)
    return status


def _of_system(error: OSError) -> str:
    """Return in words what the system refused, and what to do."""
    if error.filename is None or error.strerror is None:
        return str(error)
    advice = "check its permissions" if isinstance(error, PermissionError) else "check the path"
    return f"{os.fsdecode(error.filename)}: {error.strerror}: {advice}"


# --- arguments ---


def _whole(least: int, most: int = sys.maxsize) -> Callable[[str], int]:
    """Return what reads a whole number between two others."""

    def read(text: str) -> int:
        plain = text.isascii() and text.isdecimal() and len(text) <= len(str(sys.maxsize))
        if not (plain and least <= int(text) <= most):
            wanted = f"of at least {least}" if most == sys.maxsize else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"must be a whole number {wanted}, not {text!r}")
        return int(text)

    return read


def _parser() -> _Parser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="numlstm",
        formatter_class=layout,
        description="Forecast time series with LSTM networks, on the CPU.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"numlstm {__version__}")
    parser.set_defaults(run=lambda _: parser.print_help())
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    train = commands.add_parser("train", help="train a forecaster", usage=_USAGE, description=_TRAIN, formatter_class=layout)
    _add_train_arguments(train)
    predict = commands.add_parser("predict", help="forecast with it", description=_PREDICT, formatter_class=layout)
    predict.add_argument("model", metavar="MODEL", help="model.safetensors that `numlstm train` wrote")
    predict.add_argument("file", metavar="FILE.csv", nargs="?", help="the series to go on with (default: Seattle's weather)")
    predict.add_argument("--out", metavar="FILE", help="write the forecast to this file, not to stdout")
    predict.set_defaults(run=_predict)
    info = commands.add_parser("info", help="what numlstm found on this machine", description=_INFO)
    info.set_defaults(run=_info)
    from .cells import NAMES

    warm = commands.add_parser("warm", help="compile ahead", description=_WARM, formatter_class=layout)
    kinds = ("float32", "float64")
    warm.add_argument(
        "--dtype", nargs="+", choices=kinds, default=["float32"], help="of models and arrays (default: float32)"
    )
    warm.add_argument("--cells", nargs="+", choices=NAMES, default=["lstm"], metavar="CELL", help=f"{', '.join(NAMES)}")
    warm.add_argument("-q", "--quiet", action="store_true", help="print nothing")
    warm.set_defaults(run=_warm)
    return parser


def _add_train_arguments(train: argparse.ArgumentParser) -> None:
    add = train.add_argument
    add("file", metavar="FILE.csv", nargs="?", help="a line of column names, then rows (default: Seattle's weather)")
    add("--target", metavar="COL", help="column to forecast (default: the only one of numbers; temp_max in Seattle)")
    add(
        "--features",
        metavar="COL",
        nargs="+",
        action="extend",
        help="columns to forecast from, by blanks or commas (default: all columns of numbers)",
    )
    add("--ignore-dates", action="store_true", help="take the rows as equally spaced, whatever their dates")
    add("--lookback", metavar="L", type=_whole(1), default=30, help="rows the forecast is made from (default: 30)")
    add("--horizon", metavar="H", type=_whole(1), default=1, help="rows to forecast at a time (default: 1)")
    add("--hidden", metavar="U", type=_whole(1, 8192), default=32, help="units of each LSTM layer (default: 32)")
    add("--layers", metavar="K", type=_whole(1, 32), default=1, help="LSTM layers (default: 1)")
    add("--epochs", metavar="E", type=_whole(1), default=60, help="passes over the data, at most (default: 60)")
    add("--seed", metavar="S", type=_whole(0), default=0, help="same seed, same numbers (default: 0)")
    add("--out", metavar="DIR", type=Path, default=Path(), help="folder for the results, made if need be (default: here)")
    train.set_defaults(run=_train)


# --- commands ---


def _series(file: str | None, ignore_dates: bool) -> "Series":
    from . import datasets, series

    return datasets.seattle_weather(ignore_dates) if file is None else series.read(file, ignore_dates)


def _train(arguments: argparse.Namespace) -> None:
    started = time.perf_counter()
    from . import _report, forecast

    series = _series(arguments.file, arguments.ignore_dates)
    settings = forecast.Settings(
        target=_target(arguments, series),
        features=_features(arguments.features, series),
        **{name: getattr(arguments, name) for name in ("lookback", "horizon", "hidden", "layers", "epochs", "seed")},
    )
    try:
        samples = forecast.Samples(series, settings)
    except ValueError as error:
        if arguments.file is None and not all(map(series.has, (settings.target, *settings.features))):
            raise ValueError(f"{error}; for a file of your own, give it before --target and --features") from None
        raise
    _check_folder(arguments.out)
    print(_report.opening(series, settings), flush=True)
    bar = sys.stderr.isatty()
    callbacks = [] if bar else [_report.FewLines(settings.epochs)]
    report = forecast.train(samples, verbose=int(bar), callbacks=callbacks)
    seconds = time.perf_counter() - started
    print(_report.table(series, report))
    print(_report.written(arguments.out, series, report, seconds))


def _target(arguments: argparse.Namespace, series: "Series") -> str:
    if arguments.target is not None:
        return str(arguments.target)
    if arguments.file is None:
        return "temp_max"
    known = series.numeric_columns()
    if len(known) == 1:
        return known[0]
    if not known:
        raise ValueError(f"{series.name} has no column of numbers: there is nothing to forecast")
    raise ValueError(f"--target is missing: choose the column to forecast from {', '.join(known)}")


def _features(given: Sequence[str] | None, series: "Series") -> tuple[str, ...]:
    """Return the columns that are named, each once; a comma parts two names, unless it is in one."""
    if given is None:
        return tuple(series.numeric_columns())
    parted = [name.strip() for text in given for name in ([text] if series.has(text) else text.split(","))]
    names = tuple(dict.fromkeys(name for name in parted if name))
    if not names:
        raise ValueError(f"--features names no column: choose from {', '.join(series.numeric_columns())}")
    return names


def _check_folder(folder: Path) -> None:
    """Make the folder for the results, or say before any work is done that nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"cannot write to the folder {folder} ({error.strerror}): choose another one with --out") from None


def _predict(arguments: argparse.Namespace) -> None:
    from . import files, forecast
    from .series import SeriesError

    forecaster = forecast.Forecaster.load(arguments.model)
    try:
        series = _series(arguments.file, ignore_dates=not forecaster.step)
        values = forecaster.predict(series)
    except SeriesError as error:
        raise ValueError(error.plain) from None  # the option is of `train` alone
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([series.date_name, forecaster.target])
    writer.writerows([series.time_text(series.rows + i), f"{value:.7g}"] for i, value in enumerate(values))
    if arguments.out is None:
        sys.stdout.write(text.getvalue())
    else:
        files.replace(arguments.out, text.getvalue().encode())


def _info(_: argparse.Namespace) -> None:
    import numba
    import numpy as np

    from . import backend

    found = backend.describe()
    rows = {
        "numlstm": __version__,
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "NumPy, Numba": f"{np.__version__}, {numba.__version__}",
        "CPU": found["cpu"],
        "CPU features": found["features"],
        "vector width": found["vector"],
        "threads": found["threads"],
        "threading layer": found["threading_layer"],
        "cache folder": found["cache_folder"],
        "GPU": "not used: this version computes on the CPU only",
    }
    for name, value in rows.items():
        print(textwrap.fill(f"{name:<17}{value}", 79, subsequent_indent=" " * 17, break_long_words=False))


def _warm(arguments: argparse.Namespace) -> None:
    from ._warm import warm

    warm(arguments.dtype, arguments.cells, verbose=int(not arguments.quiet))
