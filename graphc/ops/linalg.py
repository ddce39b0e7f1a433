"""Linear algebra: factorisations and solutions by NumPy's LAPACK, batched over the leading axes. Layer 2.

Values are NumPy's own (host calls in native code, without Python's part of the call being visible to the graph); derivatives
are graph code. A factorisation that does not exist (a singular matrix, one that is not positive definite) raises
`numpy.linalg.LinAlgError`.

Derivatives follow M. Giles, Collected matrix derivative results for forward and reverse mode algorithmic differentiation
(2008), and what the single rules name; of complex matrices by PyTorch's convention, with conjugates (^H). Operands that must
be symmetric (Hermitian) get such cotangents. Where singular values or eigenvalues are equal, the vectors have no derivative
and their cotangents give NaN. Singular vectors and eigenvectors of complex matrices are determined up to phases only: their
cotangents are those of functions that do not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphc import dtypes
from graphc.errors import DTypeError, NoDerivativeError, ShapeError
from graphc.ir.dims import Dim
from graphc.ir.op import Builder, Host, conjugated, type_error
from graphc.ir.registry import register
from graphc.ir.types import TensorType, Type

__all__ = [
    "cholesky",
    "det",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inv",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
]

Values = Sequence[Any]
Call = tuple[str, Mapping[str, Any]]

_DTYPES = (dtypes.float32, dtypes.float64, dtypes.complex64, dtypes.complex128)


# -- types ---------------------------------------------------------------------------------------------------------------


def _matrix(name: str, types: Sequence[Type], count: int = 1, *, square: bool = False) -> TensorType:
    """The first operand's type, checked: matrices of floats, all of one dtype."""
    tensors = [t for t in types if isinstance(t, TensorType)]
    if len(types) != count:
        raise ShapeError(type_error(name, f"takes {count} operands, got {len(types)}", types))
    if any(t.rank < 2 for t in tensors):
        raise ShapeError(type_error(name, "takes matrices: operands of rank 2 or more", types))
    if tensors[0].dtype not in _DTYPES or any(t.dtype is not tensors[0].dtype for t in tensors):
        raise DTypeError(type_error(name, "takes float32, float64, complex64 or complex128, all alike", types))
    if square and tensors[0].shape[-1] != tensors[0].shape[-2]:
        raise ShapeError(type_error(name, "needs square matrices: the last two axes must be equal", types))
    return tensors[0]


def _like(name: str) -> Callable[..., tuple[Type, ...]]:
    """The rule of functions from a square matrix to one of its size."""
    return lambda *types: (_matrix(name, types, square=True),)


def _determinant(*types: Type) -> tuple[Type, ...]:
    x = _matrix("det", types, square=True)
    return (TensorType(x.dtype, x.shape[:-2]),)


def _sign_and_size(*types: Type) -> tuple[Type, ...]:
    x = _matrix("slogdet", types, square=True)
    return TensorType(x.dtype, x.shape[:-2]), TensorType(x.dtype.part, x.shape[:-2])


def _least(name: str, x: TensorType) -> Dim:
    """The smaller size of a matrix."""
    rows, columns = x.shape[-2:]
    if rows == columns:
        return rows
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise ShapeError(type_error(name, "the sizes of the matrix must be known, or equal", (x,)))
    return min(rows, columns)


def _more_batches(size: Dim, **attrs: Any) -> dict[str, Any]:
    """All functions here take batches of matrices."""
    return attrs


def _named(function: str) -> Callable[..., Call]:
    return lambda **keywords: (f"numpy.linalg:{function}", keywords)


# -- matrices in rules -----------------------------------------------------------------------------------------------------


def _mm(b: Builder, x: Any, y: Any, *, tx: bool = False, ty: bool = False) -> Any:
    """The matrix product; `tx` and `ty` take the adjoint of an operand first."""
    n = b.type(x).rank
    batch = tuple(range(n - 2))
    left, right = (n - 2 if tx else n - 1,), (n - 1 if ty else n - 2,)
    x, y = conjugated(b, x) if tx else x, conjugated(b, y) if ty else y
    return b.dot(x, y, lhs_batch=batch, rhs_batch=batch, lhs_contract=left, rhs_contract=right)


def _transposed(b: Builder, x: Any) -> Any:
    n = b.type(x).rank
    return b.transpose(x, perm=(*range(n - 2), n - 1, n - 2))


def _adjoint(b: Builder, x: Any) -> Any:
    """x^H, the transpose with conjugates; of real matrices the transpose."""
    return _transposed(b, conjugated(b, x))


