"""Optimisers against their formulas written in NumPy, in float64, dynamic and compiled; groups, rates and saved state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.errors import StateError, StructureError
from graphc.frontend import random

RNG = np.random.default_rng(31)
SHAPES = [(3, 4), (5,), (), (2, 1, 3)]
Arrays = list[np.ndarray]


def adam(
    p: Arrays,
    grads: list[Arrays],
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> Arrays:
    """Kingma and Ba, Algorithm 1, as written there; AdamW if decoupled."""
    p = [x.copy() for x in p]
    m, v = [np.zeros_like(x) for x in p], [np.zeros_like(x) for x in p]
    for t, step in enumerate(grads, 1):
        for i, g in enumerate(step):
            if decoupled:
                p[i] = p[i] * (1 - lr * weight_decay)
            else:
                g = g + weight_decay * p[i]
            m[i] = betas[0] * m[i] + (1 - betas[0]) * g
            v[i] = betas[1] * v[i] + (1 - betas[1]) * g * g
            p[i] = p[i] - lr * (m[i] / (1 - betas[0] ** t)) / (np.sqrt(v[i] / (1 - betas[1] ** t)) + eps)
    return p


def sgd(
    p: Arrays,
    grads: list[Arrays],
    lr: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> Arrays:
    """The algorithm in PyTorch's documentation of SGD."""
    p = [x.copy() for x in p]
    b: list[Any] = [None] * len(p)
    for step in grads:
        for i, g in enumerate(step):
            g = g + weight_decay * p[i]
            if momentum:
                b[i] = g.copy() if b[i] is None else momentum * b[i] + (1 - dampening) * g
                g = g + momentum * b[i] if nesterov else b[i]
            p[i] = p[i] - lr * g
    return p


def each(update: Callable[..., np.ndarray]) -> Callable[..., Arrays]:
    """An optimiser of `update(p, g, t, state, **options)`, which is given each parameter by itself."""

    def run(p: Arrays, grads: list[Arrays], **options: Any) -> Arrays:
        p = [x.copy() for x in p]
        states: list[dict[str, Any]] = [{} for _ in p]
        for t, step in enumerate(grads, 1):
            for i, g in enumerate(step):
                p[i] = update(p[i], g, t, states[i], **options)
        return p

    return run


@each
def rmsprop(p, g, t, s, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False):  # type: ignore[no-untyped-def]
    """The algorithm in PyTorch's documentation of RMSprop."""
    g = g + weight_decay * p
    s["v"] = alpha * s.get("v", 0) + (1 - alpha) * g**2
    s["m"] = alpha * s.get("m", 0) + (1 - alpha) * g
    root = np.sqrt(s["v"] - s["m"] ** 2 if centered else s["v"])
    s["b"] = momentum * s.get("b", 0) + g / (root + eps)
    return p - lr * s["b"]


@each
def adagrad(p, g, t, s, lr=1e-2, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10):  # type: ignore[no-untyped-def]
    """The algorithm in PyTorch's documentation of Adagrad."""
    g = g + weight_decay * p
    s["sum"] = s.get("sum", initial_accumulator_value) + g**2
    return p - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s["sum"]) + eps)


@each
def adadelta(p, g, t, s, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0):  # type: ignore[no-untyped-def]
    """Zeiler, Algorithm 1."""
    g = g + weight_decay * p
    s["v"] = rho * s.get("v", 0) + (1 - rho) * g**2
    d = np.sqrt(s.get("u", 0) + eps) / np.sqrt(s["v"] + eps) * g
    s["u"] = rho * s.get("u", 0) + (1 - rho) * d**2
    return p - lr * d


@each
def lion(p, g, t, s, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):  # type: ignore[no-untyped-def]
    """Chen et al., Algorithm 2."""
    m = s.get("m", 0)
    s["m"] = betas[1] * m + (1 - betas[1]) * g
    return p - lr * (np.sign(betas[0] * m + (1 - betas[0]) * g) + weight_decay * p)


def moments(p, g, s, betas, lr, weight_decay, decoupled):  # type: ignore[no-untyped-def]
    """Weight decay and Adam's moments."""
    if decoupled:
        p = p * (1 - lr * weight_decay)
    else:
        g = g + weight_decay * p
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
    return p, g, s["m"], s["v"]


