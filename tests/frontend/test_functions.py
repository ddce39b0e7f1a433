"""Functions, operators and methods on tensors against NumPy, dynamically and compiled. The tables are enumerated, so that
nothing can be added without a case here."""

from __future__ import annotations

import operator
import subprocess
import sys

import numpy as np
import pytest

import graphc as gx
from graphc import dtypes, nn
from graphc.errors import DTypeError, LiteralError, OptionError
from graphc.frontend import composed, decompositions, elementwise, fft, methods
from graphc.frontend.promotion import broadcast_shapes
from graphc.ir.parser import load
from graphc.ir.printer import save

RNG = np.random.default_rng(3)
INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
ALL_DTYPES = [np.bool_, *INTEGERS, np.float16, np.float32, np.float64]


def arrays(dtype, *shapes):
    out = []
    for shape in shapes:
        x = RNG.uniform(0.2, 0.9, shape)
        out.append(x.astype(dtype) if np.dtype(dtype).kind == "f" else RNG.integers(0, 5, shape).astype(dtype))
    return out


def run_both(function, *operands):
    """The function on tensors, dynamically and compiled, and on NumPy arrays compiled."""
    tensors = [gx.tensor(x) if isinstance(x, np.ndarray) else x for x in operands]
    return function(*tensors), gx.compile(function)(*tensors), gx.compile(function)(*operands)


def assert_same(found, expected, rtol=None, label=""):
    expected = np.asarray(expected)
    found = np.asarray(found)
    assert found.dtype == expected.dtype and found.shape == expected.shape, (
        label,
        found.dtype,
        expected.dtype,
        found.shape,
    )
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(found, expected, err_msg=label)
    else:
        rtol = rtol or (1e-5 if expected.dtype == np.float32 else 1e-14)
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-7, err_msg=label)


def check(cases):
    """Cases are (label, function, operands, expected or None for the function's own result on NumPy arrays). All of them
    are compiled as one function, on tensors and, where all operands are arrays, on NumPy arrays."""
    wanted = []
    for _, function, operands, expected in cases:
        with np.errstate(all="ignore"):
            wanted.append(function(*operands) if expected is None else expected)
    cut = np.cumsum([0, *(len(c[2]) for c in cases)])

    def together(*flat):
        return [f(*flat[low:high]) for (_, f, _, _), low, high in zip(cases, cut, cut[1:], strict=False)]

    plain = [x for c in cases for x in c[2]]
    tensors = [gx.tensor(x) if isinstance(x, np.ndarray) else x for x in plain]
    compiled = gx.compile(together)
    for kind, results in (
        ("dynamic", together(*tensors)),
        ("compiled", compiled(*tensors)),
        ("compiled on arrays", compiled(*plain)),
    ):
        for (label, *_), found, expected in zip(cases, results, wanted, strict=True):
            assert_same(found, expected, label=f"{label}, {kind}")


def _refused(name, dtype):
    """What NumPy computes and graphc refuses: integer reciprocals, which are 0 or 1 or undefined."""
    return name == "reciprocal" and np.dtype(dtype).kind in "biu"


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=lambda d: np.dtype(d).name)
def test_ufuncs_over_dtypes(dtype):
    cases = []
    for name, (ufunc, _) in {**elementwise.UFUNCS, **composed.COMPOSED}.items():
        operands = arrays(dtype, *[(3, 4), (4,)][: ufunc.nin])
        if name == "acosh" and dtype is not np.bool_:
            operands = [x + np.asarray(2).astype(dtype) for x in operands]
        try:
            with np.errstate(all="ignore"):
                expected = ufunc(*operands)
            loop = ufunc.resolve_dtypes((*(x.dtype for x in operands), *(None,) * ufunc.nout))
            supported = all(d in [np.dtype(known) for known in ALL_DTYPES] for d in loop) and not _refused(name, dtype)
        except TypeError:
            supported = False
        if supported:
            cases.append((name, ufunc, operands, expected))
            assert_same(getattr(gx, name)(*operands), expected, label=name)
            continue
        for wrong in (lambda u=ufunc, o=operands: u(*map(gx.tensor, o)), lambda u=ufunc, o=operands: gx.compile(u)(*o)):
            with pytest.raises(DTypeError):
                wrong()
    check(cases)


@pytest.mark.parametrize("left", ALL_DTYPES, ids=lambda d: np.dtype(d).name)
def test_promotion(left):
    x = arrays(left, (3,))[0]
    cases = []
    for right in [*ALL_DTYPES, 2, 2.5, True]:
        y = right if isinstance(right, (int, float)) else arrays(right, (2, 3))[0]
        for function in (operator.add, operator.mul, operator.truediv, operator.lt, operator.ge, operator.ne):
            for a, b in ((x, y), (y, x)):
                with np.errstate(all="ignore"):
                    expected = function(a, b)
                cases.append((f"{function.__name__} {right}", function, (a, b), expected))
    check(cases)


BFLOAT16 = dtypes.bfloat16.numpy


def test_bfloat16_promotion():
    """It stays with bools, integers and Python numbers, and is float32 beside other floats."""
    x = np.linspace(-2, 2, 6).astype(BFLOAT16)
    wide = x.astype(np.float32)
    for other in (*ALL_DTYPES, BFLOAT16, 2, 0.5, True):
        y = other if isinstance(other, (int, float)) else np.arange(6).astype(other)
        is_float = isinstance(y, np.ndarray) and y.dtype.kind == "f"
        common = np.result_type(np.float32, y.dtype) if is_float else BFLOAT16
        for function in (operator.add, operator.mul, operator.truediv, operator.lt, np.maximum, operator.pow):
            with np.errstate(all="ignore"):
                second = y.astype(BFLOAT16) if common == BFLOAT16 and isinstance(y, np.ndarray) else y
                second = second.astype(np.float32) if getattr(second, "dtype", None) == BFLOAT16 else second
                expected = function(wide, second)
            expected = expected if expected.dtype == np.bool_ else expected.astype(common)
            for found in run_both(function, x, y):
                assert found.dtype == expected.dtype, (function, other)
                with np.errstate(all="ignore"):
                    pair = np.asarray(found).astype(np.float64), expected.astype(np.float64)
                np.testing.assert_allclose(*pair, rtol=1e-2 if common == BFLOAT16 else 1e-6)
        assert gx.result_type(BFLOAT16, y) == common
        assert gx.where(gx.tensor(x) > 0, x, y).dtype == common


