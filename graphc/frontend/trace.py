"""Tracing: ops on `Traced` values become nodes of a graph. Layer 5.

A `Traced` is a mutable handle: in-place writes rebind its graph value, and a view (slice, transpose, reshape) re-derives
its value from its base, so that writes through views and to bases are seen on both sides, as in NumPy. A Tensor that
comes from outside is lifted to a state slot by identity: read live at each call, written back in place.

A trace is a transaction: it changes no Tensor, no gradient and no random state. What it learned is in the `Trace`:
inputs, state slots, gradient slots, watched objects, constants taken from arrays, source locations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn
from weakref import ref

import numpy as np

from graphc.errors import StateError, TraceError, TracerConversionError, message
from graphc.frontend import context
from graphc.frontend.rewriting.conversion import current
from graphc.frontend.source import user_location
from graphc.frontend.structure import Tracked
from graphc.frontend.tape import Leaf, Reference
from graphc.frontend.tensor import Tensor, Version, record
from graphc.ir import registry
from graphc.ir.graph import Attribute, Node, Value, constant, input_value, locate, make
from graphc.ir.location import Location
from graphc.ir.op import GraphBuilder, Op
from graphc.ir.types import TensorType

__all__ = ["GradSlot", "StateSlot", "Trace", "TraceBuilder", "TraceVersion", "Traced"]

#: Way on by what was asked for: a prefix of the text given to `concrete`.
_WAYS_ON = (
    (
        "the truth value",
        "Values are not known while tracing. Choose by value with np.where(condition, a, b); combine conditions with "
        "& | ~; a Python argument that decides is made static with static_argnames.",
    ),
    (
        "an index",
        "Values are not known while tracing, and sizes, slices and range() need them. Index a tensor by a traced "
        "integer (x[i], np.take), mask with np.where, or make the argument a static Python int.",
    ),
    (
        "np.asarray",
        "Values are not known while tracing. Use np.stack or np.concatenate to put arrays together; functions that graphc does "
        "not know (of np.random, of other libraries) cannot take traced arrays.",
    ),
    (
        "format",
        "Values are not known while tracing: return the value and format it outside. Without a format specification, "
        "f'{x}' shows dtype and shape.",
    ),
    ("pickle", "Values are not known while tracing. Use x.copy() for a copy."),
)
_WAY_ON = (
    "Values are not known while tracing. Go on with NumPy functions of the array (np.sin, not math.sin; np.stack, not "
    "assignment to elements of a NumPy array), or return it and convert it outside of the compiled function."
)


def _way_on(asked: str) -> str:
    return next((hint for start, hint in _WAYS_ON if asked.startswith(start)), _WAY_ON)


def _not_rewritten() -> str:
    """Why control flow did not become part of the graph, if functions were to be rewritten and could not be."""
    conversion = current()
    if conversion is None or not conversion.failures:
        return ""
    return f"Its control flow cannot become part of the graph: {'; '.join(conversion.failures.values())}. "


class Traced(Tensor):
    """A value of the graph that is being traced. `kind` is what dynamic mode would give, "tensor" or "ndarray"; `weak`
    marks what stands for a Python number, which takes the dtype of what it meets."""

    __slots__ = ("_seen", "_trace", "_value", "_view", "kind", "weak")

    def __init__(self, trace: Trace, value: Value, kind: str = "tensor", *, weak: bool = False) -> None:
        self._requires_grad = False
        self._reference = None
        self._grad = None
        self._version = Version()
        self._base = None
        self._trace = trace
        self._value = value
        self._view: tuple[Tensor, Op | None, Mapping[str, Attribute]] | None = None
        self._seen = 0
        self.kind = kind
        self.weak = weak
        trace.handles.append(ref(self))

    @property
    def type(self) -> TensorType:
        return self._value.tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self._value.tensor.shape  # type: ignore[return-value]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._value.tensor.dtype.numpy

    def transposed_from(self) -> tuple[Tensor, tuple[int, ...]] | None:
        """The tensor that this one is a transpose of, and the permutation; None if it is not a transpose."""
        if self._view is None or self._view[1] is None or self._view[1].name != "transpose":
            return None
        return self._view[0], self._view[2]["perm"]

    @property
    def is_number(self) -> bool:
        """Whether dynamic mode would have a number here (Python's, or NumPy's scalar), which nothing can change in place."""
        return self.kind == "ndarray" and not self.shape and not any(self is x for x in self._trace.small_arrays)

    def follow_no_base(self) -> None:
        """From now on the handle is no view: it keeps the value that it has."""
        self._value = self._trace.value_of(self)
        self._view = None

    @property
    def _array(self) -> NoReturn:  # type: ignore[override]
        """There is no array: who asks for one takes a value of a trace that is over for a tensor."""
        raise self.leaked()

    def leaked(self) -> TraceError:
        """The error for a use outside of the value's own trace."""
        when = "after its trace ended" if self._trace.closed else "outside of its trace"
        operands: list[tuple[str, object]] = [("value", self.type)]
        made = self._trace.locations.get(self._value.node, ())
        if made:
            operands.append(("made at", made[0]))
        return TraceError(
            message(
                f"a traced value of {self._trace.name!r} is used {when}",
                operands=operands,
                location=user_location(),
                hint="Return it from the compiled function; what is stored in a variable outside has no value.",
            )
        )

    def concrete(self, asked: str) -> NoReturn:
        self._trace.check_open(self)
        if self._trace.rewrites:
            self._trace.wants_rewriting = True
            raise context.RewriteNeeded
        where = user_location()
        inside = f" in {self._trace.name}" if self._trace.nested else ""
        error = TracerConversionError(
            message(
                f"{asked} asks for the value of a traced array{inside}",
                operands=[("array", self.type)],
                location=where,
                hint=_not_rewritten() + _way_on(asked),
            )
        )
        self._trace.refused = error, where
        raise error

    def __bool__(self) -> NoReturn:  # noqa: PLE0304
        self.concrete("the truth value (`if`, `while`, `and`, `or`, `not`, `assert`, `in`, bool())")

    def __index__(self) -> NoReturn:  # noqa: PLE0305
        self.concrete("an index, a size, a slice or range()")

    def __format__(self, spec: str) -> str:
        if spec:
            self.concrete(f"format with {spec!r}")
        return repr(self)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        self.concrete("pickle or copy.deepcopy()")

    def __repr__(self) -> str:
        return f"Traced({self.type})"


