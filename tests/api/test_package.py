"""import lookalike as la: the verbs, at first use."""

import subprocess
import sys

import pytest

import lookalike as la


def test_the_verbs_are_there():
    for verb in (la.pretrain, la.resume, la.dry_run, la.evaluate, la.demo, la.list_methods, la.list_recipes):
        assert callable(verb)
    assert la.Run.__name__ == "Run"
    assert la.functional.soft_contrast.__name__ == "soft_contrast"
    assert all(getattr(la, name) is not None for name in la.__all__)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'lookalike' has no attribute 'pretran'"):
        la.pretran  # noqa: B018


def test_the_import_alone_waits_for_nothing():
    program = "import sys, lookalike; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