def test_bfloat16_without_ml_dtypes():
    program = "import sys; sys.modules['ml_dtypes'] = None; import graphc as gx, numpy as np\n"
    program += "assert gx.compile(lambda x: x + 1)(np.ones(2, np.float16)).dtype == np.float16\n"
    program += "try: gx.bfloat16\nexcept gx.errors.MissingDependencyError as e: print(e)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "bfloat16 needs ml_dtypes" in done.stdout and "pip install ml_dtypes" in done.stdout


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16], ids=str)
def test_short_floats_are_averaged_in_float32(dtype):
    x = np.full((300, 301), 30, dtype)
    x[::2] = 10
    for function in (gx.mean, gx.std):
        for found in run_both(function, x):
            assert found.dtype == dtype and float(found) == (20 if function is gx.mean else 10)
    (draws,) = (gx.random.uniform((50_000,), dtype=dtype) for _ in range(1))
    assert draws.dtype == dtype and float(draws.max()) < 1 and abs(float(draws.mean()) - 0.5) < 0.01


def test_mixed_signs_compare_by_value():
    signed = np.array([-1, 0, 5, np.iinfo(np.int64).max, np.iinfo(np.int64).min])
    unsigned = np.array([0, 2**64 - 1, 5, 2**63, 2**63], dtype=np.uint64)
    compare = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
    check([(f.__name__, f, (signed, unsigned), None) for f in compare])
    check([(f.__name__, f, (unsigned, signed), None) for f in compare])


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda d: np.dtype(d).name)
def test_python_integers_beyond_a_dtype(dtype):
    """Comparisons are decided by value; arithmetic is refused, as in NumPy."""
    limits = np.iinfo(dtype)
    x = np.array([limits.min, limits.min + 1, 0, 1, limits.max], dtype)
    compare = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
    cases = []
    for f in compare:
        for y in (limits.min, limits.max, limits.min - 1, limits.max + 1, -(2**70), 2**70):
            cases += [
                (f"{f.__name__} {y}", lambda x, f=f, y=y: f(x, y), (x,), None),
                (f"{y} {f.__name__}", lambda x, f=f, y=y: f(y, x), (x,), None),
            ]
    check(cases)
    where = lambda x, y: np.where(x > 0, x, y)  # noqa: E731
    for f in (operator.add, operator.mul, operator.floordiv, np.maximum, where):
        for y in (limits.max + 1, limits.min - 1):
            if f is not where:  # NumPy's wraps silently
                with pytest.raises(OverflowError):
                    f(x, y)
            for function in (lambda x, f=f, y=y: f(x, y), gx.compile(lambda x, f=f, y=y: f(x, y))):
                with pytest.raises(LiteralError, match=r"does not fit [\s\S]*test_functions\.py"):
                    function(gx.tensor(x))


OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow]
OPERATORS += [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]


def test_operators_with_scalars_on_both_sides():
    x = RNG.uniform(0.5, 2, (2, 3)).astype(np.float32)
    cases = []
    for function in OPERATORS:
        for other in (2, 0.5, 3.0, np.float32(1.5), np.float64(1.5)):
            cases += [(function.__name__, function, (x, other), None), (function.__name__, function, (other, x), None)]
    cases += [("neg", operator.neg, (x,), None), ("abs", abs, (-x,), None)]
    cases += [
        ("invert", operator.invert, (np.array([1, 2, 3]),), None),
        ("divmod", lambda x: divmod(x, 2)[1], (x,), None),
    ]
    cases += [("round", lambda x: round(x, 1), (x,), np.round(x, 1))]
    check(cases)


def test_powers():
    cases = []
    for exponent in (-2, -1, -0.5, 0, 0.5, 1, 2, 3, 4, 5, 2.5):
        cases.append((f"x**{exponent}", lambda x, e=exponent: x**e, (RNG.uniform(0.5, 2, (5,)),), None))
        if isinstance(exponent, int) and exponent >= 0:
            cases.append((f"n**{exponent}", lambda x, e=exponent: x**e, (np.arange(-3, 4),), None))
    check(cases)
    with pytest.raises(OptionError, match="negative"):
        gx.tensor([1, 2]) ** -1


A = RNG.standard_normal((3, 4, 5)).astype(np.float32)
B = RNG.standard_normal((3, 4, 5)).astype(np.float32)
M = RNG.standard_normal((4, 4))
V = RNG.standard_normal(4)
I = RNG.integers(0, 4, (2, 3))

N = np.where(RNG.uniform(size=(3, 6)) < 0.3, np.nan, RNG.standard_normal((3, 6)))
S = np.array([0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan])

