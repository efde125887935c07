"""Models: layers one after the other, with the vocabulary of Keras."""

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _lengths, _validate, devices
from ._validate import Array
from .layers import Embedding, Input, Layer
from .layers.base import Shape, fits, sample_shape, sizes_text

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


@functools.cache
def _cpu() -> Any:
    from . import backend

    return backend


class Sequential:
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
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a string, not {name!r}")
        self.name = "sequential" if name is None else name
        try:
            self.dtype = np.dtype("float32" if dtype is None else dtype)
        except TypeError:
            raise TypeError(f"dtype must be 'float32' or 'float64', not {dtype!r}") from None
        if self.dtype not in _validate.FLOATS:
            raise TypeError(f"dtype must be 'float32' or 'float64', not {dtype!r}")
        self.layers: list[Layer] = []
        self.metadata: dict[str, Any] = {}
        self._gpu: Any = None  # the backend, for a model that is on one
        self.stop_training = False
        self._input_shape: Shape | None = None
        self._fitted: tuple[Any, ...] = (None,)  # what is known to fit: see `_fits`
        self._predictors: list[Predictor] = []  # one at the most
        self.batch_size: int | None = None
        self._trainer: Trainer | None = None
        if isinstance(layers, Layer):
            raise TypeError(f"layers must be a list of layers, not {type(layers).__name__}: Sequential([layer])")
        for layer in layers or ():
            self.add(layer)

    def __repr__(self) -> str:
        return f"Sequential([{', '.join(map(repr, self.layers))}])"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out memory that only serves speed."""
        self._only_on_the_cpu("copied or pickled")
        return {**self.__dict__, "_predictors": []}

    # --- building ---

    def add(self, layer: Any) -> None:
        """Append a layer; its weights are made at once if the shape of the data is known, else with the first data.

        Raises
        ------
        TypeError
            If it is not a layer.
        ValueError
            If it cannot take what the layer before it returns, or is in the model already.
        """
        if isinstance(layer, Input):
            if self.layers or self._input_shape is not None:
                raise ValueError("an Input must be the first item of a model")
            self._input_shape, self.batch_size = layer.shape, layer.batch_size
            return
        if not isinstance(layer, Layer):
            hint = ": add an instance, with its arguments" if isinstance(layer, type) else ""
            raise TypeError(f"a model is made of layers from numlstm.layers, not {layer!r}{hint}")
        if any(layer is other for other in self.layers):
            raise ValueError(f"layer {layer.name} is in the model already: make another one")
        if self.layers and self.layers[-1].return_state:
            raise ValueError(f"layer {self.layers[-1].name} returns its states: only the last layer of a model can")
        if layer.several_outputs:
            raise ValueError(
                f"layer {layer.name or type(layer).__name__} with merge_mode=None has two outputs, and a model "
                "passes on one: choose 'concat', 'sum', 'mul' or 'ave', or call the layer on arrays by itself"
            )
        if self.layers and isinstance(layer, Embedding):
            raise ValueError("an Embedding takes whole numbers, and so only the data: it must be the first layer")
        if layer.name is not None and any(other.name == layer.name for other in self.layers):
            raise ValueError(f"the model has a layer named {layer.name} already: names must differ")
        if self._gpu is not None:
            self._gpu.check([layer])
        first = not self.layers and self._input_shape is None
        shape = (layer.input_shape or layer.built_for) if first else self.output_shape
        if shape is not None:
            layer.build(shape, self.dtype)  # checks, before the model changes
        if first:
            self._input_shape = shape
        if layer.name is None:
            layer.name = self._free_name(type(layer).__name__.lower())
        self.layers.append(layer)
        self._settle()

    def _free_name(self, base: str) -> str:
        taken = {layer.name for layer in self.layers}
        return next(name for i in range(len(taken) + 1) if (name := f"{base}_{i}" if i else base) not in taken)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the weights for data of this shape, with the batch: (None, T, F) or (N, T, F)."""
        if not isinstance(input_shape, (tuple, list)) or len(input_shape) < 2:
            raise TypeError(f"input_shape must be a tuple such as (None, 60, 1), the batch first, not {input_shape!r}")
        self._build(sample_shape("input_shape", input_shape[1:]))

    def _build(self, shape: Shape) -> None:
        """Make weights that are missing, for samples of this shape; steps may differ from call to call."""
        if self._fits(shape):
            return
        if not self.layers:
            raise ValueError("the model has no layers: add some first")
        if self._input_shape is None:
            steps_first = len(shape) == 2 or isinstance(self.layers[0], Embedding)
            self._input_shape = (None, *shape[1:]) if steps_first else shape
        output = shape
        for layer in self.layers:
            layer.build(output, self.dtype)
            output = layer.output_shape(output)
        self._settle()
        self._fitted = shape, list(self.layers), self._traits(), output  # the last is the shape of an output

    def _fits(self, shape: Shape) -> bool:
        """Return whether samples of this shape are known to fit the layers as they are: the last that came did."""
        fitted = self._fitted
        return bool(shape == fitted[0] and self.layers == fitted[1] and self._traits() == fitted[2])

    @property
    def built(self) -> bool:
        """Whether all weights exist."""
        return bool(self.layers) and all(layer.built for layer in self.layers)

    @property
    def input_shape(self) -> Shape | None:
        """Shape of one sample, without the batch; None before it is known."""
        return self._input_shape

    @property
    def output_shape(self) -> Shape | None:
        """Shape of one output, without the batch; None before it is known."""
        shape = self._input_shape
        for layer in self.layers if shape is not None else ():
            shape = layer.output_shape(shape)  # type: ignore[arg-type]
        return shape

    def output_shape_for(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one output from that of one sample."""
        if self._fits(shape):
            return self._fitted[3]  # type: ignore[no-any-return]
        for layer in self.layers:
            shape = layer.output_shape(shape)  # type: ignore[assignment]
        return shape

    def cast(self, name: str, x: Any, whole: bool = True) -> Array:
        """Return data as the model reads it, built for it; numbers of any kind become its dtype.

        whole : whether a large array may not be left as it is, to be converted to `x_dtype` batch by batch

        Raises
        ------
        TypeError
            If x is not numbers.
        ValueError
            If its shape is not what the model was built for.
        """
        if not self.layers:
            raise ValueError("the model has no layers: add some first")
        array: Array = x if self._gpu is None else self.adopted(name, x, self.x_dtype)
        if self._gpu is None or not devices.on_gpu(array):
            array = self.layers[0].cast(array, self.dtype, name, whole)
        if self._fits(array.shape[1:]):
            return array
        expected = self._input_shape
        if expected is not None and array.ndim == 2 and len(expected) == 2 and expected[1] == 1:
            array = array.reshape(*array.shape, 1)  # as Keras: a missing axis of one feature
        if expected is not None and not fits(array.shape[1:], expected):
            raise ValueError(f"{name} must have shape {sizes_text(expected)}, not {array.shape}")
        if array.ndim < 2:
            raise ValueError(f"{name} must have at least two axes, samples first, not shape {array.shape}")
        if 0 in array.shape[1:]:
            raise ValueError(f"{name} must have at least one step and one feature, not shape {array.shape}")
        self._build(array.shape[1:])
        return array

    def adopted(self, name: str, array: Any, dtype: np.dtype[Any]) -> Any:
        """Return an array on a GPU as passes there read it, without a copy; but whole numbers on the host, to be checked.

        Anything else is returned as it is, and so is everything if the model is on the CPU.

        Raises
        ------
        TypeError, ValueError
            For another dtype, or an array that is not C-contiguous.
        """
        if self._gpu is None or not devices.on_gpu(array):
            return array
        adopted = self._gpu.adopted(name, array)
        if adopted.dtype.kind in "iu" and dtype.kind in "iu":
            return self._gpu.host(adopted)
        if adopted.dtype != dtype:
            raise TypeError(f"{name} is on a GPU as {adopted.dtype}, and must be {dtype} there: nothing is converted")
        return adopted

    @property
    def x_dtype(self) -> np.dtype[Any]:
        """The dtype of data as the first layer reads it."""
        return self.layers[0].x_dtype(self.dtype)

    # --- devices ---

    @property
    def device(self) -> str:
        """Where the model is and computes: "cpu" or "cuda"."""
        return "cpu" if self._gpu is None else "cuda"

    def to(self, device: str, stream: Any = None) -> "Sequential":
        """Bring the model, with what its optimiser keeps, to a device, and return it; data follows batch by batch.

        On a GPU `fit` copies its samples there once, or each batch where they take more than half of its free memory;
        `predict` takes NumPy arrays there and its results back. Arrays that are on the GPU already, of anything with DLPack
        or a CUDA Array Interface (CuPy, PyTorch, numba-cuda), are read where they are if C-contiguous, in the model's dtype:
        as x of `predict`, whose results are then on the GPU and have both, too, and as x and y of `fit` and `evaluate`.
        By DLPack the model's stream waits for theirs and theirs for the model's; before an array is given back the host
        waits for the model, unless that works on a stream of theirs. Weights come back by `get_weights`, `save` and
        ``to("cpu")``, which everything else needs that looks into a model: `jit`, `stream`,
        `trace`, copies. On a GPU only one thread at a time may use a model.

        Parameters
        ----------
        device : "cpu", "cuda" or "auto"
            The latter takes a GPU if there is one that can be used.
        stream : optional
            A CUDA stream for all work on the GPU: its address, or a stream of CuPy, PyTorch or numba-cuda. One of the
            model's own if left out.

        Raises
        ------
        DeviceError
            If there is no such device, or it cannot do what a layer is asked for: the message says what is missing.
        """
        device = devices.choose(device)
        if device == self.device and stream is None:
            return self
        gpu = None
        if device == "cuda":
            from .backend.cuda import open_device

            gpu = open_device(stream)
            gpu.check(self.layers)
        before, self._gpu, self._predictors = self._gpu, gpu, []
        if before is not None:
            before.synchronize()
        try:
            self.backend.place(self.layers)
        except BaseException:
            self._gpu = before
            raise
        return self

    def _only_on_the_cpu(self, what: str) -> None:
        if self._gpu is not None:
            raise devices.DeviceError(f"a model on a GPU cannot be {what}: call its to('cpu') before")

    def _settle(self) -> None:
        """Let parameters that were made follow the others to a GPU."""
        parameters = [parameter for layer in self.layers for parameter in layer.parameters.values()]
        if self._gpu is not None and any(isinstance(parameter, np.ndarray) for parameter in parameters):
            self._gpu.place(self.layers)

    # --- weights ---

    def get_weights(self) -> list[Array]:
        """Return copies of all weights in Keras' layout and order: matrices as (inputs, outputs), gates i, f, c, o."""
        return [array for layer in self.layers for array in layer.get_weights()]

    def set_weights(self, weights: Sequence[Array]) -> None:
        """Set all weights from arrays in Keras' layout and order, such as ``keras_model.get_weights()``.

        Raises
        ------
        ValueError
            If the model is not built, or for another number of arrays or other shapes.
        """
        if not self.built:
            raise ValueError("the model has no weights yet: give the first layer an input_shape, or show it data, first")
        expected = [array.shape for array in self.get_weights()]
        weights = [_validate.numeric(f"weights[{i}]", array, self.dtype) for i, array in enumerate(weights)]
        came = [array.shape for array in weights]
        if came != expected:
            raise ValueError(f"weights must have the shapes {expected}, not {came}")
        at = 0
        for layer in self.layers:
            layer.set_weights(weights[at : at + len(layer.parameters)])
            at += len(layer.parameters)

    def count_params(self) -> int:
        """Return how many numbers the weights are."""
        return sum(layer.count_params() for layer in self.layers)

    def reset_states(self) -> None:
        """Let stateful layers begin with zeros again."""
        for layer in self.layers:
            layer.reset_states()

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Print the layers, the shapes of what they return, and how many parameters they have."""
        rows, shape = [("Layer (type)", "Output shape", "Parameters")], self._input_shape
        for layer in self.layers:
            if shape is not None:
                shape = layer.output_shape(shape)
            text = "?" if shape is None else f"({', '.join(map(str, (self.batch_size, *shape)))})"
            count = f"{layer.count_params():,}" if layer.built else "not built"
            rows.append((f"{layer.name} ({type(layer).__name__})", text, count))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        line = "─" * (sum(widths) + 6)
        print_fn(f'Model: "{self.name}"\n{line}')
        for i, (first, second, third) in enumerate(rows):
            print_fn(
                f"{first:<{widths[0]}}   {second:<{widths[1]}}   {third:>{widths[2]}}" + (f"\n{line}" if i == 0 else "")
            )
        size = self.count_params() * self.dtype.itemsize
        print_fn(f"{line}\n{self.count_params():,} parameters, {self.dtype}, {size / 1024:,.1f} KB")

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

    @property
    def backend(self) -> Any:
        """What computes: `numlstm.backend`, or its like for a GPU."""
        return _cpu() if self._gpu is None else self._gpu

    def _traits(self) -> list[Any]:
        return [layer.traits(layer) for layer in self.layers]

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

    def get_config(self) -> dict[str, Any]:
        """Return what the model is made of, as JSON can hold it; weights are not in it."""
        layers = [{"class": type(layer).__name__, "config": layer.get_config()} for layer in self.layers]
        shape = None if self._input_shape is None else list(self._input_shape)
        return {
            "name": self.name,
            "dtype": str(self.dtype),
            "input_shape": shape,
            "batch_size": self.batch_size,
            "layers": layers,
        }

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
