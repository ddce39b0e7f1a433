"""`backward()` and gradients of outputs by inputs, over the tape of either mode. Layer 5.

The tape's payloads are NumPy arrays in dynamic mode and graph values while tracing; the builder is chosen to fit. With
`create_graph` the rules run on Tensors instead, so that what they do is recorded again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.dtypes import DType
from graphc.errors import GradientError, NoDerivativeError, ShapeError, message
from graphc.forward import Tangents, push
from graphc.frontend import context
from graphc.frontend.source import user_location
from graphc.frontend.tape import Leaf, Reference, Stale, TapeNode, steps_from, topological
from graphc.frontend.tensor import Tensor, apply, native_array, observe
from graphc.frontend.trace import Trace, TraceBuilder, Traced
from graphc.interp import NumpyBuilder
from graphc.ir.graph import Attribute
from graphc.ir.location import Location
from graphc.ir.op import Builder, Op
from graphc.ir.types import Shape, TensorType
from graphc.reverse import Cotangents, Step, backpropagate

__all__ = ["Lift", "TensorBuilder", "backward", "gradients", "push_tangents"]


class ArrayBuilder(NumpyBuilder):
    """NumPy arrays, some of which may be stale."""

    def type(self, x: Any) -> TensorType:
        return x.type if isinstance(x, Stale) else super().type(x)

    def is_value(self, x: Any) -> bool:
        return isinstance(x, Stale) or super().is_value(x)

    def apply(self, op: Op, operands: tuple[Any, ...], attrs: dict[str, Attribute]) -> tuple[Any, ...]:
        for x in operands:
            if isinstance(x, Stale):
                raise x.fail()
        results = super().apply(op, operands, attrs)
        observe(op, operands, results)
        return results


class TensorBuilder(Builder):
    """Tensors through `apply`: what rules do is recorded (or traced) like any user code."""

    def type(self, x: Tensor) -> TensorType:
        return x.type

    def apply(self, op: Op, operands: tuple[Tensor, ...], attrs: dict[str, Attribute]) -> tuple[Tensor, ...]:
        return apply(op, operands, attrs)

    def full(self, shape: Shape, value: float, dtype: DType) -> Tensor:
        array = np.broadcast_to(np.asarray(value, dtype=dtype.numpy), shape)  # type: ignore[arg-type]
        trace = context.trace.get()
        if trace is None:
            return Tensor(array)
        return Traced(trace, TraceBuilder(trace).full(shape, value, dtype))

    def is_value(self, x: Any) -> bool:
        return isinstance(x, Tensor)


@dataclass(frozen=True, slots=True)
class Lift:
    """Takes the payloads of a tape that was recorded in the trace `home` (None: dynamically) into the trace that is active, as
    captures. With `nested`, they stay on the tape that they come from. `known` has those that were taken before."""

    home: Trace | None
    nested: bool
    known: dict[tuple[int, int], tuple[Any, Any, Tensor]]

    @property
    def needed(self) -> bool:
        """Whether another trace is active."""
        return context.trace.get() is not self.home

    def __call__(self, payload: Any, reference: Reference | None = None) -> Tensor:
        if isinstance(payload, Stale):
            raise payload.fail()
        key = id(payload), id(reference)
        if key not in self.known:
            out = Tensor(payload) if self.home is None else Traced(self.home, payload)
            if self.nested:
                out._reference, out._requires_grad = reference, reference is not None
            self.known[key] = payload, reference, out
        return self.known[key][2]


def _wrap(payload: Any, reference: Reference | None = None) -> Tensor:
    """A tensor around a tape's payload, connected to where it came from."""
    trace = context.trace.get()
    if isinstance(payload, Stale):
        raise payload.fail()
    out = Tensor(payload) if trace is None else Traced(trace, payload)
    out._reference = reference
    out._requires_grad = reference is not None
    return out


def _payload(tensor: Tensor) -> Any:
    trace = context.trace.get()
    return tensor._array if trace is None else trace.value_of(tensor)


