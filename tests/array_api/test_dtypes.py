"""Data type functions and inspection: every pair of dtypes, Python scalars, kinds, limits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

import graphc as gx
from array_api import standard
from array_api.cases import MODES, SHAPES, Case, check, of_kinds, promotes, sample

ALL = of_kinds("biufc")
#: Kinds of dtypes by their names in the standard.
KINDS = {
    "bool": "b",
    "signed integer": "i",
    "unsigned integer": "u",
    "integral": "iu",
    "real floating": "f",
    "complex floating": "c",
    "numeric": "iufc",
}


def _bits(dtype: str) -> int:
    return np.dtype(dtype).itemsize * 8


def _promoted(first: str, second: str) -> str:
    """The standard's table: the wider of a kind; of signed and unsigned the signed one that holds both; complex over float."""
    kinds = np.dtype(first).kind + np.dtype(second).kind
    if kinds in ("iu", "ui"):
        signed, unsigned = (first, second) if kinds == "iu" else (second, first)
        return f"int{max(_bits(signed), 2 * _bits(unsigned))}"
    if kinds in ("fc", "cf"):
        real, both = (first, second) if kinds == "fc" else (second, first)
        return f"complex{max(2 * _bits(real), _bits(both))}"
    return max(first, second, key=_bits)


PAIRS = [(a, b) for a, b in itertools.product(ALL, repeat=2) if promotes(a, b)]


def test_result_type() -> None:
    for a, b in PAIRS:
        wanted = getattr(gx, _promoted(a, b))
        x, y = gx.zeros(2, dtype=getattr(gx, a)), gx.zeros((), dtype=getattr(gx, b))
        for first, second in itertools.product((getattr(gx, a), x), (getattr(gx, b), y)):
            assert gx.result_type(first, second) == wanted, (a, b)
        assert gx.add(x, y).dtype == wanted or "bool" in (a, b)
    for a in ALL:
        dtype = getattr(gx, a)
        assert gx.result_type(dtype) == dtype == gx.result_type(gx.ones(1, dtype=dtype), dtype, dtype)
        scalars = {"b": [True], "i": [3], "u": [3], "f": [3, 2.5], "c": [3, 2.5]}[np.dtype(a).kind]
        for scalar in scalars:
            assert gx.result_type(dtype, scalar) == gx.result_type(scalar, gx.ones(1, dtype=dtype)) == dtype
    for triple in itertools.product(of_kinds("iu"), repeat=3):
        if all(promotes(*pair) for pair in itertools.combinations(triple, 2)):
            wanted = getattr(gx, _promoted(_promoted(*triple[:2]), triple[2]))
            assert gx.result_type(*(getattr(gx, t) for t in triple)) == wanted


def test_can_cast() -> None:
    for a, b in PAIRS:
        source, target = getattr(gx, a), getattr(gx, b)
        found = gx.can_cast(source, target)
        assert found is gx.can_cast(gx.zeros(1, dtype=source), target)
        assert found is (_promoted(a, b) == b), (a, b)


def test_isdtype() -> None:
    for name in ALL:
        dtype = getattr(gx, name)
        for kind, letters in KINDS.items():
            assert gx.isdtype(dtype, kind) is (dtype.kind in letters)
        for other in ALL:
            assert gx.isdtype(dtype, getattr(gx, other)) is (name == other)
            assert gx.isdtype(dtype, (getattr(gx, other), "bool")) is (name in (other, "bool"))
        assert gx.isdtype(dtype, ("numeric", ("bool",))) and not gx.isdtype(dtype, ())
    with pytest.raises(ValueError, match="kind"):
        gx.isdtype(gx.float32, "floats")
    with pytest.raises(TypeError):
        gx.isdtype(gx.float32, 32)