CASES = {
    np.sum: [lambda f: f(A), lambda f: f(A, axis=1), lambda f: f(A, axis=(0, -1), keepdims=True), lambda f: f(I)],
    np.prod: [lambda f: f(A, axis=2), lambda f: f(I, axis=0)],
    np.max: [lambda f: f(A), lambda f: f(A, axis=0), lambda f: f(I, axis=1)],
    np.min: [lambda f: f(A, axis=(1, 2)), lambda f: f(I > 1)],
    np.amax: [lambda f: f(A, axis=0)],
    np.amin: [lambda f: f(A, axis=0)],
    np.mean: [lambda f: f(A), lambda f: f(A, axis=-1), lambda f: f(I, axis=0)],
    np.var: [lambda f: f(A, axis=1), lambda f: f(A, ddof=1)],
    np.std: [lambda f: f(A, axis=1, keepdims=True)],
    np.all: [lambda f: f(I), lambda f: f(A > -1, axis=0)],
    np.any: [lambda f: f(I, axis=1)],
    np.argmax: [lambda f: f(A), lambda f: f(A, axis=1), lambda f: f(A, axis=-1, keepdims=True)],
    np.argmin: [lambda f: f(A, axis=0), lambda f: f(I)],
    np.count_nonzero: [lambda f: f(I), lambda f: f(I, axis=1)],
    np.reshape: [lambda f: f(A, (5, -1)), lambda f: f(A, 60)],
    np.ravel: [lambda f: f(A)],
    np.transpose: [lambda f: f(A), lambda f: f(A, (1, 0, 2))],
    np.swapaxes: [lambda f: f(A, 0, 2)],
    np.moveaxis: [lambda f: f(A, 0, -1), lambda f: f(A, (0, 1), (2, 0))],
    np.expand_dims: [lambda f: f(A, 1), lambda f: f(A, (0, -1))],
    np.squeeze: [lambda f: f(A[:1]), lambda f: f(A[:, :1], axis=1)],
    np.broadcast_to: [lambda f: f(V, (3, 4))],
    np.concatenate: [
        lambda f: f([A, B]),
        lambda f: f((A, B), axis=-1),
        lambda f: f([A, B], axis=None),
        lambda f: f([I, V[None, :3]]),
    ],
    np.stack: [lambda f: f([A, B]), lambda f: f([A, B], axis=-1)],
    np.vstack: [lambda f: f([V, M])],
    np.hstack: [lambda f: f([V, V]), lambda f: f([M, M])],
    np.flip: [lambda f: f(A), lambda f: f(A, axis=1)],
    np.roll: [lambda f: f(A, 2), lambda f: f(A, -1, axis=1), lambda f: f(A, (1, 2), axis=(0, 2))],
    np.convolve: [
        *(lambda f, m=m: f(V, V[:2], m) for m in ("full", "same", "valid")),
        lambda f: f(V[:2], A[0, 0]),
        lambda f: f(np.arange(5), np.arange(3)),
    ],
    np.correlate: [
        *(lambda f, m=m: f(V, V[:3], m) for m in ("full", "same", "valid")),
        *(lambda f, m=m: f(V[:2], A[0, 0], m) for m in ("full", "same", "valid")),
        lambda f: f(V, V),
    ],
    np.lib.stride_tricks.sliding_window_view: [
        lambda f: f(V, 3),
        lambda f: f(A, (2, 3), axis=(0, 2)),
        lambda f: f(A, 2, axis=-1),
        lambda f: f(M, (1, 2)),
    ],
    np.pad: [
        lambda f: f(A, 1),
        lambda f: f(M, ((1, 0), (2, 3)), constant_values=2.5),
        lambda f: f(V, (2, 1), mode="constant"),
        lambda f: f(A, 2, mode="edge"),
        lambda f: f(M, ((9, 7), (0, 2)), mode="reflect"),
        lambda f: f(M, ((9, 7), (0, 2)), mode="symmetric"),
        lambda f: f(A, (3, 6), mode="wrap"),
    ],
    np.tile: [lambda f: f(V, 3), lambda f: f(M, (2, 1, 3))],
    np.repeat: [lambda f: f(M, 2), lambda f: f(M, 3, axis=1), lambda f: f(M, (1, 0, 2, 3), axis=1)],
    np.tril: [lambda f: f(M), lambda f: f(A, k=-1)],
    np.triu: [lambda f: f(M, k=1)],
    np.where: [lambda f: f(A > 0, A, 0), lambda f: f(V > 0, M, 1.0), lambda f: f(I > 1, I, -1)],
    np.clip: [lambda f: f(A, -0.5, 0.5), lambda f: f(A, None, 0.1), lambda f: f(I, 1, 2)],
    np.round: [lambda f: f(A), lambda f: f(A, 1)],
    np.around: [lambda f: f(A)],
    np.take: [lambda f: f(M, I, axis=1), lambda f: f(M, I), lambda f: f(M, -1, axis=0)],
    np.take_along_axis: [lambda f: f(M, (I[:1].T % 4).repeat(4, 1)[:3], 0)],
    np.dot: [
        lambda f: f(M, M),
        lambda f: f(V, V),
        lambda f: f(M, V),
        lambda f: f(2.0, V),
        lambda f: f(A, M[:, :2].repeat(2, 0)[:5]),
    ],
    np.inner: [lambda f: f(V, V), lambda f: f(2.0, V), lambda f: f(A, M[:, :4].repeat(2, 1)[:, :5]), lambda f: f(M, M)],
    np.outer: [lambda f: f(V, V)],
    np.tensordot: [lambda f: f(A, B.transpose(1, 2, 0), 2), lambda f: f(A, B, ((0, 2), (0, 2)))],
    np.linalg.norm: [lambda f: f(V), lambda f: f(A, axis=1), lambda f: f(A), lambda f: f(M, "fro"), lambda f: f(I)]
    + [lambda f, o=o: f(A, o, axis=(2, 0), keepdims=True) for o in (1, -1, np.inf, -np.inf)]
    + [lambda f, o=o: f(A, o, axis=1) for o in (0, 1, 2, 3, -2, 0.5, np.inf, -np.inf)],
    np.einsum: [
        lambda f: f("ij,jk->ik", M, M),
        lambda f: f("bij,bkj->bik", A, B),
        lambda f: f("ii->i", M),
        lambda f: f("ii", M),
        lambda f: f("...ij->...ji", A),
        lambda f: f("i,j,k", V, V, V),
        lambda f: f("ij,jk,kl,l->i", M, M, M, V),
        lambda f: f("ijk,ijk->", A, B),
        lambda f: f("ijk,ijk->ij", A, B),
        lambda f: f("iji", A[:, :, :3]),
        lambda f: f("...,...", A[:, :1], B),
        lambda f: f("ij , jk", I, I.T),
        lambda f: f("ij,jk", I > 1, I.T > 1),
        lambda f: f("i...->...", A),
    ],
    np.kron: [lambda f: f(M, V), lambda f: f(V, A), lambda f: f(I, I)],
    np.vdot: [lambda f: f(A, B), lambda f: f(I, I)],
    np.cross: [
        lambda f: f(A[..., :3], B[..., :3]),
        lambda f: f(A, B, axis=0),
        lambda f: f(A, B, axisa=0, axisb=0, axisc=1),
    ],
    np.linalg.cross: [lambda f: f(A[..., :3], B[:1, :, 1:4])],
    np.linalg.diagonal: [lambda f: f(A, offset=1)],
    np.linalg.trace: [lambda f: f(A), lambda f: f(I, offset=-1)],
    np.linalg.matmul: [lambda f: f(M, M)],
    np.linalg.outer: [lambda f: f(V, V)],
    np.linalg.tensordot: [lambda f: f(A, B, axes=3)],
    np.linalg.vecdot: [lambda f: f(A, B), lambda f: f(A, B, axis=-2)],
    np.linalg.matrix_transpose: [lambda f: f(A)],
    np.linalg.matrix_power: [lambda f, n=n: f(M, n) for n in (0, 1, 2, 3, 6)] + [lambda f: f(I[:, :2], 3)],
    np.linalg.matrix_norm: [lambda f: f(A), lambda f: f(A, ord=1, keepdims=True), lambda f: f(M, ord=-np.inf)],
    np.linalg.vector_norm: [lambda f: f(A), lambda f: f(A, axis=(0, 1), ord=3), lambda f: f(M, ord=1, keepdims=True)],
    np.linalg.multi_dot: [lambda f: f([M, M[:, :2], M[:2], V]), lambda f: f([V, M, M[:, :2]]), lambda f: f([V, V])],
    np.trapezoid: [
        lambda f: f(A),
        lambda f: f(M, np.sort(V), axis=0),
        lambda f: f(V, dx=0.5),
        lambda f: f(A, B, axis=1),
        lambda f: f(I),
    ],
    np.ptp: [lambda f: f(A), lambda f: f(I, axis=0, keepdims=True)],
    np.average: [lambda f: f(A, axis=1), lambda f: f(M, weights=M * M), lambda f: f(M, axis=1, weights=V)],
    np.bincount: [],
    np.histogram: [],
    np.histogram_bin_edges: [lambda f: f(A), lambda f: f(V, 5, (-1.0, 2.0)), lambda f: f(I, 4), lambda f: f(V[:1], 3)],
    np.nansum: [lambda f: f(N), lambda f: f(N, axis=0), lambda f: f(I)],
    np.nanprod: [lambda f: f(N, axis=1), lambda f: f(I)],
    np.nanmax: [lambda f: f(N), lambda f: f(N, axis=0), lambda f: f(I)],
    np.nanmin: [lambda f: f(N, axis=1, keepdims=True)],
    np.nanmean: [lambda f: f(N), lambda f: f(N, axis=0), lambda f: f(I)],
    np.nanvar: [lambda f: f(N, axis=1), lambda f: f(N, ddof=1), lambda f: f(I)],
    np.nanstd: [lambda f: f(N, axis=1)],
    np.nanargmax: [lambda f: f(N[:, :1]), lambda f: f(N, axis=1)],
    np.nanargmin: [lambda f: f(N, axis=1)],
    np.fft.fftshift: [lambda f: f(A), lambda f: f(A, 1), lambda f: f(A, (0, -1)), lambda f: f(V)],
    np.fft.ifftshift: [lambda f: f(A), lambda f: f(A, axes=1), lambda f: f(I, (1, 0))],
    np.zeros_like: [lambda f: f(A)],
    np.ones_like: [lambda f: f(I)],
    np.empty_like: [],
    np.full_like: [lambda f: f(A, 3.5)],
    np.atleast_1d: [lambda f: f(V)],
    np.atleast_2d: [lambda f: f(V)],
    np.copy: [lambda f: f(A)],
    np.astype: [lambda f: f(A, np.int32), lambda f: f(I, np.float32), lambda f: f(I, bool)],
    np.fix: [lambda f: f(3 * A), lambda f: f(I)],
    np.sinc: [lambda f: f(A), lambda f: f(I)],
    np.nan_to_num: [lambda f: f(S), lambda f: f(S, nan=1.0, posinf=2.0, neginf=3.0), lambda f: f(I)],
    np.isposinf: [lambda f: f(S)],
    np.isneginf: [lambda f: f(S)],
    np.isclose: [lambda f: f(A, A + np.float32(1e-6)), lambda f: f(S, S, equal_nan=True), lambda f: f(I, I)],
    np.allclose: [lambda f: f(A, A), lambda f: f(S, S), lambda f: f(A, B, atol=100.0)],
    np.array_equal: [
        lambda f: f(A, A),
        lambda f: f(A, B),
        lambda f: f(S, S),
        lambda f: f(S, S, equal_nan=True),
        lambda f: f(A, I),
    ],
    np.real: [lambda f: f(A)],
    np.imag: [lambda f: f(S)],
    np.angle: [lambda f: f(S), lambda f: f(A, deg=True)],
    np.atleast_3d: [lambda f: f(V), lambda f: f(M)],
    np.diagonal: [lambda f, k=k: f(A, k, 2, 0) for k in range(-5, 5)] + [lambda f: f(M)],
    np.trace: [lambda f: f(M), lambda f: f(A, 1, 1, 2), lambda f: f(I), lambda f: f(I > 1)],
    np.diag: [lambda f, k=k: f(V, k) for k in (-2, 0, 1)] + [lambda f: f(M, 1)],
    np.diagflat: [lambda f: f(M[:2], -1)],
    np.rot90: [lambda f, k=k: f(A, k, (0, 2)) for k in range(-1, 4)],
    np.fliplr: [lambda f: f(A)],
    np.flipud: [lambda f: f(A)],
    np.matrix_transpose: [lambda f: f(A)],
    np.resize: [lambda f: f(V, (3, 5)), lambda f: f(M, 7)],
    np.append: [lambda f: f(M, V), lambda f: f(M, M, axis=1)],
    np.column_stack: [lambda f: f([V, M])],
    np.dstack: [lambda f: f([M, M]), lambda f: f([V, V])],
    np.rollaxis: [lambda f: f(A, 2), lambda f: f(A, 0, 3), lambda f: f(A, 1, 2)],
    np.diff: [
        lambda f: f(V),
        lambda f: f(A, n=2, axis=1),
        lambda f: f(I > 1),
        lambda f: f(M, prepend=1.0, append=M),
        lambda f: f(V[:1]),
        lambda f: f(V, n=6),
        lambda f: f(I, axis=0),
    ],
    np.ediff1d: [lambda f: f(M), lambda f: f(V, to_begin=np.array([1.0, 2.0]), to_end=3.0)],
    np.gradient: [lambda f: f(V), lambda f: f(A, 0.5, axis=1), lambda f: f(I[0])],
    np.vander: [lambda f: f(V), lambda f: f(V, 3, increasing=True), lambda f: f(I[0], 2), lambda f: f(V, 0)],
    np.cumsum: [lambda f: f(A), lambda f: f(A, axis=1), lambda f: f(I, axis=0), lambda f: f(I > 1)],
    np.cumprod: [lambda f: f(A, axis=2), lambda f: f(I)],
    np.nancumsum: [lambda f: f(S)],
    np.nancumprod: [lambda f: f(S[:4]), lambda f: f(I)],
    np.sort: [lambda f: f(A), lambda f: f(A, axis=0), lambda f: f(I, axis=None), lambda f: f(S), lambda f: f(I > 1)],
    np.argsort: [lambda f: f(A), lambda f: f(I, axis=0, stable=True), lambda f: f(S)],
    np.partition: [],
    np.argpartition: [],
    np.searchsorted: [
        lambda f: f(np.sort(S), S),
        lambda f: f(np.sort(S), S, side="right"),
        lambda f: f(np.array([1, 2, 2, 3]), I),
        lambda f: f(V, M, sorter=np.argsort(V)),
        lambda f: f(V[:0], V),
    ],
    np.digitize: [lambda f: f(A, np.array([-1.0, 0.0, 1.0])), lambda f: f(I, np.array([1, 2]), right=True)],
    np.isin: [lambda f: f(I, np.array([1, 3])), lambda f: f(S, S, invert=True)],
    np.median: [
        lambda f: f(A),
        lambda f: f(A, axis=1),
        lambda f: f(A, axis=(0, 2), keepdims=True),
        lambda f: f(I, axis=0),
        lambda f: f(S),
        lambda f: f(V[:3]),
    ],
    np.quantile: [
        lambda f: f(A, 0.3),
        lambda f: f(A, [0.1, 0.5, 1.0], axis=1),
        lambda f: f(S, 0.5),
        lambda f: f(I, 0.25),
    ]
    + [lambda f, m=m: f(V, [0.0, 0.2, 0.7], method=m) for m in ("lower", "higher", "nearest", "midpoint", "hazen")]
    + [lambda f, m=m: f(V, [0.0, 0.2, 0.7], method=m) for m in ("weibull", "median_unbiased", "normal_unbiased")]
    + [lambda f: f(M, 0.4, axis=0, keepdims=True), lambda f: f(V, 0.4, method="interpolated_inverted_cdf")],
    np.percentile: [lambda f: f(A, 30), lambda f: f(M, [10, 75.5], axis=(0, 1))],
    np.unique: [],
    np.unique_values: [],
    np.unique_counts: [],
    np.unique_inverse: [],
    np.unique_all: [],
    np.nonzero: [],
    np.flatnonzero: [],
    np.argwhere: [],
    np.put_along_axis: [],
    np.fft.fftshift: [lambda f: f(A), lambda f: f(M, axes=0), lambda f: f(A[..., :4], axes=(1, 2))],
    np.fft.ifftshift: [lambda f: f(A), lambda f: f(A, axes=(0, 2))],
    np.block: [lambda f: f([M, M]), lambda f: f([V, V])],
    np.delete: [
        lambda f: f(A, 1, axis=1),
        lambda f: f(V, [0, 2]),
        lambda f: f(A, slice(0, 2), axis=2),
        lambda f: f(M, -1),
    ],
    np.insert: [
        lambda f: f(V, 1, 5.0),
        lambda f: f(M, 2, V, axis=0),
        lambda f: f(M, 1, V, axis=1),
        lambda f: f(M, [0, 3], 7.0, axis=1),
        lambda f: f(I, [1, 1], [8, 9]),
    ],
    np.select: [lambda f: f([A > 0, B > 0], [A, B], 5.0), lambda f: f([I > 2, I > 1], [I, -I])],
    np.unravel_index: [],
    np.interp: [
        lambda f: f(A, np.array([-1.0, 0.0, 0.5, 2.0]), V),
        lambda f: f(M, np.array([-1.0, 0.0, 0.0, 1.0]), V, left=-7.0, right=9.0),
        lambda f: f(S, np.array([1.0]), np.array([3.0])),
    ],
    np.polyval: [lambda f: f(V, M), lambda f: f(I[0], I), lambda f: f(V[:0], V)],
    np.cov: [lambda f: f(M), lambda f: f(M, rowvar=False, bias=True), lambda f: f(V), lambda f: f(I, ddof=0)],
    np.corrcoef: [lambda f: f(M), lambda f: f(M, rowvar=False)],
    np.meshgrid: [],
    np.array_split: [],
    np.hsplit: [],
    np.vsplit: [],
    np.split: [],
    np.broadcast_arrays: [],
    np.shape: [],
    np.ndim: [],
    np.size: [],
    np.result_type: [],
}
#: Functions that NumPy 2.0 does not have.
NEWER = {
    "cumulative_sum": [lambda f: f(V), lambda f: f(A, axis=-1, include_initial=True)],
    "cumulative_prod": [lambda f: f(V, include_initial=True), lambda f: f(I, axis=1)],
    "unstack": [],
}
CASES |= {getattr(np, name): cases for name, cases in NEWER.items() if hasattr(np, name)}


