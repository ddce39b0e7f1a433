"""Decompositions and solutions of linear systems. Layer 5.

They are NumPy's LAPACK, called from native code too (`inspect` lists the calls); derivatives are native code. Matrices are
the last two axes; leading axes are batches. Integers become float64. `graphc.frontend.linalg` offers them to users.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from graphc.errors import MatrixError, OptionError, ShapeError, message
from graphc.frontend import elementwise, reducing, shaping
from graphc.frontend.elementwise import apply_ufunc
from graphc.frontend.products import matmul
from graphc.frontend.promotion import as_tensor, broadcast_shapes, broadcast_to, convert, describe, op, result_dtype
from graphc.frontend.shaping import expand_dims, matrix_transpose
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, apply
from graphc.ir import registry

__all__ = [
    "NUMPY_FUNCTIONS",
    "EigResult",
    "EighResult",
    "QRResult",
    "SVDResult",
    "SlogdetResult",
    "bad_option",
    "cholesky",
    "det",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "floating",
    "inv",
    "lstsq",
    "matrices",
    "matrix_rank",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
]


class EighResult(NamedTuple):
    """Eigenvalues, ascending, and eigenvectors in columns."""

    eigenvalues: Any
    eigenvectors: Any


class EigResult(NamedTuple):
    """Eigenvalues and eigenvectors in columns, complex."""

    eigenvalues: Any
    eigenvectors: Any


class QRResult(NamedTuple):
    """An orthonormal and an upper triangular factor."""

    Q: Any
    R: Any


class SlogdetResult(NamedTuple):
    """Sign and logarithm of the magnitude of determinants."""

    sign: Any
    logabsdet: Any


class SVDResult(NamedTuple):
    """Left singular vectors in columns, singular values, descending, and right singular vectors in rows."""

    U: Any
    S: Any
    Vh: Any


# -- arguments -------------------------------------------------------------------------------------------------------------


def floating(x: Any) -> Tensor:
    tensor = as_tensor(x)
    return tensor if tensor.dtype.kind in "fc" else convert(tensor, np.float64)


def matrices(name: str, x: Any, *, square: bool = False) -> Tensor:
    """A floating-point tensor of matrices."""
    tensor = _ranked(name, floating(x))
    if square and tensor.shape[-1] != tensor.shape[-2]:
        raise MatrixError(
            message(
                f"{name}: the last two axes must be equal, the matrices square",
                operands=[("x", describe(tensor))],
                location=user_location(),
                hint="For other matrices there are pinv, svd, qr and lstsq.",
            )
        )
    return tensor


def _ranked(name: str, x: Tensor) -> Tensor:
    if x.ndim < 2:
        raise MatrixError(
            message(
                f"{name} takes matrices: the last two axes of an operand of rank 2 or more",
                operands=[("x", describe(x))],
                location=user_location(),
                hint="Make a matrix of a vector with x[:, None] or x[None, :].",
            )
        )
    return x


def bad_option(name: str, what: str, value: Any, known: str) -> OptionError:
    return OptionError(message(f"{name}: there is no {what} {value!r}", location=user_location(), hint=known))


def times(x: Any, y: Any) -> Tensor:
    return apply_ufunc("multiply", x, y)


def over(x: Any, y: Any) -> Tensor:
    return apply_ufunc("divide", x, y)


def minus(x: Any, y: Any) -> Tensor:
    return apply_ufunc("subtract", x, y)


# -- factorisations --------------------------------------------------------------------------------------------------------


def cholesky(x: Any, /, *, upper: bool = False) -> Tensor:
    """The lower triangular L with x = L L^H, or, with `upper`, U = L^H, of symmetric (Hermitian) positive definite matrices
    [..., n, n].

    One triangle of x is read; its derivative is that of symmetric matrices.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a matrix is not positive definite.
    """
    tensor = matrices("cholesky", x, square=True)
    if upper:
        return matrix_transpose(op("cholesky", matrix_transpose(tensor)))
    return op("cholesky", tensor)


def qr(x: Any, /, *, mode: str = "reduced") -> QRResult:
    """x = Q R for [..., m, n]: Q [..., m, k] with orthonormal columns, R [..., k, n] upper triangular; k is min(m, n), or m
    with mode="complete"."""
    tensor = matrices("qr", x)
    if mode not in ("reduced", "complete"):
        raise bad_option("qr", "mode", mode, "Modes are 'reduced' and 'complete'.")
    return QRResult(*apply(registry.get("qr"), (tensor,), {"mode": mode}))


def svd(x: Any, /, *, full_matrices: bool = True) -> SVDResult:
    """x = U diag(S) Vh for [..., m, n], S descending; without `full_matrices`, U and Vh have min(m, n) columns and rows.

    Singular vectors have a derivative where singular values differ, and with full_matrices=False (or square matrices).
    """
    tensor = matrices("svd", x)
    return SVDResult(*apply(registry.get("svd"), (tensor,), {"full_matrices": bool(full_matrices)}))


def svdvals(x: Any, /) -> Tensor:
    """Singular values [..., min(m, n)], descending."""
    return op("svdvals", matrices("svdvals", x))


def eigh(x: Any, /) -> EighResult:
    """Eigenvalues [..., n], ascending, and eigenvectors [..., n, n] of symmetric (Hermitian) matrices; the lower triangle is
    read.

    Eigenvectors have a derivative where eigenvalues differ.
    """
    return _eigh(x, "L")


def _eigh(x: Any, uplo: str) -> EighResult:
    tensor = matrices("eigh", x, square=True)
    return EighResult(*apply(registry.get("eigh"), (tensor,), {"uplo": _triangle("eigh", uplo)}))


def _triangle(name: str, uplo: str) -> str:
    if uplo.upper() not in ("L", "U"):
        raise bad_option(name, "UPLO", uplo, "It is 'L' for the lower, 'U' for the upper triangle.")
    return uplo.upper()


def eigvalsh(x: Any, /) -> Tensor:
    """Eigenvalues [..., n], ascending, of symmetric matrices; the lower triangle is read."""
    return _eigvalsh(x, "L")


def _eigvalsh(x: Any, uplo: str) -> Tensor:
    return op("eigvalsh", matrices("eigvalsh", x, square=True), uplo=_triangle("eigvalsh", uplo))


def eig(x: Any, /) -> EigResult:
    """Eigenvalues [..., n] and eigenvectors [..., n, n], in columns of norm 1, of any square matrices; always complex.

    The order of eigenvalues and the phases of eigenvectors are LAPACK's. Both have a derivative where eigenvalues differ, that
    of eigenvectors for functions that do not depend on phases. (NumPy's results are real where no eigenvalue of real matrices
    has an imaginary part; dtypes do not depend on values here.)

    >>> import numpy as np, graphc as gx
    >>> values, vectors = gx.linalg.eig(np.array([[0.0, -1.0], [1.0, 0.0]]))
    >>> sorted(values.numpy().imag.round(6).tolist())
    [-1.0, 1.0]
    """
    return EigResult(*apply(registry.get("eig"), (_complex("eig", x),), {}))


def eigvals(x: Any, /) -> Tensor:
    """Eigenvalues [..., n] of any square matrices, always complex; see `eig`."""
    return op("eigvals", _complex("eigvals", x))


def _complex(name: str, x: Any) -> Tensor:
    tensor = matrices(name, x, square=True)
    return convert(tensor, tensor.type.dtype.numpy if tensor.type.dtype.is_complex else result_dtype(tensor, 1j))


# -- solutions -------------------------------------------------------------------------------------------------------------


def solve(x1: Any, x2: Any, /) -> Tensor:
    """The z with x1 z = x2: x1 is [..., n, n], x2 a vector [n] or right-hand sides in columns [..., n, k].

    Raises
    ------
    numpy.linalg.LinAlgError
        If a matrix is singular.
    """
    x, y = matrices("solve", x1, square=True), floating(x2)
    dtype = result_dtype(x, y)
    x, y = convert(x, dtype), convert(y, dtype)
    vector = y.ndim == 1
    columns = expand_dims(y, axis=-1) if vector else y
    if not y.ndim or columns.shape[-2] != x.shape[-1]:
        raise ShapeError(
            message(
                "solve: x2 must have as many rows as x1",
                operands=[("x1", describe(x)), ("x2", describe(y))],
                location=user_location(),
                hint="A right-hand side is a vector [n], or the columns of [..., n, k].",
            )
        )
    batch = _batch("solve", x, columns)
    x = broadcast_to(x, (*batch, *x.shape[-2:]))
    columns = broadcast_to(columns, (*batch, *columns.shape[-2:]))
    out = op("solve", x, columns)
    return shaping.squeeze(out, axis=-1) if vector else out


def _batch(name: str, x: Tensor, y: Tensor) -> tuple[int, ...]:
    return broadcast_shapes(name, [np.broadcast_to(np.int8(0), t.shape[:-2]) for t in (x, y)])


def inv(x: Any, /) -> Tensor:
    """Inverse matrices [..., n, n].

    Raises
    ------
    numpy.linalg.LinAlgError
        If a matrix is singular.
    """
    return op("inv", matrices("inv", x, square=True))


def det(x: Any, /) -> Tensor:
    """Determinants [...]; their derivative needs the inverse."""
    return op("det", matrices("det", x, square=True))


def slogdet(x: Any, /) -> SlogdetResult:
    """Sign and log of the magnitude of determinants [...]; 0 and -inf for singular matrices."""
    return SlogdetResult(*apply(registry.get("slogdet"), (matrices("slogdet", x, square=True),), {}))


def pinv(x: Any, /, *, rtol: Any = None) -> Tensor:
    """Pseudo-inverses [..., n, m]; singular values up to `rtol` (by default max(m, n) * eps) times the largest count as zero.

    The derivative is that of matrices of constant rank (Golub, Pereyra 1973).
    """
    tensor = matrices("pinv", x)
    if rtol is None:
        rtol = _tolerance(tensor)
    if isinstance(rtol, (int, float, np.number)):
        return op("pinv", tensor, rtol=float(rtol))
    u, s, vh = svd(tensor, full_matrices=False)
    kept = _above(s, rtol)
    inverse = elementwise.where(kept, over(1, elementwise.where(kept, s, 1)), 0)
    return matmul(times(_adjoint(vh), expand_dims(inverse, axis=-2)), _adjoint(u))


def _adjoint(x: Tensor) -> Tensor:
    return matrix_transpose(op("conj", x) if x.type.dtype.is_complex else x)


def _above(s: Tensor, rtol: Any) -> Tensor:
    """Which singular values exceed `rtol` (a number, or one for each matrix) times the largest."""
    if not isinstance(rtol, (int, float)):
        rtol = expand_dims(as_tensor(rtol), axis=-1)
    return apply_ufunc("greater", s, times(reducing.max(s, axis=-1, keepdims=True), rtol))


def _tolerance(x: Tensor) -> float:
    """NumPy's and the Array API's relative tolerance for a rank."""
    return float(builtins.max(x.shape[-2:]) * np.finfo(x.dtype).eps)


def matrix_rank(x: Any, /, *, rtol: Any = None) -> Tensor:
    """Ranks [...], as int64: how many singular values exceed `rtol` (by default max(m, n) * eps) times the largest."""
    tensor = matrices("matrix_rank", x)
    s = svdvals(tensor)
    if not s.shape[-1]:
        return reducing.count_nonzero(s, axis=-1)
    return reducing.count_nonzero(_above(s, _tolerance(tensor) if rtol is None else rtol), axis=-1)


def lstsq(a: Any, b: Any, rcond: float | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Solutions of least squares as `numpy.linalg.lstsq`: (x, residuals, rank, singular values) for a [m, n] and b [m] or
    [m, k].

    x = pinv(a) b. Shapes do not depend on values: residuals are there whenever m > n, also where the rank is less than n.
    """
    x, y = matrices("lstsq", a), floating(b)
    dtype = result_dtype(x, y)
    x, y = convert(x, dtype), convert(y, dtype)
    if x.ndim != 2 or y.ndim not in (1, 2) or y.shape[0] != x.shape[0]:
        raise ShapeError(
            message(
                "lstsq takes a matrix [m, n] and right-hand sides [m] or [m, k]",
                operands=[("a", describe(x)), ("b", describe(y))],
                location=user_location(),
                hint="Use pinv(a) @ b for batches of matrices.",
            )
        )
    rows, columns = x.shape
    if rcond is None:
        rcond = _tolerance(x)
    solution = matmul(op("pinv", x, rtol=float(rcond)), y)
    rest = minus(y, matmul(x, solution))
    squares = reducing.sum(elementwise.square(elementwise.abs(rest)), axis=0)
    if rows > columns:
        residuals = shaping.reshape(squares, (-1,)) if y.ndim == 2 else expand_dims(squares, axis=0)
    else:
        residuals = as_tensor(np.empty(0, dtype))
    rank = convert(matrix_rank(x, rtol=float(rcond)), np.int32)
    return solution, residuals, rank, svdvals(x)


