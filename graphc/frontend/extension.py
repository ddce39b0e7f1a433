"""The user's own Python functions in graphs: `host_call` and `custom_op`. Layer 5.

Both work in dynamic mode, where the function is called at once, and in compiled functions, where native code calls it.
Functions of modules are known by `module:qualified.name`; closures work in their own process, but what calls them is
neither cached on disk nor exported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any

import numpy as np

from graphc import hosts
from graphc.errors import HostCallError, NoDerivativeError, StructureError, message
from graphc.frontend import context
from graphc.frontend.autograd import TensorBuilder
from graphc.frontend.promotion import as_tensor, describe
from graphc.frontend.source import user_location
from graphc.frontend.subtrace import Argument, subtrace
from graphc.frontend.tensor import Tensor, apply, checked_dtype, record
from graphc.frontend.trace import TraceBuilder, Traced
from graphc.ir import registry
from graphc.ir.op import Builder, GraphBuilder, apply_graph
from graphc.ir.types import TensorType

__all__ = ["CustomOp", "ShapeDtype", "apply_effect", "custom_op", "host_call", "world"]


@dataclass(frozen=True, slots=True)
class ShapeDtype:
    """The shape and dtype of an array, without the array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "dtype", np.dtype(self.dtype))


# -- what a function gives -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Results:
    """The declared results; `single` ones are given as they are, others as a tuple (no results: None)."""

    types: tuple[TensorType, ...]
    single: bool

    def wrap(self, results: Sequence[Any]) -> Any:
        if self.single:
            return results[0]
        return tuple(results) if self.types else None


def _declared(who: str, given: Any) -> _Results:
    if given is None:
        return _Results((), False)
    if _is_one(given):
        return _Results((_type(who, given),), True)
    if isinstance(given, (list, tuple)):
        return _Results(tuple(_type(who, item) for item in given), False)
    raise _bad_type(who, given)


def _is_one(given: Any) -> bool:
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], (tuple, list, int)):
        return not (isinstance(given[0], tuple) and len(given[0]) == 2 and isinstance(given[0][0], (tuple, list)))
    return hasattr(given, "shape") and hasattr(given, "dtype")


def _type(who: str, given: Any) -> TensorType:
    if isinstance(given, TensorType):
        return given
    if not _is_one(given):
        raise _bad_type(who, given)
    shape, dtype = given if isinstance(given, tuple) else (given.shape, given.dtype)
    shape = (shape,) if isinstance(shape, int) else tuple(int(d) for d in shape)
    return TensorType(checked_dtype(dtype), shape)


def _bad_type(who: str, given: Any) -> StructureError:
    return StructureError(
        message(
            f"{who}: {given!r} is no type of a result",
            location=user_location(),
            hint="Give gx.ShapeDtype(shape, dtype), an array like the result, a list of these, or None for no result.",
        )
    )


def _tensors(args: Sequence[Any]) -> list[Tensor]:
    return [as_tensor(x) for x in args]


def _in_kind(results: Sequence[Tensor], operands: Sequence[Any]) -> list[Any]:
    """Results as NumPy arrays would be dispatched: arrays if no operand was a Tensor."""
    if any(isinstance(x, Tensor) and not (isinstance(x, Traced) and x.kind == "ndarray") for x in operands):
        return list(results)
    for result in results:
        if isinstance(result, Traced):
            result.kind = "ndarray"
    return list(results)


# -- calls with effects --------------------------------------------------------------------------------------------------


def apply_effect(name: str, operands: Sequence[Tensor], attrs: dict[str, Any]) -> tuple[Tensor, ...]:
    """Apply an op with an effect: now, or, while tracing, in the program's order."""
    op = registry.get(name)
    trace = context.trace.get()
    if trace is not None:
        return trace.apply_effect(op, operands, attrs)
    arrays = tuple(t._array for t in operands)
    try:
        found = op.evaluate((None, *arrays), attrs)[1:]
    except HostCallError as error:
        raise error.at(user_location()) from None
    results = tuple(Tensor(np.array(x)) for x in found)
    if any(t._requires_grad for t in operands):
        record(op, attrs, operands, results, (arrays, found))
    return results


