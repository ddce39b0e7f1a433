"""The math library compiled through LLVM vectors gives the very bits that it gives through NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from vectorlab import BASELINE, Compiled, Machine, host, same_bits

from graphc.dtypes import DType, float32, float64
from graphc.ops import mathlib
from graphc.ops.numpy_scalar import NumpyScalar

HOST = host()
AVX2 = Machine("x86-64-v3", "", frozenset({"avx2", "fma"}))


def operand(dtype: DType, seed: int) -> np.ndarray[Any, Any]:
    """Special values, moderate ones, and any bit pattern."""
    rng = np.random.default_rng(seed)
    tiny = float(np.finfo(dtype.numpy).smallest_subnormal)
    special = [0.0, 1.0, 0.5, 2.0, 3.0, np.inf, np.nan, tiny, 3e38, 1e-38, 88.5, 710.0, 1e5, 1e15, 0.55, 1 + 2.0**-20]
    raw = rng.integers(0, 256, 700 * dtype.itemsize, dtype=np.uint8).view(dtype.numpy)
    moderate = np.concatenate([rng.uniform(-30, 30, 300), rng.uniform(-1.1, 1.1, 300), rng.uniform(-800, 800, 100)])
    values = np.concatenate([special, [-v for v in special], moderate]).astype(dtype.numpy)
    return rng.permutation(np.concatenate([values, raw]))


def rules(dtypes: tuple[DType, ...]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for d in dtypes:
        for name, function in mathlib.UNARY.items():
            table[f"{name} {d.name}"] = (function, (d,))
        for name, binary in mathlib.BINARY.items():
            table[f"{name} {d.name}"] = (binary, (d, d))
    return table


def check(compiled: Compiled, table: dict[str, Any]) -> None:
    faults = []
    for entry, (function, dtypes) in table.items():
        columns = [operand(d, seed) for seed, d in enumerate(dtypes)]
        with np.errstate(all="ignore"):
            expected = function(NumpyScalar(), *columns)
        got = compiled(entry, *columns)
        equal = same_bits(got, expected)
        if not equal.all():
            at = int(np.argmin(equal))
            faults.append(f"{entry}: {[c[at] for c in columns]} gave {got[at]!r}, expected {expected[at]!r}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("contract", [False, True])
def test_host(contract: bool) -> None:
    table = rules((float32, float64))
    check(Compiled(table, 16, HOST, contract=contract), table)


def test_nothing_in_it_may_be_contracted() -> None:
    """Contraction would break its error-free transformations, whatever the caller's option says."""
    assert " contract " not in Compiled(rules((float32, float64)), 4, HOST, contract=True).text
    plain = {"mul": (lambda s, x: s.mul(x, x), (float32,))}
    assert " contract " in Compiled(plain, 4, HOST, contract=True).text


@pytest.mark.skipif("fma" not in HOST.features, reason="needs FMA")
def test_without_avx512() -> None:
    table = rules((float32, float64))
    check(Compiled(table, 8, AVX2, contract=True), table)


def test_without_fma() -> None:
    """On a machine without FMA: the functions that models use most."""
    names = ("exp f32", "log f32", "tanh f32", "erf f32", "sigmoid f32", "exp f64", "log f64", "tanh f64")
    table = {name: rule for name, rule in rules((float32, float64)).items() if name in names}
    check(Compiled(table, 4, BASELINE), table)


def test_no_library_call_is_made() -> None:
    table = rules((float32, float64))
    for machine, lanes in ((BASELINE, 1), (HOST, 1), (HOST, 16)):
        asm = Compiled(table, lanes, machine).asm
        assert "\tcall" not in asm
        assert "@PLT" not in asm