# -- NumPy's functions -------------------------------------------------------------------------------------------------------


def _numpy_svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    return svd(a, full_matrices=full_matrices) if compute_uv else svdvals(a)


def _numpy_qr(a: Any, mode: str = "reduced") -> Any:
    return qr(a).R if mode == "r" else qr(a, mode=mode)


def _numpy_eigh(a: Any, UPLO: str = "L") -> EighResult:
    return _eigh(a, UPLO)


def _numpy_eigvalsh(a: Any, UPLO: str = "L") -> Tensor:
    return _eigvalsh(a, UPLO)


def _numpy_pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = np._NoValue) -> Tensor:
    if rcond is not None:
        return pinv(a, rtol=rcond)
    return pinv(a, rtol=1e-15 if rtol is np._NoValue else rtol)


def _numpy_matrix_rank(A: Any, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Tensor:
    tensor = as_tensor(A)
    if tensor.ndim < 2:
        return convert(reducing.any(tensor != 0), np.int64)
    if tol is None:
        return matrix_rank(tensor, rtol=rtol)
    above = apply_ufunc("greater", svdvals(tensor), expand_dims(as_tensor(tol), axis=-1))
    return reducing.count_nonzero(above, axis=-1)


NUMPY_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.linalg.cholesky: cholesky,
    np.linalg.det: det,
    np.linalg.eig: eig,
    np.linalg.eigh: _numpy_eigh,
    np.linalg.eigvals: eigvals,
    np.linalg.eigvalsh: _numpy_eigvalsh,
    np.linalg.inv: inv,
    np.linalg.lstsq: lstsq,
    np.linalg.matrix_rank: _numpy_matrix_rank,
    np.linalg.pinv: _numpy_pinv,
    np.linalg.qr: _numpy_qr,
    np.linalg.slogdet: slogdet,
    np.linalg.solve: solve,
    np.linalg.svd: _numpy_svd,
    np.linalg.svdvals: svdvals,
}
