"""Small graphs with everything that the text form must show: held graphs, tokens, several results, symbols, constants."""

from __future__ import annotations

import random

import numpy as np

import graphc.ops  # noqa: F401  (fills the registry)
from graphc import dtypes
from graphc.dtypes import float32, float64, int64
from graphc.ir import dims
from graphc.ir.graph import Graph, Value, constant, full, input_value, make
from graphc.ir.location import FileLocation
from graphc.ir.op import GraphBuilder
from graphc.ir.types import TOKEN, TensorType, Type

B = GraphBuilder()
N = dims.symbol(0)


def tensor(shape: tuple[dims.Dim, ...], dtype: dtypes.DType = float32) -> TensorType:
    return TensorType(dtype, shape)


def inputs(*types: Type) -> tuple[Value, ...]:
    return tuple(input_value(i, t) for i, t in enumerate(types))


def dense() -> Graph:
    """x @ w + b with a symbolic batch, named inputs and locations."""
    types = (tensor((N, 3)), tensor((3, 4)), tensor((4,)))
    x, w, b = inputs(*types)
    product = B.dot(x, w, lhs_batch=(), rhs_batch=(), lhs_contract=(1,), rhs_contract=(0,))
    y = B.add(product, B.broadcast(b, shape=(N, 4)))
    where = {
        product.node: (FileLocation("model.py", 12),),
        y.node: (FileLocation("model.py", 12), FileLocation("my nn.py", 3)),
    }
    return Graph(types, (y,), "dense", ("x", "params['w'].0", "b"), where)


def composite() -> Graph:
    """A composite whose body holds a composite."""
    t = tensor((4,))
    (x,) = inputs(t)
    double = Graph((t,), (B.add(x, x),), "double")
    quadruple = make(
        "composite", (make("composite", (x,), body=double, label="double").result,), body=double, label="double"
    )
    body = Graph((t,), (quadruple.result, B.tanh(x)), "body", ("x",))
    outer = make("composite", (B.exp(x),), body=body, label="both")
    return Graph((t,), outer.results, "composite", ("x",))


def control() -> Graph:
    """A branch, a loop, tokens, a host call and debug output."""
    t, count = tensor((2,), float64), tensor((), int64)
    p, i, x = inputs(tensor((), dtypes.bool_), count, t)
    (y,) = inputs(t)
    branch = make("cond", (p, x), then=Graph((t,), (B.sin(y),), "then"), else_=Graph((t,), (y,), "else"))
    j, z = inputs(count, t)
    going = Graph((count, t), (B.less(j, 10),), "going", ("j", "z"))
    body = Graph((count, t), (B.add(j, 1), B.multiply(z, 0.5)), "body", ("j", "z"))
    loop = make("while_loop", (i, branch.result), cond=going, body=body)
    stacked = make("scan", loop.results[:2], body=body, carries=2, stacked=0, length=3, reverse=True)
    token = make("create_token").result
    printed = make("debug_print", (token, loop.results[1]), template='a "quoted"\n label').result
    called = make("host_call", (printed, x), function="math:sqrt", types=(t,))
    outputs = (*loop.results, *stacked.results, *called.results)
    return Graph((tensor((), dtypes.bool_), count, t), outputs, "control")


def constants() -> Graph:
    """Constants of every dtype and shape that print in place."""
    arrays = [
        np.array(True),
        np.array([[1.5, -0.0], [np.inf, np.nan]]),
        np.zeros((0, 3), np.float32),
        np.full(100, -0.0),
    ]
    arrays += [np.array([np.iinfo(d).min, np.iinfo(d).max], d) for d in (np.int32, np.int64, np.uint32, np.uint64)]
    arrays += [np.array([0x7FC00001, 0xFFC00000, 1, 0x80000001, 0x7F7FFFFF, 0x3DCCCCCD], np.uint32).view(np.float32)]
    arrays += [np.array([0x7FF8000000000001, 0xFFF8000000000000, 1, 0x3FB999999999999A], np.uint64).view(np.float64)]
    return Graph((), tuple(constant(a) for a in arrays), "constants")


def edges() -> Graph:
    """An unused input, an input returned twice, odd names, a symbolic iota, no node of its own location."""
    types = (tensor(()), tensor((dims.pos(N - 2), N // 2, 2 * N * N)), TOKEN)
    _, x, token = inputs(*types)
    iota = make("iota", (), shape=(N, 2), axis=0, dtype=float64).result
    return Graph(types, (x, x, iota, token), 'odd "name"', ("0", "a b", "a b"))


def large() -> Graph:
    """A constant that prints as its digest, one inside of a held graph too."""
    t = tensor((40,), float64)
    (x,) = inputs(t)
    weights = constant(np.arange(40.0))
    body = Graph((t,), (B.multiply(x, constant(np.arange(40.0) ** 2)),), "body")
    return Graph((t,), (make("composite", (B.add(x, weights),), body=body, label="scale").result,), "large", ("x",))


def random_graph(seed: int) -> Graph:
    """A graph of random elementwise, movement and reduction nodes, with shared values and constants."""
    rng = random.Random(seed)
    types = (tensor((3, 4), float64), tensor((3, 4), float64))
    pool = list(inputs(*types))
    for _ in range(rng.randint(1, 25)):
        x, y = rng.choice(pool), rng.choice(pool)
        kind = rng.randrange(7)
        if kind == 0:
            pool.append(make(rng.choice(["tanh", "negative", "exp", "square"]), (x,)).result)
        elif kind == 1 and x.type == y.type:
            pool.append(make(rng.choice(["add", "multiply", "maximum", "divide"]), (x, y)).result)
        elif kind == 2:
            perm = list(range(len(x.shape)))
            rng.shuffle(perm)
            pool.append(B.transpose(x, perm=tuple(perm)))
        elif kind == 3 and x.shape:
            pool.append(B.sum(x, axes=(rng.randrange(len(x.shape)),)))
        elif kind == 4:
            pool.append(B.broadcast(x, shape=(rng.randint(1, 3), *x.shape)) if len(x.shape) < 4 else x)
        elif kind == 5:
            pool.append(B.add(x, full(x.shape, rng.choice([0.0, -0.0, 1.0, 0.1]), float64)))
        else:
            pool.append(B.reshape(x, shape=(x.tensor.size,)))
    return Graph(types, tuple(rng.choices(pool, k=rng.randint(1, 3))), f"random{seed}", ("x", "y"))


def named() -> list[Graph]:
    return [dense(), composite(), control(), constants(), edges()]
