"""Kinds of ops, and the builder protocol. Layer 1.

An op is a frozen record of a kind. The kind supplies what follows from it (type inference, evaluation, derivatives); the
op states only what is its own. Passes and the code generator dispatch on the kind and on declared facts, never on names
(rewrite rules and kernels of composites excepted). Importing this module declares nothing: `graphc.ops` does.

A derivative rule's first argument is a builder `b` (see `Builder`): it finds ops by name, `b.multiply(x, y)`, and lifts
Python literals to the strict type of the other operand. Rules therefore serve the graph pass and the dynamic tape alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from graphc import dtypes, hosts
from graphc.dtypes import DType
from graphc.errors import DTypeError, NoDerivativeError, ShapeError, message
from graphc.ir import registry
from graphc.ir.batching import Batched, BatchRule, Examples, batch_graph, batch_values, no_rule, on_examples
from graphc.ir.dims import Dim
from graphc.ir.graph import Attribute, Graph, Node, Value, full, last_uses, make
from graphc.ir.types import TOKEN, Shape, TensorType, Type

__all__ = [
    "Builder",
    "Composite",
    "Contraction",
    "Control",
    "Cumulative",
    "Elementwise",
    "Expansion",
    "Fused",
    "GraphBuilder",
    "Guard",
    "Host",
    "Indexing",
    "Masked",
    "Movement",
    "Op",
    "Random",
    "Reduction",
    "Sorting",
    "Source",
    "Special",
    "apply_graph",
    "conjugated",
    "materialize",
    "run_graph",
    "type_error",
]

Array = Any
Attrs = Mapping[str, Attribute]
TypeRule = Callable[..., DType]
"""`rule(*dtypes, **attrs) -> dtype`; raises DTypeError where the op is not defined."""


def type_error(name: str, why: str, operands: Sequence[Type], hint: str | None = None) -> str:
    """The text for an operand that an op is not defined for."""
    named = [(f"operand {i}", t) for i, t in enumerate(operands)]
    return message(f"{name}: {why}", operands=named, hint=hint)


class Builder:
    """Applies ops by name to values of some world: graph nodes, arrays of the tape, plain NumPy arrays.

    `b.add(x, 1.0)` finds the op `add` and lifts the literal. An op with one result gives the value, else a tuple.
    """

    def type(self, x: Any) -> TensorType:
        """The type of a value."""
        raise NotImplementedError

    def apply(self, op: Op, operands: tuple[Any, ...], attrs: dict[str, Attribute]) -> tuple[Any, ...]:
        """Apply an op to values of strict types."""
        raise NotImplementedError

    def full(self, shape: Shape, value: float, dtype: DType) -> Any:
        """A tensor filled with a literal."""
        raise NotImplementedError

    def is_value(self, x: Any) -> bool:
        """Whether `x` is a value of this world (and not a literal)."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        op = registry.get(name)

        def apply(*operands: Any, **attrs: Attribute) -> Any:
            results = self.apply(op, self.lift(operands), attrs)
            return results[0] if len(results) == 1 else results

        return apply

    def lift(self, operands: Sequence[Any]) -> tuple[Any, ...]:
        """Turn literals into tensors of the last value operand's type (a `select`'s condition comes first)."""
        if all(self.is_value(x) for x in operands):
            return tuple(operands)
        like = self.type([x for x in operands if self.is_value(x)][-1])
        return tuple(x if self.is_value(x) else self.full(like.shape, x, like.dtype) for x in operands)

    def like(self, x: Any, value: float) -> Any:
        """A tensor of x's type filled with a literal."""
        t = self.type(x)
        return self.full(t.shape, value, t.dtype)


class GraphBuilder(Builder):
    """The builder whose values are graph values."""

    def type(self, x: Value) -> TensorType:
        return x.tensor

    def apply(self, op: Op, operands: tuple[Value, ...], attrs: dict[str, Attribute]) -> tuple[Value, ...]:
        return make(op, operands, **attrs).results

    def full(self, shape: Shape, value: float, dtype: DType) -> Value:
        return full(shape, value, dtype)

    def is_value(self, x: Any) -> bool:
        return isinstance(x, Value)


@dataclass(frozen=True, slots=True)
class Masked:
    """A partial derivative that is `factor` (None: 1) where `mask` holds and, exactly, 0 elsewhere: no product is formed
    there, so that an infinity or NaN of a cotangent from the side not taken does not leak."""

    mask: Any
    factor: Any = None


