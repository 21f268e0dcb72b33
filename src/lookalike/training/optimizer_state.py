"""An optimizer's state as named tensors, and back, bit by bit."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

PREFIX = "optimizer/"


def flat_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """("optimizer/<parameter>/<key>" -> tensor, facts): all that the optimizer remembers of earlier steps.

    Its param groups need `names`, as `Optimization.build` gives them. Rates and decay are not part of it: they are
    set before every step.
    """
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, float | int | bool | None] = {}
    for name, parameter in _named(optimizer).items():
        for key, value in optimizer.state.get(parameter, {}).items():
            kept: dict[str, Any] = tensors if isinstance(value, Tensor) else numbers
            kept[f"{PREFIX}{name}/{key}"] = value
    return tensors, {"kind": type(optimizer).__name__, "numbers": numbers}


def load_flat_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Takes up a state that `flat_state` gave; other tensors are ignored. Going on equals never having stopped.

    Raises ValueError where the state belongs to another kind of optimizer or to other parameters.
    """
    if facts["kind"] != type(optimizer).__name__:
        raise ValueError(
            f"the saved optimizer is {facts['kind']}, this one is {type(optimizer).__name__}: use the recipe of the run"
        )
    named, saved = _named(optimizer), {**tensors, **facts["numbers"]}
    state: dict[Tensor, dict[str, Any]] = {}
    for place, value in saved.items():
        if not place.startswith(PREFIX):
            continue
        name, _, key = place.removeprefix(PREFIX).rpartition("/")
        if name not in named:
            raise ValueError(
                f"the saved optimizer knows {name!r}, which is no parameter here: use the recipe of the run"
            )
        state.setdefault(named[name], {})[key] = _placed(optimizer, named[name], key, value)
    optimizer.state.clear()
    optimizer.state.update(state)


def _placed(optimizer: torch.optim.Optimizer, parameter: Tensor, key: str, value: Any) -> Any:
    """The value on the device, and with the strides, that the optimizer would have given it."""
    if not isinstance(value, Tensor):
        return value
    if key == "step":  # on the host, unless the update is fused
        return value.to(parameter.device, copy=True) if optimizer.defaults.get("fused") else value.clone()
    if value.shape != parameter.shape:
        raise ValueError(
            f"the saved {key} has shape {tuple(value.shape)}, its parameter {tuple(parameter.shape)}: "
            "use the recipe of the run"
        )
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def _named(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        name: parameter
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    }
