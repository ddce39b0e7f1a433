"""Example arguments from text, for the command line. Layer 7.

`x=f32[64, 784], params={'w': f32[784, 10]}, lr=0.1` is read as the arguments of a Python call in which `dtype[sizes]` is an
array. Nothing is evaluated: the text is parsed and only these forms are accepted.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dtypes import DType
from graphc.errors import DTypeError, ParseError, message
from graphc.ir.dims import evaluate, symbols_of
from graphc.ir.graph import Graph
from graphc.ir.types import TensorType

__all__ = ["arguments", "graph_inputs", "random_array", "sizes"]

_HINT = "Write for example: x=f32[64, 784], y=i64[64], lr=0.1"
_EMPTY = re.compile(r"\b([a-z]\w*)\[\s*\]")


def arguments(text: str, seed: int = 0) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments.

    Arrays of floats are standard normal, seeded; integers and bools are zero, so that they are legal indices.

    Raises
    ------
    ParseError
        If the text has another form.

    >>> arguments("i32[2], n=3, flag=True")
    ([array([0, 0], dtype=int32)], {'n': 3, 'flag': True})
    """
    source = "f(" + _EMPTY.sub(r"\1[()]", text) + ")"
    try:
        call = ast.parse(source, mode="eval").body
    except SyntaxError as fault:
        raise _error(f"cannot read the arguments {text!r}: {fault.msg}") from None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise _error(f"cannot read the arguments {text!r}")
    rng = np.random.default_rng(seed)
    positional = [_value(node, rng) for node in call.args]
    named: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            raise _error("** is not allowed in example arguments")
        if keyword.arg in named:
            raise _error(f"the argument {keyword.arg} is given twice")
        named[keyword.arg] = _value(keyword.value, rng)
    return positional, named


def sizes(text: str) -> dict[int, int]:
    """Values of symbolic sizes, by index: `s0=8, s1=3`."""
    found = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        match = re.fullmatch(r"s(\d+)\s*=\s*(\d+)", part)
        if match is None:
            raise ParseError(message(f"cannot read the size {part!r}", hint="Write for example: s0=8, s1=3"))
        found[int(match[1])] = int(match[2])
    return found


def random_array(dtype: DType, shape: Sequence[int], rng: np.random.Generator) -> Any:
    """Standard normal floats; integers and bools are zero."""
    if dtype.is_float:
        return np.asarray(rng.standard_normal(tuple(shape)), dtype=dtype.numpy)
    return np.zeros(tuple(shape), dtype.numpy)


def graph_inputs(
    graph: Graph, given: Mapping[str, Any], symbols: Mapping[int, int], seed: int = 0, default_size: int = 4
) -> list[Any]:
    """An array for each input of a graph: from `given` by name, else random; None for tokens.

    Symbolic sizes are those of `symbols`, else those that given arrays have, else `default_size`.

    Raises
    ------
    ParseError
        If `given` has a name that the graph has not.
    """
    names = graph.names or tuple(f"input{i}" for i in range(len(graph.inputs)))
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ParseError(message(f"the graph has no input {', '.join(unknown)}", hint=f"It has {', '.join(names)}."))
    known = dict(symbols)
    for name, type_ in zip(names, graph.inputs, strict=True):
        if name in given and isinstance(type_, TensorType):
            for dim, size in zip(type_.shape, np.shape(given[name]), strict=False):
                found = re.fullmatch(r"s(\d+)", str(dim))
                if found is not None:
                    known.setdefault(int(found[1]), size)
    rng = np.random.default_rng(seed)
    arrays: list[Any] = []
    for name, type_ in zip(names, graph.inputs, strict=True):
        if name in given:
            arrays.append(given[name])
        elif isinstance(type_, TensorType):
            bound = {s.index: known.get(s.index, default_size) for d in type_.shape for s in symbols_of(d)}
            arrays.append(random_array(type_.dtype, [evaluate(d, bound) for d in type_.shape], rng))
        else:
            arrays.append(None)
    return arrays


def _value(node: ast.expr, rng: np.random.Generator) -> Any:
    """One argument; recursion is over the text's nesting."""
    if isinstance(node, ast.Subscript):
        return _array(node, rng)
    if isinstance(node, ast.Dict):
        keys = [_literal(key) for key in node.keys]
        return dict(zip(keys, [_value(v, rng) for v in node.values], strict=True))
    if isinstance(node, ast.List):
        return [_value(item, rng) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item, rng) for item in node.elts)
    return _literal(node)


def _literal(node: ast.expr | None) -> Any:
    try:
        return ast.literal_eval(node)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        shown = "**" if node is None else ast.unparse(node)
        raise _error(f"{shown!r} is neither an array nor a literal") from None


def _array(node: ast.Subscript, rng: np.random.Generator) -> Any:
    shown = ast.unparse(node)
    if not isinstance(node.value, ast.Name):
        raise _error(f"{shown!r} is not an array")
    shape = _literal(node.slice)
    shape = shape if isinstance(shape, tuple) else (shape,)
    if not all(type(size) is int and size >= 0 for size in shape):
        raise _error(f"the sizes of {shown!r} must be non-negative integers")
    return random_array(_dtype(node.value.id), shape, rng)


def _dtype(name: str) -> DType:
    """By the IR's or by NumPy's name."""
    for dtype in dtypes.ALL:
        if name in (dtype.name, dtype.label):
            return dtype
    raise DTypeError(f"unknown dtype {name!r}; known are {', '.join(d.name for d in dtypes.ALL)}")


def _error(what: str) -> ParseError:
    return ParseError(message(what, hint=_HINT))
