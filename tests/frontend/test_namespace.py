"""The Array API namespace besides its functions: dtypes, inspection, interchange."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc import dtypes
from graphc.errors import DTypeError, OptionError, TracerConversionError


def test_versions_and_constants():
    x = gx.ones(2)
    assert x.__array_namespace__() is gx
    assert x.__array_namespace__(api_version=gx.__array_api_version__) is gx
    with pytest.raises(ValueError, match="standard"):
        x.__array_namespace__(api_version="2999.12")
    assert (gx.pi, gx.e, gx.inf, gx.newaxis) == (np.pi, np.e, np.inf, None) and np.isnan(gx.nan)


def test_inspection():
    info = gx.__array_namespace_info__()
    assert set(info.dtypes().values()) == {d.native for d in dtypes.ALL if d.native and d is not dtypes.float16}
    for kind in (
        "bool",
        "signed integer",
        "unsigned integer",
        "integral",
        "real floating",
        "numeric",
        ("bool", "integral"),
    ):
        expected = {n: d for n, d in info.dtypes().items() if np.isdtype(d, kind)}
        assert info.dtypes(kind=kind) == expected
        assert all(gx.isdtype(d, kind) == np.isdtype(d, kind) for d in info.dtypes().values())
    with pytest.raises(ValueError, match="unknown kind"):
        gx.isdtype(gx.float32, "floaty")
    assert info.default_dtypes()["real floating"] == gx.float32
    assert info.devices() == (info.default_device(),) == ("cpu",)
    assert (
        gx.finfo(gx.float32).eps == np.finfo(np.float32).eps and gx.iinfo(gx.ones(1, dtype=gx.int32)).max == 2**31 - 1
    )


def test_casts_and_result_types_are_numpys():
    known = [d for d in dtypes.ALL if d.native]  # NumPy has no rules for bfloat16
    for a in known:
        for b in known:
            assert gx.can_cast(a.numpy, b.numpy) == np.can_cast(a.numpy, b.numpy)
            assert gx.result_type(a.numpy, b.numpy) == np.result_type(a.numpy, b.numpy)
        assert gx.result_type(a.numpy, 1.0) == np.result_type(a.numpy, 1.0)
    assert gx.result_type(gx.ones(1), 2) == np.float32


def test_dlpack_shares_memory_both_ways():
    array = np.arange(6.0).reshape(2, 3)
    tensor = gx.from_dlpack(array)
    tensor += 1
    assert array[0, 0] == 1
    back = np.from_dlpack(tensor)
    assert np.shares_memory(back, array)
    assert not np.shares_memory(gx.from_dlpack(array, copy=True).numpy(), array)
    locked = np.arange(3.0)
    locked.flags.writeable = False
    assert gx.from_dlpack(locked).numpy().flags.writeable
    with pytest.raises(DTypeError, match="supported"):
        gx.from_dlpack(np.ones(2, np.clongdouble))
    with pytest.raises(OptionError, match="cpu"):
        gx.from_dlpack(array, device="gpu")


def test_while_tracing():
    f = gx.compile(lambda x: x.__array_namespace__().exp(x.to_device("cpu")))
    np.testing.assert_allclose(f(gx.ones(2)), np.exp(np.ones(2)), rtol=1e-6)
    with pytest.raises(TracerConversionError):
        gx.compile(np.from_dlpack)(gx.ones(2))
