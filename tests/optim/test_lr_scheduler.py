"""Schedulers against their definitions, written as recurrences or tables, and in compiled steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.errors import OptionError, StateError, StructureError
from graphc.optim import lr_scheduler as L

BASES = [0.5, 0.02]
STEPS = 25


def two_groups(make: Any = optim.SGD, **options: Any) -> optim.Optimizer:
    groups = [{"params": [nn.Parameter(np.ones(2))], "lr": lr} for lr in BASES]
    return make(groups, **options)  # type: ignore[no-any-return]


def trail(optimizer: optim.Optimizer, scheduler: Any, steps: int = STEPS, name: str = "lr") -> np.ndarray:
    """The rates that each step of training would use."""
    rates = []
    for _ in range(steps):
        rates.append([group[name] for group in optimizer.param_groups])
        scheduler.step()
    return np.array(rates)


def half_cosine(share: float) -> float:
    """Falls from 1 to 0, by the half-angle formula."""
    return math.cos(share * math.pi / 2) ** 2


def restarts(first: int, times: int) -> list[float]:
    out: list[float] = []
    while len(out) < STEPS:
        out += [half_cosine(t / first) for t in range(first)]
        first *= times
    return out


def sequence(o: Any) -> Any:
    parts = [L.LinearLR(o, 0.25, total_iters=4), L.ExponentialLR(o, 0.9), L.ConstantLR(o, 0.5, 3)]
    return L.SequentialLR(o, parts, [4, 10])


#: Scheduler, and the factor of the first rate at each step.
CASES: dict[str, tuple[Callable[[Any], Any], list[float]]] = {
    "LambdaLR": (lambda o: L.LambdaLR(o, lambda e: 0.9**e), list(np.cumprod([1] + [0.9] * 24))),
    "StepLR": (lambda o: L.StepLR(o, 10, 0.5), [1] * 10 + [0.5] * 10 + [0.25] * 5),
    "MultiStepLR": (lambda o: L.MultiStepLR(o, [12, 3, 12], 0.5), [1] * 3 + [0.5] * 9 + [0.125] * 13),
    "ExponentialLR": (lambda o: L.ExponentialLR(o, 0.8), list(np.cumprod([1] + [0.8] * 24))),
    "ConstantLR": (lambda o: L.ConstantLR(o, 0.25, 4), [0.25] * 4 + [1] * 21),
    "LinearLR": (lambda o: L.LinearLR(o, 0.25, 0.75, 10), list(np.linspace(0.25, 0.75, 11)) + [0.75] * 14),
    "PolynomialLR": (lambda o: L.PolynomialLR(o, 10, 2.0), list(np.linspace(1, 0, 11) ** 2) + [0] * 14),
    "CosineAnnealingLR": (lambda o: L.CosineAnnealingLR(o, 10), [half_cosine(t / 10) for t in range(STEPS)]),
    "CosineAnnealingWarmRestarts": (lambda o: L.CosineAnnealingWarmRestarts(o, 3, 2), restarts(3, 2)[:STEPS]),
    "CosineAnnealingWarmRestarts even": (lambda o: L.CosineAnnealingWarmRestarts(o, 4), restarts(4, 1)[:STEPS]),
    "SequentialLR": (sequence, [0.25, 0.4375, 0.625, 0.8125, *(0.9**t for t in range(6)), *[0.5] * 3, *[1] * 12]),
}
#: Those with tests of their own.
OTHERS = {"OneCycleLR", "ReduceLROnPlateau", "LRScheduler"}


def test_every_scheduler_is_tried() -> None:
    assert set(L.__all__) == {name.partition(" ")[0] for name in CASES} | OTHERS


@pytest.mark.parametrize("name", CASES)
def test_rates(name: str) -> None:
    make, factors = CASES[name]
    optimizer = two_groups()
    got = trail(optimizer, make(optimizer))
    np.testing.assert_allclose(got, np.outer(factors, BASES), rtol=1e-12, atol=1e-17)


@pytest.mark.parametrize("name", CASES)
def test_a_saved_scheduler_goes_on(name: str) -> None:
    make, _ = CASES[name]
    whole = two_groups()
    want = trail(whole, make(whole))
    first = two_groups()
    scheduler = make(first)
    trail(first, scheduler, 7)
    second = two_groups()
    resumed = make(second)
    resumed.load_state_dict(scheduler.state_dict())
    second.load_state_dict(first.state_dict())
    assert trail(second, resumed, STEPS - 7).tolist() == want[7:].tolist()


def test_lowest_rate_of_cosines() -> None:
    for make in (lambda o: L.CosineAnnealingLR(o, 10, 0.01), lambda o: L.CosineAnnealingWarmRestarts(o, 10, 1, 0.01)):
        optimizer = two_groups()
        got = trail(optimizer, make(optimizer), 10)
        want = [[0.01 + (b - 0.01) * half_cosine(t / 10) for b in BASES] for t in range(10)]
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_a_function_for_each_group() -> None:
    optimizer = two_groups()
    got = trail(optimizer, L.LambdaLR(optimizer, [lambda e: 1.0, lambda e: e]), 3)
    np.testing.assert_allclose(got, [[0.5, 0.0], [0.5, 0.02], [0.5, 0.04]])
    with pytest.raises(OptionError, match="1 functions for 2 parameter groups"):
        L.LambdaLR(optimizer, [lambda e: 1.0])


@pytest.mark.parametrize("make", [optim.Adam, lambda g: optim.SGD(g, momentum=0.9)])
def test_one_cycle(make: Any) -> None:
    name = "betas" if make is optim.Adam else "momentum"
    for three in (False, True):
        rates, momenta = [], []
        optimizer = two_groups(make)
        scheduler = L.OneCycleLR(
            optimizer, [1.0, 2.0], 21, pct_start=3 / 7, anneal_strategy="linear", final_div_factor=10, three_phase=three
        )
        for i in range(21):
            group = optimizer.param_groups[1]
            rates.append(group["lr"])
            momenta.append(group[name][0] if name == "betas" else group[name])
            if i < 20:
                scheduler.step()
        up = np.linspace(0.08, 2.0, 9)
        cycle = np.linspace(0.95, 0.85, 9)
        if three:
            want = [*up, *up[-2::-1], *np.linspace(0.08, 0.008, 5)[1:]]
            np.testing.assert_allclose(momenta, [*cycle, *cycle[-2::-1], *[0.95] * 4], rtol=1e-12)
        else:
            want = [*up, *np.linspace(2.0, 0.008, 13)[1:]]
            np.testing.assert_allclose(momenta, [*cycle, *np.linspace(0.85, 0.95, 13)[1:]], rtol=1e-12)
        np.testing.assert_allclose(rates, want, rtol=1e-12)
        with pytest.raises(StateError, match="made for 21 steps"):
            scheduler.step()


def test_one_cycle_along_cosines() -> None:
    optimizer = two_groups()
    scheduler = L.OneCycleLR(optimizer, 1.0, epochs=4, steps_per_epoch=5, pct_start=0.25, cycle_momentum=False)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(19):
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    up = [1 - 0.96 * half_cosine(t / 4) for t in range(5)]
    down = [4e-6 + (1 - 4e-6) * half_cosine(t / 15) for t in range(1, 16)]
    np.testing.assert_allclose(rates, up + down, rtol=1e-11)
    with pytest.raises(OptionError, match="no momentum to cycle"):
        L.OneCycleLR(two_groups(), 1.0, 10)
    with pytest.raises(OptionError, match="needs its length"):
        L.OneCycleLR(two_groups(), 1.0, epochs=3)


@pytest.mark.parametrize(
    ("options", "metrics", "factors"),
    [
        ({"patience": 2}, [1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0.1, 0.1, 0.1, 0.01]),
        ({"patience": 0, "factor": 0.5}, [3, 2, 2.5, 1, 1], [1, 1, 0.5, 0.5, 0.25]),
        ({"patience": 0, "factor": 0.5, "mode": "max"}, [1, 2, 3, 3, 2.5], [1, 1, 1, 0.5, 0.25]),
        ({"patience": 0, "factor": 0.5, "cooldown": 2}, [1, 1, 1, 1, 1], [1, 0.5, 0.5, 0.5, 0.25]),
        ({"patience": 0, "factor": 0.5, "threshold": 0.1}, [1, 0.95, 0.85], [1, 0.5, 0.5]),
        (
            {"patience": 0, "factor": 0.5, "threshold": 0.2, "threshold_mode": "abs", "mode": "max"},
            [5, 5.1, 5.3],
            [1, 0.5, 0.5],
        ),
        ({"patience": 0, "factor": 0.5}, [1, math.nan, 0.5], [1, 0.5, 0.5]),
        ({"patience": 0, "factor": 0.5, "eps": 0.3}, [1, 1, 1], [1, 1, 1]),
    ],
)
def test_plateau(options: dict[str, Any], metrics: list[float], factors: list[float]) -> None:
    optimizer = optim.SGD([nn.Parameter(np.ones(2))], lr=0.5)
    scheduler: Any = L.ReduceLROnPlateau(optimizer, **options)
    got = []
    for k, metric in enumerate(metrics):
        saved = scheduler.state_dict()
        scheduler = L.ReduceLROnPlateau(optimizer, **options)
        scheduler.load_state_dict(saved)
        scheduler.step(gx.tensor(metric) if k % 2 else metric)
        got.append(scheduler.get_last_lr()[0])
    np.testing.assert_allclose(got, 0.5 * np.array(factors), rtol=1e-12)


def test_lowest_rates_of_a_plateau() -> None:
    optimizer = two_groups()
    scheduler = L.ReduceLROnPlateau(optimizer, patience=0, min_lr=[0.2, 0.001])
    for _ in range(6):
        scheduler.step(1.0)
    assert scheduler.get_last_lr() == [0.2, 0.001]


def test_a_compiled_step_reads_the_rate_and_is_traced_once() -> None:
    ends = []
    for compiled in (False, True):
        p = nn.Parameter(np.array([2.0, -1.0]))
        optimizer = optim.Adam([p], lr=0.1)
        cycle = L.OneCycleLR(optimizer, 0.2, 12)

        def step(x: Any, p: Any = p, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = ((p - x) ** 2).sum()
            loss.backward()
            optimizer.step()
            return loss

        run = gx.compile(lambda x, step=step: step(x)) if compiled else step
        for k in range(12):
            run(np.array([0.5, 0.25]))
            if k < 11:
                cycle.step()
        ends.append(p.numpy())
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-12)
    assert run.stats.compiles == 1


def test_what_is_refused() -> None:
    optimizer = two_groups()
    for call, text in [
        (lambda: L.StepLR(optimizer, 0), "step_size cannot be 0"),
        (lambda: L.StepLR(optimizer, 2.5), "step_size cannot be 2.5"),
        (lambda: L.ExponentialLR(optimizer, -1.0), "gamma cannot be -1.0"),
        (lambda: L.LinearLR(optimizer, 1.5), "start_factor cannot be 1.5"),
        (lambda: L.OneCycleLR(optimizer, 1.0, 5, anneal_strategy="x"), "anneal_strategy cannot be 'x'"),
        (lambda: L.OneCycleLR(optimizer, [1.0], 5), "1 rates for 2 parameter groups"),
        (lambda: L.ReduceLROnPlateau(optimizer, "x"), "mode cannot be 'x'"),
        (lambda: L.ReduceLROnPlateau(optimizer, factor=1.0), "factor cannot be 1.0"),
        (lambda: L.ReduceLROnPlateau(optimizer, threshold_mode="x"), "threshold_mode cannot be 'x'"),
        (lambda: L.ReduceLROnPlateau(optimizer, min_lr=[0.1]), "1 lowest rates for 2 parameter groups"),
        (lambda: L.SequentialLR(optimizer, [L.StepLR(optimizer, 2)], [1]), "1 schedulers with the milestones"),
    ]:
        with pytest.raises(OptionError, match=text):
            call()
    with pytest.raises(StructureError, match="not of a list"):
        L.ExponentialLR([optimizer], 0.5)  # type: ignore[arg-type]
    with pytest.raises(StructureError, match="ReduceLROnPlateau cannot be part"):
        L.SequentialLR(optimizer, [L.StepLR(optimizer, 2), L.ReduceLROnPlateau(optimizer)], [1])  # type: ignore[list-item]
    scheduler = L.StepLR(optimizer, 2)
    with pytest.raises(StateError, match="does not fit a StepLR: it has best"):
        scheduler.load_state_dict({"best": 1.0})
    with pytest.raises(StateError, match="stepped while a function is being traced"):
        gx.compile(scheduler.step)()
    assert scheduler.last_epoch == 0
    optimizer.add_param_group({"params": [nn.Parameter(np.ones(1))]})
    with pytest.raises(StateError, match="made for 2 parameter groups, the optimiser has 3"):
        scheduler.step()
