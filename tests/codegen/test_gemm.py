"""Matrix products against NumPy loops in the documented order (bit by bit), on guarded memory, on every ISA level."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gemmlab import Case, Operands, chain, compile_cases, lanes

from graphc.codegen import llvm
from graphc.codegen.gemm import emit_gemm, make_plan, scratch_bytes, swapped
from graphc.codegen.gemm_plan import GemmSpec, Split, canonical
from graphc.codegen.gemm_text import advance
from graphc.codegen.vectors import Vec, Vectors
from graphc.dtypes import DType, float32, float64, int32, int64, uint32
from graphc.target import Target, missing_features, named

LEVELS = [
    pytest.param(name, marks=pytest.mark.skipif(bool(missing_features(name)), reason=f"this machine is below {name}"))
    for name in ("x86-64-v4", "x86-64-v3", "x86-64-v2")
]
DTYPES = (float32, float64, int32, int64)


def dense(
    m: int, n: int, k: int, dtype: DType = float32, *, a_turned: bool = False, b_turned: bool = False, pad: int = 0
) -> GemmSpec:
    """A product of two matrices, each as it is or transposed, rows `pad` elements longer than needed."""
    a_row, a_k = (1, m + pad) if a_turned else (k + pad, 1)
    b_k, b_col = (1, k + pad) if b_turned else (n + pad, 1)
    return GemmSpec(m, n, ((k, a_k, b_k),), a_row, b_col, n + pad, dtype)


def expected(operands: Operands, target: Target) -> np.ndarray[Any, Any]:
    """The result in the documented order, computed by NumPy."""
    plan = operands.case.plan(target)
    a, b, initial = operands.a, operands.b, operands.initial
    if plan.method == "dots":
        return lanes(a, b, initial, plan.spec.k[-1][0])
    return chain(a, b, initial)


def check(cases: list[Case], target: Target, *, seed: int = 0) -> None:
    """Run all cases; without contraction they are bit-equal to NumPy, with it they are within the usual bound."""
    rng = np.random.default_rng(seed)
    for case, function in zip(cases, compile_cases(cases, target), strict=True):
        operands = Operands(case)
        operands.fill(rng, case.plan(target).scratch_bytes)
        found = operands.run(function)
        where = f"{case.spec} {case.plan(target)}"
        if not case.contract or not case.spec.dtype.is_float:
            np.testing.assert_array_equal(found, expected(operands, target), err_msg=where)
            continue
        a, b = operands.a.astype(np.float64), operands.b.astype(np.float64)
        exact = operands.initial + a @ b
        size = np.abs(operands.initial) + np.abs(a) @ np.abs(b)
        bound = (case.spec.depth + 8) * np.finfo(case.spec.dtype.numpy).eps * size
        assert (np.abs(found - exact) <= bound).all(), where


def random_cases(count: int, seed: int) -> list[Case]:
    """Shapes of 1 .. 40, every layout, padded rows, nested k loops, batches that share operands."""
    rng = np.random.default_rng(seed)

    def pick(*choices: Any) -> Any:
        return choices[rng.integers(len(choices))]

    cases = []
    for _ in range(count):
        m, n, k = (int(pick(1, 2, 3, int(rng.integers(1, 41)), int(rng.integers(1, 41)))) for _ in range(3))
        k *= pick(1, 1, 3)
        a_turned, b_turned = bool(pick(0, 1)), bool(pick(0, 1))
        dtype = pick(float32, float32, float64, int32, int64)
        spec = dense(m, n, k, dtype, a_turned=a_turned, b_turned=b_turned, pad=int(pick(0, 0, 1, 5)))
        if pick(0, 0, 1):  # two k loops, the outer one with gaps
            ((_, a_k, b_k),) = spec.k
            spec = replace(spec, m=min(m, 9), k=((2, k * a_k + 3, k * b_k + 2), (k, a_k, b_k)))
            spec = replace(spec, a_row_stride=spec.a_row_stride * 2 + 3 if not a_turned else 1)
        if pick(0, 0, 1):
            # Strides far enough apart never overlap in C; A or B may be shared by the whole batch.
            reach = spec.m * spec.c_row_stride
            a_step = pick(0, spec.m * spec.a_row_stride + 1, spec.m * spec.a_row_stride)
            spec = replace(
                spec,
                batch=((2, 7, 0, 3 * reach + 3), (3, a_step, pick(0, 11), pick(reach, reach + 1) if reach > 1 else 1)),
            )
        cases.append(Case(spec, contract=bool(pick(0, 0, 1)), initial=bool(pick(0, 1))))
    return cases


@pytest.mark.parametrize("level", LEVELS)
def test_random_shapes(level: str) -> None:
    check(random_cases(70, seed=1), named(level))


@pytest.mark.parametrize("level", LEVELS)
def test_all_transposes_of_awkward_shapes(level: str) -> None:
    shapes = [(1, 1, 1), (1, 40, 33), (40, 1, 33), (2, 37, 70), (37, 3, 70), (17, 19, 23), (31, 64, 16), (5, 16, 7)]
    cases = [
        Case(dense(*shape, dtype, a_turned=a, b_turned=b), initial=a != b)
        for shape in shapes
        for dtype in (float32, float64)
        for a in (False, True)
        for b in (False, True)
    ]
    check(cases, named(level))


def test_unsigned_and_bool_free_dtypes_wrap() -> None:
    check([Case(dense(9, 21, 35, uint32)), Case(dense(2, 21, 35, int64, b_turned=True))], named("x86-64-v2"))


@pytest.mark.parametrize("level", LEVELS)
def test_empty_sizes(level: str) -> None:
    """No products: zeros or what was there. No elements: nothing is written."""
    target = named(level)
    shapes = [(5, 20, 0), (1, 1, 0), (0, 4, 4), (4, 0, 4)]
    check([Case(dense(*shape, pad=3), initial=initial) for shape in shapes for initial in (False, True)], target)
    check([Case(replace(dense(3, 4, 5), batch=((2, 0, 0, 12), (0, 0, 0, 0))))], target)
    check([Case(replace(dense(3, 4, 5), k=((4, 1, 1), (0, 1, 1))))], target)


@pytest.mark.parametrize("level", LEVELS)
def test_odd_strides(level: str) -> None:
    """Broadcast operands, elements apart in both directions, k loops that are no single loop."""
    specs = [
        replace(dense(7, 20, 9), b_col_stride=0),
        replace(dense(7, 20, 9), a_row_stride=0),
        replace(dense(7, 20, 40), k=((40, 0, 0),)),
        replace(dense(7, 20, 9), b_col_stride=3, k=((9, 2, 70),), a_row_stride=31),
        replace(dense(3, 20, 33), b_col_stride=3, k=((33, 2, 70),), a_row_stride=71),
        replace(dense(3, 20, 33), b_col_stride=40, k=((33, 2, 1),), a_row_stride=71),
        replace(dense(20, 2, 33), b_col_stride=3, k=((33, 1, 7),), a_row_stride=35),
        replace(dense(20, 2, 33), b_col_stride=200, k=((3, 50, 40), (33, 1, 1)), a_row_stride=151),
        replace(dense(2, 20, 33), b_col_stride=200, k=((3, 90, 40), (33, 2, 1)), a_row_stride=300),
        replace(dense(9, 50, 33), b_col_stride=200, k=((3, 50, 60), (33, 1, 1)), a_row_stride=151),
        replace(dense(9, 50, 1), b_col_stride=60, k=((2, 50, 3000), (3, 10, 4), (4, 1, 1)), a_row_stride=100),
    ]
    check([Case(spec, initial=i % 2 == 0) for i, spec in enumerate(specs)], named(level))


@pytest.mark.parametrize("level", LEVELS)
def test_blocks_of_k_and_packing(level: str) -> None:
    """A target with a tiny cache, so that small products take the way of large ones; the bits stay the same."""
    small = replace(named(level), l2_bytes=2048)
    specs = [
        dense(40, 70, 600),
        dense(40, 70, 601, b_turned=True),
        dense(530, 40, 61),
        dense(60, 150, 530, a_turned=True),
        dense(61, 150, 300, float64, a_turned=True, b_turned=True),
        replace(dense(40, 70, 1), k=((5, 300, 300 * 75), (290, 1, 75)), a_row_stride=1500, b_col_stride=1),
        replace(dense(40, 70, 1), k=((5, 60 * 200, 300 * 75), (200, 60, 75)), a_row_stride=1, b_col_stride=1),
        replace(dense(40, 130, 1), k=((15, 20 * 60, 20 * 135), (20, 60, 130)), a_row_stride=1, b_col_stride=1),
        replace(dense(40, 70, 1), k=((5, 300, 320), (290, 1, 1)), a_row_stride=1500, b_col_stride=1700),
        replace(dense(20, 33, 600), batch=((2, 12000, 0, 33 * 20), (2, 5, 20000, 33 * 40))),
    ]
    cases = [Case(spec, initial=initial) for spec in specs for initial in (False, True)]
    plans = [case.plan(small) for case in cases]
    assert {plan.pack for plan in plans} == {"none", "copy", "transpose"}
    assert any(plan.blocked for plan in plans) and any(plan.pack_a for plan in plans)
    check(cases, small)


def bias_and_residual(spec: GemmSpec) -> tuple[Any, int]:
    """An epilogue that uses all it is given: c = acc + e0[column], e1[batch, row, column] = 2 * acc; and e1's size."""
    sizes = [extent for extent, *_ in spec.batch]

    def epilogue(vectors: Vectors, acc: Vec, *place: Any) -> None:
        row, col, batch, mask = place
        f, dtype = vectors.function, acc.dtype
        assert len(batch) == len(sizes)
        bias = vectors.load(advance(f, "%e0", dtype, (col, 1)), dtype, mask=mask)
        c_terms = [(index, c) for index, (*_, c) in zip(batch, spec.batch, strict=True)]
        target = advance(f, "%c", dtype, *c_terms, (row, spec.c_row_stride), (col, 1))
        vectors.store(vectors.add(acc, bias), target, mask=mask)
        step, terms = spec.m * spec.n, []
        for index, size in zip(reversed(batch), reversed(sizes), strict=True):
            terms.append((index, step))
            step *= size
        second = advance(f, "%e1", dtype, *terms, (row, spec.n), (col, 1))
        vectors.store(vectors.add(acc, acc), second, mask=mask)

    return epilogue, int(np.prod(sizes, initial=1)) * spec.m * spec.n