def test_limits() -> None:
    for name in of_kinds("fc"):
        dtype = getattr(gx, name)
        wanted = np.finfo(name)
        for x in (dtype, gx.ones(2, dtype=dtype)):
            found = gx.finfo(x)
            numbers = (found.eps, found.max, found.min, found.smallest_normal)
            assert numbers == (wanted.eps, wanted.max, wanted.min, wanted.smallest_normal)
            assert all(type(n) is float for n in numbers)
            assert (type(found.bits), found.bits, found.dtype) == (int, wanted.bits, wanted.dtype)
    for name in of_kinds("iu"):
        dtype = getattr(gx, name)
        for x in (dtype, gx.ones(2, dtype=dtype)):
            found = gx.iinfo(x)
            assert (found.bits, found.max, found.min, found.dtype) == (
                _bits(name),
                np.iinfo(name).max,
                np.iinfo(name).min,
                dtype,
            )
            assert {type(found.max), type(found.min), type(found.bits)} == {int}
    for call in (lambda: gx.finfo(gx.int32), lambda: gx.iinfo(gx.float32), lambda: gx.iinfo(gx.bool)):
        with pytest.raises(TypeError, match="takes"):
            call()


def _casts() -> Iterator[Case]:
    for source, target in itertools.product(ALL, repeat=2):
        if np.dtype(source).kind == "c" and np.dtype(target).kind != "c":
            continue
        low = 0 if np.dtype(target).kind == "u" or np.dtype(source).kind in "ub" else -50
        x = sample(source, (2, 3), low=low, high=50) if source != "bool" else sample(source, (2, 3))
        if np.dtype(source).kind == "c":
            x = sample(source, (2, 3), special=False)
        for options in ({}, {"copy": False}, {"copy": True, "device": "cpu"}):
            yield Case("astype", (x, getattr(gx, target)), x.astype(target), options)
    for shape in SHAPES:
        yield Case("astype", (sample("int16", shape), gx.float32), sample("int16", shape).astype(np.float32))
    for dtype in of_kinds("f"):
        x = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-40, 2.5], dtype)
        yield Case("astype", (x, gx.bool), np.array([False, False, True, True, True, True, True]))
        for other in of_kinds("f"):
            with np.errstate(all="ignore"):
                yield Case("astype", (x, getattr(gx, other)), x.astype(other))


@pytest.mark.parametrize("mode", MODES)
def test_astype(mode: str) -> None:
    check(mode, _casts())


def test_astype_copies() -> None:
    x = gx.asarray(np.arange(3.0))
    assert gx.astype(x, gx.float64, copy=False) is x
    assert not np.shares_memory(gx.astype(x, gx.float64).numpy(), x.numpy())
    assert not np.shares_memory(gx.astype(x, gx.float64, copy=True).numpy(), x.numpy())


def test_inspection() -> None:
    info = gx.__array_namespace_info__()
    found = info.capabilities()
    assert found == {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}
    traced = gx.compile(lambda: gx.__array_namespace_info__().capabilities())()
    assert traced == {"boolean indexing": False, "data-dependent shapes": False, "max dimensions": 64}
    assert info.devices() == ("cpu",) and info.default_device() in info.devices()
    assert info.dtypes() == {name: getattr(gx, name) for name in ALL} == info.dtypes(device="cpu")
    for kind, letters in KINDS.items():
        assert info.dtypes(kind=kind) == {name: getattr(gx, name) for name in of_kinds(letters)}
    for kinds in itertools.combinations(KINDS, 2):
        letters = "".join(KINDS[k] for k in kinds)
        assert info.dtypes(kind=kinds) == {name: getattr(gx, name) for name in of_kinds(letters)}
    assert info.dtypes(kind=()) == {}
    with pytest.raises(ValueError, match="kind"):
        info.dtypes(kind="float")
    defaults = info.default_dtypes(device="cpu")
    keys = ["real floating", "integral", "indexing"] + ["complex floating"] * hasattr(gx, "complex64")
    assert set(defaults) == set(keys)
    with pytest.raises(ValueError, match="cpu"):
        info.dtypes(device="gpu")


def test_arrays_of_the_greatest_rank() -> None:
    rank = gx.__array_namespace_info__().capabilities()["max dimensions"]
    x = gx.ones((1,) * rank)
    assert x.ndim == rank and (x + x).ndim == rank
    assert gx.compile(lambda x: x * 2)(x).ndim == rank
    assert standard.function("sum")(x).shape == ()
