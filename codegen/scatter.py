"""The emitter of ops that scatter. Layer 4, codegen."""

from __future__ import annotations

from collections.abc import Mapping

from graphc.codegen.emitted import Emitted
from graphc.codegen.expand import expand_scatter
from graphc.codegen.loop import emit_group
from graphc.ir.graph import Graph
from graphc.ir.op import Indexing
from graphc.target import Target

__all__ = ["emit_scatter"]


def emit_scatter(name: str, body: Graph, aliases: Mapping[int, int], target: Target, *, contract: bool) -> Emitted:
    """Write the kernel of a body that is one scattering op; over its first operand if `aliases` says so."""
    node = body.outputs[0].node
    assert isinstance(node.op, Indexing) and node.op.combine is not None
    types = [v.tensor for v in node.operands]
    group = expand_scatter(types, node.attrs["axis"], node.attrs["mode"], node.op.combine, aliased=0 in aliases)
    return emit_group(name, group, body, aliases, target, contract=contract)
