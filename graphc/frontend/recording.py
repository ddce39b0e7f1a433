"""A function run on variables: what all functional transforms begin with. Layer 5.

A variable is a tensor whose tape reference is new: the derivative is taken by it, and an outer differentiation still sees
the value that it was made of. So derivatives of different levels are never confused, in whatever order they are nested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import GradientError, StructureError, message
from graphc.frontend import autograd, context, pytree
from graphc.frontend.promotion import as_tensor, convert, describe
from graphc.frontend.source import user_location
from graphc.frontend.tape import Leaf, Reference, TapeNode, topological
from graphc.frontend.tensor import Tensor, default_complex_dtype, default_dtype, native_array
from graphc.frontend.trace import Traced
from graphc.ir import registry

__all__ = ["Recording", "array_kind", "as_kind", "check_callable", "is_smooth", "like_leaf", "record_call", "variable"]


def is_smooth(x: Any) -> bool:
    """Whether a leaf is a floating-point or complex array or number, by which derivatives are taken."""
    if isinstance(x, Tensor):
        return x.type.dtype.is_inexact
    if isinstance(x, (np.ndarray, np.generic)):
        # bfloat16 is of NumPy's kind V.
        return x.dtype.kind in "fc" or (x.dtype.kind == "V" and x.dtype.name == "bfloat16")
    return isinstance(x, (float, complex))


def variable(x: Any, path: str) -> tuple[Tensor, Reference]:
    """`x` as a tensor with a tape reference of its own.

    Raises
    ------
    GradientError
        If it is not a floating-point or complex array or number; with its `path` among the arguments.
    """
    if not isinstance(x, (Tensor, np.ndarray, np.generic, int, float, complex)):
        raise GradientError(
            message(
                f"gradients are taken by arrays and numbers; argument {path} is a {type(x).__name__}",
                location=user_location(),
                hint="Choose other arguments with argnums.",
            )
        )
    source = as_tensor(x) if isinstance(x, Tensor) else as_tensor(native_array(x))
    if not source.type.dtype.is_inexact:
        raise GradientError(
            message(
                f"gradients are taken by floating-point and complex values only; argument {path} is not one",
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


def array_kind(x: Any) -> bool:
    """Whether a leaf is given as NumPy would have it, not as a Tensor."""
    return not isinstance(x, Tensor) or (isinstance(x, Traced) and x.kind == "ndarray")


def as_kind(tensor: Tensor, arrays: bool) -> Any:
    """A result as an array, unless it is on a tape."""
    if not arrays:
        return tensor
    if isinstance(tensor, Traced):
        tensor.kind = "ndarray"
        return tensor
    if tensor._requires_grad:
        return tensor
    return tensor._array if tensor.ndim else tensor._array[()]


def like_leaf(x: Any, like: Any, what: str, path: str) -> Tensor:
    """A tangent or cotangent as a tensor of the type of `like`; Python numbers take its dtype.

    Raises
    ------
    GradientError
        If it has another shape or dtype.
    """
    if isinstance(x, Traced) and x.weak:
        x = convert(x, like.dtype)
    of = like if isinstance(like, Tensor) else as_tensor(native_array(like))
    if isinstance(x, (int, float, complex)) and not isinstance(x, (bool, np.generic)):
        x = np.asarray(x, of.dtype)
    known = isinstance(x, (Tensor, np.ndarray, np.generic))
    tensor = as_tensor(x if isinstance(x, Tensor) else native_array(x)) if known else None
    if tensor is None or tensor.shape != of.shape or tensor.dtype != of.dtype:
        raise GradientError(
            message(
                f"a {what} has the shape and dtype of what it belongs to",
                operands=[(f"{what} {path}".rstrip(), describe(x)), ("belongs to", of.type)],
                location=user_location(),
                hint="Broadcast it, or convert it with .astype(x.dtype).",
            )
        )
    return tensor


@dataclass(slots=True)
class Recording:
    """A function's run on variables. `references` are the variables' places on the tape, in order; `leaves` are the leaves
    of the result, `structure` its containers; `aux` is the auxiliary output, off the tape if no outer one goes through. `lift`
    is for uses in another trace than that of the run (a linear function under vmap)."""

    references: list[Reference]
    leaves: list[Any]
    paths: list[str]
    structure: pytree.Structure
    aux: Any
    arrays: bool
    nested: bool
    lift: autograd.Lift

    def shown(self) -> Any:
        """The result as the caller gets it."""
        return pytree.unflatten(self.structure, [_settled(x, self.nested, self.arrays) for x in self.leaves])

    def push(self, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Tangents of the result's leaves from those of the variables."""
        nested = context.grad_enabled.get() and (
            self.nested or any(t is not None and t.reference is not None for t in tangents)
        )
        return autograd.push_tangents(self.leaves, self.references, tangents, create_graph=nested, lift=self.lift)

    def pull(self, cotangents: Sequence[Tensor | None], *, keep: bool) -> list[Tensor | None]:
        """Cotangents of the variables from those of the result's leaves; with `keep`, the tape serves again."""
        pairs = [
            (y, ct)
            for y, ct in zip(self.leaves, cotangents, strict=True)
            if isinstance(y, Tensor) and y.type.dtype.is_inexact and ct is not None
        ]
        nested = context.grad_enabled.get() and (self.nested or any(ct.reference is not None for _, ct in pairs))
        return autograd.gradients(
            [y for y, _ in pairs],
            self.references,
            [ct for _, ct in pairs],
            create_graph=nested,
            retain_graph=keep or self.nested,
            lift=self.lift,
        )


