"""One compiled form of a function: binding, running, writing back. Layer 5."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc import config as configs
from graphc.errors import OverwrittenError, StateError, message
from graphc.forward import transposed_graph
from graphc.frontend import context, pytree
from graphc.frontend.autograd import ArrayBuilder
from graphc.frontend.binding import Binding, Settled, count_copies
from graphc.frontend.build import Options, build
from graphc.frontend.capture import Backward, Captured, GradWrite, Output
from graphc.frontend.signature import native
from graphc.frontend.source import user_location
from graphc.frontend.structure import global_version
from graphc.frontend.tensor import Tensor, Version, record
from graphc.ir.graph import Literal, Value
from graphc.ir.op import Builder, Op

if TYPE_CHECKING:
    from graphc.frontend.compile import Stats

__all__ = ["Variant"]

Array = np.ndarray[Any, Any]

#: Held by calls that write state, so that calls that share state from several threads come one after the other.
_STATE = threading.RLock()


class Variant:
    """A captured function with its executable. `version` is the global structure version at which it was last valid."""

    def __init__(self, captured: Captured, options: Options, leaves: Sequence[Any]) -> None:
        self.captured = captured
        self._options = options
        self._binding = Binding(captured)
        checking = configs.from_environment().check
        # GRAPHC=check evaluates around every pass on what this call was given, state included.
        sample = self._binding.bind([native(leaves[p]) for p in captured.leaves])[0] if checking else None
        built = build(captured.graph, captured.writes, options, sample)
        self.executable = built.executable
        self.from_cache = built.from_cache
        self.version = global_version()
        self._written = frozenset(captured.writes.values())
        self._simple = not (captured.states or captured.writes or captured.grads or captured.backward)
        self._snapshots = captured.constants if checking else ()
        backward = captured.backward
        self._call_op = None if backward is None else _CompiledCall(captured, backward, options)

    @property
    def is_native(self) -> bool:
        """Whether native code can do all of a call whose state is settled: nothing to put on a tape, no argument to write
        to, no captured array to compare, and nothing that would happen twice if a call that fails is made again."""
        grads = self.captured.grads
        return (
            self._call_op is None
            and not self._snapshots
            and not self.captured.mutated
            and not self.executable.calls_host
            and all(grad.tensor is not None for grad in grads)
        )

    def settled(self) -> Settled | None:
        """State that the next call will find where the last one found it; for a stateless variant, nothing at all."""
        return Settled([], [], [None] * len(self.executable.outputs), []) if self._simple else self._binding.settled()

    def written(self) -> list[Tensor]:
        """Tensors whose version each call with settled state counts up."""
        slots = [s.tensor for s in self.captured.states if s.index in self._written and not s.grad]
        grads = [g.tensor._grad for g in self.captured.grads if g.index is not None and g.tensor is not None]
        return [*slots, *(tensor for tensor in grads if tensor is not None)]

    @property
    def lock(self) -> threading.RLock | None:
        """What a call must hold, if it has state."""
        return None if self._simple else _STATE

    # -- guards -------------------------------------------------------------------------------------------------------

    def valid(self, version: int) -> bool:
        """Whether all that the trace read is as it was; `version` is the global structure version."""
        captured = self.captured
        for guard in captured.guards:
            if not guard.holds():
                return False
        for tensor, present in captured.presence:
            if (tensor._grad is not None) is not present:
                return False
        if version != self.version:
            if self._structure_changed() is not None:
                return False
            self.version = version
        return True

    def _structure_changed(self) -> str | None:
        for thing, known in self.captured.watched:
            if thing.structure_version != known:
                return f"an attribute of a {type(thing).__name__} was set"
        for tensor, known in self.captured.requires:
            if tensor._requires_grad != known:
                return f"requires_grad of a captured {tensor.type} changed"
        return None

    def broken_guard(self) -> str:
        """Why the variant cannot be used now, in words."""
        for guard in self.captured.guards:
            if not guard.holds():
                return f"{guard.name} changed from {guard.value!r} to {guard.read()!r}"
        for tensor, present in self.captured.presence:
            if (tensor._grad is not None) is not present:
                return f"the gradient of a captured {tensor.type} is {'gone' if present else 'there'} now"
        return self._structure_changed() or "unknown"

    # -- calling --------------------------------------------------------------------------------------------------------

    def call(self, leaves: Sequence[Any], stats: Stats) -> Any:
        """Run with the leaves of a call."""
        if self._snapshots:
            self._check_snapshots()
        arguments = [native(leaves[p]) for p in self.captured.leaves]
        stats.copies += count_copies(arguments, [leaves[p] for p in self.captured.leaves])
        if self._simple:
            return self._wrap(self.executable.run(arguments), leaves)
        with _STATE:
            return self._stateful(leaves, arguments, stats)

    def _check_snapshots(self) -> None:
        """GRAPHC=check: arrays that the trace took as constants must still hold what they held."""
        for array, literal, where in self._snapshots:
            if Literal(array) != literal:
                raise StateError(
                    message(
                        "a NumPy array that was captured as a constant has changed since the function was compiled",
                        operands=[("array", literal.type)],
                        location=where,
                        hint="Pass it as an argument, or make it a gx.Tensor, which is read at every call.",
                    )
                )

    def _stateful(self, leaves: Sequence[Any], arguments: list[Array], stats: Stats) -> Any:
        self._check_mutable(leaves)
        inputs, outputs, copied = self._binding.bind(arguments)
        stats.copies += copied
        results = self.executable.run(inputs, outputs)
        self._write_back(leaves, inputs)
        self._set_grads(leaves, results, inputs)
        return self._wrap(results, leaves, inputs)

    def _check_mutable(self, leaves: Sequence[Any]) -> None:
        for _, index in self.captured.mutated:
            leaf = leaves[self.captured.leaves[index]]
            array = leaf._array if isinstance(leaf, Tensor) else leaf
            if isinstance(array, np.ndarray) and not array.flags.writeable:
                raise StateError(
                    message(
                        "the function writes to an argument in place, and the array is read-only",
                        operands=[(self.captured.graph.names[index], self.captured.graph.inputs[index])],
                        location=user_location(),
                        hint="Pass a copy.",
                    )
                )
        if len(self.captured.mutated) > 1:
            self._check_apart(leaves)

    def _check_apart(self, leaves: Sequence[Any]) -> None:
        """Two arguments that are both written may not share memory: which one wins would depend on the order."""
        written = [(index, _held(leaves[self.captured.leaves[index]])) for _, index in self.captured.mutated]
        for (i, x), (j, y) in itertools.combinations(written, 2):
            if x is not None and y is not None and np.may_share_memory(x, y) and np.shares_memory(x, y):
                names, types = self.captured.graph.names, self.captured.graph.inputs
                raise StateError(
                    message(
                        "the function writes to two arguments in place, and they share memory",
                        operands=[(names[i], types[i]), (names[j], types[j])],
                        location=user_location(),
                        hint="Pass a copy of one.",
                    )
                )

    def _write_back(self, leaves: Sequence[Any], inputs: list[Array]) -> None:
        """Arguments and state that were bound as copies get their new values; version counters move."""
        for _, index in self.captured.mutated:
            leaf = leaves[self.captured.leaves[index]]
            array = leaf._array if isinstance(leaf, Tensor) else leaf
            if isinstance(array, np.ndarray) and array is not inputs[index]:
                np.copyto(array, inputs[index])
            if isinstance(leaf, Tensor):
                leaf._version.number += 1
        written = self._written
        for slot in self.captured.states:
            if slot.index in written and not slot.grad:
                if slot.tensor._array is not inputs[slot.index]:
                    np.copyto(slot.tensor._array, inputs[slot.index])
                slot.tensor._version.number += 1

    def _set_grads(self, leaves: Sequence[Any], results: list[Array], inputs: list[Array]) -> None:
        for grad in self.captured.grads:
            if grad.argument is not None:
                _add_grad(leaves[grad.argument], results, grad)
                continue
            tensor = grad.tensor
            assert tensor is not None
            if grad.index is None:
                tensor._grad = None
                continue
            array = results[grad.index]
            if tensor._grad is None or tensor._grad._array is not array:
                tensor._grad = Tensor(array)
            else:
                tensor._grad._version.number += 1

    def _wrap(self, results: list[Array], leaves: Sequence[Any], inputs: list[Array] | None = None) -> Any:
        made: dict[int, Any] = {}
        items = [self._item(output, results, leaves, made) for output in self.captured.outputs]
        if self._call_op is not None and inputs is not None and context.grad_enabled.get():
            self._call_op.record(results, inputs, leaves, made)
        structure = self.captured.structure
        return items[0] if structure.kind == "leaf" else pytree.unflatten(structure, items)

    def _item(self, output: Output, results: list[Array], leaves: Sequence[Any], made: dict[int, Any]) -> Any:
        if output.index is not None:
            known = made.get(output.index)
            if known is None:
                array = results[output.index]
                known = Tensor(array) if output.kind == "tensor" else (array if array.ndim else array[()])
                made[output.index] = known
            return known
        return output.value if output.argument is None else leaves[output.argument]


def _add_grad(leaf: Any, results: list[Array], grad: GradWrite) -> None:
    assert grad.index is not None
    if not isinstance(leaf, Tensor) or not leaf._requires_grad:
        return
    if leaf._grad is None:
        leaf._grad = Tensor(results[grad.index])
    else:
        np.add(leaf._grad._array, results[grad.index], out=leaf._grad._array)


def _held(leaf: Any) -> Array | None:
    """The array of a leaf as the caller holds it, if it has one."""
    array = leaf._array if isinstance(leaf, Tensor) else leaf
    return array if isinstance(array, np.ndarray) else None


class _CompiledCall(Op):
    """A compiled call as one op of the tape: its derivative is compiled too, when first asked for."""

    def __init__(self, captured: Captured, backward: Backward, options: Options) -> None:
        super().__init__(name=captured.graph.name, doc="A compiled call.")
        object.__setattr__(self, "_captured", captured)
        object.__setattr__(self, "_backward", backward)
        object.__setattr__(self, "_options", options)
        object.__setattr__(self, "_executable", None)
        object.__setattr__(self, "_forward", None)

    def record(self, results: list[Array], inputs: list[Array], leaves: Sequence[Any], made: dict[int, Any]) -> None:
        """Put a call on the tape."""
        captured, backward = self._captured, self._backward  # type: ignore[attr-defined]
        operands = [self._operand(index, leaves, inputs) for index in backward.wrt]
        kept = {index: inputs[index] for index in backward.residual_inputs}
        versions = [self._version(index, leaves) for index in backward.residual_inputs]
        residuals = [kept[i] for i in backward.residual_inputs] + list(results[backward.first_residual :])
        outputs = [o.index for o in captured.outputs if o.index is not None]
        distinct = list(dict.fromkeys(outputs))
        chosen = [distinct[i] for i in backward.differentiable]
        tensors = [self._as_tensor(made, index) for index in chosen]
        attrs = {"residuals": residuals, "versions": versions, "inputs": inputs}
        payloads = (tuple(t._array for t in operands), tuple(t._array for t in tensors))
        record(self, attrs, operands, tensors, payloads)

    def _as_tensor(self, made: dict[int, Any], index: int) -> Tensor:
        found = made[index]
        return found if isinstance(found, Tensor) else Tensor(np.asarray(found))

    def _operand(self, index: int, leaves: Sequence[Any], inputs: list[Array]) -> Tensor:
        captured = self._captured  # type: ignore[attr-defined]
        if index < len(captured.leaves):
            return leaves[captured.leaves[index]]
        return captured.states[index - len(captured.leaves)].tensor

    def _version(self, index: int, leaves: Sequence[Any]) -> tuple[Version, int] | None:
        captured = self._captured  # type: ignore[attr-defined]
        if index < len(captured.leaves):
            leaf = leaves[captured.leaves[index]]
        else:
            leaf = captured.states[index - len(captured.leaves)].tensor
        return (leaf._version, leaf._version.number) if isinstance(leaf, Tensor) else None

    def differentiate(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], attrs: Any
    ) -> Sequence[Any]:
        """Run the compiled vector-Jacobian product, or, for higher orders, its graph op by op."""
        self._check_versions(attrs)
        captured, backward = self._captured, self._backward  # type: ignore[attr-defined]
        full = [
            b.full(t.shape, 0.0, t.dtype) if ct is None else ct
            for ct, t in zip(cotangents, backward.joint.inputs[len(captured.graph.inputs) :], strict=True)
        ]
        if isinstance(b, ArrayBuilder):
            return self._run(backward, attrs["residuals"], full)
        values: list[Any] = [Tensor(x) for x in attrs["inputs"]]
        for index, operand in zip(backward.wrt, operands, strict=True):
            values[index] = operand
        return evaluate(b, backward.joint.outputs, [*values, *full])

    def _check_versions(self, attrs: Any) -> None:
        for entry in attrs["versions"]:
            if entry is not None and entry[0].number != entry[1]:
                raise OverwrittenError(
                    message(
                        f"a tensor that the derivative of {self.name} needs was overwritten in place after the call",
                        location=user_location(),
                        hint="Call backward() before the optimiser's step.",
                    )
                )

    def push_forward(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], tangents: Sequence[Any], attrs: Any
    ) -> Any:
        """The transpose of the vector-Jacobian product, compiled when first asked for; for higher orders its graph op by op."""
        self._check_versions(attrs)
        backward = self._backward  # type: ignore[attr-defined]
        whole = [b.like(x, 0.0) if t is None else t for x, t in zip(operands, tangents, strict=True)]
        if isinstance(b, ArrayBuilder):
            executable = self._forward  # type: ignore[attr-defined]
            if executable is None:
                graph = transposed_graph(backward.graph, len(attrs["residuals"]))
                executable = build(graph, {}, self._options).executable  # type: ignore[attr-defined]
                object.__setattr__(self, "_forward", executable)
            return executable.run([native(np.asarray(x)) for x in [*attrs["residuals"], *whole]])
        values: list[Any] = [Tensor(x) for x in attrs["inputs"]]
        for index, operand in zip(backward.wrt, operands, strict=True):
            values[index] = operand
        graph = transposed_graph(backward.joint, len(values))
        return evaluate(b, graph.outputs, [*values, *whole])

    def _run(self, backward: Backward, residuals: list[Array], cotangents: list[Array]) -> list[Array]:
        executable = self._executable  # type: ignore[attr-defined]
        if executable is None:
            executable = build(backward.graph, {}, self._options).executable  # type: ignore[attr-defined]
            object.__setattr__(self, "_executable", executable)
        return executable.run([native(np.asarray(x)) for x in [*residuals, *cotangents]])


def evaluate(b: Builder, outputs: Sequence[Value], inputs: Sequence[Any]) -> list[Any]:
    """A graph's outputs, op by op through a builder; iterative."""
    values: dict[Value, Any] = {}
    stack = list(outputs)
    while stack:
        value = stack[-1]
        if value in values:
            stack.pop()
            continue
        node = value.node
        if node.op.name == "input":
            values[value] = inputs[node.attrs["index"]]
            continue
        missing = [v for v in node.operands if v not in values]
        if missing:
            stack.extend(missing)
            continue
        found = b.apply(node.op, tuple(values[v] for v in node.operands), dict(node.attrs))
        values.update(zip(node.results, found, strict=True))
    return [values[v] for v in outputs]
