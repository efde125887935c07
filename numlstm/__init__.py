"""numlstm: a fast LSTM engine on NumPy and Numba.

Importing it compiles nothing, starts no thread and does not import Numba: that happens at first use.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._threads import get_num_threads, set_num_threads

__version__ = "0.1.0.dev0"

# Where the public names are defined: modules are imported when one is asked for.
_DEFINED_IN = {
    "models": ("Sequential", "load"),
    "layers": ("LSTM", "GRU", "SimpleRNN", "SLSTM", "RNN", "Bidirectional", "Dense", "Dropout", "Embedding", "Input"),
    "trainer": ("History", "Trainer"),
    "files": ("FileFormatError",),
    "_warm": ("warm",),
    "devices": ("DeviceError",),
    "cells": ("CellSpec", "GRUSpec", "RNNSpec", "SLSTMSpec"),
    "own": ("Cell", "check_cell"),
}
_MODULES = (
    "backend",
    "callbacks",
    "cells",
    "data",
    "datasets",
    "devices",
    "files",
    "forecast",
    "functional",
    "initializers",
    "interop",
    "lanes",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "plot",
    "sklearn",
    "trainer",
    "utils",
)
_HOME = {name: module for module, names in _DEFINED_IN.items() for name in names}
__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "SLSTM",
    "Bidirectional",
    "Cell",
    "CellSpec",
    "Dense",
    "DeviceError",
    "Dropout",
    "Embedding",
    "FileFormatError",
    "GRUSpec",
    "History",
    "Input",
    "RNNSpec",
    "SLSTMSpec",
    "Sequential",
    "SimpleRNN",
    "Trainer",
    "callbacks",
    "cells",
    "check_cell",
    "data",
    "datasets",
    "forecast",
    "functional",
    "get_num_threads",
    "initializers",
    "interop",
    "lanes",
    "layers",
    "load",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "plot",
    "set_num_threads",
    "trainer",
    "utils",
    "warm",
]


def _find_kernels_in_source_tree() -> None:
    """Make `numlstm.kernels` importable when this package is imported from its source tree.

    There the kernels lie beside the package, in `kernels/`; an installation has them inside. Only that one name is added.
    """
    package = Path(__file__).resolve().parent
    source = package.parent / "kernels" / "__init__.py"
    if (package / "kernels").is_dir() or not ((package.parent / "pyproject.toml").is_file() and source.is_file()):
        return
    spec = importlib.util.spec_from_file_location("numlstm.kernels", source, submodule_search_locations=[str(source.parent)])
    if spec is None or spec.loader is None:
        return

    class SourceTreeFinder:
        """Finds `numlstm.kernels`, and nothing else, beside the package."""

        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
            return spec if name == "numlstm.kernels" else None

    sys.meta_path.insert(0, SourceTreeFinder)


_find_kernels_in_source_tree()


if TYPE_CHECKING:
    from . import (
        callbacks,
        cells,
        data,
        datasets,
        forecast,
        functional,
        initializers,
        interop,
        lanes,
        layers,
        losses,
        metrics,
        models,
        optimizers,
        plot,
        trainer,
        utils,
    )
    from ._warm import warm
    from .cells import CellSpec, GRUSpec, RNNSpec, SLSTMSpec
    from .devices import DeviceError
    from .files import FileFormatError
    from .layers import GRU, LSTM, RNN, SLSTM, Bidirectional, Dense, Dropout, Embedding, Input, SimpleRNN
    from .models import Sequential, load
    from .own import Cell, check_cell
    from .trainer import History, Trainer
else:

    def __getattr__(name: str) -> Any:
        if name in _HOME:
            return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        if name in _MODULES:
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
