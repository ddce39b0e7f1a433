"""Writes tests/golden/torch_layers.npz: what PyTorch computes in float64 for the cases of tests/nn/torch_cases.py.

    python tests/nn/torch_golden.py        (in an environment with PyTorch; graphc is not needed)

For each case: names of the state, outputs, gradients of the inputs and parameters, state after ten steps of gradient descent,
and the output in evaluation mode after them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_cases import CASES, RATE, STEPS, LayerCase, initial, target

PATH = Path(__file__).parents[1] / "golden" / "torch_layers.npz"


def passed(x: Any) -> Any:
    """An argument of a call as PyTorch takes it."""
    if isinstance(x, np.ndarray):
        return torch.from_numpy(x.copy())
    return tuple(passed(y) for y in x) if isinstance(x, tuple) else x


def floats(found: Any) -> list[torch.Tensor]:
    """All floating tensors of a (nested) result."""
    if isinstance(found, torch.nn.utils.rnn.PackedSequence):
        return floats(torch.nn.utils.rnn.pad_packed_sequence(found, batch_first=False)[0])
    if isinstance(found, (tuple, list)):
        return [y for x in found for y in floats(x)]
    return [found] if isinstance(found, torch.Tensor) and found.is_floating_point() else []


def run(case: LayerCase) -> dict[str, np.ndarray]:
    layer = getattr(torch.nn, case.layer)(*case.args, **case.options).double()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(torch.from_numpy(initial(case, name, tuple(parameter.shape))))
    inputs = [torch.from_numpy(x.copy()) for x in case.arrays()]
    inputs = [x.requires_grad_() if x.is_floating_point() else x for x in inputs]
    call = {key: passed(value) for key, value in case.call.items()}
    golden: dict[str, np.ndarray] = {"names": np.array(list(layer.state_dict()), dtype=np.str_)}
    for step in range(STEPS):
        layer.zero_grad()
        for x in inputs:
            x.grad = None
        outputs = floats(layer(*inputs, **call))
        aims = [torch.from_numpy(target(case, i, tuple(y.shape))) for i, y in enumerate(outputs)]
        loss = sum(((y - aim) ** 2).mean() for y, aim in zip(outputs, aims, strict=True))
        if loss.requires_grad:
            loss.backward()
        if step == 0:
            golden.update({f"output {i}": y.detach().numpy().copy() for i, y in enumerate(outputs)})
            golden.update({f"input {i}": x.grad.numpy().copy() for i, x in enumerate(inputs) if x.grad is not None})
            golden.update(
                {f"gradient {n}": p.grad.numpy().copy() for n, p in layer.named_parameters() if p.grad is not None}
            )
        with torch.no_grad():
            for p in layer.parameters():
                if p.grad is not None:
                    p -= RATE * p.grad
    golden.update({f"final {name}": value.numpy().copy() for name, value in layer.state_dict().items()})
    layer.eval()
    golden.update({f"eval {i}": y.detach().numpy() for i, y in enumerate(floats(layer(*inputs, **call)))})
    return golden


def everything() -> dict[str, np.ndarray]:
    """All cases: `case: what` to array."""
    return {f"{case.name}: {key}": array for case in CASES for key, array in run(case).items()}


if __name__ == "__main__":
    np.savez_compressed(sys.argv[1] if len(sys.argv) > 1 else PATH, **everything())