def materialize(b: Builder, cotangent: Any) -> Any:
    """A cotangent as a plain value: `(value, mask)` becomes a select with zero; values and None pass."""
    if not isinstance(cotangent, tuple):
        return cotangent
    value, mask = cotangent
    return b.select(mask, value, b.like(value, 0.0))


def apply_graph(b: Builder, graph: Graph, arguments: Mapping[int, Any] | Sequence[Any]) -> tuple[Any, ...]:
    """The outputs of a closed graph on values of a builder's world, one op after the other; `arguments` by input number."""
    values: dict[Value, Any] = {}
    for node in graph.nodes:
        if node.op.name == "input":
            values[node.result] = arguments[node.attrs["index"]]
        else:
            results = b.apply(node.op, tuple(values[v] for v in node.operands), dict(node.attrs))
            values.update(zip(node.results, results, strict=True))
    return tuple(values[v] for v in graph.outputs)


def conjugated(b: Builder, x: Any) -> Any:
    """The complex conjugate; real values as they are. Cotangents follow PyTorch's convention, the direction of steepest
    ascent: a rule multiplies by the conjugate of what a differential would be multiplied by."""
    return b.conj(x) if b.type(x).dtype.is_complex else x


def run_graph(graph: Graph, arguments: Sequence[Array]) -> tuple[Array, ...]:
    """Evaluate a closed graph of static shapes on arrays, by each op's NumPy definition; values are freed when dead.

    Arguments are not checked (`graphc.interp` does that); results may be views of one another or of arguments.
    """
    nodes = graph.nodes
    dying = last_uses(nodes, graph.outputs)
    values: dict[Node, tuple[Array, ...]] = {}
    for node in nodes:
        if node.op.name == "input":
            values[node] = (arguments[node.attrs["index"]],)
        else:
            values[node] = node.op.evaluate([values[v.node][v.index] for v in node.operands], node.attrs)
        for dead in dying.get(node, ()):
            del values[dead]
    return tuple(values[v.node][v.index] for v in graph.outputs)


@dataclass(frozen=True, eq=False, kw_only=True)
class Op:
    """What all ops have: `name`, `doc` (formula; behaviour at +-0, infinity, NaN, empty input), and declared facts.

    `attributes` are the names of the attributes, all required. `fallible` nodes may be dropped when unused but not hoisted
    out of a branch or loop; `effect` nodes are ordered by tokens and never dropped. `narrow` says that native code takes
    16-bit floats as they are stored, for it only copies or converts them; other ops compute in float32 and round. `linear`
    says how results depend on floating-point operands: on all of them "together" (f(x + u, y + v) = f(x, y) + f(u, v)) or on
    "each" while the others are fixed; forward mode follows.

    Native code has real numbers only: `parts(b, *operands, **attrs)` gives the result in terms of them, a complex operand or
    result being a pair (real, imaginary). Linear ops need none, and neither do ops whose type rule refuses complex numbers.

    Batching: where the examples' axis is just one more leading axis of all operands, `shift(size, **attrs)` gives the
    attributes that belong to it (most kinds know them); else `batching` is the rule.
    """

    kind: ClassVar[str] = "op"
    #: Whether ops of this kind do arithmetic on elements (see `narrow`).
    computes: ClassVar[bool] = False
    #: Whether `batch` heeds which examples count.
    guards: ClassVar[bool] = False

    name: str
    doc: str
    attributes: tuple[str, ...] = ()
    fallible: bool = False
    effect: bool = False
    narrow: bool = False
    linear: Literal["", "together", "each"] = ""
    parts: Callable[..., Any] | None = None
    shift: Callable[..., Attrs] | None = None
    batching: BatchRule | None = None

    def infer(self, operands: tuple[Type, ...], attrs: Attrs) -> tuple[Type, ...]:
        """Result types; raises the project's ShapeError or DTypeError. This is also the verifier's rule."""
        raise NotImplementedError

    def evaluate(self, operands: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
        """The op's NumPy definition. Results may be views of operands."""
        raise NotImplementedError

    def differentiate(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], attrs: Attrs
    ) -> Sequence[Any]:
        """Cotangents of the operands: a value, `None` (zero), or a `(value, mask)` pair. Cotangents of results that
        nothing depends on are None."""
        raise NotImplementedError

    def push_forward(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], tangents: Sequence[Any], attrs: Attrs
    ) -> Any:
        """Tangents of the results from those of the operands, at least one of which is not None (zero): a value or None for
        each. NotImplemented where nothing declared says how: then `graphc.forward` transposes `differentiate`."""
        if not self.linear:
            return NotImplemented
        if not any(_is_inexact(b, y) for y in results):
            return [None] * len(results)
        together = [x if not _is_inexact(b, x) else t for x, t in zip(operands, tangents, strict=True)]
        if self.linear == "together":
            lifted = [b.like(x, 0.0) if t is None else t for x, t in zip(operands, together, strict=True)]
            return list(b.apply(self, tuple(lifted), dict(attrs)))
        found: list[Any] = []
        for k, tangent in enumerate(tangents):
            if tangent is not None and _is_inexact(b, operands[k]):
                (term,) = b.apply(self, (*operands[:k], tangent, *operands[k + 1 :]), dict(attrs))
                found = [term if not found else b.add(found[0], term)]
        return found or [None]

    def batch(
        self, b: Builder, operands: Sequence[Any], batched: Sequence[bool], attrs: Attrs, examples: Examples
    ) -> Batched:
        """The op for many examples at once, on graph values: operands that are `batched` have the examples along axis 0. Gives
        the results and which of them are batched. Raises BatchError where there is no rule."""
        if self.batching is not None:
            return self.batching(b, operands, batched, examples, **attrs)
        return on_examples(b, self, operands, batched, attrs, examples.size)

    def shifted(self, attrs: Attrs, size: Dim) -> Attrs:
        """The attributes for operands that all have an axis of `size` in front."""
        if self.shift is None:
            raise no_rule(self)
        return self.shift(size, **attrs)

    def check_attributes(self, attrs: Attrs) -> None:
        """Every declared attribute is there, and no other."""
        if set(attrs) != set(self.attributes):
            raise ShapeError(f"{self.name}: attributes are {sorted(self.attributes)}, got {sorted(attrs)}")

    def tensors(self, operands: tuple[Type, ...], count: int | None) -> tuple[TensorType, ...]:
        """Operands as tensor types, checked in number."""
        if count is not None and len(operands) != count:
            raise ShapeError(type_error(self.name, f"takes {count} operands, got {len(operands)}", operands))
        found = tuple(t for t in operands if isinstance(t, TensorType))
        if len(found) != len(operands):
            raise DTypeError(type_error(self.name, "takes tensors, not tokens", operands))
        return found


