"""graphc: a static-graph compiler for models written in Python, for CPUs.

This module names the public API and nothing else.
"""

import graphc.ops
from graphc import dtypes as _dtypes
from graphc.errors import GraphcError as GraphcError
from graphc.frontend import elementwise as _elementwise
from graphc.frontend import methods as _methods
from graphc.frontend.compile import compile as compile
from graphc.frontend.context import enable_grad as enable_grad
from graphc.frontend.context import is_grad_enabled as is_grad_enabled
from graphc.frontend.context import no_grad as no_grad
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
from graphc.frontend.elementwise import astype as astype
from graphc.frontend.elementwise import clip as clip
from graphc.frontend.elementwise import erf as erf
from graphc.frontend.elementwise import erfc as erfc
from graphc.frontend.elementwise import gelu as gelu
from graphc.frontend.elementwise import relu as relu
from graphc.frontend.elementwise import sigmoid as sigmoid
from graphc.frontend.elementwise import softplus as softplus
from graphc.frontend.elementwise import stop_gradient as stop_gradient
from graphc.frontend.elementwise import where as where
from graphc.frontend.indexing import take as take
from graphc.frontend.indexing import take_along_axis as take_along_axis
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
from graphc.frontend.shaping import broadcast_to as broadcast_to
from graphc.frontend.shaping import concat as concat
from graphc.frontend.shaping import expand_dims as expand_dims
from graphc.frontend.shaping import flip as flip
from graphc.frontend.shaping import matrix_transpose as matrix_transpose
from graphc.frontend.shaping import moveaxis as moveaxis
from graphc.frontend.shaping import pad as pad
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
from graphc.frontend.tensor import Tensor as Tensor
from graphc.frontend.tensor import default_dtype as default_dtype
from graphc.frontend.tensor import set_default_dtype as set_default_dtype
from graphc.frontend.transforms import grad as grad
from graphc.frontend.transforms import value_and_grad as value_and_grad

float32 = _dtypes.float32.numpy
float64 = _dtypes.float64.numpy
int32 = _dtypes.int32.numpy
int64 = _dtypes.int64.numpy
uint32 = _dtypes.uint32.numpy
uint64 = _dtypes.uint64.numpy
bool = _dtypes.bool_.numpy

globals().update(_elementwise.FUNCTIONS)
pow = _elementwise.power
_methods.install()
