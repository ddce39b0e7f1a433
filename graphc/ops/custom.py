"""Functions whose derivative the user states: a composite with a rule of its own. Layer 2.

The rule is Python, in a table of the process; a node knows its number. Graphs are made of it for given types when a derivative
or a batch is asked for, so that a rule may call the function itself. Native code inlines the body and knows nothing of rules.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from graphc.errors import BatchError, NoDerivativeError
from graphc.forward import jvp_graph, transposed_graph
from graphc.ir.batching import Batched, Examples, batch_graph, batch_type, with_axis_all
from graphc.ir.dims import Dim
from graphc.ir.graph import Graph
from graphc.ir.op import Attrs, Builder, Composite, GraphBuilder, apply_graph
from graphc.ir.registry import register
from graphc.ir.types import TensorType
from graphc.ops.control_derivatives import pullback

__all__ = ["Checkpoint", "CustomCall", "Rule", "checkpoint", "custom_call", "rule_number"]

Types = tuple[TensorType, ...]


class Rule(Protocol):
    """A derivative for operands of given types. One of the two graphs is there."""

    def vjp_graph(self, types: Types) -> Graph | None:
        """Takes the operands and cotangents of the floating-point results; gives cotangents of the floating-point operands."""

    def jvp_graph(self, types: Types) -> Graph | None:
        """Takes the operands and tangents of the floating-point operands; gives tangents of the floating-point results."""


_RULES: dict[int, Rule] = {}
_NUMBERS = itertools.count()


def rule_number(rule: Rule) -> int:
    """Enter a rule in the table."""
    number = next(_NUMBERS)
    _RULES[number] = rule
    return number


@dataclass(frozen=True, slots=True)
class _BatchedRule:
    """A rule for `size` examples of all operands."""

    rule: Rule
    size: Dim

    def vjp_graph(self, types: Types) -> Graph | None:
        return self._batched(self.rule.vjp_graph(self._single(types)))

    def jvp_graph(self, types: Types) -> Graph | None:
        return self._batched(self.rule.jvp_graph(self._single(types)))

    def _single(self, types: Types) -> Types:
        return tuple(TensorType(t.dtype, t.shape[1:]) for t in types)

    def _batched(self, graph: Graph | None) -> Graph | None:
        return None if graph is None else _batched(GraphBuilder(), graph, self.size)


def _batched(b: Builder, graph: Graph, size: Dim) -> Graph:
    """A graph for several examples of all inputs, with several of all outputs."""
    found, _ = batch_graph(b, graph, [True] * len(graph.inputs), size, outputs=[True] * len(graph.outputs))
    return found


@dataclass(frozen=True, eq=False, kw_only=True)
class CustomCall(Composite):
    """A composite whose derivative is that of rule number `rule`."""

    #: The rule is for all operands and results.
    transparent: ClassVar[bool] = False

    attributes: tuple[str, ...] = ("body", "label", "rule")

    def _rule(self, attrs: Attrs) -> Rule:
        found = _RULES.get(attrs["rule"])
        if found is None:
            raise NoDerivativeError(
                f"the derivative of {attrs['label']} was stated in another process and is not known here",
                hint="Differentiate before the graph is written to a file.",
            )
        return found

    def differentiate(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], attrs: Attrs
    ) -> Sequence[Any]:
        types = tuple(b.type(x) for x in operands)
        whole = _present(b, results, cotangents)
        rule = self._rule(attrs)
        graph = rule.vjp_graph(types)
        if graph is None:
            linear = rule.jvp_graph(types)
            assert linear is not None
            graph = transposed_graph(linear, len(types))
        return _spread(b, operands, apply_graph(b, graph, [*operands, *whole]))

    def push_forward(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], tangents: Sequence[Any], attrs: Attrs
    ) -> Any:
        types = tuple(b.type(x) for x in operands)
        graph = self._rule(attrs).jvp_graph(types)
        if graph is None:
            return NotImplemented
        return _spread(b, results, apply_graph(b, graph, [*operands, *_present(b, operands, tangents)]))

    def batch(
        self, b: Builder, operands: Sequence[Any], batched: Sequence[bool], attrs: Attrs, examples: Examples
    ) -> Batched:
        """All operands get the examples, so that one rule serves; the derivative of the repetition is the sum."""
        if examples.active is not None and any(n.op.fallible or n.op.guards for n in attrs["body"].nodes):
            raise BatchError(
                f"{attrs['label']}, which has a derivative of its own, may fail for examples that do not come to it",
                hint="Leave what can fail (indexing, factorisations) out of the branch or loop whose examples part.",
            )
        body = _batched(b, attrs["body"], examples.size)
        whole = with_axis_all(b, operands, batched, examples.size)
        assert body.inputs == tuple(batch_type(t, examples.size) for t in attrs["body"].inputs)
        rule = _RULES.get(attrs["rule"])
        number = attrs["rule"] if rule is None else rule_number(_BatchedRule(rule, examples.size))
        results = b.apply(self, tuple(whole), {"body": body, "label": attrs["label"], "rule": number})
        return results, [True] * len(results)


def _present(b: Builder, values: Sequence[Any], given: Sequence[Any]) -> list[Any]:
    """Tangents or cotangents of the floating-point values, zeros where there is none."""
    return [
        b.like(x, 0.0) if t is None else t for x, t in zip(values, given, strict=True) if b.type(x).dtype.is_inexact
    ]


def _spread(b: Builder, values: Sequence[Any], found: Sequence[Any]) -> list[Any]:
    """What was found for the floating-point values, with None for the others."""
    supply = iter(found)
    return [next(supply) if b.type(x).dtype.is_inexact else None for x in values]


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint(Composite):
    """A composite whose derivative computes the body again, from its operands, when the cotangents are there."""

    transparent: ClassVar[bool] = False

    def differentiate(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], attrs: Attrs
    ) -> Sequence[Any]:
        body: Graph = attrs["body"]
        active = [i for i, ct in enumerate(cotangents) if ct is not None]
        given = [cotangents[i] for i in active]
        found = pullback(body, active)
        # A number of its own for each recomputation: the barriers keep it apart from the forward pass and from others.
        instance = next(_INSTANCES)
        again = [b.barrier(x, *given[:1], instance=instance) for x in operands]
        supply = iter(apply_graph(b, Graph((), tuple(v for v in found if v is not None)), [*again, *given]))
        return [None if v is None else next(supply) for v in found]

    def push_forward(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], tangents: Sequence[Any], attrs: Attrs
    ) -> Any:
        """Forward mode keeps nothing: the body's own."""
        active = [t is not None for t in tangents]
        graph, moving = jvp_graph(attrs["body"], active)
        pushed = Graph((), graph.outputs[len(results) :])
        supply = iter(apply_graph(b, pushed, [*operands, *(t for t in tangents if t is not None)]))
        return [next(supply) if m else None for m in moving]

    def batch(
        self, b: Builder, operands: Sequence[Any], batched: Sequence[bool], attrs: Attrs, examples: Examples
    ) -> Batched:
        """The checkpoint of the batched body; where only some examples count, the body itself."""
        return Composite.batch(self, b, operands, batched, attrs, examples)


#: Numbers of barriers, apart from the small ones that others use.
_INSTANCES = itertools.count(1 << 20)

checkpoint = register(
    Checkpoint(
        name="checkpoint",
        doc="""The results of the closed graph `body` on the operands; `label` names the function. Reverse mode computes
        the body once more instead of keeping its values.""",
    )
)

custom_call = register(
    CustomCall(
        name="custom_call",
        doc="""The results of the closed graph `body` on the operands; `label` names the function. The derivative is the
        user's rule number `rule` of this process (`gx.custom_vjp`, `gx.custom_jvp`).""",
    )
)
