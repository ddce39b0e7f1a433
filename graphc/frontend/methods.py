"""Operators and methods of `Tensor`, and NumPy's dispatch protocols. Layer 5.

`install()` puts them on the class: functions need the class, and the class needs the functions; so the functions come
second and are attached here, from tables.

The kind of a result: a function of graphc gives a Tensor; an operator, method or NumPy function on values that are all
traced NumPy arrays gives a traced NumPy array, since that is what it would give without graphc.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any

import numpy as np

from graphc.errors import (
    GraphcError,
    ShapeError,
    StateError,
    StructureError,
    UnknownAttributeError,
    UnsupportedError,
    message,
)
from graphc.frontend import (
    arranging,
    autograd,
    composed,
    context,
    creation,
    cumulating,
    elementwise,
    indexing,
    numpy_functions,
    products,
    protocols,
    reducing,
    shaping,
    sorting,
    updating,
    windowing,
)
from graphc.frontend.elementwise import apply_ufunc
from graphc.frontend.promotion import describe
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, rank_zero
from graphc.frontend.trace import Traced

__all__ = ["ARRAY_FUNCTIONS", "UFUNC_FUNCTIONS", "install"]


def _is_array_kind(x: Any) -> bool:
    return not isinstance(x, Tensor) or (isinstance(x, Traced) and x.kind == "ndarray")


def as_kind(result: Any, operands: tuple[Any, ...]) -> Any:
    """Mark fresh traced results as NumPy arrays if no operand was a Tensor."""
    flat = [i for x in operands for i in (x if isinstance(x, (list, tuple)) else (x,))]
    if all(_is_array_kind(x) for x in flat):
        for item in result if isinstance(result, (list, tuple)) else (result,):
            if isinstance(item, Traced):
                item.kind = "ndarray"
    return result


# -- operators -----------------------------------------------------------------------------------------------------------

_BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "bitwise_left_shift",
    "rshift": "bitwise_right_shift",
}
_COMPARE = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"}
_OPERANDS = (Tensor, np.ndarray, np.generic, bool, int, float, complex)


def _operator(function: Callable[[Any, Any], Tensor], swap: bool) -> Callable[[Tensor, Any], Any]:
    def method(self: Tensor, other: Any, /) -> Any:
        if not isinstance(other, _OPERANDS):
            return NotImplemented
        operands = (other, self) if swap else (self, other)
        return _as_weak(as_kind(function(*operands), operands), operands)

    return method


def _as_weak(result: Any, operands: tuple[Any, ...]) -> Any:
    """Python's operators on Python numbers give Python numbers: a traced one stays weakly typed."""
    if isinstance(result, Traced) and result.dtype in (np.float64, np.int64, np.complex128):
        numbers = (bool, int, float, complex)
        result.weak = all(x.weak if isinstance(x, Traced) else type(x) in numbers for x in operands)
    return result


def _in_place(function: Callable[[Any, Any], Tensor]) -> Callable[[Tensor, Any], Tensor]:
    def method(self: Tensor, other: Any, /) -> Tensor:
        if not isinstance(other, _OPERANDS):
            return NotImplemented
        if isinstance(self, Traced) and self.is_number:
            return _as_weak(as_kind(function(self, other), (self, other)), (self, other))
        new = function(self, other)
        return self.assign(indexing.assign_cast(self, new))

    return method


def _unary(function: Callable[[Any], Tensor]) -> Callable[[Tensor], Any]:
    return lambda self: _as_weak(as_kind(function(self), (self,)), (self,))


def _ufunc(name: str) -> Callable[[Any, Any], Tensor]:
    return lambda x, y: apply_ufunc(name, x, y)


def _floor_divide(x: Any, y: Any) -> Tensor:
    """`x // y`: NumPy's for NumPy arrays, the standard's for tensors; they differ where an operand is infinite."""
    if _is_array_kind(x) and _is_array_kind(y):
        return apply_ufunc("floor_divide", x, y)
    return elementwise.floor_divide(x, y)


