"""Control: branches, loops and effects. Layer 2.

Held graphs are closed: operand i is input i, captures included. Effects are ordered by tokens; a token is passed in and a
new one comes out. The evaluation of a token is None.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc import dtypes
from graphc.dtypes import bool_
from graphc.errors import DTypeError, InterpreterError, ShapeError
from graphc.ir.graph import Graph
from graphc.ir.op import Control, run_graph, type_error
from graphc.ir.registry import register
from graphc.ir.types import TOKEN, TensorType, TokenType, Type

__all__ = ["cond", "create_token", "debug_print", "host_call", "resolve", "while_loop"]

Array = NDArray[Any]
PREDICATE = TensorType(bool_, ())


def _types(types: tuple[Type, ...]) -> str:
    return f"({', '.join(map(str, types))})"


def _check_body(name: str, role: str, body: Any, operands: tuple[Type, ...]) -> Graph:
    if not isinstance(body, Graph):
        raise ShapeError(f"{name}: `{role}` must be a Graph, not {type(body).__name__}")
    if body.inputs != operands:
        raise ShapeError(type_error(name, f"`{role}` takes {_types(body.inputs)}", operands))
    return body


def _output_types(graph: Graph) -> tuple[Type, ...]:
    return tuple(v.type for v in graph.outputs)


# -- effects ----------------------------------------------------------------------------------------------------------

create_token = register(
    Control(
        name="create_token",
        doc="The first effect token of a graph.",
        rule=lambda: (TOKEN,),
        numpy=lambda: None,
    )
)


def _debug_print_rule(*operands: Type, label: str) -> tuple[Type, ...]:
    if len(operands) != 2 or operands[0] != TOKEN or not isinstance(operands[1], TensorType):
        raise ShapeError(type_error("debug_print", "takes a token and a tensor", operands))
    return (TOKEN,)


def _debug_print_numpy(token: None, x: Array, label: str) -> None:
    sys.stdout.write(f"{label}{np.array2string(x)}\n")


debug_print = register(
    Control(
        name="debug_print",
        doc="""Writes `label` and the array x (operand 1) to standard output; ordered by the token (operand 0) it
        takes and gives.""",
        attributes=("label",),
        rule=_debug_print_rule,
        numpy=_debug_print_numpy,
        effect=True,
    )
)


def resolve(function: str) -> Any:
    """The Python object that `module:qualified.name` names."""
    module, _, qualified = function.partition(":")
    try:
        found: Any = import_module(module)
        for part in qualified.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise InterpreterError(f"host_call: cannot find {function!r} (module:name): {error}") from error
    return found


def _host_call_rule(*operands: Type, function: str, types: tuple[Type, ...]) -> tuple[Type, ...]:
    if not operands or operands[0] != TOKEN or any(isinstance(t, TokenType) for t in operands[1:]):
        raise ShapeError(type_error("host_call", "takes a token, then tensors", operands))
    if function.count(":") != 1:
        raise ShapeError(f"host_call: function must be module:name, not {function!r}")
    if not all(isinstance(t, TensorType) for t in types):
        raise DTypeError("host_call: types must be types of tensors")
    return (TOKEN, *types)


def _host_call_numpy(token: None, *xs: Array, function: str, types: tuple[TensorType, ...]) -> tuple[Any, ...]:
    returned = resolve(function)(*xs)
    results = returned if isinstance(returned, tuple) else () if returned is None else (returned,)
    if len(results) != len(types):
        raise InterpreterError(f"host_call: {function} gave {len(results)} results, declared are {len(types)}")
    arrays = [np.asarray(r) for r in results]
    for array, expected in zip(arrays, types, strict=True):
        found = TensorType(dtypes.from_numpy(array.dtype), tuple(array.shape))
        if found != expected:
            raise InterpreterError(f"host_call: {function} gave {found}, declared is {expected}")
    return (None, *arrays)


host_call = register(
    Control(
        name="host_call",
        doc="""Calls the Python function `module:name` on the arrays after the token (operand 0); results are a token
        and the function's results, a tuple of arrays of exactly the declared `types` (None for no types, an array for
        one).""",
        attributes=("function", "types"),
        rule=_host_call_rule,
        numpy=_host_call_numpy,
        effect=True,
        fallible=True,
    )
)


# -- branches and loops -----------------------------------------------------------------------------------------------


def _cond_rule(*operands: Type, then: Graph, else_: Graph) -> tuple[Type, ...]:
    if not operands or operands[0] != PREDICATE:
        raise ShapeError(type_error("cond", f"the predicate must be {PREDICATE}", operands))
    results = [
        _output_types(_check_body("cond", role, g, operands[1:])) for role, g in (("then", then), ("else_", else_))
    ]
    if results[0] != results[1]:
        raise ShapeError(f"cond: the branches give {_types(results[0])} and {_types(results[1])}")
    return results[0]


def _cond_numpy(predicate: Array, *captures: Array, then: Graph, else_: Graph) -> tuple[Array, ...]:
    return run_graph(then if predicate else else_, captures)


cond = register(
    Control(
        name="cond",
        doc="""The results of `then` on operands 1.. where operand 0 (bool[]) holds, else those of `else_`; only one
        is run.""",
        attributes=("then", "else_"),
        rule=_cond_rule,
        numpy=_cond_numpy,
    )
)


def _while_rule(*operands: Type, cond: Graph, body: Graph) -> tuple[Type, ...]:
    if _output_types(_check_body("while_loop", "cond", cond, operands)) != (PREDICATE,):
        raise ShapeError(f"while_loop: `cond` must give one {PREDICATE}, gives {_types(_output_types(cond))}")
    if _output_types(_check_body("while_loop", "body", body, operands)) != operands:
        raise ShapeError(
            type_error("while_loop", f"`body` must keep its types, gives {_types(_output_types(body))}", operands)
        )
    return operands


def _while_numpy(*carries: Array, cond: Graph, body: Graph) -> tuple[Array, ...]:
    while run_graph(cond, carries)[0]:
        carries = run_graph(body, carries)
    return carries


while_loop = register(
    Control(
        name="while_loop",
        doc="""carries = body(*carries) as long as cond(*carries) holds; the results are the last carries, the
        operands themselves if it never holds. Captures are carries that the body passes through.""",
        attributes=("cond", "body"),
        rule=_while_rule,
        numpy=_while_numpy,
    )
)
