"""`vmap`: a function of one example applied to many at once. Layer 5. Names and argument order follow JAX.

The function is traced once on the types of one example (`graphc.frontend.subtrace`), its graph is batched
(`graphc.ir.batching`), and the batched graph is applied op by op through the door of all ops: so the tape, an enclosing
trace and an enclosing vmap see ordinary ops, and all transformations nest.

Random numbers: each example draws what it would draw in a loop over the examples, from the same generator.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import BatchError, ShapeError, StateError, StructureError, message
from graphc.frontend import context, pytree
from graphc.frontend.axes import argument_names, axis_of, spread_axes
from graphc.frontend.promotion import as_tensor, describe, op
from graphc.frontend.replay import replay
from graphc.frontend.rewriting import operators
from graphc.frontend.rewriting.conversion import rewriting
from graphc.frontend.source import user_location
from graphc.frontend.streams import StreamState, advanced, example_states, made, stride_of
from graphc.frontend.subtrace import Argument, Result, Sub, Write, argument_of, in_kind, subtrace
from graphc.frontend.tensor import Tensor
from graphc.ir.batching import batch_graph
from graphc.ir.graph import Graph
from graphc.ir.op import GraphBuilder
from graphc.ir.types import TensorType

__all__ = ["vmap"]


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One leaf of the arguments: the value, the axis of the examples (None: the same for all), and its name."""

    value: Any
    axis: int | None
    path: str

    @property
    def static(self) -> bool:
        """Whether the function gets the leaf as it is."""
        return self.axis is None and not isinstance(self.value, (Tensor, np.ndarray))


def vmap(
    fun: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0, *, axis_size: int | None = None
) -> Callable[..., Any]:
    """A function that applies `fun` to many examples at once: as a loop over an axis of the arguments, but without one.

    Parameters
    ----------
    fun
        A function of one example: of arrays, numbers, and containers of these.
    in_axes
        The axis of the examples in each positional argument: a number for all, or a tuple with one entry for each argument. An
        entry may be a container like its argument, or a number for all in it. None: the argument is the same for all examples.
        Negative axes count from the last. Keyword arguments have the examples along axis 0.
    out_axes
        Where the examples' axis goes in the results: likewise a number, or a container like the result. None: the result must
        be the same for all examples, and is given once.
    axis_size
        The number of examples; needed only where no argument has an axis of them.

    Returns
    -------
    A function with the parameters of `fun`. What does not depend on the example is computed once.

    Raises
    ------
    StructureError
        If `in_axes` or `out_axes` do not fit the arguments or results.
    ShapeError
        If an axis does not exist, or numbers of examples differ.
    TracerConversionError
        If Python asks for a value (`x.item()`): there are many. Control flow (`if x > 0`) becomes part of the graph.
    StateError
        If the function writes to a tensor from outside: there would be a new value for each example.

    Notes
    -----
    Each example draws the random numbers that it would draw in a loop over the examples; where the number of draws depends on
    values, each example gets a stretch of 2**32 draws instead. Loops whose examples end at different times run as long as one
    of them does.

    >>> import numpy as np, graphc as gx
    >>> gx.vmap(np.dot)(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0], [7.0, 8.0]]))
    array([17., 53.])
    >>> gx.vmap(lambda x, w: x * w, in_axes=(0, None), out_axes=1)(np.arange(3.0), np.array([1.0, 10.0]))
    array([[ 0.,  1.,  2.],
           [ 0., 10., 20.]])
    """
    _check_function(fun, in_axes, axis_size)

    @functools.wraps(fun, updated=())
    def mapped(*args: Any, **kwargs: Any) -> Any:
        return _call(fun, in_axes, out_axes, axis_size, args, kwargs)

    return mapped


def _check_function(fun: Any, in_axes: Any, axis_size: Any) -> None:
    if not callable(fun):
        what = f"vmap takes a function, not {fun!r}"
    elif not (in_axes is None or type(in_axes) is int or isinstance(in_axes, (tuple, list))):
        what = f"in_axes is an integer, None, or a tuple with an entry for each argument, not {in_axes!r}"
    elif not (axis_size is None or (type(axis_size) is int and axis_size >= 0)):
        what = f"axis_size is a number of examples, not {axis_size!r}"
    else:
        return
    raise StructureError(
        message(what, location=user_location(), hint="Write vmap(f), vmap(f, in_axes=1) or vmap(f, in_axes=(0, None)).")
    )


