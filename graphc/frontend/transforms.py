"""Functional differentiation: gradients, vector-Jacobian and Jacobian-vector products. Layer 5. Names and argument order
follow JAX.

The function runs on variables (`graphc.frontend.recording`); reverse and forward mode are then walks along the tape. All of
them work the same dynamically and while tracing, and nest: a derivative is recorded too when an outer differentiation is on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.errors import GradientError, StructureError, message
from graphc.frontend import pytree
from graphc.frontend.promotion import as_tensor, describe
from graphc.frontend.recording import (
    Recording,
    array_kind,
    as_kind,
    check_callable,
    is_smooth,
    like_leaf,
    record_call,
)
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, native_array

__all__ = ["checked_numbers", "chosen_arguments", "grad", "hvp", "jvp", "linearize", "sketch", "value_and_grad", "vjp"]


# -- gradients -------------------------------------------------------------------------------------------------------------


def chosen_arguments(who: str, fun: Any, argnums: Any) -> tuple[int, ...]:
    """`argnums` as a tuple of numbers.

    Raises
    ------
    StructureError
        If it is neither a number nor a tuple of them, or the function cannot be called.
    """
    check_callable(who, fun)
    numbers = (argnums,) if isinstance(argnums, int) else argnums
    if isinstance(numbers, (tuple, list)) and numbers and all(isinstance(n, int) for n in numbers):
        return tuple(numbers)
    raise StructureError(
        message(
            f"argnums is one number or a tuple of numbers; this is {argnums!r}",
            location=user_location(),
            hint=f"Write {who}(f) or {who}(f, argnums=1) or {who}(f, argnums=(0, 1)).",
        )
    )


def checked_numbers(numbers: Sequence[int], count: int) -> list[int]:
    """Numbers of arguments, counted from the front, of a call with `count` positional ones."""
    if any(not -count <= n < count for n in numbers):
        raise StructureError(
            message(
                f"argnums {numbers[0] if len(numbers) == 1 else tuple(numbers)} needs more than the {count} positional "
                "arguments given",
                location=user_location(),
                hint="Arguments are counted from 0; pass those to differentiate by position, not by keyword.",
            )
        )
    return [n % count for n in numbers]


def value_and_grad(
    fun: Callable[..., Any], argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that gives `(fun(*args), gradients)`.

    Parameters
    ----------
    fun
        A function with a scalar floating-point result (or a pair of it and anything, with `has_aux`).
    argnums
        Which positional arguments to differentiate by: one number, or a tuple (then gradients are a tuple too); negative
        ones count from the end. Arguments may be containers of arrays; their gradients have the same structure, shapes and
        dtypes.
    has_aux
        The function gives a pair; its second part comes back beside the value, `((value, aux), gradients)`.

    Raises
    ------
    GradientError
        If the result is not a floating-point scalar, or an argument is not floating point.
    StructureError
        If there is no such argument.

    >>> import numpy as np, graphc as gx
    >>> gx.value_and_grad(lambda x: (x ** 2).sum())(np.array([1.0, 2.0]))
    (np.float64(5.0), array([2., 4.]))
    """
    numbers = chosen_arguments("grad", fun, argnums)

    @functools.wraps(fun)
    def differentiated(*args: Any, **kwargs: Any) -> Any:
        wanted = checked_numbers(numbers, len(args))
        run, flat = record_call(fun, args, kwargs, wanted, has_aux=has_aux, names=lambda n: f"args[{n}]")
        if run.structure.kind != "leaf":
            _check_scalar(pytree.unflatten(run.structure, run.leaves))
        _check_scalar(run.leaves[0])
        found = run.pull([as_tensor(np.ones((), run.leaves[0].dtype))], keep=False)
        originals = [leaf for leaves, _, _ in flat.values() for leaf in leaves]
        gradients = [_or_zero(g, x) for g, x in zip(found, originals, strict=True)]
        per_argument: dict[int, Any] = {}
        for n, (leaves, _, structure) in flat.items():
            mine, gradients = gradients[: len(leaves)], gradients[len(leaves) :]
            per_argument[n] = pytree.unflatten(structure, mine)
        out = tuple(per_argument[n] for n in wanted)
        return ((run.shown(), run.aux) if has_aux else run.shown()), (out[0] if isinstance(argnums, int) else out)

    return differentiated


def _check_scalar(value: Any) -> None:
    if not isinstance(value, Tensor) or value.shape or not value.type.dtype.is_float:
        shown = value.type if isinstance(value, Tensor) else type(value).__name__
        hint = "Return a sum or mean of floats that is computed from the argument."
        if isinstance(value, Tensor) and value.type.dtype.is_float:
            hint = "Reduce the result with sum() or mean()."
        elif isinstance(value, Tensor) and value.type.dtype.is_complex:
            hint = "Take .real, .imag or abs() of the result."
        raise GradientError(
            message(
                "grad needs a function with a floating-point scalar result that depends on its argument",
                operands=[("result", shown)],
                location=user_location(),
                hint=hint,
            )
        )


