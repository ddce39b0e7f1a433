"""Layers against PyTorch, dynamically and compiled: outputs, gradients, ten steps of training, evaluation mode, names.

What PyTorch gives stands in tests/golden/torch_layers.npz, so that the comparison needs no PyTorch; where there is one, the
file is compared with it.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_cases import CASES, RATE, STEPS, LayerCase, initial, target

import graphc as gx
from graphc import nn, optim

Array = np.ndarray[Any, Any]
PATH = Path(__file__).parents[1] / "golden" / "torch_layers.npz"


@functools.cache
def golden() -> dict[str, dict[str, Array]]:
    found: dict[str, dict[str, Array]] = {}
    with np.load(PATH) as file:
        for key in file.files:
            case, _, what = key.partition(": ")
            found.setdefault(case, {})[what] = file[key]
    return found


def floats(found: Any) -> list[Any]:
    """All floating tensors of a (nested) result."""
    if isinstance(found, (tuple, list)):
        return [y for x in found for y in floats(x)]
    return [found] if isinstance(found, gx.Tensor) and found.type.dtype.is_float else []


def cast(x: Any, dtype: Any) -> Any:
    """An argument of a call, floats in the dtype of the test."""
    if isinstance(x, tuple):
        return tuple(cast(y, dtype) for y in x)
    return x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype == np.float64 else x


def build(case: LayerCase, dtype: Any) -> Any:
    layer = getattr(nn, case.layer)(*case.args, **case.options).to(dtype)
    with gx.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.assign(gx.asarray(initial(case, name, parameter.shape).astype(dtype)))
    return layer


def run(case: LayerCase, dtype: Any, compiled: bool) -> dict[str, Array]:
    """What PyTorch's side stores, by graphc."""
    layer = build(case, dtype)
    inputs = [gx.tensor(cast(x, dtype), requires_grad=x.dtype.kind == "f") for x in case.arrays()]
    call = {key: cast(value, dtype) for key, value in case.call.items()}
    parameters = list(layer.parameters())
    optimizer = optim.SGD(parameters, lr=RATE) if parameters else None

    def step() -> list[Any]:
        outputs = floats(layer(*inputs, **call))
        aims = [target(case, i, y.shape).astype(dtype) for i, y in enumerate(outputs)]
        loss = sum(((y - aim) ** 2).mean() for y, aim in zip(outputs, aims, strict=True))
        if loss.requires_grad:
            loss.backward()
        return outputs

    def update() -> None:
        if optimizer is not None:
            optimizer.step()

    found: dict[str, Array] = {"names": np.array(list(layer.state_dict()), dtype=np.str_)}
    step, update = (gx.compile(step), gx.compile(update)) if compiled else (step, update)
    for count in range(STEPS):
        layer.zero_grad()
        for x in inputs:
            x.grad = None
        outputs = step()
        if count == 0:
            found.update({f"output {i}": y.numpy().copy() for i, y in enumerate(outputs)})
            found.update({f"input {i}": x.grad.numpy().copy() for i, x in enumerate(inputs) if x.grad is not None})
            found.update(
                {f"gradient {n}": p.grad.numpy().copy() for n, p in layer.named_parameters() if p.grad is not None}
            )
        update()
    found.update({f"final {name}": value for name, value in layer.state_dict().items()})
    layer.eval()
    found.update({f"eval {i}": y.numpy() for i, y in enumerate(floats(layer(*inputs, **call)))})
    return found


def compare(case: LayerCase, found: dict[str, Array], dtype: Any) -> None:
    expected = golden()[case.name]
    assert set(found) == set(expected)
    for what, array in expected.items():
        if array.dtype.kind != "f":
            assert found[what].tolist() == array.tolist(), what
            continue
        assert found[what].dtype == dtype and found[what].shape == array.shape, what
        size = max(float(np.abs(array).max(initial=0.0)), 1.0)
        bound = 1e-9 if dtype == np.float64 else case.ulps * 2.0**-23
        assert np.abs(found[what] - array).max(initial=0.0) <= bound * size, what


@pytest.mark.parametrize("compiled", [False, True], ids=["dynamic", "compiled"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_float64(case: LayerCase, compiled: bool) -> None:
    compare(case, run(case, np.float64, compiled), np.float64)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["dynamic", "compiled"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_float32(case: LayerCase, compiled: bool) -> None:
    compare(case, run(case, np.float32, compiled), np.float32)


def test_the_file_has_all_cases_and_no_other() -> None:
    """After a new case: `python tests/nn/torch_golden.py`, with PyTorch."""
    assert len({case.name for case in CASES}) == len(CASES)
    assert set(golden()) == {case.name for case in CASES}


def test_the_file_is_what_pytorch_gives() -> None:
    pytest.importorskip("torch")
    import torch_golden

    for key, array in torch_golden.everything().items():
        case, _, what = key.partition(": ")
        if array.dtype.kind == "f":
            np.testing.assert_allclose(golden()[case][what], array, rtol=1e-11, atol=1e-11, err_msg=key)
        else:
            assert golden()[case][what].tolist() == array.tolist()
