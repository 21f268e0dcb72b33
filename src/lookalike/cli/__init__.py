"""The verbs for the shell, one thin file each."""

from lookalike.cli.shell import main

__all__ = ["main"]