@each
def nadam(  # type: ignore[no-untyped-def]
    p,
    g,
    t,
    s,
    lr=2e-3,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.0,
    momentum_decay=4e-3,
    decoupled_weight_decay=False,
):
    """The algorithm in PyTorch's documentation of NAdam."""
    p, g, m, v = moments(p, g, s, betas, lr, weight_decay, decoupled_weight_decay)
    now, following = (betas[0] * (1 - 0.5 * 0.96 ** (k * momentum_decay)) for k in (t, t + 1))
    s["mu"] = s.get("mu", 1) * now
    m = following * m / (1 - s["mu"] * following) + (1 - now) * g / (1 - s["mu"])
    return p - lr * m / (np.sqrt(v / (1 - betas[1] ** t)) + eps)


@each
def radam(p, g, t, s, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled_weight_decay=False):  # type: ignore[no-untyped-def]
    """The algorithm in PyTorch's documentation of RAdam."""
    p, g, m, v = moments(p, g, s, betas, lr, weight_decay, decoupled_weight_decay)
    m = m / (1 - betas[0] ** t)
    limit = 2 / (1 - betas[1]) - 1
    length = limit - 2 * t * betas[1] ** t / (1 - betas[1] ** t)
    if length <= 5:
        return p - lr * m
    r = np.sqrt((length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length))
    return p - lr * m * r * np.sqrt(1 - betas[1] ** t) / (np.sqrt(v) + eps)


MANY = {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.05}
CASES: list[tuple[Any, Callable[..., Arrays], dict[str, Any]]] = [
    (optim.Adam, adam, {}),
    (optim.Adam, adam, {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.05}),
    (optim.AdamW, lambda *a, **k: adam(*a, **{"weight_decay": 1e-2, **k}, decoupled=True), {"lr": 0.01}),
    (optim.AdamW, lambda *a, **k: adam(*a, **k, decoupled=True), {"lr": 0.02, "weight_decay": 0.3}),
    (optim.SGD, sgd, {"lr": 0.1}),
    (optim.SGD, sgd, {"lr": 0.1, "weight_decay": 0.1}),
    (optim.SGD, sgd, {"lr": 0.1, "momentum": 0.9}),
    (optim.SGD, sgd, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.2}),
    (optim.SGD, sgd, {"lr": 0.1, "momentum": 0.7, "nesterov": True}),
    (optim.RMSprop, rmsprop, {}),
    (optim.RMSprop, rmsprop, {"lr": 0.1, "alpha": 0.8, "eps": 1e-3, "weight_decay": 0.1, "momentum": 0.7}),
    (optim.RMSprop, rmsprop, {"lr": 0.1, "eps": 1e-3, "momentum": 0.7, "centered": True}),
    (optim.Adagrad, adagrad, {}),
    (
        optim.Adagrad,
        adagrad,
        {"lr": 0.2, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.3, "eps": 0.01},
    ),
    (optim.Adadelta, adadelta, {}),
    (optim.Adadelta, adadelta, {"lr": 0.5, "rho": 0.7, "eps": 1e-2, "weight_decay": 0.1}),
    (optim.Lion, lion, {}),
    (optim.Lion, lion, {"lr": 0.02, "betas": (0.8, 0.9), "weight_decay": 0.3}),
    (optim.NAdam, nadam, {}),
    (optim.NAdam, nadam, {**MANY, "momentum_decay": 0.3}),
    (optim.NAdam, nadam, {**MANY, "decoupled_weight_decay": True}),
    (optim.RAdam, radam, {}),
    (optim.RAdam, radam, MANY),
    (optim.RAdam, radam, {**MANY, "decoupled_weight_decay": True}),
]
PLAIN = (
    optim.SGD,
    optim.Adam,
    optim.AdamW,
    optim.RMSprop,
    optim.Adagrad,
    optim.Adadelta,
    optim.Lion,
    optim.NAdam,
    optim.RAdam,
)


def test_every_optimiser_is_tried() -> None:
    public = {thing for thing in vars(optim).values() if isinstance(thing, type) and issubclass(thing, optim.Optimizer)}
    assert public - {optim.Optimizer} == set(PLAIN) == {case[0] for case in CASES}


def ids(case: Any) -> str:
    return f"{case[0].__name__}-{'-'.join(case[2])}"


@pytest.mark.parametrize("case", CASES, ids=ids)
@pytest.mark.parametrize("compiled", [False, True])
def test_twenty_steps(case: Any, compiled: bool) -> None:
    make, formula, options = case
    start = [RNG.standard_normal(s) for s in SHAPES]
    grads = [[RNG.standard_normal(s) for s in SHAPES] for _ in range(20)]
    params = [nn.Parameter(x) for x in start]
    optimizer = make(params, **options)

    def step(gs: list[Any]) -> None:
        for p, g in zip(params, gs, strict=True):
            p.grad = g
        optimizer.step()

    run = gx.compile(step) if compiled else step
    for gs in grads:
        run([gx.tensor(g) for g in gs])
    for p, want in zip(params, formula(start, grads, **options), strict=True):
        np.testing.assert_allclose(p.numpy(), want, rtol=1e-10)
    if compiled:
        assert run.stats.compiles == 1


