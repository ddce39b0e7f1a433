"""Rematerialisation: computing values again in the backward pass instead of keeping them. Layer 5."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import StateError, message
from graphc.frontend import autograd, context, pytree
from graphc.frontend.autograd import TensorBuilder
from graphc.frontend.extension import world
from graphc.frontend.promotion import as_tensor
from graphc.frontend.random import default_generator
from graphc.frontend.recording import as_kind, check_callable, is_smooth, variable
from graphc.frontend.source import user_location
from graphc.frontend.subtrace import argument_of, operand_of, subtrace
from graphc.frontend.tape import Leaf, Reference, TapeNode, newest
from graphc.frontend.tensor import Tensor, apply
from graphc.ir import registry
from graphc.ir.op import Builder, Op
from graphc.ir.types import TensorType

__all__ = ["checkpoint"]


def checkpoint(fun: Callable[..., Any]) -> Callable[..., Any]:
    """A function with the values and derivatives of `fun` that keeps its arguments only: reverse mode computes what is between
    once more. Less memory for about one more forward pass.

    Parameters
    ----------
    fun
        Any pure function of arrays, or containers of them; what it uses from outside (parameters) has its derivatives, too.

    Returns
    -------
    The function. In compiled code a recomputation waits for the cotangents of its results, and is never merged with the forward
    pass. `inspect()` shows the arena's size.

    Raises
    ------
    StateError
        If, while it is traced, the function writes to a tensor from outside, draws random numbers or has other effects: they
        would happen twice.

    >>> import numpy as np, graphc as gx
    >>> gx.grad(lambda x: gx.checkpoint(lambda x: np.sin(np.sin(x)))(x))(np.float64(0.0))
    np.float64(1.0)
    """
    check_callable("checkpoint", fun)

    @functools.wraps(fun)
    def run(*args: Any, **kwargs: Any) -> Any:
        leaves, _, structure = pytree.flatten((args, kwargs))
        places = [i for i, x in enumerate(leaves) if isinstance(x, (Tensor, np.ndarray, np.generic, float))]

        def function(*xs: Any) -> Any:
            whole = list(leaves)
            for place, x in zip(places, xs, strict=True):
                whole[place] = x
            positional, named = pytree.unflatten(structure, whole)
            return fun(*positional, **named)

        given = [leaves[i] for i in places]
        if context.trace.get() is not None:
            return _traced(function, given, getattr(fun, "__name__", "checkpoint"))
        return _recorded(function, given) if context.grad_enabled.get() else fun(*args, **kwargs)

    return run


def _traced(function: Callable[..., Any], given: list[Any], label: str) -> Any:
    sub = subtrace(function, [argument_of(x) for x in given], name=label)
    if sub.writes or sub.effects:
        what = "writes to a tensor from outside (or draws random numbers)" if sub.writes else "has effects"
        raise StateError(
            message(
                f"checkpoint: the function {label} {what}, which would happen once more in the backward pass",
                location=user_location(),
                hint="Take that out of the function, and pass the values in.",
            )
        )
    operands = [*map(operand_of, given), *sub.captures]
    results = apply(registry.get("checkpoint"), operands, {"body": sub.graph, "label": label})
    return sub.wrap(results)


# -- dynamic mode ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Again:
    """What it takes to run a call once more: the function, and the state of the random numbers then."""

    function: Callable[..., Any]
    numbers: np.ndarray[Any, Any]

    def run(self, xs: Sequence[Any]) -> tuple[list[Reference | None], list[Any], pytree.Structure]:
        """The variables' references (None for what is not floating point), and the leaves of the result."""
        state = default_generator().state._array
        now = state.copy()
        np.copyto(state, self.numbers)
        try:
            with context.enable_grad():
                pairs = [variable(x, "") if is_smooth(x) else None for x in xs]
                result = self.function(*[x if p is None else p[0] for x, p in zip(xs, pairs, strict=True)])
        finally:
            np.copyto(state, now)
        leaves, _, structure = pytree.flatten(result)
        return [None if p is None else p[1] for p in pairs], leaves, structure


def _detached(x: Any) -> Any:
    return x.detach() if isinstance(x, Tensor) else x