def _is_inexact(b: Builder, x: Any) -> bool:
    return b.type(x).dtype.is_inexact


def lengthened(op: Op, operands: Sequence[Array]) -> Sequence[Array]:
    """Operands as `op` computes with them: 16-bit floats as float32, unless it only copies or converts."""
    if not op.computes or op.narrow or not any(map(_is_short, operands)):
        return operands
    return [x.astype(np.float32) if _is_short(x) else x for x in operands]


def _is_short(x: Array | None) -> bool:
    return x is not None and x.dtype.itemsize == 2 and dtypes.from_numpy(x.dtype).is_short_float


def _shortened(y: Any, dtype: np.dtype[Any]) -> Array:
    """A result in its dtype: this is where 16-bit floats are rounded."""
    with np.errstate(all="ignore"):
        return np.asarray(y, dtype=dtype)


@dataclass(frozen=True, eq=False, kw_only=True)
class Elementwise(Op):
    """y[i] = f(x0[i], x1[i], ...), all operands of one shape.

    `scalar(s, *xs, **attrs)` lowers to the scalar protocol, in which complex numbers have no part. `partials(b, y, *xs,
    **attrs)` gives the partial derivative by each operand (of complex numbers the complex derivative): a value, a literal,
    a `Masked`, or None for zero; where that is not enough (operands and result differ in dtype), `vjp(b, ct, *xs, **attrs)`
    gives the operands' cotangents instead. `ulp` bounds the
    error of finite real results in units in the last place of the exact result, for float32 and for float64; None
    says that results are exactly rounded, so that compiled code is bit-equal to NumPy. `complex_ulp` bounds the error of each
    part of a complex result, in ulp of the larger part, where no product of parts overflows. `heavy`: recomputing it
    costs more than a load. `domain` has, per operand, the interval from which samples for derivatives are drawn.
    """

    kind: ClassVar[str] = "elementwise"
    computes: ClassVar[bool] = True

    arity: int
    types: TypeRule
    numpy: Callable[..., Array]
    scalar: Callable[..., Any]
    partials: Callable[..., Sequence[Any]] | None = None
    vjp: Callable[..., Sequence[Any]] | None = None
    ulp: tuple[float, float] | None = None
    complex_ulp: float | None = None
    heavy: bool = False
    domain: tuple[tuple[float, float], ...] = ()

    @property
    def exact(self) -> bool:
        """Whether results are exactly rounded."""
        return self.ulp is None

    def bound(self, dtype: DType) -> float:
        """The bound on the error of a result of a float dtype in ulp; 16-bit floats are float32 results, rounded once more."""
        if self.ulp is None or dtype.is_short_float:
            return 0.5
        return self.ulp[0 if dtype.bits == 32 else 1]

    def infer(self, operands: tuple[Type, ...], attrs: Attrs) -> tuple[Type, ...]:
        self.check_attributes(attrs)
        tensors = self.tensors(operands, self.arity)
        if any(t.shape != tensors[0].shape for t in tensors):
            raise ShapeError(type_error(self.name, "operands must have equal shapes", operands))
        try:
            dtype = self.types(*(t.dtype for t in tensors), **attrs)
        except DTypeError as error:
            raise DTypeError(type_error(self.name, str(error), operands)) from None
        return (TensorType(dtype, tensors[0].shape),)

    def evaluate(self, operands: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            y = self.numpy(*lengthened(self, operands), **attrs)
        dtype = self.types(*(dtypes.from_numpy(x.dtype) for x in operands), **attrs).numpy
        return (_shortened(y, dtype),)

    def shifted(self, attrs: Attrs, size: Dim) -> Attrs:
        return attrs

    def differentiate(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], attrs: Attrs
    ) -> Sequence[Any]:
        ct = cotangents[0]
        if not b.type(results[0]).dtype.is_inexact:
            return [None] * len(operands)
        if self.vjp is not None:
            return self.vjp(b, ct, *operands, **attrs)
        if self.partials is None:
            return [None] * len(operands)
        out: list[Any] = []
        for x, partial in zip(operands, self.partials(b, results[0], *operands, **attrs), strict=True):
            if partial is None or not b.type(x).dtype.is_inexact:
                out.append(None)
            elif isinstance(partial, Masked):
                factor = partial.factor
                out.append((ct if factor is None else b.multiply(ct, conjugated(b, factor)), partial.mask))
            elif isinstance(partial, (int, float)) and partial in (1, -1):
                out.append(ct if partial == 1 else b.negative(ct))
            elif b.is_value(partial):
                out.append(b.multiply(ct, conjugated(b, partial)))
            else:
                out.append(b.multiply(ct, partial))
        return out

    def push_forward(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], tangents: Sequence[Any], attrs: Attrs
    ) -> Any:
        """From the partial derivatives. Tangents are values or `(value, mask)` pairs, the result's too: a mask stays as long as
        all terms have the same."""
        if not _is_inexact(b, results[0]):
            return [None]
        smooth = [t for x, t in zip(operands, tangents, strict=True) if _is_inexact(b, x)]
        masks = [t[1] for t in smooth if isinstance(t, tuple)]
        if self.linear == "together" and all(t is not None for t in smooth) and (not masks or len(smooth) == 1):
            plain = [t[0] if isinstance(t, tuple) else t for t in tangents]
            (value,) = Op.push_forward(self, b, operands, results, plain, attrs)
            return [(value, masks[0]) if masks else value]
        if self.partials is None and self.vjp is None:
            return [None]
        if self.partials is None or (self.vjp is not None and any(b.type(x).dtype.is_complex for x in operands)):
            return NotImplemented
        terms: list[tuple[Any, Any]] = []
        partials = self.partials(b, results[0], *operands, **attrs)
        for x, tangent, partial in zip(operands, tangents, partials, strict=True):
            if tangent is not None and partial is not None and _is_inexact(b, x):
                terms.append(_times(b, tangent, partial))
        return [_added(b, terms)]


