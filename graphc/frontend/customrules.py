"""Functions whose derivative the user states: `custom_vjp` and `custom_jvp`. Layer 5. Names follow JAX.

While tracing, a call becomes one node, `custom_call` (`graphc.ops.custom`): its body is the function, and graphs of the rule
are made when a derivative is asked for, so that a rule may call the function itself. In dynamic mode the functions are simply
called; a call under a tape is one step of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial, update_wrapper
from typing import Any

import numpy as np

from graphc.errors import GradientError, StateError, StructureError, message
from graphc.frontend import context, pytree
from graphc.frontend.autograd import TensorBuilder
from graphc.frontend.extension import world
from graphc.frontend.promotion import as_tensor
from graphc.frontend.recording import check_callable, is_smooth, like_leaf
from graphc.frontend.source import user_location
from graphc.frontend.subtrace import Argument, argument_of, operand_of, subtrace
from graphc.frontend.tensor import Tensor, apply, record
from graphc.frontend.transforms import sketch, vjp
from graphc.ir import registry
from graphc.ir.graph import Graph
from graphc.ir.op import Builder, GraphBuilder, Op
from graphc.ir.types import TensorType
from graphc.ops.custom import rule_number

__all__ = ["CustomJvp", "CustomVjp", "custom_jvp", "custom_vjp"]


# -- arguments -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Arguments:
    """The positional arguments of a call: their array leaves in order, and what rebuilds the arguments around others."""

    structures: tuple[pytree.Structure, ...]
    statics: tuple[tuple[Any, ...], ...]
    arrays: tuple[tuple[bool, ...], ...]
    paths: tuple[tuple[str, ...], ...]
    leaves: tuple[Any, ...]

    def rebuild(self, leaves: Sequence[Any]) -> tuple[Any, ...]:
        """The arguments with other array leaves."""
        supply = iter(leaves)
        return tuple(
            pytree.unflatten(s, [next(supply) if a else x for x, a in zip(statics, arrays, strict=True)])
            for s, statics, arrays in zip(self.structures, self.statics, self.arrays, strict=True)
        )

    def trees(self, leaves: Sequence[Any]) -> tuple[Any, ...]:
        """The arguments' containers around one entry for each array leaf, None for what is no array."""
        supply = iter(leaves)
        return tuple(
            pytree.unflatten(s, [next(supply) if a else None for a in arrays])
            for s, arrays in zip(self.structures, self.arrays, strict=True)
        )

    def without_values(self) -> _Arguments:
        """The same without the array leaves themselves."""
        return _Arguments(self.structures, self.statics, self.arrays, self.paths, ())


def _arguments(args: Sequence[Any]) -> _Arguments:
    structures, statics, arrays, paths, found = [], [], [], [], []
    for number, arg in enumerate(args):
        leaves, places, structure = pytree.flatten(arg, f"args[{number}]")
        known = tuple(isinstance(x, (Tensor, np.ndarray, np.generic, float)) for x in leaves)
        structures.append(structure)
        arrays.append(known)
        statics.append(tuple(None if a else x for x, a in zip(leaves, known, strict=True)))
        paths.append(tuple(places))
        found += [x for x, a in zip(leaves, known, strict=True) if a]
    return _Arguments(tuple(structures), tuple(statics), tuple(arrays), tuple(paths), tuple(found))


# -- what the two have in common -------------------------------------------------------------------------------------------


