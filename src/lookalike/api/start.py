"""--init: weights that a run starts from, before its first step."""

from pathlib import Path

from lookalike.api.folder import RunFolder
from lookalike.methods.method import Method
from lookalike.modules import Encoder, load_weights


def start_from(encoder: Encoder, init: str) -> None:
    """Weights of a run folder, FILE.safetensors or timm:NAME into the encoder."""
    folder = RunFolder.at(init)
    if folder is None and not init.startswith("timm:") and not init.endswith(".safetensors"):
        raise ValueError(f"--init {init} is no run folder: give one, FILE.safetensors or timm:NAME")
    if folder is not None:
        folder.encoder()  # raises where the run has not finished, or its weights were changed
    load_weights(encoder, init if folder is None else folder.path / "encoder.safetensors")


def holds_pair(init: str) -> bool:
    """Whether it is a run that has left several networks, one for each role."""
    folder = RunFolder.at(init)
    return folder is not None and bool(folder.roles()) and "encoder" not in folder.roles()


def start_pair(method: Method, init: str) -> None:
    """Weights of a run with several networks into those of the same roles, heads too. Raises ValueError."""
    folder, networks = RunFolder(Path(init)), method.exports()
    if sorted(networks) != folder.roles():
        raise ValueError(
            f"{init} holds {', '.join(folder.roles())}, and this method learns {', '.join(networks)}: start from one "
            f"of them, for instance --init {folder.path / folder.roles()[0]}.safetensors"
        )
    for role, network in networks.items():
        try:
            network.load_state_dict(folder.encoder(role).state_dict())
        except RuntimeError:
            raise ValueError(
                f"the {role} network of {init} does not fit this recipe: use its backbone and its method.projector"
            ) from None
