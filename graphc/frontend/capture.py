"""Running a function under a trace: from a Python call to a closed graph with a plan of its outputs. Layer 5.

A trace is a transaction: state and gradients live in the trace until it ends, so a trace that fails leaves everything as
it was; and it leaves no traced value behind: a survivor is an error that names who holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.errors import GraphcError
from graphc.frontend import autograd, context, pytree
from graphc.frontend.rewriting import operators
from graphc.frontend.rewriting.conversion import rewriting
from graphc.frontend.rewriting.values import check_defined
from graphc.frontend.signature import Guard, TracedLeaf, scalar_guards
from graphc.frontend.structure import Tracked
from graphc.frontend.tape import Leaf, topological
from graphc.frontend.tensor import Tensor
from graphc.frontend.trace import StateSlot, Trace, Traced
from graphc.frontend.usercode import call_user, check_leaks
from graphc.ir.graph import Graph, Literal, Value, input_value, make
from graphc.ir.location import Location

__all__ = ["Backward", "Captured", "GradWrite", "Output", "capture"]


@dataclass(frozen=True, slots=True)
class Output:
    """One leaf of the result: output `index` of the graph wrapped as `kind`, the argument leaf number `argument`
    itself, or `value` as it is."""

    index: int | None = None
    kind: str = "tensor"
    argument: int | None = None
    value: Any = None


@dataclass(frozen=True, slots=True)
class GradWrite:
    """What happens to `tensor.grad` after a call: set from output `index`, or cleared (index None). `state` is the
    input that holds the old gradient, if the graph reads it; `argument` the leaf when the tensor is an argument."""

    tensor: Tensor | None
    index: int | None
    state: int | None = None
    argument: int | None = None


@dataclass(frozen=True, slots=True)
class Backward:
    """The vector-Jacobian product of a captured function.

    `graph` takes residuals (outputs of the forward graph from `first_residual` on, or inputs of it) and cotangents of the
    outputs `differentiable`; it gives cotangents of the inputs `wrt`. `joint` takes all inputs and the cotangents.
    """

    graph: Graph
    joint: Graph
    residual_inputs: tuple[int, ...]
    first_residual: int
    differentiable: tuple[int, ...]
    wrt: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Captured:
    """A traced function. Inputs of `graph`: traced leaves, then state; outputs: results, state writes, gradients, what the
    derivative needs, and the last token if there are effects."""

    graph: Graph
    leaves: tuple[int, ...]
    states: tuple[StateSlot, ...]
    outputs: tuple[Output, ...]
    structure: pytree.Structure
    writes: dict[int, int]
    mutated: tuple[tuple[int, int], ...]
    grads: tuple[GradWrite, ...]
    presence: tuple[tuple[Tensor, bool], ...]
    watched: tuple[tuple[Tracked, int], ...]
    guards: tuple[Guard, ...]
    constants: tuple[tuple[Any, Literal, Location | None], ...]
    requires: tuple[tuple[Tensor, bool], ...]
    backward: Backward | None


def capture(
    function: Callable[..., Any],
    leaves: Sequence[Any],
    traced: Sequence[TracedLeaf | None],
    paths: Sequence[str],
    structure: pytree.Structure,
    name: str,
    *,
    autograph: bool = True,
) -> Captured:
    """Trace `function(*args, **kwargs)`, where (args, kwargs) is `structure` over `leaves`. With `autograph`, a function
    that asks for the value of a traced array is traced again with its control flow rewritten."""
    rewrites, roll, patience = False, False, _PATIENCE if autograph else None
    while True:
        trace = Trace(name, rewrites=autograph and not rewrites, patience=patience)
        try:
            if not (rewrites or roll):
                return _capture(function, leaves, traced, paths, structure, trace)
            with rewriting(operators, roll=roll) as conversion:
                return _capture(conversion.root(function), leaves, traced, paths, structure, trace)
        except context.RewriteNeeded as need:
            if need.roll:
                roll, patience = True, None
            else:
                rewrites = True
        except GraphcError:
            if not roll:
                raise
            roll, patience = False, None  # not a loop after all: round by round


#: A line that adds more ops than this to a trace may stand in a loop.
_PATIENCE = 32


def _capture(
    function: Callable[..., Any],
    leaves: Sequence[Any],
    traced: Sequence[TracedLeaf | None],
    paths: Sequence[str],
    structure: pytree.Structure,
    trace: Trace,
) -> Captured:
    token = context.trace.set(trace)
    try:
        guards = scalar_guards(function)
        handles, positions = _arguments(trace, leaves, traced, paths)
        args, kwargs = pytree.unflatten(structure, handles)
        for leaf in leaves:
            if isinstance(leaf, Tracked):
                trace.watch(leaf)
        result = call_user(trace, function, args, kwargs)
        captured = _finish(trace, result, handles, positions, guards)
        del result, args, kwargs, handles
    finally:
        trace.closed = True
        context.trace.reset(token)
    check_leaks(trace)
    return captured


def _arguments(
    trace: Trace, leaves: Sequence[Any], traced: Sequence[TracedLeaf | None], paths: Sequence[str]
) -> tuple[list[Any], tuple[int, ...]]:
    handles: list[Any] = []
    positions: list[int] = []
    for position, (leaf, how, path) in enumerate(zip(leaves, traced, paths, strict=True)):
        if how is None:
            handles.append(leaf)
            continue
        handle = trace.add_argument(how.type, path, how.kind, weak=how.weak, requires_grad=how.requires_grad)
        if not (how.type.shape or how.number):
            trace.small_arrays.append(handle)
        handles.append(handle)
        positions.append(position)
    return handles, tuple(positions)


# -- outputs -----------------------------------------------------------------------------------------------------------


class _Outputs:
    """Output values of the graph as they are collected."""

    def __init__(self) -> None:
        self.values: list[Value] = []

    def add(self, value: Value) -> int:
        self.values.append(value)
        return len(self.values) - 1


def _finish(
    trace: Trace, result: Any, handles: list[Any], positions: tuple[int, ...], guards: tuple[Guard, ...]
) -> Captured:
    items, _, structure = pytree.flatten(result)
    arguments = {id(handles[p]): p for p in positions}
    out = _Outputs()
    outputs, result_handles = _result_outputs(trace, items, arguments, handles, out)
    token = trace.token
    backward_plan = _differentiable(trace, result_handles)
    mutated = []
    for input_index, position in enumerate(positions):
        value = trace.value_of(handles[position])
        if value is not input_value(input_index, trace.types[input_index]):
            mutated.append((out.add(value), input_index))
    writes = dict(mutated)
    for slot in trace.states.values():
        if slot.written and slot.current is not slot.initial:
            writes[out.add(slot.current)] = slot.index
    grads = _grad_writes(trace, out, writes, arguments)
    backward = None
    if backward_plan is not None:
        backward = _split(trace, backward_plan, out, set(writes.values()))
    if token is not None:
        out.add(token)  # what the effects hang on; tokens are the last outputs
    states = (*trace.states.values(), *trace.grad_states.values())
    input_types = tuple(trace.types[: len(positions) + len(states)])
    graph = Graph(input_types, tuple(out.values), trace.name, tuple(trace.names[: len(input_types)]), trace.locations)
    return Captured(
        graph=graph,
        leaves=positions,
        states=tuple(sorted(states, key=lambda s: s.index)),
        outputs=tuple(outputs),
        structure=structure,
        writes=writes,
        mutated=tuple(mutated),
        grads=grads,
        presence=tuple(
            (g.tensor, g.present)
            for g in trace.grads.values()
            if g.present is not None and not isinstance(g.tensor, Traced)
        ),
        watched=tuple(trace.watched.values()),
        guards=guards,
        constants=tuple((array, v.node.attrs["value"], where) for array, v, where in trace.constants.values()),
        requires=tuple((s.tensor, s.tensor._requires_grad) for s in trace.states.values()),
        backward=backward,
    )


def _result_outputs(
    trace: Trace, items: list[Any], arguments: dict[int, int], handles: list[Any], out: _Outputs
) -> tuple[list[Output], list[Traced]]:
    outputs: list[Output] = []
    kept: list[Traced] = []
    known: dict[int, Output] = {}
    for item in items:
        if not isinstance(item, Traced):
            check_defined(item)
            outputs.append(Output(value=item))
            continue
        trace.check_open(item)
        found = known.get(id(item))
        if found is None and id(item) in arguments:
            found = Output(argument=arguments[id(item)])
        elif found is None:
            found = Output(index=out.add(trace.value_of(item)), kind=item.kind)
            kept.append(item)
        known[id(item)] = found
        outputs.append(found)
    return outputs, kept


def _grad_writes(
    trace: Trace, out: _Outputs, writes: dict[int, int], arguments: dict[int, int]
) -> tuple[GradWrite, ...]:
    found = []
    for slot in trace.grads.values():
        if isinstance(slot.tensor, Traced):
            position = arguments.get(id(slot.tensor))
            if position is not None and slot.current is not None:
                found.append(GradWrite(None, out.add(trace.value_of(slot.current)), argument=position))
            continue
        state = None if slot.state is None else slot.state.index
        if slot.current is None:
            if slot.touched:
                found.append(GradWrite(slot.tensor, None))
            continue
        value = trace.value_of(slot.current)
        if slot.state is not None and value is slot.state.initial:
            continue
        index = out.add(value)
        if state is not None:
            writes[index] = state
        found.append(GradWrite(slot.tensor, index, state))
    return tuple(found)


# -- the derivative of the whole call ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Plan:
    differentiable: tuple[int, ...]
    wrt: tuple[int, ...]
    cotangents: list[Value]
    gradients: list[Value]


def _differentiable(trace: Trace, results: list[Traced]) -> _Plan | None:
    """Extend the trace by the vector-Jacobian product of its results, if the call can be part of an outer tape."""
    if not context.grad_enabled.get():
        return None
    chosen = [i for i, r in enumerate(results) if r.reference is not None]
    leaves: list[tuple[int, Leaf]] = []
    for index, handle in enumerate(trace.arguments):
        if isinstance(handle._reference, Leaf):
            leaves.append((index, handle._reference))
    for slot in trace.states.values():
        if isinstance(slot.reference, Leaf):
            leaves.append((slot.index, slot.reference))
    if not chosen or not leaves or _is_freed([results[i] for i in chosen]):
        return None
    count = len(trace.types)
    seeds = [Traced(trace, trace._input(results[i].type, f"cotangent{i}")) for i in chosen]
    found = autograd.gradients([results[i] for i in chosen], [leaf for _, leaf in leaves], seeds)
    pairs = [(index, trace.value_of(g)) for (index, _), g in zip(leaves, found, strict=True) if g is not None]
    if not pairs:
        return None
    cotangents = [input_value(count + k, s.type) for k, s in enumerate(seeds)]
    return _Plan(tuple(chosen), tuple(i for i, _ in pairs), cotangents, [g for _, g in pairs])


def _is_freed(results: list[Traced]) -> bool:
    """Whether the function ran backward() itself and freed the tape: its results are constants for an outer tape."""
    roots = [reference[0] for r in results if isinstance(reference := r.reference, tuple)]
    return any(node.saved is None for node in topological(roots))


def _split(trace: Trace, plan: _Plan, out: _Outputs, written: set[int]) -> Backward:
    """Split the joint graph at the values that do not depend on cotangents; they become residuals: inputs of the forward
    graph where the call does not overwrite them, else further outputs of it."""
    first_residual = len(out.values)
    joint = Graph(tuple(trace.types), tuple(plan.gradients), f"{trace.name}_vjp", tuple(trace.names), trace.locations)
    seeds = {v.node for v in plan.cotangents}
    depends = set(seeds)
    frontier: dict[Value, None] = {}
    order = joint.nodes
    for node in order:
        if any(v.node in depends for v in node.operands):
            depends.add(node)
    for node in order:
        if node in depends:
            frontier.update((v, None) for v in node.operands if v.node not in depends and not _is_cheap(v))
    frontier.update((v, None) for v in plan.gradients if v.node not in depends and not _is_cheap(v))
    residual_inputs = [v for v in frontier if v.node.op.name == "input" and v.node.attrs["index"] not in written]
    residual_values = [v for v in frontier if v not in residual_inputs]
    for value in residual_values:
        out.add(value)
    sources = [*residual_inputs, *residual_values, *plan.cotangents]
    graph = _extract(joint, sources, trace)
    return Backward(
        graph,
        joint,
        tuple(v.node.attrs["index"] for v in residual_inputs),
        first_residual,
        plan.differentiable,
        plan.wrt,
    )


def _is_cheap(value: Value) -> bool:
    """Whether a residual is rather made again: constants and what is broadcast from them."""
    node = value.node
    while node.op.name == "broadcast":
        node = node.operands[0].node
    return node.op.name in ("constant", "iota")


def _extract(graph: Graph, sources: list[Value], trace: Trace) -> Graph:
    """The part of a graph between `sources`, which become inputs, and its outputs."""
    mapping: dict[Value, Value] = {v: input_value(i, v.type) for i, v in enumerate(sources)}
    locations: dict[Any, tuple[Location, ...]] = {}
    stack = [v for v in graph.outputs if v not in mapping]
    while stack:
        value = stack[-1]
        if value in mapping:
            stack.pop()
            continue
        missing = [v for v in value.node.operands if v not in mapping]
        if missing:
            stack.extend(missing)
            continue
        node = make(value.node.op, tuple(mapping[v] for v in value.node.operands), **value.node.attrs)
        locations[node] = trace.locations.get(value.node, ())
        mapping.update(zip(value.node.results, node.results, strict=True))
        stack.pop()
    outputs = tuple(mapping[v] for v in graph.outputs)
    return Graph(tuple(v.type for v in sources), outputs, graph.name, (), locations)
