"""What rewritten code calls in place of the functions that it names. Layer 5, rewriting.

User functions are rewritten too; graphc's own get their function arguments rewritten; Python's and NumPy's that cannot take
traced values, or make what will hold some, are replaced by twins that can.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import BuiltinMethodType, FunctionType, MethodType
from typing import Any

import numpy as np

from graphc.errors import GraphcError, StructureError, TraceError, message
from graphc.frontend import context, creation
from graphc.frontend.elementwise import apply_ufunc
from graphc.frontend.promotion import as_tensor, op
from graphc.frontend.rewriting.conversion import current
from graphc.frontend.source import is_user_code, user_location
from graphc.frontend.structure import Tracked
from graphc.frontend.tensor import Tensor
from graphc.frontend.trace import Traced

__all__ = ["TracedRange", "callee", "changed", "fresh"]


@dataclass(frozen=True, slots=True)
class TracedRange:
    """`range(start, stop, step)` with a traced bound; `step` is a Python int."""

    start: Any
    stop: Any
    step: int

    def __iter__(self) -> Iterator[Any]:
        raise TraceError(
            message(
                "a range with a traced bound is iterated over by Python",
                location=user_location(),
                hint="Write it as `for i in range(n)` in the function itself.",
            )
        )


def _range(*args: Any) -> Any:
    if not any(isinstance(a, Tensor) for a in args):
        return range(*args)
    start, stop, step = (0, args[0], 1) if len(args) == 1 else (*args, 1)[:3]
    for bound in (start, stop):
        if isinstance(bound, Tensor) and (bound.shape or not bound.type.dtype.is_integer):
            raise StructureError(
                message(
                    "range() takes integers",
                    operands=[("bound", bound.type)],
                    location=user_location(),
                    hint="Convert it with .astype(np.int64), or take one element.",
                )
            )
    if isinstance(step, Tensor) or step == 0:
        raise StructureError(
            message(
                "the step of a range with traced bounds is a Python integer other than 0",
                location=user_location(),
                hint="Write a while loop.",
            )
        )
    return TracedRange(start, stop, int(step))


def _scalar(x: Tensor, dtype: Any) -> Tensor:
    """A number as Python would make it of a tensor of one element: weakly typed."""
    if x.shape and x.size == 1:
        x = op("reshape", x, shape=())
    if x.shape:
        raise StructureError(
            message(
                "a number is made of a tensor of one element only",
                operands=[("tensor", x.type)],
                location=user_location(),
                hint="Choose an element (x[0]), or reduce it (x.sum()).",
            )
        )
    made = as_tensor(x, dtype)
    if isinstance(made, Traced):
        made = Traced(made._trace, made._trace.value_of(made), "ndarray", weak=True) if made is x else made
        made.kind, made.weak = "ndarray", True
    return made


def _int(x: Any = 0, *args: Any) -> Any:
    if isinstance(x, Tensor):
        return _scalar(x, np.int64)
    return int(x, *args)


def _float(x: Any = 0.0) -> Any:
    return _scalar(x, np.float64) if isinstance(x, Tensor) else float(x)


def _bool(x: Any = False) -> Any:
    return apply_ufunc("not_equal", x, 0) if isinstance(x, Tensor) and not x.shape else bool(x)


def _extreme(python: Callable[..., Any], ufunc: str) -> Callable[..., Any]:
    def extreme(*args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) < 2 or not any(isinstance(a, Tensor) for a in args):
            return python(*args, **kwargs)
        result = args[0]
        for x in args[1:]:
            result = apply_ufunc(ufunc, result, x)
        return result

    return extreme


def _creation(numpy_function: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy's function, its result a traced constant, so that traced values can be stored in it."""

    @functools.wraps(numpy_function)
    def create(*args: Any, **kwargs: Any) -> Any:
        trace = context.trace.get()
        if trace is None:
            return numpy_function(*args, **kwargs)
        if any(map(_has_tensor, args)) or any(map(_has_tensor, kwargs.values())):
            try:
                return _of_tensors(numpy_function, args, kwargs)
            except (TypeError, ValueError) as error:
                # NumPy hides a refusal to give a value behind an error of its own.
                if isinstance(error, GraphcError) or trace.refused is None:
                    raise
                raise trace.refused[0] from None
        return trace.constant(numpy_function(*args, **kwargs))

    return create


def _has_tensor(x: Any) -> bool:
    return isinstance(x, Tensor) or (isinstance(x, (list, tuple)) and any(map(_has_tensor, x)))


