"""The optimizer of a run as a value: its rule, rates and decay, and what is left out of decay."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lookalike.functional.schedules import Clock, Constant, Schedule
from lookalike.methods.method import Group, Method
from lookalike.training.lars import LARS
from lookalike.training.optimizer_state import flat_state, load_flat_state

__all__ = [
    "LARS",
    "Optimization",
    "flat_state",
    "hide_frozen",
    "linear_scaled",
    "load_flat_state",
    "norm_parameters",
    "sqrt_scaled",
]

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """How parameters move, given their gradients.

    rate: the base learning rate; schedule: a factor of it; weight_decay: a number or a schedule of its own.
    no_decay: what is free of decay, and under lars and larc of the trust ratio: nothing (MoCo, SwAV), tensors of one
    dimension or less (MoCo v3, SCE), or biases and the parameters of normalization (SimCLR, BYOL).
    lars_rate: see training.lars; clip: the largest norm of the whole gradient, or of each tensor's (DINO).
    momentum and nesterov belong to sgd, lars and larc, betas to adam and adamw (adam's decay is part of its gradient).
    """

    name: Literal["sgd", "adam", "adamw", "lars", "larc"]
    rate: float
    schedule: Schedule = field(default_factory=lambda: Constant(1.0))
    weight_decay: float | Schedule = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    no_decay: Literal["nothing", "one_dimensional", "bias_and_norm"] = "nothing"
    lars_rate: Literal["inside", "outside"] = "outside"
    clip: float | None = None
    clip_per: Literal["all", "tensor"] = "all"

    def __post_init__(self) -> None:
        if self.rate <= 0 or (self.clip is not None and self.clip <= 0):
            raise ValueError(f"rate={self.rate} and clip={self.clip} move nothing: use numbers above 0")
        if self.nesterov and self.name != "sgd":
            raise ValueError(f"nesterov=True is for sgd, not for {self.name}: leave it out")

    def build(self, parameters: Mapping[str, nn.Parameter], method: Method) -> torch.optim.Optimizer:
        """One optimizer over all named parameters that may ever learn; what has no gradient is not moved.

        Each parameter follows the entry of `method.groups()` with the longest name that leads to it. Param groups
        hold the names of their parameters in sorted order. Raises ValueError for an entry that leads to none.
        """
        groups, norms = method.groups(), norm_parameters(method)
        for prefix in groups:
            if not any(_leads(prefix, name) for name in parameters):
                raise ValueError(
                    f"groups() names {prefix!r}, which holds no parameter that learns: "
                    f"use the name of a submodule or parameter, for instance {next(iter(parameters), None)!r}"
                )
        parts: dict[tuple[Group, bool], list[str]] = {}
        for name in sorted(parameters):
            prefix = max((p for p in groups if _leads(p, name)), key=len, default="")
            exempt = self._exempt(name, parameters[name], norms)
            parts.setdefault((groups.get(prefix, Group()), exempt), []).append(name)
        return self._rule(
            [
                {
                    "params": [parameters[name] for name in names],
                    "names": names,
                    "special": special,
                    "exempt": exempt,
                    "adapt": special.adapt and not exempt,
                }
                for (special, exempt), names in parts.items()
            ]
        )

    def set_rates(self, optimizer: torch.optim.Optimizer, clock: Clock, run: Clock) -> float:
        """Sets rate and decay of every param group; returns the base rate.

        `clock` is the learning rate's, `run` that of the whole run. A group that is still frozen shows the rate 0.
        """
        base = self.rate * self.schedule(clock)
        for group in optimizer.param_groups:
            special: Group = group["special"]
            rate = self.rate * (special.schedule or self.schedule)(clock) if special.lr is None else special.lr(clock)
            decay = self.weight_decay if special.weight_decay is None else special.weight_decay
            group["lr"] = 0.0 if special.frozen(run) else rate * special.lr_scale
            group["weight_decay"] = 0.0 if group["exempt"] else decay(clock) if callable(decay) else decay
        return base

    def clip_(self, parameters: Sequence[nn.Parameter], norm: Tensor) -> None:
        """Scales the gradients so that their global norm, now `norm`, or that of each tensor, is at most `clip`."""
        if self.clip is None:
            return
        if self.clip_per == "all":
            torch.nn.utils.clip_grads_with_norm_(parameters, self.clip, norm)
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return
        own = torch.stack(torch._foreach_norm(gradients))
        torch._foreach_mul_(gradients, list((self.clip / (own + 1e-6)).clamp(max=1.0)))  # as torch's clip_grad_norm_

    def _exempt(self, name: str, parameter: nn.Parameter, norms: set[str]) -> bool:
        return {
            "nothing": False,
            "one_dimensional": parameter.dim() <= 1,
            "bias_and_norm": name.rpartition(".")[2] == "bias" or name in norms,
        }[self.no_decay]

    def _rule(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        if self.name == "sgd":
            # Not fused: torch's fused SGD fails where some parameters of a group start later than others.
            return torch.optim.SGD(groups, lr=self.rate, momentum=self.momentum, nesterov=self.nesterov, foreach=True)
        if self.name in ("adam", "adamw"):
            kind = torch.optim.Adam if self.name == "adam" else torch.optim.AdamW
            fused = {p.device.type for group in groups for p in group["params"]} <= {"cuda", "cpu"}
            return kind(groups, lr=self.rate, betas=self.betas, weight_decay=0.0, fused=fused)
        norms: Literal["joint", "apart"] = "apart" if self.name == "larc" else "joint"
        return LARS(groups, lr=self.rate, momentum=self.momentum, rate=self.lars_rate, norms=norms)


def hide_frozen(optimizer: torch.optim.Optimizer, run: Clock) -> None:
    """Takes the gradient from groups that are frozen at this moment: neither decay nor momentum moves them then."""
    for group in optimizer.param_groups:
        if group["special"].frozen(run):
            for parameter in group["params"]:
                parameter.grad = None


def norm_parameters(module: nn.Module) -> set[str]:
    """Names of the parameters that belong to a normalization layer."""
    return {
        f"{path}.{name}" if path else name
        for path, part in module.named_modules()
        if isinstance(part, NORMS)
        for name, _ in part.named_parameters(recurse=False)
    }


def linear_scaled(rate: float, batch: int) -> float:
    """The rate for a batch, given the rate for 256 images (Goyal et al. 2017)."""
    return rate * batch / 256


def sqrt_scaled(rate: float, batch: int) -> float:
    """The rate for a batch, given the rate for one image: 0.075 sqrt(batch) in SimCLR (Chen et al. 2020, B.1)."""
    return rate * batch**0.5


def _leads(prefix: str, name: str) -> bool:
    return f"{name}.".startswith(f"{prefix}.")