def test_every_dispatched_function_has_cases():
    """Those of matrices have theirs in test_decompositions.py, transforms in test_fft.py."""
    elsewhere = {np.linalg.cond, *decompositions.NUMPY_FUNCTIONS, *fft.NUMPY_FUNCTIONS}
    assert set(methods.ARRAY_FUNCTIONS) == set(CASES) | elsewhere


class Recorder:
    """Replays a case on other arrays: the arrays of the case become arguments of a traced function."""

    def __init__(self, function):
        self.function = function
        self.arrays: list[np.ndarray] = []

    def __call__(self, *args, **kwargs):
        def pull(x):
            if isinstance(x, np.ndarray):
                self.arrays.append(x)
                index = len(self.arrays) - 1
                return lambda values: values[index]
            if isinstance(x, (list, tuple)) and any(isinstance(i, np.ndarray) for i in x):
                parts = [pull(i) for i in x]
                return lambda values: [p(values) for p in parts]
            return lambda values: x

        getters = [pull(a) for a in args]
        return lambda *values: self.function(*(g(values) for g in getters), **kwargs)


def test_numpy_functions():
    cases = []
    for function, calls in CASES.items():
        for call in calls:
            recorder = Recorder(function)
            replay = call(recorder)
            cases.append((function.__name__, replay, tuple(recorder.arrays), None))
    check(cases)