@dataclass(eq=False, slots=True)
class StateSlot:
    """A captured Tensor (or, with `grad`, the gradient of one) as an implicit input number `index`."""

    tensor: Tensor
    index: int
    initial: Value
    current: Value
    grad: bool = False
    version: Any = None
    reference: Reference | None = None
    written: bool = False


@dataclass(eq=False, slots=True)
class GradSlot:
    """What a trace did to `tensor.grad`. `present` is the presence that the trace observed, or None if it did not look."""

    tensor: Tensor
    current: Tensor | None = None
    touched: bool = False
    present: bool | None = None
    state: StateSlot | None = None


class TraceVersion:
    """Counts the writes to a captured tensor within one trace."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


@dataclass(eq=False)
class Trace:
    """A trace in progress. `arguments` are the handles of the traced arguments, inputs 0 to n-1."""

    name: str
    arguments: list[Traced] = field(default_factory=list)
    #: The arguments that are NumPy arrays of rank 0: other values of rank 0 are numbers.
    small_arrays: list[Traced] = field(default_factory=list)
    types: list[TensorType] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    states: dict[int, StateSlot] = field(default_factory=dict)
    grad_states: dict[int, StateSlot] = field(default_factory=dict)
    grads: dict[int, GradSlot] = field(default_factory=dict)
    watched: dict[int, tuple[Tracked, int]] = field(default_factory=dict)
    constants: dict[int, tuple[Any, Value, Location | None]] = field(default_factory=dict)
    locations: dict[Node, tuple[Location, ...]] = field(default_factory=dict)
    handles: list[ref[Traced]] = field(default_factory=list)
    #: Orders effects: the newest token, or None if there was no effect yet.
    token: Value | None = None
    #: The last refusal to give a value, and its place: NumPy hides it behind an error of its own now and then.
    refused: tuple[TracerConversionError, Location | None] | None = None
    closed: bool = False
    #: Whether asking for a value asks for rewritten functions first.
    rewrites: bool = False
    wants_rewriting: bool = False
    #: How often one line may add ops before its loop is tried as a loop of the graph; None: as often as it likes.
    patience: int | None = None
    _repeats: dict[Location, int] = field(default_factory=dict)
    #: Whether this is the trace of a function inside of another (`graphc.frontend.subtrace`).
    nested: ClassVar[bool] = False

    # -- inputs -----------------------------------------------------------------------------------------------------

    def add_argument(self, type_: TensorType, name: str, kind: str, *, weak: bool, requires_grad: bool) -> Traced:
        """A new traced argument; all come before any state."""
        assert not self.states and not self.grad_states
        handle = Traced(self, self._input(type_, name), kind, weak=weak)
        if requires_grad:
            handle._requires_grad = True
            handle._reference = Leaf(handle)
        self.arguments.append(handle)
        return handle

    def _input(self, type_: TensorType, name: str) -> Value:
        self.types.append(type_)
        self.names.append(name)
        return input_value(len(self.types) - 1, type_)

    def slot(self, tensor: Tensor) -> StateSlot:
        """The state slot of a captured Tensor."""
        found = self.states.get(id(tensor))
        if found is None:
            value = self._input(tensor.type, f"state{len(self.states)}")
            found = StateSlot(tensor, len(self.types) - 1, value, value, version=TraceVersion())
            if tensor._requires_grad:
                found.reference = tensor.own_reference() if tensor.is_leaf else Leaf(tensor)
            self.states[id(tensor)] = found
        return found

    def watch(self, thing: Tracked) -> None:
        """Python attributes of `thing` influence the trace."""
        self.watched.setdefault(id(thing), (thing, thing.structure_version))

    def constant(self, array: np.ndarray[Any, Any]) -> Traced:
        """A snapshot of an array as a constant."""
        known = self.constants.get(id(array))
        if known is not None and known[0] is array:
            return Traced(self, known[1], "ndarray")
        value = constant(array)
        if array.ndim:
            self.constants[id(array)] = (array, value, user_location())
        return Traced(self, value, "ndarray")

    # -- ops ----------------------------------------------------------------------------------------------------------

    def check_open(self, handle: Traced) -> None:
        """Raise if a handle belongs to another trace or this one is over."""
        if handle._trace.closed or handle._trace is not self:
            raise handle.leaked()

    def value_of(self, tensor: Tensor) -> Value:
        """The graph value that a tensor has now."""
        if not isinstance(tensor, Traced):
            return self.slot(tensor).current
        if tensor._trace is not self or self.closed:
            self.check_open(tensor)
        if tensor._view is not None and tensor._seen != tensor._version.number:
            base, op, attrs = tensor._view
            value = self.value_of(base)
            tensor._value = value if op is None else self.emit(op, (value,), attrs).result
            tensor._seen = tensor._version.number
        return tensor._value

    def emit(self, op: Op, values: tuple[Value, ...], attrs: Mapping[str, Attribute]) -> Node:
        """An interned node, with the user's place noted."""
        node = make(op, values, **attrs)
        where = user_location(2)
        if where is not None:
            self.count(where)
            known = self.locations.get(node, ())
            if where not in known:
                self.locations[node] = (*known, where)
        return node

    def count(self, where: Location | None) -> None:
        """Count an op of a line; one too many asks for its loop to be tried as a loop of the graph."""
        if self.patience is None or where is None:
            return
        count = self._repeats[where] = self._repeats.get(where, 0) + 1
        if count > self.patience:
            raise context.RewriteNeeded(roll=True)

    def apply(self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Attribute]) -> tuple[Tensor, ...]:
        """`graphc.frontend.tensor.apply` while tracing."""
        values = tuple(self.value_of(t) for t in operands)
        node = self.emit(op, values, attrs)
        results = tuple(Traced(self, v) for v in node.results)
        if op.kind == "movement" and len(operands) == 1:
            self._make_view(results[0], operands[0], op, attrs)
        if any(t.requires_grad for t in operands):
            record(op, attrs, operands, results, (values, node.results))
        return results

    def apply_effect(self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Attribute]) -> tuple[Tensor, ...]:
        """Apply an op with an effect to the operands after the token; effects keep the program's order."""
        token = make("create_token").result if self.token is None else self.token
        values = tuple(self.value_of(t) for t in operands)
        node = self.emit(op, (token, *values), attrs)
        self.token = node.results[0]
        results = tuple(Traced(self, v) for v in node.results[1:])
        if any(t.requires_grad for t in operands):
            record(op, attrs, operands, results, (values, node.results[1:]))
        return results

    def _version_of(self, tensor: Tensor) -> Any:
        return tensor._version if isinstance(tensor, Traced) else self.slot(tensor).version

    def _make_view(self, view: Traced, base: Tensor, op: Op | None, attrs: Mapping[str, Attribute]) -> None:
        view._view = (base, op, attrs)
        view._version = self._version_of(base)
        view._seen = view._version.number

    def detach(self, tensor: Tensor) -> Traced:
        """The same value without the tape; a view."""
        return self._alias(tensor)

    def _alias(self, tensor: Tensor) -> Traced:
        out = Traced(self, self.value_of(tensor), tensor.kind if isinstance(tensor, Traced) else "tensor")
        self._make_view(out, tensor, None, {})
        return out

    def as_tensor_kind(self, value: Traced) -> Traced:
        """The same value, on the tape as before, where dynamic mode would give a Tensor and not what it was given."""
        out = self._alias(value)
        out.kind = "tensor"
        out._requires_grad, out._reference = value._requires_grad, value._reference
        return out

    def reference_of(self, tensor: Tensor) -> Reference | None:
        """Where gradients of a tensor flow to."""
        if isinstance(tensor, Traced):
            return tensor.own_reference()
        if not tensor._requires_grad and id(tensor) not in self.states:
            return None
        return self.slot(tensor).reference

    # -- writes -------------------------------------------------------------------------------------------------------

    def write(self, tensor: Tensor, value: Tensor) -> None:
        """Overwrite a tensor; views and bases see it."""
        assert tensor.type == value.type
        new = self.value_of(value)
        if isinstance(tensor, Traced):
            self.check_open(tensor)
            if tensor._view is not None:
                self._write_through(tensor, value)
            else:
                tensor._version.number += 1
            tensor._value = new
            tensor._seen = tensor._version.number
            tensor._reference, tensor._requires_grad = value.reference, value.requires_grad
            return
        tensor.check_leaf()
        slot = self.slot(tensor)
        if value.requires_grad and context.grad_enabled.get():
            raise StateError(
                message(
                    "a captured tensor is overwritten by a value that is still connected to the tape",
                    operands=[("tensor", tensor.type)],
                    location=user_location(),
                    hint="The connection would be lost when the compiled call ends: write value.detach(), or use gx.no_grad().",
                )
            )
        slot.current = new
        slot.written = True
        slot.version.number += 1

    def _write_through(self, view: Traced, value: Tensor) -> None:
        assert view._view is not None
        base, op, attrs = view._view
        inverse = _INVERSES.get("" if op is None else op.name)
        if inverse is None:
            assert op is not None
            raise StateError(
                message(
                    f"the result of {op.name} is written in place; NumPy's would be read-only or a temporary array",
                    operands=[("view", view.type)],
                    location=user_location(),
                    hint="Copy it first, or build the new value with where or concatenate.",
                )
            )
        self.write(base, inverse(base, value, attrs))

    # -- gradients ------------------------------------------------------------------------------------------------------

    def grad_slot(self, tensor: Tensor) -> GradSlot:
        """What the trace knows of a tensor's gradient."""
        found = self.grads.get(id(tensor))
        if found is None:
            found = self.grads[id(tensor)] = GradSlot(tensor)
        return found

    def read_grad(self, tensor: Tensor) -> Tensor | None:
        """`tensor.grad`; its presence becomes part of the signature if the trace has not set it."""
        slot = self.grad_slot(tensor)
        if not slot.touched and slot.present is None:
            slot.present = tensor._grad is not None
            if slot.present:
                slot.current = self._grad_input(slot)
        return slot.current

    def write_grad(self, tensor: Tensor, value: Tensor | None) -> None:
        """`tensor.grad = value`."""
        slot = self.grad_slot(tensor)
        slot.touched = True
        slot.current = value

    def accumulate_grad(self, tensor: Tensor, cotangent: Tensor) -> None:
        """Add to `tensor.grad`, whether it is there or not: an absent gradient is bound as a buffer of -0.0, the exact
        additive identity, so that its presence is not part of the signature."""
        slot = self.grad_slot(tensor)
        if not slot.touched and slot.present is None and not isinstance(tensor, Traced):
            slot.current = self._grad_input(slot)
        slot.touched = True
        slot.current = cotangent if slot.current is None else apply_add(self, slot.current, cotangent)

    def _grad_input(self, slot: GradSlot) -> Traced:
        value = self._input(slot.tensor.type, f"grad{len(self.grad_states)}")
        slot.state = StateSlot(slot.tensor, len(self.types) - 1, value, value, grad=True)
        self.grad_states[id(slot.tensor)] = slot.state
        return Traced(self, value)


