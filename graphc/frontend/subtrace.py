"""Functions inside of functions: tracing a Python function into a closed graph of its own. Layer 5.

    sub = subtrace(function, [Argument(type), ...])
    results = op(*arguments, *sub.captures)          # op holds sub.graph: a loop, a branch, a batched function

What the function uses from outside (values of the enclosing trace, Tensors, large arrays) becomes an explicit operand: a
*capture*, in order of first use. Works while an outer trace is active, to any depth, and in dynamic mode.

- A write to a captured tensor is not done: its new value is a further output of the graph, and whoever runs the graph
  hands it on (`Sub.write_back`). Random state is such a tensor, so draws need no special care.
- Effects hang on a token, which becomes the graph's last input and last output (`Sub.effects`).
- There is no tape between inside and outside: inside, captures and arguments are constants to `backward()` and `gx.grad`
  (which work on what is made inside), and the derivative of the whole follows from the graph. What is cut off from the
  tape inside (`detach`, `no_grad`) is cut off in the graph, by the op `stop_gradient`.

A subtrace is a transaction like any trace, and leaves no traced value behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc.errors import GradientError, StateError, message
from graphc.frontend import context, pytree
from graphc.frontend.promotion import as_tensor
from graphc.frontend.source import user_location
from graphc.frontend.structure import Tracked
from graphc.frontend.tape import Reference
from graphc.frontend.tensor import Tensor
from graphc.frontend.trace import StateSlot, Trace, Traced, TraceVersion
from graphc.frontend.usercode import call_user, check_leaks
from graphc.ir import registry
from graphc.ir.graph import Attribute, Graph, Node, Value, constant, input_value, make, rebuild
from graphc.ir.op import Op
from graphc.ir.types import TOKEN, TensorType

__all__ = ["Argument", "Result", "Sub", "Write", "argument_of", "operand_of", "subtrace"]

#: Captured arrays of more elements are operands; smaller ones are constants of the graph, which passes can fold.
_SMALL = 64


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a traced function: its type, the kind of its handle (`"tensor"` or `"ndarray"`), and whether it is
    weakly typed, as Python's numbers are."""

    type: TensorType
    kind: str = "ndarray"
    weak: bool = False
    name: str = ""


def argument_of(x: Any, name: str = "") -> Argument:
    """The argument that stands for a tensor, array or number."""
    if isinstance(x, Traced):
        return Argument(x.type, x.kind, x.weak, name)
    if isinstance(x, Tensor):
        return Argument(x.type, "tensor", False, name)
    if isinstance(x, (bool, int, float)):
        return Argument(as_tensor(np.asarray(x)).type, "ndarray", not isinstance(x, bool), name)
    return Argument(as_tensor(x).type, "ndarray", False, name)


def operand_of(x: Any) -> Tensor:
    """The tensor that is given for `argument_of(x)`."""
    return as_tensor(np.asarray(x) if isinstance(x, (bool, int, float)) else x)


@dataclass(frozen=True, slots=True)
class Result:
    """One leaf of the function's result: output `index` of the graph, or, for what is no array or number (None, a string), the
    leaf itself as `value`."""

    index: int | None
    kind: str = "ndarray"
    weak: bool = False
    value: Any = None


@dataclass(frozen=True, slots=True)
class Write:
    """The function overwrites capture `capture`; output `index` is the new value. `detached`: under no_grad."""

    capture: int
    index: int
    detached: bool


@dataclass(frozen=True, eq=False)
class Sub:
    """A traced function.

    Attributes
    ----------
    graph
        Inputs: the arguments, the captures, and a token if there are effects. Outputs: the results, the new values of captures
        that are overwritten, and the last token.
    captures
        The outer tensors that are operands after the arguments.
    results
        What became of each leaf of the result.
    structure, paths
        The result's structure, and the user's notation for each leaf.
    """

    graph: Graph
    captures: tuple[Tensor, ...]
    results: tuple[Result, ...]
    structure: pytree.Structure
    paths: tuple[str, ...]
    writes: tuple[Write, ...]
    effects: bool

    @property
    def arguments(self) -> int:
        """The number of arguments."""
        return len(self.graph.inputs) - len(self.captures) - self.effects

    @property
    def outputs(self) -> int:
        """The number of outputs that are leaves of the result."""
        return sum(r.index is not None for r in self.results)

    def wrap(self, tensors: Sequence[Tensor]) -> Any:
        """The function's result around tensors for its outputs, in their kinds."""
        leaves = [r.value if r.index is None else in_kind(tensors[r.index], r.kind, weak=r.weak) for r in self.results]
        return pytree.unflatten(self.structure, leaves)

    def write_back(self, tensors: Sequence[Tensor]) -> None:
        """Give overwritten captures their new values, one for each of `writes`."""
        for write, tensor in zip(self.writes, tensors, strict=True):
            assign(self.captures[write.capture], tensor, detached=write.detached)