def test_functions_with_several_results_and_metadata():
    for mode in (lambda f: f, gx.compile):
        parts = mode(lambda x: np.split(x, [1, 3], axis=1))(gx.tensor(A))
        for part, expected in zip(parts, np.split(A, [1, 3], axis=1), strict=True):
            assert_same(part, expected)
        for many in (
            lambda x: np.array_split(x, 3, axis=2),
            lambda x: np.array_split(x, [1, 9], axis=1),
            lambda x: np.hsplit(x, 2),
            lambda x: np.vsplit(x, 3),
            lambda x: np.unstack(x, axis=1) if hasattr(np, "unstack") else np.split(x, 2, axis=1),
            lambda x: np.meshgrid(x[0, 0], x[1, :, 1], x[2, 2, :2]),
            lambda x: np.meshgrid(x[0, 0], x[1, :, 1], indexing="ij"),
            lambda x: np.atleast_2d(x[0, 0], x[0, 0, 0]),
            lambda x: np.gradient(x, 2.0, 0.5, 1.0),
            lambda x: np.modf(x * 3),
            lambda x: np.divmod(x, np.float32(0.3)),
            lambda x: np.unravel_index(np.argsort(x[0, 0]) * 11, (3, 4, 5)),
        ):
            for part, expected in zip(mode(many)(gx.tensor(A)), many(A), strict=True):
                assert_same(part, expected)
        a, b = mode(np.broadcast_arrays)(gx.tensor(M), gx.tensor(V))
        assert_same(b, np.broadcast_arrays(M, V)[1])
        assert_same(a, M)
        assert mode(lambda x: (np.shape(x), np.ndim(x), np.size(x), np.result_type(x, np.float64), len(x)))(
            gx.tensor(A)
        ) == (
            (3, 4, 5),
            3,
            60,
            np.dtype(np.float64),
            3,
        )
        assert mode(np.empty_like)(gx.tensor(A)).shape == A.shape