def _times(b: Builder, tangent: Any, partial: Any) -> tuple[Any, Any]:
    """A tangent, with or without a mask, times a partial derivative: a value and a mask (None: everywhere)."""
    value, mask = tangent if isinstance(tangent, tuple) else (tangent, None)
    factor = partial
    if isinstance(partial, Masked):
        factor = 1 if partial.factor is None else partial.factor
        mask = partial.mask if mask is None else b.bitwise_and(mask, partial.mask)
    if isinstance(factor, (int, float)) and factor in (1, -1):
        return (value if factor == 1 else b.negative(value)), mask
    return b.multiply(value, factor), mask


def _added(b: Builder, terms: Sequence[tuple[Any, Any]]) -> Any:
    """The sum of masked terms; None for none."""
    if not terms:
        return None
    masks = [mask for _, mask in terms]
    alike = all(mask is masks[0] for mask in masks)
    values = [value if alike or mask is None else materialize(b, (value, mask)) for value, mask in terms]
    total = values[0]
    for value in values[1:]:
        total = b.add(total, value)
    return (total, masks[0]) if alike and masks[0] is not None else total


@dataclass(frozen=True, slots=True)
class Guard:
    """The condition 0 <= index < extent on an index expression."""

    index: Any
    extent: Dim


@dataclass(frozen=True, slots=True)
class Source:
    """Where a result element of a movement comes from: `operand` at `index`, if all guards hold."""

    operand: int
    index: tuple[Any, ...]
    guards: tuple[Guard, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Movement(Op):
    """Each result element is a copy of one operand element.

    `shape(*types, **attrs)` is the shape rule. `sources(index, *shapes, **attrs)` is the index map: for the result element
    at `index` (a tuple of integers or of index expressions that support + - * with dimensions) the list of sources; the
    first whose guards hold is taken, the last has none. `view` says that the elements' order in memory does not change
    (reshape), so that no kernel is needed; such an op has no `sources`.
    """

    kind: ClassVar[str] = "movement"

    arity: int | None = 1
    shape: Callable[..., Shape]
    numpy: Callable[..., Array]
    sources: Callable[..., Sequence[Source]] | None
    vjp: Callable[..., Sequence[Any]]
    view: bool = False
    narrow: bool = True
    linear: Literal["", "together", "each"] = "together"

    def infer(self, operands: tuple[Type, ...], attrs: Attrs) -> tuple[Type, ...]:
        self.check_attributes(attrs)
        tensors = self.tensors(operands, self.arity)
        if any(t.dtype is not tensors[0].dtype for t in tensors):
            raise DTypeError(type_error(self.name, "operands must have one dtype", operands))
        try:
            shape = self.shape(*(t.shape for t in tensors), **attrs)
        except ShapeError as error:
            raise ShapeError(type_error(self.name, str(error), operands)) from None
        return (TensorType(tensors[0].dtype, tuple(shape)),)

    def evaluate(self, operands: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
        return (np.asarray(self.numpy(*operands, **attrs)),)

    def differentiate(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], attrs: Attrs
    ) -> Sequence[Any]:
        """`vjp(b, ct, *operands, **attrs)`."""
        return self.vjp(b, cotangents[0], *operands, **attrs)


@dataclass(frozen=True, eq=False, kw_only=True)
class Reduction(Op):
    """Combines the elements along `axes` (a sorted tuple of axes; they vanish from the shape).

    `combine(s, x, y)` and `identity(dtype)` define it over the scalar protocol. With `arg`, the result is the position of
    the element that wins, as int64 along the single axis: `combine(s, x, best)` is then the condition that x replaces
    best, and `identity` starts best. `vjp(b, ct, y, x, axes)`. `empty` says whether an empty axis is legal.
    """

    kind: ClassVar[str] = "reduction"
    computes: ClassVar[bool] = True

    attributes: tuple[str, ...] = ("axes",)
    types: TypeRule
    numpy: Callable[..., Array]
    combine: Callable[..., Any]
    identity: Callable[[DType], float]
    vjp: Callable[..., Any] | None = None
    arg: bool = False
    empty: bool = True
    exact: bool = False

    def infer(self, operands: tuple[Type, ...], attrs: Attrs) -> tuple[Type, ...]:
        self.check_attributes(attrs)
        (x,) = self.tensors(operands, 1)
        axes = attrs["axes"]
        if list(axes) != sorted(set(axes)) or any(not 0 <= a < x.rank for a in axes):
            raise ShapeError(type_error(self.name, f"axes {axes} are not sorted axes of the operand", operands))
        if self.arg and len(axes) != 1:
            raise ShapeError(type_error(self.name, "reduces exactly one axis", operands))
        if not self.empty and any(x.shape[a] == 0 for a in axes):
            raise ShapeError(type_error(self.name, "an empty axis has no such element", operands))
        try:
            dtype = self.types(x.dtype)
        except DTypeError as error:
            raise DTypeError(type_error(self.name, str(error), operands)) from None
        return (TensorType(dtype, tuple(d for a, d in enumerate(x.shape) if a not in axes)),)

    def evaluate(self, operands: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
        (x,) = operands
        dtype = self.types(dtypes.from_numpy(x.dtype)).numpy
        with np.errstate(all="ignore"):
            return (_shortened(self.numpy(*lengthened(self, (x,)), attrs["axes"]), dtype),)

    def shifted(self, attrs: Attrs, size: Dim) -> Attrs:
        return {"axes": tuple(axis + 1 for axis in attrs["axes"])}

    def differentiate(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], attrs: Attrs
    ) -> Sequence[Any]:
        if self.vjp is None:
            return [None]
        return [self.vjp(b, cotangents[0], results[0], operands[0], attrs["axes"])]

    def push_forward(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], tangents: Sequence[Any], attrs: Attrs
    ) -> Any:
        """Each element goes into one result, so that the cotangent of ones holds all partial derivatives."""
        if self.vjp is None or not _is_inexact(b, results[0]):
            return [None]
        if self.linear:
            return super().push_forward(b, operands, results, tangents, attrs)
        weights = self.vjp(b, b.like(results[0], 1.0), results[0], operands[0], attrs["axes"])
        factor, mask = weights if isinstance(weights, tuple) else (weights, None)
        term = b.multiply(tangents[0], factor)
        return [b.sum(term if mask is None else materialize(b, (term, mask)), axes=attrs["axes"])]


