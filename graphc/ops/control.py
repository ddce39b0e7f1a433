"""Control: branches, loops and the first token. Layer 2.

Held graphs are closed: operand i is input i, captures included. Effects (`graphc.ops.host`) are ordered by tokens; a token
is passed in and a new one comes out. The evaluation of a token is None.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.dtypes import bool_, int64
from graphc.errors import ShapeError
from graphc.ir.dims import Dim
from graphc.ir.graph import Graph
from graphc.ir.op import Control, run_graph, type_error
from graphc.ir.registry import register
from graphc.ir.types import TOKEN, TensorType, Type
from graphc.ops.batched_control import batch_cond, batch_scan, batch_while
from graphc.ops.control_derivatives import cond_jvp, cond_vjp, scan_jvp, scan_vjp, while_jvp, while_vjp
from graphc.ops.pruning import prune_cond, prune_scan, prune_while

__all__ = ["cond", "create_token", "scan", "while_loop"]

Array = NDArray[Any]
PREDICATE = TensorType(bool_, ())
COUNT = TensorType(int64, ())


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
        vjp=cond_vjp,
        jvp=cond_jvp,
        prune=prune_cond,
    )
)


def _split(name: str, role: str, body: Graph, operands: tuple[Type, ...]) -> tuple[Type, ...]:
    """The types of a loop's carries: its first operands, of the types that its body gives."""
    carries = _output_types(body)
    if operands[: len(carries)] != carries:
        raise ShapeError(
            type_error(name, f"`{role}` must keep the types of the carries, gives {_types(carries)}", operands)
        )
    if TOKEN in operands[len(carries) :]:
        raise ShapeError(type_error(name, "a token must be a carry", operands))
    return carries


def _while_rule(*operands: Type, cond: Graph, body: Graph) -> tuple[Type, ...]:
    if _output_types(_check_body("while_loop", "cond", cond, operands)) != (PREDICATE,):
        raise ShapeError(f"while_loop: `cond` must give one {PREDICATE}, gives {_types(_output_types(cond))}")
    return (*_split("while_loop", "body", _check_body("while_loop", "body", body, operands), operands), COUNT)


def _while_numpy(*operands: Array, cond: Graph, body: Graph) -> tuple[Array, ...]:
    carries, constants = operands[: len(body.outputs)], operands[len(body.outputs) :]
    steps = 0
    while run_graph(cond, (*carries, *constants))[0]:
        carries = run_graph(body, (*carries, *constants))
        steps += 1
    return (*carries, np.asarray(steps, np.int64))


while_loop = register(
    Control(
        name="while_loop",
        doc="""carries = body(*carries, *constants) as long as cond(*carries, *constants) holds. The first operands are the
        carries, as many as `body` gives; the others stay the same. The results are the last carries (the operands
        themselves if `cond` never holds), then how often `body` ran.""",
        attributes=("cond", "body"),
        rule=_while_rule,
        numpy=_while_numpy,
        batching=batch_while,
        vjp=while_vjp,
        jvp=while_jvp,
        prune=prune_while,
    )
)


def _scan_rule(
    *operands: Type, body: Graph, carries: int, stacked: int, length: Dim, reverse: bool
) -> tuple[Type, ...]:
    sequences = operands[carries : carries + stacked]
    if min(carries, stacked) < 0 or carries + stacked > len(operands):
        raise ShapeError(type_error("scan", f"has no {carries} carries and {stacked} sequences", operands))
    if isinstance(length, int) and length < 0:
        raise ShapeError(f"scan: the length is {length}")
    for x in sequences:
        if not isinstance(x, TensorType) or not x.shape or x.shape[0] != length:
            raise ShapeError(type_error("scan", f"the first axis of {x} must have the length {length}", operands))
    elements = tuple(TensorType(x.dtype, x.shape[1:]) for x in sequences if isinstance(x, TensorType))
    inner = (*operands[:carries], *elements, *operands[carries + stacked :])
    results = _output_types(_check_body("scan", "body", body, inner))
    if results[:carries] != inner[:carries]:
        raise ShapeError(
            type_error("scan", f"`body` must keep the types of the carries, gives {_types(results)}", inner)
        )
    stacks = results[carries:]
    if TOKEN in (*inner[carries:], *stacks):
        raise ShapeError(type_error("scan", "a token must be a carry", operands))
    return (*results[:carries], *(TensorType(y.dtype, (length, *y.shape)) for y in stacks if isinstance(y, TensorType)))


def _scan_numpy(
    *operands: Array, body: Graph, carries: int, stacked: int, length: int, reverse: bool
) -> tuple[Array, ...]:
    state, sequences = operands[:carries], operands[carries : carries + stacked]
    constants = operands[carries + stacked :]
    types = [v.tensor for v in body.outputs[carries:]]
    stacks = [np.empty((length, *t.shape), t.dtype.numpy) for t in types]  # type: ignore[type-var]
    for t in range(length - 1, -1, -1) if reverse else range(length):
        outputs = run_graph(body, (*state, *(x[t, ...] for x in sequences), *constants))
        state = outputs[:carries]
        for stack, y in zip(stacks, outputs[carries:], strict=True):
            stack[t] = y
    return (*state, *stacks)


scan = register(
    Control(
        name="scan",
        doc="""For t = 0, 1, ..., length - 1 (backwards with `reverse`): (carries, y[t]) = body(carries, x[t], constants).
        Of the operands the first `carries` are carries, the next `stacked` the sequences x, whose first axis has `length`
        elements, and the others stay the same. The results are the last carries, then the stacked ys.""",
        attributes=("body", "carries", "stacked", "length", "reverse"),
        rule=_scan_rule,
        numpy=_scan_numpy,
        batching=batch_scan,
        vjp=scan_vjp,
        jvp=scan_jvp,
        prune=prune_scan,
    )
)
