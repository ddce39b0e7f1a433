"""`gx.compile`: functions, methods and modules as compiled callables. Layer 5.

A call flattens its arguments, finds the variant with that signature whose guards hold, or traces and compiles one, and
runs it. A variant knows how to bind arguments and state, what to write back, and how to wrap results.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from operator import is_
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from graphc.errors import StructureError, message
from graphc.frontend import context, pytree
from graphc.frontend.build import Options
from graphc.frontend.capture import Captured, capture
from graphc.frontend.export import Call, write_package
from graphc.frontend.fastcall import NativeCalls, native_base
from graphc.frontend.report import Report, make_report
from graphc.frontend.signature import Static, describe_key, leaf_key, traced_leaf
from graphc.frontend.source import user_location
from graphc.frontend.structure import Tracked, global_version
from graphc.frontend.tensor import Tensor
from graphc.frontend.trace import Traced
from graphc.frontend.variant import Variant
from graphc.target import Target

__all__ = ["CompiledFunction", "CompiledModule", "Stats", "compile"]


@dataclass(slots=True)
class Stats:
    """Counters of a compiled function: compilations (disk cache hits included), calls, arrays that had to be copied, and the
    reason of each compilation."""

    compiles: int = 0
    cache_hits: int = 0
    copies: int = 0
    reasons: list[str] = field(default_factory=list)
    # At an address of its own, where native calls count.
    _calls: ctypes.c_int64 = field(default_factory=ctypes.c_int64, repr=False, compare=False)

    @property
    def calls(self) -> int:
        """Number of calls, those that failed included."""
        return self._calls.value

    @calls.setter
    def calls(self, number: int) -> None:
        self._calls.value = number

    def __str__(self) -> str:
        lines = [
            f"{self.calls} calls, {self.compiles} compilations ({self.cache_hits} from the disk cache), {self.copies} copies"
        ]
        return "\n".join([*lines, *(f"  {i + 1}. {reason}" for i, reason in enumerate(self.reasons))])


@dataclass(slots=True)
class _Flat:
    """A call's arguments as leaves."""

    leaves: list[Any]
    paths: list[str]
    structure: pytree.Structure
    keys: tuple[Hashable, ...]
    key: Hashable