@dataclass(frozen=True, eq=False, kw_only=True)
class Cumulative(Op):
    """y[i] = combine(y[i - 1], x0[i], x1[i], ...) along one axis, operands of one type; backwards if `reverse`.

    `combine(s, y, *xs)` over the scalar protocol, one element after the other: the order is the definition's, so results of
    exactly rounded steps are NumPy's. `start(dtype)` stands for y[-1]. `numpy(*xs, axis)` is for the forward direction;
    `vjp(b, ct, y, *xs, axis, reverse)` gives the operands' cotangents. 16-bit floats are accumulated in float32, each result
    rounded once (NumPy rounds after each step).
    """

    kind: ClassVar[str] = "cumulative"
    computes: ClassVar[bool] = True

    attributes: tuple[str, ...] = ("axis", "reverse")
    arity: int = 1
    types: TypeRule
    numpy: Callable[..., Array]
    combine: Callable[..., Any]
    start: Callable[[DType], float]
    vjp: Callable[..., Sequence[Any]]
    exact: bool = True

    def infer(self, operands: tuple[Type, ...], attrs: Attrs) -> tuple[Type, ...]:
        self.check_attributes(attrs)
        tensors = self.tensors(operands, self.arity)
        x = tensors[0]
        if any(t != x for t in tensors):
            raise ShapeError(type_error(self.name, "operands must have equal types", operands))
        if not 0 <= attrs["axis"] < x.rank:
            raise ShapeError(type_error(self.name, f"axis {attrs['axis']} is not an axis of the operand", operands))
        try:
            return (TensorType(self.types(x.dtype), x.shape),)
        except DTypeError as error:
            raise DTypeError(type_error(self.name, str(error), operands)) from None

    def evaluate(self, operands: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
        axis, reverse = attrs["axis"], attrs["reverse"]
        wide = lengthened(self, operands)
        turned = [np.flip(x, axis) for x in wide] if reverse else wide
        with np.errstate(all="ignore"):
            y = _shortened(self.numpy(*turned, axis), operands[0].dtype)
        return (np.flip(y, axis) if reverse else y,)

    def shifted(self, attrs: Attrs, size: Dim) -> Attrs:
        return {**attrs, "axis": attrs["axis"] + 1}

    def differentiate(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], attrs: Attrs
    ) -> Sequence[Any]:
        if not b.type(results[0]).dtype.is_inexact:
            return [None] * len(operands)
        return self.vjp(b, cotangents[0], results[0], *operands, **attrs)


