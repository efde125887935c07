"""Models: layers one after the other, with the vocabulary of Keras."""

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _lengths, _validate, devices
from ._stack import Stack
from ._validate import Array

if TYPE_CHECKING:
    from ._plan import Predictor
    from .inspection import Trace
    from .jitting import ModelState, Step
    from .losses import Loss
    from .optimizers import Optimizer
    from .streaming import Stream
    from .trainer import History, Trainer

__all__ = ["Sequential", "load", "load_model"]

_PREDICT_ELEMENTS = 1 << 22  # of the widest layer's output in one batch of `predict`
_PREDICT_ROWS = 1024
_KEPT_BYTES = 1 << 20  # of memory that a model keeps from one small batch to the next


class Sequential(Stack):
    """Layers that pass their results on, the first to the last.

    Parameters
    ----------
    layers : sequence of layers, optional
        May begin with an `Input`. More can be added with `add`.
    name : str, optional
    dtype : "float32" or "float64"
        Of parameters and computation; data is converted to it.

    Attributes
    ----------
    metadata : dict
        Notes of yours that JSON can hold; they are saved with the model and there again after `numlstm.load`.
    """

    def __init__(self, layers: Iterable[Any] | None = None, name: str | None = None, dtype: Any = "float32") -> None:
        self.stop_training = False
        self._trainer: Trainer | None = None
        super().__init__(layers, name, dtype)

    def __repr__(self) -> str:
        return f"Sequential([{', '.join(map(repr, self.layers))}])"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out memory that only serves speed."""
        self._only_on_the_cpu("copied or pickled")
        return {**self.__dict__, "_predictors": []}

    # --- training and prediction ---

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, metrics: Sequence[Any] = ()) -> None:
        """Choose how the model is trained.

        Parameters
        ----------
        optimizer : name or `numlstm.optimizers`
        loss : name or `numlstm.losses`
        metrics : sequence of names
            What is reported beside the loss: see `numlstm.metrics`.

        Raises
        ------
        ValueError
            For unknown names; the message lists the known ones.
        """
        from .trainer import Trainer

        if loss is None:
            raise ValueError("loss must be a name such as 'mean_squared_error', or one of numlstm.losses")
        self._trainer = Trainer(self, optimizer, loss, metrics)

    @property
    def trainer(self) -> "Trainer":
        """The trainer that `compile` made; ValueError before."""
        if self._trainer is None:
            raise ValueError("the model is not compiled: call compile(optimizer=.., loss=..) first")
        return self._trainer

    @property
    def optimizer(self) -> "Optimizer":
        """The optimiser that `compile` chose."""
        return self.trainer.optimizer

    @property
    def loss(self) -> "Loss":
        """The loss that `compile` chose."""
        return self.trainer.loss

    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = 1,
        callbacks: Any = (),
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        sample_weight: Any = None,
        initial_epoch: int | None = None,
        lengths: Any = None,
    ) -> "History":
        """Train the model; arguments, result and errors are those of `numlstm.Trainer.fit`."""
        return self.trainer.fit(
            x,
            y,
            batch_size,
            epochs,
            verbose,
            callbacks,
            validation_split,
            validation_data,
            shuffle,
            sample_weight,
            initial_epoch,
            lengths,
        )

    def evaluate(
        self,
        x: Any,
        y: Any,
        batch_size: int | None = None,
        verbose: Any = 0,
        sample_weight: Any = None,
        return_dict: bool = False,
        lengths: Any = None,
    ) -> Any:
        """Return the loss on data; with metrics a list of it and them, or a dict with `return_dict`."""
        logs = self.trainer.evaluate(x, y, batch_size, sample_weight, lengths)
        if return_dict:
            return logs
        return list(logs.values()) if len(logs) > 1 else logs["loss"]

    def predict(self, x: Any, batch_size: int | None = None, verbose: Any = 0, lengths: Any = None) -> Any:
        """Return the model's output for data, (N, ..); the same bits for any batch size.

        Parameters
        ----------
        x : (N, T, F) or what the first layer takes
            Sequences of different lengths as a list of N arrays (t, F), or as one array with `lengths`.
        batch_size : int, optional
            Samples computed at once; chosen by size if left out. Stateful models need that of `fit`.
        verbose : ignored
            Accepted for Keras' sake.
        lengths : (N,) integers from 1 to T, optional
            How many steps each sequence has; what lies past them is not looked at. An output at each step is (N, T, ..) also
            for a list, 0 past the lengths: ``numlstm.data.unpad(y, lengths)`` makes a list of it.

        Raises
        ------
        TypeError, ValueError
            For data that does not fit the model. NaN is let through: it makes its own row's output NaN and no other's.
        """
        array, ends = _lengths.read(self, "x", x, lengths, whole=False)
        rows = self._predict_rows(array) if batch_size is None else _validate.whole("batch_size", batch_size)
        predictor = self._predictor()
        parts: list[tuple[Array, ...]] = []
        for start in range(0, max(1, len(array)), rows):
            batch = array[start : start + rows]
            if not parts or len(batch) != len(parts[-1][0]):
                predictor.begin(batch, ends is not None)
            parts.append(predictor.forward(batch, None if ends is None else ends[start : start + rows]))
        if predictor.nbytes <= _KEPT_BYTES and not self._predictors:
            self._predictors.append(predictor)
        else:
            predictor.release()
        join = self.backend.joined if devices.on_gpu(parts[0][0]) else np.concatenate
        results = [join(arrays) if len(arrays) > 1 else arrays[0] for arrays in zip(*parts, strict=True)]
        return results if len(results) > 1 else results[0]

    def _predictor(self) -> "Predictor":
        """Return a predictor for this call alone: the one that was kept, or, as when threads predict at once, a new one."""
        from ._plan import Predictor

        traits = self._traits()
        try:
            kept = self._predictors.pop()
        except IndexError:
            kept = None
        if kept is not None and (kept.layers, kept.traits, kept.backend) == (self.layers, traits, self.backend):
            return kept
        return Predictor(list(self.layers), traits, self.dtype, self.x_dtype, self.backend)

    def _predict_rows(self, x: Array) -> int:
        if any(layer.stateful for layer in self.layers):
            return self.batch_size or len(x) or 1
        steps = x.shape[1] if x.ndim > 2 or self.x_dtype == np.int64 else 1
        widest = max(getattr(layer, "units", getattr(layer, "output_dim", 1)) for layer in self.layers)
        return max(1, min(_PREDICT_ROWS, _PREDICT_ELEMENTS // (steps * 4 * widest)))

    # --- step by step ---

    def jit(self, device: str = "cpu", sequences: int = 1) -> "tuple[Step, Any, ModelState]":
        """Return ``(step, params, state)`` to run the model a step at a time inside of ``@njit`` functions.

        ``step(params, state, x_t, y_t)`` brings one sequence one step on. It reads x_t, the step's input, (F,), or an
        integer if the model begins with an `Embedding`, and writes y_t, (C,): with `return_sequences` what `predict` gives
        for that step, else what it gives for the sequence so far; the same bits. It allocates nothing and needs neither
        Python nor the GIL. It is the same function for all models, `numlstm.functional.step`, whose docstring says more.

        On an NVIDIA GPU, ``device="cuda"``, `step` is a device function for your own ``@cuda.jit`` kernels, of models with
        these layers: many sequences, one a thread, each with ``state = SequenceState(states, n)``. It is for small models:
        each thread reads all weights at each step. It keeps nothing in local memory, and checks nothing but the types: x_t
        and y_t may be rows of arrays or other vectors that fit, y_t of the model's dtype; a number that an embedding does
        not know gives NaN.

        Parameters
        ----------
        device : "cpu" or "cuda"
        sequences : int
            How many sequences the states are for, on a GPU.

        Returns
        -------
        step : function
        params : nested namedtuple of arrays
            Copies of the weights, in the layout of this machine's vectors and this version of numlstm; a copy or a pickled
            one is as good, here and in other processes. To keep them for longer, save the model.
        state : ModelState
            Before the first step: zeros, for stateful layers too. One for each sequence: ``state.copy()`` is another. On a
            GPU that of all of them together, of arrays (H, N) for `numlstm.functional.SequenceState`.

        Raises
        ------
        ValueError
            If the model is not built, or a layer reads sequences from their end: `Bidirectional`, ``go_backwards``.
        DeviceError
            If there is no GPU that can be used.
        """
        from . import jitting

        self._only_on_the_cpu("made a function of its steps")
        return jitting.jit(self, device, sequences)

    def stream(self, batch: int = 1) -> "Stream":
        """Return the model as a function of one step after the other, which keeps the states: ``y_t = s(x_t)``.

        What it returns is, bit for bit, what `predict` gives for that step of the whole sequence, or without
        `return_sequences` for the sequence so far. ``s.state`` are the states, which can be copied and assigned, and
        ``s.reset()`` begins anew. It has a copy of the weights as they are now, which it reads for each sequence: with more
        than some dozens of large ones together, `predict` of a stateful model is faster.

        Parameters
        ----------
        batch : int
            How many sequences go on together; all of them begin with zeros, in stateful layers too.

        Returns
        -------
        numlstm.streaming.Stream
            Its call says what x_t may be.

        Raises
        ------
        ValueError
            As `jit`; for a batch below 1.
        """
        from .streaming import Stream

        self._only_on_the_cpu("run as a stream")
        return Stream(self, batch)

    # --- what goes on inside ---

    def trace(self, x: Any, lengths: Any = None) -> "Trace":
        """Return every gate and state of each recurrent layer at each step, from one forward pass that keeps them.

        An LSTM has the gates i, f, o, the cell's input g and the states c and h; a variant only those of them that it has,
        f too where it is 1 - i. A GRU has r, z, n and h, a SimpleRNN h, an SLSTM i, f, g, o, c, n, m and h. Gates are as
        they are behind their activations. All are of the step of x with the same number, also where a layer goes backwards.
        Dropout is not at work; stateful layers begin with zeros, and keep what they had. `numlstm.plot.gates` draws it.

        Parameters
        ----------
        x : (N, T, F), or what the model's first layer takes
        lengths : (N,) integers from 1 to T, optional
            How many steps each sequence has, as for `predict`.

        Returns
        -------
        Trace
            A dict by the layers' names of dicts of arrays (N, T, H), views of what the pass left; copies with 0 past
            the lengths, if there are some. The model's output is its ``y``.

        Raises
        ------
        TypeError, ValueError
            For data that does not fit the model, or a model without recurrent layers.
        """
        from . import inspection

        self._only_on_the_cpu("traced")
        array, ends = _lengths.read(self, "x", x, lengths)
        return inspection.trace(self.layers, array, self.dtype, ends)

    def gradient_by_lag(self, x: Any) -> Array:
        """Return how strongly the last output depends on the inputs of each step before it, by time lag.

        That is the Frobenius norm of the Jacobian matrix ``d y_T / d x_(T - k)`` of the output at the last step, for lags
        k of 0 to T - 1 steps: where it falls to nothing, nothing can be learnt over such a lag (Bengio, Simard and Frasconi
        1994, "Learning long-term dependencies with gradient descent is difficult"). Dropout is not at work; stateful layers
        begin with zeros, and keep what they had.
        `numlstm.plot.gradient_by_lag` draws it. It takes a forward and a backward pass for each output.

        Parameters
        ----------
        x : (N, T, F), or what the model's first layer takes
            For an `Embedding` the Jacobian is that by its vectors.

        Returns
        -------
        (N, T) array of float64
            The norm for each sequence and lag, lag 0 first; 0 below what the model's dtype can hold, 1e-45 in float32.

        Raises
        ------
        TypeError, ValueError
            For data that does not fit the model.
        """
        from . import inspection

        self._only_on_the_cpu("looked into")
        array, ends = _lengths.read(self, "x", x, None)
        if ends is not None and (ends < array.shape[1]).any():
            raise ValueError("x must be sequences of one length: lags are counted from the last step")
        return inspection.gradient_by_lag(self.layers, array, self.dtype)

    # --- files ---

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a safetensors file: layers, weights, what `compile` chose, and `metadata`.

        The file is written beside and renamed: a crash at any moment leaves the old one or the new one, whole.

        Raises
        ------
        ValueError
            If the model has no weights yet, or JSON cannot hold its metadata.
        OSError
            If the file cannot be written.
        """
        from . import _modelfile

        _modelfile.save(self, path)


def load(path: str | os.PathLike[str]) -> Sequential:
    """Read a model that `Sequential.save` or `Trainer.save_checkpoint` wrote.

    Raises
    ------
    FileFormatError
        If the file is damaged, not of numlstm, or holds what this version does not know.
    OSError
        If it cannot be read.
    """
    from . import _modelfile

    return _modelfile.load(path)


load_model = load