def _symmetric(b: Builder, x: Any) -> Any:
    """(x + x^H) / 2"""
    return b.multiply(b.add(x, _adjoint(b, x)), 0.5)


def _as(b: Builder, x: Any, like: Any) -> Any:
    """A real x in the dtype of `like`, which may be complex."""
    dtype = b.type(like).dtype
    return x if b.type(x).dtype is dtype else b.convert(x, dtype=dtype)


def _iota(b: Builder, x: Any, axis: int) -> Any:
    t = b.type(x)
    return b.iota(shape=t.shape, axis=t.rank + axis, dtype=dtypes.int64)


def _masked(b: Builder, relation: str, x: Any, other: Any = None) -> Any:
    """x where its row and column number are in a relation, `other` (0) elsewhere."""
    mask = getattr(b, relation)(_iota(b, x, -2), _iota(b, x, -1))
    return b.select(mask, x, b.like(x, 0.0) if other is None else other)


def _lower(b: Builder, x: Any) -> Any:
    return _masked(b, "greater_equal", x)


def _phi(b: Builder, x: Any) -> Any:
    """The lower triangle with half of the diagonal."""
    return b.subtract(_lower(b, x), b.multiply(_masked(b, "equal", x), 0.5))


def _copyltu(b: Builder, x: Any) -> Any:
    """The symmetric (Hermitian) matrix with the lower triangle of x; of the diagonal the real part."""
    strict = _masked(b, "greater", x)
    if not b.type(x).dtype.is_complex:
        return b.add(_lower(b, x), _transposed(b, strict))
    return b.add(b.add(strict, _adjoint(b, strict)), _symmetric(b, _masked(b, "equal", x)))


def _row(b: Builder, x: Any, like: Any) -> Any:
    """A vector along the columns of a matrix, in its dtype: y[i, j] = x[j]."""
    x = _as(b, x, like)
    shape = b.type(like).shape
    x_shape = b.type(x).shape
    return b.broadcast(b.reshape(x, shape=(*x_shape[:-1], 1, x_shape[-1])), shape=shape)


def _column(b: Builder, x: Any, like: Any) -> Any:
    """A vector along the rows of a matrix, in its dtype: y[i, j] = x[i]."""
    x = _as(b, x, like)
    return b.broadcast(b.reshape(x, shape=(*b.type(x).shape, 1)), shape=b.type(like).shape)


def _scaled(b: Builder, ct: Any, x: Any) -> Any:
    """A scalar for each matrix times the matrix."""
    shape = b.type(x).shape
    return b.multiply(b.broadcast(b.reshape(ct, shape=(*shape[:-2], 1, 1)), shape=shape), x)


def _gaps(b: Builder, values: Any, like: Any) -> Any:
    """1 / (v[j] - v[i]), and 0 on the diagonal."""
    gap = b.subtract(_row(b, values, like), _column(b, values, like))
    ones = b.like(gap, 1.0)
    return _masked(b, "not_equal", b.divide(ones, _masked(b, "not_equal", gap, ones)))


def _sum(b: Builder, *terms: Any) -> Any:
    """The sum of the terms that are there, or None."""
    present = [t for t in terms if t is not None]
    if not present:
        return None
    total = present[0]
    for term in present[1:]:
        total = b.add(total, term)
    return total


# -- cholesky --------------------------------------------------------------------------------------------------------------


def _cholesky_vjp(b: Builder, operands: Values, results: Values, cotangents: Values) -> Values:
    """I. Murray, Differentiation of the Cholesky decomposition (2016): L^-H sym(phi(L^H L_ct)) L^-1."""
    (lower,), (ct,) = results, cotangents
    middle = _symmetric(b, _phi(b, _mm(b, lower, ct, tx=True)))
    upper = _adjoint(b, lower)
    half = b.solve(upper, middle)
    return [b.solve(upper, _adjoint(b, half))]


cholesky = register(
    Host(
        name="cholesky",
        doc="""x = L L^H with L lower triangular and a positive diagonal, x symmetric (Hermitian) and positive definite (only
        its lower triangle is read). LinAlgError if it is not.""",
        rule=_like("cholesky"),
        function=_named("cholesky"),
        vjp=_cholesky_vjp,
        shift=_more_batches,
        fallible=True,
    )
)


# -- qr --------------------------------------------------------------------------------------------------------------------


