"""What is measured: data from one seed, cost, and how far results may be from the float64 reference.

A workload's name is the name of the function in each `programs_<framework>` module that makes its program. Everything
here is data and needs NumPy only, so that parent and workers read the same table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["COLD", "SEED", "WORKLOADS", "Case", "Data", "Program", "Workload", "named", "stateless"]

SEED = 20240229
Array = np.ndarray[Any, Any]
Data = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Program:
    """One framework's program for one case.

    Attributes
    ----------
    call
        What is timed. Returns when the work is done.
    outcome
        Arrays (anything `np.asarray` takes) to compare with the reference; called once, before any timing.
    """

    call: Callable[[], object]
    outcome: Callable[[], list[object]]


def stateless(call: Callable[[], object]) -> Program:
    """The program of a pure function: its outcome is its result."""
    return Program(call, lambda: [call()])


@dataclass(frozen=True, slots=True)
class Case:
    """One size of a workload: `flops` of multiply-add work (0 if that is not what bounds it), `bytes` of inputs and
    outputs together, each touched once."""

    name: str
    shape: tuple[int, ...]
    flops: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Workload:
    """A program to write in each framework, and the cases it runs on.

    Attributes
    ----------
    data
        Inputs of a case from a seeded generator.
    tolerance
        Largest difference to the reference over the reference's largest value, for each array of the outcome.
    """

    name: str
    title: str
    cases: tuple[Case, ...]
    data: Callable[[np.random.Generator, Case], Data]
    tolerance: float = 1e-5
    notes: str = field(default="", compare=False)

    def inputs(self, case: Case) -> Data:
        """The case's data; the same in every process."""
        return self.data(np.random.default_rng(SEED), case)


def _normal(random: np.random.Generator, *shape: int) -> npt.NDArray[np.float32]:
    return random.standard_normal(shape, dtype=np.float32)


def _vectors(random: np.random.Generator, case: Case) -> Data:
    return {"x": _normal(random, *case.shape), "y": _normal(random, *case.shape)}


def _one(random: np.random.Generator, case: Case) -> Data:
    return {"x": _normal(random, *case.shape)}


def _layer_norm(random: np.random.Generator, case: Case) -> Data:
    width = case.shape[-1]
    return {"x": _normal(random, *case.shape), "weight": _normal(random, width), "bias": _normal(random, width)}


def _product(random: np.random.Generator, case: Case) -> Data:
    m, k, n = case.shape
    return {"a": _normal(random, m, k), "b": _normal(random, k, n)}


def _mlp(random: np.random.Generator, case: Case) -> Data:
    """Weights as [in, out]; the PyTorch-like programs transpose them."""
    batch, inputs, hidden, classes = case.shape

    def uniform(fan_in: int, *shape: int) -> npt.NDArray[np.float32]:
        bound = fan_in**-0.5
        return random.uniform(-bound, bound, shape).astype(np.float32)

    return {
        "x": _normal(random, batch, inputs),
        "y": random.integers(0, classes, batch),
        "w1": uniform(inputs, inputs, hidden),
        "b1": uniform(inputs, hidden),
        "w2": uniform(hidden, hidden, classes),
        "b2": uniform(hidden, classes),
    }


def _mlp_case(*, training: bool) -> Case:
    batch, inputs, hidden, classes = 64, 784, 128, 10
    first, second = inputs * hidden, hidden * classes
    parameters = first + second + hidden + classes
    # Training: forward and weight gradient of both layers, input gradient of the second; Adam reads and writes three
    # arrays for each parameter.
    products = 2 * first + 3 * second if training else first + second
    traffic = 4 * (batch * inputs + (6 if training else 1) * parameters)
    return Case("784-128-10, batch 64", (batch, inputs, hidden, classes), 2 * batch * products, traffic)


def _matmul_case(m: int, k: int, n: int) -> Case:
    return Case(f"{m}x{k}x{n}", (m, k, n), 2 * m * k * n, 4 * (m * k + k * n + m * n))


_MATMULS = (
    (32, 32, 32),
    (64, 64, 64),
    (128, 128, 128),
    (256, 256, 256),
    (512, 512, 512),
    (1024, 1024, 1024),
    (64, 784, 128),
    (64, 128, 10),
    (1, 768, 3072),
    (128, 768, 768),
    (128, 768, 3072),
)

WORKLOADS = (
    Workload("mlp_training", "MLP training step, Adam", (_mlp_case(training=True),), _mlp, 1e-3),
    Workload("mlp_inference", "MLP inference", (_mlp_case(training=False),), _mlp),
    Workload(
        "gelu",
        "gelu(x*a + b), tanh form",
        (Case("1M f32", (1024, 1024), bytes=8 << 20),),
        _one,
    ),
    Workload("softmax", "softmax", (Case("4096x1024", (4096, 1024), bytes=32 << 20),), _one),
    Workload("layer_norm", "layer norm", (Case("4096x768", (4096, 768), bytes=24 << 20),), _layer_norm),
    Workload("matmul", "matmul", tuple(_matmul_case(*s) for s in _MATMULS), _product),
    Workload("overhead", "x*2 + y, NumPy in and out", (Case("4 f32", (4,)),), _vectors),
)

#: Workloads whose first call in a fresh process is measured.
COLD = ("gelu", "mlp_training")


def named(name: str) -> Workload:
    """The workload of a name; KeyError for others."""
    return {w.name: w for w in WORKLOADS}[name]