def apply_add(trace: Trace, x: Tensor, y: Tensor) -> Tensor:
    """x + y without the tape."""
    with context.no_grad():
        return trace.apply(registry.get("add"), (x, y), {})[0]


def _transpose_back(base: Tensor, value: Tensor, attrs: Mapping[str, Attribute]) -> Tensor:
    """Value of the base when its transpose is overwritten."""
    trace = context.trace.get()
    assert trace is not None
    inverse = tuple(int(i) for i in np.argsort(attrs["perm"]))
    return trace.apply(registry.get("transpose"), (value,), {"perm": inverse})[0]


def _reshape_back(base: Tensor, value: Tensor, attrs: Mapping[str, Attribute]) -> Tensor:
    """Value of the base when its reshape is overwritten; NumPy's reshape of a transposed array is a copy."""
    trace = context.trace.get()
    assert trace is not None
    only_unit_axes = [d for d in base.shape if d != 1] == [d for d in value.shape if d != 1]
    if not only_unit_axes and isinstance(base, Traced) and base._view is not None and base._view[1] is not None:
        raise StateError(
            message(
                "the reshape of a view is written in place; whether NumPy would copy depends on memory layout",
                operands=[("view", value.type)],
                location=user_location(),
                hint="Write to the array before reshaping it.",
            )
        )
    return trace.apply(registry.get("reshape"), (value,), {"shape": base.shape})[0]