def _seed(output: Tensor, gradient: Any) -> Tensor:
    if gradient is None:
        if output.shape:
            raise GradientError(
                message(
                    "backward() without a gradient needs a scalar",
                    operands=[("tensor", output.type)],
                    location=user_location(),
                    hint="Reduce it first (for example with .sum() or .mean()), or pass the gradient.",
                )
            )
        if output.type.dtype.is_complex:
            raise GradientError(
                message(
                    "backward() without a gradient needs a real result",
                    operands=[("tensor", output.type)],
                    location=user_location(),
                    hint="Take .real, .imag or abs() of it, or pass the gradient.",
                )
            )
        return TensorBuilder().full((), 1.0, output.type.dtype)
    seed = gradient if isinstance(gradient, Tensor) else Tensor(native_array(gradient))
    if isinstance(gradient, np.ndarray) and context.trace.get() is not None:
        seed = context.trace.get().constant(gradient)  # type: ignore[union-attr]
    if seed.shape != output.shape or seed.dtype != output.dtype:
        raise ShapeError(
            message(
                "the gradient passed in must have the tensor's type",
                operands=[("tensor", output.type), ("gradient", seed.type)],
                location=user_location(),
                hint="Broadcast or convert it to the tensor's shape and dtype.",
            )
        )
    return seed


def _roots(outputs: Sequence[Tensor], seeds: Sequence[Any]) -> list[tuple[Reference, Tensor]]:
    found = []
    for output, seed in zip(outputs, seeds, strict=True):
        reference = output.reference
        if reference is not None:
            found.append((reference, _seed(output, seed)))
    if not found:
        raise GradientError(
            message(
                "there is nothing to differentiate: no tensor that requires gradients led here",
                operands=[("tensor", o.type) for o in outputs],
                location=user_location(),
                hint="Create leaves with requires_grad=True; check for no_grad() and detach().",
            )
        )
    return found


def _builder(create_graph: bool) -> Builder:
    trace = context.trace.get()
    if create_graph:
        return TensorBuilder()
    return ArrayBuilder() if trace is None else TraceBuilder(trace)


def _propagate(
    roots: list[tuple[Reference, Tensor]],
    create_graph: bool,
    until: Sequence[Reference] = (),
    wrap: Callable[..., Tensor] = _wrap,
) -> tuple[list[TapeNode], Cotangents]:
    """Run the driver from the roots down to the leaves, or to the references `until`, which are not passed."""
    stops = {r[0] for r in until if isinstance(r, tuple)}
    nodes = [n for n in topological([r[0] for r, _ in roots if isinstance(r, tuple)]) if n not in stops]
    builder = _builder(create_graph)
    cotangents = Cotangents(builder)
    for reference, seed in roots:
        cotangents.add(reference, seed if create_graph else _payload(seed))

    place: Location | None = None

    def steps() -> Iterator[Step]:
        nonlocal place
        for node, step in steps_from(nodes, wrap if create_graph else None):
            place = node.where
            if isinstance(builder, TraceBuilder):
                builder.where = node.where
            yield step

    with context.enable_grad() if create_graph else context.no_grad():
        try:
            backpropagate(builder, steps(), cotangents)
        except NoDerivativeError as error:
            raise error.at(place) from None
    return nodes, cotangents


def backward(
    tensor: Tensor, gradient: Any = None, *, retain_graph: bool | None = None, create_graph: bool = False
) -> None:
    """Accumulate the gradient of a tensor into `.grad` of the leaves that it depends on.

    Parameters
    ----------
    gradient
        Cotangent of the tensor's type; 1 for a scalar by default.
    retain_graph
        Keep the tape for another backward (default: what `create_graph` is).
    create_graph
        Record the computation of the gradient, so that it can be differentiated again.
    """
    nodes, cotangents = _propagate(_roots([tensor], [gradient]), create_graph)
    leaves = {p: None for node in nodes for p in node.parents if isinstance(p, Leaf)}
    if isinstance(tensor.reference, Leaf):
        leaves[tensor.reference] = None
    trace = context.trace.get()
    if trace is not None:
        _check_captured(leaves, trace)
    taken: set[int] = set()
    for leaf in leaves:
        total = cotangents.total(leaf)
        if total is None:
            continue
        _accumulate(leaf.tensor, total if isinstance(total, Tensor) else _own(total, taken))
    if not (create_graph if retain_graph is None else retain_graph):
        for node in nodes:
            node.saved = None


def _check_captured(leaves: dict[Leaf, None], trace: Trace) -> None:
    for leaf in leaves:
        if not isinstance(leaf.tensor, Traced) and not leaf.tensor.is_leaf:
            raise GradientError(
                message(
                    "backward() inside a compiled function reaches a captured tensor whose tape lies outside",
                    operands=[("captured tensor", leaf.tensor.type)],
                    location=user_location(),
                    hint="Pass the tensor as an argument, detach it, or call backward() outside.",
                )
            )


