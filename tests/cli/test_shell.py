"""lookalike: help, names of verbs, lists; what becomes of signals and defects."""

import signal
import subprocess
import sys
import time
from importlib import metadata

import pytest
from command import lookalike, mistake

from lookalike.api import list_methods, list_recipes
from lookalike.cli.shell import VERBS, verdict
from lookalike.recipes import METHODS, text
from lookalike.training.loop import NonFinite, Stopped
from methods.records import records


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_help_lists_the_verbs(words):
    said = lookalike(*words)
    assert said.code == 0
    assert all(f"\n  {verb} " in said.out for verb in VERBS)
    assert "..." not in said.out.partition("Commands:")[2]  # every verb in one line


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb):
    said = lookalike(verb, "--help")
    assert said.code == 0
    assert said.out.startswith(f"Usage: lookalike {verb}")


def test_help_waits_for_no_torch():
    program = (
        "import sys; from lookalike.cli import main; code = main(['--help']); "
        "sys.exit(code or ('torch' in sys.modules) or ('lookalike.api' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def test_an_unknown_verb_has_a_nearest_one():
    assert mistake("pretran", "x") == "there is no verb 'pretran'; the nearest is 'pretrain', all: lookalike --help"
    assert "nearest is 'evaluate'" in mistake("eval")
    assert "nearest is 'report'" in mistake("REPORT")


def test_misuse_names_the_help_of_the_verb():
    assert mistake("views") == "missing argument 'DATA': see lookalike views --help"
    assert mistake("embed", "run", "photos") == "missing option '--out': see lookalike embed --help"
    assert mistake("--wrong").endswith(": see lookalike --help")


@pytest.mark.parametrize("width", ["80", "200"])
def test_methods_are_listed_with_what_they_compare_keep_and_cost(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    said = lookalike("methods")
    assert said.code == 0
    assert all(name in said.out for name in METHODS)
    facts = {method.name: method for method in list_methods()}
    assert facts["byol"].facts.negatives == facts["byol"].facts.memory == "none"
    assert facts["simclr"].facts.negatives == "other images of the batch"
    assert facts["moco"].facts.negatives == facts["sce"].facts.negatives == "queue of earlier images"
    assert facts["qk_iteration"].facts.networks == "two, in turns"
    assert facts["simclr"].cost == 1.0
    assert {name for name, method in facts.items() if method.cost is None} <= records().keys()
    assert max(map(len, said.out.splitlines())) <= int(width)
    assert "simclr_small" in facts["simclr"].recipes
    assert facts["simclr"].paper.startswith("SimCLR: a simple framework")
    reconstructed = [method.name for method in list_methods() if method.reconstruction]
    assert set(reconstructed) - records().keys() == {"relicv2", "instance_classifier", "qk_iteration"}
    assert said.out.count("reconstruction.") == len(reconstructed)
    assert said.out.splitlines()[-1].startswith("next: lookalike pretrain ")


def test_recipes_are_listed_with_paper_and_claim():
    said = lookalike("recipes")
    assert said.code == 0
    for recipe in list_recipes():
        assert recipe.name in said.out
        assert recipe.paper
        assert recipe.claim
    assert said.out.splitlines()[-1].startswith("next: lookalike recipes NAME")


def test_a_recipe_is_printed_as_it_is_written():
    said = lookalike("recipes", "simclr_small")
    assert said.code == 0
    assert said.out.startswith(text("simclr_small"))
    assert said.out.splitlines()[-1] == "# next: lookalike pretrain FOLDER --recipe simclr_small"
    assert "the nearest is 'simclr_small'" in mistake("recipes", "simclr_smal")


def test_a_stop_by_ctrl_c_is_130_and_by_sigterm_0():
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 0), (0, 0)):
        stopped = Stopped("stopped after step 3 of 8")
        stopped.signal = number
        assert verdict(stopped) == (code, "")


def test_defects_are_not_hidden():
    assert verdict(RuntimeError("shapes differ")) == (None, "")
    assert verdict(KeyError("x")) == (None, "")
    assert verdict(NonFinite("loss was NaN")) == (2, "loss was NaN")
    code, sentence = verdict(MemoryError())
    assert code == 2
    assert "lower batch" in sentence
    code, sentence = verdict(OSError(28, "No space left on device", "runs/a/log.txt"))
    assert (code, sentence) == (2, "runs/a/log.txt: No space left on device: free some space there")


def test_ctrl_c_before_training_is_quiet():
    program = (
        "import signal, sys, time, lookalike.cli.shell as shell\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs have it ignored
        "def wait(): print('ready', flush=True); time.sleep(60)\n"
        "shell.VERBS['wait'] = wait\n"
        "sys.exit(shell.main(['wait']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.strip() == ""


def test_the_version_is_that_of_the_package():
    assert lookalike("--version") == (0, f"lookalike {metadata.version('lookalike')}\n", "")
