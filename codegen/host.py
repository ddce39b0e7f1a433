"""Host calls: native code calls Python. Layer 4, codegen.

The table of sizes has, behind the symbols, the address of one function of the runtime:

    i64 callback(i64 number, ptr pointers, ptr sizes)

`number` is an index into `Artifact.hosts`, `pointers` a table of the operands' and results' addresses. It gives 0, or the
status `HOST_FAILED`, at which the graph ends.
"""

from __future__ import annotations

from graphc.artifact import CALLBACK, HostCall
from graphc.codegen.emitted import Argument, Emitted
from graphc.codegen.text import Function
from graphc.errors import CompileError
from graphc.ir.graph import Node
from graphc.ir.op import Host
from graphc.ir.types import TensorType, Type

__all__ = ["emit_host", "host_call_of", "host_label"]


def host_label(node: Node) -> str:
    """What names a host call in an artifact, which keeps no source lines: the caller finds it in its own trace."""
    assert isinstance(node.op, Host)
    name, keywords = node.op.function(**node.attrs)
    types = ", ".join(str(v.type) for v in node.operands if isinstance(v.type, TensorType))
    return f"{node.op.name} {name} {dict(keywords)} ({types})"


def host_call_of(node: Node) -> HostCall:
    """The artifact's entry for a node."""
    assert isinstance(node.op, Host)
    name, keywords = node.op.function(**node.attrs)
    return HostCall(
        function=name,
        keywords=tuple(sorted(keywords.items())),
        operands=tuple(_buffer(v.type) for v in node.operands if isinstance(v.type, TensorType)),
        results=tuple(_buffer(t) for t in node.types if isinstance(t, TensorType)),
        node=host_label(node),
    )


def _buffer(type_: Type) -> tuple[str, tuple[int | str, ...]]:
    assert isinstance(type_, TensorType)
    return type_.dtype.name, tuple(d if isinstance(d, int) else str(d) for d in type_.shape)


def emit_host(name: str, node: Node, number: int, symbols: int) -> Emitted:
    """Write the function of a host call.

    Parameters
    ----------
    name
        The function's name.
    node
        The node.
    number
        Its entry in the artifact's table.
    symbols
        How many symbols the table of sizes has.
    """
    if not isinstance(node.op, Host):
        raise CompileError(f"{node.op.name} is no host call")
    operands = [Argument("operand", i) for i, v in enumerate(node.operands) if isinstance(v.type, TensorType)]
    results = [Argument("result", i) for i, t in enumerate(node.types) if isinstance(t, TensorType)]
    pointers = [f"%p{i}" for i in range(len(operands) + len(results))]
    f = Function("i64", f"@{name}", [*(f"ptr {p}" for p in pointers), "ptr %sizes"])
    table = f.emit(f"alloca ptr, i64 {max(1, len(pointers))}, align 8")
    for slot, pointer in enumerate(pointers):
        place = f.emit(f"getelementptr ptr, ptr {table}, i64 {slot}")
        f.do(f"store ptr {pointer}, ptr {place}, align 8")
    place = f.emit(f"getelementptr i64, ptr %sizes, i64 {symbols + CALLBACK}")
    callback = f.emit(f"load ptr, ptr {place}, align 8")
    status = f.emit(f"call i64 {callback}(i64 {number}, ptr {table}, ptr %sizes)")
    return Emitted(
        functions={f"@{name}": f.finish(f"ret i64 {status}")},
        declarations={},
        arguments=(*operands, *results, Argument("sizes")),
        scratch_bytes=0,
        flops=0,
        bytes=0,
        tree=f"host call {number}: {node.op.function(**node.attrs)[0]}",
        fallible=True,
    )