def _qr_rule(*types: Type, mode: str) -> tuple[Type, ...]:
    x = _matrix("qr", types)
    if mode not in ("reduced", "complete"):
        raise ShapeError(f"qr: mode must be 'reduced' or 'complete', not {mode!r}")
    rows, columns = x.shape[-2:]
    inner = rows if mode == "complete" else _least("qr", x)
    batch = x.shape[:-2]
    return TensorType(x.dtype, (*batch, rows, inner)), TensorType(x.dtype, (*batch, inner, columns))


def _columns(b: Builder, x: Any, start: Dim, stop: Dim) -> Any:
    """Columns start to stop of a matrix."""
    shape = b.type(x).shape
    rank = len(shape)
    if (start, stop) == (0, shape[-1]):
        return x
    return b.slice(x, start=(0,) * (rank - 1) + (start,), size=(*shape[:-1], stop - start), step=(1,) * rank)


def _qr_vjp(b: Builder, operands: Values, results: Values, cotangents: Values, mode: str) -> Values:
    """S. Walter, L. Lehmann, Algorithmic differentiation of linear algebra functions (2018), and for wide matrices
    D. Roberts, L. Roberts, QR and LQ decomposition matrix backpropagation algorithms (2020): with x = [X, Y],
    R = [U, V], Q_ct' = Q_ct + Y V_ct^H, M = U U_ct^H - Q_ct'^H Q:

        X_ct = (Q_ct' + Q copyltu(M)) U^-H,   Y_ct = Q V_ct
    """
    (x,), (q, r) = operands, results
    q_ct, r_ct = (b.like(y, 0.0) if ct is None else ct for y, ct in zip(results, cotangents, strict=True))
    rows, columns = b.type(x).shape[-2:]
    if b.type(q).shape[-1] != _least("qr", b.type(x)):
        raise NoDerivativeError(
            "qr: mode='complete' has a derivative only where the matrix has no more rows than columns",
            hint="Use mode='reduced': the further columns of Q are determined by nothing.",
        )
    wide = rows != columns and rows == b.type(r).shape[-2]
    right = None
    if wide:
        rest = _columns(b, r_ct, rows, columns)
        q_ct = b.add(q_ct, _mm(b, _columns(b, x, rows, columns), rest, ty=True))
        right = _mm(b, q, rest)
        r, r_ct = _columns(b, r, 0, rows), _columns(b, r_ct, 0, rows)
    middle = b.subtract(_mm(b, r, r_ct, ty=True), _mm(b, q_ct, q, tx=True))
    left = b.add(q_ct, _mm(b, q, _copyltu(b, middle)))
    found = _adjoint(b, b.solve(r, _adjoint(b, left)))
    return [found if right is None else b.concatenate(found, right, axis=b.type(x).rank - 1)]


qr = register(
    Host(
        name="qr",
        doc="""x = Q R: Q has orthonormal columns, R is upper triangular. `mode` "reduced": the inner size is the smaller one
        of x; "complete": Q is square. Signs are LAPACK's.""",
        attributes=("mode",),
        rule=_qr_rule,
        function=_named("qr"),
        vjp=_qr_vjp,
        shift=_more_batches,
        fallible=True,
    )
)


# -- svd -------------------------------------------------------------------------------------------------------------------


def _svd_rule(*types: Type, full_matrices: bool) -> tuple[Type, ...]:
    x = _matrix("svd", types)
    rows, columns = x.shape[-2:]
    least, batch = _least("svd", x), x.shape[:-2]
    left, right = (rows, columns) if full_matrices else (least, least)
    return (
        TensorType(x.dtype, (*batch, rows, left)),
        TensorType(x.dtype.part, (*batch, least)),
        TensorType(x.dtype, (*batch, right, columns)),
    )


