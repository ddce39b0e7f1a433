"""The primitive ops. Layer 2. Importing this package declares them all: it fills `graphc.ir.registry`."""

from __future__ import annotations

from graphc.ops import (
    arithmetic,
    contraction,
    control,
    conversion,
    convolution,
    cumulative,
    division,
    fused,
    host,
    indexing,
    linalg,
    logic,
    movement,
    random,
    reduction,
    resampling,
    sorting,
    special,
    transcendental,
    windows,
)

__all__ = [
    "arithmetic",
    "contraction",
    "control",
    "conversion",
    "convolution",
    "cumulative",
    "division",
    "fused",
    "host",
    "indexing",
    "linalg",
    "logic",
    "movement",
    "random",
    "reduction",
    "resampling",
    "sorting",
    "special",
    "transcendental",
    "windows",
]
