"""The emitter of the schedule "loop": a fused body through the kernel loop IR. Layer 4, codegen."""

from __future__ import annotations

from collections.abc import Mapping

from graphc.codegen.emit import emit_kernel
from graphc.codegen.emitted import Argument, Emitted
from graphc.codegen.expand import expand
from graphc.codegen.kernel import Group
from graphc.ir.graph import Graph
from graphc.target import Target

__all__ = ["emit_group", "emit_loop"]


def emit_loop(name: str, body: Graph, aliases: Mapping[int, int], target: Target, *, contract: bool) -> Emitted:
    """Write the kernel of a body of pointwise ops, movements and reductions; `aliases[result] = operand` is in place."""
    return emit_group(name, expand(body, aliases), body, aliases, target, contract=contract)


def emit_group(
    name: str, group: Group, body: Graph, aliases: Mapping[int, int], target: Target, *, contract: bool
) -> Emitted:
    """Write the kernel of a group whose buffers are the body's inputs and those of its outputs that have their own."""
    kernel = emit_kernel(name, group, target, contract=contract)
    pointers = [Argument("operand", i) for i in range(len(body.inputs))]
    pointers += [Argument("result", i) for i in range(len(body.outputs)) if i not in aliases]
    scratch = [] if kernel.scratch_bytes == 0 else [Argument("scratch")]
    return Emitted(
        functions={f"@{name}": kernel.text},
        declarations=kernel.declarations,
        arguments=(*pointers, *scratch, *(Argument("size", i) for i in kernel.symbols)),
        scratch_bytes=kernel.scratch_bytes,
        flops=kernel.flops,
        bytes=kernel.bytes,
        tree=kernel.tree,
    )
