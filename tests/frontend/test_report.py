"""The inspection report: tables, code, state, warnings."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn
from graphc.errors import StructureError
from graphc.frontend.report import Report
from graphc.frontend.tables import Column, render, shortened
from graphc.ir.parser import parse
from graphc.ir.printer import to_text

RNG = np.random.default_rng(3)
CENTRES = RNG.standard_normal((30, 12)).astype(np.float32)
OFFSET = np.ones(12)


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@gx.compile
def mlp(x, w1, b1, w2):
    h = np.maximum(x @ w1 + b1, 0)
    y = h @ w2
    return np.exp(y - y.max(axis=1, keepdims=True))


@pytest.fixture(scope="module")
def report() -> Report:
    return mlp.inspect(f32(6, 20), f32(20, 16), f32(16), f32(16, 5))


def widths(text: str) -> int:
    return max(len(line) for line in text.splitlines())


def test_stages_by_name_and_number(report: Report):
    stages = report.stages
    assert stages[0].name == "input" and stages[-1].name == "fusion"
    assert stages["fusion"] is stages[-1]
    assert stages["simplify#2"] is not stages["simplify"] and stages["simplify#2"].name == "simplify"
    assert [s.name for s in stages[:2]] == ["input", "inline-composites"]
    assert report.graph is stages["input"].graph and report.optimised is stages["fusion"].graph
    assert 'graph "mlp"(%x: f32[6, 20]' in str(stages["input"])
    with pytest.raises(StructureError, match=r"no 'nothing' here\n  hint: There are input, "):
        stages["nothing"]


def test_the_table_of_stages(report: Report):
    lines = str(report.stages).splitlines()
    assert lines[0].split() == ["stage", "nodes", "ms", "what", "it", "did"]
    assert len(lines) == 1 + len(report.stages)
    for line, stage in zip(lines[1:], report.stages, strict=True):
        _, nodes, milliseconds, *_ = line.split()
        assert int(nodes) == len(stage.graph.nodes) and float(milliseconds) >= 0
    assert report.stages["input"].milliseconds == 0


def test_diffs(report: Report):
    assert report.diff(0, 0) == ""
    diff = report.diff("input", "fusion")
    assert "= fused(" in diff and re.search(r"^-.*maximum", diff, re.MULTILINE)


def test_kernels(report: Report):
    kernels = report.kernels
    assert len(kernels) >= 2 and sum(k.calls for k in kernels) == sum(
        n.op.name == "fused" for n in report.optimised.nodes
    )
    assert kernels["k0"] is kernels[0]
    assert "dot" in kernels[0].ops and kernels[kernels[0].name] is kernels[0]
    table = str(kernels)
    assert table.splitlines()[0].split() == ["kernel", "name", "calls", "schedule", "ops", "flops", "bytes", "source"]
    assert "test_report.py:" in table and widths(table) <= 120
    flops = int(kernels[0].flops)
    assert flops >= 2 * 6 * 20 * 16 and f"{flops:,}" in table
    assert "for " in kernels.trees() and all(k.tree.strip() in kernels.trees() for k in kernels)


def test_llvm_and_assembly(report: Report):
    assert re.search(r"^define .*i64 @graphc_entry\(", report.llvm, re.MULTILINE)
    assert report.asm is report.asm and "graphc_entry:" in report.asm
    for which in ("k0", 0, report.kernels[0]):
        text = report.asm_of(which)
        assert re.search(r"^k0:", text, re.MULTILINE) and "graphc_entry:" not in text and "\nk1:" not in text
        assert "ret" in text


def test_memory(report: Report):
    memory = report.memory
    assert memory.arena_bytes == report.arena_bytes and memory.without_reuse == sum(
        v.tensor.nbytes
        for n in report.optimised.nodes
        if n.op.name == "fused"
        for v in n.results
        if v not in report.optimised.outputs
    )
    # dot, add and maximum; dot; max; subtract. exp is the result, and views take no memory.
    assert memory.op_by_op == 4 * (3 * 6 * 16 + 6 * 5 + 6 + 6 * 5)
    assert all(row.offset + row.bytes <= memory.arena_bytes and row.first <= row.last for row in memory)
    lines = str(memory).splitlines()
    assert lines[0].split() == ["offset", "bytes", "first", "last", "value"] and len(lines) == len(memory) + 2
    assert lines[-1].startswith(f"arena: {memory.arena_bytes:,} bytes; without reuse: ")


def test_the_summary(report: Report):
    text = str(report)
    assert text.startswith("mlp: (x: f32[6, 20], w1: f32[20, 16], b1: f32[16], w2: f32[16, 5]) -> (f32[6, 5])\n")
    for part in (str(report.stages), str(report.kernels), str(report.memory), report.compiled.artifact.isa):
        assert part in text
    assert "warning" not in text and widths(text) <= 120
    assert repr(report) == f"<report of mlp: {len(report.stages)} stages, {len(report.kernels)} kernels>"


def test_graph_exports(report: Report):
    assert report.dot().startswith('digraph "mlp" {')
    assert "fused" in report.dot("fusion") and "fused" not in report.dot()
    assert report.networkx().number_of_nodes() == len(report.graph.nodes) + 1
    parse(to_text(report.optimised))


def test_nothing_runs_and_nothing_changes():
    w = gx.tensor([1.0, 2.0])

    @gx.compile
    def f(x):
        w.assign(w + x)
        return w.sum()

    report = f.inspect(f32(2))
    np.testing.assert_array_equal(w, [1, 2])
    assert f.stats.compiles == 0
    assert [(r.name, str(r.type), r.written) for r in report.state] == [("w", "f32[2]", True)]
    assert report.state["w"].written and "written" in str(report.state) and str(report.state) in str(report)


def test_state_is_named_as_the_model_names_it():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    held = {"a": [gx.tensor([1.0])]}

    def helper(x):
        return x * held["a"][0]

    report = gx.compile(lambda x: helper(model(x))).inspect(f32(2, 4))
    names = {row.name for row in report.state}
    assert names == {"model.0.weight", "model.0.bias", "model.2.weight", "model.2.bias", "held['a'][0]"}
    assert not any(row.written for row in report.state)
    report = gx.compile(model).inspect(f32(2, 4))
    assert {row.name for row in report.state} == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_large_constants_are_listed():
    report = gx.compile(lambda x: (x @ CENTRES) * np.float32(2) + np.ones(12, np.float32)).inspect(f32(4, 30))
    assert [(str(r.type), r.bytes) for r in report.constants] == [("f32[30, 12]", 30 * 12 * 4)]
    assert "test_report.py:" in str(report.constants) and "1,440" in str(report)


def test_float64_that_creeps_in_is_a_warning():
    def creeping(x):
        y = x * 2
        return y + OFFSET

    report = gx.compile(creeping).inspect(f32(3, 12))
    (warning,) = report.warnings
    line = creeping.__code__.co_firstlineno + 2
    assert f"test_report.py:{line}" in warning and "float64" in warning and "f64[" in warning
    assert f"warning: {warning}" in str(report)


@pytest.mark.parametrize(
    "arguments",
    [(f32(3), 0.5), (np.ones(3), 0.5), (f32(3), np.float32(2.0)), (np.arange(3), 0.5)],
)
def test_no_warning_where_float64_is_meant(arguments: tuple[Any, ...]):
    assert gx.compile(lambda x, rate: x * rate).inspect(*arguments).warnings == ()


def test_a_graph_without_kernels():
    report = gx.compile(lambda x: x).inspect(f32(3))
    assert "no kernels" in str(report) and "no temporaries" in str(report.memory)
    assert report.memory.op_by_op == 0 and str(report.constants) == "no large constants"


# -- tables ----------------------------------------------------------------------------------------------------------------


def test_columns_are_aligned_and_cut():
    columns = (Column("name"), Column("n", right=True), Column("text", cut="end"), Column("path", cut="start"))
    rows = [["a", 1, "x" * 40, "/folder/" + "y" * 30 + "/file.py"], ["long", 1000, "short", None]]
    lines = render(columns, rows, width=60).splitlines()
    assert lines[0].startswith("name     n  text")
    assert lines[1].startswith("a        1  xxxx") and lines[1].endswith("/file.py") and lines[1].count("…") == 2
    assert lines[2] == "long  1000  short"
    assert widths("\n".join(lines)) <= 60
    assert render(columns, []) == "name  n  text  path"
    assert shortened("abc", 3) == "abc" and shortened("abcd", 3) == "ab…" and shortened("abcd", 3, "start") == "…cd"