def in_kind(tensor: Tensor, kind: str, *, weak: bool = False) -> Any:
    """A tensor as what dynamic mode would give; one that is on a tape stays a tensor."""
    if isinstance(tensor, Traced):
        tensor.kind, tensor.weak = kind, weak
        return tensor
    return tensor if kind == "tensor" or tensor._requires_grad else tensor._array


def assign(tensor: Tensor, value: Tensor, *, detached: bool) -> None:
    """Overwrite a tensor that a body has written."""
    if not detached:
        tensor.assign(value)
        return
    with context.no_grad():
        tensor.assign(value.detach())


class SubTrace(Trace):
    """A trace inside of `outer` (None in dynamic mode). Its state slots are the captures: outer values and Tensors alike."""

    nested = True

    def __init__(self, name: str, outer: Trace | None, rewrites: bool) -> None:
        super().__init__(name, rewrites=rewrites if outer is None else outer.rewrites)
        self.outer = outer
        self._recording = context.grad_enabled.get()
        self._detached: dict[int, bool] = {}

    # -- what comes from outside ----------------------------------------------------------------------------------------

    def is_own(self, tensor: Tensor) -> bool:
        """Whether a tensor was made in this trace."""
        return isinstance(tensor, Traced) and tensor._trace is self

    def _check_foreign(self, tensor: Tensor) -> None:
        if not isinstance(tensor, Traced):
            return
        above = self.outer
        while above is not None and above is not tensor._trace:
            above = above.outer if isinstance(above, SubTrace) else None
        if above is None or above.closed:
            raise tensor.leaked()

    def slot(self, tensor: Tensor) -> StateSlot:
        found = self.states.get(id(tensor))
        if found is None:
            self._check_foreign(tensor)
            value = self._input(tensor.type, f"capture{len(self.states)}")
            found = StateSlot(tensor, len(self.types) - 1, value, value, version=TraceVersion())
            self.states[id(tensor)] = found
        return found

    def value_of(self, tensor: Tensor) -> Value:
        if self.is_own(tensor):
            return super().value_of(tensor)
        if self.closed:
            self.check_open(tensor)  # type: ignore[arg-type]
        return self.slot(tensor).current

    def check_open(self, handle: Traced) -> None:
        if self.closed:
            raise handle.leaked()
        if handle._trace is not self:
            self._check_foreign(handle)

    def _version_of(self, tensor: Tensor) -> Any:
        return super()._version_of(tensor) if self.is_own(tensor) else self.slot(tensor).version

    def watch(self, thing: Tracked) -> None:
        if self.outer is not None:
            self.outer.watch(thing)

    def constant(self, array: np.ndarray[Any, Any]) -> Traced:
        if self.outer is None:
            outside = Tensor(array)
        else:
            outside = self.outer.constant(array)
        if array.size <= _SMALL:
            return Traced(self, constant(array), "ndarray")
        known = self.constants.get(id(array))
        if known is not None and known[0] is array:
            return Traced(self, known[1], "ndarray")
        value = self.slot(outside).initial
        self.constants[id(array)] = (array, value, user_location())
        return Traced(self, value, "ndarray")

    # -- the tape -------------------------------------------------------------------------------------------------------

    def reference_of(self, tensor: Tensor) -> Reference | None:
        return tensor.own_reference() if self.is_own(tensor) else None

    def apply(self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Attribute]) -> tuple[Tensor, ...]:
        results = super().apply(op, operands, attrs)
        if self._recording and not context.grad_enabled.get():
            for result in results:
                self._cut(result)
        return results

    def _cut(self, tensor: Tensor) -> None:
        """Let no derivative through a value that was made under no_grad. Views keep following their base."""
        assert isinstance(tensor, Traced)
        if tensor._view is None and tensor._value.dtype.is_inexact and tensor._value.node.operands:
            tensor._value = self.emit(_stop(), (tensor._value,), {}).result

    def detach(self, tensor: Tensor) -> Traced:
        value = self.value_of(tensor)
        kind = tensor.kind if isinstance(tensor, Traced) else "tensor"
        if not value.dtype.is_inexact:
            out = Traced(self, value, kind)
            self._make_view(out, tensor, None, {})
            return out
        out = Traced(self, self.emit(_stop(), (value,), {}).result, kind)
        self._make_view(out, tensor, _stop(), {})
        return out

    def read_grad(self, tensor: Tensor) -> Tensor | None:
        self._check_grad(tensor, "read")
        return super().read_grad(tensor)

    def write_grad(self, tensor: Tensor, value: Tensor | None) -> None:
        self._check_grad(tensor, "written")
        super().write_grad(tensor, value)

    def accumulate_grad(self, tensor: Tensor, cotangent: Tensor) -> None:
        self._check_grad(tensor, "accumulated")
        super().accumulate_grad(tensor, cotangent)

    def _check_grad(self, tensor: Tensor, done: str) -> None:
        if not self.is_own(tensor):
            raise GradientError(
                message(
                    f"the .grad of a tensor from outside is {done} inside of {self.name}",
                    operands=[("tensor", tensor.type)],
                    location=user_location(),
                    hint="Use gx.grad or gx.value_and_grad there, and carry parameters and gradients along as values.",
                )
            )

    # -- writes ---------------------------------------------------------------------------------------------------------

    def write(self, tensor: Tensor, value: Tensor) -> None:
        if self.is_own(tensor):
            super().write(tensor, value)
            return
        assert tensor.type == value.type
        new = self.value_of(value)
        slot = self.slot(tensor)
        slot.current = new
        slot.written = True
        slot.version.number += 1
        detached = self._recording and not context.grad_enabled.get()
        self._detached[id(tensor)] = detached and self._detached.get(id(tensor), True)

    def finish_writes(self) -> list[StateSlot]:
        """The captures that were overwritten; an error where another capture shares memory with one of them."""
        written = [s for s in self.states.values() if s.written and s.current is not s.initial]
        for slot in written:
            for other in self.states.values():
                if other is not slot and _root(other.tensor) is _root(slot.tensor):
                    raise StateError(
                        message(
                            f"{self.name} writes to a tensor from outside and uses a view of the same memory as well",
                            operands=[("written", slot.tensor.type), ("view", other.tensor.type)],
                            location=user_location(),
                            hint="Use one of them only: index the tensor inside, or make the view inside.",
                        )
                    )
        return written

    def detached(self, slot: StateSlot) -> bool:
        """Whether all writes to a capture were made under no_grad."""
        return self._detached[id(slot.tensor)]


