"""Every name of the standard exists, with the standard's signature: parameters by name, kind, order and default."""

from __future__ import annotations

import inspect
import math

import pytest

import graphc as gx
from array_api import standard

KINDS = inspect.Parameter


def _check(name: str, ours: inspect.Signature, wanted: inspect.Signature) -> None:
    """Ours begins with the standard's parameters; what comes after them is optional and given by keyword."""
    found, expected = list(ours.parameters.values()), list(wanted.parameters.values())
    if any(p.kind is KINDS.VAR_POSITIONAL for p in expected):
        assert [(p.kind, p.default) for p in found] == [(p.kind, p.default) for p in expected], name
        return
    for parameter, want in zip(found, expected, strict=False):
        # What the standard wants by keyword may be taken by position, too, as NumPy's functions take it.
        kinds = {want.kind, KINDS.POSITIONAL_OR_KEYWORD} if want.kind is KINDS.KEYWORD_ONLY else {want.kind}
        assert parameter.kind in kinds, f"{name}: {parameter.name} is {parameter.kind}, not {want.kind}"
        assert parameter.name == want.name or want.kind is KINDS.POSITIONAL_ONLY, f"{name}: {parameter.name}"
        assert want.default in (KINDS.empty, parameter.default), f"{name}: {parameter.name}={parameter.default!r}"
    assert len(found) >= len(expected), f"{name} lacks {[p.name for p in expected[len(found) :]]}"
    for parameter in found[len(expected) :]:
        assert parameter.default is not KINDS.empty, f"{name}: {parameter.name} is needed"


@pytest.mark.parametrize("name", standard.FUNCTIONS)
def test_function(name: str) -> None:
    _check(name, inspect.signature(standard.function(name)), standard.FUNCTIONS[name])


@pytest.mark.parametrize("name", standard.METHODS)
def test_method(name: str) -> None:
    wanted = standard.METHODS[name]
    bound = wanted.replace(parameters=list(wanted.parameters.values())[1:])
    _check(name, inspect.signature(getattr(gx.zeros(1), name)), bound)


@pytest.mark.parametrize(
    "name", [n for n in standard.FUNCTIONS if "." in n or n in ("reshape", "sum", "linspace", "add")]
)
def test_wrapped_function_keeps_its_signature(name: str) -> None:
    function = standard.function(name)
    assert inspect.signature(gx.compile(function)) == inspect.signature(function)


def test_attributes() -> None:
    x = gx.zeros((2, 3))
    assert [name for name in standard.ATTRIBUTES if not hasattr(x, name)] == []
    assert (x.ndim, x.shape, x.size, x.dtype) == (2, (2, 3), 6, gx.float32)
    assert x.device == gx.__array_namespace_info__().default_device()
    assert x.T.shape == x.mT.shape == (3, 2)


def test_constants() -> None:
    for name, value in standard.CONSTANTS.items():
        found = getattr(gx, name)
        assert found == value or (math.isnan(found) and math.isnan(value)), name


def test_dtypes() -> None:
    found = [getattr(gx, name) for name in standard.DTYPES]
    for i, dtype in enumerate(found):
        assert [j for j, other in enumerate(found) if other == dtype] == [i]


def test_version() -> None:
    assert gx.__array_api_version__ == standard.VERSION
    x = gx.zeros(2)
    assert x.__array_namespace__() is gx
    for version in ("2021.12", "2022.12", "2023.12", "2024.12", standard.VERSION):
        assert x.__array_namespace__(api_version=version) is gx
    with pytest.raises(ValueError, match=r"2099\.12"):
        x.__array_namespace__(api_version="2099.12")
    with pytest.raises(ValueError, match="draft"):
        x.__array_namespace__(api_version="draft")
