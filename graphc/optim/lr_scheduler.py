"""Learning-rate schedulers. Layer 6. Names and meanings are PyTorch's.

A scheduler writes the groups' rates between steps. Rates are Tensors that compiled steps read live, so nothing is traced
again. Each rate is computed from the group's first rate and the number of steps taken, never from the rate before: nothing
accumulates rounding, and a saved scheduler is a few numbers.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from graphc.errors import OptionError, StateError, StructureError, message
from graphc.frontend import context
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor
from graphc.optim.optimizer import Optimizer

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]


def _refuse(what: str, hint: str) -> OptionError:
    return OptionError(message(what, location=user_location(), hint=hint))


def _count(name: str, value: Any, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise _refuse(f"{name} cannot be {value!r}", f"It is an integer from {least} on.")
    return int(value)


def _number(name: str, value: Any, low: float = 0.0, high: float = math.inf) -> float:
    if not isinstance(value, (int, float, np.number)) or not low <= value <= high or not math.isfinite(value):
        raise _refuse(f"{name} cannot be {value!r}", f"It is a finite number from {low:g} to {high:g}.")
    return float(value)


def _cosine(start: float, end: float, share: float) -> float:
    """From start (share 0) to end (share 1) along half a cosine."""
    return end + (start - end) * (1.0 + math.cos(math.pi * share)) / 2.0


def _linear(start: float, end: float, share: float) -> float:
    return start + (end - start) * share


class _Stateful:
    """What is saved: the named numbers of a scheduler."""

    #: Attributes that change while training runs.
    saved: ClassVar[tuple[str, ...]] = ()

    optimizer: Optimizer

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise StructureError(
                message(
                    f"a scheduler sets the rates of an optimiser, not of a {type(optimizer).__name__}",
                    location=user_location(),
                    hint="Pass the optimiser first.",
                )
            )
        _outside("made")
        self.optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        """Numbers and lists of numbers, by name: what `load_state_dict` takes."""
        values = {name: getattr(self, name) for name in self.saved}
        return {name: list(v) if isinstance(v, list) else v for name, v in values.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the scheduler of `state_dict` was; the rates themselves are the optimiser's state.

        Raises
        ------
        StateError
            If names are missing or unknown; nothing is written then.
        """
        if set(state_dict) != set(self.saved):
            raise StateError(
                message(
                    f"the state does not fit a {type(self).__name__}: it has {', '.join(map(str, state_dict)) or 'nothing'}",
                    location=user_location(),
                    hint=f"It needs {', '.join(self.saved)}.",
                )
            )
        for name in self.saved:
            value = state_dict[name]
            setattr(self, name, list(value) if isinstance(value, list) else value)

    def get_last_lr(self) -> list[float]:
        """The rate of each group as it is now."""
        return [group["lr"] for group in self.optimizer.param_groups]


def _outside(what: str) -> None:
    """Schedulers count in Python: a traced function would do it once, not once a call."""
    if context.trace.get() is not None:
        raise StateError(
            message(
                f"a scheduler is {what} while a function is being traced",
                location=user_location(),
                hint="Call it outside of the compiled step; the step reads the new rate without being traced again.",
            )
        )


class LRScheduler(_Stateful):
    """Base class: a subclass defines `rate(base, epoch)`.

    The rate of each group is set when the scheduler is made (epoch 0) and by each `step()`. A group's first rate is
    remembered by its optimiser, so that several schedulers made for one optimiser start from the same.
    """

    saved: ClassVar[tuple[str, ...]] = ("last_epoch", "base_lrs")

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)
        self.last_epoch = 0
        self.base_lrs: list[float] = []
        for group in optimizer.param_groups:
            if group.initial_lr is None:
                group.initial_lr = group["lr"]
            self.base_lrs.append(group.initial_lr)
        self.apply()

    def rate(self, base: float, epoch: int) -> float:
        """The rate after `epoch` steps of a group whose first rate was `base`."""
        raise NotImplementedError

    def rates(self, epoch: int) -> list[float]:
        """The rates of all groups after `epoch` steps."""
        return [self.rate(base, epoch) for base in self.base_lrs]

    def apply(self) -> None:
        """Write the rates of the present epoch into the groups."""
        groups = self.optimizer.param_groups
        if len(groups) != len(self.base_lrs):
            raise StateError(
                message(
                    f"the scheduler was made for {len(self.base_lrs)} parameter groups, the optimiser has {len(groups)}",
                    location=user_location(),
                    hint="Make the scheduler after the last add_param_group().",
                )
            )
        for group, lr in zip(groups, self.rates(self.last_epoch), strict=True):
            group["lr"] = lr

    def step(self) -> None:
        """Count one epoch (or batch, as you call it) and set the rates; after `optimizer.step()`."""
        _outside("stepped")
        self.last_epoch += 1
        self.apply()