def _root(tensor: Tensor) -> Tensor:
    """The tensor whose memory a view shows."""
    while isinstance(tensor, Traced) and tensor._view is not None:
        tensor = tensor._view[0]
    if isinstance(tensor, Traced):
        return tensor
    return tensor if tensor._base is None else tensor._base


def _stop() -> Op:
    return registry.get("stop_gradient")


def subtrace(
    function: Callable[..., Any],
    arguments: Sequence[Argument],
    *,
    name: str = "body",
    structure: pytree.Structure | None = None,
    rewrites: bool = False,
) -> Sub:
    """Trace `function` on arguments of the given types into a closed graph.

    Parameters
    ----------
    function
        Called once, with handles for the arguments.
    arguments
        The leaves of the arguments.
    name
        What messages call the function ("the body of scan"), and the graph's name.
    structure
        Of (args, kwargs) over the arguments; by default each argument is a positional one.
    rewrites
        Without an outer trace: asking for the value of a traced array raises `context.RewriteNeeded`.

    Raises
    ------
    TraceError
        If a traced value of the function outlives the trace.
    StateError
        If a captured tensor is overwritten while a view of it is used too.
    GradientError
        If `.grad` of a captured tensor is used.
    """
    outer = context.trace.get()
    trace = SubTrace(name, outer, rewrites)
    token = context.trace.set(trace)
    try:
        handles = [trace.add_argument(a.type, a.name, a.kind, weak=a.weak, requires_grad=False) for a in arguments]
        args, kwargs = (tuple(handles), {}) if structure is None else pytree.unflatten(structure, handles)
        result = call_user(trace, function, args, kwargs)
        sub = _finish(trace, len(arguments), result)
        del result, args, kwargs, handles
    finally:
        trace.closed = True
        context.trace.reset(token)
    check_leaks(trace)
    return sub


def _finish(trace: SubTrace, arguments: int, result: Any) -> Sub:
    leaves, paths, structure = pytree.flatten(result)
    values: list[Value] = []
    results = []
    for leaf in leaves:
        if not isinstance(leaf, (Tensor, np.ndarray, np.generic, bool, int, float)):
            results.append(Result(None, value=leaf))
            continue
        how = argument_of(leaf)
        tensor = leaf if isinstance(leaf, Tensor) else as_tensor(np.asarray(leaf))
        results.append(Result(len(values), how.kind, how.weak))
        values.append(trace.value_of(tensor))
    writes = []
    for slot in trace.finish_writes():
        writes.append(Write(slot.index - arguments, len(values), trace.detached(slot)))
        values.append(slot.current)
    captures = tuple(s.tensor for s in trace.states.values())
    effects = trace.token is not None
    if trace.token is not None:
        values.append(trace.token)
    types = tuple(trace.types[: arguments + len(captures)])
    graph = Graph(types, tuple(values), trace.name, tuple(trace.names[: len(types)]), trace.locations)
    if effects:
        graph = _with_token(graph)
    return Sub(graph, captures, tuple(results), structure, tuple(paths), tuple(writes), effects)


def _with_token(graph: Graph) -> Graph:
    """The graph with its first token as its last input."""
    types = (*graph.inputs, TOKEN)
    first = input_value(len(graph.inputs), TOKEN)

    def visit(node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
        if node.op.name == "create_token":
            return (first,)
        return make(node.op, operands, **node.attrs).results

    values = [input_value(i, t) for i, t in enumerate(types)]
    return replace(rebuild(graph, visit, inputs=types, input_values=values), names=(*graph.names, "token"))