def _svd_vjp(b: Builder, operands: Values, results: Values, cotangents: Values, full_matrices: bool) -> Values:
    """J. Townsend, Differentiating the singular value decomposition (2016); for complex matrices with the term of Z.-Q. Wan,
    S.-X. Zhang, Automatic differentiation for complex valued SVD (2019)."""
    (u, s, vt), (u_ct, s_ct, vt_ct) = results, cotangents
    rows, columns = b.type(operands[0]).shape[-2:]
    if u_ct is None and vt_ct is None:
        least = b.type(s).shape[-1]
        u, vt = _columns(b, u, 0, least), _adjoint(b, _columns(b, _adjoint(b, vt), 0, least))
        return [None if s_ct is None else _mm(b, b.multiply(u, _row(b, s_ct, u)), vt)]
    if full_matrices and rows != columns:
        raise NoDerivativeError(
            "svd: all singular vectors of a matrix that is not square have no derivative",
            hint="Use full_matrices=False: the further vectors are determined by nothing.",
        )
    u_ct, vt_ct = (b.like(y, 0.0) if ct is None else ct for y, ct in ((u, u_ct), (vt, vt_ct)))
    v_ct = _adjoint(b, vt_ct)
    left, right = _mm(b, u, u_ct, tx=True), _mm(b, vt, v_ct)
    gaps = _gaps(b, b.multiply(s, s), left)
    across = b.multiply(b.multiply(gaps, b.subtract(left, _adjoint(b, left))), _row(b, s, left))
    along = b.multiply(b.multiply(gaps, b.subtract(right, _adjoint(b, right))), _column(b, s, right))
    middle = b.add(across, along)
    if b.type(left).dtype.is_complex:
        phases = b.multiply(b.subtract(left, _adjoint(b, left)), 0.5)
        middle = b.add(middle, _masked(b, "equal", b.divide(phases, _row(b, s, left))))
    if s_ct is not None:
        middle = b.add(middle, _masked(b, "equal", _row(b, s_ct, middle)))
    out = _mm(b, _mm(b, u, middle), vt)
    inverse = b.divide(b.like(s, 1.0), s)
    if rows != b.type(s).shape[-1]:
        rest = b.subtract(u_ct, _mm(b, u, left))
        out = b.add(out, _mm(b, b.multiply(rest, _row(b, inverse, rest)), vt))
    if columns != b.type(s).shape[-1]:
        rest = b.subtract(v_ct, _mm(b, vt, right, tx=True))
        scaled = b.multiply(rest, _row(b, inverse, rest))
        out = b.add(out, _mm(b, u, scaled, ty=True))
    return [out]


svd = register(
    Host(
        name="svd",
        doc="""x = U diag(s) Vt with orthonormal columns of U and rows of Vt, s descending and not negative. With
        `full_matrices`, U and Vt are square. Signs are LAPACK's.""",
        attributes=("full_matrices",),
        rule=_svd_rule,
        function=_named("svd"),
        vjp=_svd_vjp,
        shift=_more_batches,
        fallible=True,
    )
)


def _svdvals_rule(*types: Type) -> tuple[Type, ...]:
    x = _matrix("svdvals", types)
    return (TensorType(x.dtype.part, (*x.shape[:-2], _least("svdvals", x))),)


def _svdvals_vjp(b: Builder, operands: Values, results: Values, cotangents: Values) -> Values:
    u, _, vt = b.svd(operands[0], full_matrices=False)
    return [_mm(b, b.multiply(u, _row(b, cotangents[0], u)), vt)]


svdvals = register(
    Host(
        name="svdvals",
        doc="The singular values of x, descending: those of `svd`, without the vectors.",
        rule=_svdvals_rule,
        function=_named("svdvals"),
        vjp=_svdvals_vjp,
        shift=_more_batches,
        fallible=True,
    )
)


# -- eigh ------------------------------------------------------------------------------------------------------------------


def _check_triangle(name: str, uplo: str) -> None:
    if uplo not in ("L", "U"):
        raise ShapeError(f"{name}: uplo must be 'L' or 'U', not {uplo!r}")


def _eigh_rule(*types: Type, uplo: str) -> tuple[Type, ...]:
    x = _matrix("eigh", types, square=True)
    _check_triangle("eigh", uplo)
    return TensorType(x.dtype.part, x.shape[:-1]), x


def _eigh_vjp(b: Builder, operands: Values, results: Values, cotangents: Values, uplo: str) -> Values:
    """Giles (2008), 3.1: V (diag(w_ct) + F * (V^H V_ct)) V^H with F[i, j] = 1 / (w[j] - w[i])."""
    (w, v), (w_ct, v_ct) = results, cotangents
    diagonal = None if w_ct is None else _masked(b, "equal", _row(b, w_ct, v))
    across = None
    if v_ct is not None:
        across = b.multiply(_gaps(b, w, v), _mm(b, v, v_ct, tx=True))
    middle = _sum(b, diagonal, across)
    return [None if middle is None else _symmetric(b, _mm(b, _mm(b, v, middle), v, ty=True))]


