"""Every instruction of the scalar protocol: LLVM against NumPy, bit for bit, and NumPy against exact arithmetic."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from vectorlab import BASELINE, Compiled, Machine, host, same_bits

from graphc.codegen.text import Function
from graphc.codegen.vectors import Vectors, constant_mask
from graphc.dtypes import ALL as EVERY
from graphc.dtypes import DType, bool_, float32, float64, from_numpy, int32, int64, uint32
from graphc.ir.scalar import Scalar
from graphc.ops.numpy_scalar import NumpyScalar

#: Floats that instructions compute with; 16-bit ones are converted, selected and stored only.
FLOATS = (float32, float64)
#: Complex numbers have no instructions: they are pairs of floats there.
ALL = tuple(d for d in EVERY if not d.is_complex)
INTEGERS = tuple(d for d in ALL if d.is_integer)
HOST = host()
AVX2 = Machine("x86-64-v3", "", frozenset({"avx2", "fma", "f16c"}))
MACHINES = [("baseline", BASELINE)]
if "fma" in HOST.features:
    MACHINES.append(("avx2", AVX2))
if "avx512f" in HOST.features:
    MACHINES.append(("avx512", HOST))


def special(dtype: DType) -> np.ndarray:
    """Values at which instructions change their mind."""
    if dtype.is_bool:
        return np.array([False, True])
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        values = [0, 1, 2, 3, 7, 100, 65535, 65536, info.max, info.max - 1, info.min, info.min + 1, info.max // 3]
        if dtype.is_signed:
            values += [-1, -2, -3, -7, -100]
        return np.array([v for v in values if info.min <= v <= info.max], dtype.numpy)
    info = ml_dtypes.finfo(dtype.numpy)
    tiny, least, most = float(info.tiny), float(info.smallest_subnormal), float(info.max)
    one = 1.0
    values = [0.0, least, 3 * least, tiny - least, tiny, 0.3, 0.5, 0.7, one, 1 + float(info.eps), 1.5, 2.5, 3.5]
    values += [1 - 2.0**-12, 1 + 2.0**-11 + 2.0**-30, 2.0**-25, 2.0**-25 + 2.0**-45, 65519.99, 65520.0, 2049.0]
    values += [8388608.5, 1e9, 2.0**31, 2.0**52 + 0.5, 1e19, most / 2, most, np.inf, np.nan]
    with np.errstate(over="ignore"):
        return np.array(values + [-v for v in values], dtype.numpy)


def sample(dtype: DType, size: int, seed: int) -> np.ndarray:
    """Random bit patterns, or moderate floats half the time."""
    rng = np.random.default_rng([seed, dtype.bits])
    if dtype.is_bool:
        return rng.random(size) < 0.5
    raw = rng.integers(0, 256, size * dtype.itemsize, dtype=np.uint8).view(dtype.numpy)
    if dtype.is_float:
        return np.where(rng.random(size) < 0.5, raw, rng.standard_normal(size).astype(dtype.numpy))
    return np.where(rng.random(size) < 0.5, raw, rng.integers(0, 50, size).astype(dtype.numpy))


def operands_of(dtypes: Sequence[DType]) -> list[np.ndarray]:
    """All combinations of special values (ternary ones thinned), then random ones."""
    combinations = list(itertools.product(*(special(d) for d in dtypes)))
    combinations = combinations[:: 1 + len(combinations) // 3000]
    columns = zip(*combinations, strict=True)
    return [
        np.concatenate([np.array(column, d.numpy), sample(d, 301, seed)])
        for seed, (d, column) in enumerate(zip(dtypes, columns, strict=True))
    ]


Rule = Callable[..., Any]
Table = dict[str, tuple[Rule, tuple[DType, ...]]]


def method(name: str) -> Rule:
    return lambda s, *operands: getattr(s, name)(*operands)


def shift(name: str, amount: int) -> Rule:
    return lambda s, x: getattr(s, name)(x, amount)


def conversion(name: str, target: DType) -> Rule:
    return lambda s, x: getattr(s, name)(x, target)


LOOKED_UP = (0.5, -1e300, float("inf"), 2.0**-1074)


def halvings(s, x):  # type: ignore[no-untyped-def]
    """x halved while it is above 1, four times at most, plus the numbers of the steps that it took."""
    one, half = s.const(float64, 1.0), s.const(float64, 0.5)

    def step(number, values):  # type: ignore[no-untyped-def]
        y, total = values
        y = s.mul(y, half)
        return s.gt(y, one), (y, s.add(total, s.convert(number, float64)))

    y, total = s.repeat(4, s.gt(x, one), step, (x, s.const(float64, 0.0)))
    return s.add(y, total)


def protocol_table() -> Table:
    """Every method of the protocol on every dtype it is defined for."""
    table: Table = {}

    def add(name: str, rule: Rule, *dtypes: DType) -> None:
        table[f"{name} {' '.join(d.name for d in dtypes)}"] = (rule, dtypes)

    for d in FLOATS:
        for name in ("sqrt", "floor", "ceil", "trunc", "rint"):
            add(name, method(name), d)
        for name in ("div", "copysign", "ldexp"):
            add(name, method(name), d, d)
        add("fma", method("fma"), d, d, d)
    for d in (*FLOATS, *INTEGERS):
        for name in ("add", "sub", "mul", "lt", "le", "gt", "ge", "eq", "ne"):
            add(name, method(name), d, d)
        add("neg", method("neg"), d)
        add("abs", method("abs"), d)
    for d in INTEGERS:
        add("idiv", method("idiv"), d, d)
        add("irem", method("irem"), d, d)
        for name, amount in itertools.product(("shl", "lshr", "ashr"), (0, 1, 13 % d.bits, d.bits - 1)):
            add(f"{name}:{amount}", shift(name, amount), d)
    for d in (bool_, *INTEGERS):
        for name in ("and_", "or_", "xor"):
            add(name, method(name), d, d)
        add("not_", method("not_"), d)
    add("eq", method("eq"), bool_, bool_)
    add("ne", method("ne"), bool_, bool_)
    add("mul_high", method("mul_high"), uint32, uint32)
    add("lookup", lambda s, i: s.lookup(LOOKED_UP, s.and_(i, s.const(int64, 3))), int64)
    rare = lambda s, x: s.rarely(s.gt(x, s.const(float64, 3.0)), lambda: (s.mul(x, x),), (x,))[0]  # noqa: E731
    add("rarely", rare, float64)
    add("repeat", halvings, float64)
    for d in ALL:
        add("select", method("select"), bool_, d, d)
        for e in ALL:
            if e is not bool_:
                add(f"convert:{e.name}", conversion("convert", e), d)
            if e.bits == d.bits:
                add(f"bitcast:{e.name}", conversion("bitcast", e), d)
    return table


def constant_table() -> Table:
    """Literals of every dtype: numbers at the edges and patterns of NaNs."""
    table: Table = {}

    def add(name: str, rule: Rule, *dtypes: DType) -> None:
        table[f"{name} {' '.join(d.name for d in dtypes)}"] = (rule, dtypes)

    for d in ALL:
        for number, value in enumerate(special(d)):
            add(f"const:{number}", lambda s, x, d=d, value=value: s.const(d, value.item()), d)
        for number, pattern in enumerate((0, 1, 2 ** (d.bits - 1), 2**d.bits - 1, 0x7FC00001 % 2**d.bits)):
            add(f"bits:{number}", lambda s, x, d=d, pattern=pattern: s.bits(d, pattern), d)
    return table


def inside_definition(name: str, columns: list[np.ndarray]) -> list[np.ndarray]:
    """Only operands for which the protocol defines the result."""
    first, last = columns[0], columns[-1]
    operation = name.split(maxsplit=1)[0]
    if operation in {"idiv", "irem"}:
        keep = last != 0
        if last.dtype.kind == "i":
            keep &= ~((last == -1) & (first == np.iinfo(first.dtype).min))
    elif operation == "ldexp":
        columns[-1] = last = np.rint(np.where(np.isfinite(last), last, 1)).astype(last.dtype)
        spread = np.random.default_rng(5).integers(-2300, 2300, last.size).astype(last.dtype)
        columns[-1] = np.where(np.abs(last) > 1e4, spread, last)
        keep = np.isfinite(last)
    elif operation.startswith("convert:") and from_numpy(first.dtype).is_float and "f" not in operation.split(":")[1]:
        target = next(d for d in ALL if d.name == operation.split(":")[1])
        low, high = float(np.iinfo(target.numpy).min), 2.0 ** (target.bits - target.is_signed)
        with np.errstate(all="ignore"):
            wide = np.trunc(first.astype(np.float64))
        keep = (wide >= low) & (wide < high)
    else:
        return columns
    return [c[keep] for c in columns]


TABLE = protocol_table()
CONSTANTS = constant_table()


def test_the_table_covers_the_protocol() -> None:
    methods = {name for name in vars(Scalar) if not name.startswith("_")} - {"dtype"}
    assert {re.split("[: ]", name)[0] for name in (*TABLE, *CONSTANTS)} == methods


@pytest.mark.parametrize("lanes", [1, 4, 8, 16])
@pytest.mark.parametrize(("name", "machine"), MACHINES, ids=[name for name, _ in MACHINES])
def test_every_instruction_is_bit_equal_to_numpy(name: str, machine: Machine, lanes: int) -> None:
    del name
    check(Compiled(TABLE, lanes, machine), TABLE, exact_fma=machine is not BASELINE)


@pytest.mark.parametrize("lanes", [1, 4])
def test_constants(lanes: int) -> None:
    check(Compiled(CONSTANTS, lanes, HOST), CONSTANTS)


def check(compiled: Compiled, table: Table, *, exact_fma: bool = True) -> None:
    assert "call" not in re.findall(r"\n\t(call)", compiled.asm)
    reference = NumpyScalar()
    faults = []
    for entry, (rule, dtypes) in table.items():
        columns = inside_definition(entry, operands_of(dtypes))
        with np.errstate(all="ignore"):
            expected = np.broadcast_to(rule(reference, *columns), columns[0].shape)
        got = compiled(entry, *columns)
        equal = same_bits(got, expected)
        if entry.startswith("bits") and expected.dtype.kind == "f":
            integer = f"u{expected.dtype.itemsize}"
            equal = got.view(integer) == np.ascontiguousarray(expected).view(integer)
        if entry.startswith("fma f64") and not exact_fma:
            equal |= ~fma_is_promised(*columns)
        if not equal.all():
            at = int(np.argmin(equal))
            faults.append(f"{entry}: {[c[at] for c in columns]} gave {got[at]}, expected {expected[at]}")
    assert not faults, "\n".join(faults)


def fma_is_promised(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Where the composed float64 fma of targets without one is exact (graphc.ops.softfloat)."""
    with np.errstate(all="ignore"):
        product = np.abs(x * y)
        inside = (product >= 2.0**-960) & (product <= 2.0**1000) & (np.abs(z) <= 2.0**1000)
        return inside & (np.abs(x) <= 2.0**990) & (np.abs(y) <= 2.0**990)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_numpy_fma_is_rounded_once(dtype: DType) -> None:
    rng = np.random.default_rng(1)
    n = 4000
    least, most = (-149, 110) if dtype is float32 else (-1074, 960)
    ex, ey = rng.integers(least, most, n) // 2, rng.integers(least, most, n) // 2
    ez = np.clip(ex + ey + rng.integers(-60, 60, n), least, most)
    x, y, z = (np.ldexp(rng.integers(1, 2**24, n) / 2.0**23, e).astype(dtype.numpy) for e in (ex, ey, ez))
    z = np.where(rng.random(n) < 0.2, (-x * y).astype(dtype.numpy), z * rng.choice([-1, 1], n).astype(dtype.numpy))
    with np.errstate(under="ignore"):
        got = NumpyScalar().fma(x, y, z)
    for a, b, c, r in zip(x, y, z, got, strict=True):
        exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
        error = abs(Fraction(float(r)) - exact)
        for neighbour in (np.nextafter(r, dtype.numpy.type(np.inf)), np.nextafter(r, dtype.numpy.type(-np.inf))):
            distance = abs(Fraction(float(neighbour)) - exact)
            even = int(np.asarray(r).view(f"u{dtype.itemsize}")) % 2 == 0
            assert error < distance or (error == distance and even), (a, b, c, r)


