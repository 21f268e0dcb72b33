"""What looks for copies: the run's encoder, its two for queries and references; hashes and colors; weights; files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from lookalike.api.folder import RunFolder
from lookalike.api.models import named
from lookalike.data import CopyFolder, Descriptors, demand_entry, descriptors
from lookalike.evaluation import ColorHistogram, DifferenceHash, PerceptualHash, RawPixels, random_weights
from lookalike.modules import Descriptor
from lookalike.recipes import view_size

ENTRY = (".hdf5", ".h5")
HASHED = 64  # pixels that hashes and histograms are shown; our choice


@dataclass(frozen=True, kw_only=True)
class Sides:
    """A model that describes queries and references, by one network or by two, and the size of what it is shown."""

    name: str
    query: nn.Module
    reference: nn.Module
    size: int
    features: str = "backbone"
    seed: int | None = None
    epochs: float | None = None

    @property
    def modules(self) -> tuple[nn.Module, nn.Module]:
        return self.query, self.reference

    @property
    def crop(self) -> str:
        return f"whole image {self.size} px"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a file says of queries and references, by networks that are not here; it says nothing of the background."""

    name: str
    rows: Descriptors
    features: str = "descriptor file"
    crop: str = ""
    seed: int | None = None
    epochs: float | None = None
    modules: tuple[nn.Module, ...] = ()


def roles(exports: Mapping[str, nn.Module]) -> tuple[nn.Module, nn.Module]:
    """(of queries, of references): the roles "query" and "key" where there are both, else "encoder" for either side.

    Raises ValueError for other roles.
    """
    if {"query", "key"} <= exports.keys():
        return exports["query"], exports["key"]
    if "encoder" in exports:
        return exports["encoder"], exports["encoder"]
    raise ValueError(
        f"the run holds {', '.join(sorted(exports))}: copies are found with the role encoder, or with query and key"
    )


def models_of_copies(folder: RunFolder, *, references: bool, others: Sequence[str]) -> list[Sides]:
    """The run first; what learns nothing, if asked for; then the named weights. Descriptor files are left to `entries`.

    Random weights are one network for both sides: two would have nothing in common. Raises ValueError where one
    cannot be built or takes another number of channels, and for a descriptor file that can be no entry.
    """
    for spec in others:
        if spec.endswith(ENTRY):  # before a benchmark is built, which may take long
            demand_entry(spec)
    trained, recipe = of_run("trained", folder), folder.recipe()
    found = [trained]
    if references:
        fresh, pixels = random_weights(trained.query, recipe.seed), RawPixels()
        found += [
            Sides(
                name="random weights",
                query=fresh,
                reference=fresh,
                size=trained.size,
                features="query descriptor" if isinstance(fresh, Descriptor) else "backbone",
                seed=recipe.seed,
            ),
            Sides(name="raw pixels", query=pixels, reference=pixels, size=trained.size, features="pixels"),
        ]
        cheap = {"pHash": PerceptualHash(), "dHash": DifferenceHash(), "color histogram": ColorHistogram()}
        found += [
            Sides(name=name, query=module, reference=module, size=HASHED, features=name)
            for name, module in cheap.items()
        ]
    return found + [_named(spec, folder) for spec in others if not spec.endswith(ENTRY)]


def entries(others: Sequence[str], folder: CopyFolder) -> list[Entry]:
    """The descriptor files among the others. Raises ValueError as data.descriptors does."""
    return [Entry(name=spec, rows=descriptors(spec, folder)) for spec in others if spec.endswith(ENTRY)]


def of_run(name: str, folder: RunFolder) -> Sides:
    """The networks of a finished run."""
    recipe, exports = folder.recipe(), folder.exports()
    query, reference = roles(exports)
    role = "encoder" if query is reference else "query and key"
    return Sides(
        name=name,
        query=query,
        reference=reference,
        size=view_size(recipe),
        features=f"{role} descriptor" if isinstance(query, Descriptor) else "backbone",
        seed=recipe.seed,
        epochs=recipe.epochs,
    )


def _named(spec: str, folder: RunFolder) -> Sides:
    other, recipe = RunFolder.at(spec), folder.recipe()
    if other is not None and other.recipe().data.channels == recipe.data.channels:
        return of_run(spec, other)
    one = named(spec, recipe)  # says what is wrong with a run of other images
    return Sides(
        name=spec,
        query=one.module,
        reference=one.module,
        size=one.size,
        features=one.features,
        seed=one.seed,
        epochs=one.epochs,
    )
