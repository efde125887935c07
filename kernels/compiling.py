"""``entry`` and ``jit``: Numba's compiler with the options that kernels share, and a disk cache that is never stale.

Numba's own cache looks at the file of the function alone: it does not see a change in an imported helper and serves the old
machine code. Here the folder's name carries a hash of all kernel sources, of the versions of Numba, llvmlite and Python, and
of the CPU, so that anything that could change the code changes the folder. Nothing that goes wrong with the files is
an error: the function is compiled as if there were no cache.
"""

import contextlib
import functools
import gc
import hashlib
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import numba
import numba.core.compiler
import numba.extending
from numba.core import caching, types, typing
from numba.core.ccallback import CFunc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock

from . import target

ENV_FOLDER = "NUMLSTM_CACHE_DIR"
ENV_SWITCH = "NUMLSTM_CACHE"
_FOLDER = re.compile("kernels-[0-9a-f]{24}")
_UNUSED_SECONDS = 30 * 24 * 3600

if numba.config.DISABLE_JIT:
    raise ImportError("numlstm's kernels exist only compiled: unset NUMBA_DISABLE_JIT")


def base_folder() -> Path | None:
    """Return the folder that holds the caches of all versions, or None where there is no home to put it in."""
    try:
        if os.environ.get(ENV_FOLDER):
            return Path(os.environ[ENV_FOLDER]).expanduser().absolute()
        if sys.platform == "win32":
            root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        elif sys.platform == "darwin":
            root = Path.home() / "Library" / "Caches"
        else:
            root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return root.absolute() / "numlstm"


@functools.cache
def source_hash() -> str:
    """Return a hash of all kernel sources and of the width of vectors; "" where there are no sources."""
    digest = hashlib.sha256(str(target.WIDTH).encode())
    try:
        for source in sorted([Path(__file__), *Path(__file__).parent.glob("**/*.py")]):
            digest.update(source.read_bytes())
    except OSError:
        return ""
    return digest.hexdigest()[:24]


def stamped_name(name: str) -> str:
    """Return the name of a type of parameters for users' code, with a stamp: by which kernels they were made.

    Numba keeps what it compiled of users' code by the types of arguments, and does not see that a called kernel has changed:
    with these it looks for code that is not there, and compiles.
    """
    return f"{name}_made_by_{source_hash()}" if source_hash() else name


def _fingerprint() -> str:
    """Return a hash of everything that the machine code depends on."""
    cpu = (numba.config.CPU_NAME, sorted(target.host_features().items()), target.WIDTH, target.ARCHITECTURE)
    versions = (numba.__version__, llvmlite.__version__, platform.python_version(), sys.implementation.cache_tag)
    return hashlib.sha256(repr((source_hash(), versions, cpu)).encode()).hexdigest()[:24]


def _delete_unused(base: Path) -> None:
    """Delete the folders of other versions that no process has used for 30 days, and nothing else that lies there."""
    for folder in base.iterdir():
        if _FOLDER.fullmatch(folder.name) and folder.is_dir() and time.time() - folder.stat().st_mtime > _UNUSED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def cache_folder() -> Path | None:
    """Return the folder of this version on this CPU; None with caching off or no place for it. May be read-only."""
    switch = os.environ.get(ENV_SWITCH) or "1"
    if switch not in {"0", "1"}:
        raise ValueError(f"{ENV_SWITCH} must be 0 or 1, not {switch!r}")
    base = base_folder()
    if base is None or switch == "0" or not source_hash():
        return None
    folder = base / f"kernels-{_fingerprint()}"
    try:
        fresh = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        if fresh:
            _delete_unused(base)
        os.utime(folder)
    except OSError:
        if not folder.is_dir():
            return None
    return folder


class _Locator(caching._CacheLocator):  # type: ignore[misc]
    """Places every kernel's files in `cache_folder`, whose name already stands for the source's state."""

    def __init__(self, py_func: Callable[..., Any]) -> None:
        self._line = py_func.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        return ""

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> "_Locator":
        return cls(py_func)