def memory_kernel(lanes: int, active: int, dtype: DType, machine: Machine) -> Compiled:
    """out = masked load of the first `active` lanes; the second result is stored whole."""

    def rule(s: Vectors, x: Any) -> Any:
        del x
        mask = s.lt(s.iota(int32), s.const(int32, active))
        loaded = s.load("%b0", dtype, mask=mask, passthru=s.const(dtype, 1))
        s.store(loaded, "%o1", mask=mask)
        reverse = s.sub(s.const(int32, lanes - 1), s.iota(int32))
        s.scatter(s.gather("%b0", reverse, dtype, mask=mask), "%o2", s.iota(int32), mask=mask)
        s.store(s.gather("%b0", s.convert(s.iota(int32), uint32), dtype), "%o3")
        return loaded

    return Compiled({"k": (rule, (dtype,))}, lanes, machine)


@pytest.mark.parametrize("lanes", [1, 4, 16])
@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_masked_memory(dtype: DType, lanes: int) -> None:
    for active in {0, 1, lanes - 1, lanes}:
        compiled = memory_kernel(lanes, active, dtype, HOST)
        source = sample(dtype, lanes, 3)
        outs = [np.full(lanes, 0, dtype.numpy) for _ in range(4)]
        compiled.function("k", 1)(source.ctypes.data, *[o.ctypes.data for o in outs], lanes)
        assert same_bits(outs[0], np.r_[source[:active], np.full(lanes - active, 1, dtype.numpy)]).all()
        assert same_bits(outs[1], np.r_[source[:active], np.zeros(lanes - active, dtype.numpy)]).all()
        assert same_bits(outs[2], np.r_[source[::-1][:active], np.zeros(lanes - active, dtype.numpy)]).all()
        assert same_bits(outs[3], source).all()