eigh = register(
    Host(
        name="eigh",
        doc="""x = V diag(w) V^H for symmetric (Hermitian) x, of which the triangle `uplo` is read ("L" lower, "U" upper):
        eigenvalues w ascending, eigenvectors are the columns of V. Signs are LAPACK's.""",
        attributes=("uplo",),
        rule=_eigh_rule,
        function=lambda uplo: ("numpy.linalg:eigh", {"UPLO": uplo}),
        vjp=_eigh_vjp,
        shift=_more_batches,
        fallible=True,
    )
)


def _eigvalsh_rule(*types: Type, uplo: str) -> tuple[Type, ...]:
    x = _matrix("eigvalsh", types, square=True)
    _check_triangle("eigvalsh", uplo)
    return (TensorType(x.dtype.part, x.shape[:-1]),)


def _eigvalsh_vjp(b: Builder, operands: Values, results: Values, cotangents: Values, uplo: str) -> Values:
    _, v = b.eigh(operands[0], uplo=uplo)
    return [_mm(b, b.multiply(v, _row(b, cotangents[0], v)), v, ty=True)]


eigvalsh = register(
    Host(
        name="eigvalsh",
        doc="The eigenvalues of symmetric x, ascending: those of `eigh`, without the vectors.",
        attributes=("uplo",),
        rule=_eigvalsh_rule,
        function=lambda uplo: ("numpy.linalg:eigvalsh", {"UPLO": uplo}),
        vjp=_eigvalsh_vjp,
        shift=_more_batches,
        fallible=True,
    )
)


# -- eig -------------------------------------------------------------------------------------------------------------------


def _complex_matrix(name: str, types: Sequence[Type]) -> TensorType:
    x = _matrix(name, types, square=True)
    if not x.dtype.is_complex:
        raise DTypeError(type_error(name, "takes complex64 or complex128", types))
    return x


def _eig_rule(*types: Type) -> tuple[Type, ...]:
    x = _complex_matrix("eig", types)
    return TensorType(x.dtype, x.shape[:-1]), x


def _eig_vjp(b: Builder, operands: Values, results: Values, cotangents: Values) -> Values:
    """C. Boeddeker, P. Hanebrink, L. Drude, J. Heymann, R. Haeb-Umbach, On the computation of complex-valued gradients with
    application to statistically optimum beamforming (2017), 4.5, for eigenvectors of norm 1:

        V^-H (diag(w_ct) + (V^H V_ct - V^H V re(diag(V^H V_ct))) / conj(w[j] - w[i]), i != j) V^H
    """
    (w, v), (w_ct, v_ct) = results, cotangents
    middle = None if w_ct is None else _masked(b, "equal", _row(b, w_ct, v))
    if v_ct is not None:
        inner = _mm(b, v, v_ct, tx=True)
        diagonal = b.sum(_masked(b, "equal", inner), axes=(b.type(v).rank - 2,))
        lengths = _row(b, b.real(diagonal), v)
        across = b.subtract(inner, b.multiply(_mm(b, v, v, tx=True), lengths))
        middle = _sum(b, middle, b.multiply(_gaps(b, conjugated(b, w), v), across))
    return [None if middle is None else b.solve(_adjoint(b, v), _mm(b, middle, v, ty=True))]


eig = register(
    Host(
        name="eig",
        doc="""x V = V diag(w) for square complex x: eigenvalues w in LAPACK's order, eigenvectors are the columns of V, of norm
        1, their phases LAPACK's.""",
        rule=_eig_rule,
        function=_named("eig"),
        vjp=_eig_vjp,
        fallible=True,
        shift=_more_batches,
    )
)


def _eigvals_rule(*types: Type) -> tuple[Type, ...]:
    x = _complex_matrix("eigvals", types)
    return (TensorType(x.dtype, x.shape[:-1]),)


def _eigvals_vjp(b: Builder, operands: Values, results: Values, cotangents: Values) -> Values:
    return _eig_vjp(b, operands, b.eig(operands[0]), (cotangents[0], None))


eigvals = register(
    Host(
        name="eigvals",
        doc="The eigenvalues of square complex x, in LAPACK's order.",
        rule=_eigvals_rule,
        function=_named("eigvals"),
        vjp=_eigvals_vjp,
        fallible=True,
        shift=_more_batches,
    )
)


# -- solutions ---------------------------------------------------------------------------------------------------------------


def _solve_rule(*types: Type) -> tuple[Type, ...]:
    x = _matrix("solve", types, 2, square=True)
    y = types[1]
    assert isinstance(y, TensorType)
    if y.shape[:-1] != x.shape[:-1]:
        raise ShapeError(
            type_error("solve", "the matrices and right-hand sides must have equal batches and rows", types)
        )
    return (y,)