def _recorded(function: Callable[..., Any], given: list[Any]) -> Any:
    """Run on variables, and put one step on the tape in the place of what was recorded: its parents are the arguments and the
    places outside that the run has led to."""
    state = default_generator().state._array
    again = _Again(function, state.copy())
    start = newest()
    with context.enable_grad():
        pairs = [variable(_detached(x), "") if is_smooth(x) else None for x in given]
        result = function(*[x if p is None else p[0] for x, p in zip(given, pairs, strict=True)])
    leaves, _, structure = pytree.flatten(result)
    outputs = [y for y in leaves if isinstance(y, Tensor) and y.reference is not None]
    outside = _outside(outputs, {p[1] for p in pairs if p is not None}, start)
    operands = [as_tensor(x) for x in given]
    arrays = not any(isinstance(x, Tensor) for x in given)
    results = [Tensor(y._array) for y in outputs]
    if outside or any(x.reference is not None for x in operands):
        step = _Step(name="checkpoint", doc="A call whose values are computed again.")
        object.__setattr__(step, "again", again)
        object.__setattr__(step, "outside", [reference for reference, _ in outside])
        parents = (*(x.reference for x in operands), *(reference for reference, _ in outside))
        types = (*(x.type for x in operands), *(t for _, t in outside))
        saved = (*(x._array for x in operands), *(None for _ in outside))
        versions = (*((x._version, x._version.number) for x in operands), *(None for _ in outside))
        made = tuple(y.type for y in results)
        node = TapeNode(
            step, {}, parents, (saved, tuple(y._array for y in results)), (types, made), versions, user_location()
        )
        for index, y in enumerate(results):
            y._reference, y._requires_grad = (node, index), True
    supply = iter(results)
    shown = [next(supply) if isinstance(y, Tensor) and y.reference is not None else y for y in leaves]
    return pytree.unflatten(structure, [as_kind(y, arrays) if isinstance(y, Tensor) else y for y in shown])


def _outside(outputs: Sequence[Tensor], own: set[Reference], start: int) -> list[tuple[Reference, TensorType]]:
    """The places on the tape, older than the run, that outputs of the run depend on, with their types."""
    found: dict[Reference, TensorType] = {}
    seen: set[TapeNode] = set()
    stack = [r for y in outputs if (r := y.reference) is not None]
    while stack:
        reference = stack.pop()
        if reference in own:
            continue
        if isinstance(reference, Leaf):
            found[reference] = reference.tensor.type
        elif reference[0].serial <= start:
            found[reference] = reference[0].types[1][reference[1]]
        elif reference[0] not in seen:
            seen.add(reference[0])
            stack += [p for p in reference[0].parents if p is not None]
    return list(found.items())


class _Step(Op):
    """A call in dynamic mode as one step of the tape, which keeps the operands only."""

    def differentiate(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], attrs: Any
    ) -> Sequence[Any]:
        """Run again, and backward through that."""
        again, outside = self.again, self.outside  # type: ignore[attr-defined]
        wrap, unwrap = world(b)
        own, outputs = self._run(again, [wrap(x) for x in operands[: len(operands) - len(outside)]])
        pairs = [(y, wrap(ct)) for y, ct in zip(outputs, cotangents, strict=True) if ct is not None]
        wanted = [*(r for r in own if r is not None), *outside]
        nested = isinstance(b, TensorBuilder)
        # The places outside are on tapes that others still need.
        found = iter(
            autograd.gradients(
                [y for y, _ in pairs], wanted, [ct for _, ct in pairs], create_graph=nested, retain_graph=True
            )
        )
        cts = [None if r is None else next(found) for r in own] + list(found)
        return [None if ct is None else unwrap(ct) for ct in cts]

    def push_forward(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], tangents: Sequence[Any], attrs: Any
    ) -> Any:
        """Run again, and forward through that."""
        again, outside = self.again, self.outside  # type: ignore[attr-defined]
        wrap, unwrap = world(b)
        own, outputs = self._run(again, [wrap(x) for x in operands[: len(operands) - len(outside)]])
        places = [*own, *outside]
        pairs = [(r, wrap(t)) for r, t in zip(places, tangents, strict=True) if r is not None and t is not None]
        nested = isinstance(b, TensorBuilder)
        found = autograd.push_tangents(outputs, [r for r, _ in pairs], [t for _, t in pairs], create_graph=nested)
        return [None if t is None else unwrap(t) for t in found]

    def _run(self, again: _Again, xs: Sequence[Tensor]) -> tuple[list[Reference | None], list[Tensor]]:
        own, leaves, _ = again.run(xs)
        return own, [y for y in leaves if isinstance(y, Tensor) and y.reference is not None]
