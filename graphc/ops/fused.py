"""Nodes that hold a graph: kernels of the schedule and named compositions. Layer 2."""

from __future__ import annotations

from graphc.ir.op import Composite, Fused
from graphc.ir.registry import register

__all__ = ["composite", "fused"]

fused = register(
    Fused(
        name="fused",
        doc="""The results of the closed graph `body` on the operands, computed by one kernel; `schedule` names the
        emitter.""",
    )
)

composite = register(
    Composite(
        name="composite",
        doc="""The results of the closed graph `body` on the operands; `label` names what it is (`softmax`). May be
        inlined.""",
    )
)