def _of_tensors(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if function in (np.array, np.asarray, np.ascontiguousarray):
        made = as_tensor(_strict(args[0]), kwargs.get("dtype") or (args[1] if len(args) > 1 else None))
        if function is np.array and made is args[0]:
            made = apply_ufunc("positive", made) if not made.type.dtype.is_bool else op("select", made, made, made)
        if isinstance(made, Traced):
            made.kind = "ndarray"
        return made
    if function is np.full:
        made = creation.full(*args, **kwargs)
        if isinstance(made, Traced):
            made.kind = "ndarray"
        return made
    return function(*args, **kwargs)


def _strict(x: Any) -> Any:
    """A nested list with its numbers, Python's and what stands for them, in the dtypes that NumPy gives them."""
    if isinstance(x, (list, tuple)):
        return [_strict(item) for item in x]
    if isinstance(x, Traced) and x.weak:
        return Traced(x._trace, x._trace.value_of(x), "ndarray")
    return np.asarray(x) if isinstance(x, (bool, int, float, complex)) else x


def _mutation(method: BuiltinMethodType) -> Callable[..., Any]:
    """A method that changes a list, dict or set: not done in a region of which it is not known whether it runs."""
    conversion = current()
    if conversion is None or conversion.owns(method.__self__):
        return method
    name = f"{type(method.__self__).__name__}.{method.__name__}"
    raise TraceError(
        message(
            f"{name}() changes what was made outside of this branch or loop on a traced value",
            location=user_location(),
            hint="A compiled branch or loop cannot change Python objects. Store into an array made before it "
            "(y = np.zeros(n); y[i] = v), or carry the value in a variable.",
        )
    )


_MUTATORS = frozenset(
    [
        "append",
        "extend",
        "insert",
        "remove",
        "pop",
        "clear",
        "sort",
        "reverse",
        "update",
        "setdefault",
        "popitem",
        "add",
        "discard",
        "appendleft",
        "popleft",
    ]
)


def callee(function: Any) -> Any:
    """What to call in place of `function` in rewritten code."""
    if isinstance(function, (FunctionType, MethodType)):
        return _converted(function) if is_user_code(_code(function)) else _higher_order(function)
    if isinstance(function, BuiltinMethodType) and isinstance(function.__self__, (list, dict, set)):
        return _mutation(function) if function.__name__ in _MUTATORS else function
    try:
        return _TWINS.get(function, function)
    except TypeError:  # not hashable
        return function


def _code(function: FunctionType | MethodType) -> Any:
    return getattr(function, "__func__", function).__code__


def _higher_order(function: Any) -> Any:
    """A library function, whose arguments that are user functions are rewritten."""
    if not (function.__module__ or "").startswith("graphc."):
        return _TWINS.get(function, function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*map(_argument, args), **{k: _argument(v) for k, v in kwargs.items()})

    return call


def _argument(x: Any) -> Any:
    if isinstance(x, (FunctionType, MethodType)) and is_user_code(_code(x)):
        return _converted(x)
    return x


def _converted(function: FunctionType | MethodType) -> Any:
    conversion = current()
    return function if conversion is None else conversion.converted(function)


def changed(thing: Any) -> Any:
    """An object whose attribute rewritten code sets or deletes."""
    conversion = current()
    if conversion is None or isinstance(thing, (Tensor, Tracked)) or conversion.owns(thing):
        return thing
    raise TraceError(
        message(
            f"an attribute of a {type(thing).__name__} is set inside of a branch or loop on a traced value",
            location=user_location(),
            hint="A compiled branch or loop cannot change Python objects: carry the value in a variable, and set the "
            "attribute after it.",
        )
    )


def fresh(made: Any) -> Any:
    """A list, dict or set that rewritten code has made: it may change it wherever it was made."""
    conversion = current()
    if conversion is not None:
        conversion.own(made)
    return made


def _maker(kind: type) -> Callable[..., Any]:
    return lambda *args, **kwargs: fresh(kind(*args, **kwargs))


_TWINS: dict[Any, Callable[..., Any]] = {
    range: _range,
    int: _int,
    float: _float,
    bool: _bool,
    list: _maker(list),
    dict: _maker(dict),
    set: _maker(set),
    max: _extreme(max, "maximum"),
    min: _extreme(min, "minimum"),
    **{
        f: _creation(f)
        for f in (
            np.zeros,
            np.ones,
            np.empty,
            np.full,
            np.array,
            np.asarray,
            np.ascontiguousarray,
            np.arange,
            np.linspace,
            np.eye,
            np.identity,
            np.zeros_like,
            np.ones_like,
            np.empty_like,
            np.full_like,
            np.copy,
        )
    },
}