class CompiledFunction:
    """A function that is traced and compiled at its first call with each signature. Made by `gx.compile`.

    Attributes
    ----------
    stats
        Counters, and why each compilation was needed.
    """

    def __init__(self, function: Callable[..., Any], options: Options, static_argnames: tuple[str, ...]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._options = options
        self._static = static_argnames
        self._signature = _signature(function)
        self._variants: dict[Hashable, list[Variant]] = {}
        self._quick: dict[Hashable, list[Variant]] = {}
        self._lock = RLock()
        self._native = NativeCalls() if type(self) is not CompiledFunction else None
        self.stats = Stats()
        unknown = set(static_argnames) - set(self._signature.parameters if self._signature else ())
        if unknown:
            raise StructureError(
                message(
                    f"static_argnames {sorted(unknown)} are not arguments of {self._name}",
                    location=user_location(),
                    hint=f"Its arguments are {', '.join(self._signature.parameters)}."
                    if self._signature
                    else "Its signature is not known to Python: wrap it in a function of your own.",
                )
            )

    @property
    def _name(self) -> str:
        return getattr(self._function, "__name__", type(self._function).__name__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if context.trace.get() is not None:
            return context.rewritten(self._function)(*args, **kwargs)
        key = None if kwargs else _quick_key(args)
        variant = None if key is None else _first_valid(self._quick.get(key))
        if variant is not None:
            return self._served(args, key, variant)
        flat = self._flatten(args, kwargs)
        variant = _first_valid(self._variants.get(flat.key)) or self._compile(flat)
        if key is not None and len(flat.leaves) == len(args) and all(map(is_, flat.leaves, args)):
            self._quick[key] = self._variants[flat.key]
            return self._served(args, key, variant)
        self.stats.calls += 1
        return variant.call(flat.leaves, self.stats)

    def _served(self, args: tuple[Any, ...], key: Hashable, variant: Variant) -> Any:
        """A call with plain leaves; the next one like it may be native."""
        self.stats.calls += 1
        result = variant.call(args, self.stats)
        # Another thread that holds the lock may be compiling: the next call can learn as well.
        if self._native is not None and self._lock.acquire(blocking=False):
            try:
                self._native.learn(self, key, args, variant, self.stats._calls)
            finally:
                self._lock.release()
        return result

    def __copy__(self) -> CompiledFunction:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledFunction:
        return self

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __repr__(self) -> str:
        return f"<compiled {self._name}: {self.stats.compiles} compilations, {self.stats.calls} calls>"

    def inspect(self, *args: Any, **kwargs: Any) -> Report:
        """What the compiler makes of a call with these arguments: `.stages`, `.graph`, `.kernels`, `.llvm`, `.asm`,
        `.memory`. Nothing is run and no state changes.

        >>> import numpy as np, graphc as gx
        >>> report = gx.compile(lambda x: np.exp(x) / np.exp(x).sum()).inspect(np.ones(4))
        >>> [stage.name for stage in report.stages][-1], len(report.kernels)
        ('fusion', 1)
        >>> print(report.graph)
        graph "<lambda>"(%x: f64[4]) -> (f64[4]) {
          ...
        }
        """
        flat = self._flatten(args, kwargs)
        with self._lock:
            captured = self._trace(flat)
        return make_report(captured, self._options, self._function, flat.leaves)

    def trace(self, *args: Any, **kwargs: Any) -> Captured:
        """The traced function for a call with these arguments: graph, state slots, plan of outputs. Nothing is run."""
        flat = self._flatten(args, kwargs)
        with self._lock:
            return self._trace(flat)

    def export(self, path: str | os.PathLike[str], /, *args: Any, **kwargs: Any) -> Path:
        """Write the compiled call as a package that needs Python and NumPy only: `from path import name`.

        The function in the package has this function's name (the package's name for lambdas and modules), parameters
        and docstring. It takes arrays of exactly these dtypes and shapes; Python floats stay parameters; static
        arguments and defaults that are not given here are part of the code. Captured tensors are stored as weights.
        Results are NumPy arrays in the same containers; named tuples become tuples, dataclasses become dicts.

        Parameters
        ----------
        path
            The package's folder; the last part is its name. An earlier export there is replaced.
        *args, **kwargs
            An example call. Nothing is run.

        Raises
        ------
        ExportError
            If the function writes state or arguments, if an argument or result cannot be written down, or if the place
            is taken.

        Examples
        --------
        >>> import numpy as np, graphc as gx
        >>> @gx.compile
        ... def doubled(x):
        ...     return x * 2
        >>> doubled.export("doubled_package", np.ones(3)).name
        'doubled_package'
        >>> import doubled_package  # needs NumPy only
        >>> doubled_package.doubled(np.arange(3.0))
        array([0., 2., 4.])
        """
        flat = self._flatten(args, kwargs)
        with self._lock:
            captured = self._trace(flat)
        leaves = [leaf.value if isinstance(leaf, Static) else leaf for leaf in flat.leaves]
        module = self._function._module if isinstance(self._function, _Caller) else None
        described = self._function if module is None else getattr(module, "forward", module)
        call = Call(
            function=self._function,
            name=self._name,
            public=self._name if module is None else None,
            signature=_signature(described),
            doc=described.__doc__ or "",
            structure=flat.structure,
            leaves=leaves,
            keys=flat.keys,
        )
        return write_package(path, call, captured, self._options)

    # -- signatures -------------------------------------------------------------------------------------------------

    def _flatten(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Flat:
        if self._signature is not None:
            args, kwargs = self._bind(args, kwargs)
        leaves, paths, structure = pytree.flatten((args, kwargs))
        names = [self._path(p) for p in paths]
        keys = tuple(leaf_key(leaf, path) for leaf, path in zip(leaves, names, strict=True))
        return _Flat(leaves, names, structure, keys, (structure, keys, context.grad_enabled.get()))

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        assert self._signature is not None
        if not kwargs and not self._static and len(args) == len(self._signature.parameters):
            return args, kwargs
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise StructureError(
                message(
                    f"{self._name}{self._signature}: {error}",
                    location=user_location(),
                    hint="Call it with the arguments of its signature.",
                )
            ) from None
        for name in self._static:
            if name in bound.arguments:
                bound.arguments[name] = Static(bound.arguments[name])
        return bound.args, bound.kwargs

    def _path(self, path: str) -> str:
        """`[0][2]['w']` as `b['w']` by the names of the parameters."""
        which, _, rest = path[1:].partition("]")
        step, _, tail = rest[1:].partition("]")
        if which == "1":
            return step.strip("'\"") + tail
        parameters = list(self._signature.parameters.values()) if self._signature else []
        index = int(step)
        for place, parameter in enumerate(parameters[: index + 1]):
            if parameter.kind is parameter.VAR_POSITIONAL:
                return f"{parameter.name}[{index - place}]{tail}"
        return (parameters[index].name if index < len(parameters) else f"args[{index}]") + tail

    # -- compiling ----------------------------------------------------------------------------------------------------

    def _trace(self, flat: _Flat) -> Captured:
        traced = [traced_leaf(key) for key in flat.keys]
        leaves = [leaf.value if isinstance(leaf, Static) else leaf for leaf in flat.leaves]
        autograph = self._options.autograph
        return capture(self._function, leaves, traced, flat.paths, flat.structure, self._name, autograph=autograph)

    def _compile(self, flat: _Flat) -> Variant:
        with self._lock:
            found = _first_valid(self._variants.get(flat.key))
            if found is not None:
                return found
            reason = self._reason(flat)
            variant = Variant(self._trace(flat), self._options, flat.leaves)
            kept = self._variants.setdefault(flat.key, [])
            kept.append(variant)
            # What guards and structure versions have made stale may become valid again (train and eval), but not for ever.
            del kept[:-_VARIANTS]
            self.stats.compiles += 1
            self.stats.cache_hits += variant.from_cache
            self.stats.reasons.append(reason)
            return variant

    def _reason(self, flat: _Flat) -> str:
        where = user_location(2)
        at = f" (called at {where})" if where else ""
        types = ", ".join(f"{p}: {describe_key(k)}" for p, k in zip(flat.paths, flat.keys, strict=True))
        known = self._variants.get(flat.key)
        if known:
            return f"{known[-1].broken_guard()}{at}"
        return f"{'first call' if not self._variants else 'new signature'} ({types}){at}"


def _compiled(function: Callable[..., Any], options: Options, static_argnames: tuple[str, ...]) -> CompiledFunction:
    """A compiled function, of the type that is called natively where there is one."""
    base = native_base(CompiledFunction.__call__)
    made = CompiledFunction if base is None else _native_class(base)
    return made(function, options, static_argnames)


@functools.cache
def _native_class(base: type) -> type[CompiledFunction]:
    """`CompiledFunction` whose `__call__` is `base`'s."""
    return type(
        "CompiledFunction", (base, CompiledFunction), {"__module__": __name__, "__doc__": CompiledFunction.__doc__}
    )


def _quick_key(args: tuple[Any, ...]) -> Hashable | None:
    """The signature of a call whose arguments are arrays, tensors and floats, without containers; None for others."""
    parts: list[Any] = [context.grad_enabled.get()]
    for x in args:
        kind = type(x)
        if kind is np.ndarray:
            parts += (x.dtype, x.shape)
        elif kind is float:
            parts.append(kind)
        elif kind in _PLAIN:
            parts += (kind, x)
        elif isinstance(x, Tensor) and kind is not Traced:
            parts += (Tensor, x._array.dtype, x._array.shape, x._requires_grad)
        else:
            return None
    return tuple(parts)


def _first_valid(variants: list[Variant] | None) -> Variant | None:
    """The first variant whose guards hold."""
    if variants:
        version = global_version()
        for variant in variants:
            if variant.valid(version):
                return variant
    return None


#: Static arguments whose value can never change under the same identity.
_PLAIN = frozenset((bool, int, str, bytes, type(None)))

#: Variants kept for one signature.
_VARIANTS = 16


class CompiledModule:
    """A module whose call is compiled; every other attribute is the module's."""

    def __init__(self, module: Any, options: Options) -> None:
        object.__setattr__(self, "_module", module)
        object.__setattr__(self, "_compiled", _compiled(_Caller(module), options, ()))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._compiled(*args, **kwargs)

    @property
    def stats(self) -> Stats:
        """Counters of the compiled call."""
        return self._compiled.stats

    def inspect(self, *args: Any, **kwargs: Any) -> Report:
        """See `CompiledFunction.inspect`."""
        return self._compiled.inspect(*args, **kwargs)

    def trace(self, *args: Any, **kwargs: Any) -> Captured:
        """See `CompiledFunction.trace`."""
        return self._compiled.trace(*args, **kwargs)

    def export(self, path: str | os.PathLike[str], /, *args: Any, **kwargs: Any) -> Path:
        """See `CompiledFunction.export`; the function in the package is named after the package."""
        return self._compiled.export(path, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._module, name, value)

    def __repr__(self) -> str:
        return f"compiled {self._module!r}"


class _Caller:
    """Calls a module; named after its class."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self.__name__ = type(module).__name__
        self.__doc__ = type(module).__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._module(*args, **kwargs)


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    if isinstance(function, _Caller):
        return None
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def compile(
    function: Any = None,
    *,
    static_argnames: str | Sequence[str] = (),
    contract: bool = True,
    target: Target | None = None,
    autograph: bool = True,
) -> Any:
    """Compile a function, method or module: it is traced once for each signature into a static graph, and run as native code.

    Parameters
    ----------
    function
        A function of arrays, tensors, numbers and containers of these, or a Module. NumPy calls inside are compiled too.
    static_argnames
        Names of arguments whose values are part of the signature.
    contract
        Allow a product and a sum to be rounded once (FMA). Without it every exactly rounded op is bit-equal to NumPy.
    target
        Compile for another machine than this one (`graphc.target.named`); it must be able to run here to be called.
    autograph
        Make `if`, `while`, `for`, `and`, `or`, `not` on traced values part of the graph, by rewriting the function's
        source (and that of the functions that it calls) when a value is asked for. Without it, that is an error.

    Returns
    -------
    CompiledFunction or CompiledModule

    Raises
    ------
    TraceError
        At the call, when the function does what a static graph cannot express; the message names the user's line.

    Examples
    --------
    >>> import numpy as np, graphc as gx
    >>> @gx.compile
    ... def scaled(x, y):
    ...     return np.maximum(x, 0.0) * 2.0 + y
    >>> scaled(np.array([-1.0, 1.0]), np.array([1.0, 1.0]))
    array([1., 3.])
    """
    names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
    options = Options(contract=contract, target=target, autograph=autograph)
    names = names or getattr(function, "static_argnames", ())
    if function is None:
        return functools.partial(compile, static_argnames=names, contract=contract, target=target, autograph=autograph)
    if isinstance(function, (CompiledFunction, CompiledModule)):
        return function
    if isinstance(function, Tracked) and callable(function):
        return CompiledModule(function, options)
    if not callable(function):
        raise StructureError(
            message(
                f"only functions and modules can be compiled, not {function!r}",
                location=user_location(),
                hint="Use it as a decorator, or pass a function, a method or an nn.Module.",
            )
        )
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        raise StructureError(
            message(
                f"{function.__name__} is a {'coroutine' if inspect.iscoroutinefunction(function) else 'generator function'}; "
                "a call does not run its body",
                location=user_location(),
                hint="Compile the plain function that does the computation.",
            )
        )
    return _compiled(function, options, names)