def _zeros(like: Any) -> Tensor:
    source = like if isinstance(like, Tensor) else as_tensor(native_array(like))
    return as_tensor(np.zeros(source.shape, dtype=source.dtype))


def _or_zero(gradient: Tensor | None, like: Any) -> Any:
    return as_kind(_zeros(like) if gradient is None else gradient, array_kind(like))


def grad(fun: Callable[..., Any], argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False) -> Callable[..., Any]:
    """A function that gives the gradient of `fun` (with `has_aux`, the pair of it and the auxiliary output).

    See `value_and_grad`.

    >>> import numpy as np, graphc as gx
    >>> gx.grad(np.sin)(0.0)
    np.float32(1.0)
    """
    both = value_and_grad(fun, argnums, has_aux=has_aux)

    @functools.wraps(fun)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, gradients = both(*args, **kwargs)
        return (gradients, value[1]) if has_aux else gradients

    return gradient


# -- reverse mode ------------------------------------------------------------------------------------------------------------


def vjp(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """`fun(*primals)` and a function that gives the vector-Jacobian product there.

    Parameters
    ----------
    fun
        Any function of arrays, or containers of arrays, that gives the like (with `has_aux`, a pair of it and anything).
    primals
        The arguments. Leaves that are not floating point are passed on as they are.

    Returns
    -------
    `(result, vjp_fun)`, with `has_aux` `(result, vjp_fun, aux)`. `vjp_fun(cotangent)` takes what has the structure, shapes and
    dtypes of the result (None: zero) and gives a tuple with the cotangent of each primal, None for leaves that are not floating
    point. It may be called any number of times.

    Raises
    ------
    GradientError
        If no leaf of the primals is floating point, or a cotangent is not of the result's type.

    >>> import numpy as np, graphc as gx
    >>> y, vjp_fun = gx.vjp(lambda a, b: a * b, np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    >>> vjp_fun(np.array([1.0, 10.0]))
    (array([ 3., 40.]), array([ 1., 20.]))
    """
    check_callable("vjp", fun)
    run, flat = _record_all(fun, primals, has_aux)

    def vjp_fun(cotangent: Any) -> tuple[Any, ...]:
        """The cotangents of the primals."""
        leaves = _matching(cotangent, run.leaves, run.paths, run.structure, "cotangent")
        found = iter(run.pull(leaves, keep=True))
        return tuple(
            pytree.unflatten(structure, [_or_zero(next(found), x) if is_smooth(x) else None for x in items])
            for items, _, structure in flat.values()
        )

    return (run.shown(), vjp_fun, run.aux) if has_aux else (run.shown(), vjp_fun)


def _record_all(
    fun: Callable[..., Any], primals: Sequence[Any], has_aux: bool
) -> tuple[Recording, dict[int, tuple[list[Any], list[str], pytree.Structure]]]:
    """Run a function with variables for all leaves of floats among its arguments."""
    numbers = range(len(primals))
    run, flat = record_call(fun, primals, {}, numbers, has_aux=has_aux, names=lambda n: f"primals[{n}]", lenient=True)
    if not run.references:
        raise GradientError(
            message(
                "derivatives are taken by floating-point values, and there are none among the primals",
                operands=[(f"primals[{n}]", describe(x)) for n, x in enumerate(primals)],
                location=user_location(),
                hint="Convert arrays with astype(np.float32).",
            )
        )
    return run, flat


def _matching(
    given: Any, leaves: Sequence[Any], paths: Sequence[str], structure: pytree.Structure, what: str
) -> list[Tensor | None]:
    """Tangents or cotangents for `leaves`: of their structure and types; None is zero, and all that integers can have."""
    found, _, shape = pytree.flatten(given)
    if given is None:
        return [None] * len(leaves)
    if shape != structure:
        raise StructureError(
            message(
                f"the {what} must have the structure of what it belongs to",
                operands=[(what, sketch(shape)), ("belongs to", sketch(structure))],
                location=user_location(),
                hint=f"Give one {what} for each array, in the same containers; None stands for zero.",
            )
        )
    return [
        None if x is None or _is_float0(x) else like_leaf(x, _smooth(like, what, path), what, path)
        for x, like, path in zip(found, leaves, paths, strict=True)
    ]


def _smooth(like: Any, what: str, path: str) -> Any:
    if is_smooth(like):
        return like
    raise GradientError(
        message(
            f"only floating-point values have a {what}",
            operands=[
                (f"{what} for {path}" if path else what, describe(like) if hasattr(like, "shape") else repr(like))
            ],
            location=user_location(),
            hint="Give None in its place.",
        )
    )


def _is_float0(x: Any) -> bool:
    """Whether `x` is JAX's tangent of integers, an array without data."""
    return isinstance(x, np.ndarray) and x.dtype.names == ("float0",)


def sketch(structure: pytree.Structure) -> str:
    """A structure in words: (*, [*, *])."""
    if structure.kind == "leaf":
        return "*"
    parts = [sketch(c) for c in structure.children]
    if isinstance(structure.data, tuple):
        parts = [f"{key!r}: {part}" for key, part in zip(structure.data, parts, strict=True)]
    known = {tuple: ("(", ")"), list: ("[", "]"), dict: ("{", "}")}
    start, end = known.get(structure.kind, (f"{structure.kind.__name__}(", ")"))
    return f"{start}{', '.join(parts)}{',' if structure.kind is tuple and len(parts) == 1 else ''}{end}"


# -- forward mode ------------------------------------------------------------------------------------------------------------


def jvp(fun: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """The value of `fun` and its derivative along a direction, the Jacobian-vector product, computed forward.

    Parameters
    ----------
    fun
        Any function of arrays, or containers of arrays, that gives the like (with `has_aux`, a pair of it and anything).
    primals
        The arguments, as a tuple or list.
    tangents
        The direction: of the structure, shapes and dtypes of `primals`. None stands for zero, and is all that leaves can have
        that are not floating point.

    Returns
    -------
    `(result, tangent of the result)`, with `has_aux` `(result, tangent, aux)`; the tangent of what is not floating point is
    None.

    Raises
    ------
    GradientError
        If no leaf of the primals is floating point, or a tangent is not of its primal's type.
    NoDerivativeError
        If a tangent meets an operation without a derivative.

    >>> import numpy as np, graphc as gx
    >>> gx.jvp(np.square, (np.array([1.0, 2.0]),), (np.array([1.0, 10.0]),))
    (array([1., 4.]), array([ 2., 40.]))
    """
    run, push = _linear(fun, primals, has_aux, "jvp")
    pushed = push(tangents)
    return (run.shown(), pushed, run.aux) if has_aux else (run.shown(), pushed)


def linearize(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """`fun(*primals)` and a function that gives the Jacobian-vector product there: `jvp` with the value computed once.

    Returns
    -------
    `(result, jvp_fun)`, with `has_aux` `(result, jvp_fun, aux)`. `jvp_fun(*tangents)` takes a tangent for each primal and
    gives the tangent of the result.

    See `jvp` for the rest.

    >>> import numpy as np, graphc as gx
    >>> y, jvp_fun = gx.linearize(np.sin, 0.0)
    >>> y, jvp_fun(2.0)
    (np.float32(0.0), np.float32(2.0))
    """
    run, push = _linear(fun, primals, has_aux, "linearize")

    def jvp_fun(*tangents: Any) -> Any:
        """The tangent of the result."""
        return push(tangents)

    return (run.shown(), jvp_fun, run.aux) if has_aux else (run.shown(), jvp_fun)


def _linear(
    fun: Callable[..., Any], primals: Any, has_aux: bool, who: str
) -> tuple[Recording, Callable[[Sequence[Any]], Any]]:
    """The run of a function, and the linear map from tangents of its arguments to those of its result."""
    check_callable(who, fun)
    if not isinstance(primals, (tuple, list)):
        raise StructureError(
            message(
                f"{who} takes the arguments of the function as a tuple; this is a {type(primals).__name__}",
                operands=[("primals", describe(primals))],
                location=user_location(),
                hint=f"Write gx.{who}(f, (x,), (dx,)).",
            )
        )
    run, flat = _record_all(fun, primals, has_aux)

    def push(tangents: Any) -> Any:
        if not isinstance(tangents, (tuple, list)) or len(tangents) != len(primals):
            raise StructureError(
                message(
                    f"there is one tangent for each of the {len(primals)} primals, in a tuple",
                    operands=[("tangents", sketch(pytree.flatten(tangents)[2]))],
                    location=user_location(),
                    hint="Give None for an argument that does not change.",
                )
            )
        into: list[Tensor | None] = []
        arrays = run.arrays
        for tangent, (leaves, paths, structure) in zip(tangents, flat.values(), strict=True):
            found = _matching(tangent, leaves, paths, structure, "tangent")
            arrays = arrays and all(array_kind(t) for t in pytree.flatten(tangent)[0])
            into += [t for t, leaf in zip(found, leaves, strict=True) if is_smooth(leaf)]
        out = run.push(into)
        return pytree.unflatten(
            run.structure,
            [_tangent(t, y, arrays) for t, y in zip(out, run.leaves, strict=True)],
        )

    return run, push


def _tangent(tangent: Tensor | None, result: Any, arrays: bool) -> Any:
    if not is_smooth(result):
        return None
    return as_kind(_zeros(result) if tangent is None else tangent, arrays)


def hvp(fun: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The Hessian of a scalar function times a vector, without the Hessian: the forward derivative of the gradient.

    Parameters
    ----------
    primals
        The arguments, as a tuple; derivatives are taken by all of them.
    tangents
        The vector, of the structure of `primals`.

    Returns
    -------
    The product: a tuple of the structure of `primals`, or for one primal what has its structure.

    Source: B. Pearlmutter, Fast exact multiplication by the Hessian (Neural Computation, 1994).

    >>> import numpy as np, graphc as gx
    >>> gx.hvp(lambda x: (x**3).sum(), (np.array([1.0, 2.0]),), (np.array([1.0, 1.0]),))
    array([ 6., 12.])
    """
    argnums = tuple(range(len(primals)))
    product = jvp(grad(fun, argnums), primals, tangents)[1]
    return product[0] if len(primals) == 1 else product