@dataclass(frozen=True, eq=False, kw_only=True)
class Contraction(Op):
    """A sum of products over contracted axes; attributes are dimension numbers. `types(x, y)` gives the result dtype,
    `shape(x, y, **attrs)` the shape; `vjp(b, ct, x, y, **attrs)`."""

    kind: ClassVar[str] = "contraction"
    computes: ClassVar[bool] = True

    types: TypeRule
    shape: Callable[..., Shape]
    numpy: Callable[..., Array]
    vjp: Callable[..., Sequence[Any]]
    linear: Literal["", "together", "each"] = "each"

    def infer(self, operands: tuple[Type, ...], attrs: Attrs) -> tuple[Type, ...]:
        self.check_attributes(attrs)
        x, y = self.tensors(operands, 2)
        try:
            return (TensorType(self.types(x.dtype, y.dtype), self.shape(x.shape, y.shape, **attrs)),)
        except ShapeError as error:
            raise ShapeError(type_error(self.name, str(error), operands)) from None
        except DTypeError as error:
            raise DTypeError(type_error(self.name, str(error), operands)) from None

    def evaluate(self, operands: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            return (_shortened(self.numpy(*lengthened(self, operands), **attrs), operands[0].dtype),)

    def differentiate(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], attrs: Attrs
    ) -> Sequence[Any]:
        return self.vjp(b, cotangents[0], *operands, **attrs)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Stated(Op):
    """Kinds whose ops state all their rules: `rule(*types, **attrs) -> types`, `numpy(*arrays, **attrs) -> array or tuple`,
    `vjp(b, operands, results, cotangents, **attrs)`."""

    rule: Callable[..., tuple[Type, ...]]
    numpy: Callable[..., Any]
    vjp: Callable[..., Sequence[Any]] | None = None

    def infer(self, operands: tuple[Type, ...], attrs: Attrs) -> tuple[Type, ...]:
        self.check_attributes(attrs)
        return self.rule(*operands, **attrs)

    def evaluate(self, operands: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            results = self.numpy(*lengthened(self, operands), **attrs)
        results = results if isinstance(results, tuple) else (results,)
        short = next((x.dtype for x in operands if _is_short(x)), None)
        if short is None or not self.computes or self.narrow:
            return results
        return tuple(_shortened(y, short) if y.dtype == np.float32 else y for y in results)

    def differentiate(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], attrs: Attrs
    ) -> Sequence[Any]:
        if self.vjp is None:
            return [None] * len(operands)
        return self.vjp(b, operands, results, cotangents, **attrs)


