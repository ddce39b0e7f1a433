"""Functional differentiation: `grad` and `value_and_grad`. Layer 5. Names and argument order follow JAX.

The function runs with tape references in place of the chosen arguments; it works the same dynamically and while tracing,
and nests: the gradient is recorded too when an outer differentiation is on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.errors import GradientError, StructureError, message
from graphc.frontend import autograd, context, pytree
from graphc.frontend.promotion import as_tensor
from graphc.frontend.source import user_location
from graphc.frontend.tape import Leaf, Reference, TapeNode, topological
from graphc.frontend.tensor import Tensor, native_array
from graphc.frontend.trace import Traced
from graphc.ir import registry

__all__ = ["grad", "value_and_grad"]


def _variable(x: Any, path: str) -> tuple[Tensor, Reference]:
    """`x` as a tensor whose tape reference is new: the derivative is taken by it, and an outer tape still sees x."""
    if not isinstance(x, (Tensor, np.ndarray, np.generic, int, float)):
        raise GradientError(
            message(
                f"gradients are taken by arrays and numbers; argument {path} is a {type(x).__name__}",
                location=user_location(),
                hint="Choose other arguments with argnums.",
            )
        )
    source = as_tensor(x) if isinstance(x, Tensor) else as_tensor(native_array(x))
    if not source.type.dtype.is_float:
        raise GradientError(
            message(
                f"gradients are taken by floating-point values only; argument {path} is not one",
                operands=[(path, source.type)],
                location=user_location(),
                hint="Convert it with astype(np.float32), or choose other arguments with argnums.",
            )
        )
    trace = context.trace.get()
    outer = source.reference
    if trace is None:
        out = Tensor(source._array)
        payload: Any = source._array
    else:
        payload = trace.value_of(source)
        out = Traced(trace, payload, source.kind if isinstance(source, Traced) else "tensor")
    if outer is None:
        reference: Reference = Leaf(out)
    else:
        identity = registry.get("barrier")
        types = ((source.type,), (source.type,))
        node = TapeNode(identity, {"instance": 0}, (outer,), ((payload,), (payload,)), types, (), user_location())
        reference = (node, 0)
    out._reference = reference
    out._requires_grad = True
    return out, reference


def _array_kind(x: Any) -> bool:
    return not isinstance(x, Tensor) or (isinstance(x, Traced) and x.kind == "ndarray")


def _as_kind(tensor: Tensor, like: Any) -> Any:
    """A gradient in the kind of its argument."""
    if not _array_kind(like):
        return tensor
    if isinstance(tensor, Traced):
        tensor.kind = "ndarray"
        return tensor
    if tensor._requires_grad:
        return tensor
    return tensor._array if tensor.ndim else tensor._array[()]


def value_and_grad(
    fun: Callable[..., Any], argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that gives `(fun(*args), gradients)`.

    Parameters
    ----------
    fun
        A function with a scalar floating-point result (or a pair of it and anything, with `has_aux`).
    argnums
        Which positional arguments to differentiate by: one number, or a tuple (then gradients are a tuple too). Arguments
        may be containers of arrays; their gradients have the same structure, shapes and dtypes.

    Raises
    ------
    GradientError
        If the result is not a floating-point scalar, or an argument is not floating point.

    >>> import numpy as np, graphc as gx
    >>> gx.value_and_grad(lambda x: (x ** 2).sum())(np.array([1.0, 2.0]))
    (np.float64(5.0), array([2., 4.]))
    """
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if not callable(fun) or not all(isinstance(n, int) for n in numbers):
        what = f"argnums is {argnums!r}" if callable(fun) else f"the function is {fun!r}"
        raise StructureError(
            message(
                f"grad takes a function and the numbers of its arguments; {what}",
                location=user_location(),
                hint="Write grad(f) or grad(f, argnums=1) or grad(f, argnums=(0, 1)).",
            )
        )

    @functools.wraps(fun)
    def differentiated(*args: Any, **kwargs: Any) -> Any:
        if any(not -len(args) <= n < len(args) for n in numbers):
            raise StructureError(
                message(
                    f"argnums {argnums} needs more than the {len(args)} positional arguments given",
                    location=user_location(),
                    hint="Arguments are counted from 0; pass those to differentiate by position, not by keyword.",
                )
            )
        wanted = [n % len(args) for n in numbers]
        flat = {n: pytree.flatten(args[n], f"args[{n}]") for n in wanted}
        replaced = list(args)
        references: list[Reference] = []
        originals: list[Any] = []
        with context.enable_grad():
            for n, (leaves, paths, structure) in flat.items():
                pairs = [_variable(leaf, path) for leaf, path in zip(leaves, paths, strict=True)]
                references += [reference for _, reference in pairs]
                originals += leaves
                replaced[n] = pytree.unflatten(structure, [tensor for tensor, _ in pairs])
            result = fun(*replaced, **kwargs)
        value, aux = _with_aux(result) if has_aux else (result, None)
        _check_scalar(value)
        nested = _has_outer_tape(value, references)
        found = autograd.gradients([value], references, [None], create_graph=nested)
        gradients = [_or_zero(g, x) for g, x in zip(found, originals, strict=True)]
        per_argument: dict[int, Any] = {}
        for n, (leaves, _, structure) in flat.items():
            mine, gradients = gradients[: len(leaves)], gradients[len(leaves) :]
            per_argument[n] = pytree.unflatten(structure, mine)
        out = tuple(per_argument[n] for n in wanted)
        all_arrays = all(_array_kind(leaf) for leaf in originals)
        shown = _as_kind(value if nested else value.detach(), None if all_arrays else value)
        return ((shown, aux) if has_aux else shown), (out[0] if isinstance(argnums, int) else out)

    return differentiated


def _has_outer_tape(value: Tensor, references: list[Reference]) -> bool:
    """Whether an outer differentiation may go through this one, so that the gradient's own computation is recorded:
    the value depends on leaves that are not variables of this call, or this is the body of a loop or branch, whose graph
    is differentiated as a whole."""
    if not context.grad_enabled.get():
        return False
    trace = context.trace.get()
    if trace is not None and trace.nested:
        return True
    roots = [value.reference[0]] if isinstance(value.reference, tuple) else []
    nodes = topological(roots)
    return any(isinstance(p, Leaf) and p not in references for node in nodes for p in node.parents)


def _with_aux(result: Any) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        raise GradientError(
            message(
                "with has_aux the function returns a pair (value, anything)",
                operands=[("result", result.type if isinstance(result, Tensor) else type(result).__name__)],
                location=user_location(),
                hint="Return two values, or leave has_aux out.",
            )
        )
    return result


def _check_scalar(value: Any) -> None:
    if not isinstance(value, Tensor) or value.shape or not value.type.dtype.is_float:
        shown = value.type if isinstance(value, Tensor) else type(value).__name__
        raise GradientError(
            message(
                "grad needs a function with a floating-point scalar result that depends on its argument",
                operands=[("result", shown)],
                location=user_location(),
                hint="Reduce the result with sum() or mean()."
                if isinstance(value, Tensor) and value.type.dtype.is_float
                else "Return a sum or mean of floats that is computed from the argument.",
            )
        )


def _or_zero(gradient: Tensor | None, like: Any) -> Any:
    if gradient is None:
        source = as_tensor(like)
        gradient = as_tensor(np.zeros(source.shape, dtype=source.dtype))
    return _as_kind(gradient, like)


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
