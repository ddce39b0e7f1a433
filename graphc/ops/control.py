"""Control: branches, loops and the first token. Layer 2.

Held graphs are closed: operand i is input i, captures included. Effects (`graphc.ops.host`) are ordered by tokens; a token
is passed in and a new one comes out. The evaluation of a token is None.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from graphc.dtypes import bool_
from graphc.errors import ShapeError
from graphc.ir.graph import Graph
from graphc.ir.op import Control, run_graph, type_error
from graphc.ir.registry import register
from graphc.ir.types import TOKEN, TensorType, Type
from graphc.ops.batched_control import batch_cond, batch_while

__all__ = ["cond", "create_token", "while_loop"]

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


# -- tokens -----------------------------------------------------------------------------------------------------------

create_token = register(
    Control(
        name="create_token",
        doc="The first effect token of a graph.",
        rule=lambda: (TOKEN,),
        numpy=lambda: None,
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
        batching=batch_cond,
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
        batching=batch_while,
    )
)
