"""Models from and to ONNX, and a backend that runs ONNX models: ``pip install "numlstm[onnx]"``.

Importing this module imports onnx.
"""

try:
    import onnx  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError('numlstm.interop.onnx needs onnx: pip install "numlstm[onnx]"', name="onnx") from error

from ._backend import Backend, BackendRep
from ._export import to_model
from ._import import from_model

__all__ = ["Backend", "BackendRep", "from_model", "to_model"]