class LambdaLR(LRScheduler):
    """base * lr_lambda(epoch); one function, or a list with one for each group.

    >>> import graphc as gx
    >>> from graphc import optim
    >>> optimizer = optim.SGD([gx.tensor([1.0], requires_grad=True)], lr=0.5)
    >>> scheduler = optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch))
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.25]
    """

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]]
    ) -> None:
        groups = len(optimizer.param_groups) if isinstance(optimizer, Optimizer) else 1
        functions = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(functions) != groups:
            raise _refuse(
                f"{len(functions)} functions for {groups} parameter groups", "Give one function, or one each."
            )
        self.lr_lambdas = functions
        super().__init__(optimizer)

    def rates(self, epoch: int) -> list[float]:
        """Each group's first rate times its function."""
        return [base * f(epoch) for base, f in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class StepLR(LRScheduler):
    """base * gamma**(epoch // step_size).

    >>> import graphc as gx
    >>> from graphc import optim
    >>> optimizer = optim.SGD([gx.tensor([1.0], requires_grad=True)], lr=0.5)
    >>> scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> for _ in range(4):
    ...     scheduler.step()
    >>> optimizer.param_groups[0]["lr"]
    0.125
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size, self.gamma = _count("step_size", step_size), _number("gamma", gamma)
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int) -> float:
        """One factor gamma each `step_size` epochs."""
        return float(base * self.gamma ** (epoch // self.step_size))


class MultiStepLR(LRScheduler):
    """base * gamma**(the number of milestones that have been reached)."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones = sorted(_count("a milestone", m, 0) for m in milestones)
        self.gamma = _number("gamma", gamma)
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int) -> float:
        """One factor gamma for each milestone."""
        return float(base * self.gamma ** bisect.bisect_right(self.milestones, epoch))


class ExponentialLR(LRScheduler):
    """base * gamma**epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = _number("gamma", gamma)
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int) -> float:
        """One factor gamma an epoch."""
        return float(base * self.gamma**epoch)


class ConstantLR(LRScheduler):
    """base * factor for `total_iters` epochs, then base."""

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5) -> None:
        self.factor, self.total_iters = _number("factor", factor, 0.0, 1.0), _count("total_iters", total_iters, 0)
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int) -> float:
        """The factor until `total_iters`."""
        return base * self.factor if epoch < self.total_iters else base


class LinearLR(LRScheduler):
    """A warm-up: base times a factor that goes from `start_factor` to `end_factor` in `total_iters` equal steps."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
    ) -> None:
        self.start_factor = _number("start_factor", start_factor, 0.0, 1.0)
        self.end_factor = _number("end_factor", end_factor, 0.0, 1.0)
        self.total_iters = _count("total_iters", total_iters)
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int) -> float:
        """The factor's place on the line."""
        return base * _linear(self.start_factor, self.end_factor, min(epoch / self.total_iters, 1.0))


class PolynomialLR(LRScheduler):
    """base * (1 - epoch / total_iters)**power, and 0 from `total_iters` on."""

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0) -> None:
        self.total_iters, self.power = _count("total_iters", total_iters), _number("power", power)
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int) -> float:
        """The polynomial's value."""
        return float(base * (1.0 - min(epoch, self.total_iters) / self.total_iters) ** self.power)


class CosineAnnealingLR(LRScheduler):
    """eta_min + (base - eta_min) (1 + cos(pi epoch / T_max)) / 2 (Loshchilov and Hutter, ICLR 2017, without restarts).

    After T_max epochs the rate rises again, as in PyTorch.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max, self.eta_min = _count("T_max", T_max), _number("eta_min", eta_min)
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int) -> float:
        """The cosine's value."""
        return _cosine(base, self.eta_min, epoch / self.T_max)


class CosineAnnealingWarmRestarts(LRScheduler):
    """Half cosines from base to eta_min, of T_0, T_0 T_mult, T_0 T_mult**2 ... epochs (Loshchilov and Hutter, ICLR 2017)."""

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> None:
        self.T_0, self.T_mult = _count("T_0", T_0), _count("T_mult", T_mult)
        self.eta_min = _number("eta_min", eta_min)
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int) -> float:
        """The present cosine's value."""
        length = self.T_0
        if self.T_mult == 1:
            epoch %= length
        while epoch >= length:
            epoch -= length
            length *= self.T_mult
        return _cosine(base, self.eta_min, epoch / length)


