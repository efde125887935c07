"""Estimators for scikit-learn's pipelines, grid searches and cross-validation: ``pip install "numlstm[sklearn]"``.

Importing this module imports scikit-learn.
"""

try:
    import sklearn  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'numlstm.sklearn needs scikit-learn: pip install "numlstm[sklearn]"', name="sklearn"
    ) from error

from .forecaster import LSTMForecaster
from .supervised import LSTMClassifier, LSTMRegressor

__all__ = ["LSTMClassifier", "LSTMForecaster", "LSTMRegressor"]