def _solve_vjp(b: Builder, operands: Values, results: Values, cotangents: Values) -> Values:
    """Giles (2008), 2.3.1."""
    right = b.solve(_adjoint(b, operands[0]), cotangents[0])
    return [b.negative(_mm(b, right, results[0], ty=True)), right]


solve = register(
    Host(
        name="solve",
        doc="The matrix z with x z = y, for square x; y holds its right-hand sides in columns. LinAlgError if x is singular.",
        rule=_solve_rule,
        function=_named("solve"),
        vjp=_solve_vjp,
        shift=_more_batches,
        fallible=True,
    )
)


def _inv_vjp(b: Builder, operands: Values, results: Values, cotangents: Values) -> Values:
    """Giles (2008), 2.2.3."""
    return [b.negative(_mm(b, _mm(b, results[0], cotangents[0], tx=True), results[0], ty=True))]


inv = register(
    Host(
        name="inv",
        doc="The inverse of square x. LinAlgError if x is singular.",
        rule=_like("inv"),
        function=_named("inv"),
        vjp=_inv_vjp,
        shift=_more_batches,
        fallible=True,
    )
)


def _det_vjp(b: Builder, operands: Values, results: Values, cotangents: Values) -> Values:
    """Giles (2008), 2.2.4: conj(det(x)) x^-H."""
    return [_scaled(b, b.multiply(cotangents[0], conjugated(b, results[0])), _adjoint(b, b.inv(operands[0])))]


det = register(
    Host(
        name="det",
        doc="The determinant of square x; 1 for an empty matrix. Its derivative needs x^-1: LinAlgError if x is singular.",
        rule=_determinant,
        function=_named("det"),
        vjp=_det_vjp,
        shift=_more_batches,
        fallible=True,
    )
)


def _slogdet_vjp(b: Builder, operands: Values, results: Values, cotangents: Values) -> Values:
    """(c + i im(sign_ct conj(sign))) x^-H; of real x, whose sign is constant where it has a derivative, c x^-T."""
    sign_ct, size_ct = cotangents
    factor = size_ct
    if b.type(results[0]).dtype.is_complex:
        turn = None if sign_ct is None else b.imag(b.multiply(sign_ct, b.conj(results[0])))
        zero = b.like(results[1], 0.0)
        factor = b.make_complex(zero if size_ct is None else size_ct, zero if turn is None else turn)
    return [None if factor is None else _scaled(b, factor, _adjoint(b, b.inv(operands[0])))]


slogdet = register(
    Host(
        name="slogdet",
        doc="Sign and log |det(x)| of square x: 0 and -inf where x is singular, 1 and 0 for an empty matrix.",
        rule=_sign_and_size,
        function=_named("slogdet"),
        vjp=_slogdet_vjp,
        shift=_more_batches,
        fallible=True,
    )
)


def _pinv_rule(*types: Type, rtol: float | None) -> tuple[Type, ...]:
    x = _matrix("pinv", types)
    return (TensorType(x.dtype, (*x.shape[:-2], x.shape[-1], x.shape[-2])),)


def _pinv_vjp(b: Builder, operands: Values, results: Values, cotangents: Values, rtol: float | None) -> Values:
    """G. Golub, V. Pereyra, The differentiation of pseudo-inverses (1973), for matrices of constant rank:

    P_ct --> -P^H P_ct P^H + (1 - x P) P_ct^H P P^H + P^H P P_ct^H (1 - P x)
    """
    (x,), (p,), (ct,) = operands, results, cotangents
    turned = _adjoint(b, ct)
    first = b.negative(_mm(b, _mm(b, p, ct, tx=True), p, ty=True))
    second = _mm(b, _mm(b, turned, p), p, ty=True)
    second = b.subtract(second, _mm(b, x, _mm(b, p, second)))
    third = _mm(b, p, _mm(b, p, turned), tx=True)
    third = b.subtract(third, _mm(b, _mm(b, third, p), x))
    return [_sum(b, first, second, third)]


pinv = register(
    Host(
        name="pinv",
        doc="""The pseudo-inverse of x (Moore, Penrose): singular values up to `rtol` times the largest count as zero; None is
        NumPy's tolerance.""",
        attributes=("rtol",),
        rule=_pinv_rule,
        function=lambda rtol: ("numpy.linalg:pinv", {} if rtol is None else {"rcond": rtol}),
        vjp=_pinv_vjp,
        shift=_more_batches,
        fallible=True,
    )
)