def test_splat_and_contraction() -> None:
    def rule(s: Vectors, x: Any, y: Any, z: Any) -> Any:
        sum_ = s.add(s.mul(x, y), s.splat("2.0", float32))
        count = s.convert(s.splat("%n", int64), float32)
        return sum_, s.add(s.strict().mul(x, x), z), s.mul(count, x)

    dtypes = (float32, float32, float32)
    x, y, z = (sample(float32, 64, i) for i in range(3))
    with np.errstate(all="ignore"):
        rounded_twice = x * x + z
        for contract in (False, True):
            compiled = Compiled({"k": (rule, dtypes)}, 4, HOST, contract=contract)
            first, second, third = compiled("k", x, y, z)
            two = np.float32(2)
            expected = (
                NumpyScalar().fma(x, y, np.full_like(x, two)) if contract and HOST.features & {"fma"} else x * y + two
            )
            assert same_bits(first, expected).all()
            assert same_bits(second, rounded_twice).all()
            assert same_bits(third, 64 * x).all()
        assert not same_bits(NumpyScalar().fma(x, y, np.full_like(x, 2)), x * y + np.float32(2)).all()


def test_an_instruction_refuses_mixed_dtypes() -> None:
    s = Vectors(Function("void", "@f", []), 4)
    with pytest.raises(AssertionError):
        s.add(s.const(float32, 1), s.const(float64, 1))