@pytest.mark.parametrize("level", LEVELS)
def test_epilogues(level: str) -> None:
    """Inline, outlined, after blocks of k, after dot products, without products; rows and batch indices are the caller's."""
    tiny = replace(named(level), l2_bytes=2048)
    specs = [
        dense(13, 37, 9),
        dense(13, 37, 9, float64, b_turned=True, pad=2),
        dense(40, 70, 600),
        dense(3, 37, 50, b_turned=True),
        dense(37, 1, 50),
        dense(37, 1, 50, a_turned=True),
        dense(5, 20, 0),
        dense(1, 100, 40),
        replace(dense(3, 20, 8), batch=((2, 200, 160, 120), (2, 24, 0, 60))),
        replace(dense(3, 20, 8), batch=((2, 48, 0, 120), (1, 99, 7, 5), (2, 24, 0, 60))),
        replace(dense(1, 20, 8), batch=((5, 8, 0, 20),)),
        replace(dense(3, 20, 8), batch=((2, 50, 7, 180), (3, 30, 160, 60))),
    ]
    rng = np.random.default_rng(0)
    cases = []
    for spec in specs:
        epilogue, size = bias_and_residual(spec)
        cases += [
            Case(spec, False, initial, epilogue, heavy, ("ptr %e0", "ptr %e1"), (spec.n, size))
            for heavy in (False, True)
            for initial in (False, True)
        ]
    for case, function in zip(cases, compile_cases(cases, tiny), strict=True):
        operands = Operands(case)
        operands.fill(rng, case.plan(tiny).scratch_bytes)
        bias, second = (memory.array for memory in operands.extra)
        bias[:] = rng.standard_normal(bias.size)
        wanted = expected(operands, tiny)
        where = f"{case.spec} {case.plan(tiny)}"
        np.testing.assert_array_equal(operands.run(function), wanted + bias, err_msg=where)
        np.testing.assert_array_equal(second.reshape(wanted.shape), wanted + wanted, err_msg=where)