INDICES = [
    0,
    -1,
    slice(None),
    slice(1, 3),
    slice(None, None, -1),
    slice(3, 0, -2),
    slice(5, 9),
    slice(2, 2),
    Ellipsis,
    None,
    (0, 1),
    (slice(None), 2),
    (slice(1, None), slice(None, None, 2), 3),
    (Ellipsis, -1),
    (None, 0, Ellipsis, None),
    (slice(None), None, slice(0, 2)),
    np.array([2, 0, 1]),
    np.array([[0, -1], [1, 2]]),
    (np.array([0, 2]), np.array([1, 3])),
    (slice(None), np.array([3, 0, 3])),
    (np.array([0, 2]), slice(1, 3)),
    (np.array([0, 2]), slice(None), np.array([1, 4])),
    (np.array([[0], [1]]), np.array([1, 2, 3])),
    (slice(None), np.array([0, 1]), 2),
    (1, np.array([0, 1])),
    [0, 2],
]


def test_getitem():
    check([(repr(index), lambda x, i=index: x[i], (A,), None) for index in INDICES])


def test_setitem():
    basic = [i for i in INDICES if not isinstance(i, (np.ndarray, list)) and "array" not in repr(i)]
    parts = [A[i] * 2 for i in basic]

    def write(tensors, values):
        for index, tensor in zip(basic, tensors, strict=True):
            tensor[index] = 7.5
        return [t[i] * 1 for t, i in zip(tensors, basic, strict=True)], [
            t + v.sum() for t, v in zip(tensors, values, strict=True)
        ]

    def write_parts(tensors, values):
        for index, tensor, value in zip(basic, tensors, values, strict=True):
            tensor[index] = value

    for mode in (lambda f: f, gx.compile):
        for body, wanted in ((write, [7.5] * len(basic)), (write_parts, parts)):
            tensors = [gx.tensor(A) for _ in basic]
            mode(body)(tensors, parts)
            for index, tensor, value in zip(basic, tensors, wanted, strict=True):
                expected = A.copy()
                expected[index] = value
                np.testing.assert_array_equal(tensor, expected, err_msg=repr(index))