class _CacheFiles(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_Locator,)

    def __init__(self, py_func: Callable[..., Any]) -> None:
        before = getattr(numba.config, "CACHE_LOCATOR_CLASSES", "")
        numba.config.CACHE_LOCATOR_CLASSES = ""  # a user's choice for other code: its locators know no fingerprint
        try:
            super().__init__(py_func)
        finally:
            numba.config.CACHE_LOCATOR_CLASSES = before


class Specialisation(NamedTuple):
    """One kernel for arguments of certain types, and how this process came by it."""

    kernel: str
    types: str  # what its arguments are, as far as they differ from kernel to kernel
    seconds: float  # that compiling took, with all that is compiled on its way, or else reading
    source: str  # "found" on disk; "compiled", and kept there; "not kept": compiled, but its file could not be written


specialisations: list[Specialisation] = []  # of this process, in the order in which they were ready


def _told_apart(signature: Any) -> str:
    """Return by which types a kernel's specialisations differ: params namedtuples, and the numbers in arrays."""
    parameters, numbers = [], []
    for kind in signature.args if isinstance(signature, typing.Signature) else signature:
        if isinstance(kind, types.BaseNamedTuple):
            parameters.append(kind.instance_class.__name__)
        elif isinstance(kind, types.Array | types.CPointer):
            numbers.append(str(kind.dtype))
    return " ".join(dict.fromkeys(name for name in parameters + numbers if name != "Runtime"))


class _KernelCache(caching.FunctionCache):  # type: ignore[misc]
    """Numba's cache of one function, for which an unreadable or unwritable file means "not cached"."""

    _impl_class = _CacheFiles

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        self._start = time.perf_counter()
        try:
            found = super().load_overload(sig, target_context)
        except Exception:  # a truncated or foreign file: any exception that unpickling can raise
            return None
        if found is not None:
            self._note(sig, "found")
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        source = "compiled" if self._enabled else "not kept"
        try:
            super().save_overload(sig, data)
        except Exception:  # a full or read-only disk, or an index file that cannot be read back
            self.disable()
            source = "not kept"
        self._note(sig, source)

    def _note(self, sig: Any, source: str) -> None:
        seconds = time.perf_counter() - self._start
        specialisations.append(Specialisation(self._py_func.__name__.strip("_"), _told_apart(sig), seconds, source))


_COLLECT_AFTER = 50_000  # new objects, of which Numba makes millions, most of them to stay


@contextlib.contextmanager
def _collecting_seldom() -> Iterator[None]:
    """Let Python look for garbage less often for as long as something compiles: a tenth of the time."""
    with global_compiler_lock:
        before = gc.get_threshold()
        seldom = (_COLLECT_AFTER, *before[1:]) if 0 < before[0] < _COLLECT_AFTER else before
        gc.set_threshold(*seldom)
        outermost = not _thresholds
        if outermost:
            _thresholds[:] = before
        try:
            yield
        finally:
            if outermost:
                _thresholds.clear()
            if gc.get_threshold() == seldom:  # nobody else chose another
                gc.set_threshold(*before)


_thresholds: list[int] = []  # what a compilation that goes on has to put back


def _after_fork() -> None:
    """In a child, nobody else will end what a thread of the parent was compiling."""
    if _thresholds:
        gc.set_threshold(*_thresholds)
        _thresholds.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# All that Numba would take over from a user's function in which a kernel is compiled, fast-math flags for one, is stated.
OPTIONS = {
    "nopython": True,
    "error_model": "numpy",
    "boundscheck": False,
    "fastmath": False,
    "forceinline": False,
}


class _EntryLibrary(JITCodeLibrary):  # type: ignore[misc]
    """The LLVM code of an entry with all its parts, optimised once.

    Numba does it twice, the first time to bring reference counts together, of which kernels have next to none, and then at
    level 3, which copies loops for conditions that do not change in them: a third more code that is no faster.
    """

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        made = self._codegen._module_pass_manager(opt=2)
        passes, *builder = made if isinstance(made, tuple) else (made,)  # Numba 0.61 has no builder
        passes.run(self._final_module, *builder)


