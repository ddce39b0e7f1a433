"""The workloads in eager PyTorch. Data are Tensors before the timing starts, except where NumPy in and out is measured."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.workloads import Data, Program, stateless

__all__ = ["gelu", "layer_norm", "matmul", "mlp_inference", "mlp_training", "overhead", "softmax"]

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def _compiled(function: Any) -> Any:
    """The function itself, or, in the worker of torch-compile, `torch.compile` of it."""
    return torch.compile(function) if os.environ.get("BENCHMARK_TORCH_COMPILE") else function


def _without_grad(function: Any, *arguments: torch.Tensor) -> Program:
    function = _compiled(function)

    def call() -> torch.Tensor:
        with torch.no_grad():
            return function(*arguments)

    return stateless(call)


def overhead(data: Data) -> Program:
    """x*2 + y on few elements."""
    x, y = data["x"], data["y"]
    function = _compiled(lambda x, y: x * 2 + y)
    return stateless(lambda: function(torch.from_numpy(x), torch.from_numpy(y)).numpy())


def gelu(data: Data) -> Program:
    """gelu(x*1.5 + 0.25) in its tanh form."""
    return _without_grad(lambda x: nn.functional.gelu(x * 1.5 + 0.25, approximate="tanh"), torch.from_numpy(data["x"]))


def softmax(data: Data) -> Program:
    """Over rows."""
    return _without_grad(lambda x: torch.softmax(x, -1), torch.from_numpy(data["x"]))


def layer_norm(data: Data) -> Program:
    """Over rows, with weight and bias."""
    x, weight, bias = (torch.from_numpy(data[k]) for k in ("x", "weight", "bias"))
    return _without_grad(lambda x, w, b: nn.functional.layer_norm(x, x.shape[-1:], w, b, 1e-5), x, weight, bias)


def matmul(data: Data) -> Program:
    """a @ b."""
    return _without_grad(lambda a, b: a @ b, torch.from_numpy(data["a"]), torch.from_numpy(data["b"]))


def _model(data: Data) -> nn.Sequential:
    inputs, hidden = data["w1"].shape
    model = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, data["w2"].shape[1]))
    state = {"0.weight": data["w1"].T, "0.bias": data["b1"], "2.weight": data["w2"].T, "2.bias": data["b2"]}
    model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in state.items()})
    return model


def mlp_inference(data: Data) -> Program:
    """Logits of a multilayer perceptron."""
    return _without_grad(_model(data), torch.from_numpy(data["x"]))


def mlp_training(data: Data) -> Program:
    """One step of training with Adam."""
    x, y, model = torch.from_numpy(data["x"]), torch.from_numpy(data["y"]), _model(data)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    @_compiled
    def forward(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(model(x), y)

    def step() -> torch.Tensor:
        loss = forward(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    def outcome() -> list[object]:
        losses = np.array([float(step()) for _ in range(5)])
        return [losses, *(p.detach().numpy().T for p in model.parameters())]

    return Program(step, outcome)