def test_special_values_stay_in_their_rows_and_columns() -> None:
    """NaN and infinity of one row or column do not leak into others, whatever masks and padding do."""
    target = named("x86-64-v2")
    for b_turned in (False, True):
        case = Case(dense(9, 21, 40, b_turned=b_turned))
        operands = Operands(case)
        operands.fill(np.random.default_rng(0), case.plan(target).scratch_bytes)
        operands.memory_a.array[operands._a[4, 39]] = np.nan
        operands.memory_b.array[operands._b[39, 20]] = np.inf
        found = operands.run(compile_cases([case], target)[0])
        bad = ~np.isfinite(found)
        assert bad[4].all() and bad[:, 20].all()
        bad[4], bad[:, 20] = False, False
        assert not bad.any()


def test_order_of_summation_is_the_same_on_every_level_and_tile() -> None:
    """The same bits with other tiles, blocks, packing; fused products where the level has them."""
    levels = [name for name in ("x86-64-v4", "x86-64-v3") if not missing_features(name)]
    specs = [dense(23, 50, 300), dense(23, 50, 300, b_turned=True), dense(3, 50, 300, b_turned=True), dense(50, 2, 77)]
    results: list[list[bytes]] = []
    for level in levels:
        for l2_bytes, registers in ((1 << 20, 32), (2048, 32), (1 << 20, 10)):
            target = replace(named(level), l2_bytes=l2_bytes, vector_registers=registers)
            cases = [Case(spec, contract=True) for spec in specs]
            found = []
            for case, function in zip(cases, compile_cases(cases, target), strict=True):
                operands = Operands(case)
                operands.fill(np.random.default_rng(7), case.plan(target).scratch_bytes)
                found.append(operands.run(function).tobytes())
            results.append(found)
    assert all(found == results[0] for found in results)