@dataclass(frozen=True, eq=False, kw_only=True)
class Expansion(_Stated):
    """Ops with a definition and a derivative of their own whose native code is that of other ops:
    `expand(b, *operands, **attrs)` gives the result in terms of them. A pass puts it in the node's place before fusion.
    `exact` says that the expansion gives the bits of the definition."""

    kind: ClassVar[str] = "expansion"
    computes: ClassVar[bool] = True
    expand: Callable[..., Any]
    exact: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Special(_Stated):
    """Inputs, constants, iota, barriers: leaves and markers. `scalar(s, index, **attrs)` lowers those that are functions of
    the element's index (a tuple of i64 protocol values). `view` says that the result is the operand's memory, under another
    name or dtype, so that no kernel is needed."""

    kind: ClassVar[str] = "special"
    scalar: Callable[..., Any] | None = None
    view: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Indexing(_Stated):
    """Elements chosen by run-time indices: read, or, with `combine(s, old, new)`, written one after the other. The result has
    the first operand's dtype."""

    kind: ClassVar[str] = "indexing"
    computes: ClassVar[bool] = True
    guards: ClassVar[bool] = True
    combine: Callable[..., Any] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Sorting(_Stated):
    """Elements put in order along the attribute `axis`. `before(s, x, y)`: whether x stands before y, a strict weak order."""

    kind: ClassVar[str] = "sorting"
    computes: ClassVar[bool] = True
    before: Callable[..., Any]

    def shifted(self, attrs: Attrs, size: Dim) -> Attrs:
        return {**attrs, "axis": attrs["axis"] + 1}


@dataclass(frozen=True, eq=False, kw_only=True)
class Random(_Stated):
    """Counter-based random bits: `scalar(s, counter, *operand elements, **attrs)`. Operands are arrays of keys; their last
    axis holds the words that `scalar` gets, the axes before it are the leading axes of the result. `counter` is the element's
    flat index among those of its key, as i64."""

    kind: ClassVar[str] = "random"
    scalar: Callable[..., Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Control(_Stated):
    """Nodes with held graphs that decide what runs (branches, loops), and the first token. `prune(wanted, **attrs)` says what
    is left of a node of whose results only those numbered in `wanted` are used (see `graphc.ops.pruning`)."""

    kind: ClassVar[str] = "control"
    guards: ClassVar[bool] = True
    prune: Callable[..., Any] | None = None
    #: `jvp(b, operands, results, tangents, **attrs)` gives the results' tangents.
    jvp: Callable[..., Sequence[Any]] | None = None

    def push_forward(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], tangents: Sequence[Any], attrs: Attrs
    ) -> Any:
        if self.jvp is None:
            return [None] * len(results)
        return self.jvp(b, operands, results, tangents, **attrs)

    def differentiate(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], attrs: Attrs
    ) -> Sequence[Any]:
        if self.vjp is None:
            raise NoDerivativeError(
                f"{self.name} has no derivative yet",
                hint="Differentiate the function dynamically, or cut the gradient off with .detach().",
            )
        return self.vjp(b, operands, results, cotangents, **attrs)