class OneCycleLR(LRScheduler):
    """One cycle of rates, and of momentum the other way round (Smith and Topin 2018): a `step()` for each batch.

    Parameters
    ----------
    max_lr
        The highest rate; a number, or one for each group.
    total_steps
        Batches in all; or give `epochs` and `steps_per_epoch`.
    pct_start
        The share of the steps in which the rate rises.
    anneal_strategy
        "cos" or "linear".
    cycle_momentum
        Whether momentum (or beta1) goes from `max_momentum` to `base_momentum` and back.
    div_factor, final_div_factor
        The first rate is max_lr / div_factor, the last that divided by final_div_factor.
    three_phase
        Fall to the first rate as slowly as it rose, and then to the last one.

    Raises
    ------
    StateError
        From a step after the last.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise _refuse("OneCycleLR needs its length", "Give total_steps, or epochs and steps_per_epoch.")
            total_steps = _count("epochs", epochs) * _count("steps_per_epoch", steps_per_epoch)
        if anneal_strategy not in ("cos", "linear"):
            raise _refuse(f"anneal_strategy cannot be {anneal_strategy!r}", "It is 'cos' or 'linear'.")
        self.total_steps = _count("total_steps", total_steps)
        self.anneal = _cosine if anneal_strategy == "cos" else _linear
        share = _number("pct_start", pct_start, 0.0, 1.0) * self.total_steps
        self.ends = (
            (share - 1, 2 * share - 2, self.total_steps - 1) if three_phase else (share - 1, self.total_steps - 1)
        )
        self.max_lr = max_lr
        self.factors = (
            _number("div_factor", div_factor, 1e-300),
            _number("final_div_factor", final_div_factor, 1e-300),
        )
        self.momenta = (_number("max_momentum", max_momentum, 0, 1), _number("base_momentum", base_momentum, 0, 1))
        self.cycle_momentum = cycle_momentum
        super().__init__(optimizer)

    def _along(self, epoch: int, values: Sequence[float]) -> float:
        """The value at a step: `values` are those at the start and at each phase's end."""
        start = 0.0
        for k, end in enumerate(self.ends):
            if epoch <= end or k == len(self.ends) - 1:
                share = (epoch - start) / (end - start) if end != start else 1.0
                return self.anneal(values[k], values[k + 1], share)
            start = end
        raise AssertionError("a cycle has phases")

    def rates(self, epoch: int) -> list[float]:
        """The rate of each group."""
        tops = list(self.max_lr) if isinstance(self.max_lr, (list, tuple)) else [self.max_lr] * len(self.base_lrs)
        if len(tops) != len(self.base_lrs):
            raise _refuse(f"{len(tops)} rates for {len(self.base_lrs)} parameter groups", "Give one, or one each.")
        out = []
        for top in tops:
            highest = _number("max_lr", top)
            first = highest / self.factors[0]
            last = first / self.factors[1]
            out.append(
                self._along(epoch, [first, highest, first, last] if len(self.ends) == 3 else [first, highest, last])
            )
        return out

    def apply(self) -> None:
        """Write rates and momenta."""
        if self.last_epoch >= self.total_steps:
            self.last_epoch = self.total_steps - 1
            raise StateError(
                message(
                    f"OneCycleLR was made for {self.total_steps} steps, and this is one more",
                    location=user_location(),
                    hint="Step it once after each batch but the last, and give the number of batches of all epochs.",
                )
            )
        super().apply()
        if not self.cycle_momentum:
            return
        high, low = self.momenta
        value = self._along(self.last_epoch, [high, low, high, high])
        for group in self.optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (value, *group["betas"][1:])
            elif "momentum" in group and group.uses("momentum"):
                group["momentum"] = value
            else:
                raise _refuse("OneCycleLR: the optimiser has no momentum to cycle", "Pass cycle_momentum=False.")


