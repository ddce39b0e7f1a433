"""The emitter of scatter-add. Layer 4, codegen."""

from __future__ import annotations

from collections.abc import Mapping

from graphc.codegen.emitted import Emitted
from graphc.codegen.expand import expand_scatter_add
from graphc.codegen.loop import emit_group
from graphc.ir.graph import Graph
from graphc.target import Target

__all__ = ["emit_scatter"]


def emit_scatter(name: str, body: Graph, aliases: Mapping[int, int], target: Target, *, contract: bool) -> Emitted:
    """Write the kernel of a body that is one scatter_add; over its first operand if `aliases` says so."""
    node = body.outputs[0].node
    types = [v.tensor for v in node.operands]
    group = expand_scatter_add(types, node.attrs["axis"], node.attrs["mode"], aliased=0 in aliases)
    return emit_group(name, group, body, aliases, target, contract=contract)
