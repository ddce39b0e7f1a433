"""Whole Jacobian and Hessian matrices. Layer 5. Names and argument order follow JAX."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.errors import GradientError, message
from graphc.frontend import pytree
from graphc.frontend.promotion import as_tensor, describe, op
from graphc.frontend.recording import Recording, as_kind, is_smooth, record_call
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, native_array
from graphc.frontend.transforms import checked_numbers, chosen_arguments
from graphc.frontend.vmap import vmap

__all__ = ["hessian", "jacfwd", "jacobian", "jacrev"]

Rows = list[list[Tensor]]


def jacfwd(fun: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that gives the Jacobian of `fun`, column by column in forward mode: for few inputs and many outputs.

    Parameters
    ----------
    fun
        A function whose result is an array of floats, or containers of them (with `has_aux`, a pair of it and anything).
    argnums
        By which arguments, as in `grad`.

    Returns
    -------
    The function. Its result has the structure of `fun`'s result, with the structure of the chosen arguments in the place of
    each array; the Jacobian of y by x has the shape `y.shape + x.shape`. With `has_aux`, the pair of it and the auxiliary
    output.

    Raises
    ------
    GradientError
        If an argument or a result is not floating point.

    >>> import numpy as np, graphc as gx
    >>> gx.jacfwd(lambda x: np.stack([x.sum(), x[0] * x[1]]))(np.array([2.0, 5.0]))
    array([[1., 1.],
           [5., 2.]])
    """
    return _jacobian("jacfwd", fun, argnums, has_aux, _forward)


def jacrev(fun: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that gives the Jacobian of `fun`, row by row in reverse mode: for many inputs and few outputs.

    See `jacfwd`, which gives the same.

    >>> import numpy as np, graphc as gx
    >>> gx.jacrev(lambda x: (x**2).sum())(np.array([2.0, 5.0]))
    array([ 4., 10.])
    """
    return _jacobian("jacrev", fun, argnums, has_aux, _reverse)


#: The Jacobian in reverse mode.
jacobian = jacrev


def hessian(fun: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that gives the second derivatives of `fun`: the forward Jacobian of the reverse one.

    The Hessian of a scalar by x has the shape `x.shape + x.shape`; structures are nested as those of `jacfwd`. For its product
    with a vector alone see `hvp`.

    >>> import numpy as np, graphc as gx
    >>> gx.hessian(lambda x: x[0] ** 2 * x[1])(np.array([2.0, 5.0]))
    array([[10.,  4.],
           [ 4.,  0.]])
    """
    chosen_arguments("hessian", fun, argnums)
    return jacfwd(jacrev(fun, argnums, has_aux), argnums, has_aux)


def _jacobian(
    who: str, fun: Callable[..., Any], argnums: Any, has_aux: bool, sweep: Callable[[Recording, list[Any]], Rows]
) -> Callable[..., Any]:
    numbers = chosen_arguments(who, fun, argnums)

    @functools.wraps(fun)
    def derivative(*args: Any, **kwargs: Any) -> Any:
        wanted = checked_numbers(numbers, len(args))
        run, flat = record_call(fun, args, kwargs, wanted, has_aux=has_aux, names=lambda n: f"args[{n}]")
        _check_smooth(who, run)
        inputs = [leaf for leaves, _, _ in flat.values() for leaf in leaves]
        rows = sweep(run, inputs)
        found = []
        for row in rows:
            per_argument: dict[int, Any] = {}
            rest = [as_kind(block, run.arrays) for block in row]
            for n, (leaves, _, structure) in flat.items():
                per_argument[n], rest = pytree.unflatten(structure, rest[: len(leaves)]), rest[len(leaves) :]
            out = tuple(per_argument[n] for n in wanted)
            found.append(out[0] if isinstance(argnums, int) else out)
        whole = pytree.unflatten(run.structure, found)
        return (whole, run.aux) if has_aux else whole

    return derivative


def _check_smooth(who: str, run: Recording) -> None:
    for leaf, path in zip(run.leaves, run.paths, strict=True):
        if not is_smooth(leaf):
            raise GradientError(
                message(
                    f"{who} needs a function whose results are floating point",
                    operands=[(f"result{path}", describe(leaf) if hasattr(leaf, "shape") else type(leaf).__name__)],
                    location=user_location(),
                    hint="Return other results beside them with has_aux=True.",
                )
            )


def _of(leaf: Any) -> Tensor:
    return leaf if isinstance(leaf, Tensor) else as_tensor(native_array(leaf))


def _basis(x: Tensor) -> Tensor:
    """The unit vectors of a tensor's space, along a new axis 0."""
    return as_tensor(np.eye(x.size, dtype=x.dtype).reshape(x.size, *x.shape))


def _zeros(shape: tuple[int, ...], dtype: Any) -> Tensor:
    return as_tensor(np.zeros(shape, dtype))


def _forward(run: Recording, inputs: list[Any]) -> Rows:
    """All tangents of an input at once."""
    outputs = [_of(y) for y in run.leaves]
    rows: Rows = [[] for _ in outputs]
    for number, x in enumerate(map(_of, inputs)):

        def push(unit: Tensor, number: int = number) -> list[Tensor | None]:
            return run.push([unit if k == number else None for k in range(len(inputs))])

        columns = vmap(push, out_axes=-1)(_basis(x))
        for row, y, column in zip(rows, outputs, columns, strict=True):
            row.append(_shaped(column, (*y.shape, *x.shape), y.dtype))
    return rows


def _reverse(run: Recording, inputs: list[Any]) -> Rows:
    """All cotangents of a result at once."""
    outputs = [_of(y) for y in run.leaves]
    rows: Rows = []
    for number, y in enumerate(outputs):

        def pull(unit: Tensor, number: int = number) -> list[Tensor | None]:
            return run.pull([unit if k == number else None for k in range(len(outputs))], keep=True)

        found = vmap(pull)(_basis(y))
        rows.append([_shaped(g, (*y.shape, *x.shape), x.dtype) for g, x in zip(found, map(_of, inputs), strict=True)])
    return rows


def _shaped(x: Any, shape: tuple[int, ...], dtype: Any) -> Tensor:
    """A block of the matrix; zeros where nothing depends on the input."""
    return _zeros(shape, dtype) if x is None else op("reshape", _of(x), shape=shape)