@pytest.mark.parametrize("active", [0, 1, 3, 16])
@pytest.mark.parametrize("machine", [m for _, m in MACHINES], ids=[n for n, _ in MACHINES])
def test_narrow_stores_keep_to_their_lanes(machine: Machine, active: int) -> None:
    """Constant masks after a truncation: LLVM 22 writes too much where one lane is left, unless it is kept from it."""
    targets = [d for d in ALL if d.bits <= 16]

    def rule(dtype: DType) -> Rule:
        def store(s: Vectors, x: Any) -> Any:
            s.store(s.ne(x, s.const(int32, 0)) if dtype is bool_ else s.convert(x, dtype), "%o1", mask=mask)
            return x

        return store

    mask = constant_mask(16, active)
    compiled = Compiled({d.name: (rule(d), (int32,)) for d in targets}, 16, machine)
    source = np.arange(70000, 70016, dtype=np.int32)
    for d in targets:
        wide, narrow = np.empty(16, np.int32), np.zeros(16, d.numpy)
        compiled.function(d.name, 1)(source.ctypes.data, wide.ctypes.data, narrow.ctypes.data, 0, 0, 16)
        with np.errstate(all="ignore"):
            expected = source.astype(d.numpy)
        expected[active:] = 0
        assert same_bits(narrow, expected).all(), d
