"""The command `lookalike`: finds the verb, and turns what goes wrong into one sentence and an exit code."""

import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.main import get_command

from lookalike.cli.demo import demo
from lookalike.cli.doctor import doctor
from lookalike.cli.embed import embed
from lookalike.cli.evaluate import evaluate
from lookalike.cli.export import export
from lookalike.cli.methods import methods
from lookalike.cli.pretrain import pretrain
from lookalike.cli.recipes import recipes
from lookalike.cli.report import report
from lookalike.cli.selftest import selftest
from lookalike.cli.views import views

VERBS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "pretrain": pretrain,
    "evaluate": evaluate,
    "embed": embed,
    "export": export,
    "report": report,
    "views": views,
    "methods": methods,
    "recipes": recipes,
    "doctor": doctor,
    "selftest": selftest,
}
MISTAKE, INTERRUPTED = 2, 128 + signal.SIGINT
ABOUT = "Learn, without labels, what makes images alike. See it work: lookalike demo"
DEBUG = "--debug"
NO_NUMBER = re.compile(r"'(--[\w-]+)':.* valid (float|number|integer|int)\b", re.DOTALL)  # as versions of typer say it
(Misuse, *_) = typer.BadParameter.__bases__  # click's UsageError; some versions of typer hold a click of their own
LOWER = (
    "out of memory: lower batch, raise accumulate (batch=128 accumulate=2 holds 64 images at once), "
    "lower views.size, or take a smaller backbone"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the verb of these words (default: the command line) and returns the exit code.

    0: done, or stopped by SIGTERM with everything saved; 2: a mistake that the user can mend, one sentence on standard
    error; 130: Ctrl-C. --debug, anywhere, shows the traceback. A defect of lookalike is raised.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = DEBUG in words
    words = [word for word in words if word != DEBUG] or ["--help"]
    try:
        with warnings.catch_warnings():
            if not debug:
                warnings.simplefilter("ignore", FutureWarning)  # what torch plans for later: nobody can act on it here
            return called(words)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:
        code, text = verdict(error)
        if code is None:
            raise
        if text and debug:
            traceback.print_exc()
        if text:
            print(f"{process()}error: {' '.join(text.split())}", file=sys.stderr)
        return code


def called(words: list[str]) -> int:
    """Calls the verb. Raises what the verb raises, and ValueError for an unknown one."""
    verb = next((word for word in words if not word.startswith("-")), None)
    if verb is not None and verb not in VERBS:
        near = "".join(f"the nearest is {other!r}, " for other in get_close_matches(verb.lower(), VERBS, n=1))
        raise ValueError(f"there is no verb {verb!r}; {near}all: lookalike --help")
    try:
        code = get_command(application())(args=words, prog_name="lookalike", standalone_mode=False)
    except Exception as error:
        raise (isinstance(error, Misuse) and _no_number(error, words)) or error from None
    return code if isinstance(code, int) else 0  # an int: of typer.Exit


def _version(asked: bool) -> bool:
    if asked:
        print(f"lookalike {metadata.version('lookalike')}")
        raise typer.Exit
    return asked


def application() -> typer.Typer:
    """The verbs as a typer application."""
    app = typer.Typer(help=ABOUT, add_completion=False, rich_markup_mode=None)
    app.callback(epilog="--debug, anywhere on the line, shows the traceback of an error.")(_everywhere)
    for verb in VERBS.values():
        app.command()(verb)
    return app


def _everywhere(
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_version, help="Show it")] = False,
) -> None:
    """Options that stand before the verb."""


def verdict(error: Exception) -> tuple[int | None, str]:
    """Exit code and sentence for what a user can mend or has asked for; (None, "") for a defect."""
    if isinstance(error, Misuse):
        return MISTAKE, _of_usage(error)
    if isinstance(error, MemoryError):
        return MISTAKE, LOWER
    if isinstance(error, OSError):
        return MISTAKE, _of_system(error)
    if isinstance(error, ValueError):
        return MISTAKE, _without_trace(str(error))
    return _of_training(error)


def _of_training(error: Exception) -> tuple[int | None, str]:
    import torch  # a verb that fails here has imported it

    from lookalike.training.loop import NonFinite, Stopped

    if isinstance(error, Stopped):  # training has said where it stands
        return (INTERRUPTED if error.signal == signal.SIGINT else 0), ""
    if isinstance(error, NonFinite):
        return MISTAKE, str(error)
    # torch has no class for a CPU that is out of memory
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return MISTAKE, LOWER
    return None, ""


def _no_number(error: Any, words: Sequence[str]) -> ValueError | None:
    """A sentence for an option of which the value is no number; None where something else is wrong."""
    found = NO_NUMBER.search(error.format_message())
    if found is None:
        return None
    option, kind = found.groups()
    joined = [word.removeprefix(f"{option}=") for word in words if word.startswith(f"{option}=")]
    value = joined[-1] if joined else words[words.index(option) + 1]
    return ValueError(f"{option} is {value!r}: give a {'whole ' * kind.startswith('int')}number")


def _of_usage(error: Any) -> str:
    text = error.format_message().rstrip(".")
    where = error.ctx.command_path if error.ctx is not None else "lookalike VERB"
    return f"{text[:1].lower()}{text[1:]}: see {where} --help"


def _of_system(error: OSError) -> str:
    from lookalike.training.files import REMEDIES

    if error.errno is None:
        return str(error)
    where = "" if error.filename is None else f"{error.filename}: "
    return f"{where}{error.strerror}: {REMEDIES.get(error.errno, 'check the path and the disk')}"


def _without_trace(text: str) -> str:
    """The sentence alone, where a process that prepares images has put its traceback before it."""
    return text.rstrip().rpartition("\n")[2].partition(": ")[2] if "Original Traceback" in text else text


def process() -> str:
    """Which process speaks, where torchrun started several."""
    return f"[process {os.environ.get('RANK', 0)}] " if int(os.environ.get("WORLD_SIZE", 1)) > 1 else ""