class _Custom:
    """A function with a derivative of its own."""

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Sequence[int], who: str) -> None:
        check_callable(who, fun)
        self._fun = fun
        self._who = who
        numbers = (nondiff_argnums,) if isinstance(nondiff_argnums, int) else tuple(nondiff_argnums)
        if not all(isinstance(n, int) and n >= 0 for n in numbers):
            raise StructureError(
                message(
                    f"nondiff_argnums are numbers of arguments, counted from 0; these are {nondiff_argnums!r}",
                    location=user_location(),
                    hint=f"Write functools.partial(gx.{who}, nondiff_argnums=(0,)).",
                )
            )
        self._nondiff = tuple(sorted(numbers))
        update_wrapper(self, fun)

    @property
    def label(self) -> str:
        """The function's name."""
        return getattr(self._fun, "__name__", self._who)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._check_defined()
        positional = self._positional(args, kwargs)
        call = _arguments(positional)
        if context.trace.get() is not None:
            return self._traced(call)
        if context.grad_enabled.get() and any(isinstance(x, Tensor) and x.requires_grad for x in call.leaves):
            return self._recorded(call)
        return self._fun(*positional)

    def _positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        if not kwargs:
            return args
        bound = inspect.signature(self._fun).bind(*args, **kwargs)
        bound.apply_defaults()
        if bound.kwargs:
            raise StructureError(
                message(
                    f"{self._who} {self.label} takes arguments by position; {', '.join(bound.kwargs)} can be given by keyword "
                    "only",
                    location=user_location(),
                    hint="Make them ordinary parameters of the function.",
                )
            )
        return bound.args

    def split(self, args: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Arguments without a derivative, and the others."""
        fixed = tuple(args[n] for n in self._nondiff if n < len(args))
        return fixed, tuple(x for n, x in enumerate(args) if n not in self._nondiff)

    def _check_defined(self) -> None:
        """Raise if there is no rule yet."""
        raise NotImplementedError

    def _rule(self, call: _Arguments, kinds: Sequence[Argument], results: tuple[TensorType, ...]) -> _Rule:
        """The rule of one call."""
        raise NotImplementedError

    def _traced(self, call: _Arguments) -> Any:
        given = [argument_of(x) for x in call.leaves]
        sub = subtrace(lambda *xs: self._fun(*call.rebuild(xs)), given, name=self.label)
        if sub.writes or sub.effects:
            what = "writes to a tensor from outside" if sub.writes else "has effects (printing, host calls)"
            raise StateError(
                message(
                    f"{self._who}: the function {self.label} {what}",
                    location=user_location(),
                    hint="Functions with a derivative of their own must be pure: pass values in, and give results back.",
                )
            )
        self._check_captures(sub.captures)
        types = tuple(v.tensor for v in sub.graph.outputs if v.tensor.dtype.is_inexact)
        number = rule_number(self._rule(call.without_values(), given, types))
        operands = [*map(operand_of, call.leaves), *sub.captures]
        attrs = {"body": sub.graph, "label": self.label, "rule": number}
        return sub.wrap(apply(registry.get("custom_call"), operands, attrs))

    def _check_captures(self, found: Sequence[Tensor]) -> None:
        for tensor in found:
            if tensor.reference is not None:
                raise GradientError(
                    message(
                        f"{self._who}: the function {self.label} uses a tensor from outside that requires gradients",
                        operands=[("tensor", tensor.type)],
                        location=user_location(),
                        hint="Its rule could not say the derivative by it: pass the tensor as an argument.",
                    )
                )

    # -- dynamic mode -------------------------------------------------------------------------------------------------------

    def primal(self, args: Sequence[Any]) -> tuple[Any, Any]:
        """The result, and what the derivative keeps."""
        raise NotImplementedError

    def _recorded(self, call: _Arguments) -> Any:
        plain = call.rebuild([x.detach() if isinstance(x, Tensor) else x for x in call.leaves])
        out, kept = self.primal(plain)
        leaves, _, structure = pytree.flatten(out)
        known = [isinstance(y, (Tensor, np.ndarray, np.generic, float)) for y in leaves]
        self._check_captures([y for y in leaves if isinstance(y, Tensor)])
        results = [_fresh(y) if a else y for y, a in zip(leaves, known, strict=True)]
        tensors = [y for y, a in zip(results, known, strict=True) if a]
        operands = [as_tensor(x) for x in call.leaves]
        types = tuple(y.type for y in tensors if y.type.dtype.is_inexact)
        rule = self._rule(call.without_values(), [argument_of(x) for x in call.leaves], types)
        step = _Step(name=self.label, doc="A function with a derivative of its own.")
        object.__setattr__(step, "rule", rule)
        object.__setattr__(step, "kept", kept)
        payloads = tuple(x._array for x in operands), tuple(y._array for y in tensors)
        versions = tuple((t._version, t._version.number) for t in (*operands, *tensors))
        record(step, {}, operands, tensors, payloads, versions)
        return pytree.unflatten(structure, results)


def _fresh(y: Any) -> Tensor:
    """A result as a tensor that is no other one."""
    return Tensor(y._array) if isinstance(y, Tensor) else as_tensor(np.asarray(as_tensor(y)._array))


@dataclass(eq=False, slots=True)
class _Rule:
    """The rule of one call: for operands like those of the call (captures after them have no derivative). Graphs are made
    once."""

    custom: Any
    call: _Arguments
    kinds: tuple[Argument, ...]
    results: tuple[TensorType, ...]
    made: dict[Any, Graph] = field(default_factory=dict)
    number: int | None = None

    def vjp_graph(self, types: tuple[TensorType, ...]) -> Graph | None:
        """See `graphc.ops.custom.Rule`."""
        return None

    def jvp_graph(self, types: tuple[TensorType, ...]) -> Graph | None:
        """See `graphc.ops.custom.Rule`."""
        return None

    def _graph(
        self, types: tuple[TensorType, ...], further: Sequence[TensorType], run: Callable[..., Sequence[Tensor]]
    ) -> Graph:
        """The graph of `run(leaves, captures, further)`."""
        found = self.made.get(types)
        if found is not None:
            return found
        count = len(self.kinds)
        arguments = [Argument(t, k.kind) for t, k in zip(types, self.kinds, strict=False)]
        arguments += [Argument(t, "tensor") for t in (*types[count:], *further)]

        def flat(*xs: Any) -> tuple[Tensor, ...]:
            return tuple(run(xs[:count], xs[count : len(types)], xs[len(types) :]))

        # Not a part of what is being traced now: it may be asked for again elsewhere.
        token = context.trace.set(None)
        try:
            with context.enable_grad():
                sub = subtrace(flat, arguments, name=f"{self.custom.label}_rule")
        finally:
            context.trace.reset(token)
        if sub.captures or sub.writes or sub.effects:
            what = "uses tensors (or large arrays) from outside" if sub.captures else "has effects"
            raise StateError(
                message(
                    f"the rule of {self.custom.label} {what}",
                    operands=[("tensor", t.type) for t in sub.captures],
                    location=user_location(),
                    hint="Pass them as arguments of the function, or keep them among what the rule gets.",
                )
            )
        self.made[types] = sub.graph
        return sub.graph


def _zero(like: Any) -> Tensor:
    x = as_tensor(like)
    return as_tensor(np.zeros(x.shape, x.dtype))


def _by_leaf(
    given: Any, structure: pytree.Structure, likes: Sequence[Any], paths: Sequence[str], what: str
) -> list[Any]:
    """Tensors for leaves, of their structure and types; zeros for None and 0, None for what is not floating point."""
    if given is None:
        return [_zero(x) if is_smooth(x) else None for x in likes]
    leaves, _, shape = pytree.flatten(given)
    if shape != structure:
        raise StructureError(
            message(
                f"a rule gives a {what} of another structure than what it belongs to",
                operands=[(what, sketch(shape)), ("belongs to", sketch(structure))],
                location=user_location(),
                hint="Give the same containers; None stands for zero.",
            )
        )
    found: list[Any] = []
    for x, like, path in zip(leaves, likes, paths, strict=True):
        if not is_smooth(like):
            found.append(None)
        elif x is None:
            found.append(_zero(like))
        else:
            found.append(like_leaf(x, like, what, path))
    return found


# -- reverse mode ------------------------------------------------------------------------------------------------------------


class _VjpRule(_Rule):
    """By `fwd` and `bwd`."""

    __slots__ = ()

    def vjp_graph(self, types: tuple[TensorType, ...]) -> Graph | None:
        """See `graphc.ops.custom.Rule`."""

        def run(xs: Sequence[Any], captures: Sequence[Any], cts: Sequence[Any]) -> list[Tensor]:
            found = [*self.pull(xs, cts, None), *(None for _ in captures)]
            pairs = zip(found, (*xs, *captures), strict=True)
            return [_zero(x) if ct is None else ct for ct, x in pairs if x.type.dtype.is_inexact]

        return self._graph(types, self.results, run)

    def pull(self, xs: Sequence[Tensor], cts: Sequence[Tensor], kept: Any) -> list[Tensor | None]:
        """Cotangents of the array leaves from those of the floating-point results."""
        args = self.call.rebuild(xs)
        out, residuals = self.custom.forward(args) if kept is None else kept
        leaves, _, structure = pytree.flatten(out)
        supply = iter(cts)
        cotangent = pytree.unflatten(structure, [next(supply) if is_smooth(y) else None for y in leaves])
        return self.custom.backward(self.call, args, residuals, cotangent)


class CustomVjp(_Custom):
    """A function with a reverse rule. Made by `custom_vjp`."""

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        super().__init__(fun, nondiff_argnums, "custom_vjp")
        self._fwd: Callable[..., Any] | None = None
        self._bwd: Callable[..., Any] | None = None

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Give the rule. `fwd(*args)` gives `(result, residuals)`; `bwd(residuals, cotangent)` a tuple of the arguments'
        cotangents. Arguments of `nondiff_argnums` are not among these and stand before the residuals."""
        check_callable("defvjp", fwd)
        check_callable("defvjp", bwd)
        self._fwd, self._bwd = fwd, bwd

    def _check_defined(self) -> None:
        if self._fwd is None:
            raise StructureError(
                message(
                    f"the custom_vjp function {self.label} has no rule yet",
                    location=user_location(),
                    hint=f"Call {self.label}.defvjp(fwd, bwd) first.",
                )
            )

    def _rule(self, call: _Arguments, kinds: Sequence[Argument], results: tuple[TensorType, ...]) -> _Rule:
        return _VjpRule(self, call, tuple(kinds), results)

    def primal(self, args: Sequence[Any]) -> tuple[Any, Any]:
        """The result of `fwd`, and both of its results."""
        pair = self.forward(args)
        return pair[0], pair

    def forward(self, args: Sequence[Any]) -> tuple[Any, Any]:
        """`fwd(*args)`, checked."""
        assert self._fwd is not None
        pair = self._fwd(*args)
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise StructureError(
                message(
                    f"the forward rule of {self.label} gives a pair (result, residuals)",
                    operands=[("gives", sketch(pytree.flatten(pair)[2]))],
                    location=user_location(),
                    hint="Return two values; residuals may be None, or containers of arrays.",
                )
            )
        return pair

    def backward(self, call: _Arguments, args: tuple[Any, ...], residuals: Any, cotangent: Any) -> list[Tensor | None]:
        """The cotangents of the arguments' array leaves."""
        assert self._bwd is not None
        fixed, moving = self.split(args)
        given = self._bwd(*fixed, residuals, cotangent)
        if not isinstance(given, (tuple, list)) or len(given) != len(moving):
            count = f"{len(given)} cotangents" if isinstance(given, (tuple, list)) else f"a {type(given).__name__}"
            raise StructureError(
                message(
                    f"the backward rule of {self.label} gives {count} for {len(moving)} arguments",
                    location=user_location(),
                    hint="Return a tuple with one cotangent for each argument that is not in nondiff_argnums; None is zero.",
                )
            )
        supply = iter(given)
        found: list[Tensor | None] = []
        for number, arg in enumerate(args):
            leaves = pytree.flatten(arg)[0]
            if number in self._nondiff:
                cts: list[Any] = [None] * len(leaves)
            else:
                cts = _by_leaf(next(supply), call.structures[number], leaves, call.paths[number], "cotangent")
            found += [ct for ct, is_array in zip(cts, call.arrays[number], strict=True) if is_array]
        return found


def custom_vjp(fun: Callable[..., Any] | None = None, nondiff_argnums: Sequence[int] = ()) -> Any:
    """A function whose derivative in reverse mode the user states; a decorator.

    Parameters
    ----------
    fun
        Takes arrays, numbers and containers of them, by position (keywords are put in order). It must be pure; what it uses
        from outside has no derivative, and may not require gradients.
    nondiff_argnums
        Arguments without a derivative: `bwd` gets them first.

    Returns
    -------
    The function with a method `defvjp(fwd, bwd)`. `fwd(*args)` gives `(result, residuals)`, `bwd(residuals, cotangent)` a tuple
    with a cotangent for each argument (None: zero). Both may call the function itself. Works dynamically and compiled, inside
    of loops and under `vmap`; forward mode transposes `bwd`, which must then be linear in the cotangent.

    Raises
    ------
    StructureError
        If the rule is missing, or gives something of another structure.
    GradientError
        If a cotangent has another shape or dtype than its argument.

    >>> import numpy as np, graphc as gx
    >>> @gx.custom_vjp
    ... def clipped(x):
    ...     return x
    >>> clipped.defvjp(lambda x: (x, None), lambda _, ct: (np.clip(ct, -1, 1),))
    >>> gx.grad(lambda x: (clipped(x) * np.array([5.0, 0.5])).sum())(np.array([1.0, 2.0]))
    array([1. , 0.5])
    """
    if fun is None:
        return partial(custom_vjp, nondiff_argnums=nondiff_argnums)
    return CustomVjp(fun, nondiff_argnums)


# -- forward mode ------------------------------------------------------------------------------------------------------------


class _JvpRule(_Rule):
    """By the rule for tangents, which is linear in them: reverse mode transposes it."""

    __slots__ = ()

    def jvp_graph(self, types: tuple[TensorType, ...]) -> Graph | None:
        """See `graphc.ops.custom.Rule`."""

        def run(xs: Sequence[Any], captures: Sequence[Any], ts: Sequence[Any]) -> list[Tensor]:
            return self.push(xs, ts)

        return self._graph(types, [t for t in types if t.dtype.is_inexact], run)

    def push(self, xs: Sequence[Tensor], ts: Sequence[Tensor]) -> list[Tensor]:
        """Tangents of the floating-point results from those of the floating-point leaves."""
        supply = iter(ts)
        tangents = self.call.trees([next(supply) if x.type.dtype.is_inexact else None for x in xs])
        return self.custom.forward(self.call.rebuild(xs), tangents)

    def pull(self, xs: Sequence[Tensor], cts: Sequence[Tensor], kept: Any) -> list[Tensor | None]:
        """Cotangents of the array leaves from those of the floating-point results."""
        zeros = [_zero(x) for x in xs if x.type.dtype.is_inexact]
        _, pull = vjp(lambda *ts: tuple(self.push(xs, ts)), *zeros)
        supply = iter(pull(tuple(cts)))
        return [next(supply) if x.type.dtype.is_inexact else None for x in xs]


class CustomJvp(_Custom):
    """A function with a forward rule. Made by `custom_jvp`."""

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        super().__init__(fun, nondiff_argnums, "custom_jvp")
        self._jvp: Callable[..., Any] | None = None

    def defjvp(self, jvp: Callable[..., Any]) -> Callable[..., Any]:
        """Give the rule; a decorator. `jvp(primals, tangents)` gives `(result, tangent of the result)` and is linear in the
        tangents. Arguments of `nondiff_argnums` are not among the primals and stand before them."""
        check_callable("defjvp", jvp)
        self._jvp = jvp
        return jvp

    def defjvps(self, *jvps: Callable[..., Any] | None) -> None:
        """Give the rule as one function `jvp(tangent, result, *primals)` for each argument (None: no derivative by it); their
        results are added up. The function gives one array."""
        for jvp in jvps:
            if jvp is not None:
                check_callable("defjvps", jvp)

        def rule(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
            result = self(*primals)
            terms = [
                jvp(t, result, *primals)
                for jvp, t in zip(jvps, tangents, strict=True)
                if jvp is not None and t is not None
            ]
            return result, sum(terms[1:], terms[0]) if terms else None

        self._jvp = rule

    def _check_defined(self) -> None:
        if self._jvp is None:
            raise StructureError(
                message(
                    f"the custom_jvp function {self.label} has no rule yet",
                    location=user_location(),
                    hint=f"Write @{self.label}.defjvp above a function of (primals, tangents) first.",
                )
            )

    def _rule(self, call: _Arguments, kinds: Sequence[Argument], results: tuple[TensorType, ...]) -> _Rule:
        return _JvpRule(self, call, tuple(kinds), results)

    def primal(self, args: Sequence[Any]) -> tuple[Any, Any]:
        """The result; nothing is kept."""
        return self._fun(*args), None

    def forward(self, args: tuple[Any, ...], tangents: tuple[Any, ...]) -> list[Tensor]:
        """The rule's tangents of the floating-point results."""
        assert self._jvp is not None
        fixed, moving = self.split(args)
        pair = self._jvp(*fixed, moving, self.split(tangents)[1])
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise StructureError(
                message(
                    f"the rule of {self.label} gives a pair (result, tangent of the result)",
                    operands=[("gives", sketch(pytree.flatten(pair)[2]))],
                    location=user_location(),
                    hint="Return two values of one structure.",
                )
            )
        leaves, paths, structure = pytree.flatten(pair[0])
        found = _by_leaf(pair[1], structure, leaves, paths, "tangent")
        return [t for t, y in zip(found, leaves, strict=True) if is_smooth(y)]


def custom_jvp(fun: Callable[..., Any] | None = None, nondiff_argnums: Sequence[int] = ()) -> Any:
    """A function whose derivative in forward mode the user states; a decorator. Reverse mode transposes it.

    Parameters
    ----------
    fun, nondiff_argnums
        As for `custom_vjp`.

    Returns
    -------
    The function with methods `defjvp(rule)`, where `rule(primals, tangents)` gives `(result, tangent)` and is linear in the
    tangents, and `defjvps`, which takes one rule for each argument.

    >>> import numpy as np, graphc as gx
    >>> @gx.custom_jvp
    ... def log1pexp(x):
    ...     return np.log(1 + np.exp(x))
    >>> @log1pexp.defjvp
    ... def rule(primals, tangents):
    ...     (x,), (t,) = primals, tangents
    ...     return log1pexp(x), t * (1 - 1 / (1 + np.exp(x)))
    >>> gx.grad(log1pexp)(np.float64(100.0)), gx.jvp(log1pexp, (0.0,), (1.0,))[1]
    (np.float64(1.0), np.float32(0.5))
    """
    if fun is None:
        return partial(custom_jvp, nondiff_argnums=nondiff_argnums)
    return CustomJvp(fun, nondiff_argnums)


# -- steps of the tape -------------------------------------------------------------------------------------------------------


class _Step(Op):
    """A call in dynamic mode as one step of the tape."""

    def differentiate(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any], attrs: Any
    ) -> Sequence[Any]:
        """By the rule on Tensors, or in a graph by its graph."""
        rule: Any = self.rule  # type: ignore[attr-defined]
        if isinstance(b, GraphBuilder):
            return registry.get("custom_call").differentiate(b, operands, results, cotangents, self._named())
        wrap, unwrap = world(b)
        whole = [
            b.like(y, 0.0) if ct is None else ct
            for y, ct in zip(results, cotangents, strict=True)
            if b.type(y).dtype.is_inexact
        ]
        # Under an outer differentiation what was kept must be on the tape, too: it is computed again.
        kept = None if isinstance(b, TensorBuilder) else self.kept  # type: ignore[attr-defined]
        found = rule.pull([wrap(x) for x in operands], [wrap(ct) for ct in whole], kept)
        return [None if ct is None else unwrap(ct) for ct in found]

    def push_forward(
        self, b: Builder, operands: Sequence[Any], results: Sequence[Any], tangents: Sequence[Any], attrs: Any
    ) -> Any:
        """By the rule on Tensors, if it is one for forward mode."""
        rule: Any = self.rule  # type: ignore[attr-defined]
        if isinstance(b, GraphBuilder) or not isinstance(rule, _JvpRule):
            return registry.get("custom_call").push_forward(b, operands, results, tangents, self._named())
        wrap, unwrap = world(b)
        whole = [
            b.like(x, 0.0) if t is None else t
            for x, t in zip(operands, tangents, strict=True)
            if b.type(x).dtype.is_inexact
        ]
        found = iter(rule.push([wrap(x) for x in operands], [wrap(t) for t in whole]))
        return [unwrap(next(found)) if b.type(y).dtype.is_inexact else None for y in results]

    def _named(self) -> dict[str, Any]:
        rule: Any = self.rule  # type: ignore[attr-defined]
        if rule.number is None:
            rule.number = rule_number(rule)
        return {"label": self.name, "rule": rule.number}