def _slice_back(base: Tensor, value: Tensor, attrs: Mapping[str, Attribute]) -> Tensor:
    """Value of the base when a slice of it is overwritten: the slice spread over zeros, chosen where it has elements."""
    trace = context.trace.get()
    assert trace is not None
    vjp = registry.get("slice").vjp  # type: ignore[attr-defined]
    b = TraceBuilder(trace)
    whole = trace.value_of(base)
    new = trace.value_of(value)
    spread = vjp(b, new, whole, **attrs)[0]
    ones = vjp(b, b.full(new.shape, 1, new.dtype), whole, **attrs)[0]
    mask = b.not_equal(ones, b.like(ones, 0))
    out = Traced(trace, b.select(mask, spread, whole))
    if value.requires_grad or base.requires_grad:
        raise StateError(
            message(
                "a slice is written in place while gradients are recorded",
                operands=[("slice", value.type), ("of", base.type)],
                location=user_location(),
                hint="Build the new tensor with gx.where or gx.concat instead.",
            )
        )
    return out


_INVERSES: dict[str, Any] = {
    "": lambda base, value, attrs: value,
    "stop_gradient": lambda base, value, attrs: value,
    "transpose": _transpose_back,
    "reshape": _reshape_back,
    "slice": _slice_back,
}


class TraceBuilder(GraphBuilder):
    """Builds graph values for derivative rules, with locations noted in the trace."""

    def __init__(self, trace: Trace, where: Location | None = None) -> None:
        self._trace = trace
        self.where = where

    def apply(self, op: Op, operands: tuple[Value, ...], attrs: dict[str, Attribute]) -> tuple[Value, ...]:
        node = make(op, operands, **attrs)
        if node not in self._trace.locations:
            where = self.where or user_location(2)
            locate(node, () if where is None else (where,), self._trace.locations)
        return node.results