def test_float32_parameters_stay_float32() -> None:
    for make in PLAIN:
        p = nn.Parameter([1.0, 2.0])
        make([p]).step()
        p.grad = gx.tensor([0.5, -1.0])
        optimizer = make([p], lr=0.1)
        optimizer.step()
        assert p.dtype == np.float32
        assert p.numpy()[0] < 1.0 and p.numpy()[1] > 2.0
        assert all(t.dtype == np.float32 for t in optimizer.state[p].values() if t.ndim)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8, dtype=np.float64), nn.Tanh(), nn.Linear(8, 3, dtype=np.float64))


def test_a_whole_step_compiled_equals_dynamic_and_goes_on_with_other_rates() -> None:
    x, y = RNG.standard_normal((10, 4)), RNG.integers(0, 3, 10)
    models = [mlp(), mlp()]
    models[1].load_state_dict(models[0].state_dict())
    losses: list[list[float]] = [[], []]
    for k, model in enumerate(models):
        optimizer = optim.Adam(model.parameters(), lr=0.05)

        def step(x: Any, y: Any, model: Any = model, optimizer: Any = optimizer) -> Any:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        run = gx.compile(lambda x, y, step=step: step(x, y)) if k else step
        for i in range(20):
            losses[k].append(run(x, y).item())
            if i == 9:
                optimizer.param_groups[0]["lr"] = 0.01
                optimizer.param_groups[0]["betas"] = (0.8, 0.99)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-10)
    assert losses[0][-1] < losses[0][0]
    assert run.stats.compiles == 1
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        np.testing.assert_allclose(q.numpy(), p.numpy(), rtol=1e-10)


def test_parameters_without_gradients_are_left_and_not_counted() -> None:
    for compiled in (False, True):
        start = [RNG.standard_normal(3), RNG.standard_normal(2)]
        params = [nn.Parameter(x) for x in start]
        optimizer = optim.Adam(params, lr=0.1)
        grads = [[RNG.standard_normal(3), RNG.standard_normal(2)] for _ in range(4)]

        def step(first: Any, second: Any, params: Any = params, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad()
            params[0].grad = first
            if second is not None:
                params[1].grad = second
            optimizer.step()

        run = gx.compile(step) if compiled else step
        for i, (a, b) in enumerate(grads):
            run(gx.tensor(a), gx.tensor(b) if i % 2 else None)
        want = adam(start[:1], [[a] for a, _ in grads], lr=0.1) + adam(start[1:], [[b] for _, b in grads[1::2]], lr=0.1)
        for p, w in zip(params, want, strict=True):
            np.testing.assert_allclose(p.numpy(), w, rtol=1e-12)
        assert optimizer.param_groups[0].steps.tolist() == [4, 2]


def test_groups() -> None:
    a, b, c = (nn.Parameter(np.ones(2)) for _ in range(3))
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.1)
    optimizer.add_param_group({"params": [c], "lr": 0.0})
    for p in (a, b, c):
        p.grad = gx.tensor(np.ones(2))
    optimizer.step()
    assert [p.numpy()[0] for p in (a, b, c)] == [0.9, 0.5, 1.0]
    group = optimizer.param_groups[1]
    assert group["lr"] == 0.5 and isinstance(group["lr"], float)
    assert len(group["params"]) == 1 and group["params"][0] is b
    assert set(group) == {"params", "lr", "momentum", "dampening", "weight_decay", "nesterov"} and len(group) == 6
    assert repr(optimizer).startswith("SGD(\n  ParamGroup(1 parameters, lr=0.1, momentum=0,")
    for g in optimizer.param_groups:
        g["lr"] *= 0.5
    assert [g["lr"] for g in optimizer.param_groups] == [0.05, 0.25, 0.0]