@pytest.mark.parametrize("level", ["x86-64-v4", "x86-64-v3", "x86-64-v2", "aarch64"])
def test_tiles_do_not_spill(level: str) -> None:
    """No tile keeps a vector on the stack: a spilling one runs at a quarter of the speed."""
    target = named(level)
    for dtype in (float32, float64):
        for m, n, k in ((64, 64, 64), (128, 768, 768), (56, 10, 20), (100, 100, 100), (9, 48, 30), (1, 256, 64)):
            code = emit_gemm("@k", dense(m, n, k, dtype), target)
            text = "\n".join([*code.declarations.values(), *code.functions.values(), llvm.attributes(target)])
            assembly = llvm.emit_assembly(text.replace("define internal", "define"), target)
            tiles = re.findall(r"^(k_tile\w+):(.*?)\.Lfunc_end", assembly, re.S | re.M)
            assert tiles
            for name, body in tiles:
                spills = [line for line in body.splitlines() if re.search(r"Spill|Reload|[xyz]mm.*[re]sp", line)]
                assert not spills, (level, name, spills)


def test_code_is_self_contained() -> None:
    """Every level's object links: no external symbols, and shared helpers are the same text in all products."""
    first = emit_gemm("@k0", dense(40, 40, 40, b_turned=True), named("x86-64-v3"))
    second = emit_gemm("@k1", dense(70, 90, 33, b_turned=True), named("x86-64-v3"))
    shared = first.functions.keys() & second.functions.keys()
    assert shared == {"@gemm_transpose_f32x8"}
    assert all(first.functions[name] == second.functions[name] for name in shared)
    code = emit_gemm("@k", dense(40, 40, 40, b_turned=True), named("aarch64"))
    text = "\n".join([*code.declarations.values(), *code.functions.values(), llvm.attributes(named("aarch64"))])
    assert llvm.emit_object(text.replace("internal void @k(", "void @k("), named("aarch64"))


def test_splits_are_even() -> None:
    for total in range(1, 60):
        for block in range(1, 12):
            parts = Split(total, block).parts()
            covered = [p.start + i * p.size + j for p in parts for i in range(p.count) for j in range(p.size)]
            assert covered == list(range(total))
            assert max(p.size for p in parts) <= block and max(p.size for p in parts) - min(p.size for p in parts) <= 1


def test_canonical_joins_loops() -> None:
    spec = replace(dense(4, 4, 4), k=((2, 12, 120), (1, 5, 5), (3, 4, 40), (4, 1, 10)))
    assert canonical(spec).k == ((24, 1, 10),)
    assert canonical(replace(spec, k=((2, 12, 121), (3, 4, 40)))).k == ((2, 12, 121), (3, 4, 40))
    assert canonical(replace(spec, k=((1, 9, 9),))).k == ((1, 1, 1),)


def test_order_rule_ignores_the_target() -> None:
    for case in random_cases(100, seed=3):
        assert len({make_plan(case.spec, named(level)).method for level in ("x86-64-v4", "x86-64-v3", "aarch64")}) == 1


def test_swapped_product_is_the_same() -> None:
    spec = replace(dense(30, 1, 50), batch=((2, 0, 50, 30),))
    turned = swapped(spec)
    assert (turned.m, turned.n, turned.k) == (1, 30, ((50, 1, 1),))
    assert turned.batch == ((2, 50, 0, 30),)
    with pytest.raises(ValueError, match="contiguous"):
        swapped(dense(30, 2, 50))


def test_scratch_bytes_is_the_plans() -> None:
    target = named("x86-64-v3")
    spec = dense(40, 70, 50, b_turned=True)
    assert scratch_bytes(spec, target) == make_plan(spec, target).scratch_bytes > 0
    assert scratch_bytes(dense(8, 8, 8), target) == 0