def host_call(function: Callable[..., Any], result_types: Any, /, *args: Any) -> Any:
    """Call a Python function on arrays, also from compiled code, once for each time that the program comes here.

    Parameters
    ----------
    function
        Takes NumPy arrays, which it may keep, and gives NumPy arrays (None, one, or a tuple) of the declared types. Name it
        in a module: a closure works, but the compiled code is neither cached nor exported.
    result_types
        `gx.ShapeDtype(shape, dtype)`, or an array like the result; a list for several results, None for none.
    args
        Arrays, tensors or numbers.

    Returns
    -------
    The results as Tensors: one, a tuple, or None.

    Raises
    ------
    HostCallError
        If the function gives something else than declared.
    GradientError
        If a gradient is asked for through the call; `custom_op` takes a derivative.

    Notes
    -----
    Host calls keep their order. In a compiled call they all come before the first write to state: when one raises, its
    exception comes out of the compiled function, and no state has changed.

    >>> import numpy as np, graphc as gx
    >>> gx.host_call(np.sort, gx.ShapeDtype((3,), np.float64), np.array([3.0, 1.0, 2.0]))
    Tensor([1., 2., 3.], dtype=float64)
    """
    _check_callable("host_call", function)
    declared = _declared("host_call", result_types)
    attrs = {"function": hosts.name_of(function), "types": declared.types}
    return declared.wrap(apply_effect("host_call", _tensors(args), attrs))


def _check_callable(who: str, function: Any) -> None:
    if not callable(function):
        raise StructureError(
            message(
                f"{who}: {function!r} cannot be called",
                location=user_location(),
                hint="Give the function first, then the types of its results.",
            )
        )


# -- custom ops ------------------------------------------------------------------------------------------------------------


class CustomOp:
    """A pure NumPy function as an op. Made by `custom_op`; called with arrays or tensors."""

    def __init__(
        self,
        function: Callable[..., Any],
        result: Callable[..., Any],
        vjp: Callable[..., Any] | None,
    ) -> None:
        self.host_function = function
        self._result = result
        self._vjp = vjp
        update_wrapper(self, function)

    @property
    def host_vjp(self) -> Callable[..., Any] | None:
        """The derivative rule, for the op in graphs."""
        return None if self._vjp is None else self._rule

    def defvjp(self, vjp: Callable[..., Any]) -> Callable[..., Any]:
        """Give the derivative; a decorator. See `custom_op`."""
        self._vjp = vjp
        return vjp

    def __call__(self, *args: Any) -> Any:
        operands = _tensors(args)
        who = getattr(self, "__name__", "custom_op")
        declared = _declared(who, self._result(*[ShapeDtype(t.shape, t.dtype) for t in operands]))
        attrs = {"function": hosts.name_of(self), "types": declared.types}
        try:
            results = apply(registry.get("pure_call"), operands, attrs)
        except HostCallError as error:
            raise error.at(user_location()) from None
        return declared.wrap(_in_kind(results, args))

    def _rule(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any]
    ) -> Sequence[Any]:
        """The user's rule on Tensors of the mode that the builder works in."""
        full = [b.like(y, 0.0) if ct is None else ct for y, ct in zip(results, cotangents, strict=True)]
        if type(b) is GraphBuilder:
            return self._rule_in_graph(b, operands, results, full)
        return self._rule_on_tensors(b, operands, results, full)

    def _rule_in_graph(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any]
    ) -> Sequence[Any]:
        """Of a call in a graph that something holds (the body of a loop): the rule is traced by itself."""
        counts = len(operands), len(results)

        def rule(*handles: Tensor) -> Sequence[Any]:
            xs, rest = handles[: counts[0]], handles[counts[0] :]
            return self._rule_on_tensors(TensorBuilder(), xs, rest[: counts[1]], rest[counts[1] :])

        values = (*operands, *results, *cotangents)
        sub = subtrace(rule, [Argument(b.type(x), "tensor") for x in values], name="the derivative of a custom op")
        if sub.captures or sub.effects:
            raise NoDerivativeError(
                f"the derivative of {getattr(self, '__name__', 'a custom op')} uses tensors from outside, or has effects",
                hint="In loops and under vmap it is a function of the cotangents, results and operands alone.",
            )
        found = apply_graph(b, sub.graph, values)
        return [None if r.index is None else found[r.index] for r in sub.results]

    def _rule_on_tensors(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], full: Sequence[Any]
    ) -> Sequence[Any]:
        assert self._vjp is not None
        wrap, unwrap = world(b)
        ys, cts = [wrap(y) for y in results], [wrap(ct) for ct in full]
        single = self._result(*[ShapeDtype(b.type(x).shape, b.type(x).dtype.numpy) for x in operands])  # type: ignore[arg-type]
        if _is_one(single):
            given = self._vjp(cts[0], ys[0], *map(wrap, operands))
        else:
            given = self._vjp(tuple(cts), tuple(ys), *map(wrap, operands))
        found = list(given) if isinstance(given, (tuple, list)) else [given]
        if len(found) != len(operands):
            raise NoDerivativeError(
                f"the derivative of {getattr(self, '__name__', 'a custom op')} gives {len(found)} cotangents for "
                f"{len(operands)} operands",
                hint="Give one for each operand, and None where it is zero.",
            )
        return [
            None if ct is None else unwrap(_of_type(self, i, as_tensor(ct), b.type(x)))
            for i, (ct, x) in enumerate(zip(found, operands, strict=True))
        ]