def _call(
    fun: Callable[..., Any],
    in_axes: Any,
    out_axes: Any,
    axis_size: int | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    leaves, structure = _leaves(fun, in_axes, args, kwargs)
    size = _size(leaves, axis_size)
    given = [leaf for leaf in leaves if not leaf.static]
    operands = [_in_front(as_tensor(leaf.value), leaf.axis) for leaf in given]
    arguments = [_argument(leaf, x) for leaf, x in zip(given, operands, strict=True)]
    before = made()
    sub = _traced(fun, leaves, structure, arguments)
    strides = _strides(sub, before)
    flags = [leaf.axis is not None for leaf in given] + [k in strides for k in range(len(sub.captures))]
    flags += [False] * sub.effects
    captures = [example_states(x, size, strides[k]) if k in strides else x for k, x in enumerate(sub.captures)]
    batched = _batched(sub, flags, size)
    results = replay(batched.graph, [*operands, *captures, *[None] * sub.effects])
    for write in sub.writes:
        _write(sub, write, size, strides.get(write.capture), results[write.index])
    return _wrap(sub, results, batched.flags, out_axes, size)


def _name_of(fun: Any) -> str:
    return getattr(fun, "__name__", type(fun).__name__)


# -- arguments ------------------------------------------------------------------------------------------------------------


def _leaves(
    fun: Callable[..., Any], in_axes: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[_Leaf], pytree.Structure]:
    """The leaves of all arguments, with their axes."""
    if isinstance(in_axes, (tuple, list)) and len(in_axes) != len(args):
        raise StructureError(
            message(
                f"vmap: in_axes has length {len(in_axes)}, and there are {len(args)} positional arguments",
                operands=[("in_axes", repr(in_axes))],
                location=user_location(),
                hint="Give one entry for each positional argument; None for those that are the same for all examples.",
            )
        )
    found: list[_Leaf] = []
    names = argument_names(fun, len(args))
    for k, (name, arg) in enumerate(zip(names, args, strict=True)):
        own = in_axes[k] if isinstance(in_axes, (tuple, list)) else in_axes
        values, paths, structure = pytree.flatten(arg, name)
        what = f"in_axes[{k}]" if isinstance(in_axes, (tuple, list)) else "in_axes"
        axes = spread_axes(what, own, structure, name)
        found += [_leaf(v, a, p) for v, a, p in zip(values, axes, paths, strict=True)]
    values, paths, _ = pytree.flatten({name: kwargs[name] for name in kwargs})
    found += [_leaf(v, 0, p.removeprefix("['").replace("']", "", 1)) for v, p in zip(values, paths, strict=True)]
    return found, pytree.flatten((args, kwargs))[2]


def _leaf(value: Any, axis: int | None, path: str) -> _Leaf:
    if axis is None or value is None:
        return _Leaf(value, None, path)
    if not isinstance(value, (Tensor, np.ndarray, np.generic, bool, int, float, complex)):
        raise StructureError(
            message(
                f"vmap: {path} is a {type(value).__name__}, which has no axis of examples",
                operands=[(path, repr(value)[:60])],
                location=user_location(),
                hint="Say with in_axes that it is the same for all examples: in_axes=(0, None).",
            )
        )
    rank = len(value.shape) if isinstance(value, (Tensor, np.ndarray)) else 0
    return _Leaf(value, axis_of("in_axes", axis, rank, path, describe(value)), path)


def _size(leaves: Sequence[_Leaf], axis_size: int | None) -> Any:
    """The number of examples, which all mapped leaves have."""
    mapped = [(leaf, leaf.value.shape[leaf.axis]) for leaf in leaves if leaf.axis is not None]
    sizes = [size for _, size in mapped] + ([] if axis_size is None else [axis_size])
    if not sizes:
        raise StructureError(
            message(
                "vmap: no argument has an axis of examples, so their number is not known",
                location=user_location(),
                hint="Give axis_size, or in_axes that are not all None.",
            )
        )
    if any(size != sizes[0] for size in sizes):
        operands: list[tuple[str, object]] = [
            (leaf.path, f"{describe(leaf.value)}, axis {leaf.axis} has size {size}") for leaf, size in mapped
        ]
        raise ShapeError(
            message(
                "vmap: arguments have different numbers of examples",
                operands=operands + ([] if axis_size is None else [("axis_size", axis_size)]),
                location=user_location(),
                hint="Use in_axes to say which axis holds the examples, None for what is the same for all.",
            )
        )
    return sizes[0]


def _in_front(x: Tensor, axis: int | None) -> Tensor:
    """The examples' axis first."""
    if not axis:
        return x
    return op("transpose", x, perm=(axis, *(a for a in range(len(x.shape)) if a != axis)))


def _argument(leaf: _Leaf, operand: Tensor) -> Argument:
    like = argument_of(leaf.value, leaf.path)
    type_ = operand.type if leaf.axis is None else TensorType(operand.type.dtype, operand.type.shape[1:])
    return Argument(type_, like.kind, like.weak and leaf.axis is None, leaf.path)


def _traced(
    fun: Callable[..., Any], leaves: Sequence[_Leaf], structure: pytree.Structure, arguments: Sequence[Argument]
) -> Sub:
    """The graph of `fun` for one example; with its control flow rewritten if it asks for a value that is mapped."""
    name = f"{_name_of(fun)} under vmap"
    try:
        return subtrace(_body(fun, leaves, structure), arguments, name=name, rewrites=True)
    except context.RewriteNeeded:
        if context.trace.get() is not None:
            raise  # the outermost trace begins anew
    with rewriting(operators):
        return subtrace(_body(fun, leaves, structure), arguments, name=name)


def _body(fun: Callable[..., Any], leaves: Sequence[_Leaf], structure: pytree.Structure) -> Callable[..., Any]:
    """`fun` on the handles of the leaves that are not static. Writing to an argument is an error."""

    def body(*handles: Any) -> Any:
        supply = iter(handles)
        values = [h._value for h in handles]
        args, kwargs = pytree.unflatten(structure, [leaf.value if leaf.static else next(supply) for leaf in leaves])
        result = context.rewritten(fun)(*args, **kwargs)
        trace = context.trace.get()
        assert trace is not None
        paths = [leaf.path for leaf in leaves if not leaf.static]
        for handle, value, path in zip(handles, values, paths, strict=True):
            if trace.value_of(handle) is not value:
                raise StateError(
                    message(
                        f"vmap: the function writes to its argument {path}",
                        operands=[(path, handle.type)],
                        location=user_location(),
                        hint="Copy it first (x = x.copy()), or return the new value.",
                    )
                )
        return result

    return body


# -- state ----------------------------------------------------------------------------------------------------------------


def _strides(sub: Sub, before: int) -> dict[int, int]:
    """The captures that are states of generators from outside, with the streams that one example takes."""
    found = {}
    for write in sub.writes:
        tensor = sub.captures[write.capture]
        if not isinstance(tensor, StreamState):
            raise StateError(
                message(
                    "vmap: the function writes to a tensor from outside; there would be one new value for each example",
                    operands=[("tensor", tensor.type)],
                    location=user_location(),
                    hint="Return the new value, and write it outside of vmap (of a layer that keeps statistics: after eval()).",
                )
            )
        if tensor.serial < before:
            state = sub.arguments + write.capture
            found[write.capture] = stride_of(sub.graph, state, sub.graph.outputs[write.index])
    return found


def _write(sub: Sub, write: Write, size: Any, stride: int | None, new: Tensor | None) -> None:
    """A generator goes on after the draws of all examples."""
    state = sub.captures[write.capture]
    with context.no_grad():
        after = new if stride is None else advanced(state, size, stride)
        assert after is not None
        state.assign(after)


# -- results --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Batched:
    graph: Graph
    flags: tuple[bool, ...]


def _batched(sub: Sub, flags: list[bool], size: Any) -> _Batched:
    try:
        return _Batched(*batch_graph(GraphBuilder(), sub.graph, flags, size))
    except BatchError as error:
        raise error.at(user_location()) from None


def _wrap(sub: Sub, results: Sequence[Tensor | None], flags: Sequence[bool], out_axes: Any, size: Any) -> Any:
    """The results with the examples' axis where `out_axes` wants it."""
    axes = spread_axes("out_axes", out_axes, sub.structure, "the result")
    leaves: list[Any] = []
    for result, path, axis in zip(sub.results, sub.paths, axes, strict=True):
        if result.index is None:
            leaves.append(result.value)
            continue
        tensor = results[result.index]
        assert tensor is not None
        leaves.append(_leaf_of(tensor, result, flags[result.index], axis, f"the result{path}", size))
    return pytree.unflatten(sub.structure, leaves)


def _leaf_of(tensor: Tensor, result: Result, batched: bool, axis: int | None, name: str, size: Any) -> Any:
    if axis is None:
        if batched:
            raise StructureError(
                message(
                    f"vmap: out_axes is None for {name}, which differs between examples",
                    operands=[(name, tensor.type)],
                    location=user_location(),
                    hint="Give the axis for the examples in out_axes, or reduce over them outside of vmap.",
                )
            )
        return in_kind(tensor, result.kind, weak=result.weak)
    rank = len(tensor.shape) + (not batched)
    place = axis_of("out_axes", axis, rank, name, tensor.type)
    if not batched:
        tensor = op("broadcast", tensor, shape=(size, *tensor.shape))
    if place:
        tensor = op("transpose", tensor, perm=(*range(1, place + 1), 0, *range(place + 1, rank)))
    return _writable(in_kind(tensor, result.kind))


def _writable(x: Any) -> Any:
    """Repeated values and constants are no array that the caller could write to."""
    return x.copy() if isinstance(x, np.ndarray) and not x.flags.writeable else x