def test_masks():
    for mode in (lambda f: f, gx.compile):

        def write(x):
            x[x < 0] = 0

        tensor = gx.tensor(A)
        mode(write)(tensor)
        np.testing.assert_array_equal(tensor, np.maximum(A, 0))
    np.testing.assert_array_equal(gx.tensor(A)[A > 0], A[A > 0])


METHOD_CASES = {
    "sum": (lambda x: x.sum(1), None),
    "prod": (lambda x: x.prod(axis=0), None),
    "max": (lambda x: x.max(axis=1), None),
    "min": (lambda x: x.min(), None),
    "mean": (lambda x: x.mean(axis=(0, 1)), None),
    "var": (lambda x: x.var(axis=0, ddof=1), None),
    "std": (lambda x: x.std(), None),
    "all": (lambda x: (x > 0).all(axis=0), None),
    "any": (lambda x: (x > 2).any(), None),
    "argmax": (lambda x: x.argmax(axis=1), None),
    "argmin": (lambda x: x.argmin(), None),
    "clip": (lambda x: x.clip(-1, 1), None),
    "astype": (lambda x: x.astype(np.float64), None),
    "round": (lambda x: x.round(2), None),
    "reshape": (lambda x: x.reshape(5, -1), None),
    "transpose": (lambda x: x.transpose(2, 0, 1), None),
    "ravel": (lambda x: x.ravel(), None),
    "flatten": (lambda x: x.flatten(), None),
    "squeeze": (lambda x: x[:1].squeeze(), None),
    "swapaxes": (lambda x: x.swapaxes(0, 1), None),
    "repeat": (lambda x: x.repeat(2, axis=0), None),
    "take": (lambda x: x.take(I, axis=1), None),
    "dot": (lambda x: x.dot(x[0].T), None),
    "diagonal": (lambda x: x.diagonal(1, 0, 2), None),
    "trace": (lambda x: x.trace(), None),
    "cumsum": (lambda x: x.cumsum(axis=1), None),
    "cumprod": (lambda x: x.cumprod(), None),
    "argsort": (lambda x: x.argsort(axis=0), None),
    "topk": (lambda x: x.topk(2)[0], lambda x: np.sort(x)[..., :-3:-1]),
    "nonzero": (lambda x: x.nonzero(size=60)[2], lambda x: x.nonzero()[2]),
    "searchsorted": (lambda x: np.sort(x[0, 0]).searchsorted(x[1]), None),
    "copy": (lambda x: x.copy(), None),
    "exp": (lambda x: x.exp(), np.exp),
    "log": (lambda x: abs(x).log(), lambda x: np.log(abs(x))),
    "sqrt": (lambda x: abs(x).sqrt(), lambda x: np.sqrt(abs(x))),
    "tanh": (lambda x: x.tanh(), np.tanh),
    "sin": (lambda x: x.sin(), np.sin),
    "cos": (lambda x: x.cos(), np.cos),
    "abs": (lambda x: x.abs(), np.abs),
    "square": (lambda x: x.square(), np.square),
    "sign": (lambda x: x.sign(), np.sign),
    "floor": (lambda x: x.floor(), np.floor),
    "ceil": (lambda x: x.ceil(), np.ceil),
    "sigmoid": (lambda x: x.sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
    "relu": (lambda x: x.relu(), lambda x: np.maximum(x, 0)),
    "clamp": (lambda x: x.clamp(min=0.1), lambda x: np.maximum(x, np.float32(0.1))),
    "pow": (lambda x: x.pow(2), np.square),
    "view": (lambda x: x.view(60), lambda x: x.reshape(60)),
    "permute": (lambda x: x.permute(2, 0, 1), lambda x: x.transpose(2, 0, 1)),
    "unsqueeze": (lambda x: x.unsqueeze(1), lambda x: x[:, None]),
    "matmul": (lambda x: x.matmul(x.mT), lambda x: x @ x.swapaxes(-1, -2)),
    "clone": (lambda x: x.clone(), np.copy),
    "conj": (lambda x: x.conj(), np.copy),
    "conjugate": (lambda x: x.conjugate(), np.copy),
    "softmax": (lambda x: x.softmax(axis=1), lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
    "log_softmax": (lambda x: x.log_softmax(axis=1), lambda x: x - np.log(np.exp(x).sum(1, keepdims=True))),
}


def test_every_method_has_a_case():
    assert set(METHOD_CASES) == set(methods.METHODS)


def test_methods():
    tensor = gx.tensor(A)
    functions = {name: function for name, (function, _) in METHOD_CASES.items()}
    compiled = gx.compile(lambda x: {name: f(x) for name, f in functions.items()})
    for kind, results in (("compiled", compiled(tensor)), ("compiled on an array", compiled(A))):
        for name, (function, reference) in METHOD_CASES.items():
            expected = (reference or function)(A)
            assert_same(results[name], expected, rtol=2e-5, label=f"{name}, {kind}")
            assert_same(function(tensor), expected, rtol=2e-5, label=name)


MATMULS = [((4,), (4,)), ((4,), (4, 3)), ((2, 4), (4,)), ((2, 4), (4, 3)), ((5, 2, 4), (4, 3)), ((5, 2, 4), (5, 4, 3))]
MATMULS += [
    ((5, 2, 4), (4,)),
    ((4,), (5, 4, 3)),
    ((1, 2, 4), (5, 4, 3)),
    ((6, 1, 2, 4), (5, 4, 3)),
    ((0, 4), (4, 3)),
    ((2, 0), (0, 3)),
]


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float64, np.int64, np.int32, np.bool_], ids=lambda d: np.dtype(d).name
)
def test_matmul(dtype):
    cases = []
    for shapes in MATMULS:
        x, y = arrays(dtype, *shapes)
        cases.append((f"{shapes}", operator.matmul, (x, y), None))
        cases.append(
            (f"{shapes} transposed", lambda x, y: (y.T @ x.T).T if x.ndim == y.ndim == 2 else x @ y, (x, y), x @ y)
        )
    check(cases)


SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-310, 1e300])


def test_special_values_and_stability():
    for function in (gx.softplus, gx.sigmoid, gx.relu, gx.erf, gx.erfc):
        dynamic, compiled, _ = run_both(function, SPECIAL)
        np.testing.assert_allclose(np.asarray(compiled), np.asarray(dynamic), rtol=1e-14)
    big = np.array([[1000.0, 1001.0], [-np.inf, 0.0], [-np.inf, -np.inf], [np.inf, 0.0]])
    with np.errstate(all="ignore"):
        expected = np.logaddexp(big[:, 0], big[:, 1])
    for found in run_both(lambda x: gx.logsumexp(x, axis=1), big):
        np.testing.assert_allclose(found, expected)
    for found in run_both(lambda x: gx.softmax(x, axis=1), big[:2]):
        np.testing.assert_allclose(found, [[1 / (1 + np.e), np.e / (1 + np.e)], [0, 1]])
    for found in run_both(gx.gelu, np.linspace(-3, 3, 13)):
        from math import erf

        np.testing.assert_allclose(found, [0.5 * v * (1 + erf(v / 2**0.5)) for v in np.linspace(-3, 3, 13)], atol=1e-15)


def test_composed_functions_on_special_values():
    x, y = (g.ravel() for g in np.meshgrid(SPECIAL, SPECIAL))
    for name, (ufunc, _) in composed.COMPOSED.items():
        operands = (x, y)[: ufunc.nin]
        with np.errstate(all="ignore"):
            expected = ufunc(*operands)
        for found in run_both(getattr(gx, name), *operands):
            np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-16, err_msg=name)


def test_derivatives_of_log_of_sums():
    for function, base in ((gx.logaddexp, np.e), (gx.logaddexp2, 2.0)):
        x, y = np.array([0.0, 1.0, -2.0, 800.0]), np.array([0.0, 2.0, 1.0, -800.0])
        found = gx.grad(lambda x, f=function, y=y: f(x, y).sum())(x)
        np.testing.assert_allclose(found, 1 / (1 + base ** np.minimum(y - x, 500)), rtol=1e-12)


def test_empty_reductions():
    e = np.zeros((0, 3))
    for function in (np.sum, np.prod, np.mean):
        with np.errstate(all="ignore"), pytest.warns(RuntimeWarning) if function is np.mean else _nothing():
            expected = function(e, axis=0)
        for found in run_both(lambda x, f=function: f(x, axis=0), e):
            assert_same(found, expected)
    for mode in (lambda f: f, gx.compile):
        for function in (np.max, np.argmin):
            with pytest.raises(ValueError, match="empty"):
                mode(lambda x, f=function: f(x, axis=0))(gx.tensor(e))


class _nothing:
    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None


def test_array_api_names_work_on_plain_arrays():
    assert isinstance(gx.exp(np.zeros(2)), gx.Tensor)
    assert gx.concat([np.ones(2), gx.zeros(1)]).dtype == np.float64
    assert broadcast_shapes("x", [np.zeros((3, 1)), np.zeros(4)]) == (3, 4)


def test_files_keep_bfloat16(tmp_path):
    """NumPy's files forget the dtype's name: side files of graphs and weights of exported models bring it back."""
    table = np.linspace(0, 1, 400).reshape(20, 20).astype(BFLOAT16)
    model = nn.Linear(20, 3, dtype=BFLOAT16)

    @gx.compile
    def exported(x):
        return model(x @ table)

    x = np.ones((2, 20), BFLOAT16)
    exported.export(str(tmp_path / "halves"), x)
    program = "import numpy as np, ml_dtypes, halves\n"
    program += "print(halves.exported(np.ones((2, 20), ml_dtypes.bfloat16)).astype(float).tolist())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == str(np.asarray(exported(x)).astype(float).tolist())
    graph = exported.inspect(x).graph
    save(graph, tmp_path / "graph.gir")
    assert load(tmp_path / "graph.gir").same_as(graph)


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.int8, np.uint16], ids=lambda d: np.dtype(d).name)
def test_narrow_dtypes_under_checks(dtype, monkeypatch):
    """Every pass keeps values, as GRAPHC=check sees them, and compiled code gives what dynamic mode gives."""
    x = (np.random.default_rng(0).normal(size=(33, 17)) * 3).astype(dtype)
    w = (np.arange(289).reshape(17, 17) % 7).astype(dtype)

    def function(x, w):
        y = x @ w
        parts = [y.sum(axis=0), (x * 2 + 1).max(), gx.sort(y, axis=1), x[::2, ::-1], gx.where(x > 1, x, 0)]
        return [*parts, gx.concat([x, x]), np.take(x, [1, 2], axis=1), x.astype(np.int16), x.astype(np.bool_)]

    monkeypatch.setenv("GRAPHC", "check,verify")
    for found, expected in zip(gx.compile(function)(x, w), function(gx.tensor(x), gx.tensor(w)), strict=True):
        pair = np.asarray(found), np.asarray(expected)
        assert pair[0].dtype == pair[1].dtype
        np.testing.assert_array_equal(*(y.astype(np.float64) for y in pair))


def test_sample_frequencies():
    for n in (1, 2, 7, 8):
        for name in ("fftfreq", "rfftfreq"):
            expected = getattr(np.fft, name)(n, 0.25)
            assert_same(getattr(gx.fft, name)(n, d=0.25), expected.astype(np.float32))
            assert_same(getattr(gx.fft, name)(n, d=0.25, dtype=gx.float64), expected)
            assert_same(gx.compile(lambda x, f=name, n=n: x * getattr(gx.fft, f)(n)[0])(A[0, 0]), A[0, 0] * 0)