def _of_type(op: CustomOp, number: int, cotangent: Tensor, wanted: TensorType) -> Tensor:
    if cotangent.type != wanted:
        raise NoDerivativeError(
            f"the derivative of {getattr(op, '__name__', 'a custom op')} gives {describe(cotangent)} for operand {number}, "
            f"which is {wanted}",
            hint="Sum over broadcast axes, and convert with .astype(x.dtype).",
        )
    return cotangent


def world(b: Builder) -> tuple[Callable[[Any], Tensor], Callable[[Tensor], Any]]:
    """How a builder's values become Tensors and back."""
    if isinstance(b, TensorBuilder):
        return lambda x: x, lambda t: t
    trace = context.trace.get()
    if isinstance(b, TraceBuilder) and trace is not None:
        return lambda x: Traced(trace, x), trace.value_of
    if trace is not None:
        raise HostCallError("a custom op's derivative is needed outside of its trace")
    return lambda x: Tensor(np.asarray(x)), lambda t: t._array


def custom_op(
    function: Callable[..., Any] | None = None,
    /,
    *,
    result: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | None = None,
) -> Any:
    """A pure NumPy function as an op: usable dynamically, in compiled functions and under derivatives. A decorator.

    Parameters
    ----------
    function
        Takes NumPy arrays and gives arrays of the declared types. It must be pure: compiled code may call it once for equal
        operands, or not at all if the result is not used.
    result
        The types of the results from those of the operands: takes a `gx.ShapeDtype` for each operand and gives one (or a list
        of them). By default the result has the first operand's type.
    vjp
        `vjp(cotangent, y, *operands)` gives the cotangents of the operands (None: zero), with graphc or NumPy functions of
        Tensors; with several results, `cotangent` and `y` are tuples. May be given later with `op.defvjp`.

    >>> import numpy as np, graphc as gx
    >>> @gx.custom_op(vjp=lambda ct, y, x: 3 * ct * x**2)
    ... def cube(x):
    ...     return x**3
    >>> gx.grad(cube)(np.float64(2.0))
    np.float64(12.0)
    """
    if function is None:
        return lambda f: custom_op(f, result=result, vjp=vjp)
    _check_callable("custom_op", function)
    return CustomOp(function, _like_first if result is None else result, vjp)


def _like_first(*operands: ShapeDtype) -> ShapeDtype:
    if not operands:
        raise StructureError(
            message(
                "a custom op without operands needs `result`",
                location=user_location(),
                hint="Give the type of its result: gx.custom_op(result=lambda: gx.ShapeDtype(shape, dtype)).",
            )
        )
    return operands[0]