def test_rates_that_become_zero_or_not_are_structure() -> None:
    p = nn.Parameter(np.array([1.0, -2.0]))
    optimizer = optim.SGD([p], lr=0.1)
    grads = [RNG.standard_normal(2) for _ in range(6)]

    @gx.compile
    def step(g: Any) -> None:
        p.grad = g
        optimizer.step()

    want = p.numpy().copy()
    buffer = None
    for i, g in enumerate(grads):
        if i == 2:
            optimizer.param_groups[0]["momentum"] = 0.5
        if i == 4:
            optimizer.param_groups[0]["momentum"] = 0.25
        momentum = [0, 0, 0.5, 0.5, 0.25, 0.25][i]
        buffer = g if buffer is None or not momentum else momentum * buffer + g
        if i == 2:
            buffer = g
        want = want - 0.1 * buffer
        step(gx.tensor(g))
        np.testing.assert_allclose(p.numpy(), want, rtol=1e-12)
    assert step.stats.compiles == 2
    assert "attribute of a SGD was set" in step.stats.reasons[1]


def test_rates_in_compiled_code() -> None:
    p = nn.Parameter(np.ones(2, np.float32))
    optimizer = optim.SGD([p], lr=1.0)

    @gx.compile
    def step() -> Any:
        group = optimizer.param_groups[0]
        p.grad = gx.ones(2)
        optimizer.step()
        group["lr"] = group["lr"] * 0.5
        return p * group["lr"]

    values = []
    for _ in range(3):
        scaled = step()
        assert scaled.dtype == np.float32
        values.append((p.numpy()[0], optimizer.param_groups[0]["lr"], scaled.numpy()[0]))
    assert values == [(0.0, 0.5, 0.0), (-0.5, 0.25, -0.125), (-0.75, 0.125, -0.09375)]
    assert step.stats.compiles == 1


def test_closure() -> None:
    p = nn.Parameter(np.array([3.0]))
    optimizer = optim.SGD([p], lr=0.25)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9.0
    assert p.tolist() == [1.5]


def test_zero_grad() -> None:
    p = nn.Parameter(np.ones(2))
    optimizer = optim.SGD([p])
    optimizer.zero_grad(set_to_none=False)
    assert p.grad is None
    p.grad = gx.tensor(np.ones(2))
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0, 0]
    optimizer.zero_grad()
    assert p.grad is None


@pytest.mark.parametrize("make", [*PLAIN, lambda ps, **k: optim.SGD(ps, momentum=0.9, **k)])
def test_state_dict_resumes(make: Any) -> None:
    start = [RNG.standard_normal(3), RNG.standard_normal((2, 2))]
    grads = [[RNG.standard_normal(3), RNG.standard_normal((2, 2))] for _ in range(6)]

    def run(optimizer: Any, steps: list[Arrays]) -> None:
        for gs in steps:
            for p, g in zip(optimizer.param_groups[0]["params"], gs, strict=True):
                p.grad = gx.tensor(g)
            optimizer.step()

    whole = [nn.Parameter(x) for x in start]
    run(make(whole, lr=0.1), grads)
    first = [nn.Parameter(x) for x in start]
    optimizer = make(first, lr=0.1)
    run(optimizer, grads[:3])
    saved = optimizer.state_dict()
    second = [nn.Parameter(x.numpy()) for x in first]
    run(optimizer, grads[3:])
    resumed = make(second, lr=0.7)
    resumed.load_state_dict(saved)
    assert resumed.param_groups[0]["lr"] == 0.1
    run(resumed, grads[3:])
    for a, b, c in zip(whole, first, second, strict=True):
        assert a.tolist() == b.tolist() == c.tolist()


def test_load_state_dict_lists_faults() -> None:
    a = optim.Adam([nn.Parameter(np.ones(2)), nn.Parameter(np.ones(3))])
    b = optim.Adam([nn.Parameter(np.ones(2)), nn.Parameter(np.ones(4))])
    with pytest.raises(StateError, match=r"exp_avg of parameter 1 is f64\[4\], the value has \[3\]"):
        b.load_state_dict(a.state_dict())
    with pytest.raises(StateError, match=r"groups of \[2\] parameters, the optimiser has groups of \[1\]"):
        optim.Adam([nn.Parameter(np.ones(2))]).load_state_dict(a.state_dict())
    with pytest.raises(StateError, match="unexpected: betas"):
        optim.SGD(a.param_groups[0]["params"]).load_state_dict(a.state_dict())