class _PartLibrary(JITCodeLibrary):  # type: ignore[misc]
    """The LLVM code of a part as it was written: whoever takes it in optimises it, with all else, and makes machine code."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


class _EntryCompiler(numba.core.compiler.Compiler):  # type: ignore[misc]
    """Compiles what Python or C calls, with a wrapper for the one or the other."""

    def __init__(
        self, typingctx: Any, targetctx: Any, library: Any, args: Any, return_type: Any, flags: Any, locals: Any
    ) -> None:
        flags.no_cfunc_wrapper = not flags.no_cpython_wrapper
        super().__init__(typingctx, targetctx, library, args, return_type, flags, locals)

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        self.state.library = _EntryLibrary(self.state.targetctx.codegen(), func.__qualname__)
        self.state.library.enable_object_caching()
        return super().compile_extra(func)


class _PartCompiler(numba.core.compiler.Compiler):  # type: ignore[misc]
    """Compiles what is only ever a part of other kernels: no wrappers for Python and C, and no machine code of its own."""

    def __init__(
        self, typingctx: Any, targetctx: Any, library: Any, args: Any, return_type: Any, flags: Any, locals: Any
    ) -> None:
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        super().__init__(typingctx, targetctx, library, args, return_type, flags, locals)

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        targetctx = self.state.targetctx
        self.state.library = _PartLibrary(targetctx.codegen(), func.__qualname__)
        compiled = super().compile_extra(func)
        # By its entry point callers know a function; a part has none, so something of the same type stands for it.
        compiled = compiled._replace(entry_point=[].append)
        targetctx.insert_user_function(compiled.entry_point, compiled.fndesc, [compiled.library])
        return compiled


_PART = {**OPTIONS, "nogil": True, "pipeline_class": _PartCompiler, "_nrt": False}


def overload(function: Callable[..., Any], **options: Any) -> Any:
    """Say, as numba.extending.overload does, that the function below chooses the code of `function` by types: a part."""
    return numba.extending.overload(function, jit_options={**_PART, **options})


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """Compile `function` as a part of kernels, for other kernels to call: no GIL, no bounds checks, IEEE division.

    It takes half the time of an `entry`, for nothing is made that Python could call. References to arrays are not counted:
    callers hold them.
    """
    dispatcher = numba.jit(**{**_PART, **options})(function)
    template = dispatcher.get_call_template

    def get_call_template(arguments: Any, keywords: Any) -> Any:
        # Numba would compile a kernel once more for each literal that another kernel calls it with.
        return template(tuple(map(types.unliteral, arguments)), keywords)

    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise TypeError(f"{function.__name__} is a part of kernels, which only kernels can call")

    dispatcher.get_call_template = get_call_template
    dispatcher._compile_for_args = refuse
    return dispatcher


inlined = functools.partial(jit, forceinline=True)  # into its caller, so that what does not change in its loops is moved out


def entry(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile `function` as a kernel that Python calls, cached on disk with all its parts. Extra options are Numba's."""
    if function is None:
        return functools.partial(entry, **options)
    dispatcher = numba.jit(nogil=True, pipeline_class=_EntryCompiler, **OPTIONS, **options)(function)
    if cache_folder() is not None:
        dispatcher._cache = _KernelCache(function)
    compile_now = dispatcher.compile

    def compile_seldom_collecting(signature: Any) -> Any:
        with _collecting_seldom():
            return compile_now(signature)

    dispatcher.compile = compile_seldom_collecting
    return dispatcher


class CFunction:
    """A function of fixed signature behind a C address, for kernels to call through; compiled when first asked for."""

    def __init__(self, function: Callable[..., Any], signature: Any) -> None:
        self._function, self._types = function, (signature.args, signature.return_type)

    @functools.cached_property
    def address(self) -> int:
        compiled = CFunc(self._function, self._types, {}, dict(OPTIONS), pipeline_class=_EntryCompiler)
        if cache_folder() is not None:
            compiled._cache = _KernelCache(self._function)
        with _collecting_seldom():
            compiled.compile()
        self._keep_alive = compiled
        return int(compiled.address)
