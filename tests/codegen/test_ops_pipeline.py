"""Every op through fusion, code generation and runtime, against its NumPy definition: all samples in one native call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from oracle import fault
from samples import samples

from graphc.codegen.compiler import compile_graph
from graphc.ir import registry
from graphc.ir.graph import Graph, input_value, make
from graphc.ir.op import Op
from graphc.ir.types import Type
from graphc.passes.fusion import fuse
from graphc.passes.split import Split
from graphc.passes.widen import Widen
from graphc.runtime.executable import Executable

#: Ops that stand in no compiled graph by themselves, and why.
NOT_COMPILED = {
    "input": "has no value of its own",
    "composite": "is inlined before",
    "checkpoint": "is inlined before",
    "custom_call": "is inlined before",
    "convolution": "is expanded before",
    "resample": "is expanded before",
    "window_max": "is expanded before",
    "window_sum": "is expanded before",
    "window_min": "is expanded before",
    "stop_gradient": "is expanded before",
    "cond": "has no emitter yet",
    "while_loop": "has no emitter yet",
    "create_token": "is no value",
    "debug_print": "takes a token: see tests/test_registry_compiled.py",
    "host_call": "takes a token: see tests/test_registry_compiled.py",
}
COMPILED = [op for op in registry.all_ops() if op.name not in NOT_COMPILED]


def test_exceptions_exist() -> None:
    assert set(NOT_COMPILED) <= {op.name for op in registry.all_ops()}


@pytest.mark.parametrize("op", COMPILED, ids=lambda op: op.name)
def test_compiled(op: Op) -> None:
    chosen = samples(op)
    types: list[Type] = []
    arrays: list[Any] = []
    results = []
    for sample in chosen:
        operands = [input_value(len(types) + k, t) for k, t in enumerate(sample.types)]
        types += sample.types
        arrays += [np.ascontiguousarray(x) for x in sample.operands]
        results.append(make(op, operands, **sample.attrs).results)
    graph = Graph(tuple(types), tuple(v for values in results for v in values), op.name)
    found = iter(Executable(compile_graph(fuse(Widen().run(Split().run(graph))), verify=True).artifact).run(arrays))
    for sample, values in zip(chosen, results, strict=True):
        expected = op.evaluate(sample.operands, sample.attrs)
        for _, y in zip(values, expected, strict=True):
            assert not (wrong := fault(op, sample, next(found), y)), wrong