def record_call(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    chosen: Sequence[int],
    *,
    has_aux: bool,
    names: Callable[[int], str],
    lenient: bool = False,
) -> tuple[Recording, dict[int, tuple[list[Any], list[str], pytree.Structure]]]:
    """Run `function` with variables for the leaves of the arguments number `chosen`. Gives the recording, and these
    arguments flattened. With `lenient`, leaves that are not floating point go in as they are and have no variable.

    Raises
    ------
    GradientError
        If a leaf by which the derivative is taken is not floating point.
    """
    outer = context.grad_enabled.get()
    flat = {n: _flatten(args[n], names(n)) for n in chosen}
    replaced = list(args)
    references: list[Reference] = []
    arrays = True
    with context.enable_grad():
        for n, (leaves, paths, structure) in flat.items():
            inside = list(leaves)
            for k, (leaf, path) in enumerate(zip(leaves, paths, strict=True)):
                if lenient and not is_smooth(leaf):
                    continue
                inside[k], reference = variable(leaf, path)
                references.append(reference)
                arrays = arrays and array_kind(leaf)
            replaced[n] = pytree.unflatten(structure, inside)
        try:
            result = context.rewritten(function)(*replaced, **kwargs)
        finally:
            for reference in references:
                if isinstance(reference, Leaf):
                    reference.closed = True
    value, aux = _with_aux(result) if has_aux else (result, None)
    leaves, paths, structure = pytree.flatten(value)
    nested = outer and _has_outer_tape(leaves)
    if has_aux:
        items, _, shape = pytree.flatten(aux)
        aux = pytree.unflatten(shape, [_settled(x, nested, arrays) for x in items])
    lift = autograd.Lift(context.trace.get(), nested, {})
    return Recording(references, leaves, paths, structure, aux, arrays, nested, lift), flat


def _flatten(x: Any, path: str) -> tuple[list[Any], list[str], pytree.Structure]:
    """An argument's leaves; traced Python floats get the dtype that dynamic mode gives them."""
    leaves, paths, structure = pytree.flatten(x, path)
    return [_strong(leaf) if isinstance(leaf, Traced) and leaf.weak else leaf for leaf in leaves], paths, structure


def _strong(x: Traced) -> Tensor:
    out = convert(x, default_complex_dtype() if x.type.dtype.is_complex else default_dtype())
    if isinstance(out, Traced):
        out.kind, out.weak = x.kind, False
    return out


def _settled(x: Any, nested: bool, arrays: bool) -> Any:
    """A leaf of a result as the caller gets it: off the tape of this differentiation."""
    if not isinstance(x, Tensor):
        return x
    return as_kind(x if nested or x.reference is None else x.detach(), arrays)


def _has_outer_tape(leaves: Sequence[Any]) -> bool:
    """Whether an outer differentiation may go through this one, so that its own computation is recorded: a result depends
    on leaves that are not variables of this call, nor of one that is over; or this is the body of a loop or branch, whose
    graph is differentiated as a whole."""
    trace = context.trace.get()
    if trace is not None and trace.nested:
        return True
    found = [r for x in leaves if isinstance(x, Tensor) and (r := x.reference) is not None]
    if any(isinstance(r, Leaf) and not r.closed for r in found):
        return True
    nodes = topological([r[0] for r in found if isinstance(r, tuple)])
    return any(isinstance(p, Leaf) and not p.closed for node in nodes for p in node.parents)


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


def check_callable(who: str, function: Any) -> None:
    """Raise if what should be a function cannot be called."""
    if not callable(function):
        raise StructureError(
            message(
                f"{who} takes a function first; this is {function!r}",
                location=user_location(),
                hint=f"Write gx.{who}(f, ...) with the function itself, not its result.",
            )
        )
