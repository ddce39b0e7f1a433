"""The buffer plan: lifetimes, reuse, in-place results, alignment, order of kernels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from compilelab import agree, b, flip, graph, inputs, matmul

from graphc.codegen.actions import lay_out
from graphc.codegen.compiler import compile_graph
from graphc.codegen.emitters import may_overwrite, range_checks
from graphc.codegen.plan import ALIGN, Block, conflict, plan_arena, share_blocks
from graphc.dtypes import float32
from graphc.ir.dims import evaluate, symbol
from graphc.passes.fusion import fuse

f32 = float32


@pytest.mark.parametrize(
    ("a", "c", "meets"),
    [((0, 3), (4, 5), False), ((0, 3), (3, 5), True), ((2, 2), (0, 9), True), ((5, 6), (0, 4), False)],
)
def test_conflict(a, c, meets):
    one, two = Block(64, *a), Block(64, *c)
    assert conflict(one, two) is meets and conflict(two, one) is meets


def placed(blocks):
    values = dict(zip((object() for _ in blocks), blocks, strict=True))
    return plan_arena(values, {})  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(20))
def test_blocks_in_use_together_never_share_a_byte(seed):
    rng = np.random.default_rng(seed)
    blocks = []
    for _ in range(60):
        first = int(rng.integers(0, 40))
        blocks.append(Block(int(rng.integers(0, 5000)), first, first + int(rng.integers(0, 12))))
        blocks[-1].values = []
    plan = placed(blocks)
    live = [b for b in blocks if b.size]
    for i, one in enumerate(live):
        assert one.offset % ALIGN == 0 and one.offset + one.size <= plan.arena_bytes
        for two in live[:i]:
            if max(one.first, two.first) <= min(one.last, two.last):
                assert one.offset + one.size <= two.offset or two.offset + two.size <= one.offset
    peak = max(sum(-(-b.size // ALIGN) * ALIGN for b in live if b.first <= t <= b.last) for t in range(60))
    assert peak <= plan.arena_bytes <= 1.3 * peak


def test_symbolic_blocks_take_turns():
    n = symbol(0)
    blocks = [Block(4 * n, 0, 1), Block(4 * n, 2, 3), Block(8 * n, 1, 2), Block(100, 0, 3)]
    plan = placed(blocks)
    assert blocks[0].offset == blocks[1].offset != blocks[2].offset
    for size in (0, 1, 15, 16, 1000):
        spans = sorted((evaluate(x.offset, {0: size}), evaluate(x.size, {0: size})) for x in blocks[1:])
        for (start, length), (after, _) in pairwise(spans):
            assert start % ALIGN == 0 and start + length <= after
        assert spans[-1][0] + spans[-1][1] <= evaluate(plan.arena_bytes, {0: size})


def test_scratch_is_apart_from_what_its_action_uses():
    values = {object(): Block(640, 0, 2)}
    plan = plan_arena(values, {0: 64, 2: 128, 3: 640})  # type: ignore[arg-type]
    assert plan.scratch[0] >= 640 and plan.scratch[2] >= 640 and plan.scratch[3] == 0
    assert plan.arena_bytes == 640 + 128


def chain(count):
    """Kernels that cannot be fused, each needed by the next only."""
    (x,) = inputs((f32, (16, 16)))
    value = x
    for _ in range(count):
        value = matmul(value, x)
    return graph((x,), [value])


def test_a_chain_needs_two_buffers():
    compiled = compile_graph(fuse(chain(8)))
    used = {row.offset for row in compiled.memory if row.value != "scratch"}
    assert len(used) == 2
    agree(chain(3), 1e-3)


def test_a_result_takes_the_place_of_its_operand():
    """exp over a product's result: one block, alias entered into the action."""
    (x,) = inputs((f32, (16, 16)))
    sums = matmul(x, x)
    row = b.broadcast(b.reshape(b.max(sums, axes=(1,)), shape=(16, 1)), shape=(16, 16))
    column = b.sum(b.exp(sums), axes=(0,))
    stored = b.exp(sums - row) + b.broadcast(column, shape=(16, 16))
    g = fuse(graph((x,), [matmul(stored, x)]))
    layout = lay_out(g, {}, may_overwrite, range_checks)
    share_blocks(layout, may_overwrite)
    assert any(action.aliases for action in layout.actions)
    agree(graph((x,), [matmul(stored, x)]), 1e-3)


def test_an_operand_that_is_read_later_is_not_overwritten():
    (x,) = inputs((f32, (16, 16)))
    y = matmul(x, x)
    z = b.exp(flip(y)) + y
    agree(graph((x,), [matmul(z, y), b.sum(z, axes=(0,))]), 1e-2)


def test_order_frees_memory_early():
    """Wide intermediate results, each needed for a narrow one only: at most a few are alive at a time."""
    x, y = inputs((f32, (64, 8)), (f32, (8, 64)))
    wide = [matmul(x * float(i + 1), y) for i in range(12)]
    narrow = [matmul(w, x) for w in wide]
    compiled = compile_graph(fuse(graph((x, y), [b.concatenate(*narrow, axis=0)])))
    assert compiled.artifact.arena_bytes < 5 * 64 * 64 * 4


def test_memory_report_names_every_temporary():
    compiled = compile_graph(fuse(chain(3)))
    assert sum(row.bytes for row in compiled.memory if row.value != "scratch") >= 2 * 1024
    assert all(row.first <= row.last and row.offset % ALIGN == 0 for row in compiled.memory)