class SequentialLR(LRScheduler):
    """One scheduler after the other: number k rules from milestone k - 1 on, and counts its epochs from there.

    >>> import graphc as gx
    >>> from graphc import optim
    >>> optimizer = optim.SGD([gx.tensor([1.0], requires_grad=True)], lr=0.5)
    >>> warm_up = optim.lr_scheduler.LinearLR(optimizer, 0.5, total_iters=2)
    >>> cosine = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    >>> scheduler = optim.lr_scheduler.SequentialLR(optimizer, [warm_up, cosine], [2])
    >>> rates = []
    >>> for _ in range(6):
    ...     rates.append(round(scheduler.get_last_lr()[0], 3))
    ...     scheduler.step()
    >>> rates
    [0.25, 0.375, 0.5, 0.427, 0.25, 0.073]
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]) -> None:
        self.schedulers, self.milestones = list(schedulers), [_count("a milestone", m) for m in milestones]
        if len(self.schedulers) != len(self.milestones) + 1 or self.milestones != sorted(self.milestones):
            raise _refuse(
                f"{len(self.schedulers)} schedulers with the milestones {self.milestones}",
                "Give one milestone less than schedulers, in rising order.",
            )
        for s in self.schedulers:
            if not isinstance(s, LRScheduler) or isinstance(s, OneCycleLR) or s.optimizer is not optimizer:
                raise StructureError(
                    message(
                        f"a {type(s).__name__} cannot be part of this sequence",
                        location=user_location(),
                        hint="Parts are schedulers of the same optimiser that count epochs and set the rate only.",
                    )
                )
        super().__init__(optimizer)

    def rates(self, epoch: int) -> list[float]:
        """The rates of the scheduler whose turn it is."""
        k = bisect.bisect_right(self.milestones, epoch)
        return self.schedulers[k].rates(epoch - (self.milestones[k - 1] if k else 0))


class ReduceLROnPlateau(_Stateful):
    """The rate times `factor` when a metric has not become better for more than `patience` steps.

    Parameters
    ----------
    mode
        "min" if smaller is better, else "max".
    threshold, threshold_mode
        What counts as better than the best: by more than threshold * |best| for "rel" (as PyTorch, whose relative form is meant
        for positive metrics: best * (1 -+ threshold)), by more than threshold for "abs".
    cooldown
        Steps after a reduction in which bad ones are not counted.
    min_lr
        The lowest rate; a number, or one for each group.
    eps
        Reductions by no more than this are left out.

    >>> import graphc as gx
    >>> from graphc import optim
    >>> optimizer = optim.SGD([gx.tensor([1.0], requires_grad=True)], lr=0.5)
    >>> scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
    >>> for loss in (1.0, 1.0, 1.0):
    ...     scheduler.step(loss)
    >>> scheduler.get_last_lr()
    [0.05]
    """

    saved: ClassVar[tuple[str, ...]] = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(optimizer)
        if mode not in ("min", "max"):
            raise _refuse(f"mode cannot be {mode!r}", "It is 'min' or 'max'.")
        if threshold_mode not in ("rel", "abs"):
            raise _refuse(f"threshold_mode cannot be {threshold_mode!r}", "It is 'rel' or 'abs'.")
        if not 0.0 <= factor < 1.0:
            raise _refuse(f"factor cannot be {factor!r}", "It is a number below 1.")
        self.factor, self.patience, self.cooldown = (
            factor,
            _count("patience", patience, 0),
            _count("cooldown", cooldown, 0),
        )
        self.threshold, self.relative, self.eps = _number("threshold", threshold), threshold_mode == "rel", eps
        self.sign = 1.0 if mode == "min" else -1.0
        groups = len(optimizer.param_groups)
        lowest = list(min_lr) if isinstance(min_lr, (list, tuple)) else [min_lr] * groups
        self.min_lrs = [_number("min_lr", x) for x in lowest]
        if len(self.min_lrs) != groups:
            raise _refuse(f"{len(self.min_lrs)} lowest rates for {groups} parameter groups", "Give one, or one each.")
        self.best = self.sign * math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    def _better(self, metric: float) -> bool:
        if math.isinf(self.best):
            return self.sign * metric < self.sign * self.best
        margin = self.threshold * (self.best if self.relative else 1.0)
        return self.sign * metric < self.sign * (self.best - self.sign * margin)

    def step(self, metrics: Any) -> None:
        """Count an epoch whose metric was this number (a scalar Tensor is read)."""
        _outside("stepped")
        metric = float(metrics.item() if isinstance(metrics, Tensor) else metrics)
        self.last_epoch += 1
        if self._better(metric):
            self.best, self.num_bad_epochs = metric, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def _reduce(self) -> None:
        for group, least in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            lr = max(group["lr"] * self.factor, least)
            if group["lr"] - lr > self.eps:
                group["lr"] = lr
