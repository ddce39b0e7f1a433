"""Every op's scalar rule through LLVM vectors gives, on special values, the bits that it gives through NumPy."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from samples import is_complex, samples
from vectorlab import BASELINE, Compiled, Machine, host, same_bits

import graphc.ops  # noqa: F401  fills the registry
from graphc import dtypes
from graphc.dtypes import int64, uint32
from graphc.ir import registry
from graphc.ir.op import Elementwise, Random, lengthened
from graphc.ops.numpy_scalar import NumpyScalar

ELEMENTWISE = [
    op
    for op in registry.all_ops()
    if isinstance(op, Elementwise) and not all(is_complex(op, sample) for sample in samples(op))
]
RANDOM = [op for op in registry.all_ops() if isinstance(op, Random)]


def _check(op: Elementwise, machine: Machine, contract: bool, lanes: int) -> None:
    found = [s for s in samples(op) if s.special and not is_complex(op, s)]
    chosen = {str(s): s for s in found if lengthened(op, s.operands) is s.operands}
    assert chosen
    rules: dict[str, Any] = {
        name: (partial(op.scalar, **s.attrs), [dtypes.from_numpy(x.dtype) for x in s.operands])
        for name, s in chosen.items()
    }
    compiled = Compiled(rules, lanes, machine, contract=contract)
    for name, sample in chosen.items():
        with np.errstate(all="ignore"):
            expected = op.scalar(NumpyScalar(), *sample.operands, **sample.attrs)
        found = compiled(name, *sample.operands)
        assert same_bits(found, np.broadcast_to(expected, found.shape)).all(), sample


@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
def test_elementwise(op: Elementwise) -> None:
    _check(op, host(), contract=True, lanes=8)


@pytest.mark.slow
@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
def test_elementwise_on_the_baseline(op: Elementwise) -> None:
    """Without FMA, rounding or wide vectors in hardware; and one lane at a time."""
    _check(op, BASELINE, contract=False, lanes=4)
    _check(op, BASELINE, contract=False, lanes=1)


@pytest.mark.parametrize("op", RANDOM, ids=lambda op: op.name)
@pytest.mark.parametrize("words", [2, 4])
def test_random_bits(op: Random, words: int) -> None:
    counter = np.arange(1000, dtype=np.int64) * 37 + np.repeat([0, 2**33], 500)
    key = [np.full(1000, k, np.uint32) for k in (0x243F6A88, 7, 1, 2**32 - 1)[:words]]
    chosen = {d.name: partial(op.scalar, shape=(1000,), dtype=d) for d in (uint32, dtypes.uint64)}
    compiled = Compiled({k: (r, [int64, *[uint32] * words]) for k, r in chosen.items()}, 8, host())
    for name, rule in chosen.items():
        assert same_bits(compiled(name, counter, *key), rule(NumpyScalar(), counter, *key)).all()
