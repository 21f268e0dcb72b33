"""python -m lookalike, and torchrun -m lookalike: the verbs of the shell."""

from lookalike.cli import main

raise SystemExit(main())