def _install_operators() -> None:
    functions = {key: _ufunc(name) for key, name in _BINARY.items()}
    functions["floordiv"] = _floor_divide
    functions["pow"] = elementwise.power_operator
    functions["matmul"] = products.matmul
    for key, function in functions.items():
        setattr(Tensor, f"__{key}__", _operator(function, swap=False))
        setattr(Tensor, f"__r{key}__", _operator(function, swap=True))
        setattr(Tensor, f"__i{key}__", _in_place(function))
    for key, name in _COMPARE.items():
        setattr(Tensor, f"__{key}__", _operator(_ufunc(name), swap=False))
    for key, name in {"neg": "negative", "pos": "positive", "abs": "abs", "invert": "bitwise_invert"}.items():
        setattr(Tensor, f"__{key}__", _unary(elementwise.FUNCTIONS[name]))
    special = {
        "__getitem__": _getitem,
        "__setitem__": indexing.setitem,
        "__delitem__": _refuse_deletion,
        "__iter__": _iterate,
        "__divmod__": lambda self, other: (self // other, self % other),
        "__rdivmod__": lambda self, other: (other // self, other % self),
        "__round__": lambda self, digits=0: _round(self, digits),
        "__hash__": object.__hash__,
    }
    for name, thing in special.items():
        setattr(Tensor, name, thing)


def _getitem(self: Tensor, key: Any, /) -> Any:
    """`x[key]`. An element of a NumPy array is a number, which later writes to the array do not change."""
    result = as_kind(indexing.getitem(self, key), (self,))
    if isinstance(result, Traced) and result.is_number:
        result.follow_no_base()
    return result


def _iterate(self: Tensor) -> Iterator[Tensor]:
    if not self.shape:
        raise rank_zero("iteration", self)
    return iter([self[i] for i in range(self.shape[0])])  # type: ignore[index]


def _refuse_deletion(self: Tensor, index: Any) -> None:
    raise ShapeError(
        message(
            "elements of a tensor cannot be deleted",
            operands=[("x", describe(self))],
            location=user_location(),
            hint="Select what is to stay: x[1:], x[mask], or gx.concat of slices.",
        )
    )


def _round(x: Any, decimals: int = 0) -> Tensor:
    """Rounded to so many decimals, halves to even."""
    if decimals == 0:
        return elementwise.round(x)
    scale = 10.0 ** abs(decimals)
    if decimals > 0:
        return apply_ufunc("divide", apply_ufunc("rint", apply_ufunc("multiply", x, scale)), scale)
    return apply_ufunc("multiply", apply_ufunc("rint", apply_ufunc("divide", x, scale)), scale)


# -- methods ---------------------------------------------------------------------------------------------------------------


def _called(name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`function(*args, **kwargs)`; an error that names the user's line where the arguments are not the function's."""
    try:
        return function(*args, **kwargs)
    except TypeError as error:
        # An error of the call itself has no frame below this one.
        if isinstance(error, GraphcError) or error.__traceback__ is None or error.__traceback__.tb_next is not None:
            raise
        raise StructureError(
            message(
                f"{name}: {str(error).partition('() ')[2] or error}",
                operands=[(f"operand {i}", describe(x)) for i, x in enumerate(args) if isinstance(x, Tensor)],
                location=user_location(),
                hint=f"Its parameters are {_parameters(function)}.",
            )
        ) from None


def _parameters(function: Callable[..., Any]) -> str:
    known = [str(p) for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    return ", ".join(p.partition(":")[0] for p in known)


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        return as_kind(_called(method.__name__, function, (self, *args), kwargs), (self, *args))

    method.__name__ = getattr(function, "__name__", "method")
    method.__doc__ = function.__doc__
    method.__wrapped__ = function  # type: ignore[attr-defined]
    return method


def _by_axis(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Reductions with NumPy's positional axis and PyTorch's names (dim, keepdim)."""

    def reduce(
        x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False, **names: Any
    ) -> Tensor:
        _no_out(function.__name__, out)
        axis = names.pop("dim", axis)
        keepdims = names.pop("keepdim", keepdims)
        if names.pop("where", True) is not True:
            raise _without(function.__name__, "where=", x, "Reduce np.where(mask, x, neutral) instead.")
        if not _is_default(names.pop("initial", None)):
            raise _without(function.__name__, "initial=", x, "Combine the result with it afterwards.")
        if "ddof" in names:
            names["correction"] = names.pop("ddof")
        if dtype is not None:
            names["dtype"] = dtype
        return _called(function.__name__, function, (x,), {"axis": axis, "keepdims": bool(keepdims), **names})

    reduce.__name__ = function.__name__
    reduce.__doc__ = function.__doc__
    return reduce


def _is_default(x: Any) -> bool:
    return x is None or x is np._NoValue


def _without(name: str, what: str, x: Any, hint: str) -> UnsupportedError:
    """The error for an argument of a NumPy function that is not supported."""
    operands = [("x", describe(x))] if isinstance(x, (Tensor, np.ndarray)) else []
    return UnsupportedError(
        message(f"{name}: {what} is not supported with tensors", operands=operands, location=user_location(), hint=hint)
    )


def _no_out(name: str, out: Any) -> None:
    if any(o is not None for o in (out if isinstance(out, tuple) else (out,))):
        raise _without(name, "out=", None, "Assign the result: y[...] = f(x).")


def _plain_order(name: str, order: str, x: Any) -> None:
    if order not in ("C", "A", "K"):
        raise _without(name, f"order={order!r}", x, "Arrays are in C order: transpose before and after.")


def _shape_arguments(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Methods that take a shape or axes as one tuple or as several arguments."""

    def call(x: Any, *shape: Any, order: str = "C", **names: Any) -> Tensor:
        _plain_order(function.__name__, order, x)
        given = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list, type(None))) else shape
        return function(x, given if given != () or function is shaping.reshape else None, **names)

    call.__name__ = function.__name__
    call.__doc__ = function.__doc__
    return call


def _flatten(x: Any) -> Tensor:
    """All elements in C order as one axis, in memory of their own."""
    return elementwise.copied(shaping.ravel(x))


_REDUCTIONS = {
    name: _by_axis(getattr(reducing, name))
    for name in ("sum", "prod", "max", "min", "mean", "var", "std", "all", "any")
}
_ARGS = {name: _by_axis(getattr(reducing, name)) for name in ("argmax", "argmin")}


def _positional(function: Callable[..., Any], *names: str | None) -> Callable[..., Any]:
    """A method that takes by position what the function takes by keyword, as NumPy's methods do; None: by position in
    both."""

    @functools.wraps(function)
    def method(x: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) > len(names):
            raise TypeError(f"{function.__name__}() takes at most {len(names)} arguments, got {len(args)}")
        plain = [value for name, value in zip(names, args, strict=False) if name is None]
        return function(x, *plain, **{n: v for n, v in zip(names, args, strict=False) if n is not None}, **kwargs)

    return method


METHODS: dict[str, Callable[..., Any]] = {
    **_REDUCTIONS,
    **_ARGS,
    **{
        name: elementwise.FUNCTIONS[name]
        for name in ("exp", "log", "sqrt", "tanh", "sin", "cos", "abs", "square", "sign", "floor", "ceil")
    },
    "sigmoid": elementwise.sigmoid,
    "relu": elementwise.relu,
    "clip": elementwise.clip,
    "clamp": elementwise.clip,
    "pow": elementwise.power,
    "astype": elementwise.astype,
    "round": _round,
    "reshape": _shape_arguments(shaping.reshape),
    "view": _shape_arguments(shaping.reshape),
    "transpose": _shape_arguments(shaping.permute_dims),
    "permute": _shape_arguments(shaping.permute_dims),
    "ravel": shaping.ravel,
    "flatten": _flatten,
    "squeeze": shaping.squeeze,
    "unsqueeze": shaping.expand_dims,
    "swapaxes": shaping.swapaxes,
    "repeat": shaping.repeat,
    "take": indexing.take,
    "dot": products.dot,
    "matmul": products.matmul,
    "diagonal": _positional(arranging.diagonal, "offset", "axis1", "axis2"),
    "trace": _positional(arranging.trace, "offset", "axis1", "axis2", "dtype"),
    "cumsum": cumulating.cumsum,
    "cumprod": cumulating.cumprod,
    "argsort": _positional(sorting.argsort, "axis"),
    "topk": sorting.topk,
    "nonzero": sorting.nonzero,
    "searchsorted": _positional(sorting.searchsorted, None, "side", "sorter"),
    "copy": elementwise.copied,
    "clone": elementwise.copied,
    "conj": composed.conj,
    "conjugate": composed.conj,
    "softmax": reducing.softmax,
    "log_softmax": reducing.log_softmax,
}


def _fill(self: Tensor, value: Any) -> Tensor:
    """Set all elements to a value, in place."""
    return self.assign(indexing.assign_cast(self, value))


def _zero(self: Tensor) -> Tensor:
    """Set all elements to 0, in place."""
    return _fill(self, 0)


def _refuse_attribute(self: Tensor, name: str) -> Any:
    if name.startswith("__"):  # protocols that Python and libraries look for
        raise AttributeError(name)
    near = get_close_matches(name, [n for n in dir(type(self)) if not n.startswith("_")], n=3)
    if near:
        hint = f"Did you mean {', '.join(near)}?"
    elif hasattr(np.ndarray, name):
        hint = "NumPy's arrays have it, tensors do not: compose it from supported functions, or compute it outside."
    else:
        hint = "Tensors have the attributes of NumPy arrays that graphc supports, and backward, grad, detach and numpy."
    raise UnknownAttributeError(
        message(
            f"a tensor has no attribute {name!r}",
            operands=[("tensor", self.type)],
            location=user_location(),
            hint=hint,
        )
    )


# -- NumPy's protocols -------------------------------------------------------------------------------------------------------

UFUNC_FUNCTIONS: dict[np.ufunc, Callable[..., Any]] = {
    **{ufunc: elementwise.FUNCTIONS[name] for name, (ufunc, _) in elementwise.UFUNCS.items()},
    **{ufunc: getattr(composed, name) for name, (ufunc, _) in composed.COMPOSED.items()},
    np.floor_divide: lambda x1, x2: apply_ufunc("floor_divide", x1, x2),
    np.modf: composed.modf,
    np.divmod: composed.divmod,
    np.degrees: composed.rad2deg,
    np.radians: composed.deg2rad,
    np.power: elementwise.power,
    np.matmul: products.matmul,
    np.vecdot: products.vecdot,
}
_UFUNC_REDUCE = {
    np.add: "sum",
    np.multiply: "prod",
    np.maximum: "max",
    np.minimum: "min",
    np.logical_and: "all",
    np.logical_or: "any",
}


def _array_ufunc(self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
    if out is not None and method == "__call__":
        return _ufunc_out(ufunc, inputs, out, kwargs)
    if method == "__call__" and not kwargs:
        function = UFUNC_FUNCTIONS.get(ufunc)
        if function is not None:
            return as_kind(function(*inputs), inputs)
    if method == "reduce" and ufunc in _UFUNC_REDUCE:
        axis = kwargs.pop("axis", 0)
        return as_kind(_REDUCTIONS[_UFUNC_REDUCE[ufunc]](*inputs, axis=axis, out=out, **kwargs), inputs)
    if getattr(ufunc, "__name__", "") in ("erf", "erfc", "expit") and method == "__call__":
        special = {"erf": elementwise.erf, "erfc": elementwise.erfc, "expit": elementwise.sigmoid}[ufunc.__name__]
        return as_kind(special(*inputs), inputs)
    if method == "at" and ufunc in _UFUNC_AT:
        target, index, *values = inputs
        new = getattr(updating.AtIndex(target, index), _UFUNC_AT[ufunc])(*values)
        return target.assign(indexing.assign_cast(target, new))
    if method == "outer" and ufunc in UFUNC_FUNCTIONS and not kwargs and out is None:
        return as_kind(protocols.outer(UFUNC_FUNCTIONS[ufunc], *inputs), inputs)
    if method == "__call__" and set(kwargs) == {"dtype"} and ufunc in UFUNC_FUNCTIONS:
        return as_kind(UFUNC_FUNCTIONS[ufunc](*protocols.in_dtype(ufunc, inputs, kwargs["dtype"])), inputs)
    if method == "accumulate" and ufunc in cumulating.ACCUMULATE:
        return as_kind(_accumulate(ufunc, *inputs, **kwargs), inputs)
    what = f"numpy.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
    if method == "__call__" and ufunc in UFUNC_FUNCTIONS:
        raise _unknown(
            f"{what} with {', '.join(f'{k}=' for k in kwargs)}", inputs, _KEYWORD_HINTS.get(next(iter(kwargs)))
        )
    raise _unknown(what, inputs, _METHOD_HINTS.get(method))


_UFUNC_AT = {
    np.add: "add",
    np.subtract: "subtract",
    np.multiply: "multiply",
    np.minimum: "min",
    np.maximum: "max",
}
_KEYWORD_HINTS = {
    "where": "Give out=, too, or choose afterwards: np.where(mask, result, other).",
}
_METHOD_HINTS = {
    "outer": "Without out= it works; or insert axes and broadcast: x[:, None] * y[None, :].",
    "at": f"Known are {', '.join(u.__name__ for u in _UFUNC_AT)}.",
    "accumulate": f"Known are {', '.join(u.__name__ for u in cumulating.ACCUMULATE)}.",
    "reduceat": "Reduce slices, and put the results together with np.stack.",
}


def _accumulate(ufunc: np.ufunc, x: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Tensor:
    _no_out(f"numpy.{ufunc.__name__}.accumulate", out)
    names = {} if dtype is None else {"dtype": dtype}
    return cumulating.ACCUMULATE[ufunc](x, axis=axis, **names)


def _ufunc_out(ufunc: np.ufunc, inputs: tuple[Any, ...], out: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`np.add(x, y, out=t)`, with `where=` too, and `array += t`."""
    target = out[0]
    function = UFUNC_FUNCTIONS.get(ufunc)
    mask = kwargs.pop("where", True)
    if function is None or kwargs or len(out) != 1:
        raise _unknown(f"numpy.{ufunc.__name__} with out=", inputs, "Assign the result: y[...] = f(x).")
    if isinstance(target, Tensor):
        result = function(*inputs)
        return target.assign(indexing.assign_cast(target, protocols.chosen(mask, result, target)))
    if context.trace.get() is not None:
        raise StateError(
            message(
                "a traced value is written into a NumPy array in place; the array would keep a value of the trace only",
                operands=[(f"operand {i}", describe(x)) for i, x in enumerate(inputs)],
                location=user_location(),
                hint="Write `a = a + b` instead of `a += b`, pass the array as an argument, or make it a gx.Tensor.",
            )
        )
    result = function(*inputs)
    np.copyto(target, result.numpy(), casting="same_kind", where=np.asarray(mask))
    return target


def _unknown(what: str, operands: tuple[Any, ...], hint: str | None = None) -> UnsupportedError:
    """The error for a NumPy function that is not there, with functions of similar names if there is no better hint."""
    bare = what.partition(" ")[0].rpartition(".")[2]
    known = {f.__name__ for f in (*ARRAY_FUNCTIONS, *UFUNC_FUNCTIONS)}
    near = get_close_matches(bare, known, n=3, cutoff=0.7) if hint is None else []
    if near:
        hint = f"Supported functions with similar names: {', '.join(near)}."
    return UnsupportedError(
        message(
            f"{what} is not supported on tensors",
            operands=[
                (f"operand {i}", describe(x)) for i, x in enumerate(operands) if isinstance(x, (Tensor, np.ndarray))
            ],
            location=user_location(),
            hint=hint or "Compose it from supported functions, or compute it outside of the compiled function.",
        )
    )


def _numpy_reshape(a: Any, /, shape: Any = None, order: str = "C", *, newshape: Any = None) -> Tensor:
    _plain_order("reshape", order, a)
    return shaping.reshape(a, shape if newshape is None else newshape)


def _numpy_ravel(a: Any, order: str = "C") -> Tensor:
    _plain_order("ravel", order, a)
    return shaping.ravel(a)


def _numpy_concatenate(arrays: Any, axis: int | None = 0, **kwargs: Any) -> Tensor:
    return shaping.concat(arrays, axis=axis, **kwargs)


def _numpy_stack(arrays: Any, axis: int = 0, **kwargs: Any) -> Tensor:
    return shaping.stack(arrays, axis=axis, **kwargs)


def _numpy_like(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def like(x: Any, *args: Any, dtype: Any = None, **kwargs: Any) -> Tensor:
        kwargs.pop("order", None)
        kwargs.pop("subok", None)
        return function(x, *args, dtype=dtype, **kwargs)

    return like


def _numpy_clip(a: Any, a_min: Any = None, a_max: Any = None, **names: Any) -> Tensor:
    return elementwise.clip(a, names.pop("min", a_min), names.pop("max", a_max))


def _numpy_where(condition: Any, *sides: Any) -> Tensor:
    if not sides:
        raise UnsupportedError(
            message(
                "numpy.where with one argument has a size that depends on values",
                operands=[("condition", describe(condition))],
                location=user_location(),
                hint="Use the form with three arguments.",
            )
        )
    return elementwise.where(condition, *sides)


ARRAY_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.sum: _REDUCTIONS["sum"],
    np.prod: _REDUCTIONS["prod"],
    np.max: _REDUCTIONS["max"],
    np.min: _REDUCTIONS["min"],
    np.amax: _REDUCTIONS["max"],
    np.amin: _REDUCTIONS["min"],
    np.mean: _REDUCTIONS["mean"],
    np.var: _REDUCTIONS["var"],
    np.std: _REDUCTIONS["std"],
    np.all: _REDUCTIONS["all"],
    np.any: _REDUCTIONS["any"],
    np.argmax: _ARGS["argmax"],
    np.argmin: _ARGS["argmin"],
    np.count_nonzero: lambda a, axis=None, *, keepdims=False: reducing.count_nonzero(a, axis=axis, keepdims=keepdims),
    np.reshape: _numpy_reshape,
    np.ravel: _numpy_ravel,
    np.transpose: lambda a, axes=None: shaping.permute_dims(a, axes),
    np.swapaxes: shaping.swapaxes,
    np.moveaxis: shaping.moveaxis,
    np.expand_dims: lambda a, axis: shaping.expand_dims(a, axis=axis),
    np.squeeze: lambda a, axis=None: shaping.squeeze(a, axis=axis),
    np.broadcast_to: lambda array, shape, subok=False: shaping.broadcast_to(array, shape),
    np.broadcast_arrays: shaping.broadcast_arrays,
    np.concatenate: _numpy_concatenate,
    np.stack: _numpy_stack,
    np.vstack: lambda tup: shaping.concat([arranging.atleast_2d(t) for t in tup], axis=0),
    np.hstack: lambda tup: shaping.concat(
        [arranging.atleast_1d(t) for t in tup], axis=0 if arranging.atleast_1d(tup[0]).ndim == 1 else 1
    ),
    np.split: shaping.split,
    np.flip: lambda m, axis=None: shaping.flip(m, axis=axis),
    np.roll: lambda a, shift, axis=None: shaping.roll(a, shift, axis=axis),
    np.tile: shaping.tile,
    np.repeat: lambda a, repeats, axis=None: shaping.repeat(a, repeats, axis=axis),
    np.tril: lambda m, k=0: shaping.tril(m, k=k),
    np.triu: lambda m, k=0: shaping.triu(m, k=k),
    np.where: _numpy_where,
    np.clip: _numpy_clip,
    np.round: lambda a, decimals=0: _round(a, decimals),
    np.around: lambda a, decimals=0: _round(a, decimals),
    np.take: lambda a, indices, axis=None: indexing.take(a, indices, axis=axis),
    np.take_along_axis: lambda arr, indices, axis=-1: indexing.take_along_axis(arr, indices, axis=axis),
    np.dot: products.dot,
    np.outer: products.outer,
    np.tensordot: lambda a, b, axes=2: products.tensordot(a, b, axes=axes),
    np.convolve: windowing.convolve,
    np.correlate: windowing.correlate,
    np.lib.stride_tricks.sliding_window_view: windowing.sliding_window_view,
    np.zeros_like: _numpy_like(creation.zeros_like),
    np.ones_like: _numpy_like(creation.ones_like),
    np.empty_like: _numpy_like(creation.empty_like),
    np.full_like: _numpy_like(creation.full_like),
    np.copy: elementwise.copied,
    np.astype: lambda x, dtype, copy=True: elementwise.astype(x, dtype),
    np.shape: lambda a: a.shape,
    np.ndim: lambda a: a.ndim,
    np.size: lambda a, axis=None: a.size if axis is None else a.shape[axis],
    np.result_type: lambda *a: np.result_type(*(x.dtype if isinstance(x, Tensor) else x for x in a)),
    **numpy_functions.FUNCTIONS,
}


def _array_function(self: Tensor, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    function = ARRAY_FUNCTIONS.get(func)
    if function is None:
        raise _unknown(f"{func.__module__}.{func.__name__}", args)
    name = f"numpy.{func.__name__}"
    if "out" in kwargs:
        _no_out(name, kwargs["out"])
        kwargs = {key: x for key, x in kwargs.items() if key != "out"}
    args, kwargs = protocols.by_position(func, args, kwargs)
    try:
        return as_kind(_called(name, function, args, kwargs), args)
    except StructureError:
        known = inspect.signature(function).parameters
        unknown = [f"{key}=" for key in kwargs if key not in known]
        if not unknown or any(p.kind is p.VAR_KEYWORD for p in known.values()):
            raise
        raise _unknown(
            f"{name} with {', '.join(unknown)}", args, f"Leave it out; known are {_parameters(function)}."
        ) from None


# -- installation ------------------------------------------------------------------------------------------------------------


def install() -> None:
    """Put operators, methods and protocols on `Tensor`."""
    _install_operators()
    for name, function in METHODS.items():
        setattr(Tensor, name, _method(function))
    namespace: dict[str, Any] = {
        "T": property(lambda self: as_kind(shaping.permute_dims(self), (self,)), doc="The axes reversed."),
        "mT": property(
            lambda self: as_kind(shaping.matrix_transpose(self), (self,)), doc="The last two axes exchanged."
        ),
        "real": property(lambda self: as_kind(composed.real(self), (self,)), doc="The real part."),
        "imag": property(lambda self: as_kind(composed.imag(self), (self,)), doc="The imaginary part."),
        "at": property(updating.At, doc="Functional updates: x.at[index].set(value), .add, .multiply, .min, .max."),
        "backward": autograd.backward,
        "fill_": _fill,
        "copy_": _fill,
        "zero_": _zero,
        "__array_ufunc__": _array_ufunc,
        "__array_function__": _array_function,
        "__getattr__": _refuse_attribute,
    }
    for name, thing in namespace.items():
        setattr(Tensor, name, thing)