def _own(total: Any, taken: set[int]) -> Tensor:
    """A total as a tensor that shares memory with nothing."""
    if context.trace.get() is not None:
        return _wrap(total)
    array = np.asarray(total)
    if array.base is not None or id(array) in taken or not array.flags.writeable:
        array = np.array(array)
    taken.add(id(array))
    return Tensor(array)


def _accumulate(leaf: Tensor, total: Tensor) -> None:
    trace = context.trace.get()
    if trace is not None:
        trace.accumulate_grad(leaf, total)
    elif leaf._grad is None:
        leaf._grad = total if total._base is None else Tensor(np.array(total._array))
    elif total._requires_grad:
        leaf._grad = TensorBuilder().add(leaf._grad, total)
    else:
        np.add(leaf._grad._array, total._array, out=leaf._grad._array)
        leaf._grad._version.number += 1


def gradients(
    outputs: Sequence[Tensor],
    inputs: Sequence[Reference],
    seeds: Sequence[Any],
    *,
    create_graph: bool = False,
    retain_graph: bool = False,
    lift: Lift | None = None,
) -> list[Tensor | None]:
    """Gradients of outputs by tape references, without touching `.grad`; None where nothing depends on an input. `lift` takes
    the tape of another trace into this one."""
    lifted = lift is not None and lift.needed
    references = [o.own_reference() if lifted else o.reference for o in outputs]
    roots = [(r, _seed(o, s)) for r, o, s in zip(references, outputs, seeds, strict=True) if r is not None]
    if not roots:
        return [None] * len(inputs)
    if lift is not None and lifted:
        cotangents = _propagate(roots, True, inputs, lift)[1]
        return [cotangents.total(reference) for reference in inputs]
    nodes, cotangents = _propagate(roots, create_graph, inputs)
    totals = [cotangents.total(reference) for reference in inputs]
    if not (retain_graph or create_graph):
        for node in nodes:
            node.saved = None
    return [t if t is None or isinstance(t, Tensor) else _own(t, set()) for t in totals]


def push_tangents(
    outputs: Sequence[Any],
    inputs: Sequence[Reference],
    tangents: Sequence[Tensor | None],
    *,
    create_graph: bool = False,
    lift: Lift | None = None,
) -> list[Tensor | None]:
    """Tangents of outputs from those of tape references, forward along the tape; None where an output (or something that is
    no tensor) does not depend on them. The tape is kept.

    Raises
    ------
    NoDerivativeError
        If a tangent meets an op without a derivative; with the user's line.
    """
    lifted = lift is not None and lift.needed
    create_graph = create_graph or lifted
    wrap: Any = lift if lifted else _wrap if create_graph else None
    builder = _builder(create_graph)
    found = Tangents(builder)
    for reference, tangent in zip(inputs, tangents, strict=True):
        if tangent is not None:
            found.set(reference, tangent if create_graph else _payload(tangent))
    tensors = [y if isinstance(y, Tensor) else None for y in outputs]
    references = [None if y is None else y.own_reference() if lifted else y.reference for y in tensors]
    nodes = topological([r[0] for r in references if isinstance(r, tuple)])
    place: Location | None = None

    def steps() -> Iterator[Step]:
        nonlocal place
        for node, step in _dependent_steps(nodes, inputs, wrap):
            place = node.where
            if isinstance(builder, TraceBuilder):
                builder.where = node.where
            yield step

    with context.enable_grad() if create_graph else context.no_grad():
        try:
            push(builder, steps(), found)
        except NoDerivativeError as error:
            raise error.at(place) from None
        totals = [None if r is None else found.plain(r) for r in references]
    taken = {id(t._array) for t in tangents if t is not None and not isinstance(t, Traced)}
    return [t if t is None or isinstance(t, Tensor) else _own(t, taken) for t in totals]


def _dependent_steps(
    nodes: Sequence[TapeNode], inputs: Sequence[Reference], wrap: Any
) -> Iterator[tuple[TapeNode, Step]]:
    """Steps first to last of the nodes that depend on `inputs`; those that made the inputs are not among them."""
    active: set[Any] = set(inputs)
    stops = {r[0] for r in inputs if isinstance(r, tuple)}
    for node in nodes:
        if node in stops or not any(p in active for p in node.parents if p is not None):
            continue
        active.update((node, i) for i in range(len(node.types[1])))
        yield next(steps_from([node], wrap))
