"""graphc: a static-graph compiler for models written in Python, for CPUs.

This module names the public API and nothing else.
"""

from typing import Any as _Any

import numpy as _np

from graphc import dtypes as _dtypes
from graphc import ops as _ops  # noqa: F401  (declares the ops)
from graphc.errors import GraphcError as GraphcError
from graphc.frontend import debug as debug
from graphc.frontend import fft as fft
from graphc.frontend import linalg as linalg
from graphc.frontend import methods as _methods
from graphc.frontend import namespace as _namespace
from graphc.frontend import random as random
from graphc.frontend import testing as testing
from graphc.frontend.arranging import array_split as array_split
from graphc.frontend.arranging import atleast_1d as atleast_1d
from graphc.frontend.arranging import atleast_2d as atleast_2d
from graphc.frontend.arranging import atleast_3d as atleast_3d
from graphc.frontend.arranging import block as block
from graphc.frontend.arranging import column_stack as column_stack
from graphc.frontend.arranging import delete as delete
from graphc.frontend.arranging import diag as diag
from graphc.frontend.arranging import diagflat as diagflat
from graphc.frontend.arranging import diagonal as diagonal
from graphc.frontend.arranging import diff as diff
from graphc.frontend.arranging import gradient as gradient
from graphc.frontend.arranging import insert as insert
from graphc.frontend.arranging import meshgrid as meshgrid
from graphc.frontend.arranging import pad as pad
from graphc.frontend.arranging import rollaxis as rollaxis
from graphc.frontend.arranging import rot90 as rot90
from graphc.frontend.arranging import select as select
from graphc.frontend.arranging import trace as trace
from graphc.frontend.arranging import unravel_index as unravel_index
from graphc.frontend.arranging import vander as vander
from graphc.frontend.checkpointing import checkpoint as checkpoint
from graphc.frontend.compile import compile as compile
from graphc.frontend.composed import allclose as allclose
from graphc.frontend.composed import angle as angle
from graphc.frontend.composed import conj as conj
from graphc.frontend.composed import deg2rad as deg2rad
from graphc.frontend.composed import divmod as divmod
from graphc.frontend.composed import fabs as fabs
from graphc.frontend.composed import fix as fix
from graphc.frontend.composed import float_power as float_power
from graphc.frontend.composed import fmax as fmax
from graphc.frontend.composed import fmin as fmin
from graphc.frontend.composed import heaviside as heaviside
from graphc.frontend.composed import imag as imag
from graphc.frontend.composed import isclose as isclose
from graphc.frontend.composed import isneginf as isneginf
from graphc.frontend.composed import isposinf as isposinf
from graphc.frontend.composed import logaddexp as logaddexp
from graphc.frontend.composed import logaddexp2 as logaddexp2
from graphc.frontend.composed import modf as modf
from graphc.frontend.composed import nan_to_num as nan_to_num
from graphc.frontend.composed import rad2deg as rad2deg
from graphc.frontend.composed import real as real
from graphc.frontend.composed import sinc as sinc
from graphc.frontend.context import enable_grad as enable_grad
from graphc.frontend.context import is_grad_enabled as is_grad_enabled
from graphc.frontend.context import no_grad as no_grad
from graphc.frontend.control import associative_scan as associative_scan
from graphc.frontend.control import cond as cond
from graphc.frontend.control import fori_loop as fori_loop
from graphc.frontend.control import map as map
from graphc.frontend.control import scan as scan
from graphc.frontend.control import switch as switch
from graphc.frontend.control import while_loop as while_loop
from graphc.frontend.counting import count_ops as count_ops
from graphc.frontend.creation import arange as arange
from graphc.frontend.creation import asarray as asarray
from graphc.frontend.creation import empty as empty
from graphc.frontend.creation import empty_like as empty_like
from graphc.frontend.creation import eye as eye
from graphc.frontend.creation import full as full
from graphc.frontend.creation import full_like as full_like
from graphc.frontend.creation import linspace as linspace
from graphc.frontend.creation import ones as ones
from graphc.frontend.creation import ones_like as ones_like
from graphc.frontend.creation import tensor as tensor
from graphc.frontend.creation import zeros as zeros
from graphc.frontend.creation import zeros_like as zeros_like
from graphc.frontend.cumulating import cumprod as cumprod
from graphc.frontend.cumulating import cumsum as cumsum
from graphc.frontend.cumulating import cumulative_logsumexp as cumulative_logsumexp
from graphc.frontend.cumulating import cumulative_max as cumulative_max
from graphc.frontend.cumulating import cumulative_min as cumulative_min
from graphc.frontend.cumulating import cumulative_prod as cumulative_prod
from graphc.frontend.cumulating import cumulative_sum as cumulative_sum
from graphc.frontend.cumulating import linear_recurrence as linear_recurrence
from graphc.frontend.customrules import custom_jvp as custom_jvp
from graphc.frontend.customrules import custom_vjp as custom_vjp
from graphc.frontend.einsum import einsum as einsum
from graphc.frontend.elementwise import abs as abs
from graphc.frontend.elementwise import acos as acos
from graphc.frontend.elementwise import acosh as acosh
from graphc.frontend.elementwise import add as add
from graphc.frontend.elementwise import asin as asin
from graphc.frontend.elementwise import asinh as asinh
from graphc.frontend.elementwise import astype as astype
from graphc.frontend.elementwise import atan as atan
from graphc.frontend.elementwise import atan2 as atan2
from graphc.frontend.elementwise import atanh as atanh
from graphc.frontend.elementwise import bitwise_and as bitwise_and
from graphc.frontend.elementwise import bitwise_invert as bitwise_invert
from graphc.frontend.elementwise import bitwise_left_shift as bitwise_left_shift
from graphc.frontend.elementwise import bitwise_or as bitwise_or
from graphc.frontend.elementwise import bitwise_right_shift as bitwise_right_shift
from graphc.frontend.elementwise import bitwise_xor as bitwise_xor
from graphc.frontend.elementwise import cbrt as cbrt
from graphc.frontend.elementwise import ceil as ceil
from graphc.frontend.elementwise import clip as clip
from graphc.frontend.elementwise import copysign as copysign
from graphc.frontend.elementwise import cos as cos
from graphc.frontend.elementwise import cosh as cosh
from graphc.frontend.elementwise import divide as divide
from graphc.frontend.elementwise import equal as equal
from graphc.frontend.elementwise import erf as erf
from graphc.frontend.elementwise import erfc as erfc
from graphc.frontend.elementwise import exp as exp
from graphc.frontend.elementwise import exp2 as exp2
from graphc.frontend.elementwise import expm1 as expm1
from graphc.frontend.elementwise import floor as floor
from graphc.frontend.elementwise import floor_divide as floor_divide
from graphc.frontend.elementwise import fmod as fmod
from graphc.frontend.elementwise import gelu as gelu
from graphc.frontend.elementwise import greater as greater
from graphc.frontend.elementwise import greater_equal as greater_equal
from graphc.frontend.elementwise import hypot as hypot
from graphc.frontend.elementwise import isfinite as isfinite
from graphc.frontend.elementwise import isinf as isinf
from graphc.frontend.elementwise import isnan as isnan
from graphc.frontend.elementwise import less as less
from graphc.frontend.elementwise import less_equal as less_equal
from graphc.frontend.elementwise import log as log
from graphc.frontend.elementwise import log1p as log1p
from graphc.frontend.elementwise import log2 as log2
from graphc.frontend.elementwise import log10 as log10
from graphc.frontend.elementwise import logical_and as logical_and
from graphc.frontend.elementwise import logical_not as logical_not
from graphc.frontend.elementwise import logical_or as logical_or
from graphc.frontend.elementwise import logical_xor as logical_xor
from graphc.frontend.elementwise import maximum as maximum
from graphc.frontend.elementwise import minimum as minimum
from graphc.frontend.elementwise import multiply as multiply
from graphc.frontend.elementwise import negative as negative
from graphc.frontend.elementwise import nextafter as nextafter
from graphc.frontend.elementwise import not_equal as not_equal
from graphc.frontend.elementwise import positive as positive
from graphc.frontend.elementwise import power as power
from graphc.frontend.elementwise import reciprocal as reciprocal
from graphc.frontend.elementwise import relu as relu
from graphc.frontend.elementwise import remainder as remainder
from graphc.frontend.elementwise import rint as rint
from graphc.frontend.elementwise import round as round
from graphc.frontend.elementwise import sigmoid as sigmoid
from graphc.frontend.elementwise import sign as sign
from graphc.frontend.elementwise import signbit as signbit
from graphc.frontend.elementwise import sin as sin
from graphc.frontend.elementwise import sinh as sinh
from graphc.frontend.elementwise import softplus as softplus
from graphc.frontend.elementwise import sqrt as sqrt
from graphc.frontend.elementwise import square as square
from graphc.frontend.elementwise import stop_gradient as stop_gradient
from graphc.frontend.elementwise import subtract as subtract
from graphc.frontend.elementwise import tan as tan
from graphc.frontend.elementwise import tanh as tanh
from graphc.frontend.elementwise import trunc as trunc
from graphc.frontend.elementwise import where as where
from graphc.frontend.extension import ShapeDtype as ShapeDtype
from graphc.frontend.extension import custom_op as custom_op
from graphc.frontend.extension import host_call as host_call
from graphc.frontend.indexing import put_along_axis as put_along_axis
from graphc.frontend.indexing import take as take
from graphc.frontend.indexing import take_along_axis as take_along_axis
from graphc.frontend.jacobians import hessian as hessian
from graphc.frontend.jacobians import jacfwd as jacfwd
from graphc.frontend.jacobians import jacobian as jacobian
from graphc.frontend.jacobians import jacrev as jacrev
from graphc.frontend.linalg import cross as cross
from graphc.frontend.linalg import inner as inner
from graphc.frontend.linalg import kron as kron
from graphc.frontend.linalg import vdot as vdot
from graphc.frontend.namespace import can_cast as can_cast
from graphc.frontend.namespace import finfo as finfo
from graphc.frontend.namespace import from_dlpack as from_dlpack
from graphc.frontend.namespace import iinfo as iinfo
from graphc.frontend.namespace import isdtype as isdtype
from graphc.frontend.namespace import result_type as result_type
from graphc.frontend.products import dot as dot
from graphc.frontend.products import matmul as matmul
from graphc.frontend.products import outer as outer
from graphc.frontend.products import tensordot as tensordot
from graphc.frontend.products import vecdot as vecdot
from graphc.frontend.reducing import all as all
from graphc.frontend.reducing import any as any
from graphc.frontend.reducing import argmax as argmax
from graphc.frontend.reducing import argmin as argmin
from graphc.frontend.reducing import count_nonzero as count_nonzero
from graphc.frontend.reducing import log_softmax as log_softmax
from graphc.frontend.reducing import logsumexp as logsumexp
from graphc.frontend.reducing import max as max
from graphc.frontend.reducing import mean as mean
from graphc.frontend.reducing import min as min
from graphc.frontend.reducing import prod as prod
from graphc.frontend.reducing import softmax as softmax
from graphc.frontend.reducing import std as std
from graphc.frontend.reducing import sum as sum
from graphc.frontend.reducing import var as var
from graphc.frontend.shaping import broadcast_arrays as broadcast_arrays
from graphc.frontend.shaping import broadcast_shapes as broadcast_shapes
from graphc.frontend.shaping import broadcast_to as broadcast_to
from graphc.frontend.shaping import concat as concat
from graphc.frontend.shaping import expand_dims as expand_dims
from graphc.frontend.shaping import flip as flip
from graphc.frontend.shaping import matrix_transpose as matrix_transpose
from graphc.frontend.shaping import moveaxis as moveaxis
from graphc.frontend.shaping import permute_dims as permute_dims
from graphc.frontend.shaping import repeat as repeat
from graphc.frontend.shaping import reshape as reshape
from graphc.frontend.shaping import roll as roll
from graphc.frontend.shaping import split as split
from graphc.frontend.shaping import squeeze as squeeze
from graphc.frontend.shaping import stack as stack
from graphc.frontend.shaping import swapaxes as swapaxes
from graphc.frontend.shaping import tile as tile
from graphc.frontend.shaping import tril as tril
from graphc.frontend.shaping import triu as triu
from graphc.frontend.shaping import unstack as unstack
from graphc.frontend.sorting import argpartition as argpartition
from graphc.frontend.sorting import argsort as argsort
from graphc.frontend.sorting import argwhere as argwhere
from graphc.frontend.sorting import flatnonzero as flatnonzero
from graphc.frontend.sorting import isin as isin
from graphc.frontend.sorting import median as median
from graphc.frontend.sorting import nonzero as nonzero
from graphc.frontend.sorting import partition as partition
from graphc.frontend.sorting import percentile as percentile
from graphc.frontend.sorting import quantile as quantile
from graphc.frontend.sorting import searchsorted as searchsorted
from graphc.frontend.sorting import sort as sort
from graphc.frontend.sorting import topk as topk
from graphc.frontend.sorting import unique as unique
from graphc.frontend.sorting import unique_all as unique_all
from graphc.frontend.sorting import unique_counts as unique_counts
from graphc.frontend.sorting import unique_inverse as unique_inverse
from graphc.frontend.sorting import unique_values as unique_values
from graphc.frontend.special import digamma as digamma
from graphc.frontend.special import erfinv as erfinv
from graphc.frontend.special import lgamma as lgamma
from graphc.frontend.special import polygamma as polygamma
from graphc.frontend.stateless import functional_call as functional_call
from graphc.frontend.stateless import stack_module_state as stack_module_state
from graphc.frontend.statistics import average as average
from graphc.frontend.statistics import bincount as bincount
from graphc.frontend.statistics import corrcoef as corrcoef
from graphc.frontend.statistics import cov as cov
from graphc.frontend.statistics import histogram as histogram
from graphc.frontend.statistics import nanargmax as nanargmax
from graphc.frontend.statistics import nanargmin as nanargmin
from graphc.frontend.statistics import nanmax as nanmax
from graphc.frontend.statistics import nanmean as nanmean
from graphc.frontend.statistics import nanmin as nanmin
from graphc.frontend.statistics import nanprod as nanprod
from graphc.frontend.statistics import nanstd as nanstd
from graphc.frontend.statistics import nansum as nansum
from graphc.frontend.statistics import nanvar as nanvar
from graphc.frontend.statistics import one_hot as one_hot
from graphc.frontend.statistics import polyval as polyval
from graphc.frontend.statistics import ptp as ptp
from graphc.frontend.statistics import trapezoid as trapezoid
from graphc.frontend.tensor import Tensor as Tensor
from graphc.frontend.tensor import default_dtype as default_dtype
from graphc.frontend.tensor import set_default_dtype as set_default_dtype
from graphc.frontend.transforms import grad as grad
from graphc.frontend.transforms import hvp as hvp
from graphc.frontend.transforms import jvp as jvp
from graphc.frontend.transforms import linearize as linearize
from graphc.frontend.transforms import value_and_grad as value_and_grad
from graphc.frontend.transforms import vjp as vjp
from graphc.frontend.vmap import vmap as vmap
from graphc.frontend.windowing import conv as conv
from graphc.frontend.windowing import reduce_window as reduce_window

float16 = _dtypes.float16.numpy
float32 = _dtypes.float32.numpy
float64 = _dtypes.float64.numpy
complex64 = _dtypes.complex64.numpy
complex128 = _dtypes.complex128.numpy
int8 = _dtypes.int8.numpy
int16 = _dtypes.int16.numpy
int32 = _dtypes.int32.numpy
int64 = _dtypes.int64.numpy
uint8 = _dtypes.uint8.numpy
uint16 = _dtypes.uint16.numpy
uint32 = _dtypes.uint32.numpy
uint64 = _dtypes.uint64.numpy
bool = _dtypes.bool_.numpy

e = _np.e
inf = _np.inf
nan = _np.nan
newaxis = _np.newaxis
pi = _np.pi


def __getattr__(name: str) -> _Any:
    """`bfloat16`, which needs ml_dtypes: made when it is asked for."""
    if name == "bfloat16":
        return _dtypes.bfloat16.numpy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__array_api_version__ = _namespace.API_VERSION
__array_namespace_info__ = _namespace.array_namespace_info
pow = power
_methods.install()
_namespace.install()