@dataclass(frozen=True, eq=False, kw_only=True)
class Host(Op):
    """A call of a Python function on arrays, as `graphc.hosts.call` makes it.

    `function(**attrs)` gives the function's name and its static keyword arguments: this is the definition. `rule(*types,
    **attrs)` gives the result types, `vjp(b, operands, results, cotangents, **attrs)` the cotangents. With `effect`, the
    first operand and the first result are tokens; without, calls are pure: equal ones are one, unused ones are dropped.
    """

    kind: ClassVar[str] = "host"

    rule: Callable[..., tuple[Type, ...]]
    function: Callable[..., tuple[str, Mapping[str, Any]]]
    vjp: Callable[..., Sequence[Any]] | None = None

    def infer(self, operands: tuple[Type, ...], attrs: Attrs) -> tuple[Type, ...]:
        self.check_attributes(attrs)
        if self.effect:
            if not operands or operands[0] != TOKEN:
                raise ShapeError(type_error(self.name, "takes a token, then tensors", operands))
            self.tensors(operands[1:], None)
        else:
            self.tensors(operands, None)
        return self.rule(*operands, **attrs)

    def evaluate(self, operands: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
        name, keywords = self.function(**attrs)
        types = self.infer(tuple(map(_type_of, operands)), attrs)
        expected = [(t.dtype.name, t.shape) for t in types if isinstance(t, TensorType)]
        arrays = [x for x in operands if x is not None]
        results = iter(hosts.call(name, hosts.resolve(name), arrays, keywords, expected))  # type: ignore[arg-type]
        return tuple(next(results) if isinstance(t, TensorType) else None for t in types)

    def differentiate(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], attrs: Attrs
    ) -> Sequence[Any]:
        if self.vjp is None:
            name, _ = self.function(**attrs)
            raise NoDerivativeError(
                f"the host call of {name} has no derivative",
                hint="Give a derivative with gx.custom_op(..., vjp=...), or cut the gradient off with .detach().",
            )
        return self.vjp(b, operands, results, cotangents, **attrs)


def _type_of(x: Array | None) -> Type:
    return TOKEN if x is None else TensorType(dtypes.from_numpy(x.dtype), tuple(x.shape))


@dataclass(frozen=True, eq=False, kw_only=True)
class _Held(Op):
    """Kinds whose node is a held graph `body`, closed: operand i is the body's input i. `transparent` says that the node
    means its body and nothing more: it may lose results that nobody uses, and is differentiated as its body."""

    guards: ClassVar[bool] = True
    transparent: ClassVar[bool] = True

    def batch(
        self, b: Builder, operands: Sequence[Any], batched: Sequence[bool], attrs: Attrs, examples: Examples
    ) -> Batched:
        """The body in the node's place."""
        return batch_values(b, attrs["body"], operands, batched, examples)

    def infer(self, operands: tuple[Type, ...], attrs: Attrs) -> tuple[Type, ...]:
        self.check_attributes(attrs)
        body: Graph = attrs["body"]
        if body.inputs != operands:
            raise ShapeError(type_error(self.name, "operands do not have the types of the body's inputs", operands))
        return tuple(v.type for v in body.outputs)

    def evaluate(self, operands: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
        return run_graph(attrs["body"], operands)


@dataclass(frozen=True, eq=False, kw_only=True)
class Fused(_Held):
    """One kernel of the schedule: `body` is computed by one native function; `schedule` names the emitter."""

    kind: ClassVar[str] = "fused"
    attributes: tuple[str, ...] = ("body", "schedule")


@dataclass(frozen=True, eq=False, kw_only=True)
class Composite(_Held):
    """A named node that holds its decomposition: `label` names it (`softmax`), passes may inline it."""

    kind: ClassVar[str] = "composite"
    attributes: tuple[str, ...] = ("body", "label")

    def batch(
        self, b: Builder, operands: Sequence[Any], batched: Sequence[bool], attrs: Attrs, examples: Examples
    ) -> Batched:
        """The composite of the batched body; where only some examples count, the body itself."""
        if examples.active is not None:
            return _Held.batch(self, b, operands, batched, attrs, examples)
        body, flags = batch_graph(b, attrs["body"], batched, examples.size)
        return b.apply(self, tuple(operands), {"body": body, "label": attrs["label"]}), flags
