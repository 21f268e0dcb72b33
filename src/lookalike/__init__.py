"""lookalike: learn, without labels, what makes images alike."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lookalike import functional
    from lookalike.api import (
        Run,
        demo,
        doctor,
        dry_run,
        embed,
        evaluate,
        export,
        list_methods,
        list_recipes,
        list_wrappers,
        pretrain,
        profile,
        report,
        resume,
        selftest,
        views,
    )

__all__ = [
    "Run",
    "demo",
    "doctor",
    "dry_run",
    "embed",
    "evaluate",
    "export",
    "functional",
    "list_methods",
    "list_recipes",
    "list_wrappers",
    "pretrain",
    "profile",
    "report",
    "resume",
    "selftest",
    "views",
]


def __getattr__(name: str) -> Any:
    """The verbs, at first use: behind them are torch and timm, which `lookalike --help` must not wait for."""
    from importlib import import_module

    if name == "functional":
        return import_module("lookalike.functional")
    if name in __all__:
        return getattr(import_module("lookalike.api"), name)
    raise AttributeError(f"module 'lookalike' has no attribute {name!r}")