def test_bad_input() -> None:
    p = nn.Parameter(np.ones(2))
    for options, text in [
        ({"lr": -1.0}, "lr cannot be -1.0"),
        ({"lr": float("nan")}, "lr cannot be nan"),
        ({"betas": (0.9, 1.0)}, "betas cannot be 1.0"),
        ({"eps": -1e-8}, "eps cannot be"),
        ({"weight_decay": -0.1}, "weight_decay cannot be"),
    ]:
        with pytest.raises(ValueError, match=text):
            optim.Adam([p], **options)
    with pytest.raises(ValueError, match="nesterov needs momentum"):
        optim.SGD([p], nesterov=True)
    with pytest.raises(ValueError, match="needs parameters"):
        optim.SGD([])
    with pytest.raises(ValueError, match="given twice"):
        optim.SGD([p, p])
    for wrong in (np.ones(2), p * 2, gx.tensor([1, 2])):
        with pytest.raises(StructureError, match="updates leaf tensors of floats"):
            optim.SGD([wrong])
    with pytest.raises(StructureError, match="has no 'beta'"):
        optim.Adam([{"params": [p], "beta": 0.5}])
    with pytest.raises(StructureError, match="dict with 'params'"):
        optim.Adam([{"lr": 0.5}])
    group = optim.Adam([p]).param_groups[0]
    with pytest.raises(ValueError, match="betas has 2 values, not 1"):
        group["betas"] = (0.5,)
    with pytest.raises(ValueError, match="lr cannot be"):
        group["lr"] = -2.0
    assert group["betas"] == (0.9, 0.999) and group["lr"] == 1e-3
    with pytest.raises(StructureError, match="'beta' cannot be set"):
        group["beta"] = 0.5
    with pytest.raises(KeyError, match="has no 'rate'"):
        group["rate"]


def test_what_compiled_code_may_not_do() -> None:
    p = nn.Parameter(np.ones(2))
    optimizer = optim.SGD([p])

    def make() -> None:
        optim.SGD([p])

    def attribute() -> None:
        optimizer.note = 1

    def momentum() -> None:
        optimizer.param_groups[0]["momentum"] = 0.5

    def traced_momentum(x: Any) -> None:
        optimizer.param_groups[0]["momentum"] = x

    for function, arguments, text in [
        (make, (), "an optimiser is created while"),
        (attribute, (), "'note' of a SGD is set while"),
        (momentum, (), "momentum is turned on while"),
        (traced_momentum, (gx.tensor(0.5),), "momentum is 0 and is set to a traced value"),
    ]:
        with pytest.raises(StateError, match=text):
            gx.compile(function)(*arguments)
    assert optimizer.param_groups[0]["momentum"] == 0.0


# -- where the border between dynamic and compiled may run -----------------------------------------------------------------


class Training:
    """A model, its optimiser, and the pieces of a training step, each of which can be compiled."""

    def __init__(self, *compiled: str) -> None:
        self.model = nn.Sequential(
            nn.Linear(4, 8, dtype=np.float64, generator=random.Generator(1)),
            nn.ReLU(),
            nn.Linear(8, 3, dtype=np.float64, generator=random.Generator(2)),
        )
        self.optimizer = optim.Adam(self.model.parameters(), lr=0.05)
        for name in compiled:
            setattr(self, name, gx.compile(getattr(self, name)))
        self.compiled = [getattr(self, name) for name in compiled]

    def forward(self, x: Any, y: Any) -> Any:
        return nn.functional.cross_entropy(self.model(x), y)

    def accumulate(self, x: Any, y: Any) -> Any:
        loss = nn.functional.cross_entropy(self.model(x), y)
        loss.backward()
        return loss

    def update(self) -> None:
        self.optimizer.step()

    def clear(self) -> None:
        self.optimizer.zero_grad()

    def update_and_clear(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()


def run(training: Training, recipe: str) -> list[Any]:
    rng = np.random.default_rng(5)
    batches = [(rng.standard_normal((6, 4)), rng.integers(0, 3, 6)) for _ in range(8)]
    losses = []
    for i, (x, y) in enumerate(batches):
        if recipe == "forward":
            training.clear()
            loss = training.forward(x, y)
            loss.backward()
            training.update()
        elif recipe == "separate":
            training.clear()
            loss = training.accumulate(x, y)
            training.update()
        else:
            loss = training.accumulate(x, y)
            if i % 2:
                training.update_and_clear()
        losses.append(loss.item())
    return [*losses, *(p.numpy() for p in training.model.parameters())]


@pytest.mark.parametrize(
    ("recipe", "compiled"),
    [
        ("forward", ["forward"]),
        ("forward", ["forward", "update"]),
        ("separate", ["accumulate"]),
        ("separate", ["accumulate", "update"]),
        ("separate", ["accumulate", "update", "clear"]),
        ("two batches", ["accumulate"]),
        ("two batches", ["accumulate", "update_and_clear"]),
    ],
)
def test_the_border_may_run_anywhere(recipe: str, compiled: list[str]) -> None:
    training = Training(*compiled)
    for want, got in zip(run(Training(), recipe), run(training, recipe), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10)
    assert [f.stats.compiles for f in training.compiled] == [1] * len(compiled)
