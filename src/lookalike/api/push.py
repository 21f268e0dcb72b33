"""Exported files on the Hub: sent only to the name that the user gives, by the extra package huggingface_hub."""

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

NAME = re.compile(r"[\w.-]+/[\w.-]+")


def demand_hub(name: str) -> None:
    """Raises ValueError where `name` is no owner/name, or the package is missing."""
    if not NAME.fullmatch(name):
        raise ValueError(f"--push takes owner/name of a model on the Hub, and {name!r} was given")
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        raise ValueError("--push needs the package huggingface_hub: pip install 'lookalike[hub]'") from None


def assemble(files: Mapping[str, bytes], folder: Path) -> None:
    """Writes the files, by name, into the folder that is sent."""
    for name, content in files.items():
        (folder / name).write_bytes(content)


def send(name: str, files: Mapping[str, bytes]) -> str:
    """Sends the files to the model owner/name, which is made if it is not there, and then private; its address.

    Raises OSError where the Hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    hub = HfApi()
    try:
        with TemporaryDirectory() as place:
            assemble(files, Path(place))
            address = hub.create_repo(name, private=True, exist_ok=True)
            hub.upload_folder(repo_id=name, folder_path=place, commit_message="Export of lookalike")
    except Exception as error:  # whatever hub and network raise: the classes differ between their versions
        raise OSError(
            f"the files are written, but {name} did not take them ({type(error).__name__}): see that you are online "
            "and logged in (hf auth login), and repeat with --force"
        ) from error
    return str(address)
