"""Models to and from other libraries: `numlstm.interop.torch`, `.keras` and `.onnx`, each with an extra of its name.

Importing one of them imports that library.
"""

import importlib
from typing import Any

__all__ = ["keras", "onnx", "torch"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
